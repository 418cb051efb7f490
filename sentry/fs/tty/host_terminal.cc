// SPDX-License-Identifier: Apache-2.0
// A host terminal as the line of one of ours: the host's line discipline is switched off (by the runtime), so that ^C and job
// control are answered inside.
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/sys.h"
#include "sentry/fs/tty/devpts.h"

namespace sentry::fs::tty {
namespace {

constexpr size_t kReadChunk = 4096;

class HostLine final : public Port {
 public:
  HostLine(Fd fd, Ref<Devpts> fs, int number)
      : fs_(std::move(fs)), number_(number), fd_(std::move(fd)),
        watch_([](void* p, uint32_t events) { static_cast<HostLine*>(p)->ready(events); }, this) {}
  void detach() override { watch_.stop(); }
  // Borrowed: the terminal keeps this line.
  void attach(Terminal& t) { terminal_ = &t; }

  // The line is raw: the runtime has made it so. Neither its settings nor its size are the sentry's to ask of the host.
  Result<void> start() {
    MutexLock l(mu_);
    TRY(sys::set_nonblocking(fd_.get(), true));
    return watch_.start(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLHUP);
  }

  size_t transmit(std::string_view bytes) override {
    MutexLock l(mu_);
    if (!fd_.valid()) return bytes.size();
    auto n = sys::write(fd_.get(), bytes.data(), bytes.size());
    if (n.ok()) return *n;
    if (n.error() == kEAGAIN) {
      full_.store(true);
      return 0;
    }
    return bytes.size();  // the host side is gone: output falls on the floor, as on a hung-up line
  }
  bool has_room() override { return !full_.load(); }
  void input_wanted() override { take_input(); }
  bool ends_unused() const override { return true; }
  // The other side of the host's terminal sees its end.
  void unused() override {
    detach();
    Fd gone;
    {
      MutexLock l(mu_);
      std::swap(gone, fd_);
    }
    if (gone.valid()) fs_->remove(number_);
  }

 private:
  void ready(uint32_t events) {
    if (events & EPOLLOUT) {
      full_.store(false);
      terminal_->room_again();
    }
    if (events & (EPOLLIN | EPOLLHUP)) take_input();
    if (events & EPOLLHUP) terminal_->port_closed();
  }

  // The host's readiness and the terminal's room are told on different threads; one of them reads.
  void take_input() {
    if (asked_.fetch_add(1) != 0) return;
    int seen;
    do {
      seen = asked_.load();
      read_until_empty();
    } while (!asked_.compare_exchange_strong(seen, 0));
  }

  void read_until_empty() {
    char buf[kReadChunk];
    while (kept_.empty() || give_kept()) {
      Result<size_t> n = kEBADF;
      {
        MutexLock l(mu_);
        if (!fd_.valid()) return;
        n = sys::read(fd_.get(), buf, sizeof buf);
      }
      if (n.ok() && *n > 0) {
        kept_.assign(buf, *n);
        continue;
      }
      if (!n.ok() && n.error() == kEAGAIN) return;
      terminal_->port_closed();
      return;
    }
  }
  bool give_kept() {
    kept_.erase(0, terminal_->receive(kept_));
    return kept_.empty();
  }

  const Ref<Devpts> fs_;
  const int number_;
  Mutex mu_{LockRank::kTty};
  Fd fd_ GUARDED_BY(mu_);
  Terminal* terminal_ = nullptr;
  std::atomic<bool> full_{false};
  std::atomic<int> asked_{0};
  std::string kept_;  // read, but the terminal had no room; of whoever reads
  sched::FdWatch watch_;
};

}  // namespace

Result<HostTerminal> add_host_terminal(vfs::FileSystem& devpts, Fd fd, const auth::Credentials& owner) {
  CHECK(strcmp(devpts.type_name(), "devpts") == 0);
  auto& fs = static_cast<Devpts&>(devpts);
  int number = TRY(fs.reserve());
  auto line = make_ref<HostLine>(std::move(fd), Ref<Devpts>(fs), number);
  auto tty = fs.add(number, line, owner);
  line->attach(*tty);
  auto started = line->start();
  if (!started.ok()) {
    line->unused();
    return started.error();
  }
  return HostTerminal{std::to_string(number), tty};
}

void set_host_size(kernel::TtyLink& host_terminal, uint16_t rows, uint16_t cols) {
  static_cast<Terminal&>(host_terminal).set_size({rows, cols, 0, 0});  // Terminal is the only TtyLink
}

}  // namespace sentry::fs::tty

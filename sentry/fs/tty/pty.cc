// SPDX-License-Identifier: Apache-2.0
// Pseudo-terminals and devpts: /dev/ptmx makes a pair, the slave appears as /dev/pts/N. man 7 pty, man 4 pts.
#include <asm/ioctls.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>

#include "sentry/fs/common/attributes.h"
#include "sentry/fs/tty/devpts.h"
#include "sentry/mm/user.h"

namespace sentry::fs::tty {
namespace {

constexpr uint64_t kTty = 5 << 8, kPtmx = 5 << 8 | 2;
constexpr unsigned kSlaveMajor = 136;
constexpr size_t kBuffer = 8192;
constexpr uint64_t kLastSignal = 64;

// The pair's shared part: the terminal's output waits here for the master.
class Pair final : public Port {
 public:
  Pair(Ref<Devpts> f, int n) : fs(std::move(f)), number(n) {}

  size_t transmit(std::string_view bytes) override {
    size_t n;
    {
      MutexLock l(mu_);
      if (master_closed_) return bytes.size();
      n = std::min(bytes.size(), kBuffer - std::min(kBuffer, output_.size()));
      output_ += bytes.substr(0, n);
    }
    master_queue.wake_all(EPOLLIN | EPOLLRDNORM);
    return n;
  }
  bool has_room() override {
    MutexLock l(mu_);
    return output_.size() < kBuffer || master_closed_;
  }
  void notify(unsigned packet_bits) override {
    {
      MutexLock l(mu_);
      if (packet_mode_) packet_status_ |= packet_bits;
    }
    master_queue.wake_all();
  }

  void input_wanted() override { master_queue.wake_all(EPOLLOUT | EPOLLWRNORM); }
  void discard_output() override {
    MutexLock l(mu_);
    output_.clear();
  }
  size_t unread() {
    MutexLock l(mu_);
    return output_.size();
  }

  Result<size_t> master_read(Terminal& terminal, std::span<std::byte> dst, bool nonblock);
  uint32_t master_events(Terminal& terminal);
  void close_master(Terminal& terminal);
  bool locked() override {
    MutexLock l(mu_);
    return locked_;
  }
  void set_locked(bool on) {
    MutexLock l(mu_);
    locked_ = on;
  }
  void set_packet_mode(bool on) {
    MutexLock l(mu_);
    packet_mode_ = on;
    packet_status_ = 0;
  }
  bool packet_mode() {
    MutexLock l(mu_);
    return packet_mode_;
  }

  sched::WaitQueue master_queue;
  const Ref<Devpts> fs;
  const int number;

 private:
  ~Pair() override = default;
  Mutex mu_{LockRank::kTty};
  std::string output_ GUARDED_BY(mu_);
  bool master_closed_ GUARDED_BY(mu_) = false;
  bool locked_ GUARDED_BY(mu_) = true;
  bool packet_mode_ GUARDED_BY(mu_) = false;
  unsigned packet_status_ GUARDED_BY(mu_) = 0;
};

Result<size_t> Pair::master_read(Terminal& terminal, std::span<std::byte> dst, bool nonblock) {
  if (dst.empty()) return size_t{0};
  for (;;) {
    size_t n = 0;
    {
      MutexLock l(mu_);
      if (packet_mode_ && packet_status_) {
        dst[0] = static_cast<std::byte>(std::exchange(packet_status_, 0));
        return size_t{1};
      }
      if (!output_.empty()) {
        size_t head = packet_mode_ ? 1 : 0;
        if (head) dst[0] = std::byte{TIOCPKT_DATA};  // Linux: n_tty_read() answers it alone where there is room for no more
        size_t k = std::min(dst.size() - head, output_.size());
        memcpy(dst.data() + head, output_.data(), k);
        output_.erase(0, k);
        n = head + k;
      }
    }
    if (n > 0) {
      terminal.room_again();
      return n;
    }
    if (!terminal.other_side_seen()) return kEIO;  // Linux: TTY_OTHER_CLOSED
    if (nonblock) return kEAGAIN;
    TRY(sched::wait_for(master_queue, [&] {
      if (!terminal.other_side_seen()) return true;
      MutexLock l(mu_);
      return !output_.empty() || (packet_mode_ && packet_status_);
    }));
  }
}

uint32_t Pair::master_events(Terminal& terminal) {
  bool other = terminal.other_side_seen();
  bool room = terminal.takes_input();
  MutexLock l(mu_);
  uint32_t e = room ? EPOLLOUT | EPOLLWRNORM : 0;
  if (!output_.empty()) e |= EPOLLIN | EPOLLRDNORM;
  if (packet_mode_ && packet_status_) e |= EPOLLPRI | EPOLLIN | EPOLLRDNORM;
  if (!other) e |= EPOLLHUP;
  return e;
}

void Pair::close_master(Terminal& terminal) {
  {
    MutexLock l(mu_);
    master_closed_ = true;
    output_.clear();
  }
  fs->remove(number);
  terminal.port_closed();
}

Pair& pair_of(Terminal& t) { return static_cast<Pair&>(t.port()); }

class MasterFile final : public vfs::File {
 public:
  MasterFile(Ref<Terminal> terminal, const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::plain, path, std::move(inode), flags, std::move(cred)), terminal_(std::move(terminal)),
        pair_(pair_of(*terminal_)) {}
  ~MasterFile() override { pair_.close_master(*terminal_); }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    return pair_.master_read(*terminal_, dst, f.nonblock);
  }
  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override {
    std::string_view rest(reinterpret_cast<const char*>(src.data()), src.size());
    for (;;) {
      rest.remove_prefix(terminal_->receive(rest));
      if (rest.empty()) return src.size();
      size_t done = src.size() - rest.size();
      if (f.nonblock) return done ? Result<size_t>(done) : Result<size_t>(kEAGAIN);
      auto r = sched::wait_for(pair_.master_queue, [&] { return terminal_->takes_input(); });
      if (!r.ok()) return done ? Result<size_t>(done) : Result<size_t>(r.error());
    }
  }
  uint32_t poll_events() override { return pair_.master_events(*terminal_); }
  sched::WaitQueue* poll_queue() override { return &pair_.master_queue; }

  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    switch (command) {
      case TIOCGPTN: TRY(mm::UserOut<int>(arg).copy_out(c, int{pair_.number})); return 0L;
      case TIOCSPTLCK: pair_.set_locked(TRY(mm::UserIn<int>(arg).copy_in(c)) != 0); return 0L;
      case TIOCGPTLCK: TRY(mm::UserOut<int>(arg).copy_out(c, pair_.locked() ? 1 : 0)); return 0L;
      case TIOCPKT: pair_.set_packet_mode(TRY(mm::UserIn<int>(arg).copy_in(c)) != 0); return 0L;
      case TIOCGPKT: TRY(mm::UserOut<int>(arg).copy_out(c, pair_.packet_mode() ? 1 : 0)); return 0L;
      case TIOCGPTPEER: return open_peer(static_cast<int>(arg));
      case TIOCSIG: {  // Linux: pty_signal()
        if (arg > kLastSignal) return kEINVAL;
        if (arg) terminal_->send_foreground(static_cast<int>(arg));
        return 0L;
      }
      case FIONREAD: TRY(mm::UserOut<int>(arg).copy_out(c, static_cast<int>(pair_.unread()))); return 0L;
      case TIOCOUTQ: TRY(mm::UserOut<int>(arg).copy_out(c, 0)); return 0L;
      // Of the other side, whoever asks (Linux: tty_pair_get_tty).
      case TIOCGPGRP:
      case TIOCGSID: return terminal_->ids_for_master(c, command, arg);
      case TIOCSCTTY:
      case TIOCNOTTY: return kENOTTY;
      default: return terminal_->ioctl(c, command, arg);
    }
  }

 private:
  Result<long> open_peer(int flags) {
    auto& task = kernel::Task::current();
    std::string name = std::to_string(pair_.number);
    vfs::Path where = path();  // in the devpts that the master was opened in
    Ref<vfs::Dentry> top = where.mount->fs().get() == pair_.fs.get() ? where.mount->root() : vfs::Dentry::make_root(pair_.fs->root());
    while (auto up = top->parent()) top = up.get_ref();  // a mount of one terminal alone
    where.dentry = TRY(top->lookup(name));
    auto inode = where.inode();
    if (!inode) return kEIO;
    auto f = TRY(inode->open(where, flags & ~O_CLOEXEC, task.credentials()));
    return task.install(f, flags & O_CLOEXEC);
  }
  Ref<Terminal> terminal_;
  Pair& pair_;  // the terminal's port
};

Result<Ref<vfs::File>> open_master(Devpts& fs, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                   const Ref<auth::Credentials>& cred) {
  int number = TRY(fs.reserve());
  auto terminal = fs.add(number, make_ref<Pair>(Ref<Devpts>(fs), number), *cred);
  Ref<vfs::File> f = make_ref<MasterFile>(terminal, where, inode, flags, cred);
  return f;
}

}  // namespace

Result<Ref<vfs::File>> open_ptmx(vfs::FileSystem& devpts, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                 const Ref<auth::Credentials>& cred) {
  return open_master(static_cast<Devpts&>(devpts), where, inode, flags, cred);
}

Result<Ref<vfs::File>> open_device(uint64_t rdev, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                   const Ref<auth::Credentials>& cred) {
  auto* task = kernel::Task::find_current();
  if (!task) return kENXIO;
  if (strcmp(inode->fs().type_name(), "devpts") == 0) return inode->open(where, flags, cred);
  if (major(rdev) == kSlaveMajor) return kEIO;  // a node of somebody's own: Linux, devpts_get_priv()
  if (rdev == kTty) {  // /dev/tty: the caller's controlling terminal
    auto link = task->group().session()->tty();
    if (!link) return kENXIO;
    Ref<Terminal> tty(static_cast<Terminal&>(*link));  // Terminal is the only TtyLink
    return TerminalFile::open(tty, where, inode, flags, cred);
  }
  if (rdev == kPtmx) {  // a device node: the devpts beside it (Linux: devpts_mntget)
    auto walk = task->walk_context();
    auto pts = vfs::walk(walk, "/dev/pts", vfs::kFollow | vfs::kDirectory);
    if (!pts.ok() || strcmp(pts->mount->fs()->type_name(), "devpts") != 0) return kENXIO;
    return open_master(static_cast<Devpts&>(*pts->mount->fs()), where, inode, flags, cred);
  }
  return kENXIO;
}

}  // namespace sentry::fs::tty

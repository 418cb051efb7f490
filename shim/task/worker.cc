// SPDX-License-Identifier: Apache-2.0
// The child sends one record: an errno (0: none) and the text or data, with the descriptors.
#include "shim/task/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>

#include "base/log.h"
#include "base/sys.h"

namespace shim::task {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr int kHigh = 64;  // above what stdio may overwrite

[[noreturn]] void child(int socket, const int (&stdio)[3], const Workers::Job& job) {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  Fd answer = sys::dup_cloexec(socket, kHigh).value_or(Fd());
  Fd null = sys::open("/dev/null", O_RDWR).value_or(Fd());
  Fd moved[3];
  for (int i = 0; i < 3; i++) {
    moved[i] = sys::dup_cloexec(stdio[i] >= 0 ? stdio[i] : null.get(), kHigh).value_or(Fd());
  }
  for (int i = 0; i < 3; i++) {
    if (::dup2(moved[i].get(), i) < 0) ::_exit(125);
    moved[i].reset();
  }
  ResultX<Outcome> r = base::error(base::kEIO, "");
  try {
    r = job();
  } catch (const std::exception& e) {
    r = base::error(base::kENOMEM, "{}", e.what());
  }
  int32_t code = r.ok() ? 0 : r.error().code().value();
  std::string record(reinterpret_cast<const char*>(&code), sizeof code);
  record += r.ok() ? r->data : r.error().text().substr(0, 4000);
  std::vector<int> fds;
  if (r.ok()) {
    for (auto& fd : r->fds) fds.push_back(fd.get());
  }
  CHECK(record.size() <= kMaxWorkerData && fds.size() <= kMaxWorkerFds);
  auto sent = sys::send_fds(answer.get(), std::as_bytes(std::span(record)), fds, 0);
  ::_exit(sent.ok() ? 0 : 126);
}

}  // namespace

void Workers::run(const char* what, int timeout_ms, const int (&stdio)[3], Job job, Done done) {
  auto pair = sys::socketpair(SOCK_SEQPACKET);
  if (!pair.ok()) return done(base::wrap(pair.error(), "make a socket pair"));
  pid_t pid = ::fork();
  if (pid == 0) child(pair->b.get(), stdio, job);
  if (pid < 0) return done(base::wrap(sys::from_libc(-1).error(), base::format("start a worker to {}", what)));
  uint64_t id = next_++;
  Running& r = running_[id];
  r.what = what;
  r.pid = pid;
  r.socket = std::move(pair->a);
  r.done = std::move(done);
  auto w = loop_.watch(r.socket.get(), EPOLLIN, [this, id](uint32_t) { hear(id); });
  CHECK(w.ok());
  r.watch = *w;
  r.timer = loop_.after(timeout_ms, [this, id, timeout_ms] {
    auto it = running_.find(id);
    if (it == running_.end()) return;
    // Not reaped yet, so the pid is still this child: its end would have been heard.
    ::kill(it->second.pid, SIGKILL);
    finish(id, base::error(base::kETIMEDOUT, "{} took longer than {} ms", it->second.what, timeout_ms));
  });
}

void Workers::hear(uint64_t id) {
  Running& r = running_.at(id);
  std::vector<std::byte> buf(kMaxWorkerData);
  Fd fds[kMaxWorkerFds];
  auto got = sys::recv_fds(r.socket.get(), buf, fds, MSG_DONTWAIT);
  int32_t code = 0;
  if (!got.ok() || got->size < sizeof code) {
    return finish(id, base::error(base::kEIO, "{}: the process that did it died", r.what));
  }
  memcpy(&code, buf.data(), sizeof code);
  std::string data(reinterpret_cast<char*>(buf.data()) + sizeof code, got->size - sizeof code);
  if (code != 0) return finish(id, base::Error(base::Errno(code), std::move(data)));
  Outcome o;
  o.data = std::move(data);
  for (size_t i = 0; i < got->fd_count; i++) o.fds.push_back(std::move(fds[i]));
  finish(id, std::move(o));
}

void Workers::finish(uint64_t id, ResultX<Outcome> outcome) {
  auto it = running_.find(id);
  loop_.unwatch(it->second.watch);
  loop_.cancel(it->second.timer);
  Done done = std::move(it->second.done);
  running_.erase(it);
  done(std::move(outcome));
}

}  // namespace shim::task

// SPDX-License-Identifier: Apache-2.0
#include "runtime/host/heard.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/host/proc.h"

namespace runtime::host {

namespace sys = base::sys;

namespace {

constexpr size_t kKept = 1000;
// Whoever writes without end is not heard for ever at once.
constexpr size_t kAtOnce = 1 << 20;

}  // namespace

base::Result<Heard> Heard::create() {
  Heard h;
  for (auto& s : h.streams_) {
    int p[2];
    TRY(sys::from_libc(::pipe2(p, O_CLOEXEC)));
    s.from = base::Fd(p[0]);
    s.end = base::Fd(p[1]);
    TRY(sys::set_nonblocking(p[0], true));
  }
  return h;
}

void Heard::close_ends() {
  for (auto& s : streams_) s.end.reset();
}

bool Heard::until(int fd, int64_t since_ms, int timeout_s) {
  for (;;) {
    const int64_t left = timeout_s ? std::max<int64_t>(since_ms + int64_t{timeout_s} * 1000 - now_ms(), 0) : 1 << 30;
    // A stream that has ended is not waited for.
    pollfd p[] = {{fd, POLLIN, 0}, {streams_[0].from.get(), POLLIN, 0}, {streams_[1].from.get(), POLLIN, 0}};
    int n = ::poll(p, std::size(p), static_cast<int>(std::min<int64_t>(left, 1 << 30)));
    hear();
    if (n > 0 && p[0].revents) return true;
    if (n >= 0 && left == 0) return false;
  }
}

void Heard::hear() {
  for (auto& s : streams_) {
    for (size_t taken = 0; s.from.valid() && taken < kAtOnce;) {
      char buf[16384];
      auto n = sys::read(s.from.get(), buf, sizeof buf);
      if (!n.ok()) break;
      if (*n == 0) {
        s.from.reset();
        break;
      }
      taken += *n;
      s.text.append(buf, *n);
      if (s.text.size() > kKept) s.text.erase(0, s.text.size() - kKept);
    }
  }
}

std::string Heard::words() const {
  for (size_t i : {1, 0}) {
    std::string line = base::one_line(streams_[i].text);
    if (!line.empty()) return ": " + line;
  }
  return "";
}

}  // namespace runtime::host

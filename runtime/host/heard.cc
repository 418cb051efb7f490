// SPDX-License-Identifier: Apache-2.0
#include "runtime/host/heard.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/words.h"

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

std::array<pollfd, 2> Heard::polls() const {
  auto poll_of = [](const Stream& s) { return pollfd{s.from.valid() ? s.from.get() : -1, POLLIN, 0}; };
  return {poll_of(streams_[0]), poll_of(streams_[1])};
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

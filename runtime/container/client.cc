// SPDX-License-Identifier: Apache-2.0
// Records to and from the sentry.
#include "runtime/container/client.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/proc.h"

namespace runtime::container {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;
namespace wire = base::wire;

ResultX<Client> Client::connect(int directory) {
  Fd s(static_cast<int>(TRY_MSG(sys::from_libc(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)), "make a socket")));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  // The path may be longer than a socket address can be; through the directory's descriptor it never is.
  snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/control.sock", directory);
  // A stopped sentry with a full backlog must not hold us: connect without blocking.
  TRY_MSG(sys::set_nonblocking(s.get(), true), "set up a socket");
  int64_t end = host::now_ms() + 2000;
  for (;;) {
    auto r = sys::from_libc(::connect(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a));
    if (r.ok()) return Client(std::move(s));
    if (r.error() != base::kEAGAIN || host::now_ms() >= end) {
      return base::wrap(r.error(), "connect to the container's sentry");
    }
    host::sleep_us(2000);
  }
}

ResultX<void> Client::send_boot(const wire::Boot& boot, std::span<const int> fds) {
  auto bytes = wire::encode(boot);
  return send_bytes(bytes, fds);
}

ResultX<void> Client::send_bytes(std::span<const std::byte> bytes, std::span<const int> fds) {
  if (bytes.size() > wire::kMaxRecord) {
    return base::error(base::kE2BIG, "arguments, environment and mounts together take {} bytes, at most {} fit: shorten "
                       "process.args or process.env", bytes.size(), wire::kMaxRecord);
  }
  if (fds.size() > wire::kMaxRecordFds) {
    return base::error(base::kEINVAL, "{} descriptors are to be handed over, at most {} can be", fds.size(),
                       wire::kMaxRecordFds);
  }
  int64_t end = host::now_ms() + 5000;
  for (;;) {
    auto r = sys::send_fds(sock_.get(), bytes, fds, MSG_DONTWAIT);
    if (r.ok()) return {};
    if (r.error() != base::kEAGAIN || host::now_ms() >= end) return base::wrap(r.error(), "send to the sentry");
    pollfd p{sock_.get(), POLLOUT, 0};
    ::poll(&p, 1, 100);
  }
}

void Client::watch(std::vector<std::string> cgroup_leaves, int sentry, int gofer) {
  leaves_ = std::move(cgroup_leaves);
  sentry_ = sentry;
  gofer_ = gofer;
}

std::vector<int> Client::watched() const {
  auto pids = host::cgroup_pids(leaves_);
  for (int p : {sentry_, gofer_}) {
    if (p > 0 && std::find(pids.begin(), pids.end(), p) == pids.end()) pids.push_back(p);
  }
  return pids;
}

ResultX<Client::Reply> Client::receive(int timeout_ms, uint64_t* failed_tag) {
  int64_t end = host::now_ms() + timeout_ms;
  host::StopWatch stopped([this] { return watched(); });
  for (;;) {
    pollfd p{sock_.get(), POLLIN, 0};
    int64_t left = timeout_ms < 0 ? -1 : std::max<int64_t>(end - host::now_ms(), 0);
    int n = ::poll(&p, 1, static_cast<int>(std::min<int64_t>(left, host::StopWatch::kPeriodMs)));
    if (n > 0) break;
    if (n == 0 && left > 0) {
      TRY(stopped.look());
      continue;
    }
    if (n == 0) return base::error(base::kETIMEDOUT, "the sentry did not answer within {} ms", timeout_ms);
  }
  buffer_.resize(wire::kMaxRecord);
  auto got = sys::recv_fds(sock_.get(), buffer_, {}, MSG_DONTWAIT);
  if (!got.ok()) return base::wrap(got.error(), "read the sentry's answer");
  if (got->size == 0) return base::error(base::kEPIPE, "the sentry ended");
  std::span<const std::byte> in(buffer_.data(), got->size);
  wire::Reader reader(in);
  wire::ReplyHeader h;
  reader(h);
  if (reader.bad()) return base::error(base::kEPROTO, "the sentry's answer is malformed");
  if (h.error != 0) {
    if (failed_tag) *failed_tag = h.tag;
    base::Errno e(h.error > 0 && h.error < 512 ? h.error : EPROTO);
    // Its words go to a terminal: nothing but printable characters.
    std::string words = base::without_controls(h.message.substr(0, 1000));
    if (words.empty()) words = e.text();
    return base::Error(e, std::move(words));
  }
  size_t head = wire::encode(h).size();
  Reply out;
  out.tag = h.tag;
  out.body.assign(in.begin() + static_cast<long>(head), in.end());
  return out;
}

}  // namespace runtime::container

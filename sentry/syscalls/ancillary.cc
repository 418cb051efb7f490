// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/ancillary.h"

#include <algorithm>

#include "sentry/kernel/internal.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxDescriptors = 253;  // SCM_MAX_FD
constexpr size_t align(size_t n) { return (n + 7) & ~size_t{7}; }

// Linux: scm_check_creds.
Result<net::Identity> check_credentials(Task& task, const struct ucred& c) {
  const auto& me = task.own_credentials();
  auto& ns = task.group().pid_namespace();
  net::Identity i;
  i.group = task.group_ref();
  if (c.pid != task.group().pid_in(ns)) {
    if (!me.has_cap_in(ns.impl().user_ns.get(), CAP_SYS_ADMIN)) return kEPERM;
    i.group = ns.find_group(c.pid);
    if (!i.group) return kESRCH;
  }
  i.uid = auth::kernel_uid(me.user_ns.get(), c.uid);
  i.gid = auth::kernel_gid(me.user_ns.get(), c.gid);
  if (i.uid == auth::kNoId || i.gid == auth::kNoId) return kEINVAL;
  if (i.uid != me.uid && i.uid != me.euid && i.uid != me.suid && !me.has_own_cap(CAP_SETUID)) return kEPERM;
  if (i.gid != me.gid && i.gid != me.egid && i.gid != me.sgid && !me.has_own_cap(CAP_SETGID)) return kEPERM;
  return i;
}

}  // namespace

Result<net::Control> parse_control(Task& task, int family, std::span<const std::byte> bytes) {
  net::Control control;
  std::vector<Ref<vfs::File>> files;
  size_t at = 0;
  while (bytes.size() - at >= sizeof(cmsghdr)) {
    cmsghdr h;
    memcpy(&h, bytes.data() + at, sizeof h);
    if (h.cmsg_len < sizeof h || h.cmsg_len > bytes.size() - at) return kEINVAL;
    auto data = bytes.subspan(at + sizeof h, h.cmsg_len - sizeof h);
    auto whole = bytes.subspan(at, h.cmsg_len);
    at += std::min(align(h.cmsg_len), bytes.size() - at);
    if (h.cmsg_level != SOL_SOCKET) {
      if (family == AF_INET || family == AF_INET6) {
        control.network.insert(control.network.end(), whole.begin(), whole.end());
        control.network.resize(align(control.network.size()));
      }
      continue;
    }
    switch (h.cmsg_type) {
      case SCM_RIGHTS: {
        if (family != AF_UNIX) return kEINVAL;
        size_t n = data.size() / sizeof(int);
        if (files.size() + n > kMaxDescriptors) return kEINVAL;
        auto table = task.files();
        for (size_t i = 0; i < n; i++) {
          int fd;
          memcpy(&fd, data.data() + i * sizeof fd, sizeof fd);
          files.push_back(TRY(table->get_path(fd)));
        }
        break;
      }
      case SCM_CREDENTIALS: {
        struct ucred c;
        if (data.size() != sizeof c) return kEINVAL;
        memcpy(&c, data.data(), sizeof c);
        control.sender = TRY(check_credentials(task, c));
        break;
      }
      default:
        // What only sets options of network packets is passed over; SOL_SOCKET knows no other for AF_UNIX.
        if (family == AF_UNIX || family == AF_NETLINK) return kEINVAL;
    }
  }
  if (!files.empty())
    control.files = TRY(net::InFlight::create(std::move(files), task.own_credentials(), task.rlimit(RLIMIT_NOFILE)));
  return control;
}

namespace {

// One control message to the caller's buffer, cut where the buffer ends. Linux: put_cmsg.
Result<void> put(Task& task, ControlAnswer& a, uint64_t& buffer, size_t& room, cmsghdr h, std::span<const std::byte> data) {
  if (room < sizeof(cmsghdr)) {
    a.flags |= MSG_CTRUNC;
    return {};
  }
  size_t n = sizeof h + data.size();
  if (room < n) {
    a.flags |= MSG_CTRUNC;
    n = room;
  }
  h.cmsg_len = n;
  std::vector<std::byte> m(sizeof h + data.size());
  memcpy(m.data(), &h, sizeof h);
  if (!data.empty()) memcpy(m.data() + sizeof h, data.data(), data.size());
  TRY(task.context().copy_out_now(buffer, m.data(), n));
  size_t used = std::min(align(n), room);
  a.written += used;
  buffer += used;
  room -= used;
  return {};
}

}  // namespace

Result<ControlAnswer> give_control(Task& task, net::Received& got, uint64_t buffer, size_t room, bool cloexec) {
  ControlAnswer a;
  if (buffer == 0) room = 0;
  if (got.sender) {
    struct ucred cred = got.sender->for_caller();
    cmsghdr h{};
    h.cmsg_level = SOL_SOCKET;
    h.cmsg_type = SCM_CREDENTIALS;
    TRY(put(task, a, buffer, room, h, std::as_bytes(std::span(&cred, 1))));
  }
  for (std::span<const std::byte> rest = got.network; rest.size() >= sizeof(cmsghdr);) {
    cmsghdr h;
    memcpy(&h, rest.data(), sizeof h);
    if (h.cmsg_len < sizeof h || h.cmsg_len > rest.size()) break;
    TRY(put(task, a, buffer, room, h, rest.subspan(sizeof h, h.cmsg_len - sizeof h)));
    rest = rest.subspan(std::min(align(h.cmsg_len), rest.size()));
  }
  auto files = std::exchange(got.files, {});
  if (files.empty()) return a;
  size_t fit = room > sizeof(cmsghdr) ? std::min(files.size(), (room - sizeof(cmsghdr)) / sizeof(int)) : 0;
  auto table = task.files();
  uint64_t limit = task.rlimit(RLIMIT_NOFILE);
  std::vector<kernel::FdReservation> reserved;
  std::vector<int> numbers;
  for (size_t i = 0; i < fit; i++) {
    auto r = kernel::FdReservation::reserve(table, limit);
    if (!r.ok()) break;  // Linux: scm_detach_fds stops at the first that fails
    numbers.push_back(r->number());
    reserved.push_back(std::move(r).value());
  }
  if (numbers.size() < files.size()) a.flags |= MSG_CTRUNC;
  Result<void> copied;
  if (!numbers.empty()) {
    cmsghdr h{};
    size_t n = sizeof h + numbers.size() * sizeof(int);
    h.cmsg_len = n;
    h.cmsg_level = SOL_SOCKET;
    h.cmsg_type = SCM_RIGHTS;
    std::vector<std::byte> m(n);
    memcpy(m.data(), &h, sizeof h);
    memcpy(m.data() + sizeof h, numbers.data(), numbers.size() * sizeof(int));
    copied = task.context().copy_out_now(buffer, m.data(), n);
    if (copied.ok()) {
      a.written += std::min(align(n), room);
      for (size_t i = 0; i < reserved.size(); i++) reserved[i].commit(files[i], cloexec);
    }
  }
  net::release_files(std::move(files));  // what is not wanted is closed
  TRY(std::move(copied));
  return a;
}

}  // namespace sentry::syscalls

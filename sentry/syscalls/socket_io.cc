// SPDX-License-Identifier: Apache-2.0
// Sending and receiving. Everything of the caller's is copied in once, bounded, before a socket sees it.
#include <limits.h>

#include <algorithm>

#include "sentry/syscalls/ancillary.h"
#include "sentry/syscalls/socket.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxControl = 20480;         // net.core.optmem_max
constexpr size_t kMaxTransfer = 0x7ffff000;   // MAX_RW_COUNT
constexpr size_t kPiece = 64 * 1024;          // of a stream's data, at a time
constexpr size_t kMaxReceive = 256 * 1024;    // of a stream's data in one look at the queue
constexpr unsigned kMaxMessages = 1024;       // UIO_MAXIOV, sendmmsg and recvmmsg

// An application's vector of buffers, copied in.
struct Buffers {
  std::vector<iovec> list;
  size_t total = 0;

  static Result<Buffers> copy_in(Task& task, uint64_t address, size_t count) {
    if (count > IOV_MAX) return kEMSGSIZE;
    Buffers b;
    b.list = TRY(UserIn<iovec>(address).copy_in_array(task.context(), count));
    for (iovec& v : b.list) {
      if (static_cast<ssize_t>(v.iov_len) < 0) return kEINVAL;
      v.iov_len = std::min(v.iov_len, kMaxTransfer - b.total);
      b.total += v.iov_len;
    }
    return b;
  }
  static Buffers one(uint64_t address, size_t n) {
    Buffers b;
    b.total = std::min(n, kMaxTransfer);
    b.list.push_back({reinterpret_cast<void*>(address), b.total});
    return b;
  }
  // Calls f(address, position, bytes) for each part of [from, from + n).
  template <typename F>
  Result<void> each(size_t from, size_t n, F&& f) const {
    size_t at = 0, done = 0;
    for (const iovec& v : list) {
      if (done == n) break;
      if (from + done < at + v.iov_len) {
        size_t skip = from + done - at;
        size_t k = std::min(v.iov_len - skip, n - done);
        TRY(f(reinterpret_cast<uint64_t>(v.iov_base) + skip, done, k));
        done += k;
      }
      at += v.iov_len;
    }
    return {};
  }
};

// Sends what the buffers hold: a message at once, a stream piece by piece.
Result<size_t> send_buffers(Task& task, net::SocketFile& f, const Buffers& b, net::SendRequest& r) {
  net::Sock& s = f.sock();
  r.flags |= f.io_flags();
  if (s.type == SOCK_SEQPACKET && s.family == AF_UNIX) r.to = nullptr;  // Linux: unix_seqpacket_sendmsg
  bool whole = s.keeps_boundaries();
  if (whole && b.total > s.max_message()) return kEMSGSIZE;
  size_t room = whole ? b.total : std::min(b.total, kPiece);
  auto data = std::make_unique_for_overwrite<std::byte[]>(std::max<size_t>(room, 1));
  size_t done = 0;
  do {
    size_t n = std::min(room, b.total - done);
    auto copied = b.each(done, n, [&](uint64_t address, size_t at, size_t k) {
      return task.context().copy_in(data.get() + at, address, k);
    });
    Result<size_t> sent = copied.ok() ? [&] {
      r.data = {data.get(), n};
      return s.send(r);
    }() : Result<size_t>(copied.error());
    if (!sent.ok()) {
      if (done > 0) return done;
      return sent.error();
    }
    done += *sent;
    r.control.files = {};
    r.flags |= MSG_NOSIGNAL;  // a part was sent: its number is the answer, not a signal
    if (*sent < n) break;
  } while (done < b.total);
  return done;
}

// Receives into the buffers.
Result<net::Received> receive_buffers(Task& task, net::SocketFile& f, const Buffers& b, int flags) {
  net::Sock& s = f.sock();
  auto& c = task.context();
  flags |= f.io_flags();
  if (b.list.size() == 1 && b.total > 0 && b.total <= platform::Context::kWindow) {
    auto window = c.out_window(b.total);
    auto got = TRY(s.receive({window.first(std::min(window.size(), b.total)), flags}));
    auto out = c.commit_out(reinterpret_cast<uint64_t>(b.list[0].iov_base), window, got.size);
    if (!out.ok()) {
      net::release_files(std::move(got.files));
      return out.error();
    }
    return got;
  }
  bool whole = s.keeps_boundaries();
  size_t room = std::min(b.total, whole ? static_cast<size_t>(2 * net::kMaxForcedBuffer) : kMaxReceive);
  auto data = std::make_unique_for_overwrite<std::byte[]>(std::max<size_t>(room, 1));
  net::Received all;
  for (;;) {
    size_t n = std::min(room, b.total - all.size);
    auto r = s.receive({{data.get(), n}, flags});
    if (!r.ok()) {
      if (all.size > 0) break;
      return r.error();
    }
    net::Received got = std::move(r).value();
    auto out = b.each(all.size, got.size, [&](uint64_t address, size_t at, size_t k) {
      return c.copy_out_now(address, data.get() + at, k);
    });
    if (!out.ok()) {
      net::release_files(std::move(got.files));
      return out.error();
    }
    size_t before = all.size, full = all.full_size;
    bool more = got.size == n && got.files.empty() && !got.sender;
    all = std::move(got);
    all.size += before;
    all.full_size += full;
    // MSG_WAITALL of more than one look at the queue.
    if (whole || !more || !(flags & MSG_WAITALL) || (flags & MSG_PEEK) || all.size >= b.total) break;
  }
  return all;
}

// One sendmsg(2) of a header that was copied in.
Result<long> send_message(Task& task, net::SocketFile& f, const msghdr& m, int flags) {
  net::SendRequest r;
  r.flags = flags;
  net::Address to;
  if (m.msg_name && static_cast<int>(m.msg_namelen) < 0) return kEINVAL;
  if (m.msg_name && m.msg_namelen > 0) {
    unsigned n = std::min<unsigned>(m.msg_namelen, to.bytes.size());
    to = TRY(address_in(task, UserIn<void>(reinterpret_cast<uint64_t>(m.msg_name)), n));
    r.to = &to;
  }
  auto buffers = TRY(Buffers::copy_in(task, reinterpret_cast<uint64_t>(m.msg_iov), m.msg_iovlen));
  if (m.msg_control && m.msg_controllen > 0) {
    if (m.msg_controllen > kMaxControl) return kENOBUFS;
    std::vector<std::byte> control(m.msg_controllen);
    TRY(task.context().copy_in(control.data(), reinterpret_cast<uint64_t>(m.msg_control), control.size()));
    r.control = TRY(parse_control(task, f.sock().family, control));
  }
  return TRY(send_buffers(task, f, buffers, r));
}

// One recvmsg(2); at: where the header lies. flags of the answer go there too.
Result<long> receive_message(Task& task, net::SocketFile& f, uint64_t at, int flags) {
  auto& c = task.context();
  msghdr m;
  TRY(c.copy_in(&m, at, sizeof m));
  if (m.msg_name && static_cast<int>(m.msg_namelen) < 0) return kEINVAL;
  auto buffers = TRY(Buffers::copy_in(task, reinterpret_cast<uint64_t>(m.msg_iov), m.msg_iovlen));
  bool cloexec = flags & MSG_CMSG_CLOEXEC;
  auto got = TRY(receive_buffers(task, f, buffers, flags & ~MSG_CMSG_CLOEXEC));
  int out_flags = got.flags | (flags & MSG_CMSG_CLOEXEC);
  auto control = TRY(give_control(task, got, reinterpret_cast<uint64_t>(m.msg_control), m.msg_controllen, cloexec));
  out_flags |= control.flags;
  if (m.msg_name) {
    size_t n = std::min<size_t>(m.msg_namelen, got.from.size);
    if (n) TRY(c.copy_out(reinterpret_cast<uint64_t>(m.msg_name), got.from.bytes.data(), n));
    unsigned size = got.from.size;
    TRY(c.copy_out(at + offsetof(msghdr, msg_namelen), &size, sizeof size));
  }
  size_t written = control.written;
  TRY(c.copy_out(at + offsetof(msghdr, msg_controllen), &written, sizeof written));
  TRY(c.copy_out(at + offsetof(msghdr, msg_flags), &out_flags, sizeof out_flags));
  return flags & MSG_TRUNC ? got.full_size : got.size;
}

}  // namespace

Result<long> sys_sendto(Task& task, int fd, UserSized<2> buf, size_t len, int flags, UserIn<void> addr, unsigned addr_len) {
  auto f = TRY(socket_file(task, fd));
  net::SendRequest r;
  r.flags = flags;
  net::Address to;
  if (!addr.is_null()) {
    to = TRY(address_in(task, addr, addr_len));
    if (addr_len > 0) r.to = &to;
  }
  return TRY(send_buffers(task, *f, Buffers::one(buf.unchecked_address(), len), r));
}

Result<long> sys_recvfrom(Task& task, int fd, UserOut<void> buf, size_t len, int flags, UserOut<void> addr,
                          UserInOut<unsigned> addr_len) {
  auto f = TRY(socket_file(task, fd));
  auto got = TRY(receive_buffers(task, *f, Buffers::one(buf.unchecked_address(), len), flags));
  net::release_files(std::move(got.files));
  if (!addr.is_null()) TRY(address_out(task, got.from, addr, addr_len));
  return flags & MSG_TRUNC ? got.full_size : got.size;
}

Result<long> sys_sendmsg(Task& task, int fd, UserIn<msghdr> msg, int flags) {
  auto f = TRY(socket_file(task, fd));
  return send_message(task, *f, TRY(msg.copy_in(task.context())), flags);
}

Result<long> sys_recvmsg(Task& task, int fd, UserInOut<msghdr> msg, int flags) {
  auto f = TRY(socket_file(task, fd));
  return receive_message(task, *f, msg.unchecked_address(), flags);
}

Result<long> sys_sendmmsg(Task& task, int fd, UserInOut<void> vec, unsigned count, unsigned flags) {
  auto f = TRY(socket_file(task, fd));
  count = std::min(count, kMaxMessages);
  long done = 0;
  for (uint64_t at = vec.unchecked_address(); done < static_cast<long>(count); at += sizeof(mmsghdr), done++) {
    auto one = [&]() -> Result<void> {
      mmsghdr m;
      TRY(task.context().copy_in(&m, at, sizeof m));
      auto n = static_cast<unsigned>(TRY(send_message(task, *f, m.msg_hdr, static_cast<int>(flags))));
      return task.context().copy_out_now(at + offsetof(mmsghdr, msg_len), &n, sizeof n);
    }();
    if (!one.ok()) {
      if (done > 0) break;
      return one.error();
    }
  }
  return done;
}

Result<long> sys_recvmmsg(Task& task, int fd, UserInOut<void> vec, unsigned count, unsigned flags,
                          UserInOut<timespec> timeout) {
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) {
    auto t = TRY(timeout.copy_in(task.context()));
    if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1000000000) return kEINVAL;
    sched::Nanos now = sched::now();
    deadline = t.tv_sec > (sched::kNever - now) / 1000000000 - 1 ? sched::kNever : now + t.tv_sec * 1000000000 + t.tv_nsec;
  }
  auto f = TRY(socket_file(task, fd));
  count = std::min(count, kMaxMessages);
  long done = 0;
  int each = static_cast<int>(flags) & ~MSG_WAITFORONE;
  for (uint64_t at = vec.unchecked_address(); done < static_cast<long>(count); at += sizeof(mmsghdr)) {
    auto one = [&]() -> Result<void> {
      auto n = static_cast<unsigned>(TRY(receive_message(task, *f, at, each)));
      return task.context().copy_out_now(at + offsetof(mmsghdr, msg_len), &n, sizeof n);
    }();
    if (!one.ok()) {
      if (done > 0) break;
      return one.error();
    }
    done++;
    if (flags & MSG_WAITFORONE) each |= MSG_DONTWAIT;
    if (sched::now() >= deadline) break;  // looked at after each message only (man 2 recvmmsg, BUGS)
  }
  return done;
}

}  // namespace sentry::syscalls

// SPDX-License-Identifier: Apache-2.0
// Moving bytes between a file and application memory. Reads go straight into the mailbox's window; writes are copied once into
// private memory, which no stub can change under a file's hands.
#include "sentry/syscalls/transfer.h"

#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>

#include "sentry/vfs/walk.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kYieldEvery = 8 * kChunk;
// From this size on a copy through the mailbox, from one processor's cache to the other's, costs more than a second exchange with
// the thread, which then reads for itself; from the third such read of a file on, as its descriptor must be handed over first. On a
// single processor both exchange and copy are others.
constexpr size_t kDirect = 16 * 1024, kDirectAlone = 128 * 1024, kDirectAtOnce = 512 * 1024;
constexpr uint8_t kLargeReads = 3;

bool is_worth_direct(Task& task, vfs::File& file, const UserBuffers& to) {
  if (to.left() < kDirect || !file.seekable()) return false;
  const size_t least = task.kernel().machine().cpus > 1 ? kDirect : kDirectAlone;
  if (to.front(least).length < least) return false;
  if (file.large_reads.load(std::memory_order_relaxed) >= kLargeReads) return true;
  return file.large_reads.fetch_add(1, std::memory_order_relaxed) + 1 >= kLargeReads;
}

// Whole messages, and short vectors: one read of the file, then a copy to the pieces.
Result<size_t> read_gathered(Task& task, vfs::File& file, UserBuffers& to, size_t n, int64_t* pos, vfs::IoFlags io) {
  Scratch buffer(n);
  size_t got = TRY(file.read({buffer.data(), n}, pos, io));
  TRY(to.copy_out(task, buffer.data(), std::min(got, n)));
  return got;
}

}  // namespace

UserBuffers UserBuffers::one(uint64_t address, size_t length) {
  UserBuffers b;
  b.left_ = std::min(length, kMaxTransfer);
  b.pieces_.push_back({address, b.left_});
  return b;
}

Result<UserBuffers> UserBuffers::from_vector(Task& task, UserIn<struct iovec> vec, size_t count) {
  if (count > UIO_MAXIOV) return kEINVAL;
  UserBuffers b;
  for (const iovec& v : TRY(vec.copy_in_array(task.context(), count))) {
    if (static_cast<int64_t>(v.iov_len) < 0) return kEINVAL;
    size_t n = std::min(v.iov_len, kMaxTransfer - b.left_);
    if (n) b.pieces_.push_back({reinterpret_cast<uint64_t>(v.iov_base), n});
    b.left_ += n;
  }
  return b;
}

UserBuffers::Piece UserBuffers::front(size_t limit) const {
  const Piece& p = pieces_[next_];
  return {p.address + offset_, std::min(limit, p.length - offset_)};
}

void UserBuffers::advance(size_t n) {
  left_ -= n;
  while (n > 0) {
    size_t here = std::min(n, pieces_[next_].length - offset_);
    offset_ += here;
    n -= here;
    if (offset_ == pieces_[next_].length) {
      next_++;
      offset_ = 0;
    }
  }
}

Result<size_t> UserBuffers::copy_in(Task& task, std::byte* dst, size_t n) {
  size_t done = 0;
  n = std::min(n, left_);
  while (done < n) {
    Piece p = front(n - done);
    Result<size_t> r = task.context().copy_in_some(dst + done, p.address, p.length);
    if (!r.ok()) {
      if (done) break;
      return r.error();
    }
    advance(*r);
    done += *r;
    if (*r < p.length) break;
  }
  return done;
}

Result<void> UserBuffers::copy_out(Task& task, const std::byte* src, size_t n) {
  for (size_t done = 0; done < n;) {
    Piece p = front(n - done);
    TRY(task.context().copy_out(p.address, src + done, p.length));
    advance(p.length);
    done += p.length;
  }
  return {};
}

Result<size_t> read_file(Task& task, vfs::File& file, UserBuffers& to, int64_t* pos, vfs::IoFlags io) {
  if (to.left() == 0) return file.inode().is_directory() ? Result<size_t>(kEISDIR) : Result<size_t>(size_t{0});
  if (file.message_oriented()) return read_gathered(task, file, to, std::min(to.left(), kMaxMessage), pos, io);
  if (!to.is_single() && to.left() <= kChunk) return read_gathered(task, file, to, to.left(), pos, io);
  platform::Context& context = task.context();
  size_t total = 0;
  if (is_worth_direct(task, file, to)) {
    while (to.left() > 0) {
      UserBuffers::Piece p = to.front(kDirectAtOnce);
      Result<size_t> r = file.read_directly(context, p.address, p.length, pos);
      if (!r.ok() && r.error() == kEFAULT && total == 0) return kEFAULT;
      if (!r.ok()) break;  // the other way, which says what is wrong
      to.advance(*r);
      total += *r;
      if (*r < p.length) return total;
      sched::yield();
      if (task.signal_pending()) return total;
    }
  }
  while (to.left() > 0) {
    UserBuffers::Piece p = to.front(kChunk);
    std::span<std::byte> window = context.out_window(p.length);
    if (window.empty()) return kESRCH;  // the process has been killed under our hands
    Result<size_t> r = file.read(window, pos, io);
    size_t n = r.ok() ? std::min(*r, window.size()) : 0;
    TRY(context.commit_out(p.address, window, n));
    if (!r.ok()) {
      if (total) break;
      return r.error();
    }
    to.advance(n);
    total += n;
    if (n < window.size()) break;
    // What a stream gave is an answer: no waiting for more.
    if (!file.seekable()) io.nonblock = true;
    if (total % kYieldEvery == 0) {
      sched::yield();
      if (task.signal_pending()) break;
    }
  }
  return total;
}

Result<long> read_again(Task& task, const platform::Call& call, int64_t result) {
  const bool here = call.number == SYS_read || call.number == SYS_readv;
  const bool vector = call.number == SYS_readv || call.number == SYS_preadv;
  if (result <= 0 || !(here || call.number == SYS_pread64 || call.number == SYS_preadv)) return kEFAULT;
  Ref<vfs::File> f = TRY(task.file(static_cast<int>(call.args[0])));
  if (!f->seekable() || !f->inode().is_regular()) return kEFAULT;
  UserBuffers to = vector ? TRY(UserBuffers::from_vector(task, UserIn<struct iovec>(call.args[1]), call.args[2]))
                          : UserBuffers::one(call.args[1], call.args[2]);
  sched::SleepLock l(f->position_lock());
  int64_t pos = here ? std::max<int64_t>(0, f->position - result) : static_cast<int64_t>(call.args[3]);
  Scratch buffer(kDirect);
  long total = 0;
  while (to.left() > 0) {
    UserBuffers::Piece p = to.front(kDirect);
    int64_t after = pos;
    Result<size_t> n = f->read({buffer.data(), p.length}, &after, io_flags(*f));
    if (!n.ok() || *n == 0) break;
    Result<size_t> put = task.context().copy_out_some(p.address, buffer.data(), *n);
    if (!put.ok() || *put == 0) break;
    pos += static_cast<int64_t>(*put);
    total += static_cast<long>(*put);
    to.advance(*put);
    if (*put < p.length) break;
  }
  if (here) f->position = pos;
  if (total == 0) return kEFAULT;
  return total;
}

Result<void> before_write(Task& task, vfs::File& file, int64_t offset, bool append, size_t* count) {
  vfs::Inode& inode = file.inode();
  if (!inode.is_regular()) return {};
  uint64_t limit = task.rlimit(RLIMIT_FSIZE);
  bool strip = !task.own_credentials().has_cap(CAP_FSETID);
  if (limit == RLIM_INFINITY && !strip) return {};
  vfs::Attributes a = TRY(inode.attributes());
  if (limit != RLIM_INFINITY) {
    uint64_t at = append ? a.size : static_cast<uint64_t>(offset);
    if (at >= limit) {
      task.send_signal(kernel::SignalInfo::kernel(SIGXFSZ, SI_USER));
      return kEFBIG;
    }
    *count = std::min(*count, limit - at);
  }
  // Linux: file_remove_privs.
  uint32_t keep = a.mode & ~static_cast<uint32_t>(S_ISUID | (a.mode & S_IXGRP ? S_ISGID : 0));
  if (strip && keep != a.mode) {
    vfs::SetAttributes s;
    s.mask = vfs::SetAttributes::kMode;
    s.mode = keep & 07777;
    sched::SleepLock l(inode.lock());
    TRY(inode.set_attributes(s));
  }
  return {};
}

Result<size_t> write_chunk(vfs::File& file, std::span<const std::byte> src, int64_t* pos, vfs::IoFlags io) {
  size_t done = 0;
  while (done < src.size()) {
    Result<size_t> r = file.write(src.subspan(done), pos, io);
    if (!r.ok()) {
      if (done) break;
      return r.error();
    }
    if (*r == 0) break;
    done += *r;
    // A stream that took a part will not take more without waiting; one that may wait took all or was interrupted.
    if (!file.seekable()) break;
  }
  return done;
}

Result<size_t> write_file(Task& task, vfs::File& file, UserBuffers& from, int64_t* pos, vfs::IoFlags io) {
  size_t count = from.left();
  bool message = file.message_oriented();
  if (message && count > kMaxMessage) return kEMSGSIZE;
  if (count > 0) TRY(before_write(task, file, *pos, io.append, &count));
  const size_t chunk = message ? count : std::min(count, kChunk);
  const bool shared = file.takes_shared() && from.is_single();  // a vector is one write
  Scratch buffer(shared ? 0 : chunk);
  if (count == 0) {
    // A write of nothing to a regular file does nothing; a datagram of nothing is a datagram.
    if (file.inode().is_regular()) return size_t{0};
    return file.write({buffer.data(), size_t{0}}, pos, io);
  }
  size_t total = 0;
  while (total < count) {
    const size_t want = std::min(chunk, count - total);
    std::span<const std::byte> src;
    if (shared) {
      UserBuffers::Piece p = from.front(want);
      auto window = task.context().in_window(p.address, p.length);
      if (window.ok()) from.advance((src = *window).size());
    } else if (auto got = from.copy_in(task, buffer.data(), want); got.ok() && !(message && *got < want)) {
      src = {buffer.data(), *got};
    }
    if (src.empty()) {
      if (total) break;
      return kEFAULT;
    }
    Result<size_t> r = write_chunk(file, src, pos, io);
    if (!r.ok()) {
      if (total) break;
      return r.error();
    }
    total += *r;
    if (*r < src.size() || (!shared && src.size() < want)) break;
    if (total % kYieldEvery == 0) {
      sched::yield();
      if (file.inode().is_regular() && task.signal_pending()) break;
    }
  }
  if (io.sync && total && file.inode().is_regular()) TRY(file.sync((file.flags() & O_SYNC) != O_SYNC));
  return total;
}

}  // namespace sentry::syscalls

// SPDX-License-Identifier: Apache-2.0
// sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2): copies through the sentry's memory. No bytes of a pipe or of a
// stream socket are lost: they are looked at first, and leave it when they have been written.
#include <fcntl.h>
#include <unistd.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/net/common/socket_file.h"
#include "sentry/syscalls/paths.h"
#include "sentry/syscalls/transfer.h"
#include "sentry/vfs/notify.h"

namespace sentry::syscalls {
namespace {

// A file and where in it: at an offset of the caller's, or at its own position.
struct End {
  vfs::File& file;
  int64_t* offset;  // null: the description's
  int64_t* position() const { return offset ? offset : &file.position; }
};

// Locks the positions of both descriptions that need it, in one order for everyone.
class PositionLocks {
 public:
  PositionLocks(const End& a, const End& b) NO_THREAD_SAFETY_ANALYSIS {  // which locks is known at run time only
    vfs::File* x = needs(a) ? &a.file : nullptr;
    vfs::File* y = needs(b) && &b.file != x ? &b.file : nullptr;
    if (x > y) std::swap(x, y);
    first_ = x;
    second_ = y;
    if (first_) first_->position_lock().lock();
    if (second_) second_->position_lock().lock();
  }
  ~PositionLocks() NO_THREAD_SAFETY_ANALYSIS {
    if (second_) second_->position_lock().unlock();
    if (first_) first_->position_lock().unlock();
  }
  PositionLocks(const PositionLocks&) = delete;
  PositionLocks& operator=(const PositionLocks&) = delete;

 private:
  static bool needs(const End& e) { return !e.offset && e.file.seekable(); }
  vfs::File* first_;
  vfs::File* second_;
};

// What the next read of a stream socket would get, which stays; and n bytes of it leave.
Result<size_t> peek_stream(net::SocketFile& s, std::span<std::byte> dst, bool nonblock) {
  net::Received got = TRY(s.sock().receive({dst, MSG_PEEK | (nonblock ? MSG_DONTWAIT : 0)}));
  net::release_files(std::move(got.files));
  return got.size;
}
void consume_stream(net::SocketFile& s, std::span<std::byte> scratch, size_t n) {
  while (n > 0) {
    Result<net::Received> got = s.sock().receive({scratch.first(n), MSG_DONTWAIT});
    if (!got.ok() || got->size == 0) return;
    net::release_files(std::move(got->files));
    n -= got->size;
  }
}

// Copies up to `count` bytes. From a seekable file the position moves by what was written; from a pipe or stream only that leaves it.
Result<long> copy(Task& task, const End& in, const End& out, size_t count, vfs::IoFlags in_io, vfs::IoFlags out_io) {
  PositionLocks locks(in, out);
  count = std::min(count, kMaxTransfer);
  if (count == 0) return 0L;
  TRY(before_write(task, out.file, *out.position(), out_io.append, &count));
  size_t chunk = std::min(count, kChunk);
  Scratch buffer(chunk);
  bool from_pipe = in.file.kind() == vfs::FileKind::pipe;
  auto* stream = in.file.as<net::SocketFile>();
  if (stream && stream->message_oriented()) stream = nullptr;
  size_t total = 0;
  while (total < count) {
    size_t want = std::min(chunk, count - total);
    int64_t at = *in.position();
    std::span<std::byte> here(buffer.data(), want);
    Result<size_t> got = from_pipe ? fs::pipe::peek(in.file, here, in_io.nonblock)
                         : stream  ? peek_stream(*stream, here, in_io.nonblock)
                                   : in.file.read(here, &at, in_io);
    if (!got.ok()) {
      if (total) break;
      return got.error();
    }
    if (*got == 0) break;
    Result<size_t> put = write_chunk(out.file, {buffer.data(), *got}, out.position(), out_io);
    size_t n = put.ok() ? *put : 0;
    if (from_pipe) fs::pipe::consume(in.file, n);
    else if (stream) consume_stream(*stream, here, n);
    else if (in.file.seekable()) *in.position() += static_cast<int64_t>(n);
    if (!put.ok()) {
      if (total) break;
      return put.error();
    }
    total += n;
    if (n < *got) break;
    if (!in.file.seekable()) in_io.nonblock = true;  // what is there is enough
    sched::yield();
    if (task.signal_pending()) break;
  }
  if (total > 0) {
    vfs::tell_file(in.file, IN_ACCESS);
    vfs::tell_file(out.file, IN_MODIFY);
  }
  return total;
}

Result<Ref<vfs::File>> readable(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->readable()) return kEBADF;
  return f;
}
Result<Ref<vfs::File>> writable(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->writable()) return kEBADF;
  return f;
}

// An optional offset argument.
struct Offset {
  UserInOut<int64_t> user;
  int64_t value = 0;
  int64_t* pointer = nullptr;
  Result<void> load(Task& task, UserInOut<int64_t> from) {
    user = from;
    if (from.is_null()) return {};
    value = TRY(from.copy_in(task.context()));
    if (value < 0) return kEINVAL;
    pointer = &value;
    return {};
  }
  Result<void> store(Task& task) const {
    if (!pointer) return {};
    return user.copy_out(task.context(), value);
  }
};

constexpr unsigned kSpliceFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

}  // namespace

Result<long> sys_sendfile(Task& task, int out_fd, int in_fd, UserInOut<int64_t> offset, size_t count) {
  Offset at;
  TRY(at.load(task, offset));
  Ref<vfs::File> in = TRY(readable(task, in_fd));
  if (at.pointer && !in->seekable()) return kESPIPE;
  Ref<vfs::File> out = TRY(writable(task, out_fd));
  if (out->flags() & O_APPEND) return kEINVAL;
  if (in->inode().is_directory() || out->inode().is_directory()) return kEINVAL;
  // What has no position could lose what it gave; a pipe is spliced from, not sent. Linux: splice_direct_to_actor(), do_splice_read().
  if (in->kind() == vfs::FileKind::pipe || (!in->seekable() && out->kind() != vfs::FileKind::pipe)) return kEINVAL;
  Result<long> r = copy(task, {*in, at.pointer}, {*out, nullptr}, count, io_flags(*in), io_flags(*out));
  if (r.ok()) TRY(at.store(task));
  return r;
}

Result<long> sys_copy_file_range(Task& task, int fd_in, UserInOut<int64_t> off_in, int fd_out, UserInOut<int64_t> off_out,
                                 size_t len, unsigned flags) {
  Ref<vfs::File> in = TRY(task.file(fd_in));
  Ref<vfs::File> out = TRY(task.file(fd_out));
  Offset from, to;
  TRY(from.load(task, off_in));
  TRY(to.load(task, off_out));
  if (flags != 0) return kEINVAL;
  if (in->inode().is_directory() || out->inode().is_directory()) return kEISDIR;
  if (!in->inode().is_regular() || !out->inode().is_regular()) return kEINVAL;
  if (!in->readable() || !out->writable() || (out->flags() & O_APPEND)) return kEBADF;
  End a{*in, from.pointer}, b{*out, to.pointer};
  len = std::min(len, kMaxTransfer);
  if (&in->inode() == &out->inode()) {
    int64_t x = *a.position(), y = *b.position(), n = static_cast<int64_t>(len);
    if (x < y + n && y < x + n) return kEINVAL;
  }
  Result<long> r = copy(task, a, b, len, io_flags(*in), io_flags(*out));
  if (!r.ok()) return r;
  TRY(from.store(task));
  TRY(to.store(task));
  return r;
}

Result<long> sys_splice(Task& task, int fd_in, UserInOut<int64_t> off_in, int fd_out, UserInOut<int64_t> off_out, size_t len,
                        unsigned flags) {
  if (len == 0) return 0L;
  if (flags & ~kSpliceFlags) return kEINVAL;
  Ref<vfs::File> in = TRY(readable(task, fd_in));
  Ref<vfs::File> out = TRY(writable(task, fd_out));
  bool in_pipe = in->kind() == vfs::FileKind::pipe, out_pipe = out->kind() == vfs::FileKind::pipe;
  if ((in_pipe && !off_in.is_null()) || (out_pipe && !off_out.is_null())) return kESPIPE;
  if (!in_pipe && !out_pipe) return kEINVAL;
  if (in_pipe && out_pipe && &in->inode() == &out->inode()) return kEINVAL;
  Offset from, to;
  TRY(from.load(task, off_in));
  TRY(to.load(task, off_out));
  if (from.pointer && !in->seekable()) return kESPIPE;
  if (to.pointer && !out->seekable()) return kESPIPE;
  if (out->flags() & O_APPEND) return kEINVAL;
  if (in->inode().is_directory() || out->inode().is_directory()) return kEINVAL;
  vfs::IoFlags in_io = io_flags(*in), out_io = io_flags(*out);
  if (flags & SPLICE_F_NONBLOCK) {
    if (in_pipe) in_io.nonblock = true;
    if (out_pipe) out_io.nonblock = true;
  }
  Result<long> r = copy(task, {*in, from.pointer}, {*out, to.pointer}, len, in_io, out_io);
  if (!r.ok()) return r;
  TRY(from.store(task));
  TRY(to.store(task));
  return r;
}

Result<long> sys_tee(Task& task, int fd_in, int fd_out, size_t len, unsigned flags) {
  if (flags & ~kSpliceFlags) return kEINVAL;
  if (len == 0) return 0L;
  Ref<vfs::File> in = TRY(readable(task, fd_in));
  Ref<vfs::File> out = TRY(writable(task, fd_out));
  if (in->kind() != vfs::FileKind::pipe || out->kind() != vfs::FileKind::pipe || &in->inode() == &out->inode()) return kEINVAL;
  vfs::IoFlags out_io = io_flags(*out);
  out_io.nonblock = out_io.nonblock || (flags & SPLICE_F_NONBLOCK);
  size_t n = std::min(len, kChunk);
  Scratch buffer(n);
  size_t got = TRY(fs::pipe::peek(*in, {buffer.data(), n}, (in->flags() & O_NONBLOCK) || (flags & SPLICE_F_NONBLOCK)));
  if (got == 0) return 0L;
  int64_t unused = 0;
  size_t put = TRY(write_chunk(*out, {buffer.data(), got}, &unused, out_io));
  return put;
}

Result<long> sys_vmsplice(Task& task, int fd, UserIn<struct iovec> vec, size_t count, unsigned flags) {
  if (flags & ~kSpliceFlags) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(fd));
  if (f->kind() != vfs::FileKind::pipe) return kEBADF;
  UserBuffers buffers = TRY(UserBuffers::from_vector(task, vec, count));
  if (buffers.left() == 0) return 0L;
  vfs::IoFlags io = io_flags(*f);
  if (flags & SPLICE_F_NONBLOCK) io.nonblock = true;
  int64_t unused = 0;
  Result<size_t> r = f->writable() ? write_file(task, *f, buffers, &unused, io) : read_file(task, *f, buffers, &unused, io);
  if (!r.ok()) return r.error();
  return *r;
}

}  // namespace sentry::syscalls

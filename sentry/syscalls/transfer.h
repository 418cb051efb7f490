// SPDX-License-Identifier: Apache-2.0
// Moving bytes between a file and application memory, for read, write and their relatives.
#pragma once

#include <memory>
#include <vector>

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

inline constexpr size_t kMaxTransfer = 0x7ffff000;      // MAX_RW_COUNT
inline constexpr size_t kMaxMessage = size_t{1} << 20;  // of a message_oriented() file
inline constexpr size_t kChunk = platform::Context::kWindow;

// A list of places in application memory, taken from the front.
class UserBuffers {
 public:
  static UserBuffers one(uint64_t address, size_t length);
  // EINVAL: more than 1024, a negative length. The sum is cut at kMaxTransfer.
  static Result<UserBuffers> from_vector(Task& task, UserIn<struct iovec> vec, size_t count);
  size_t left() const { return left_; }
  // The next contiguous piece, at most `limit` bytes.
  struct Piece {
    uint64_t address;
    size_t length;
  };
  Piece front(size_t limit) const;
  void advance(size_t n);
  // EFAULT when not even the first byte can be had; else how many were copied.
  Result<size_t> copy_in(Task& task, std::byte* dst, size_t n);
  Result<void> copy_out(Task& task, const std::byte* src, size_t n);
  bool is_single() const { return pieces_.size() <= 1; }

 private:
  std::vector<Piece> pieces_;
  size_t next_ = 0, offset_ = 0, left_ = 0;
};

// Bytes of the sentry's heap, not zeroed; small ones without an allocation.
class Scratch {
 public:
  explicit Scratch(size_t n) : data_(small_) {
    if (n > sizeof small_) {
      large_.reset(new std::byte[n]);
      data_ = large_.get();
    }
  }
  std::byte* data() { return data_; }

 private:
  std::byte small_[1024];
  std::unique_ptr<std::byte[]> large_;
  std::byte* data_;
};

// From file to application: fewer bytes than asked for is a success. pos as File::read.
Result<size_t> read_file(Task& task, vfs::File& file, UserBuffers& to, int64_t* pos, vfs::IoFlags io);
// A call had this result, but not all of it could be stored. Of a regular file is read what can be, as Linux does, and the position
// is behind that; EFAULT if it is nothing, and for all other calls.
Result<long> read_again(Task& task, const platform::Call& call, int64_t result);
// From application to file, with RLIMIT_FSIZE and the loss of set-ID bits.
Result<size_t> write_file(Task& task, vfs::File& file, UserBuffers& from, int64_t* pos, vfs::IoFlags io);

// Checks before bytes go into a file at `offset` (io.append: at its end): cuts *count at RLIMIT_FSIZE (SIGXFSZ, EFBIG when nothing
// is left) and takes the set-ID bits away.
Result<void> before_write(Task& task, vfs::File& file, int64_t offset, bool append, size_t* count);
// Writes all of src, one chunk of the sentry's memory; how many went. An error only if none did.
Result<size_t> write_chunk(vfs::File& file, std::span<const std::byte> src, int64_t* pos, vfs::IoFlags io);

// O_NONBLOCK and O_APPEND of the description.
inline vfs::IoFlags io_flags(const vfs::File& file) {
  int f = file.flags();
  return {.nonblock = (f & O_NONBLOCK) != 0, .append = (f & O_APPEND) != 0, .sync = (f & O_DSYNC) != 0};
}

}  // namespace sentry::syscalls

// SPDX-License-Identifier: Apache-2.0
// Pipes and FIFOs. Linux: fs/pipe.c, man 7 pipe.
#pragma once

#include "sentry/vfs/file.h"

namespace sentry::fs::pipe {

inline constexpr size_t kAtomic = 4096;        // PIPE_BUF
inline constexpr size_t kCapacity = 64 * 1024;
inline constexpr size_t kMaxCapacity = 1 << 20;  // fs.pipe-max-size

struct Ends {
  Ref<vfs::File> read, write;
};
// flags: O_NONBLOCK, O_DIRECT (packets), for both ends.
Result<Ends> create(int flags, const Ref<auth::Credentials>& cred);

// open(2) of a FIFO inode: waits for the other side as man 7 fifo says. ENXIO: O_WRONLY|O_NONBLOCK without a reader. Parks.
Result<Ref<vfs::File>> open_fifo(const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                 const Ref<auth::Credentials>& cred);

// F_GETPIPE_SZ and F_SETPIPE_SZ; EBADF when it is no pipe. EBUSY: smaller than what it holds.
Result<long> capacity(vfs::File& file);
Result<long> set_capacity(vfs::File& file, size_t bytes);

// For splice(2) and tee(2). peek: what the next read would get, which stays; waits as a read does; 0: no writer is left. consume: drops
// that many of the bytes (a packet is dropped whole). EBADF when it is no readable end.
Result<size_t> peek(vfs::File& file, std::span<std::byte> dst, bool nonblock);
void consume(vfs::File& file, size_t n);

}  // namespace sentry::fs::pipe

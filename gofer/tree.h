// SPDX-License-Identifier: Apache-2.0
// The host's files, one component at a time: every function takes a held directory and a checked name, or
// a held descriptor. Nothing here follows a symbolic link, and nothing but a regular file or a directory is ever
// opened for reading or writing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/wire/gofer.h"
#include "gofer/name.h"

namespace gofer::tree {

using base::Errno;
using base::Fd;
using base::Result;
using wire::Attr;

// ENOSYS on a host without openat2(2), on which nothing else here may be used. Also finds out what else the host has.
Result<void> probe_host();
// Tests of the way without fchmodat2(2).
void pretend_no_fchmodat2(bool on);

// The root of everything, before any request is served.
Result<Fd> open_root(const char* path);
// O_PATH descriptors: of whatever it is (a symbolic link itself), or of a directory only.
Result<Fd> open_path(int dir, const Name& name);
Result<Fd> open_directory(int dir, const Name& name);
// A directory opened for reading, from its O_PATH descriptor.
Result<Fd> open_listing(int dir);

Result<Attr> attr_of(int fd);
// The working directory, which asking about a name's extended attributes needs (there is no llistxattrat(2)); nothing else goes by it.
Result<void> stand_in(int dir);
// A number of the mount that it is on, as long as that is there.
Result<uint64_t> mount_of(int fd);
Result<Attr> attr_at(int dir, const Name& name);
void look_for_xattrs(const Name& name, Attr& a);  // a: of that name where the process stands
// Also says if it has no extended attributes, of whatever kind it is.
Result<Attr> attr_with_xattrs(int dir, const Name& name);
inline bool same_object(const Attr& a, const Attr& b) {
  return a.ino == b.ino && a.dev == b.dev && ((a.mode ^ b.mode) & 0170000) == 0;
}

enum class Access { read, write, read_write };
// Opens the regular file that path_fd (O_PATH) holds and that `name` in `dir` should name. ESTALE if it names another
// by now. EISDIR, ELOOP or ENXIO for what is not a regular file. `append`: with O_APPEND.
Result<Fd> open_regular(int dir, const Name& name, int path_fd, Access access, bool append = false);
// The same for reading, of what was seen under that name a moment ago; and what it is.
struct Opened {
  Fd fd;
  Attr attr;
};
Result<Opened> open_for_reading(int dir, const Name& name, const Attr& seen);
// A new regular file, read-write. EEXIST.
Result<Fd> create_regular(int dir, const Name& name, uint32_t mode);
// One without a name, for this directory's file system; it may get one.
Result<Fd> create_unnamed(int dir, uint32_t mode);
Result<void> truncate(int fd, uint64_t size);

Result<void> make_directory(int dir, const Name& name, uint32_t mode);
Result<void> make_symlink(int dir, const Name& name, const std::string& target);
// mode says the type; a device is always 0:0.
Result<void> make_node(int dir, const Name& name, uint32_t mode);
Result<void> link(int from_dir, const Name& from, int dir, const Name& name);
// A name for a file that has none. ENOENT if it has had one.
Result<void> link_held(int fd, int dir, const Name& name);
Result<void> unlink(int dir, const Name& name, bool directory);
Result<void> rename(int from_dir, const Name& from, int to_dir, const Name& to, uint32_t flags);

// fd may be O_PATH in these.
Result<void> change_owner(int fd, uint32_t uid, uint32_t gid);  // UINT32_MAX leaves one as it is
Result<void> change_owner_at(int dir, const Name& name, uint32_t uid, uint32_t gid);
// Needs dir and name only on hosts without fchmodat2, and there refuses FIFOs and sockets with EOPNOTSUPP.
Result<void> change_mode(int fd, uint32_t mode, int dir, const Name* name);
// UTIME_OMIT and UTIME_NOW in place of nanoseconds are flags here.
struct Time {
  enum { omit, now, at } what = omit;
  int64_t ns = 0;
};
Result<void> change_times(int fd, Time atime, Time mtime);
Result<wire::StatFsReply> stat_fs(int fd);
Result<std::string> read_link(int dir, const Name& name);
Result<std::string> read_link_of(int fd);
Result<void> sync(int fd, bool data_only);

// Extended attributes, by a descriptor open for reading.
Result<std::string> get_xattr(int fd, const std::string& key);
Result<std::string> list_xattr(int fd);
Result<void> set_xattr(int fd, const std::string& key, const std::string& value, int flags);
Result<void> remove_xattr(int fd, const std::string& key);

// One getdents64 into buf: bytes stored, 0 at the end.
Result<size_t> list(int fd, std::span<std::byte> buf);
Result<void> seek(int fd, uint64_t cookie);

}  // namespace gofer::tree

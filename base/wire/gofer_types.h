// SPDX-License-Identifier: Apache-2.0
// What the requests and replies of the sentry-gofer protocol (gofer.h) are made of, and its limits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/wire/codec.h"

namespace base::wire::gofer {

inline constexpr uint32_t kVersion = 5;
inline constexpr size_t kMaxRecord = 64 * 1024;
inline constexpr size_t kMaxFds = 16;        // descriptors with a reply; of one file: read-only first, then read-write
inline constexpr size_t kMaxName = 255;
inline constexpr size_t kMaxTarget = 4095;   // of a symbolic link
inline constexpr size_t kMaxWalk = 64;       // names of one Walk
inline constexpr size_t kMaxListed = 512;    // directories in the answer of one ReadDirs
inline constexpr size_t kMaxXattrName = 255;
inline constexpr size_t kMaxXattrValue = 60 * 1024;
inline constexpr size_t kMinReadDir = 1024;  // smallest max_bytes of ReadDir
inline constexpr size_t kMinReadDirs = 2048;

// A single component that can be looked up in a directory: 1 to 255 bytes, no '/', no NUL, not "." or "..". Both sides
// check every name that they receive.
bool valid_name(std::string_view name);
// Extended attributes of the sandbox. Labels of the host's security modules and marks of its overlays stay there.
bool shared_xattr(std::string_view name);

using NodeId = uint64_t;  // 0 is no node

enum class Op : uint16_t {
  kHello = 1,
  kAttach,
  kWalk,
  kReadDir,
  kGetAttr,
  kSetAttr,
  kReadLink,
  kOpen,
  kCreate,
  kMkdir,
  kSymlink,
  kMknod,
  kLink,
  kUnlink,
  kRename,
  kStatFs,
  kGetXattr,
  kSetXattr,
  kListXattr,
  kRemoveXattr,
  kFsync,
  kForget,
  kCreateBacking,
  kReadDirs,
  kLeave,
  kOpenAhead,
};

struct RequestHeader {
  Op op{};
  uint64_t tag = 0;
  template <typename A> void visit(A& a) { a(op); a(tag); }
};
struct ReplyHeader {
  uint64_t tag = 0;
  int32_t error = 0;  // errno, positive
  template <typename A> void visit(A& a) { a(tag); a(error); }
};
struct Empty { template <typename A> void visit(A&) {} };

// What stat(2) tells. Times are nanoseconds since 1970, dev and rdev as makedev(3) packs them.
struct Attr {
  // kNoXattrs: it has no shared_xattr(); without the flag nobody has looked.
  static constexpr uint32_t kHasBtime = 1, kImmutable = 2, kAppendOnly = 4, kNoXattrs = 8;
  uint32_t mode = 0, uid = 0, gid = 0, nlink = 0;
  uint64_t ino = 0, size = 0, blocks = 0, dev = 0, rdev = 0;
  uint32_t blksize = 0;
  int64_t atime = 0, mtime = 0, ctime = 0, btime = 0;
  uint32_t flags = 0;
  template <typename A> void visit(A& a) {
    a(mode); a(uid); a(gid); a(nlink); a(ino); a(size); a(blocks); a(dev); a(rdev); a(blksize); a(atime); a(mtime);
    a(ctime); a(btime); a(flags);
  }
};
inline constexpr size_t kAttrBytes = 96;
inline bool is_link(const Attr& a) { return (a.mode & 0170000) == 0120000; }

// An object: the node itself when name is empty, else the child of that name in directory `node`.
struct At {
  NodeId node = 0;
  std::string name;
  template <typename A> void visit(A& a) { a(node); a(name); }
};

}  // namespace base::wire::gofer

// SPDX-License-Identifier: Apache-2.0
// Sentry to gofer: files of the host. One SOCK_SEQPACKET record each way, at most kMaxRecord bytes; a request is
// RequestHeader and its body, a reply ReplyHeader and (when error is 0) its body. Several requests may be in
// flight; tags match them. Forget and Leave alone are never answered. The first request must be Hello.
//
// Nodes are handles of the gofer: a directory or another object under a name in one. Every NodeId in a reply is new
// (Attach excepted) and is the client's to Forget. Ids are never reused. A node whose object is no longer where the
// gofer knew it answers ESTALE: walk to it again from its directory.
#pragma once

#include <vector>

#include "base/wire/gofer_types.h"

namespace base::wire::gofer {

struct NodeReply {
  NodeId node = 0;
  Attr attr;
  template <typename A> void visit(A& a) { a(node); a(attr); }
};
struct AttrReply { Attr attr; template <typename A> void visit(A& a) { a(attr); } };

struct HelloReply {
  uint32_t version = 0, attach_points = 0;
  template <typename A> void visit(A& a) { a(version); a(attach_points); }
};
// EPROTO: the version is not ours.
struct HelloRequest {
  static constexpr Op kOp = Op::kHello;
  using Reply = HelloReply;
  uint32_t version = kVersion;
  template <typename A> void visit(A& a) { a(version); }
};

struct AttachReply {
  NodeId node = 0;  // the same id each time; forgetting it does nothing
  Attr attr;
  bool read_only = false;
  template <typename A> void visit(A& a) { a(node); a(attr); a(read_only); }
};
struct AttachRequest {
  static constexpr Op kOp = Op::kAttach;
  using Reply = AttachReply;
  uint32_t index = 0;
  template <typename A> void visit(A& a) { a(index); }
};

// What Open, Create and a Walk that opens may ask for. kRead donates a read-only descriptor and kWrite a read-write one;
// both may be asked for at once.
inline constexpr uint32_t kRead = 1, kWrite = 2, kTruncate = 4, kAppend = 8;

struct Found {
  NodeId node = 0;
  Attr attr;
  std::string link;  // target of a symbolic link
  template <typename A> void visit(A& a) { a(node); a(attr); a(link); }
};
struct WalkReply {
  std::vector<Found> found;  // a prefix of the names; ends after the first that is not a directory
  int32_t error = 0;         // why the next name was not found, when found ends early at a directory (ENOENT …)
  int32_t open_error = 0;    // of the open, when one was asked for and all names were found
  bool has_read = false, has_write = false;
  template <typename A> void visit(A& a) { a(found); a(error); a(open_error); a(has_read); a(has_write); }
};
// Looks names up, each in the one before. `open` opens the last, if it is a regular file, in the same round trip.
struct WalkRequest {
  static constexpr Op kOp = Op::kWalk;
  using Reply = WalkReply;
  NodeId dir = 0;
  std::vector<std::string> names;
  uint32_t open = 0;  // kRead | kWrite | kAppend
  template <typename A> void visit(A& a) { a(dir); a(names); a(open); }
};

struct Dirent {
  std::string name;  // never "." or ".."
  uint64_t ino = 0, cookie = 0;
  uint8_t type = 0;  // DT_*
  bool has_attr = false;
  Attr attr;
  std::string link;  // with attributes of a symbolic link: its target; empty if that could not be read
  template <typename A> void visit(A& a) {
    a(name); a(ino); a(cookie); a(type); a(has_attr);
    if (!has_attr) return;
    a(attr);
    if (is_link(attr)) a(link);
  }
};
// What comes with the entries of a listing: attributes of directories (and of what may be one), of all; whether they have extended attributes.
inline constexpr uint32_t kDirAttr = 1, kAllAttr = 2, kXattrs = 4, kWantAll = kDirAttr | kAllAttr | kXattrs;

struct ReadDirReply {
  std::vector<Dirent> entries;
  uint64_t cookie = 0;  // where to go on
  bool end = false;
  template <typename A> void visit(A& a) { a(entries); a(cookie); a(end); }
};
struct ReadDirRequest {
  static constexpr Op kOp = Op::kReadDir;
  using Reply = ReadDirReply;
  NodeId dir = 0;
  uint64_t cookie = 0;  // 0 = the beginning
  uint32_t max_bytes = kMaxRecord;
  uint32_t want = 0;
  template <typename A> void visit(A& a) { a(dir); a(cookie); a(max_bytes); a(want); }
};

struct ListedDir {
  uint32_t in = 0;    // 0: one of the names asked for, in their order; else which of the listed ones before it (counted from 1) it is in
  std::string name;
  NodeId node = 0;    // 0: it cannot be listed, or is better listed alone; only of names asked for
  Attr attr;
  uint64_t cookie = 0;
  bool end = false;   // all but the first end
  std::vector<Dirent> entries;
  template <typename A> void visit(A& a) { a(in); a(name); a(node); a(attr); a(cookie); a(end); a(entries); }
};
struct ReadDirsReply {
  std::vector<ListedDir> listed;  // a prefix of the names, and what is below them
  template <typename A> void visit(A& a) { a(listed); }
};
// Lists directories of one parent from their beginnings, as many as fit into the reply: what walks a tree needs next. below: after each
// of them the directories below it, in the order of the tree.
struct ReadDirsRequest {
  static constexpr Op kOp = Op::kReadDirs;
  using Reply = ReadDirsReply;
  NodeId dir = 0;
  std::vector<std::string> names;  // at most kMaxWalk
  uint32_t max_bytes = kMaxRecord;
  uint32_t want = kDirAttr | kAllAttr | kXattrs;
  bool below = false;
  template <typename A> void visit(A& a) { a(dir); a(names); a(max_bytes); a(want); a(below); }
};

struct GetAttrRequest {
  static constexpr Op kOp = Op::kGetAttr;
  using Reply = AttrReply;
  At at;
  template <typename A> void visit(A& a) { a(at); }
};

inline constexpr uint32_t kSetMode = 1, kSetUid = 2, kSetGid = 4, kSetSize = 8, kSetAtime = 16, kSetMtime = 32,
                          kSetAtimeNow = 64, kSetMtimeNow = 128, kSetAll = 255;
// Done in the order size, owner, mode, times.
struct SetAttrRequest {
  static constexpr Op kOp = Op::kSetAttr;
  using Reply = AttrReply;
  At at;
  uint32_t mask = 0, mode = 0, uid = 0, gid = 0;
  uint64_t size = 0;
  int64_t atime = 0, mtime = 0;
  template <typename A> void visit(A& a) {
    a(at); a(mask); a(mode); a(uid); a(gid); a(size); a(atime); a(mtime);
  }
};

struct ReadLinkReply { std::string target; template <typename A> void visit(A& a) { a(target); } };
struct ReadLinkRequest {
  static constexpr Op kOp = Op::kReadLink;
  using Reply = ReadLinkReply;
  At at;
  template <typename A> void visit(A& a) { a(at); }
};

struct OpenReply {
  NodeId node = 0;  // the node asked for; a new one if it was named by its directory
  Attr attr;
  bool has_read = false, has_write = false;
  template <typename A> void visit(A& a) { a(node); a(attr); a(has_read); a(has_write); }
};
// Regular files only: EISDIR for a directory, ELOOP for a symbolic link, ENXIO for anything else.
struct OpenRequest {
  static constexpr Op kOp = Op::kOpen;
  using Reply = OpenReply;
  At at;
  uint32_t flags = 0;
  template <typename A> void visit(A& a) { a(at); a(flags); }
};

struct OpenedFile {
  NodeId node = 0;  // 0: not opened
  Attr attr;
  template <typename A> void visit(A& a) { a(node); a(attr); }
};
struct OpenAheadReply {
  std::vector<OpenedFile> opened;  // one per name; the descriptors are those of the ones with a node, in order
  template <typename A> void visit(A& a) { a(opened); }
};
// Opens regular files of one directory for reading: the first is asked for, with its error, the others are guesses.
struct OpenAheadRequest {
  static constexpr Op kOp = Op::kOpenAhead;
  using Reply = OpenAheadReply;
  NodeId dir = 0;
  std::vector<std::string> names;  // at most kMaxFds
  template <typename A> void visit(A& a) { a(dir); a(names); }
};

// A new regular file (EEXIST if the name is taken). uid and gid are set as given, whatever the directory's mode says. With an empty
// name it has none (O_TMPFILE), and its node can be linked.
struct CreateRequest {
  static constexpr Op kOp = Op::kCreate;
  using Reply = OpenReply;
  NodeId dir = 0;
  std::string name;
  uint32_t flags = 0, mode = 0, uid = 0, gid = 0;
  template <typename A> void visit(A& a) { a(dir); a(name); a(flags); a(mode); a(uid); a(gid); }
};
struct MkdirRequest {
  static constexpr Op kOp = Op::kMkdir;
  using Reply = NodeReply;
  NodeId dir = 0;
  std::string name;
  uint32_t mode = 0, uid = 0, gid = 0;
  template <typename A> void visit(A& a) { a(dir); a(name); a(mode); a(uid); a(gid); }
};
struct SymlinkRequest {
  static constexpr Op kOp = Op::kSymlink;
  using Reply = NodeReply;
  NodeId dir = 0;
  std::string name, target;
  uint32_t uid = 0, gid = 0;
  template <typename A> void visit(A& a) { a(dir); a(name); a(target); a(uid); a(gid); }
};
// Regular files, FIFOs, sockets, and character device 0:0 (an overlay's whiteout); other devices are EPERM.
struct MknodRequest {
  static constexpr Op kOp = Op::kMknod;
  using Reply = NodeReply;
  NodeId dir = 0;
  std::string name;
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t rdev = 0;
  template <typename A> void visit(A& a) { a(dir); a(name); a(mode); a(uid); a(gid); a(rdev); }
};
struct LinkRequest {
  static constexpr Op kOp = Op::kLink;
  using Reply = NodeReply;
  At from;
  NodeId dir = 0;
  std::string name;
  template <typename A> void visit(A& a) { a(from); a(dir); a(name); }
};
// keep (only for an object given by its node): the node stays usable for GetAttr, SetAttr and extended attributes after
// its name is gone, as an open file needs.
struct UnlinkRequest {
  static constexpr Op kOp = Op::kUnlink;
  using Reply = Empty;
  At at;
  bool directory = false, keep = false;
  template <typename A> void visit(A& a) { a(at); a(directory); a(keep); }
};
// A source given by its node moves that node along, and everything below it. target is the node of what to_name
// names now, if the client has one: it is exchanged with the source, or removed (and kept, if keep_target).
struct RenameRequest {
  static constexpr Op kOp = Op::kRename;
  using Reply = Empty;
  At from;
  NodeId to_dir = 0;
  std::string to_name;
  uint32_t flags = 0;  // RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT
  NodeId target = 0;
  bool keep_target = false;
  template <typename A> void visit(A& a) {
    a(from); a(to_dir); a(to_name); a(flags); a(target); a(keep_target);
  }
};

struct StatFsReply {
  uint64_t type = 0, bsize = 0, blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0, namelen = 0, frsize = 0,
           flags = 0, fsid = 0;
  template <typename A> void visit(A& a) {
    a(type); a(bsize); a(blocks); a(bfree); a(bavail); a(files); a(ffree); a(namelen); a(frsize); a(flags); a(fsid);
  }
};
struct StatFsRequest {
  static constexpr Op kOp = Op::kStatFs;
  using Reply = StatFsReply;
  At at;
  template <typename A> void visit(A& a) { a(at); }
};

struct ValueReply { std::string value; template <typename A> void visit(A& a) { a(value); } };
// Extended attributes are those of regular files and directories; nothing else seems to have any. Get answers the
// whole value; E2BIG if it is longer than kMaxXattrValue.
struct GetXattrRequest {
  static constexpr Op kOp = Op::kGetXattr;
  using Reply = ValueReply;
  At at;
  std::string name;
  template <typename A> void visit(A& a) { a(at); a(name); }
};
// Of user.*, security.capability and the POSIX ACLs only; others are EPERM.
struct SetXattrRequest {
  static constexpr Op kOp = Op::kSetXattr;
  using Reply = Empty;
  At at;
  std::string name, value;
  uint32_t flags = 0;  // XATTR_CREATE, XATTR_REPLACE
  template <typename A> void visit(A& a) { a(at); a(name); a(value); a(flags); }
};
struct ListXattrRequest {
  static constexpr Op kOp = Op::kListXattr;
  using Reply = ValueReply;  // names, each ended by NUL
  At at;
  template <typename A> void visit(A& a) { a(at); }
};
struct RemoveXattrRequest {
  static constexpr Op kOp = Op::kRemoveXattr;
  using Reply = Empty;
  At at;
  std::string name;
  template <typename A> void visit(A& a) { a(at); a(name); }
};

struct FsyncRequest {
  static constexpr Op kOp = Op::kFsync;
  using Reply = Empty;
  At at;
  bool data_only = false;
  template <typename A> void visit(A& a) { a(at); a(data_only); }
};
struct ForgetRequest {
  static constexpr Op kOp = Op::kForget;
  using Reply = Empty;  // never sent
  std::vector<NodeId> nodes;
  template <typename A> void visit(A& a) { a(nodes); }
};

enum class Store : uint8_t { disk, memory };
// A fresh file without a name: two descriptors, read-only and read-write.
struct CreateBackingRequest {
  static constexpr Op kOp = Op::kCreateBacking;
  using Reply = Empty;
  Store store{};
  template <typename A> void visit(A& a) { a(store); }
};

// The container has ended with this exit code (128 + n for signal n): the gofer ends too, with it, for whoever watches it.
struct LeaveRequest {
  static constexpr Op kOp = Op::kLeave;
  using Reply = Empty;  // never sent
  uint8_t code = 0;
  template <typename A> void visit(A& a) { a(code); }
};

template <typename Request>
std::vector<std::byte> encode_request(uint64_t tag, const Request& body) {
  Writer w;
  w(RequestHeader{Request::kOp, tag});
  w(body);
  return w.take();
}

template <typename Body>
std::vector<std::byte> encode_reply(uint64_t tag, const Body& body) {
  Writer w;
  w(ReplyHeader{tag, 0});
  w(body);
  return w.take();
}
std::vector<std::byte> encode_error(uint64_t tag, Errno error);

// Who a reply is for. EBADMSG: too short to say.
Result<uint64_t> reply_tag(std::span<const std::byte> record);

// The body of a reply to a Request, or the gofer's error. EBADMSG: malformed, or an error that is no error number.
template <typename Request>
Result<typename Request::Reply> decode_reply(std::span<const std::byte> record) {
  Reader r(record);
  ReplyHeader h;
  r(h);
  if (r.bad() || h.error < 0 || h.error >= 512) return kEBADMSG;
  if (h.error != 0) return Errno(h.error);
  typename Request::Reply body{};
  r(body);
  if (!r.finished()) return kEBADMSG;
  return body;
}

}  // namespace base::wire::gofer

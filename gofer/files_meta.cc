// SPDX-License-Identifier: Apache-2.0
// Changing attributes, extended attributes, statfs and fsync.
#include <sys/stat.h>
#include <sys/xattr.h>

#include "gofer/files.h"
#include "gofer/tree.h"

namespace gofer {

using base::Fd;
using base::Result;
using namespace base;  // the errno constants
using wire::Attr;

namespace {

tree::Time time_of(uint32_t mask, uint32_t set, uint32_t now, int64_t ns) {
  if (mask & now) return {tree::Time::now, 0};
  if (mask & set) return {tree::Time::at, ns};
  return {};
}

Result<void> check_key(const std::string& key) {
  // Linux: fs/xattr.c answers ERANGE for both.
  if (key.empty() || key.size() > wire::kMaxXattrName) return kERANGE;
  if (key.find('\0') != std::string::npos) return kEINVAL;
  return {};
}

}  // namespace

Files::Reply<wire::SetAttrRequest> Files::handle(const wire::SetAttrRequest& q, Donated&) {
  if (q.mask & ~wire::kSetAll) return kEINVAL;
  if ((q.mask & wire::kSetUid && q.uid == UINT32_MAX) || (q.mask & wire::kSetGid && q.gid == UINT32_MAX))
    return kEINVAL;
  Held h = TRY(hold(q.at, Intent::modify));
  if (q.mask & wire::kSetSize) {
    if (S_ISDIR(h.attr.mode)) return kEISDIR;
    if (!S_ISREG(h.attr.mode)) return kEINVAL;
    if (h.place.dir < 0) return kESTALE;
    Fd fd = TRY(with_room([&] {
      return tree::open_regular(h.place.dir, h.place.checked(), h.fd, tree::Access::write);
    }));
    TRY(tree::truncate(fd.get(), q.size));
  }
  if (q.mask & (wire::kSetUid | wire::kSetGid))
    TRY(tree::change_owner(h.fd, q.mask & wire::kSetUid ? q.uid : UINT32_MAX,
                           q.mask & wire::kSetGid ? q.gid : UINT32_MAX));
  if (q.mask & wire::kSetMode) {
    if (S_ISLNK(h.attr.mode)) return kEOPNOTSUPP;
    if (h.place.dir < 0) {
      TRY(tree::change_mode(h.fd, q.mode, -1, nullptr));
    } else {
      Name name = h.place.checked();
      TRY(tree::change_mode(h.fd, q.mode, h.place.dir, &name));
    }
  }
  if (q.mask & (wire::kSetAtime | wire::kSetMtime | wire::kSetAtimeNow | wire::kSetMtimeNow))
    TRY(tree::change_times(h.fd, time_of(q.mask, wire::kSetAtime, wire::kSetAtimeNow, q.atime),
                           time_of(q.mask, wire::kSetMtime, wire::kSetMtimeNow, q.mtime)));
  Attr now = TRY(tree::attr_of(h.fd));
  refresh(h.place.node, now);
  return wire::AttrReply{now};
}

Files::Reply<wire::StatFsRequest> Files::handle(const wire::StatFsRequest& q, Donated&) {
  Held h = TRY(hold(q.at, Intent::read));
  return tree::stat_fs(h.fd);
}

Result<int> Files::readable(const Held& h, Fd& opened) {
  if (h.place.node && h.place.node->opened) return h.fd;
  if (S_ISDIR(h.attr.mode)) {
    opened = TRY(with_room([&] { return tree::open_listing(h.fd); }));
  } else if (S_ISREG(h.attr.mode) && h.place.dir >= 0) {
    opened = TRY(with_room([&] {
      return tree::open_regular(h.place.dir, h.place.checked(), h.fd, tree::Access::read);
    }));
  } else {
    return kEOPNOTSUPP;
  }
  return opened.get();
}

// Only regular files and directories have extended attributes here: no descriptor reaches those of the rest, which
// may have none of user.* anyway (man 7 xattr).
Files::Reply<wire::GetXattrRequest> Files::handle(const wire::GetXattrRequest& q, Donated&) {
  TRY(check_key(q.name));
  Held h = TRY(hold(q.at, Intent::read));
  if (!S_ISREG(h.attr.mode) && !S_ISDIR(h.attr.mode)) return kENODATA;
  Fd opened;
  return wire::ValueReply{TRY(tree::get_xattr(TRY(readable(h, opened)), q.name))};
}
Files::Reply<wire::ListXattrRequest> Files::handle(const wire::ListXattrRequest& q, Donated&) {
  Held h = TRY(hold(q.at, Intent::read));
  if (!S_ISREG(h.attr.mode) && !S_ISDIR(h.attr.mode)) return wire::ValueReply{};
  Fd opened;
  return wire::ValueReply{TRY(tree::list_xattr(TRY(readable(h, opened))))};
}
Files::Reply<wire::SetXattrRequest> Files::handle(const wire::SetXattrRequest& q, Donated&) {
  TRY(check_key(q.name));
  if (!wire::shared_xattr(q.name)) return kEPERM;
  if (q.value.size() > wire::kMaxXattrValue) return kE2BIG;
  if (q.flags & ~uint32_t{XATTR_CREATE | XATTR_REPLACE}) return kEINVAL;
  Held h = TRY(hold(q.at, Intent::modify));
  if (!S_ISREG(h.attr.mode) && !S_ISDIR(h.attr.mode)) return kEPERM;
  Fd opened;
  TRY(tree::set_xattr(TRY(readable(h, opened)), q.name, q.value, static_cast<int>(q.flags)));
  refresh(h.place.node, TRY(tree::attr_of(h.fd)));
  return wire::Empty{};
}
Files::Reply<wire::RemoveXattrRequest> Files::handle(const wire::RemoveXattrRequest& q, Donated&) {
  TRY(check_key(q.name));
  if (!wire::shared_xattr(q.name)) return kEPERM;
  Held h = TRY(hold(q.at, Intent::modify));
  if (!S_ISREG(h.attr.mode) && !S_ISDIR(h.attr.mode)) return kEPERM;
  Fd opened;
  TRY(tree::remove_xattr(TRY(readable(h, opened)), q.name));
  refresh(h.place.node, TRY(tree::attr_of(h.fd)));
  return wire::Empty{};
}

Files::Reply<wire::FsyncRequest> Files::handle(const wire::FsyncRequest& q, Donated&) {
  Held h = TRY(hold(q.at, Intent::read));
  Fd opened;
  auto fd = readable(h, opened);
  if (!fd.ok()) return fd.error() == kEOPNOTSUPP ? kEINVAL : fd.error();
  TRY(tree::sync(*fd, q.data_only));
  return wire::Empty{};
}

}  // namespace gofer

// SPDX-License-Identifier: Apache-2.0
// Listing directories.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "gofer/files.h"
#include "gofer/tree.h"

namespace gofer {

using base::Fd;
using base::Result;
using namespace base;  // the errno constants
using wire::NodeId;

namespace {
constexpr size_t kReplyHeaderBytes = 12;
constexpr size_t kListedDirBytes = 4 + 4 + 8 + wire::kAttrBytes + 8 + 1 + 4;  // without name and entries
constexpr size_t kMaxDepth = 64;  // of one answer
}  // namespace

Result<Files::Stream*> Files::stream(Node& n, uint64_t cookie) {
  NodeId id = NodeTable::id_of(n);
  auto it = std::find_if(streams_.begin(), streams_.end(), [&](const Stream& s) { return s.dir == id; });
  if (it == streams_.end()) {
    Stream s;
    s.dir = id;
    s.sought = cookie == 0;  // where it begins
    int dir = TRY(dir_fd(n));
    s.fd = TRY(with_room([&] { return tree::open_listing(dir); }));
    if (streams_.size() >= max_streams_)
      streams_.erase(std::min_element(streams_.begin(), streams_.end(),
                                      [](const Stream& a, const Stream& b) { return a.used < b.used; }));
    streams_.push_back(std::move(s));
    it = streams_.end() - 1;
    it->position = 0;
  } else if (cookie == 0) {
    it->sought = false;  // from the start again: see what is new
  }
  it->used = ++clock_;
  if (!it->sought || it->position != cookie) {
    it->sought = false;
    TRY(tree::seek(it->fd.get(), cookie));
    it->position = cookie;
    it->sought = true;
  }
  return &*it;
}

void Files::close_stream(NodeId dir) {
  std::erase_if(streams_, [&](const Stream& s) { return s.dir == dir; });
}

Result<void> Files::read_entries(Node& n, uint32_t want, size_t& room, wire::ReadDirReply& reply) {
  int dir = TRY(dir_fd(n));
  Stream* s = TRY(stream(n, reply.cookie));
  const size_t fixed = 4 + 8 + 8 + 1 + 1;
  bool stands = false;
  auto describe = [&](wire::Dirent& e) -> Result<void> {
    if (!(want & wire::kAllAttr) && !((want & wire::kDirAttr) && (e.type == DT_DIR || e.type == DT_UNKNOWN))) return {};
    Name name = TRY(Name::check(e.name));
    auto attr = tree::attr_at(dir, name);
    if (!attr.ok()) return {};
    e.has_attr = true;
    e.attr = *attr;
    if (want & wire::kXattrs) {
      if (!stands) stands = tree::stand_in(dir).ok();
      if (stands) tree::look_for_xattrs(name, e.attr);
    }
    if (S_ISLNK(e.attr.mode)) e.link = tree::read_link(dir, name).value_or(std::string());
    return {};
  };
  alignas(8) std::byte buf[16 * 1024];
  for (bool full = false; !full;) {
    // About as many records as will fit: 24 bytes and the name each, against `fixed`, perhaps attributes, and the name.
    size_t ask = std::clamp<size_t>((want & wire::kAllAttr) ? room / 3 : room, 512, sizeof buf);
    size_t got = TRY(tree::list(s->fd.get(), {buf, ask}));
    if (got == 0) {
      reply.end = true;
      break;
    }
    for (size_t at = 0; at < got;) {
      uint16_t length;
      wire::Dirent e;
      memcpy(&e.ino, buf + at, 8);
      memcpy(&e.cookie, buf + at + 8, 8);
      memcpy(&length, buf + at + 16, 2);
      memcpy(&e.type, buf + at + 18, 1);
      CHECK(length > 19 && length <= got - at);
      const char* name = reinterpret_cast<const char*>(buf + at + 19);
      e.name.assign(name, strnlen(name, length - 19u));
      at += length;
      if (!wire::valid_name(e.name)) {  // "." and "..", and what a broken file system makes up
        s->position = reply.cookie = e.cookie;
        continue;
      }
      TRY(describe(e));
      size_t bytes = fixed + e.name.size() + (e.has_attr ? wire::kAttrBytes : 0) + (e.has_attr && wire::is_link(e.attr) ? 4 : 0);
      if (bytes + e.link.size() > room) e.link.clear();
      bytes += e.link.size();
      if (bytes > room) {
        full = true;
        s->sought = false;
        break;
      }
      room -= bytes;
      s->position = reply.cookie = e.cookie;
      reply.entries.push_back(std::move(e));
    }
    if (room < fixed + wire::kAttrBytes + wire::kMaxName) full = true;
  }
  if (reply.end) close_stream(NodeTable::id_of(n));
  return {};
}

Files::Reply<wire::ReadDirRequest> Files::handle(const wire::ReadDirRequest& q, Donated&) {
  if (q.max_bytes < wire::kMinReadDir || (q.want & ~wire::kWantAll)) return kEINVAL;
  Node* n = TRY(nodes_.find(q.dir));
  wire::ReadDirReply reply;
  reply.cookie = q.cookie;
  size_t room = std::min<size_t>(q.max_bytes, wire::kMaxRecord) - kReplyHeaderBytes - 4 - 9;
  TRY(read_entries(*n, q.want, room, reply));
  return reply;
}

Result<wire::ListedDir> Files::list_one(Node& parent, const std::string& text, const wire::ReadDirsRequest& q, bool first, size_t& room) {
  if (room < kListedDirBytes + text.size() + wire::kMinReadDir) return kENOBUFS;
  size_t left = room - kListedDirBytes - text.size();
  wire::ListedDir out;
  out.name = text;
  int dir = TRY(dir_fd(parent));
  Name name = TRY(Name::check(text));
  Fd fd = TRY(with_room([&] { return tree::open_directory(dir, name); }));
  out.attr = TRY(tree::attr_of(fd.get()));
  // Whether so large a directory would fit is not worth finding out: most file systems spend less on an entry than we do.
  if (!first && out.attr.size > 4096 && out.attr.size > left / 4) return kEFBIG;
  Node* n = TRY(nodes_.add(&parent, text, parent.attach, out.attr));
  cache(*n, std::move(fd));
  out.node = NodeTable::id_of(*n);
  wire::ReadDirReply some;
  auto read = read_entries(*n, q.want, left, some);
  if (!read.ok() || (!some.end && !first)) {  // another time, from its beginning
    close_stream(out.node);
    nodes_.forget(*n);
    return read.ok() ? kENOBUFS : read.error();
  }
  out.entries = std::move(some.entries);
  out.cookie = some.cookie;
  out.end = some.end;
  room = left;
  return out;
}

bool Files::list_below(const wire::ReadDirsRequest& q, size_t& room, std::vector<wire::ListedDir>& listed) {
  struct Level {
    size_t in, next = 0;
  };
  std::vector<Level> levels{{listed.size() - 1}};
  while (!levels.empty()) {
    const size_t in = levels.back().in, i = levels.back().next++;
    if (i >= listed[in].entries.size()) {
      levels.pop_back();
      continue;
    }
    const wire::Dirent& e = listed[in].entries[i];
    if (!e.has_attr || !S_ISDIR(e.attr.mode) || levels.size() >= kMaxDepth) continue;
    if (listed.size() >= wire::kMaxListed) return false;
    auto parent = nodes_.find(listed[in].node);
    if (!parent.ok()) continue;
    const std::string name = e.name;
    auto one = list_one(**parent, name, q, false, room);
    if (!one.ok() && one.error() == kENOBUFS) return false;
    if (!one.ok()) continue;
    one->in = static_cast<uint32_t>(in + 1);
    listed.push_back(std::move(*one));
    levels.push_back({listed.size() - 1});
  }
  return true;
}

Files::Reply<wire::ReadDirsRequest> Files::handle(const wire::ReadDirsRequest& q, Donated&) {
  if (q.names.empty() || q.names.size() > wire::kMaxWalk || q.max_bytes < wire::kMinReadDirs || (q.want & ~wire::kWantAll)) return kEINVAL;
  for (const std::string& s : q.names) TRY(Name::check(s));
  Node* parent = TRY(nodes_.find(q.dir));
  wire::ReadDirsReply reply;
  size_t room = std::min<size_t>(q.max_bytes, wire::kMaxRecord) - kReplyHeaderBytes - 4;
  for (const std::string& name : q.names) {
    const bool first = reply.listed.empty();
    auto one = list_one(*parent, name, q, first, room);
    if (!one.ok()) {
      if (first) return one.error();
      if (one.error() == kENOBUFS) break;
      if (room < kListedDirBytes + name.size()) break;
      room -= kListedDirBytes + name.size();
      one = wire::ListedDir{};
      one->name = name;
    }
    reply.listed.push_back(std::move(*one));
    const wire::ListedDir& last = reply.listed.back();
    if (reply.listed.size() >= wire::kMaxListed || (last.node && !last.end)) break;
    if (last.node && q.below && !list_below(q, room, reply.listed)) break;
  }
  return reply;
}

}  // namespace gofer

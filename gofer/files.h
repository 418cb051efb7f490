// SPDX-License-Identifier: Apache-2.0
// Files: what each request of the protocol does. Every handler checks all that the client said (ids, names, flags, the
// attach point's read-only mark) before the host is asked anything; an error leaves no node behind.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/wire/gofer.h"
#include "gofer/name.h"
#include "gofer/nodes.h"

namespace gofer {

struct AttachPoint {
  uint32_t index = 0;
  bool read_only = false;
  bool slave = false;  // the host mounts and unmounts below it
};
struct Limits {
  size_t nodes = 1 << 18;
  size_t dir_fds = 4096;  // cached directories, and again as many removed files kept open
  size_t streams = 16;    // directories being listed
};
// Descriptors that go with a reply.
using Donated = std::vector<base::Fd>;

class Files {
 public:
  // root: a directory with a "0", "1" … for each attach point, and perhaps "store" and "shm".
  // ENOSYS: the host has no openat2. ELOOP or ENXIO: an attach point is neither file nor directory.
  static base::Result<std::unique_ptr<Files>> create(base::Fd root, std::span<const AttachPoint> points, Limits limits);
  ~Files();

  template <typename Request>
  using Reply = base::Result<typename Request::Reply>;
  Reply<wire::HelloRequest> handle(const wire::HelloRequest&, Donated&);
  Reply<wire::AttachRequest> handle(const wire::AttachRequest&, Donated&);
  Reply<wire::WalkRequest> handle(const wire::WalkRequest&, Donated&);
  Reply<wire::ReadDirRequest> handle(const wire::ReadDirRequest&, Donated&);
  Reply<wire::ReadDirsRequest> handle(const wire::ReadDirsRequest&, Donated&);
  Reply<wire::GetAttrRequest> handle(const wire::GetAttrRequest&, Donated&);
  Reply<wire::SetAttrRequest> handle(const wire::SetAttrRequest&, Donated&);
  Reply<wire::ReadLinkRequest> handle(const wire::ReadLinkRequest&, Donated&);
  Reply<wire::OpenRequest> handle(const wire::OpenRequest&, Donated&);
  Reply<wire::CreateRequest> handle(const wire::CreateRequest&, Donated&);
  Reply<wire::MkdirRequest> handle(const wire::MkdirRequest&, Donated&);
  Reply<wire::SymlinkRequest> handle(const wire::SymlinkRequest&, Donated&);
  Reply<wire::MknodRequest> handle(const wire::MknodRequest&, Donated&);
  Reply<wire::LinkRequest> handle(const wire::LinkRequest&, Donated&);
  Reply<wire::UnlinkRequest> handle(const wire::UnlinkRequest&, Donated&);
  Reply<wire::RenameRequest> handle(const wire::RenameRequest&, Donated&);
  Reply<wire::StatFsRequest> handle(const wire::StatFsRequest&, Donated&);
  Reply<wire::GetXattrRequest> handle(const wire::GetXattrRequest&, Donated&);
  Reply<wire::SetXattrRequest> handle(const wire::SetXattrRequest&, Donated&);
  Reply<wire::ListXattrRequest> handle(const wire::ListXattrRequest&, Donated&);
  Reply<wire::RemoveXattrRequest> handle(const wire::RemoveXattrRequest&, Donated&);
  Reply<wire::FsyncRequest> handle(const wire::FsyncRequest&, Donated&);
  Reply<wire::ForgetRequest> handle(const wire::ForgetRequest&, Donated&);
  Reply<wire::CreateBackingRequest> handle(const wire::CreateBackingRequest&, Donated&);
  Reply<wire::OpenAheadRequest> handle(const wire::OpenAheadRequest&, Donated&);

  // After a request: closes the directories on mounts below a slave, which must not keep the host from unmounting them.
  void let_go();

  const NodeTable& nodes() const { return nodes_; }
  // Attach points whose mount lacks nodev. A file that its other users swap for a device between two looks could
  // then be opened for a moment.
  std::vector<uint32_t> points_with_devices() const;

 private:
  struct Attached {
    Node* node = nullptr;
    bool read_only = false;
    uint64_t mount = 0;      // of a slave: its own; what lies on another is not held between requests
  };
  // Where an object is: `name` in directory `dir`; a removed node that is kept has only its own descriptor.
  struct Place {
    Node* node = nullptr;    // null when the request named it by its directory
    Node* parent = nullptr;  // null for an attach point
    uint16_t attach = 0;
    int dir = -1;            // borrowed; -1 for a removed node
    std::string name;
    Name checked() const;    // Precondition: dir is not -1
  };
  // An object held by an O_PATH descriptor (or the one that keeps it), and what it is.
  struct Held {
    Place place;
    base::Fd own;
    int fd = -1;
    wire::Attr attr;
  };
  enum class Intent { read, modify };  // modify: EROFS on a read-only attach point
  // A directory in which a name is to be made.
  struct Spot {
    Node* dir_node;
    int dir;
    Name name;
  };
  struct Stream {
    wire::NodeId dir = 0;
    base::Fd fd;
    uint64_t position = 0;
    bool sought = true;  // the descriptor stands at `position`
    uint64_t used = 0;
  };
  struct Store {
    base::Fd dir;
    uint64_t next = 0;
  };

  explicit Files(base::Fd root, Limits limits);
  bool read_only(const Node& n) const { return attached_[n.attach].read_only; }
  // Runs an open again with some cached descriptors closed, if there were too many.
  template <typename F>
  auto with_room(F&& open) -> decltype(open());
  void cache(Node& n, base::Fd fd);
  // The descriptor of a directory, cached. Valid while fewer than NodeTable::kNewest others are asked for.
  base::Result<int> dir_fd(Node& n);
  base::Result<Place> place(const wire::At& at, Intent intent);
  base::Result<Held> hold(const wire::At& at, Intent intent);
  base::Result<Place> named(const wire::At& at);
  // A descriptor open for reading of what h holds: its own, or `opened`. EOPNOTSUPP if there can be none.
  base::Result<int> readable(const Held& h, base::Fd& opened);
  base::Result<Spot> spot(wire::NodeId dir, const std::string& name);
  base::Result<wire::NodeReply> added(const Spot& s, const std::string& name, const wire::Attr& attr);
  base::Result<void> open_held(const Held& h, uint32_t flags, bool& has_read, bool& has_write, Donated& out);
  Reply<wire::OpenRequest> open_for_reading(const wire::At& at, Donated& out);
  Reply<wire::CreateRequest> create_unnamed(const wire::CreateRequest& q, Donated& out);
  base::Result<void> keep(Node& n);
  base::Result<Stream*> stream(Node& n, uint64_t cookie);
  void close_stream(wire::NodeId dir);
  // Entries from r.cookie on, as many as there is room for in the reply.
  base::Result<void> read_entries(Node& n, uint32_t want, size_t& room, wire::ReadDirReply& r);
  // One directory of a ReadDirs. ENOBUFS: there is too little room left; EFBIG: it is better asked for alone.
  base::Result<wire::ListedDir> list_one(Node& parent, const std::string& name, const wire::ReadDirsRequest& q, bool first, size_t& room);
  // What is below the last one of `listed`. Whether there is room for more.
  bool list_below(const wire::ReadDirsRequest& q, size_t& room, std::vector<wire::ListedDir>& listed);
  void relocate(Node& n, Node& parent, const std::string& name);
  void refresh(Node* n, const wire::Attr& attr);

  base::Fd root_;
  NodeTable nodes_;
  std::vector<wire::NodeId> passing_;  // for let_go()
  std::vector<Attached> attached_;
  std::vector<Stream> streams_;
  size_t max_streams_;
  uint64_t clock_ = 0;
  Store disk_, memory_;
  bool greeted_ = false;

 public:
  bool greeted() const { return greeted_; }
};

template <typename F>
auto Files::with_room(F&& open) -> decltype(open()) {
  auto r = open();
  if (r.ok() || !(r.error() == base::kEMFILE || r.error() == base::kENFILE)) return r;
  size_t freed = nodes_.drop_fds(64) + streams_.size();
  streams_.clear();
  if (freed == 0) return r;
  return open();
}

}  // namespace gofer

// SPDX-License-Identifier: Apache-2.0
// NodeTable: what the ids of the protocol stand for. A node is a name in a parent node and the identity that was found
// there; a directory also caches an O_PATH descriptor, of which only so many are held at a time. No host calls
// but close.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "gofer/name.h"

namespace gofer {

struct Node {
  static constexpr uint32_t kNone = UINT32_MAX;
  std::string name;          // in the parent; of an attach point, in the gofer's root
  uint64_t ino = 0, dev = 0;
  uint32_t index = 0, generation = 0;
  uint32_t parent = kNone;   // kNone for an attach point
  uint32_t children = 0;     // nodes whose parent this is
  uint32_t newer = kNone, older = kNone;  // among directories with a cached descriptor; older also chains free slots
  base::Fd fd;               // a directory's O_PATH descriptor, or what a removed node is kept by
  uint16_t attach = 0;
  uint16_t type = 0;         // S_IFMT part of the mode
  bool live = false;         // the client knows it; false: kept for its children only, or a free slot
  bool gone = false;         // removed, or lost: its name is not to be used
  bool pinned = false;       // fd is not a cache: never closed to make room
  bool opened = false;       // fd is open for reading, not O_PATH

  bool is_dir() const { return type == 0040000; }
};

class NodeTable {
 public:
  // At most max_nodes nodes, max_fds cached and as many pinned descriptors; max_fds is at least kNewest * 2.
  NodeTable(size_t max_nodes, size_t max_fds);

  static wire::NodeId id_of(const Node& n) { return uint64_t{n.generation} << 32 | n.index; }
  // EBADF for an id that was never given out or is forgotten.
  base::Result<Node*> find(wire::NodeId id);
  // ENFILE: too many nodes.
  base::Result<Node*> add(Node* parent, std::string name, uint16_t attach, const wire::Attr& attr);
  Node* parent_of(const Node& n) { return n.parent == Node::kNone ? nullptr : &slot(n.parent); }
  bool full() const { return used_ >= max_nodes_; }
  // The client's last use of the id. Attach points stay.
  void forget(Node& n);
  // n is top or something under it.
  bool is_under(const Node& n, const Node& top);
  // Precondition: new_parent is not under n.
  void move(Node& n, Node& new_parent, std::string new_name);
  // The name is not to be used any more; a pinned descriptor stays.
  void lose(Node& n);

  // Caches a directory's descriptor, which may close the one unused for longest, but none of the kNewest.
  static constexpr size_t kNewest = 8;
  void cache_fd(Node& n, base::Fd fd);
  void uncache(wire::NodeId id);
  bool has_room_for_fd() const { return cached_ < max_fds_; }
  void touch(Node& n);
  // Closes up to `count` cached descriptors, the longest unused first, none of the kNewest.
  size_t drop_fds(size_t count);
  // Keeps n by this descriptor. ENFILE: too many are kept.
  base::Result<void> pin(Node& n, base::Fd fd, bool opened);
  void unpin(Node& n);

  size_t nodes() const { return used_; }
  size_t cached_fds() const { return cached_; }
  size_t pinned_fds() const { return pinned_; }

 private:
  static constexpr size_t kChunk = 128;
  Node& slot(uint32_t index) { return chunks_[index / kChunk][index % kChunk]; }
  void take_out(Node& n);   // of the list of cached descriptors
  void put_newest(Node& n);
  void release(Node& n);    // frees it, and parents that waited for it

  std::vector<std::unique_ptr<Node[]>> chunks_;
  size_t max_nodes_, max_fds_;
  size_t used_ = 0, cached_ = 0, pinned_ = 0;
  uint32_t free_ = Node::kNone;
  uint32_t newest_ = Node::kNone, oldest_ = Node::kNone;
};

}  // namespace gofer

// SPDX-License-Identifier: Apache-2.0
// Slots with generations, a tree by parent index, and a list of cached descriptors by last use.
#include "gofer/nodes.h"

#include <utility>

#include "base/check.h"

namespace gofer {

using base::Result;

NodeTable::NodeTable(size_t max_nodes, size_t max_fds) : max_nodes_(max_nodes), max_fds_(max_fds) {
  CHECK(max_nodes < Node::kNone && max_fds >= kNewest * 2);
}

Result<Node*> NodeTable::find(wire::NodeId id) {
  auto index = static_cast<uint32_t>(id);
  if (index >= chunks_.size() * kChunk) return base::kEBADF;
  Node& n = slot(index);
  if (!n.live || n.generation != id >> 32) return base::kEBADF;
  return &n;
}

Result<Node*> NodeTable::add(Node* parent, std::string name, uint16_t attach, const wire::Attr& attr) {
  if (used_ >= max_nodes_) return base::kENFILE;
  if (free_ == Node::kNone) {
    auto first = static_cast<uint32_t>(chunks_.size() * kChunk);
    chunks_.push_back(std::make_unique<Node[]>(kChunk));
    for (uint32_t i = kChunk; i-- > 0;) {
      Node& n = slot(first + i);
      n.index = first + i;
      n.older = std::exchange(free_, n.index);
    }
  }
  Node& n = slot(free_);
  free_ = std::exchange(n.older, Node::kNone);
  used_++;
  n.generation++;
  n.live = true;
  n.name = std::move(name);
  n.attach = attach;
  n.ino = attr.ino;
  n.dev = attr.dev;
  n.type = static_cast<uint16_t>(attr.mode & 0170000);
  if (parent) {
    n.parent = parent->index;
    parent->children++;
  }
  return &n;
}

void NodeTable::forget(Node& n) {
  if (n.parent == Node::kNone) return;
  n.live = false;
  if (n.children == 0) release(n);
}

void NodeTable::release(Node& first) {
  Node* n = &first;
  while (n) {
    if (n->pinned) unpin(*n);
    else if (n->fd.valid()) take_out(*n);
    n->fd.reset();
    Node* parent = parent_of(*n);
    uint32_t index = n->index, generation = n->generation;
    *n = Node();
    n->index = index;
    n->generation = generation;
    used_--;
    // A slot whose generations are used up is never given out again: ids stay unique.
    if (generation != UINT32_MAX) n->older = std::exchange(free_, index);
    CHECK(parent);
    parent->children--;
    n = !parent->live && parent->children == 0 ? parent : nullptr;
  }
}

bool NodeTable::is_under(const Node& n, const Node& top) {
  for (const Node* at = &n; at; at = parent_of(*at))
    if (at == &top) return true;
  return false;
}

void NodeTable::move(Node& n, Node& new_parent, std::string new_name) {
  Node* old = parent_of(n);
  CHECK(old && !is_under(new_parent, n));
  n.name = std::move(new_name);
  n.attach = new_parent.attach;
  n.parent = new_parent.index;
  new_parent.children++;
  old->children--;
  if (!old->live && old->children == 0) release(*old);
}

void NodeTable::lose(Node& n) {
  n.gone = true;
  if (n.pinned || !n.fd.valid()) return;
  take_out(n);
  n.fd.reset();
}

void NodeTable::take_out(Node& n) {
  (n.newer == Node::kNone ? newest_ : slot(n.newer).older) = n.older;
  (n.older == Node::kNone ? oldest_ : slot(n.older).newer) = n.newer;
  n.newer = n.older = Node::kNone;
  cached_--;
}

void NodeTable::put_newest(Node& n) {
  n.newer = Node::kNone;
  n.older = newest_;
  (newest_ == Node::kNone ? oldest_ : slot(newest_).newer) = n.index;
  newest_ = n.index;
  cached_++;
}

void NodeTable::cache_fd(Node& n, base::Fd fd) {
  CHECK(!n.fd.valid());
  if (!has_room_for_fd()) drop_fds(1);
  n.fd = std::move(fd);
  put_newest(n);
}

void NodeTable::uncache(wire::NodeId id) {
  auto index = static_cast<uint32_t>(id);
  if (index >= chunks_.size() * kChunk) return;
  Node& n = slot(index);  // perhaps forgotten, and there for its children only
  if (n.generation != id >> 32 || n.pinned || !n.fd.valid()) return;
  take_out(n);
  n.fd.reset();
}

void NodeTable::touch(Node& n) {
  if (n.pinned || !n.fd.valid() || newest_ == n.index) return;
  take_out(n);
  put_newest(n);
}

size_t NodeTable::drop_fds(size_t count) {
  size_t dropped = 0;
  while (dropped < count && cached_ > kNewest) {
    Node& n = slot(oldest_);
    take_out(n);
    n.fd.reset();
    dropped++;
  }
  return dropped;
}

Result<void> NodeTable::pin(Node& n, base::Fd fd, bool opened) {
  if (n.pinned) return {};
  if (pinned_ >= max_fds_) return base::kENFILE;
  if (n.fd.valid()) take_out(n);
  n.fd = std::move(fd);
  n.pinned = true;
  n.opened = opened;
  pinned_++;
  return {};
}

void NodeTable::unpin(Node& n) {
  if (!n.pinned) return;
  n.fd.reset();
  n.pinned = n.opened = false;
  pinned_--;
}

}  // namespace gofer

// SPDX-License-Identifier: Apache-2.0
// Who walks a tree (find, ls -R, tar) asks for one directory after the other: the gofer is asked for the next ones, and for what is below
// them, with the one that is wanted.
#include "sentry/fs/gofer/host_inode.h"

namespace sentry::fs::gofer {

// Whoever has read two directories of this one, or walks a tree, will read the others as well: each time as many more as were of use.
std::vector<std::string> Directory::next_to_list(std::string_view name, uint32_t want, unsigned walking) {
  constexpr unsigned kSeen = 2;
  std::vector<std::string> names{std::string(name)};
  MutexLock l(mu_);
  if (!listing_ || !changed_.empty()) return names;
  auto first = listing_->find(name);
  if (!first) return names;
  const unsigned seen = std::max(++listed_below_, walking);
  if (seen <= kSeen) return names;
  size_t most = std::min<size_t>(4u * seen, wire::kMaxWalk);
  listing_->read_ahead.resize(listing_->size());
  for (size_t n = 1; n < listing_->size() && names.size() < most; n++) {
    size_t i = (*first + n) % listing_->size();
    const Listing::Entry& e = listing_->at(i);
    const uint8_t had = listing_->read_ahead[i];
    if (!e.has_attr || !S_ISDIR(e.attr.mode) || (had & want) == want) continue;
    if (!gofer().read_only() && listing_->spent(i) && !had) continue;
    names.push_back(e.name);
  }
  return names;
}

Result<Directory::Begun> Directory::read_ahead(Directory& child, uint64_t changes, std::string_view name, uint32_t want, unsigned walking) {
  constexpr unsigned kSeen = 2;
  wire::ReadDirsRequest q;
  q.names = next_to_list(name, want, walking);
  q.want = want;
  q.below = walking > kSeen;
  if (q.below) q.max_bytes = static_cast<uint32_t>(wire::kMaxRecord >> (walking < kSeen + 4 ? kSeen + 4 - walking : 0));
  Ref<Node> dir = TRY(node());
  q.dir = dir->id();
  uint64_t modifications = gofer().modifications();
  auto reply = client().call(q);
  if (!reply.ok()) return Begun{};
  std::vector<RefOrNull<Node>> nodes;  // all are ours to forget
  for (auto& d : reply->listed) nodes.push_back(d.node ? RefOrNull<Node>(TRY(gofer().node_of(d.node))) : RefOrNull<Node>());
  Begun answer;
  std::vector<RefOrNull<HostInode>> taken(nodes.size());  // those whose listings are now there
  size_t asked = 0;
  for (size_t i = 0; i < nodes.size(); i++) {
    wire::ListedDir& d = reply->listed[i];
    const bool below = d.in != 0;
    if (below ? !q.below || d.in > i || !nodes[i] || !nodes[d.in - 1] || !wire::valid_name(d.name)
              : asked >= q.names.size() || d.name != q.names[asked++])
      return client().bad_reply();
    if (!nodes[i]) {
      asked_for(d.name, q.want);
      continue;
    }
    if (!S_ISDIR(d.attr.mode) || !well_formed(d.entries) || (d.entries.empty() && !d.end)) return client().bad_reply();
    const Key key = key_of(d.attr);
    if (i == 0) {
      if (below || child.key_of_self() != key) return Begun{};
      asked_for(d.name, q.want);
      child.found_at(Place{dir, d.name, nodes[0]});
      if (!d.end) {
        answer.first = wire::ReadDirReply{std::move(d.entries), d.cookie, false};
        continue;
      }
      auto fresh = make_ref<Listing>();
      fresh->want = q.want;
      fresh->modifications = modifications;
      add_to(*fresh, std::move(d.entries));
      fresh->all_spent = modifications != gofer().modifications();
      child.take_listing(fresh, changes);
      answer.whole = fresh;
      taken[0] = Ref<HostInode>(child);
      continue;
    }
    // Nothing that we did meanwhile may be missing in what was read.
    if (!d.end || modifications != gofer().modifications()) continue;
    if (below && !taken[d.in - 1]) continue;
    Directory& parent = below ? static_cast<Directory&>(*taken[d.in - 1]) : *this;
    if (!parent.is_listed_as(d.name, key, q.want)) continue;
    // By the node that the parent goes by: it may have had one before this reply.
    auto parents = parent.find_place();
    if (!parents.ok() || !parents->own) continue;
    auto inode = TRY(gofer().inode_for(d.attr, Place{parents->own, d.name, nodes[i]}));
    auto& other = static_cast<Directory&>(*inode);
    uint64_t others_changes = other.changes();
    if (other.is_listed(q.want)) continue;
    auto fresh = make_ref<Listing>();
    fresh->want = q.want;
    fresh->modifications = modifications;
    add_to(*fresh, std::move(d.entries));
    if (modifications != gofer().modifications()) continue;
    other.listed_in(parent.key_of_self());
    other.take_listing(fresh, others_changes);
    taken[i] = inode;
  }
  return answer;
}

// Whether the name is still that directory; its own listing is there now, read with `want`.
bool Directory::is_listed_as(std::string_view name, const Key& key, uint32_t want) {
  MutexLock l(mu_);
  if (!listing_ || changed_.contains(name)) return false;
  auto i = listing_->find(name);
  if (!i || !listing_->at(*i).has_attr || key_of(listing_->at(*i).attr) != key) return false;
  listing_->read_ahead.resize(listing_->size());
  if (!gofer().read_only()) {
    if (listing_->spent(*i) && !listing_->read_ahead[*i]) return false;
    listing_->spend(*i);
  }
  listing_->read_ahead[*i] |= static_cast<uint8_t>(want);
  return true;
}

void Directory::asked_for(std::string_view name, uint32_t want) {
  MutexLock l(mu_);
  if (!listing_) return;
  listing_->read_ahead.resize(listing_->size());
  if (auto i = listing_->find(name)) listing_->read_ahead[*i] |= static_cast<uint8_t>(want);
}

Key Directory::key_of_self() const {
  MutexLock l(mu_);
  return key_of(attr_);
}

}  // namespace sentry::fs::gofer

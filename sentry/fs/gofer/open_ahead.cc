// SPDX-License-Identifier: Apache-2.0
// Who goes through a directory (grep -r, tar, cp -r, cat *) opens one file after the other, in the order of its listing or of the names.
// After a few the gofer is asked for several at once, each time for more.
#include <sys/stat.h>

#include "sentry/fs/gofer/host_inode.h"

namespace sentry::fs::gofer {
namespace {

constexpr unsigned kSeen = 3;        // files in order before the first guess
constexpr unsigned kMaxSkipped = 8;  // entries between two that count as following each other: other types, other programs' taste
constexpr size_t kSmallest = 3;      // files of a request with guesses

}  // namespace

// What follows `name` in the order in which files are being opened; the name comes first. Few: no guess.
std::vector<std::string> Directory::next_to_open(const std::string& name) {
  std::vector<std::string> names;
  std::vector<std::pair<size_t, wire::Attr>> candidates;
  size_t most;
  RefOrNull<Listing> all;
  {
    MutexLock l(mu_);
    if (!listing_ || changed_.contains(name)) return names;
    all = listing_;
    const auto here = all->find(name);
    if (!here) return names;
    auto next = [&](size_t i, Order order) { return order == Order::listed ? i + 1 : all->next_by_name(i); };
    auto follows = [&](Order order) REQUIRES(mu_) {
      size_t i = last_opened_;
      for (unsigned n = 0; n < kMaxSkipped && i < all->size(); n++)
        if ((i = next(i, order)) == *here) return true;
      return false;
    };
    const Order order = opening_ != Order::by_name && follows(Order::listed) ? Order::listed
                        : opening_ != Order::listed && follows(Order::by_name) ? Order::by_name : Order::none;
    opened_in_order_ = order == Order::none ? 0 : opened_in_order_ + 1;
    opening_ = order;
    last_opened_ = *here;
    if (opened_in_order_ < kSeen) {
      if (opened_in_order_ <= 1) opening_ = Order::none;  // one step may be of either order
      return names;
    }
    most = std::min<size_t>(4 * (opened_in_order_ - kSeen + 1), wire::kMaxFds);
    for (size_t i = next(*here, order), n = 0; i < all->size() && n < 2 * most; i = next(i, order), n++) {
      const Listing::Entry& e = all->at(i);
      if (e.has_attr && S_ISREG(e.attr.mode) && !changed_.contains(e.name)) candidates.emplace_back(i, e.attr);
    }
  }
  names.push_back(name);
  size_t last = 0;
  for (auto& [i, attr] : candidates) {
    if (names.size() >= most) break;
    auto live = gofer().find(key_of(attr), attr.mode);
    if (live && live->is_regular() && static_cast<Regular&>(*live).has_fd()) continue;
    names.push_back(all->at(i).name);
    last = i;
  }
  if (names.size() >= kSmallest) {
    MutexLock l(mu_);
    last_opened_ = last;
  }
  return names;
}

std::optional<wire::OpenReply> Directory::open_ahead(const std::string& name, ReplyFds* fds, Place* at) {
  wire::OpenAheadRequest q;
  q.names = next_to_open(name);
  if (q.names.size() < kSmallest) return std::nullopt;
  auto dir = node();
  if (!dir.ok()) return std::nullopt;
  q.dir = (*dir)->id();
  const uint64_t modifications = gofer().modifications();
  ReplyFds all;
  auto reply = client().call(q, &all);
  if (!reply.ok()) return std::nullopt;  // the question for one file tells why, or finds it elsewhere
  const auto& opened = reply->opened;
  size_t count = 0;
  for (const wire::OpenedFile& f : opened) count += f.node != 0;
  if (opened.size() != q.names.size() || count != all.count || opened[0].node == 0) {
    (void)client().bad_reply();
    return std::nullopt;
  }
  std::vector<Ref<HostInode>> ahead;
  for (size_t i = 1, k = 1; i < opened.size(); i++) {
    if (opened[i].node == 0) continue;
    Fd fd = std::move(all.fd[k++]);
    auto own = gofer().node_of(opened[i].node);  // ours to forget
    if (!own.ok()) return std::nullopt;
    const wire::Attr& attr = opened[i].attr;
    // Nothing that we did meanwhile may be missing in what was read.
    if (modifications != gofer().modifications() || !is_entry(q.names[i], key_of(attr))) continue;
    auto inode = gofer().inode_for(attr, Place{*dir, q.names[i], *own});
    if (!inode.ok() || !(*inode)->is_regular()) continue;
    (*inode)->listed_in(key_of_self());
    static_cast<Regular&>(**inode).opened_ahead(attr, std::move(fd));
    ahead.push_back(*inode);
  }
  {
    MutexLock l(mu_);
    ahead.swap(ahead_);
  }
  fds->fd[0] = std::move(all.fd[0]);
  fds->count = 1;
  *at = Place{*dir, name, nullptr};
  return wire::OpenReply{opened[0].node, opened[0].attr, true, false};
}

// Whether the name is still that object; an inode of it is about to be made, which knows better than the listing.
bool Directory::is_entry(std::string_view name, const Key& key) {
  MutexLock l(mu_);
  if (!listing_ || changed_.contains(name)) return false;
  auto i = listing_->find(name);
  if (!i || !listing_->at(*i).has_attr || key_of(listing_->at(*i).attr) != key) return false;
  if (!gofer().read_only()) listing_->spend(*i);
  return true;
}

}  // namespace sentry::fs::gofer

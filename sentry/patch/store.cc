// SPDX-License-Identifier: Apache-2.0
#include "sentry/patch/store.h"

#include <algorithm>

namespace sentry::patch {
namespace {

void add(Counts& to, const Counts& c) {
  to.mov += c.mov;
  to.pun += c.pun;
  to.unfit += c.unfit;
  to.pages += c.pages;
}

}  // namespace

Store& Store::instance() {
  static auto* store = new Store;  // never destroyed
  return *store;
}

RefOrNull<Text> Store::find(const ContentId& id, const Domain& domain, const Extent& extent) {
  if (!enabled() || domain.none()) return nullptr;
  MutexLock l(mu_);
  auto it = texts_.find({id, domain});
  if (it == texts_.end() || !(it->second.text->extent() == extent)) return nullptr;
  it->second.used = ++clock_;
  return it->second.text;
}

Result<Ref<Text>> Store::get(const ContentId& id, const Domain& domain, const Extent& extent) {
  if (!enabled() || domain.none()) return kEINVAL;
  if (RefOrNull<Text> have = find(id, domain, extent)) return Ref<Text>(*have);
  Ref<Text> fresh = TRY(Text::create(extent, slot_.load(std::memory_order_relaxed)));
  RefOrNull<Text> gone;  // goes outside the lock
  MutexLock l(mu_);
  if (auto it = texts_.find({id, domain}); it != texts_.end()) {
    if (it->second.text->extent() == extent) return it->second.text;
    return kEINVAL;  // mapped otherwise elsewhere; the first one counts
  }
  if (texts_.size() >= kMaxTexts) {
    auto oldest = texts_.end();
    for (auto it = texts_.begin(); it != texts_.end(); ++it)
      if (it->second.text->ref_count() == 1 && (oldest == texts_.end() || it->second.used < oldest->second.used)) oldest = it;
    if (oldest == texts_.end()) return kEAGAIN;
    add(dropped_, oldest->second.text->counts());
    gone = oldest->second.text;
    texts_.erase(oldest);
  }
  texts_.emplace(Key{id, domain}, Entry{fresh, ++clock_});
  return fresh;
}

Counts Store::counts() {
  MutexLock l(mu_);
  Counts sum = dropped_;
  for (auto& [key, e] : texts_) add(sum, e.text->counts());
  return sum;
}

}  // namespace sentry::patch

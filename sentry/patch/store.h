// SPDX-License-Identifier: Apache-2.0
// Which patched texts there are. A text is shared by processes of one domain only: what a thread claims to have trapped at
// decides what is patched, and nobody may choose that for whom it could not trace.
#pragma once

#include <array>
#include <map>

#include "sentry/patch/text.h"

namespace sentry::patch {

// The same for no two contents of files, and for no two versions of one.
using ContentId = std::array<uint64_t, 4>;

// Whom code is shared with: the same container, one user id for all purposes, equal capabilities. none(): nobody.
struct Domain {
  uint64_t container = 0, uid = UINT64_MAX, capabilities = 0;
  bool none() const { return uid == UINT64_MAX; }
  friend auto operator<=>(const Domain&, const Domain&) = default;
};

class Store {
 public:
  // The sandbox's.
  static Store& instance();
  // slot: see Text. 0 (as at the start): nothing is patched.
  void enable(uint32_t slot) { slot_.store(slot, std::memory_order_relaxed); }
  bool enabled() const { return slot_.load(std::memory_order_relaxed) != 0; }

  // The text of these contents; null: nobody has trapped there.
  RefOrNull<Text> find(const ContentId& id, const Domain& domain, const Extent& extent) EXCLUDES(mu_);
  // The same, made if need be. EAGAIN: there are too many in use; EINVAL, ENOMEM, EMFILE.
  Result<Ref<Text>> get(const ContentId& id, const Domain& domain, const Extent& extent) EXCLUDES(mu_);
  Counts counts() EXCLUDES(mu_);

 private:
  static constexpr size_t kMaxTexts = 128;
  using Key = std::tuple<ContentId, Domain>;
  struct Entry {
    Ref<Text> text;
    uint64_t used;
  };
  std::atomic<uint32_t> slot_{0};
  Mutex mu_{LockRank::kMmMetadata};
  std::map<Key, Entry> texts_ GUARDED_BY(mu_);
  uint64_t clock_ GUARDED_BY(mu_) = 0;
  Counts dropped_ GUARDED_BY(mu_);
};

}  // namespace sentry::patch

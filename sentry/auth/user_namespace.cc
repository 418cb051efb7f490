// SPDX-License-Identifier: Apache-2.0
// Maps of ids, nesting and limits of user namespaces.
#include "sentry/auth/user_namespace.h"

#include "sentry/auth/credentials.h"

namespace sentry::auth {
namespace {

const IdMap* map_of(const UserNamespace& ns, UserNamespace::Ids ids) { return ns.map(ids); }

uint32_t to_kernel(const UserNamespace* ns, UserNamespace::Ids ids, uint32_t id) {
  if (!ns) return id;
  const IdMap* m = map_of(*ns, ids);
  return m ? m->to_kernel(id) : kNoId;
}
uint32_t from_kernel(const UserNamespace* ns, UserNamespace::Ids ids, uint32_t id) {
  if (!ns) return id;
  const IdMap* m = map_of(*ns, ids);
  return m ? m->from_kernel(id) : kNoId;
}

using Ids = UserNamespace::Ids;

}  // namespace

uint32_t IdMap::to_kernel(uint32_t id) const {
  if (id == kNoId) return kNoId;
  for (const IdExtent& e : extents_)
    if (id - e.inside < e.count && id >= e.inside) return e.outside + (id - e.inside);
  return kNoId;
}
uint32_t IdMap::from_kernel(uint32_t id) const {
  if (id == kNoId) return kNoId;
  for (const IdExtent& e : extents_)
    if (id >= e.outside && id - e.outside < e.count) return e.inside + (id - e.outside);
  return kNoId;
}

NamespaceCounts::NamespaceCounts() {
  for (auto& m : max) m.store(kDefaultMax, std::memory_order_relaxed);
}

NamespaceCounts& counts_of(UserNamespace* ns) {
  static auto* first = new NamespaceCounts;
  return ns ? ns->counts() : *first;
}

namespace {

void give_back(NamespaceKind kind, UserNamespace* from, uint32_t uid, const UserNamespace* until, bool all) {
  for (UserNamespace* ns = from;; ns = ns->parent.get()) {
    if (!all && ns == until) return;
    counts_of(ns).used.with([&](auto& used) {
      auto it = used.find({uid, static_cast<size_t>(kind)});
      if (it != used.end() && --it->second <= 0) used.erase(it);
    });
    if (!ns) return;
    uid = ns->owner;
  }
}

}  // namespace

Result<NamespaceCharge> NamespaceCharge::create(NamespaceKind kind, const RefOrNull<UserNamespace>& where, uint32_t uid) {
  uint32_t who = uid;
  for (UserNamespace* ns = where.get();; ns = ns->parent.get()) {
    NamespaceCounts& c = counts_of(ns);
    const int max = c.max[static_cast<size_t>(kind)].load(std::memory_order_relaxed);
    const bool fits = c.used.with([&](auto& used) {
      int& n = used[{who, static_cast<size_t>(kind)}];
      if (n < max) return ++n, true;
      if (n == 0) used.erase({who, static_cast<size_t>(kind)});
      return false;
    });
    if (!fits) {
      give_back(kind, where.get(), uid, ns, false);
      return kENOSPC;
    }
    if (!ns) break;
    who = ns->owner;
  }
  NamespaceCharge made;
  made.counted_ = true;
  made.kind_ = kind;
  made.where_ = where;
  made.uid_ = uid;
  return made;
}

NamespaceCharge::NamespaceCharge(NamespaceCharge&& o) noexcept
    : counted_(std::exchange(o.counted_, false)), kind_(o.kind_), where_(std::move(o.where_)), uid_(o.uid_) {}
NamespaceCharge& NamespaceCharge::operator=(NamespaceCharge&& o) noexcept {
  std::swap(counted_, o.counted_);
  std::swap(kind_, o.kind_);
  std::swap(where_, o.where_);
  std::swap(uid_, o.uid_);
  return *this;
}
void NamespaceCharge::drop() {
  if (!std::exchange(counted_, false)) return;
  give_back(kind_, where_.get(), uid_, nullptr, true);
}

struct UserNamespace::Charge {
  NamespaceCharge held;
};

Result<Ref<UserNamespace>> UserNamespace::create(const Credentials& maker) {
  UserNamespace* above = maker.user_ns.get();
  if (above && above->level >= kMaxUserLevel) return kENOSPC;
  auto charge = std::make_unique<Charge>();
  charge->held = TRY(NamespaceCharge::create(NamespaceKind::user, maker.user_ns, maker.euid));
  if (uid_in(above, maker.euid) == kNoId || gid_in(above, maker.egid) == kNoId) return kEPERM;
  return adopt_ref(new UserNamespace(maker, std::move(charge)));
}

UserNamespace::UserNamespace(const Credentials& maker, std::unique_ptr<Charge> charge)
    : parent(maker.user_ns),
      level(maker.user_ns ? maker.user_ns->level + 1 : 1),
      owner(maker.euid),
      group(maker.egid),
      parent_could_setfcap(maker.has_own_cap(CAP_SETFCAP)),
      setgroups_(!maker.user_ns || maker.user_ns->setgroups_allowed()),
      charge_(std::move(charge)) {}

UserNamespace::~UserNamespace() {
  for (auto& m : maps_) delete m.load(std::memory_order_relaxed);
}

Result<void> UserNamespace::set_map(Ids ids, std::vector<IdExtent> extents) {
  auto made = std::make_unique<const IdMap>(std::move(extents));
  MutexLock l(mu_);
  auto& slot = maps_[static_cast<size_t>(ids)];
  if (slot.load(std::memory_order_relaxed)) return kEPERM;
  slot.store(made.release(), std::memory_order_release);
  return {};
}

Result<void> UserNamespace::allow_setgroups(bool allow) {
  MutexLock l(mu_);
  if (allow) return setgroups_.load(std::memory_order_relaxed) ? Result<void>() : kEPERM;
  if (map(Ids::group)) return kEPERM;
  setgroups_.store(false, std::memory_order_release);
  return {};
}

uint32_t kernel_uid(const UserNamespace* ns, uint32_t uid) { return to_kernel(ns, Ids::user, uid); }
uint32_t kernel_gid(const UserNamespace* ns, uint32_t gid) { return to_kernel(ns, Ids::group, gid); }
uint32_t uid_in(const UserNamespace* ns, uint32_t id) { return from_kernel(ns, Ids::user, id); }
uint32_t gid_in(const UserNamespace* ns, uint32_t id) { return from_kernel(ns, Ids::group, id); }
uint32_t shown_uid(const UserNamespace* ns, uint32_t id) {
  const uint32_t u = uid_in(ns, id);
  return u == kNoId ? kOverflowId : u;
}
uint32_t shown_gid(const UserNamespace* ns, uint32_t id) {
  const uint32_t g = gid_in(ns, id);
  return g == kNoId ? kOverflowId : g;
}

bool lies_in(const UserNamespace* ns, const UserNamespace* top) {
  if (!top) return true;
  for (; ns && ns->level >= top->level; ns = ns->parent.get())
    if (ns == top) return true;
  return false;
}

}  // namespace sentry::auth

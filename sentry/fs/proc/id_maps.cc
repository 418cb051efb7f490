// SPDX-License-Identifier: Apache-2.0
// /proc/PID/{uid_map,gid_map,projid_map,setgroups,timens_offsets}. Linux: kernel/user_namespace.c, kernel/time/namespace.c.
#include <algorithm>
#include <charconv>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/kernel/namespaces.h"

namespace sentry::fs::proc {
namespace {

using auth::Credentials;
using auth::IdExtent;
using auth::UserNamespace;
using kernel::Task;
using Ids = UserNamespace::Ids;

constexpr size_t kMaxExtents = 340;  // UID_GID_MAP_MAX_EXTENTS

uint32_t to_kernel(const UserNamespace* ns, Ids ids, uint32_t id) {
  if (!ns) return id;
  const auth::IdMap* m = ns->map(ids);
  return m ? m->to_kernel(id) : auth::kNoId;
}
uint32_t from_kernel(const UserNamespace* ns, Ids ids, uint32_t id) {
  if (!ns) return id;
  const auth::IdMap* m = ns->map(ids);
  return m ? m->from_kernel(id) : auth::kNoId;
}

// As the reader's namespace names the outer side; its own map it sees with its parent's eyes.
std::string map_text(Task& t, Ids ids) {
  Ref<Credentials> cred = t.credentials();
  const UserNamespace* ns = cred->user_ns.get();
  std::string out;
  if (!ns) {
    const kernel::Container& c = t.container();
    if (const auth::IdMap* host = ids == Ids::user ? c.host_uids() : ids == Ids::group ? c.host_gids() : nullptr) {
      for (const IdExtent& e : host->extents()) append(out, "%10u %10u %10u\n", e.inside, e.outside, e.count);
      return out;
    }
    append(out, "%10u %10u %10u\n", 0u, 0u, ~0u);
    return out;
  }
  const auth::IdMap* m = ns->map(ids);
  if (!m) return out;
  Ref<Credentials> reading = reader() ? reader()->credentials() : cred;
  const UserNamespace* seen_from = reading->user_ns.get();
  if (seen_from == ns) seen_from = ns->parent.get();
  for (const IdExtent& e : m->extents()) append(out, "%10u %10u %10u\n", e.inside, from_kernel(seen_from, ids, e.outside), e.count);
  return out;
}

bool overlap(uint32_t a, uint32_t n, uint32_t b, uint32_t m) { return a <= b + (m - 1) && b <= a + (n - 1); }

// Lines of three numbers, up to a NUL, which runc writes along. EINVAL.
Result<std::vector<IdExtent>> parse_map(std::string_view text) {
  std::vector<IdExtent> out;
  text = text.substr(0, text.find('\0'));
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    uint32_t v[3];
    for (uint32_t& n : v) {
      const size_t start = line.find_first_not_of(" \t\v\f\r");
      if (start == std::string_view::npos) return kEINVAL;
      line.remove_prefix(start);
      auto [after, error] = std::from_chars(line.data(), line.data() + line.size(), n);
      if (error != std::errc() || (after != line.data() + line.size() && !isspace(static_cast<unsigned char>(*after)))) return kEINVAL;
      line.remove_prefix(static_cast<size_t>(after - line.data()));
    }
    if (line.find_first_not_of(" \t\v\f\r") != std::string_view::npos) return kEINVAL;
    const IdExtent e{v[0], v[1], v[2]};
    if (e.inside == auth::kNoId || e.outside == auth::kNoId || e.count == 0) return kEINVAL;
    if (e.inside + e.count <= e.inside || e.outside + e.count <= e.outside) return kEINVAL;
    for (const IdExtent& o : out)
      if (overlap(o.inside, o.count, e.inside, e.count) || overlap(o.outside, o.count, e.outside, e.count)) return kEINVAL;
    out.push_back(e);
    if (out.size() > kMaxExtents) return kEINVAL;
  }
  if (out.empty()) return kEINVAL;
  return out;
}

// Linux: new_idmap_permitted(). opener: who opened the file; writer: who writes to it.
bool may_map(const Credentials& opener, const Credentials& writer, const UserNamespace& ns, Ids ids, const std::vector<IdExtent>& map) {
  const UserNamespace* parent = ns.parent.get();
  if (ids == Ids::user && std::any_of(map.begin(), map.end(), [](const IdExtent& e) { return e.outside == 0; })) {
    // The parent's root gets a name: files with capabilities of its would count.
    if (opener.user_ns.get() == &ns ? !ns.parent_could_setfcap : !opener.has_cap_in(parent, CAP_SETFCAP)) return false;
  }
  if (map.size() == 1 && map[0].count == 1 && ns.owner == opener.euid) {
    const uint32_t id = to_kernel(parent, ids, map[0].outside);
    if (ids == Ids::user && id == opener.euid) return true;
    if (ids == Ids::group && !ns.setgroups_allowed() && id == opener.egid) return true;
  }
  if (ids == Ids::project) return true;
  const int cap = ids == Ids::user ? CAP_SETUID : CAP_SETGID;
  return writer.has_cap_in(parent, cap) && opener.has_cap_in(parent, cap);
}

Result<void> store_map(Task& t, vfs::File& file, std::string_view v, Ids ids) {
  Ref<Credentials> cred = t.credentials();
  UserNamespace* ns = cred->user_ns.get();
  if (!ns) return kEPERM;
  const Credentials& opener = *file.credentials();
  Task* me = reader();
  if (!me || (opener.user_ns.get() != ns && opener.user_ns.get() != ns->parent.get())) return kEPERM;
  if (v.size() >= 4096) return kEINVAL;
  if (ns->map(ids)) return kEPERM;
  if (ids != Ids::project && !opener.has_cap_in(ns, CAP_SYS_ADMIN)) return kEPERM;
  std::vector<IdExtent> map = TRY(parse_map(v));
  if (!may_map(opener, me->own_credentials(), *ns, ids, map)) return kEPERM;
  for (IdExtent& e : map) {
    // All of an extent must lie in one extent of the parent's.
    const uint32_t first = to_kernel(ns->parent.get(), ids, e.outside);
    if (first == auth::kNoId) return kEPERM;
    if (ns->parent) {
      const auto& above = ns->parent->map(ids)->extents();
      if (!std::any_of(above.begin(), above.end(), [&](const IdExtent& p) {
            return e.outside >= p.inside && e.outside - p.inside < p.count && e.count <= p.count - (e.outside - p.inside);
          }))
        return kEPERM;
    }
    e.outside = first;
  }
  return ns->set_map(ids, std::move(map));
}

}  // namespace

Result<std::string> uid_map_text(const Subject&, Task& t) { return map_text(t, Ids::user); }
Result<std::string> gid_map_text(const Subject&, Task& t) { return map_text(t, Ids::group); }
Result<std::string> projid_map_text(const Subject&, Task& t) { return map_text(t, Ids::project); }
Result<void> uid_map_store(const Subject&, Task& t, vfs::File& f, std::string_view v) { return store_map(t, f, v, Ids::user); }
Result<void> gid_map_store(const Subject&, Task& t, vfs::File& f, std::string_view v) { return store_map(t, f, v, Ids::group); }
Result<void> projid_map_store(const Subject&, Task& t, vfs::File& f, std::string_view v) { return store_map(t, f, v, Ids::project); }

Result<std::string> setgroups_text(const Subject&, Task& t) {
  Ref<Credentials> cred = t.credentials();
  return std::string(!cred->user_ns || cred->user_ns->setgroups_allowed() ? "allow\n" : "deny\n");
}
Result<void> setgroups_store(const Subject&, Task& t, vfs::File& f, std::string_view v) {
  Ref<Credentials> cred = t.credentials();
  if (!f.credentials()->has_cap_in(cred->user_ns.get(), CAP_SYS_ADMIN)) return kEACCES;
  if (v.size() > 7) return kEINVAL;
  bool allow;
  if (v.starts_with("allow")) allow = true, v.remove_prefix(5);
  else if (v.starts_with("deny")) allow = false, v.remove_prefix(4);
  else return kEINVAL;
  if (v.find_first_not_of(" \t\n\v\f\r") != std::string_view::npos) return kEINVAL;
  if (!cred->user_ns) return allow ? Result<void>() : kEPERM;
  return cred->user_ns->allow_setgroups(allow);
}

// ---- Offsets of the time namespace for children ----

namespace {
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kMaxSeconds = INT64_MAX / kSecond / 2;  // KTIME_SEC_MAX / 2

void append_offset(std::string& out, const char* name, int64_t ns) {
  int64_t seconds = ns / kSecond, rest = ns % kSecond;
  if (rest < 0) seconds--, rest += kSecond;
  append(out, "%-10s %10lld %9lld\n", name, static_cast<long long>(seconds), static_cast<long long>(rest));
}

RefOrNull<kernel::TimeNamespace> time_for_children(Task& t) {
  auto ns = kernel::namespace_of(t, kernel::NamespaceKind::time, true);
  return ns.ok() ? std::get<RefOrNull<kernel::TimeNamespace>>(ns->object()) : RefOrNull<kernel::TimeNamespace>();
}
}  // namespace

Result<std::string> timens_text(const Subject&, Task& t) {
  RefOrNull<kernel::TimeNamespace> ns = time_for_children(t);
  std::string out;
  append_offset(out, "monotonic", ns ? ns->monotonic_ns.load() : 0);
  append_offset(out, "boottime", ns ? ns->boottime_ns.load() : 0);
  return out;
}

// Linux: timens_offsets_write(), proc_timens_set_offset().
Result<void> timens_store(const Subject&, Task& t, vfs::File& f, std::string_view v) {
  struct Offset {
    bool boottime;
    int64_t ns;
  };
  std::vector<Offset> offsets;
  while (!v.empty()) {
    size_t end = std::min(v.find('\n'), v.size());
    const std::string line(v.substr(0, end));
    v.remove_prefix(std::min(end + 1, v.size()));
    char clock[10];
    long long seconds;
    unsigned long nanoseconds;
    if (sscanf(line.c_str(), "%9s %lld %lu", clock, &seconds, &nanoseconds) != 3 || nanoseconds >= kSecond) return kEINVAL;
    const std::string_view name = clock;
    const bool boottime = name == "boottime" || name == "7";
    if (!boottime && name != "monotonic" && name != "1") return kEINVAL;
    if (seconds > kMaxSeconds || seconds < -kMaxSeconds) return kERANGE;
    offsets.push_back({boottime, seconds * kSecond + static_cast<int64_t>(nanoseconds)});
    if (offsets.size() > 2) return kEINVAL;
  }
  if (offsets.empty()) return kEINVAL;
  RefOrNull<kernel::TimeNamespace> ns = time_for_children(t);
  kernel::UserNs owner;
  if (ns) owner = ns->user_ns();
  if (!f.credentials()->has_cap_in(owner.get(), CAP_SYS_TIME)) return kEPERM;
  for (const Offset& o : offsets) {
    timespec now;
    clock_gettime(o.boottime ? CLOCK_BOOTTIME : CLOCK_MONOTONIC, &now);
    const int64_t there = now.tv_sec * kSecond + now.tv_nsec + o.ns;
    if (there < 0 || there > kMaxSeconds * kSecond) return kERANGE;
  }
  if (!ns || ns->in_use.load()) return kEACCES;
  for (const Offset& o : offsets) (o.boottime ? ns->boottime_ns : ns->monotonic_ns).store(o.ns);
  return {};
}

}  // namespace sentry::fs::proc

// SPDX-License-Identifier: Apache-2.0
// User, group and capability ids. Linux: kernel/sys.c, kernel/capability.c, security/commoncap.c.
#include <algorithm>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr uint32_t kKeep = ~0u;  // -1: leave as it is
constexpr int kMaxGroups = 65536;

bool is_nobodys(const auth::IdMap* host, uint32_t id) { return host && id != kKeep && host->to_kernel(id) == auth::kNoId; }

// Ids as the caller says them. EINVAL: of nobody here; kKeep stays what it is.
Result<uint32_t> uid_of(Task& task, uint32_t uid) {
  const uint32_t id = auth::kernel_uid(kernel::user_ns_of(task), uid);
  if ((id == auth::kNoId && uid != kKeep) || is_nobodys(task.container().host_uids(), id)) return kEINVAL;
  return id;
}
Result<uint32_t> gid_of(Task& task, uint32_t gid) {
  const uint32_t id = auth::kernel_gid(kernel::user_ns_of(task), gid);
  if ((id == auth::kNoId && gid != kKeep) || is_nobodys(task.container().host_gids(), id)) return kEINVAL;
  return id;
}
uint32_t shown_uid(Task& task, uint32_t id) { return auth::shown_uid(kernel::user_ns_of(task), id); }
uint32_t shown_gid(Task& task, uint32_t id) { return auth::shown_gid(kernel::user_ns_of(task), id); }

void publish(Task& task, Ref<auth::Credentials> next) {
  const auth::Credentials& old = task.own_credentials();
  // A process whose ids change may hold what others must not see.
  if (next->euid != old.euid || next->egid != old.egid || next->fsuid != old.fsuid || next->fsgid != old.fsgid ||
      !next->no_more_than(old)) {
    kernel::set_dumpable(task, false);
    task.impl().pdeath_signal = 0;
  }
  task.set_credentials(std::move(next));
}

void publish_uids(Task& task, Ref<auth::Credentials> next) {
  const auth::Credentials& old = task.own_credentials();
  next->fsuid = next->euid;
  next->fix_caps_after_setuid(old.uid, old.euid, old.suid);
  publish(task, std::move(next));
}

}  // namespace

Result<long> sys_getuid(Task& task) { return long{shown_uid(task, task.own_credentials().uid)}; }
Result<long> sys_geteuid(Task& task) { return long{shown_uid(task, task.own_credentials().euid)}; }
Result<long> sys_getgid(Task& task) { return long{shown_gid(task, task.own_credentials().gid)}; }
Result<long> sys_getegid(Task& task) { return long{shown_gid(task, task.own_credentials().egid)}; }

Result<long> sys_setuid(Task& task, uint32_t uid) {
  uid = TRY(uid_of(task, uid));
  if (uid == kKeep) return kEINVAL;
  const auth::Credentials& old = task.own_credentials();
  Ref<auth::Credentials> c = old.copy();
  if (old.has_own_cap(CAP_SETUID)) c->uid = c->suid = uid;
  else if (uid != old.uid && uid != old.suid) return kEPERM;
  c->euid = uid;
  publish_uids(task, std::move(c));
  return 0L;
}

Result<long> sys_setreuid(Task& task, uint32_t ruid, uint32_t euid) {
  ruid = TRY(uid_of(task, ruid));
  euid = TRY(uid_of(task, euid));
  const auth::Credentials& old = task.own_credentials();
  const bool any = old.has_own_cap(CAP_SETUID);
  Ref<auth::Credentials> c = old.copy();
  if (ruid != kKeep) {
    if (!any && ruid != old.uid && ruid != old.euid) return kEPERM;
    c->uid = ruid;
  }
  if (euid != kKeep) {
    if (!any && euid != old.uid && euid != old.euid && euid != old.suid) return kEPERM;
    c->euid = euid;
  }
  if (ruid != kKeep || (euid != kKeep && euid != old.uid)) c->suid = c->euid;
  publish_uids(task, std::move(c));
  return 0L;
}

Result<long> sys_setresuid(Task& task, uint32_t ruid, uint32_t euid, uint32_t suid) {
  ruid = TRY(uid_of(task, ruid));
  euid = TRY(uid_of(task, euid));
  suid = TRY(uid_of(task, suid));
  const auth::Credentials& old = task.own_credentials();
  const bool any = old.has_own_cap(CAP_SETUID);
  for (uint32_t u : {ruid, euid, suid})
    if (u != kKeep && !any && u != old.uid && u != old.euid && u != old.suid) return kEPERM;
  Ref<auth::Credentials> c = old.copy();
  if (ruid != kKeep) c->uid = ruid;
  if (euid != kKeep) c->euid = euid;
  if (suid != kKeep) c->suid = suid;
  publish_uids(task, std::move(c));
  return 0L;
}

Result<long> sys_setgid(Task& task, uint32_t gid) {
  gid = TRY(gid_of(task, gid));
  if (gid == kKeep) return kEINVAL;
  const auth::Credentials& old = task.own_credentials();
  Ref<auth::Credentials> c = old.copy();
  if (old.has_own_cap(CAP_SETGID)) c->gid = c->sgid = gid;
  else if (gid != old.gid && gid != old.sgid) return kEPERM;
  c->egid = c->fsgid = gid;
  publish(task, std::move(c));
  return 0L;
}

Result<long> sys_setregid(Task& task, uint32_t rgid, uint32_t egid) {
  rgid = TRY(gid_of(task, rgid));
  egid = TRY(gid_of(task, egid));
  const auth::Credentials& old = task.own_credentials();
  const bool any = old.has_own_cap(CAP_SETGID);
  Ref<auth::Credentials> c = old.copy();
  if (rgid != kKeep) {
    if (!any && rgid != old.gid && rgid != old.egid) return kEPERM;
    c->gid = rgid;
  }
  if (egid != kKeep) {
    if (!any && egid != old.gid && egid != old.egid && egid != old.sgid) return kEPERM;
    c->egid = egid;
  }
  if (rgid != kKeep || (egid != kKeep && egid != old.gid)) c->sgid = c->egid;
  c->fsgid = c->egid;
  publish(task, std::move(c));
  return 0L;
}

Result<long> sys_setresgid(Task& task, uint32_t rgid, uint32_t egid, uint32_t sgid) {
  rgid = TRY(gid_of(task, rgid));
  egid = TRY(gid_of(task, egid));
  sgid = TRY(gid_of(task, sgid));
  const auth::Credentials& old = task.own_credentials();
  const bool any = old.has_own_cap(CAP_SETGID);
  for (uint32_t g : {rgid, egid, sgid})
    if (g != kKeep && !any && g != old.gid && g != old.egid && g != old.sgid) return kEPERM;
  Ref<auth::Credentials> c = old.copy();
  if (rgid != kKeep) c->gid = rgid;
  if (egid != kKeep) c->egid = egid;
  if (sgid != kKeep) c->sgid = sgid;
  c->fsgid = c->egid;
  publish(task, std::move(c));
  return 0L;
}

Result<long> sys_getresuid(Task& task, UserOut<uint32_t> ruid, UserOut<uint32_t> euid, UserOut<uint32_t> suid) {
  const auth::Credentials& c = task.own_credentials();
  TRY(ruid.copy_out(task.context(), shown_uid(task, c.uid)));
  TRY(euid.copy_out(task.context(), shown_uid(task, c.euid)));
  TRY(suid.copy_out(task.context(), shown_uid(task, c.suid)));
  return 0L;
}

Result<long> sys_getresgid(Task& task, UserOut<uint32_t> rgid, UserOut<uint32_t> egid, UserOut<uint32_t> sgid) {
  const auth::Credentials& c = task.own_credentials();
  TRY(rgid.copy_out(task.context(), shown_gid(task, c.gid)));
  TRY(egid.copy_out(task.context(), shown_gid(task, c.egid)));
  TRY(sgid.copy_out(task.context(), shown_gid(task, c.sgid)));
  return 0L;
}

// Both answer the old id whatever happens.
Result<long> sys_setfsuid(Task& task, uint32_t uid) {
  const auth::Credentials& old = task.own_credentials();
  const uint32_t before = old.fsuid, shown = shown_uid(task, before);
  uid = auth::kernel_uid(old.user_ns.get(), uid);
  if (uid == auth::kNoId || uid == before) return long{shown};
  if (uid == old.uid || uid == old.euid || uid == old.suid || old.has_own_cap(CAP_SETUID)) {
    Ref<auth::Credentials> c = old.copy();
    c->fsuid = uid;
    c->fix_caps_after_setfsuid(before);
    publish(task, std::move(c));
  }
  return long{shown};
}

Result<long> sys_setfsgid(Task& task, uint32_t gid) {
  const auth::Credentials& old = task.own_credentials();
  const uint32_t before = old.fsgid, shown = shown_gid(task, before);
  gid = auth::kernel_gid(old.user_ns.get(), gid);
  if (gid == auth::kNoId || gid == before) return long{shown};
  if (gid == old.gid || gid == old.egid || gid == old.sgid || old.has_own_cap(CAP_SETGID)) {
    Ref<auth::Credentials> c = old.copy();
    c->fsgid = gid;
    publish(task, std::move(c));
  }
  return long{shown};
}

Result<long> sys_getgroups(Task& task, int size, UserOut<void> list) {
  const auth::Credentials& c = task.own_credentials();
  if (size < 0) return kEINVAL;
  const int n = static_cast<int>(c.groups.size());
  if (size == 0) return long{n};
  if (size < n) return kEINVAL;
  std::vector<uint32_t> shown;
  for (uint32_t g : c.groups) shown.push_back(shown_gid(task, g));
  if (n) TRY(list.copy_bytes_out(task.context(), shown.data(), shown.size() * sizeof(uint32_t)));
  return long{n};
}

Result<long> sys_setgroups(Task& task, int size, UserIn<uint32_t> list) {
  const auth::Credentials& old = task.own_credentials();
  if (!old.has_own_cap(CAP_SETGID)) return kEPERM;
  // Linux: userns_may_setgroups().
  if (old.user_ns && !(old.user_ns->map(auth::UserNamespace::Ids::group) && old.user_ns->setgroups_allowed())) return kEPERM;
  if (size < 0 || size > kMaxGroups) return kEINVAL;
  std::vector<uint32_t> groups = TRY(list.copy_in_array(task.context(), static_cast<size_t>(size)));
  for (uint32_t& g : groups) {
    if (g == kKeep) return kEINVAL;
    g = TRY(gid_of(task, g));
  }
  std::sort(groups.begin(), groups.end());
  Ref<auth::Credentials> c = old.copy();
  c->groups = std::move(groups);
  task.set_credentials(std::move(c));
  return 0L;
}

namespace {

struct CapHeader {
  uint32_t version;
  int pid;
};
struct CapData {
  uint32_t effective, permitted, inheritable;
};

// Words of each set in this version; 0: unknown.
size_t words_of(uint32_t version) {
  switch (version) {
    case _LINUX_CAPABILITY_VERSION_1: return 1;
    case _LINUX_CAPABILITY_VERSION_2:
    case _LINUX_CAPABILITY_VERSION_3: return 2;
    default: return 0;
  }
}

Result<size_t> check_version(Task& task, UserInOut<void> header, CapHeader* h) {
  *h = TRY(UserIn<CapHeader>(header.unchecked_address()).copy_in(task.context()));
  size_t words = words_of(h->version);
  if (words == 0) {
    TRY(UserOut<uint32_t>(header.unchecked_address()).copy_out_now(task.context(), uint32_t{_LINUX_CAPABILITY_VERSION_3}));
    return kEINVAL;
  }
  return words;
}

}  // namespace

Result<long> sys_capget(Task& task, UserInOut<void> header, UserOut<void> data) {
  CapHeader h;
  Result<size_t> words = check_version(task, header, &h);
  if (!words.ok()) {
    if (data.is_null() && words.error() == kEINVAL) return 0L;  // asked for the version only
    return words.error();
  }
  if (h.pid < 0) return kEINVAL;
  Ref<auth::Credentials> c = task.credentials();
  if (h.pid != 0) {
    RefOrNull<Task> t = task.group().pid_namespace().find_task(h.pid);
    if (!t) return kESRCH;
    c = t->credentials();
  }
  CapData d[2];
  for (size_t i = 0; i < 2; i++) {
    d[i].effective = static_cast<uint32_t>(c->cap_effective >> (32 * i));
    d[i].permitted = static_cast<uint32_t>(c->cap_permitted >> (32 * i));
    d[i].inheritable = static_cast<uint32_t>(c->cap_inheritable >> (32 * i));
  }
  if (!data.is_null()) TRY(data.copy_bytes_out(task.context(), d, *words * sizeof d[0]));
  return 0L;
}

Result<long> sys_capset(Task& task, UserInOut<void> header, UserIn<void> data) {
  CapHeader h;
  size_t words = TRY(check_version(task, header, &h));
  if (h.pid != 0 && h.pid != task.tid()) return kEPERM;
  CapData d[2] = {};
  TRY(data.copy_bytes_in(task.context(), d, words * sizeof d[0]));
  auto join = [&](uint32_t CapData::*m) { return (d[0].*m | static_cast<uint64_t>(d[1].*m) << 32) & auth::kAllCaps; };
  const uint64_t effective = join(&CapData::effective), permitted = join(&CapData::permitted),
                 inheritable = join(&CapData::inheritable);
  const auth::Credentials& old = task.own_credentials();
  if (!old.has_own_cap(CAP_SETPCAP) && (inheritable & ~(old.cap_inheritable | old.cap_permitted))) return kEPERM;
  if (inheritable & ~(old.cap_inheritable | old.cap_bounding)) return kEPERM;
  if (permitted & ~old.cap_permitted) return kEPERM;
  if (effective & ~permitted) return kEPERM;
  Ref<auth::Credentials> c = old.copy();
  c->cap_effective = effective;
  c->cap_permitted = permitted;
  c->cap_inheritable = inheritable;
  c->cap_ambient &= permitted & inheritable;
  task.set_credentials(std::move(c));
  return 0L;
}

}  // namespace sentry::syscalls

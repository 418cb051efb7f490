// SPDX-License-Identifier: Apache-2.0
// Keys, whose they are, who may do what with them.
#include "sentry/kernel/keys.h"

#include <errno.h>
#include <linux/keyctl.h>

#include <algorithm>

#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

// Rights, in each of the four bytes of a key's permissions: possessor, user, group, others.
enum Right : uint32_t { kView = 1, kRead = 2, kWrite = 4, kSearch = 8, kLink = 16, kSetAttr = 32, kAll = 63 };
constexpr uint32_t permissions_of(uint32_t possessor, uint32_t user) { return possessor << 24 | user << 16; }

constexpr size_t kMaxPayload = 32767, kMaxDescription = 4095, kMaxLinks = 4096, kMaxUsers = 4096;
constexpr Errno kENOKEY{ENOKEY}, kEKEYEXPIRED{EKEYEXPIRED}, kEKEYREVOKED{EKEYREVOKED};
constexpr uint64_t kKeysOfUser = 200, kBytesOfUser = 20000, kKeysOfRoot = 4096, kBytesOfRoot = 1 << 20;
constexpr int kMaxDepth = 6;  // keyrings in keyrings

}  // namespace

struct KeyTable::Impl {
  struct Quota {
    uint64_t keys = 0, bytes = 0;
  };
  struct User {
    Ref<Key> ring, session;
  };
  Mutex mu{LockRank::kFilePrivate};
  int next GUARDED_BY(mu) = 0x10000001;
  std::map<int, Key*> keys GUARDED_BY(mu);
  std::map<uint32_t, Quota> quotas GUARDED_BY(mu);
  std::map<uint32_t, User> users GUARDED_BY(mu);
};

const char* Key::type_name() const {
  switch (type) {
    case Type::user: return "user";
    case Type::logon: return "logon";
    default: return "keyring";
  }
}

Key::Key(KeyTable& table, int serial_, Type type_, std::string description_)
    : serial(serial_), type(type_), description(std::move(description_)), table_(table) {}

Key::~Key() {
  // A deep nest goes ring by ring: they are at most kMaxDepth.
  MutexLock l(table_.impl_->mu);
  table_.impl_->keys.erase(serial);
  auto it = table_.impl_->quotas.find(charged_to_);
  if (it == table_.impl_->quotas.end()) return;
  it->second.keys--;
  it->second.bytes -= charged_;
  if (it->second.keys == 0) table_.impl_->quotas.erase(it);
}


// One call on the table, by the current task. Its methods hold the lock.
class KeyTable::Call {
 public:
  Call(KeyTable& table, Task& t) : table_(table), i_(*table.impl_), t_(t), cred_(t.own_credentials()) {}

  // ---- Making ----
  Result<Ref<Key>> make(Key::Type type, std::string description, uint32_t permissions, std::string payload) REQUIRES(i_.mu) {
    const bool root = cred_.fsuid == 0;
    const uint64_t bytes = description.size() + 1 + payload.size();
    Impl::Quota& q = i_.quotas[cred_.fsuid];
    if (q.keys + 1 > (root ? kKeysOfRoot : kKeysOfUser) || q.bytes + bytes > (root ? kBytesOfRoot : kBytesOfUser)) {
      if (q.keys == 0) i_.quotas.erase(cred_.fsuid);
      return kEDQUOT;
    }
    q.keys++;
    q.bytes += bytes;
    while (i_.keys.contains(i_.next) || i_.next < 3) i_.next = i_.next == INT32_MAX ? 3 : i_.next + 1;
    // Serial numbers tell nothing of how many keys there are.
    const int serial = i_.next;
    i_.next = static_cast<int>((static_cast<uint32_t>(serial) * 1103515245u + 12345u) & 0x3fffffff) | 0x10000000;
    Ref<Key> k = adopt_ref(new Key(table_, serial, type, std::move(description)));
    k->uid = cred_.fsuid;
    k->gid = cred_.fsgid;
    k->permissions = permissions;
    k->payload = std::move(payload);
    k->charged_ = bytes;
    k->charged_to_ = cred_.fsuid;
    i_.keys.emplace(serial, k.get());
    return k;
  }
  Result<Ref<Key>> make_ring(std::string name, uint32_t permissions) REQUIRES(i_.mu) {
    return make(Key::Type::keyring, std::move(name), permissions, {});
  }
  Result<void> change_payload(Key& k, std::string payload) REQUIRES(i_.mu) {
    Impl::Quota& q = i_.quotas[k.charged_to_];
    const uint64_t limit = k.charged_to_ == 0 ? kBytesOfRoot : kBytesOfUser;
    const uint64_t next = q.bytes - k.payload.size() + payload.size();
    if (payload.size() > k.payload.size() && next > limit) return kEDQUOT;
    k.charged_ += payload.size() - k.payload.size();
    q.bytes = next;
    k.payload = std::move(payload);
    return {};
  }

  // ---- Rings of the caller ----
  Result<Impl::User*> user() REQUIRES(i_.mu) {
    auto it = i_.users.find(cred_.uid);
    if (it != i_.users.end()) return &it->second;
    if (i_.users.size() >= kMaxUsers) return kEDQUOT;
    constexpr uint32_t p = permissions_of(kAll & ~kSetAttr, kAll);
    const std::string uid = std::to_string(cred_.uid);
    Ref<Key> ring = TRY(make_ring("_uid." + uid, p));
    grave_.keys.push_back(ring);
    Ref<Key> session = TRY(make_ring("_uid_ses." + uid, p));
    session->links.push_back(ring);
    return &i_.users.emplace(cred_.uid, Impl::User{ring, session}).first->second;
  }
  RefOrNull<Key> own(RefOrNull<Key> Task::Impl::*which) {
    MutexLock l(t_.impl().mu);
    return t_.impl().*which;
  }
  void set_own(RefOrNull<Key> Task::Impl::*which, RefOrNull<Key> k) {
    {
      MutexLock l(t_.impl().mu);
      std::swap(t_.impl().*which, k);
    }
    if (k) grave_.keys.push_back(k.get_ref());
  }
  RefOrNull<Key> process_ring() { return process_; }

  // The keyrings that a search begins with; the session's, or what stands for it.
  std::vector<Ref<Key>> roots() REQUIRES(i_.mu) {
    std::vector<Ref<Key>> out;
    if (RefOrNull<Key> k = own(&Task::Impl::thread_keyring)) out.push_back(k.get_ref());
    if (process_) out.push_back(process_.get_ref());
    if (RefOrNull<Key> k = own(&Task::Impl::session_keyring)) {
      out.push_back(k.get_ref());
    } else if (auto it = i_.users.find(cred_.uid); it != i_.users.end()) {
      out.push_back(it->second.session);
    }
    return out;
  }
  bool possesses(const Key& wanted) REQUIRES(i_.mu) {
    for (const Ref<Key>& k : roots())
      if (reaches(*k, wanted, kMaxDepth)) return true;
    return false;
  }
  static bool reaches(const Key& from, const Key& wanted, int depth) {
    if (&from == &wanted) return true;
    if (depth == 0) return false;
    for (const Ref<Key>& k : from.links)
      if (k.get() == &wanted || (k->type == Key::Type::keyring && reaches(*k, wanted, depth - 1))) return true;
    return false;
  }
  static int depth_of(const Key& k) {
    int most = 0;
    for (const Ref<Key>& l : k.links)
      if (l->type == Key::Type::keyring) most = std::max(most, depth_of(*l) + 1);
    return most;
  }

  // ---- Rights ----
  Result<void> usable(const Key& k) {
    if (k.revoked) return kEKEYREVOKED;
    if (k.expires != sched::kNever && k.expires <= sched::now()) return kEKEYEXPIRED;
    return {};
  }
  bool permits(const Key& k, uint32_t right) REQUIRES(i_.mu) {
    uint32_t have = 0;
    if (k.uid == cred_.fsuid) have = k.permissions >> 16;
    else if (cred_.in_group(k.gid)) have = k.permissions >> 8;
    else have = k.permissions;
    if (possesses(k)) have |= k.permissions >> 24;
    return (have & right) == right;
  }

  // ---- Finding ----
  // A serial number or KEY_SPEC_*. Linux: lookup_user_key().
  Result<Ref<Key>> find(int id, uint32_t right, bool create = false, bool even_dead = false) REQUIRES(i_.mu) {
    RefOrNull<Key> k;
    switch (id) {
      case KEY_SPEC_THREAD_KEYRING:
        k = own(&Task::Impl::thread_keyring);
        if (!k) {
          if (!create) return kENOKEY;
          k = TRY(make_ring("_tid", permissions_of(kAll, kView)));
          set_own(&Task::Impl::thread_keyring, k);
        }
        break;
      case KEY_SPEC_PROCESS_KEYRING:
        if (!process_) {
          if (!create) return kENOKEY;
          process_ = TRY(make_ring("_pid", permissions_of(kAll, kView)));
          process_made_ = true;
        }
        k = process_;
        break;
      case KEY_SPEC_SESSION_KEYRING:
        k = own(&Task::Impl::session_keyring);
        if (!k) {
          Impl::User* u = TRY(user());
          if (create) k = TRY(make_ring("_ses", permissions_of(kAll, kView | kRead)));
          else k = u->session;
          set_own(&Task::Impl::session_keyring, k);
        }
        break;
      case KEY_SPEC_USER_KEYRING: k = TRY(user())->ring; break;
      case KEY_SPEC_USER_SESSION_KEYRING: k = TRY(user())->session; break;
      case KEY_SPEC_GROUP_KEYRING: return kEINVAL;
      case KEY_SPEC_REQKEY_AUTH_KEY:
      case KEY_SPEC_REQUESTOR_KEYRING: return kENOKEY;
      default: {
        if (id < 1) return kEINVAL;
        auto it = i_.keys.find(id);
        if (it == i_.keys.end()) return kENOKEY;
        k = RefOrNull<Key>::upgrade(it->second);
        if (!k) return kENOKEY;
      }
    }
    grave_.keys.push_back(k.get_ref());
    if (!even_dead) TRY(usable(*k));
    if (right && !permits(*k, right)) return kEACCES;
    return k.get_ref();
  }
  Result<Ref<Key>> find_ring(int id, uint32_t right, bool create = false) REQUIRES(i_.mu) {
    Ref<Key> k = TRY(find(id, right, create));
    if (k->type != Key::Type::keyring) return kENOTDIR;
    return k;
  }
  // In a ring and the rings below it that may be searched.
  RefOrNull<Key> search(Key& ring, Key::Type type, const std::string& description, int depth, Errno* why) REQUIRES(i_.mu) {
    if (!usable(ring).ok()) return nullptr;
    for (const Ref<Key>& k : ring.links) {
      if (k->type != type || k->description != description) continue;
      Result<void> r = usable(*k);
      if (!r.ok()) {
        *why = r.error();
        continue;
      }
      if (permits(*k, kSearch)) return k;
      *why = kEACCES;
    }
    if (depth == 0) return nullptr;
    for (const Ref<Key>& k : ring.links) {
      if (k->type != Key::Type::keyring || !permits(*k, kSearch)) continue;
      if (RefOrNull<Key> found = search(*k, type, description, depth - 1, why)) return found;
    }
    return nullptr;
  }

  // ---- Links ----
  Result<void> link(Key& ring, const Ref<Key>& k) REQUIRES(i_.mu) {
    if (k->type == Key::Type::keyring) {
      if (reaches(*k, ring, kMaxDepth)) return kEDEADLK;
      if (depth_of(*k) + 1 > kMaxDepth) return kELOOP;
    }
    for (Ref<Key>& l : ring.links) {
      if (l->type != k->type || l->description != k->description) continue;
      grave_.keys.push_back(l);
      l = k;
      return {};
    }
    if (ring.links.size() >= kMaxLinks) return kENFILE;
    ring.links.push_back(k);
    return {};
  }
  Result<void> unlink(Key& ring, const Key& k) REQUIRES(i_.mu) {
    for (auto it = ring.links.begin(); it != ring.links.end(); ++it) {
      if (it->get() != &k) continue;
      grave_.keys.push_back(*it);
      ring.links.erase(it);
      return {};
    }
    return kENOENT;
  }
  void bury_links(Key& k) {
    for (Ref<Key>& l : k.links) grave_.keys.push_back(std::move(l));
    k.links.clear();
  }

  // The process's ring lives under the task-set lock: fetched before the table's lock, put back after it.
  void fetch_process_ring() {
    MutexLock l(task_set_lock);
    process_ = t_.group().impl().process_keyring;
  }
  void store_process_ring() {
    if (!process_made_) return;
    MutexLock l(task_set_lock);
    if (!t_.group().impl().process_keyring) t_.group().impl().process_keyring = process_;
  }

  KeyTable& table_;
  Impl& i_;
  Task& t_;
  const auth::Credentials& cred_;
  struct Grave {
    std::vector<Ref<Key>> keys;  // references that go after the lock: the last one of a key takes the lock itself
  } grave_;
  RefOrNull<Key> process_;
  bool process_made_ = false;
};

KeyTable::KeyTable() : impl_(std::make_unique<Impl>()) {}
KeyTable::~KeyTable() {
  decltype(impl_->users) users;
  MutexLock l(impl_->mu);
  std::swap(users, impl_->users);
}

namespace {

Result<Key::Type> type_of(const std::string& name) {
  if (name.empty() || name.size() >= 32) return kEINVAL;
  if (name[0] == '.') return kEPERM;
  if (name == "user") return Key::Type::user;
  if (name == "logon") return Key::Type::logon;
  if (name == "keyring") return Key::Type::keyring;
  return kENODEV;
}

}  // namespace

Result<long> KeyTable::add(Task& t, const std::string& type_name, const std::string& description, std::string payload, int ring) {
  const Key::Type type = TRY(type_of(type_name));
  const bool is_ring = type == Key::Type::keyring;
  if (is_ring && !description.empty() && description[0] == '.') return kEPERM;
  if (description.empty() || description.size() > kMaxDescription) return kEINVAL;
  if (is_ring ? !payload.empty() : payload.empty() || payload.size() > kMaxPayload) return kEINVAL;
  if (type == Key::Type::logon && (description.find(':') == std::string::npos || description[0] == ':')) return kEINVAL;
  Call c(*this, t);
  c.fetch_process_ring();
  auto work = [&]() -> Result<long> {
    MutexLock l(c.i_.mu);
    Ref<Key> to = TRY(c.find_ring(ring, kWrite, true));
    if (!is_ring) {
      for (const Ref<Key>& k : to->links) {
        if (k->type != type || k->description != description) continue;
        if (!c.permits(*k, kWrite)) return kEACCES;
        TRY(c.change_payload(*k, std::move(payload)));
        k->revoked = false;
        k->expires = sched::kNever;
        return long{k->serial};
      }
    }
    const uint32_t possessor = type == Key::Type::logon ? kAll & ~kRead : kAll;
    Ref<Key> made = TRY(c.make(type, description, permissions_of(possessor, kView), std::move(payload)));
    c.grave_.keys.push_back(made);
    TRY(c.link(*to, made));
    return long{made->serial};
  };
  Result<long> r = work();
  c.store_process_ring();
  return r;
}

Result<long> KeyTable::request(Task& t, const std::string& type_name, const std::string& description, int ring) {
  const Key::Type type = TRY(type_of(type_name));
  Call c(*this, t);
  c.fetch_process_ring();
  auto work = [&]() -> Result<long> {
    MutexLock l(c.i_.mu);
    RefOrNull<Key> to;
    if (ring != 0) to = TRY(c.find_ring(ring, kWrite, true));
    Errno why = kENOKEY;
    for (const Ref<Key>& root : c.roots()) {
      RefOrNull<Key> found = c.search(*root, type, description, kMaxDepth, &why);
      if (!found) continue;
      c.grave_.keys.push_back(found.get_ref());
      if (to) TRY(c.link(*to, found.get_ref()));
      return long{found->serial};
    }
    return why;  // nobody is asked to make one
  };
  Result<long> r = work();
  c.store_process_ring();
  return r;
}

Result<long> KeyTable::control(Task& t, int operation, uint64_t a, uint64_t b, uint64_t cc, uint64_t d) {
  platform::Context& x = t.context();
  const int id = static_cast<int>(a);
  // Texts come in before the lock, bytes go out after it.
  std::string text, text2;
  switch (operation) {
    case KEYCTL_JOIN_SESSION_KEYRING:
      if (a) text = TRY(x.copy_in_string(a, kMaxDescription));
      if (a && text.empty()) return kEINVAL;
      if (text[0] == '.') return kEPERM;
      break;
    case KEYCTL_UPDATE:
      if (cc > kMaxPayload) return kEINVAL;
      text.resize(cc);
      if (cc) TRY(x.copy_in(text.data(), b, cc));
      break;
    case KEYCTL_SEARCH:
      text = TRY(x.copy_in_string(b, 32));
      text2 = TRY(x.copy_in_string(cc, kMaxDescription));
      break;
    default: break;
  }
  std::string out;
  bool give = false;
  Call c(*this, t);
  c.fetch_process_ring();
  auto work = [&]() -> Result<long> {
    MutexLock l(c.i_.mu);
    switch (operation) {
      case KEYCTL_GET_KEYRING_ID: return long{TRY(c.find(id, kSearch, b != 0))->serial};
      case KEYCTL_JOIN_SESSION_KEYRING: {
        RefOrNull<Key> ring;
        if (!text.empty()) {
          for (auto& [serial, k] : c.i_.keys) {
            if (k->type != Key::Type::keyring || k->description != text || k->revoked || k->uid != c.cred_.fsuid) continue;
            RefOrNull<Key> held = RefOrNull<Key>::upgrade(k);
            if (!held) continue;
            c.grave_.keys.push_back(held.get_ref());
            if (!c.permits(*held, kSearch)) continue;
            ring = held;
            break;
          }
        }
        if (!ring) ring = TRY(c.make_ring(text.empty() ? "_ses" : text, permissions_of(kAll, kView | kRead | (text.empty() ? 0u : uint32_t{kLink}))));
        c.set_own(&Task::Impl::session_keyring, ring);
        return long{ring->serial};
      }
      case KEYCTL_UPDATE: {
        Ref<Key> k = TRY(c.find(id, kWrite));
        if (k->type == Key::Type::keyring) return kEOPNOTSUPP;
        if (text.empty()) return kEINVAL;
        TRY(c.change_payload(*k, std::move(text)));
        k->expires = sched::kNever;
        return 0L;
      }
      case KEYCTL_REVOKE: {
        Result<Ref<Key>> k = c.find(id, kWrite);
        if (!k.ok() && k.error() == kEACCES) k = c.find(id, kSetAttr);
        if (!k.ok()) return k.error();
        (*k)->revoked = true;
        c.bury_links(**k);
        TRY(c.change_payload(**k, {}));
        return 0L;
      }
      case KEYCTL_CHOWN: {
        Ref<Key> k = TRY(c.find(id, kSetAttr, true, true));
        const auto uid = static_cast<uint32_t>(b), gid = static_cast<uint32_t>(cc);
        const bool admin = c.cred_.has_cap(CAP_SYS_ADMIN);
        if (!admin && ((uid != ~0u && uid != k->uid) || (gid != ~0u && gid != k->gid && !c.cred_.in_group(gid)))) return kEACCES;
        if (uid != ~0u) k->uid = uid;
        if (gid != ~0u) k->gid = gid;
        return 0L;
      }
      case KEYCTL_SETPERM: {
        if (b & ~0x3f3f3f3full) return kEINVAL;
        Ref<Key> k = TRY(c.find(id, kSetAttr, true, true));
        if (!c.cred_.has_cap(CAP_SYS_ADMIN) && k->uid != c.cred_.fsuid) return kEACCES;
        k->permissions = static_cast<uint32_t>(b);
        return 0L;
      }
      case KEYCTL_DESCRIBE: {
        Ref<Key> k = TRY(c.find(id, kView, false, true));
        char numbers[64];
        snprintf(numbers, sizeof numbers, ";%d;%d;%08x;", static_cast<int>(k->uid), static_cast<int>(k->gid), k->permissions);
        out = k->type_name() + std::string(numbers) + k->description + '\0';
        give = out.size() <= cc;
        return static_cast<long>(out.size());
      }
      case KEYCTL_CLEAR:
        c.bury_links(*TRY(c.find_ring(id, kWrite, true)));
        return 0L;
      case KEYCTL_LINK: {
        Ref<Key> ring = TRY(c.find_ring(static_cast<int>(b), kWrite, true));
        Ref<Key> k = TRY(c.find(id, kLink, true));
        TRY(c.link(*ring, k));
        return 0L;
      }
      case KEYCTL_UNLINK: {
        Ref<Key> ring = TRY(c.find_ring(static_cast<int>(b), kWrite));
        Ref<Key> k = TRY(c.find(id, 0, false, true));
        TRY(c.unlink(*ring, *k));
        return 0L;
      }
      case KEYCTL_SEARCH: {
        const Key::Type type = TRY(type_of(text));
        Ref<Key> ring = TRY(c.find_ring(id, kSearch));
        RefOrNull<Key> to;
        if (static_cast<int>(d) != 0) to = TRY(c.find_ring(static_cast<int>(d), kWrite, true));
        Errno why = kENOKEY;
        RefOrNull<Key> found = c.search(*ring, type, text2, kMaxDepth, &why);
        if (!found) return why;
        c.grave_.keys.push_back(found.get_ref());
        if (to) {
          if (!c.permits(*found, kLink)) return kEACCES;
          TRY(c.link(*to, found.get_ref()));
        }
        return long{found->serial};
      }
      case KEYCTL_READ: {
        Ref<Key> k = TRY(c.find(id, 0));
        if (!c.permits(*k, kRead) && !c.possesses(*k)) return kEACCES;
        if (k->type == Key::Type::logon) return kEOPNOTSUPP;
        if (k->type == Key::Type::user) out = k->payload;
        else
          for (const Ref<Key>& y : k->links) out.append(reinterpret_cast<const char*>(&y->serial), sizeof(int32_t));
        const auto size = static_cast<long>(out.size());
        out.resize(std::min<uint64_t>(out.size(), cc));
        if (k->type == Key::Type::keyring) out.resize(out.size() & ~size_t{3});
        give = b != 0;
        return size;
      }
      case KEYCTL_SET_REQKEY_KEYRING: {
        const auto n = static_cast<int>(a);
        if (n < -1 || n > 7 || n == 6) return kEINVAL;
        return 0L;
      }
      case KEYCTL_SET_TIMEOUT: {
        Ref<Key> k = TRY(c.find(id, kSetAttr, true));
        const auto seconds = static_cast<unsigned>(b);
        k->expires = seconds ? sched::now() + sched::Nanos{seconds} * 1000000000 : sched::kNever;
        return 0L;
      }
      case KEYCTL_ASSUME_AUTHORITY:
        if (id < 0) return kEINVAL;
        return id == 0 ? Result<long>(0L) : Result<long>(kENOKEY);
      case KEYCTL_GET_SECURITY:
        (void)TRY(c.find(id, kView, false, true));
        out = std::string(1, '\0');
        give = cc >= 1;
        return 1L;
      case KEYCTL_INSTANTIATE:
      case KEYCTL_NEGATE:
      case KEYCTL_REJECT:
      case KEYCTL_INSTANTIATE_IOV:
      case KEYCTL_SESSION_TO_PARENT: return kEPERM;
      case KEYCTL_INVALIDATE: {
        Ref<Key> k = TRY(c.find(id, kSearch));
        k->revoked = true;
        for (auto& [serial, ring] : c.i_.keys) {
          if (ring->type != Key::Type::keyring) continue;
          IGNORE_ERROR(c.unlink(*ring, *k), "most rings do not hold it");
        }
        return 0L;
      }
      case 30: {  // KEYCTL_MOVE
        Ref<Key> k = TRY(c.find(id, kLink, true));
        Ref<Key> from = TRY(c.find_ring(static_cast<int>(b), kWrite)), to = TRY(c.find_ring(static_cast<int>(cc), kWrite, true));
        if (d & ~1ull) return kEINVAL;
        if (from.get() == to.get()) return 0L;
        if (std::none_of(from->links.begin(), from->links.end(), [&](const Ref<Key>& y) { return y.get() == k.get(); })) return kENOENT;
        if (d & 1)
          for (const Ref<Key>& y : to->links)
            if (y->type == k->type && y->description == k->description) return kEEXIST;
        TRY(c.link(*to, k));
        TRY(c.unlink(*from, *k));
        return 0L;
      }
      case 31:  // KEYCTL_CAPABILITIES: this call itself, invalidation, moving
        out = std::string("\xa1\0", 2);
        out.resize(std::min<uint64_t>(out.size(), b));
        return 2L;
      default: return kEOPNOTSUPP;
    }
  };
  Result<long> r = work();
  c.store_process_ring();
  if (!r.ok()) return r;
  if (operation == 31 && !out.empty()) TRY(x.copy_out_now(a, out.data(), out.size()));
  else if (give && b && !out.empty()) TRY(x.copy_out_now(b, out.data(), out.size()));
  return r;
}

void inherit_keyrings(Task& t, Task& child) {
  RefOrNull<Key> session;
  {
    MutexLock l(t.impl().mu);
    session = t.impl().session_keyring;
  }
  {
    MutexLock l(child.impl().mu);
    child.impl().session_keyring = std::move(session);
  }
}

void drop_keyrings_for_exec(Task& t) {
  RefOrNull<Key> thread, process;
  {
    MutexLock l(task_set_lock);
    std::swap(process, t.group().impl().process_keyring);
  }
  MutexLock l(t.impl().mu);
  std::swap(thread, t.impl().thread_keyring);
}

}  // namespace sentry::kernel

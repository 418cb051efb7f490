// SPDX-License-Identifier: Apache-2.0
// Linux: unix_bind, unix_find_other, unix_autobind of net/unix/af_unix.c.
#include "sentry/net/unix/name.h"

#include <cstddef>
#include <map>
#include <set>

#include "sentry/net/common/stream.h"
#include "sentry/net/unix/unix.h"

namespace sentry::net::local {
namespace {

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);

// Sockets are in these tables from bind to close; look-ups take a reference unless the socket is dying. Abstract names are those of
// one network namespace.
struct AbstractName {
  const kernel::NetNamespace* net;
  int type;
  std::string name;
  auto operator<=>(const AbstractName&) const = default;
};
struct Tables {
  std::map<AbstractName, Sock*> abstract;
  std::map<const vfs::Inode*, Sock*> by_inode;
  std::map<Sock*, const Name*> all;
  uint32_t next_automatic = 0;
};
Guarded<Tables>& tables() {
  static auto* t = new Guarded<Tables>(LockRank::kMountTree);
  return *t;
}

std::string_view name_bytes(const Address& a) {
  return {reinterpret_cast<const char*>(a.bytes.data()) + kPathOffset, a.size - kPathOffset};
}

Address make_address(std::string_view name, bool terminated) {
  Address a;
  uint16_t family = AF_UNIX;
  memcpy(a.bytes.data(), &family, sizeof family);
  memcpy(a.bytes.data() + kPathOffset, name.data(), name.size());
  a.size = static_cast<uint32_t>(kPathOffset + name.size() + (terminated ? 1 : 0));
  return a;
}

std::string_view path_of(const Address& a) {
  std::string_view s = name_bytes(a);
  return s.substr(0, s.find('\0'));
}

}  // namespace

Name::Name(Sock& owner) : owner_(owner), state_(LockRank::kDentry) {
  tables().with([&](Tables& t) { t.all[&owner_] = this; });
}

Name::~Name() {
  leave();
  tables().with([&](Tables& t) { t.all.erase(&owner_); });
}

Result<void> check_address(const Address& a) {
  if (a.size <= kPathOffset || a.size > sizeof(sockaddr_un) || a.family() != AF_UNIX) return kEINVAL;
  return {};
}

Result<void> Name::bind(const Address& a) {
  if (a.size == kPathOffset && a.family() == AF_UNIX) return bind_automatically();
  TRY(check_address(a));
  sched::SleepLock l(bind_lock_);
  std::string_view name = name_bytes(a);
  if (is_bound()) {
    // Linux looks at the file first.
    auto* task = kernel::Task::find_current();
    if (name[0] && task && vfs::walk(task->walk_context(), path_of(a), 0).ok()) return kEADDRINUSE;
    return kEINVAL;
  }
  return name[0] ? bind_path(path_of(a)) : bind_abstract(name.substr(1));
}

Result<void> Name::bind_path(std::string_view path) {
  auto* task = kernel::Task::find_current();
  if (!task) return kENOENT;
  vfs::WalkContext c = task->walk_context();
  auto made = vfs::make_node(c, path, S_IFSOCK | (0777 & ~task->fs()->umask()), 0);
  if (!made.ok()) return made.error() == kEEXIST ? kEADDRINUSE : made.error();
  vfs::Path where = TRY(vfs::walk(c, path, 0));
  auto inode = where.inode();
  if (!inode || inode->type() != S_IFSOCK) return kEADDRINUSE;  // somebody was quicker with that name
  bool entered = tables().with([&](Tables& t) { return t.by_inode.emplace(inode.get(), &owner_).second; });
  if (!entered) return kEADDRINUSE;
  state_.with([&](State& s) {
    s.address = make_address(path, true);
    s.path = where;
    s.inode = inode;
  });
  return {};
}

Result<void> Name::bind_abstract(std::string_view name) {
  bool entered = tables().with([&](Tables& t) {
    return t.abstract.emplace(AbstractName{owner_.net.get(), owner_.type, std::string(name)}, &owner_).second;
  });
  if (!entered) return kEADDRINUSE;
  state_.with([&](State& s) {
    s.address = make_address(std::string(1, '\0').append(name), false);
    s.abstract = name;
    s.has_abstract = true;
  });
  return {};
}

Result<void> Name::bind_automatically() {
  sched::SleepLock l(bind_lock_);
  if (is_bound()) return {};
  // Five hexadecimal digits (man 7 unix).
  for (uint32_t tries = 0; tries < 0x100000; tries++) {
    uint32_t n = tables().with([](Tables& t) { return t.next_automatic++ & 0xfffff; });
    char text[8];
    snprintf(text, sizeof text, "%05x", n);
    auto r = bind_abstract(text);
    if (r.ok() || r.error() != kEADDRINUSE) return r;
  }
  return kENOSPC;
}

void Name::copy_from(const Name& listener) {
  State copy = listener.state_.with([](const State& s) { return s; });
  copy.inode = nullptr;
  copy.has_abstract = false;
  state_.with([&](State& s) { std::swap(s, copy); });
}

void Name::leave() {
  State old = state_.with([](State& s) {
    State o = s;
    s.inode = nullptr;
    s.path = {};
    s.has_abstract = false;
    return o;
  });
  if (!old.inode && !old.has_abstract) return;
  tables().with([&](Tables& t) {
    if (old.inode) t.by_inode.erase(old.inode.get());
    if (old.has_abstract) t.abstract.erase({owner_.net.get(), owner_.type, old.abstract});
  });
}

bool Name::is_bound() const {
  return state_.with([](const State& s) { return s.address.size != 0; });
}

Address Name::for_receiver() const {
  return state_.with([](const State& s) { return s.address; });
}

Address Name::address() const {
  Address a = for_receiver();
  return a.size ? a : make_address("", false);
}

Result<Ref<Sock>> find(const Address& a, int type) {
  std::string_view name = name_bytes(a);
  if (name[0] == 0) {
    Ref<kernel::NetNamespace> net = kernel::current_net();
    auto found = tables().with([&](Tables& t) {
      auto it = t.abstract.find({net.get(), type, std::string(name.substr(1))});
      return it == t.abstract.end() ? RefOrNull<Sock>() : RefOrNull<Sock>::upgrade(it->second);
    });
    if (!found) return kECONNREFUSED;
    return found.get_ref();
  }
  auto* task = kernel::Task::find_current();
  if (!task) return kENOENT;
  vfs::WalkContext c = task->walk_context();
  vfs::Path where = TRY(vfs::walk(c, path_of(a), vfs::kFollow));
  auto inode = where.inode();
  if (!inode) return kENOENT;
  TRY(vfs::may_access(where, W_OK, *c.cred));
  if (inode->type() != S_IFSOCK) return kECONNREFUSED;
  auto found = tables().with([&](Tables& t) {
    auto it = t.by_inode.find(inode.get());
    return it == t.by_inode.end() ? RefOrNull<Sock>() : RefOrNull<Sock>::upgrade(it->second);
  });
  if (!found) return kECONNREFUSED;
  if (found->type != type) return kEPROTOTYPE;
  return found.get_ref();
}

std::vector<Info> list() {
  std::vector<std::pair<Ref<Sock>, Address>> socks;
  tables().with([&](Tables& t) {
    for (auto [sock, name] : t.all)
      if (auto s = RefOrNull<Sock>::upgrade(sock)) socks.emplace_back(s.get_ref(), name->for_receiver());
  });
  std::vector<Info> out;
  Ref<kernel::NetNamespace> net = kernel::current_net();
  for (auto& [sock, address] : socks) {
    if (sock->net.get() != net.get()) continue;
    Info i;
    i.references = sock->ref_count();
    i.type = sock->type;
    i.inode = sock->inode_number.load();
    bool connected = sock->type == SOCK_DGRAM ? sock->peer_name().ok() : false;
    if (sock->type != SOCK_DGRAM) {
      auto st = static_cast<StreamSock&>(*sock).state();
      i.listening = st == StreamSock::State::listening;
      connected = st == StreamSock::State::connected;
    }
    i.state = i.inode == 0 ? 2 : connected ? 3 : 1;
    if (address.size) {
      std::string_view n = name_bytes(address);
      if (n[0]) i.path = path_of(address);
      else for (char ch : n) i.path += ch ? ch : '@';
    }
    out.push_back(std::move(i));
  }
  return out;
}

std::string list_text() {
  std::string text = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (const Info& i : list()) {
    char line[96];
    // Addresses are not told (kptr_restrict); 0x10000 is __SO_ACCEPTCON.
    snprintf(line, sizeof line, "%016x: %08X %08X %08X %04X %02X %5lu", 0, i.references, 0u, i.listening ? 0x10000u : 0u,
             static_cast<unsigned>(i.type), static_cast<unsigned>(i.state), static_cast<unsigned long>(i.inode));
    text += line;
    if (!i.path.empty()) text.append(" ").append(i.path);
    text += '\n';
  }
  return text;
}

}  // namespace sentry::net::local

// SPDX-License-Identifier: Apache-2.0
// What TCP and UDP sockets have in common, for the room's own files: the local end and the options.
#pragma once

#include "sentry/net/inet/address.h"

namespace sentry::net::inet {

Ref<Sock> make_tcp(int family);
Ref<Sock> make_udp(int family);

// The local end of a socket. A member of it, guarded by a lock of its own.
class LocalEnd {
 public:
  LocalEnd(Transport t, Sock& owner) : transport_(t), owner_(owner), state_(LockRank::kSocket) {
    state_.with([&](State& s) { s.binding.local = Endpoint::any(owner_.family == AF_INET); });
  }
  ~LocalEnd() { leave(); }

  struct Reuse {
    bool address = false, port = false;
  };
  // bind(2): EINVAL when it has a port already.
  Result<void> bind(const Address& a, Reuse reuse);
  // Gives it an ephemeral port unless it has one.
  Result<void> ensure_port(Reuse reuse);
  void set_listening(bool on);
  // The address towards a peer: a wildcard becomes the source address for it. UDP: remembers the peer in the table.
  void connected_to(const Endpoint& peer);
  void disconnected();
  // An accepted socket: the listener's port without an entry of its own.
  void adopt(const Endpoint& local) {
    state_.with([&](State& s) { s.binding.local = local; });
  }
  void leave();
  Endpoint endpoint() const {
    return state_.with([](const State& s) { return s.binding.local; });
  }
  bool has_port() const { return endpoint().port != 0; }
  bool v6_only() const {
    return state_.with([](const State& s) { return s.v6_only; });
  }
  // The address family's own options; ENOPROTOOPT: not one of them.
  Result<void> set_option(int level, int option, OptionBytes value);
  Result<OptionValue> get_option(int level, int option, size_t room) const;
  // One of those that are kept (KeptOptions).
  int option(int level, int option) const {
    int v = 0;
    (void)kept_.get(level, option, &v);
    return v;
  }

 private:
  struct State {
    Binding binding;
    bool v6_only = false;
    bool in_table = false;
    bool bound_address = false;  // by bind(2): stays when a UDP socket disconnects
  };
  Result<void> take(const Endpoint& local, Reuse reuse);
  const Transport transport_;
  Sock& owner_;
  sched::SleepMutex bind_lock_;
  Guarded<State> state_;
  KeptOptions kept_;
};

}  // namespace sentry::net::inet

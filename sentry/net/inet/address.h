// SPDX-License-Identifier: Apache-2.0
// Addresses and ports of both IP versions in one form, and who has which port.
#pragma once

#include <netinet/in.h>

#include <vector>

#include "sentry/net/common/sock.h"

namespace sentry::net::inet {

// An IPv4 address is kept mapped (::ffff:a.b.c.d).
struct Endpoint {
  in6_addr address{};
  uint16_t port = 0;

  static Endpoint v4(uint32_t host_order, uint16_t port);
  static Endpoint any(bool is_v4);
  bool is_v4() const;
  bool is_any() const;       // 0.0.0.0 or ::
  bool is_loopback() const;  // 127.0.0.0/8 or ::1
  bool same_address(const Endpoint& o) const { return memcmp(&address, &o.address, sizeof address) == 0; }
  friend bool operator==(const Endpoint& a, const Endpoint& b) { return a.port == b.port && a.same_address(b); }
  // As a socket of this family tells it.
  Address to_address(int family) const;
};

// EINVAL: too short; EAFNOSUPPORT: another family.
Result<Endpoint> endpoint_of(const Address& a, int family);

// What a socket that has a port is to the table.
struct Binding {
  Endpoint local;
  bool v6_only = false;     // of a :: socket: takes no IPv4
  bool dual = false;        // of family AF_INET6 and not v6_only
  bool reuse_address = false, reuse_port = false;
  bool listening = false;
  uint32_t uid = 0;
  bool has_peer = false;    // UDP: takes only what this one sends
  Endpoint peer;
};

enum class Transport : uint8_t { tcp, udp };

// Takes local.port, or an ephemeral one when it is 0 (then b.local.port says which). EADDRINUSE.
Result<void> take_port(Transport t, Sock& owner, Binding& b);
// Replaces what the table knows of the owner (listening, connected).
void update_port(Transport t, Sock& owner, const Binding& b);
void leave_port(Transport t, Sock& owner);
// May it listen: another socket listens there already (both with SO_REUSEADDR could be bound). EADDRINUSE.
Result<void> may_listen(const Sock& owner);
// The socket that a datagram or connection to `to` is for: the closest match; null: nobody.
RefOrNull<Sock> find_port(Transport t, const Endpoint& to, const Endpoint& from, const Sock& asker);

// Checks shared by bind and connect. EADDRNOTAVAIL: not an address of this sandbox. EACCES: port below 1024 without
// CAP_NET_BIND_SERVICE.
Result<void> check_local(const Endpoint& e, const Sock& owner);
// Where `to` leads: the wildcard is loopback. ENETUNREACH for everything else; EINVAL: port 0 (UDP).
Result<Endpoint> check_destination(const Endpoint& to, const Sock& owner);
// The address a socket bound to the wildcard has towards `to`.
Endpoint source_for(const Endpoint& to);

// Options of IPPROTO_IP, IPPROTO_IPV6 and IPPROTO_TCP that change nothing inside one machine: kept, so that they read back.
class KeptOptions {
 public:
  // False: not one of them.
  bool set(int level, int option, int value);
  bool get(int level, int option, int* value) const;
  static bool is_known(int level, int option);

 private:
  Guarded<std::vector<std::pair<std::pair<int, int>, int>>> values_{LockRank::kSocket};
};

}  // namespace sentry::net::inet

// SPDX-License-Identifier: Apache-2.0
// Linux: tcp4_seq_show, udp4_seq_show and their likes. Others' sockets of the namespace are not shown.
#include "sentry/net/host/list.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <vector>

#include "sentry/net/host/host_sock.h"

namespace sentry::net::host {
namespace {

Guarded<std::set<HostSock*>>& all() {
  static auto* s = new Guarded<std::set<HostSock*>>(LockRank::kFilePrivate);
  return *s;
}

// Addresses as the words that lie in memory.
std::string hex(const Address& a, int family) {
  char text[64];
  if (family == AF_INET) {
    auto in = a.as<sockaddr_in>();
    snprintf(text, sizeof text, "%08X:%04X", in.sin_addr.s_addr, ntohs(in.sin_port));
  } else {
    auto in = a.as<sockaddr_in6>();
    uint32_t w[4];
    memcpy(w, &in.sin6_addr, sizeof w);
    snprintf(text, sizeof text, "%08X%08X%08X%08X:%04X", w[0], w[1], w[2], w[3], ntohs(in.sin6_port));
  }
  return text;
}

const char* header(int family, int protocol) {
  if (protocol == IPPROTO_TCP)
    return family == AF_INET ? "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
                             : "  sl  local_address                         remote_address                        st tx_queue "
                               "rx_queue tr tm->when retrnsmt   uid  timeout inode";
  return family == AF_INET
             ? "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
             : "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when "
               "retrnsmt   uid  timeout inode ref pointer drops";
}

}  // namespace

void enlist(HostSock& s) {
  all().with([&](auto& set) { set.insert(&s); });
}
void delist(HostSock& s) {
  all().with([&](auto& set) { set.erase(&s); });
}

std::string list_text(int family, int protocol) {
  std::vector<Ref<Sock>> socks;
  all().with([&](auto& set) {
    for (HostSock* s : set) {
      if (s->family != family || s->protocol != protocol) continue;
      if (auto r = RefOrNull<Sock>::upgrade(s)) socks.push_back(r.get_ref());
    }
  });
  const bool tcp = protocol == IPPROTO_TCP, v4 = family == AF_INET;
  const int width = !v4 ? 0 : tcp ? 149 : 127;
  std::string out;
  char line[400];
  snprintf(line, sizeof line, "%-*s\n", width, header(family, protocol));
  out += line;
  // Those that listen first, as Linux shows them; then the oldest first.
  struct Row {
    int state;
    uint64_t ino;
    Ref<Sock> sock;
  };
  std::vector<Row> rows;
  for (auto& s : socks) rows.push_back({static_cast<HostSock&>(*s).state(), static_cast<HostSock&>(*s).inode_number.load(), s});
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::pair(a.state != TCP_LISTEN, a.ino) < std::pair(b.state != TCP_LISTEN, b.ino);
  });
  int n = 0;
  for (auto& [state, number, ref] : rows) {
    auto& s = static_cast<HostSock&>(*ref);
    auto local = s.name();
    if (!local.ok()) continue;
    uint16_t port;
    memcpy(&port, local->bytes.data() + 2, sizeof port);
    if (port == 0) continue;  // in no table of ports yet
    auto peer = s.peer_name();
    auto unsent = s.unsent(), unread = s.unread();
    const int sent = unsent.ok() ? *unsent : 0;
    const int waiting = unread.ok() ? *unread : 0;  // a listener has none
    const auto ino = static_cast<unsigned long long>(number);
    char rest[160];
    if (tcp)
      snprintf(rest, sizeof rest, "%02X %08X:%08X 00:00000000 00000000 %5u        0 %llu 1 0000000000000000 %s", state,
               static_cast<unsigned>(sent), static_cast<unsigned>(waiting), s.owner(), ino,
               state == 10 ? "100 0 0 10 0" : "20 4 30 10 -1");
    else
      snprintf(rest, sizeof rest, "%02X %08X:%08X 00:00000000 00000000 %5u        0 %llu 2 0000000000000000 0", state,
               static_cast<unsigned>(sent), static_cast<unsigned>(waiting), s.owner(), ino);
    char all_of_it[360];
    snprintf(all_of_it, sizeof all_of_it, tcp ? "%4d: %s %s %s" : "%5d: %s %s %s", n++, hex(*local, family).c_str(),
             hex(peer.ok() ? *peer : Address{}, family).c_str(), rest);
    snprintf(line, sizeof line, "%-*s\n", width, all_of_it);
    out += line;
  }
  return out;
}

}  // namespace sentry::net::host

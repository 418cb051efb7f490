// SPDX-License-Identifier: Apache-2.0
// Left out on purpose: everything that needs a capability on the host, packet filters, time stamps of hardware, header options and
// source routes, repair, signatures, upper-layer protocols, and zero-copy (it would pin the sentry's memory).
#include "sentry/net/host/options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>

namespace sentry::net::host {
namespace {

// Not in every header of Debian 12.
constexpr int kIpLocalPortRange = 51, kIpv6MulticastAll = 29, kIpv6AddrPreferences = 72, kIpv6MinHopCount = 73,
              kIpv6RecvOrigDstAddr = 74, kIpv6UnicastIf = 76, kIpv6RecvFragSize = 77, kIpv6Freebind = 78, kIpRecvFragSize = 25,
              kIpv6AutoFlowLabel = 70, kUdpSegment = 103, kUdpGro = 104, kTcpTxDelay = 37;

constexpr Option both(int level, int name) { return {level, name, true, true}; }
constexpr Option get_only(int level, int name) { return {level, name, false, true}; }
constexpr Option set_only(int level, int name) { return {level, name, true, false}; }

constexpr Option kOptions[] = {
    both(SOL_SOCKET, SO_REUSEADDR), both(SOL_SOCKET, SO_REUSEPORT), both(SOL_SOCKET, SO_KEEPALIVE), both(SOL_SOCKET, SO_BROADCAST),
    both(SOL_SOCKET, SO_OOBINLINE), both(SOL_SOCKET, SO_SNDBUF), both(SOL_SOCKET, SO_RCVBUF), both(SOL_SOCKET, SO_RCVLOWAT),
    both(SOL_SOCKET, SO_DONTROUTE), both(SOL_SOCKET, SO_TIMESTAMP), both(SOL_SOCKET, SO_TIMESTAMPNS),
    both(SOL_SOCKET, SO_TIMESTAMP_NEW), both(SOL_SOCKET, SO_TIMESTAMPNS_NEW), both(SOL_SOCKET, SO_RXQ_OVFL),
    both(SOL_SOCKET, SO_NO_CHECK), both(SOL_SOCKET, SO_PRIORITY), both(SOL_SOCKET, SO_BINDTODEVICE), set_only(SOL_SOCKET, SO_LINGER),
    both(SOL_SOCKET, SO_MAX_PACING_RATE), get_only(SOL_SOCKET, SO_ERROR), get_only(SOL_SOCKET, SO_ACCEPTCONN),
    get_only(SOL_SOCKET, SO_INCOMING_CPU), get_only(SOL_SOCKET, SO_MEMINFO),

    both(IPPROTO_IP, IP_TOS), both(IPPROTO_IP, IP_TTL), both(IPPROTO_IP, IP_PKTINFO), both(IPPROTO_IP, IP_MTU_DISCOVER),
    both(IPPROTO_IP, IP_RECVERR), both(IPPROTO_IP, IP_RECVTTL), both(IPPROTO_IP, IP_RECVTOS), get_only(IPPROTO_IP, IP_MTU),
    both(IPPROTO_IP, IP_FREEBIND), both(IPPROTO_IP, IP_MULTICAST_IF), both(IPPROTO_IP, IP_MULTICAST_TTL),
    both(IPPROTO_IP, IP_MULTICAST_LOOP), set_only(IPPROTO_IP, IP_ADD_MEMBERSHIP), set_only(IPPROTO_IP, IP_DROP_MEMBERSHIP),
    set_only(IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP), set_only(IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP),
    set_only(IPPROTO_IP, IP_BLOCK_SOURCE), set_only(IPPROTO_IP, IP_UNBLOCK_SOURCE), set_only(IPPROTO_IP, MCAST_JOIN_GROUP),
    set_only(IPPROTO_IP, MCAST_LEAVE_GROUP), set_only(IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP),
    set_only(IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP), both(IPPROTO_IP, IP_MULTICAST_ALL), both(IPPROTO_IP, IP_UNICAST_IF),
    both(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), both(IPPROTO_IP, IP_RECVORIGDSTADDR), both(IPPROTO_IP, IP_MINTTL),
    both(IPPROTO_IP, kIpRecvFragSize), both(IPPROTO_IP, kIpLocalPortRange),

    both(IPPROTO_IPV6, IPV6_V6ONLY), both(IPPROTO_IPV6, IPV6_UNICAST_HOPS), both(IPPROTO_IPV6, IPV6_MULTICAST_IF),
    both(IPPROTO_IPV6, IPV6_MULTICAST_HOPS), both(IPPROTO_IPV6, IPV6_MULTICAST_LOOP), set_only(IPPROTO_IPV6, IPV6_JOIN_GROUP),
    set_only(IPPROTO_IPV6, IPV6_LEAVE_GROUP), set_only(IPPROTO_IPV6, MCAST_JOIN_GROUP), set_only(IPPROTO_IPV6, MCAST_LEAVE_GROUP),
    set_only(IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP), set_only(IPPROTO_IPV6, MCAST_LEAVE_SOURCE_GROUP),
    both(IPPROTO_IPV6, IPV6_MTU_DISCOVER), both(IPPROTO_IPV6, IPV6_MTU), both(IPPROTO_IPV6, IPV6_RECVERR),
    both(IPPROTO_IPV6, IPV6_RECVPKTINFO), both(IPPROTO_IPV6, IPV6_RECVHOPLIMIT), both(IPPROTO_IPV6, IPV6_RECVTCLASS),
    both(IPPROTO_IPV6, IPV6_TCLASS), both(IPPROTO_IPV6, IPV6_DONTFRAG), both(IPPROTO_IPV6, kIpv6AutoFlowLabel),
    both(IPPROTO_IPV6, kIpv6AddrPreferences), both(IPPROTO_IPV6, kIpv6MinHopCount), both(IPPROTO_IPV6, kIpv6RecvOrigDstAddr),
    both(IPPROTO_IPV6, kIpv6UnicastIf), both(IPPROTO_IPV6, kIpv6RecvFragSize), both(IPPROTO_IPV6, kIpv6Freebind),
    both(IPPROTO_IPV6, kIpv6MulticastAll),

    both(IPPROTO_TCP, TCP_NODELAY), both(IPPROTO_TCP, TCP_MAXSEG), both(IPPROTO_TCP, TCP_CORK), both(IPPROTO_TCP, TCP_KEEPIDLE),
    both(IPPROTO_TCP, TCP_KEEPINTVL), both(IPPROTO_TCP, TCP_KEEPCNT), both(IPPROTO_TCP, TCP_SYNCNT), both(IPPROTO_TCP, TCP_LINGER2),
    both(IPPROTO_TCP, TCP_DEFER_ACCEPT), both(IPPROTO_TCP, TCP_WINDOW_CLAMP), get_only(IPPROTO_TCP, TCP_INFO),
    both(IPPROTO_TCP, TCP_QUICKACK), both(IPPROTO_TCP, TCP_CONGESTION), both(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS),
    both(IPPROTO_TCP, TCP_USER_TIMEOUT), both(IPPROTO_TCP, TCP_FASTOPEN), both(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
    get_only(IPPROTO_TCP, TCP_CC_INFO), both(IPPROTO_TCP, TCP_SAVE_SYN), get_only(IPPROTO_TCP, TCP_SAVED_SYN),
    both(IPPROTO_TCP, TCP_FASTOPEN_CONNECT), both(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE), both(IPPROTO_TCP, TCP_INQ),
    both(IPPROTO_TCP, kTcpTxDelay),

    both(IPPROTO_UDP, UDP_CORK), both(IPPROTO_UDP, UDP_NO_CHECK6_TX), both(IPPROTO_UDP, UDP_NO_CHECK6_RX),
    both(IPPROTO_UDP, kUdpSegment), both(IPPROTO_UDP, kUdpGro),
};

struct ControlKind {
  int level, type;
  size_t smallest, largest;
};
constexpr ControlKind kControls[] = {
    {IPPROTO_IP, IP_TTL, 4, 4}, {IPPROTO_IP, IP_TOS, 1, 4}, {IPPROTO_IP, IP_PKTINFO, 12, 12},
    {IPPROTO_IPV6, IPV6_PKTINFO, 20, 20}, {IPPROTO_IPV6, IPV6_HOPLIMIT, 4, 4}, {IPPROTO_IPV6, IPV6_TCLASS, 4, 4},
    {IPPROTO_IPV6, IPV6_DONTFRAG, 4, 4}, {IPPROTO_UDP, kUdpSegment, 2, 2},
};

}  // namespace

std::span<const Option> options() { return kOptions; }

bool may_set(int level, int name) {
  return std::any_of(std::begin(kOptions), std::end(kOptions), [&](auto& o) { return o.level == level && o.name == name && o.set; });
}
bool may_get(int level, int name) {
  return std::any_of(std::begin(kOptions), std::end(kOptions), [&](auto& o) { return o.level == level && o.name == name && o.get; });
}

bool may_send_control(int level, int type, size_t bytes) {
  return std::any_of(std::begin(kControls), std::end(kControls), [&](auto& k) {
    return k.level == level && k.type == type && bytes >= k.smallest && bytes <= k.largest;
  });
}

}  // namespace sentry::net::host

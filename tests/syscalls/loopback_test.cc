// SPDX-License-Identifier: Apache-2.0
// The families that need no network: loopback's TCP and UDP, the list of interfaces, netlink. Passes on Linux first, then in the
// sandbox.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/syscalls/inet.h"

namespace {

using namespace sockets;

// ---- Loopback and the list of interfaces ----

TEST(Interfaces, LoopbackIsKnown) {
  EXPECT_EQ(if_nametoindex("lo"), 1u);
  char name[IF_NAMESIZE];
  EXPECT_STREQ(if_indextoname(1, name), "lo");
  Fd s = socket(AF_UNIX, SOCK_DGRAM, 0);
  ifreq r{};
  strcpy(r.ifr_name, "lo");
  ASSERT_EQ(ioctl(s, SIOCGIFFLAGS, &r), 0);
  EXPECT_TRUE(r.ifr_flags & IFF_LOOPBACK);
  strcpy(r.ifr_name, "nope0");
  EXPECT_ERRNO(ioctl(s, SIOCGIFFLAGS, &r), ENODEV);
  ifaddrs* list = nullptr;
  ASSERT_EQ(getifaddrs(&list), 0);
  bool v4 = false;
  for (ifaddrs* i = list; i; i = i->ifa_next)
    if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !strcmp(i->ifa_name, "lo"))
      v4 |= reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
  EXPECT_TRUE(v4);
  freeifaddrs(list);
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}
sockaddr* any(sockaddr_in& a) { return reinterpret_cast<sockaddr*>(&a); }

TEST(Loopback, TcpServerAndClient) {
  ignore_sigpipe();
  Fd l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback(0);
  ASSERT_EQ(bind(l, any(a), sizeof a), 0);
  ASSERT_EQ(listen(l, 8), 0);
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(l, any(a), &n), 0);
  ASSERT_NE(a.sin_port, 0);
  Fd again = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind(again, any(a), sizeof a), EADDRINUSE);
  ASSERT_EQ(connect(c, any(a), sizeof a), 0);
  sockaddr_in from{};
  n = sizeof from;
  Fd s = accept(l, any(from), &n);
  ASSERT_GE(s, 0);
  sockaddr_in mine{};
  n = sizeof mine;
  ASSERT_EQ(getsockname(c, any(mine), &n), 0);
  EXPECT_EQ(memcmp(&mine, &from, sizeof mine), 0);
  int on = 1;
  EXPECT_EQ(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
  EXPECT_EQ(send(c, "ping", 4, 0), 4);
  char b[8];
  EXPECT_EQ(recv(s, b, 8, 0), 4);
  EXPECT_EQ(events_of(s), POLLOUT);
  EXPECT_EQ(shutdown(c, SHUT_WR), 0);
  EXPECT_EQ(recv(s, b, 8, 0), 0);
  EXPECT_EQ(events_of(s), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(send(s, "pong", 4, 0), 4);
  EXPECT_EQ(recv(c, b, 8, 0), 4);
  s.reset();
  EXPECT_EQ(recv(c, b, 8, 0), 0);
  l.reset();
  Fd d = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(connect(d, any(a), sizeof a), ECONNREFUSED);
}

TEST(Loopback, ReuseAddressLetsOneListen) {
  Fd x = socket(AF_INET, SOCK_STREAM, 0), y = socket(AF_INET, SOCK_STREAM, 0), z = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1;
  sockaddr_in a = loopback(0);
  for (int s : {static_cast<int>(x), static_cast<int>(y)}) {
    ASSERT_EQ(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    ASSERT_EQ(bind(s, any(a), sizeof a), 0);
    socklen_t n = sizeof a;
    ASSERT_EQ(getsockname(s, any(a), &n), 0);
  }
  EXPECT_ERRNO(bind(z, any(a), sizeof a), EADDRINUSE);
  EXPECT_EQ(listen(x, 1), 0);
  EXPECT_ERRNO(listen(y, 1), EADDRINUSE);
}

TEST(Loopback, AddressesOfNobody) {
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback(0);
  a.sin_addr.s_addr = htonl(0xc0000201);  // 192.0.2.1, for documentation only
  EXPECT_ERRNO(bind(s, any(a), sizeof a), EADDRNOTAVAIL);
  EXPECT_ERRNO(bind(s, any(a), 4), EINVAL);
  EXPECT_ERRNO(connect(s, any(a), 1), EINVAL);
  a.sin_family = 77;
  EXPECT_ERRNO(bind(s, any(a), sizeof a), EAFNOSUPPORT);
  EXPECT_ERRNO(connect(s, any(a), sizeof a), EAFNOSUPPORT);
  EXPECT_ERRNO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  EXPECT_ERRNO(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
}

TEST(Loopback, WriteAfterClose) {
  ignore_sigpipe();
  Fd l = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(listen(l, 8), 0);  // picks a port
  sockaddr_in a{};
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(l, any(a), &n), 0);
  ASSERT_NE(a.sin_port, 0);
  char b[4];
  {
    Fd u = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(events_of(u), POLLOUT | POLLHUP);
    EXPECT_ERRNO(send(u, "x", 1, 0), EPIPE);
    EXPECT_ERRNO(recv(u, b, 4, 0), ENOTCONN);
    EXPECT_ERRNO(shutdown(u, SHUT_WR), ENOTCONN);
  }
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(c, any(a), sizeof a), 0);
  Fd s = accept(l, nullptr, nullptr);
  s.reset();
  usleep(10000);
  EXPECT_EQ(events_of(c), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(send(c, "x", 1, 0), 1);
  usleep(10000);
  EXPECT_ERRNO(send(c, "x", 1, 0), EPIPE);
  // With bytes unread, closing resets.
  Fd d = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(d, any(a), sizeof a), 0);
  s = accept(l, nullptr, nullptr);
  EXPECT_EQ(send(d, "unread", 6, 0), 6);
  usleep(10000);
  s.reset();
  usleep(10000);
  EXPECT_ERRNO(recv(d, b, 4, 0), ECONNRESET);
  EXPECT_EQ(recv(d, b, 4, 0), 0);
}

// Nobody is at the other end any more, and what had come is still there.
TEST(Loopback, AResetLeavesTheDataAndNoPeer) {
  inet::Connection c;
  ASSERT_EQ(send(c.c, "before", 6, 0), 6);
  const linger at_once{1, 0};
  ASSERT_EQ(inet::set(c.c, SOL_SOCKET, SO_LINGER, at_once), 0);
  c.c.reset();
  EXPECT_TRUE(inet::wait_for(c.s, POLLRDHUP) & POLLHUP);
  sockaddr_storage who;
  socklen_t n = sizeof who;
  EXPECT_ERRNO(getpeername(c.s, reinterpret_cast<sockaddr*>(&who), &n), ENOTCONN);
  tcp_info info{};
  n = sizeof info;
  EXPECT_EQ(getsockopt(c.s, IPPROTO_TCP, TCP_INFO, &info, &n), 0);
  EXPECT_EQ(info.tcpi_state, TCP_CLOSE);
  char b[16];
  EXPECT_EQ(recv(c.s, b, 3, MSG_DONTWAIT), 3);
  EXPECT_EQ(recv(c.s, b, sizeof b, MSG_DONTWAIT), 3);
  EXPECT_ERRNO(recv(c.s, b, sizeof b, MSG_DONTWAIT), ECONNRESET);
  EXPECT_EQ(recv(c.s, b, sizeof b, MSG_DONTWAIT), 0);
  EXPECT_ERRNO(send(c.s, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(Loopback, NonblockingConnect) {
  Fd l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in a = loopback(0);
  ASSERT_EQ(bind(l, any(a), sizeof a), 0);
  ASSERT_EQ(listen(l, 8), 0);
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(l, any(a), &n), 0);
  EXPECT_ERRNO(connect(c, any(a), sizeof a), EINPROGRESS);
  pollfd p{c, POLLOUT, 0};
  ASSERT_EQ(poll(&p, 1, 5000), 1);
  int error = -1;
  n = sizeof error;
  ASSERT_EQ(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  EXPECT_EQ(error, 0);
  EXPECT_EQ(connect(c, any(a), sizeof a), 0);
  EXPECT_ERRNO(connect(c, any(a), sizeof a), EISCONN);
  l.reset();
  Fd d = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  EXPECT_ERRNO(connect(d, any(a), sizeof a), EINPROGRESS);
  p.fd = d;
  ASSERT_EQ(poll(&p, 1, 5000), 1);
  EXPECT_TRUE(p.revents & POLLERR);
  n = sizeof error;
  ASSERT_EQ(getsockopt(d, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  EXPECT_EQ(error, ECONNREFUSED);
}

TEST(Loopback, DualStack) {
  Fd l = socket(AF_INET6, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  ASSERT_EQ(bind(l, reinterpret_cast<sockaddr*>(&six), sizeof six), 0);
  ASSERT_EQ(listen(l, 8), 0);
  socklen_t n = sizeof six;
  ASSERT_EQ(getsockname(l, reinterpret_cast<sockaddr*>(&six), &n), 0);
  sockaddr_in a = loopback(ntohs(six.sin6_port));
  ASSERT_EQ(connect(c, any(a), sizeof a), 0);
  n = sizeof six;
  Fd s = accept(l, reinterpret_cast<sockaddr*>(&six), &n);
  ASSERT_GE(s, 0);
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&six.sin6_addr));
}

TEST(Loopback, Udp) {
  Fd r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in a = loopback(0);
  ASSERT_EQ(bind(r, any(a), sizeof a), 0);
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(r, any(a), &n), 0);
  EXPECT_ERRNO(send(s, "x", 1, 0), EDESTADDRREQ);
  EXPECT_EQ(sendto(s, "datagram", 8, 0, any(a), sizeof a), 8);
  char b[4];
  sockaddr_in from{};
  n = sizeof from;
  EXPECT_EQ(recvfrom(r, b, 4, MSG_TRUNC, any(from), &n), 8);
  EXPECT_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_EQ(sendto(r, "back", 4, 0, any(from), sizeof from), 4);
  EXPECT_EQ(recv(s, b, 4, 0), 4);
  ASSERT_EQ(connect(s, any(a), sizeof a), 0);
  r.reset();
  EXPECT_EQ(send(s, "x", 1, 0), 1);
  EXPECT_ERRNO(recv(s, b, 4, 0), ECONNREFUSED);
}

// What is told beside a datagram when it is asked for, and what its sender may ask for. RFC 3542, man 7 ip.
TEST(Loopback, Version6DatagramsAreToldOfTheirWay) {
  using inet::get, inet::set;
  Fd r = socket(AF_INET6, SOCK_DGRAM, 0), s = socket(AF_INET6, SOCK_DGRAM, 0);
  ASSERT_EQ(inet::bind_to(r, inet::name("::1", 0)), 0);
  const inet::Place at = inet::name_of(r);
  auto received = [&] { return inet::receive_message(r); };
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IPV6, IPV6_HOPLIMIT, 3), 4) << strerror(errno);
  EXPECT_TRUE(received().control.empty()) << "not asked for";
  ASSERT_EQ(set(r, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
  ASSERT_EQ(set(r, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 5), 0);
  ASSERT_EQ(set(r, IPPROTO_IPV6, IPV6_RECVTCLASS, 1), 0);
  EXPECT_EQ(get(r, IPPROTO_IPV6, IPV6_RECVHOPLIMIT), 1);
  ASSERT_EQ(set(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), 0);
  ASSERT_EQ(set(s, IPPROTO_IPV6, IPV6_TCLASS, 0x28), 0);
  ASSERT_EQ(sendto(s, "six", 3, 0, at.addr(), at.size), 3);
  inet::Message m = received();
  EXPECT_EQ(m.data, "six");
  auto info = m.as<in6_pktinfo>(IPPROTO_IPV6, IPV6_PKTINFO);
  EXPECT_EQ(memcmp(&info.ipi6_addr, &in6addr_loopback, 16), 0);
  EXPECT_EQ(info.ipi6_ifindex, 1u);
  EXPECT_EQ(m.as<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 9);
  EXPECT_EQ(m.as<int>(IPPROTO_IPV6, IPV6_TCLASS), 0x28);
  EXPECT_EQ(m.control.size(), 3u);
  // Of one message.
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IPV6, IPV6_HOPLIMIT, 3), 4);
  EXPECT_EQ(received().as<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 3);
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IPV6, IPV6_HOPLIMIT, -1), 4);
  EXPECT_EQ(received().as<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 9) << "as the socket says";
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IPV6, IPV6_TCLASS, 0x44), 4);
  EXPECT_EQ(received().as<int>(IPPROTO_IPV6, IPV6_TCLASS), 0x44);
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IPV6, IPV6_PKTINFO, in6_pktinfo{in6addr_loopback, 1}), 4) << strerror(errno);
  EXPECT_EQ(received().data, "with");
  // With little room: what fits, cut, and the flag that says so.
  ASSERT_EQ(sendto(s, "six", 3, 0, at.addr(), at.size), 3);
  m = inet::receive_message(r, 0, CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_LEN(2));
  EXPECT_TRUE(m.flags & MSG_CTRUNC);
  EXPECT_EQ(m.control.size(), 2u);
  // What cannot be.
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IPV6, IPV6_HOPLIMIT, 256), EINVAL);
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IPV6, IPV6_HOPLIMIT, -2), EINVAL);
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IPV6, IPV6_HOPLIMIT, int64_t{3}), EINVAL);
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IPV6, IPV6_TCLASS, 256), EINVAL);
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IPV6, 250, 1), EINVAL);
  EXPECT_ERRNO(set(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256), EINVAL);
  EXPECT_ERRNO(set(s, IPPROTO_IPV6, IPV6_TCLASS, 256), EINVAL);
  EXPECT_EQ(recv(r, &info, sizeof info, MSG_DONTWAIT), -1) << "none of those was sent";
}

TEST(Loopback, Version4DatagramsAreToldOfTheirWay) {
  using inet::set;
  Fd r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(inet::bind_to(r, inet::name("127.0.0.9", 0)), 0);
  const inet::Place at = inet::name_of(r);
  for (int option : {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS}) ASSERT_EQ(set(r, IPPROTO_IP, option, 1), 0);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_TTL, 17), 0);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_TOS, 0x28), 0);
  ASSERT_EQ(sendto(s, "four", 4, 0, at.addr(), at.size), 4);
  inet::Message m = inet::receive_message(r);
  auto info = m.as<in_pktinfo>(IPPROTO_IP, IP_PKTINFO);
  EXPECT_EQ(ntohl(info.ipi_addr.s_addr), 0x7f000009u);
  EXPECT_EQ(info.ipi_ifindex, 1);
  EXPECT_EQ(m.as<int>(IPPROTO_IP, IP_TTL), 17);
  EXPECT_EQ(m.as<unsigned char>(IPPROTO_IP, IP_TOS), 0x28);
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IP, IP_TTL, 5), 4);
  EXPECT_EQ(inet::receive_message(r).as<int>(IPPROTO_IP, IP_TTL), 5);
  in_pktinfo from{};
  from.ipi_spec_dst.s_addr = htonl(0x7f000007);
  ASSERT_EQ(inet::send_with(s, at, IPPROTO_IP, IP_PKTINFO, from), 4) << strerror(errno);
  m = inet::receive_message(r);
  EXPECT_EQ(ntohl(m.from.v4().sin_addr.s_addr), 0x7f000007u);
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IP, IP_TTL, 0), EINVAL);
  EXPECT_ERRNO(inet::send_with(s, at, IPPROTO_IP, IP_TTL, int64_t{5}), EINVAL);
  EXPECT_ERRNO(set(s, IPPROTO_IP, IP_TTL, 0), EINVAL);
  // An IPv4 peer of a socket of both is told of in the words of either.
  Fd both = socket(AF_INET6, SOCK_DGRAM, 0);
  ASSERT_EQ(inet::bind_to(both, inet::name("::", 0)), 0);
  ASSERT_EQ(set(both, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
  ASSERT_EQ(set(both, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), 0);
  ASSERT_EQ(set(both, IPPROTO_IP, IP_RECVTTL, 1), 0);
  const inet::Place there = inet::name("127.0.0.1", inet::name_of(both).port());
  ASSERT_EQ(sendto(s, "four", 4, 0, there.addr(), there.size), 4);
  m = inet::receive_message(both);
  EXPECT_TRUE(m.has(IPPROTO_IPV6, IPV6_PKTINFO));
  EXPECT_FALSE(m.has(IPPROTO_IPV6, IPV6_HOPLIMIT));
  EXPECT_EQ(m.as<int>(IPPROTO_IP, IP_TTL), 17);
}

TEST(Raw, WhoMayNotHaveOneIsToldSo) {
  EXPECT_ERRNO(socket(AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT);
  pid_t p = fork();
  if (p == 0) {
    EXPECT_EQ(setresuid(12345, 12345, 12345), 0);
    EXPECT_ERRNO(socket(AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT);
    EXPECT_ERRNO(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
    EXPECT_ERRNO(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), EPERM);
    EXPECT_ERRNO(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), EPERM);
    EXPECT_ERRNO(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
    EXPECT_ERRNO(socket(AF_PACKET, SOCK_DGRAM, 0), EPERM);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(p, &status, 0), p);
  EXPECT_EQ(status, 0);
}

TEST(Netlink, OtherKindsAreRefused) {
  EXPECT_ERRNO(socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
  EXPECT_ERRNO(socket(AF_NETLINK, SOCK_RAW, 31), EPROTONOSUPPORT);
}

}  // namespace

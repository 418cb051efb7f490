// SPDX-License-Identifier: Apache-2.0
// UDP and ICMP echo, ancillary data, error queues, multicast.
#include <time.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

#include "tests/syscalls/inet.h"

namespace {

using namespace inet;

Fd receiver(const char* address = "127.0.0.1") {
  Fd r = socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
  EXPECT_EQ(bind_to(r, name(address, 0)), 0) << strerror(errno);
  return r;
}
ssize_t send_to(int fd, const Place& n, const void* data, size_t size) { return sendto(fd, data, size, 0, n.addr(), n.size); }

TEST(Udp, DatagramsKeepTheirBounds) {
  Fd r = receiver(), s = socket(AF_INET, SOCK_DGRAM, 0);
  Place at = name_of(r);
  EXPECT_ERRNO(send(s, "x", 1, 0), EDESTADDRREQ);
  EXPECT_EQ(send_to(s, at, "datagram", 8), 8);
  EXPECT_EQ(send_to(s, at, "", 0), 0);
  EXPECT_EQ(send_to(s, at, "two", 3), 3);
  int n = -1;
  ASSERT_EQ(ioctl(r, FIONREAD, &n), 0);
  EXPECT_EQ(n, 8);
  char b[16];
  Place from;
  EXPECT_EQ(recvfrom(r, b, 4, MSG_TRUNC | MSG_PEEK, from.addr(), &from.size), 8);
  EXPECT_EQ(from.port(), name_of(s).port());
  EXPECT_EQ(recv(r, b, 4, 0), 4) << "what does not fit is gone";
  EXPECT_EQ(recv(r, b, 16, 0), 0) << "an empty one is one";
  EXPECT_EQ(recv(r, b, 16, 0), 3);
  EXPECT_ERRNO(recv(r, b, 16, MSG_DONTWAIT), EAGAIN);
  EXPECT_EQ(events_of(r), POLLOUT);
  Message m;
  send_to(s, at, std::string(5000, 'x').data(), 5000);
  m = receive_message(r);
  EXPECT_EQ(m.n, 4096);
  EXPECT_TRUE(m.flags & MSG_TRUNC);
}

TEST(Udp, Errors) {
  Fd s = socket(AF_INET, SOCK_DGRAM, 0);
  std::string big(65508, 'x');
  Place at = name("127.0.0.1", 9);
  EXPECT_ERRNO(send_to(s, at, big.data(), big.size()), EMSGSIZE);
  EXPECT_ERRNO(send_to(s, name("198.51.100.1", 9), "x", 1), ENETUNREACH);
  EXPECT_ERRNO(send_to(s, name("127.0.0.1", 0), "x", 1), EINVAL);
  EXPECT_ERRNO(sendto(s, "x", 1, 0, at.addr(), 4), EINVAL);
  EXPECT_ERRNO(sendto(s, "x", 1, MSG_OOB, at.addr(), at.size), EOPNOTSUPP);
  EXPECT_ERRNO(send_to(s, name("10.77.0.255", 9), "x", 1), EACCES);
  ASSERT_EQ(set(s, SOL_SOCKET, SO_BROADCAST, 1), 0);
  EXPECT_EQ(send_to(s, name("10.77.0.255", 9), "x", 1), 1);
  EXPECT_ERRNO(listen(s, 1), EOPNOTSUPP);
  EXPECT_ERRNO(accept(s, nullptr, nullptr), EOPNOTSUPP);
  EXPECT_ERRNO(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
  EXPECT_ERRNO(set(s, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT);
  EXPECT_ERRNO(shutdown(s, SHUT_RD), ENOTCONN);
}

TEST(Udp, ConnectedHearsOfRefusal) {
  Place gone = [] {
    Fd r = receiver();
    return name_of(r);
  }();
  Fd s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(connect_to(s, gone), 0);
  EXPECT_EQ(peer_of(s).port(), gone.port());
  EXPECT_EQ(send(s, "x", 1, 0), 1);
  char b[1];
  EXPECT_ERRNO(recv(s, b, 1, 0), ECONNREFUSED);
  EXPECT_EQ(send(s, "x", 1, 0), 1);
  EXPECT_TRUE(wait_for(s, POLLIN) & POLLERR);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

TEST(Udp, ConnectAndDisconnect) {
  Fd a = receiver(), b = receiver(), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(connect_to(s, name_of(a)), 0);
  EXPECT_EQ(ntohl(name_of(s).v4().sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(send_to(b, name_of(s), "b", 1), 1);
  EXPECT_EQ(send_to(a, name_of(s), "a", 1), 1);
  char c[4];
  ASSERT_EQ(recv(s, c, 4, 0), 1);
  EXPECT_EQ(c[0], 'a') << "what is not from the peer is not taken";
  EXPECT_EQ(send_to(s, name_of(b), "to b", 4), 4) << "another address may be given";
  EXPECT_EQ(recv(b, c, 4, 0), 4);
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  ASSERT_EQ(connect(s, &none, sizeof none), 0);
  Place n;
  EXPECT_ERRNO(getpeername(s, n.addr(), &n.size), ENOTCONN);
  EXPECT_ERRNO(send(s, "x", 1, 0), EDESTADDRREQ);
  EXPECT_EQ(ntohl(name_of(s).v4().sin_addr.s_addr), INADDR_ANY);
}

TEST(Udp, WaitsAndWakes) {
  Fd r = receiver(), s = socket(AF_INET, SOCK_DGRAM, 0);
  Place at = name_of(r);
  char b[8];
  {
    Thread t([&] {
      nap(40);
      send_to(s, at, "one", 3);
    });
    EXPECT_EQ(recv(r, b, 8, 0), 3);
  }
  {
    Thread t([&] {
      nap(40);
      send_to(s, at, "two", 3);
    });
    EXPECT_EQ(wait_for(r, POLLIN), POLLIN);
  }
  EXPECT_EQ(recv(r, b, 8, 0), 3);
  ASSERT_EQ(set(r, SOL_SOCKET, SO_RCVTIMEO, timeval{0, 50000}), 0);
  double t = now();
  EXPECT_ERRNO(recv(r, b, 8, 0), EAGAIN);
  EXPECT_GE(now() - t, 0.04);
  ASSERT_EQ(set(r, SOL_SOCKET, SO_RCVTIMEO, timeval{0, 0}), 0);
  Thread closer([&] {
    nap(40);
    shutdown(r, SHUT_RD);
  });
  EXPECT_EQ(recv(r, b, 8, 0), 0);
}

TEST(Udp, ManyMessagesInOneCall) {
  Fd r = receiver(), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(connect_to(s, name_of(r)), 0);
  constexpr int kMany = 8;
  char data[kMany][4], got[kMany][16];
  iovec v[kMany], w[kMany];
  mmsghdr m[kMany] = {}, g[kMany] = {};
  for (int i = 0; i < kMany; i++) {
    memset(data[i], 'a' + i, 4);
    v[i] = {data[i], static_cast<size_t>(1 + i % 4)};
    w[i] = {got[i], 16};
    m[i].msg_hdr.msg_iov = &v[i];
    g[i].msg_hdr.msg_iov = &w[i];
    m[i].msg_hdr.msg_iovlen = g[i].msg_hdr.msg_iovlen = 1;
  }
  ASSERT_EQ(sendmmsg(s, m, kMany, 0), kMany);
  timespec limit{2, 0};
  ASSERT_EQ(recvmmsg(r, g, kMany, 0, &limit), kMany);
  for (int i = 0; i < kMany; i++) {
    EXPECT_EQ(g[i].msg_len, 1u + static_cast<unsigned>(i) % 4);
    EXPECT_EQ(got[i][0], 'a' + i);
  }
  EXPECT_ERRNO(recvmmsg(r, g, kMany, MSG_DONTWAIT, nullptr), EAGAIN);
}

TEST(Udp, ToldOfItsWay) {
  Fd r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(bind_to(r, name("0.0.0.0", 0)), 0);
  for (int o : {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS}) ASSERT_EQ(set(r, IPPROTO_IP, o, 1), 0);
  ASSERT_EQ(set(r, SOL_SOCKET, SO_TIMESTAMP, 1), 0);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_TTL, 17), 0);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_TOS, 0x28), 0);
  Place at = name("127.0.0.9", name_of(r).port());
  ASSERT_EQ(send_to(s, at, "x", 1), 1);
  Message m = receive_message(r);
  ASSERT_EQ(m.n, 1);
  auto info = m.as<in_pktinfo>(IPPROTO_IP, IP_PKTINFO);
  EXPECT_EQ(ntohl(info.ipi_addr.s_addr), 0x7f000009u);
  EXPECT_EQ(info.ipi_ifindex, 1);
  EXPECT_EQ(m.as<int>(IPPROTO_IP, IP_TTL), 17);
  EXPECT_EQ(m.as<unsigned char>(IPPROTO_IP, IP_TOS), 0x28);
  auto stamp = m.as<timeval>(SOL_SOCKET, SO_TIMESTAMP);
  timeval here;
  gettimeofday(&here, nullptr);
  EXPECT_LT(std::abs(here.tv_sec - stamp.tv_sec), 5);
  ASSERT_EQ(send_to(s, at, "x", 1), 1);
  m = receive_message(r, 0, CMSG_SPACE(sizeof(timeval)));
  EXPECT_TRUE(m.flags & MSG_CTRUNC) << "no room for all";
  EXPECT_TRUE(m.has(SOL_SOCKET, SO_TIMESTAMP));
  ASSERT_EQ(set(r, SOL_SOCKET, SO_TIMESTAMPNS, 1), 0);
  ASSERT_EQ(send_with(s, at, IPPROTO_IP, IP_TTL, 5), 4) << strerror(errno);
  m = receive_message(r);
  EXPECT_EQ(m.as<int>(IPPROTO_IP, IP_TTL), 5);
  EXPECT_TRUE(m.has(SOL_SOCKET, SO_TIMESTAMPNS));
  in_pktinfo from{};
  from.ipi_spec_dst.s_addr = htonl(0x7f000007);
  ASSERT_EQ(send_with(s, at, IPPROTO_IP, IP_PKTINFO, from), 4);
  m = receive_message(r);
  EXPECT_EQ(ntohl(m.from.v4().sin_addr.s_addr), 0x7f000007u);
  EXPECT_ERRNO(send_with(s, at, IPPROTO_IP, IP_TTL, static_cast<int64_t>(5)), EINVAL);
}

TEST(Udp, ErrorsInTheQueue) {
  Place gone = [] {
    Fd r = receiver();
    return name_of(r);
  }();
  Fd s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_RECVERR, 1), 0);
  EXPECT_EQ(receive_message(s, MSG_ERRQUEUE).n, -1);
  EXPECT_EQ(errno, EAGAIN);
  ASSERT_EQ(send_to(s, gone, "lost", 4), 4);
  EXPECT_TRUE(wait_for(s, POLLIN) & POLLERR);
  Message m = receive_message(s, MSG_ERRQUEUE);
  ASSERT_EQ(m.n, 4);
  EXPECT_EQ(m.data, "lost");
  EXPECT_TRUE(m.flags & MSG_ERRQUEUE);
  EXPECT_EQ(m.from.port(), gone.port());
  auto e = m.as<sock_extended_err>(IPPROTO_IP, IP_RECVERR);
  EXPECT_EQ(e.ee_errno, static_cast<uint32_t>(ECONNREFUSED));
  EXPECT_EQ(e.ee_origin, SO_EE_ORIGIN_ICMP);
}

TEST(Udp, Version6) {
  Fd r = receiver("::1"), s = socket(AF_INET6, SOCK_DGRAM, 0);
  ASSERT_EQ(set(r, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
  ASSERT_EQ(set(r, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), 0);
  ASSERT_EQ(set(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), 0);
  EXPECT_EQ(send_to(s, name_of(r), "six", 3), 3);
  Message m = receive_message(r);
  EXPECT_EQ(m.data, "six");
  EXPECT_EQ(m.from.size, sizeof(sockaddr_in6));
  auto info = m.as<in6_pktinfo>(IPPROTO_IPV6, IPV6_PKTINFO);
  EXPECT_EQ(memcmp(&info.ipi6_addr, &in6addr_loopback, 16), 0);
  EXPECT_EQ(m.as<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 9);
  ASSERT_EQ(send_with(s, name_of(r), IPPROTO_IPV6, IPV6_HOPLIMIT, 3), 4);
  EXPECT_EQ(receive_message(r).as<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 3);
  // An IPv4 peer of a socket of both.
  Fd both = receiver("::"), four = socket(AF_INET, SOCK_DGRAM, 0);
  EXPECT_EQ(send_to(four, name("127.0.0.1", name_of(both).port()), "four", 4), 4);
  m = receive_message(both);
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&m.from.v6().sin6_addr));
  EXPECT_EQ(send_to(both, m.from, "back", 4), 4);
  char b[8];
  EXPECT_EQ(recv(four, b, 8, 0), 4);
}

TEST(Udp, Multicast) {
  Fd r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(bind_to(r, name("0.0.0.0", 0)), 0);
  ip_mreqn group{};
  inet_pton(AF_INET, "239.7.7.7", &group.imr_multiaddr);
  inet_pton(AF_INET, "10.77.0.1", &group.imr_address);
  EXPECT_ERRNO(set(r, IPPROTO_IP, IP_DROP_MEMBERSHIP, group), EADDRNOTAVAIL);
  ASSERT_EQ(set(r, IPPROTO_IP, IP_ADD_MEMBERSHIP, group), 0) << strerror(errno);
  EXPECT_ERRNO(set(r, IPPROTO_IP, IP_ADD_MEMBERSHIP, group), EADDRINUSE);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_MULTICAST_IF, group), 0);
  ASSERT_EQ(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 3), 0);
  EXPECT_EQ(get(s, IPPROTO_IP, IP_MULTICAST_TTL), 3);
  ASSERT_EQ(send_to(s, name("239.7.7.7", name_of(r).port()), "all", 3), 3) << strerror(errno);
  EXPECT_EQ(wait_for(r, POLLIN, 2000), POLLIN);
  EXPECT_EQ(receive_message(r, MSG_DONTWAIT).data, "all");
  EXPECT_EQ(set(r, IPPROTO_IP, IP_DROP_MEMBERSHIP, group), 0);
}

TEST(Udp, ManyDatagramsOfOneSend) {
  Fd r = receiver(), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(send_with(s, name_of(r), SOL_UDP, UDP_SEGMENT, uint16_t{1000}, std::string(3000, 'x')), 3000) << strerror(errno);
  for (int i = 0; i < 3; i++) EXPECT_EQ(receive_message(r).n, 1000);
}

TEST(Udp, ReadAndWrite) {
  Fd r = receiver(), s = socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_EQ(connect_to(s, name_of(r)), 0);
  EXPECT_EQ(write(s, "abc", 3), 3);
  EXPECT_EQ(write(s, "", 0), 0);
  char a[2], b[8];
  iovec v[2] = {{a, 2}, {b, 8}};
  EXPECT_EQ(readv(r, v, 2), 3);
  EXPECT_EQ(b[0], 'c');
  EXPECT_EQ(read(r, b, 8), 0);
  set_nonblocking(r);
  EXPECT_ERRNO(read(r, b, 8), EAGAIN);
}

TEST(Ping, EchoOfVersion4) {
  Fd s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  ASSERT_GE(s, 0) << strerror(errno);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_PROTOCOL), IPPROTO_ICMP);
  struct {
    icmphdr head;
    char data[16];
  } echo{};
  echo.head.type = ICMP_ECHO;
  echo.head.un.echo.sequence = htons(7);
  strcpy(echo.data, "payload");
  ASSERT_EQ(send_to(s, name("127.0.0.1", 0), &echo, sizeof echo), static_cast<ssize_t>(sizeof echo)) << strerror(errno);
  Message m = receive_message(s);
  ASSERT_EQ(m.n, static_cast<ssize_t>(sizeof echo));
  memcpy(&echo, m.data.data(), sizeof echo);
  EXPECT_EQ(echo.head.type, ICMP_ECHOREPLY);
  EXPECT_EQ(echo.head.un.echo.sequence, htons(7));
  EXPECT_STREQ(echo.data, "payload");
  echo.head.type = ICMP_REDIRECT;
  EXPECT_ERRNO(send_to(s, name("127.0.0.1", 0), &echo, sizeof echo), EINVAL);
  EXPECT_ERRNO(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMPV6), EPROTONOSUPPORT);
}

TEST(Ping, EchoOfVersion6) {
  Fd s = socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
  ASSERT_GE(s, 0) << strerror(errno);
  icmp6_hdr echo{};
  echo.icmp6_type = ICMP6_ECHO_REQUEST;
  echo.icmp6_seq = htons(3);
  ASSERT_EQ(send_to(s, name("::1", 0), &echo, sizeof echo), static_cast<ssize_t>(sizeof echo)) << strerror(errno);
  Message m = receive_message(s);
  ASSERT_EQ(m.n, static_cast<ssize_t>(sizeof echo));
  memcpy(&echo, m.data.data(), sizeof echo);
  EXPECT_EQ(echo.icmp6_type, ICMP6_ECHO_REPLY);
}

}  // namespace

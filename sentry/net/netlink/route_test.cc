// SPDX-License-Identifier: Apache-2.0
// Requests as bytes, answers as bytes; hostile ones too.
#include "sentry/net/netlink/route.h"

#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

namespace sentry::net::netlink {
namespace {

Datagram request(uint16_t type, uint16_t flags, std::vector<uint8_t> body) {
  Datagram d(sizeof(nlmsghdr) + body.size());
  nlmsghdr h{};
  h.nlmsg_len = static_cast<uint32_t>(d.size());
  h.nlmsg_type = type;
  h.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  h.nlmsg_seq = 77;
  memcpy(d.data(), &h, sizeof h);
  if (!body.empty()) memcpy(d.data() + sizeof h, body.data(), body.size());
  return d;
}
struct Message {
  nlmsghdr head;
  std::vector<std::byte> body;
};
std::vector<Message> parse(const std::vector<Datagram>& all) {
  std::vector<Message> out;
  for (const Datagram& d : all)
    for (size_t at = 0; at < d.size();) {
      Message m;
      EXPECT_GE(d.size() - at, sizeof m.head);
      memcpy(&m.head, d.data() + at, sizeof m.head);
      EXPECT_LE(at + m.head.nlmsg_len, d.size());
      m.body.assign(d.begin() + static_cast<long>(at + sizeof m.head), d.begin() + static_cast<long>(at + m.head.nlmsg_len));
      out.push_back(m);
      at += (m.head.nlmsg_len + 3) & ~3u;
    }
  return out;
}
int error_of(const Message& m) {
  EXPECT_EQ(m.head.nlmsg_type, NLMSG_ERROR);
  int e;
  memcpy(&e, m.body.data(), sizeof e);
  return e;
}

TEST(Route, DumpsEndWithDone) {
  for (uint16_t type : {RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH}) {
    auto m = parse(answer_requests(request(type, NLM_F_DUMP, {0}), 42));
    ASSERT_FALSE(m.empty());
    EXPECT_EQ(m.back().head.nlmsg_type, NLMSG_DONE);
    for (auto& x : m) {
      EXPECT_TRUE(x.head.nlmsg_flags & NLM_F_MULTI);
      EXPECT_EQ(x.head.nlmsg_seq, 77u);
      EXPECT_EQ(x.head.nlmsg_pid, 42u);
    }
  }
  EXPECT_EQ(parse(answer_requests(request(RTM_GETADDR, NLM_F_DUMP, {AF_INET}), 1)).size(), 2u);
  EXPECT_EQ(parse(answer_requests(request(RTM_GETADDR, NLM_F_DUMP, {AF_UNSPEC}), 1)).size(), 3u);
}

TEST(Route, OneLinkByIndexOrName) {
  std::vector<uint8_t> body(sizeof(ifinfomsg));
  ifinfomsg i{};
  i.ifi_index = 1;
  memcpy(body.data(), &i, sizeof i);
  auto m = parse(answer_requests(request(RTM_GETLINK, 0, body), 1));
  ASSERT_EQ(m.size(), 1u);
  EXPECT_EQ(m[0].head.nlmsg_type, RTM_NEWLINK);
  i.ifi_index = 2;
  memcpy(body.data(), &i, sizeof i);
  EXPECT_EQ(error_of(parse(answer_requests(request(RTM_GETLINK, 0, body), 1))[0]), -ENODEV);
  i.ifi_index = 0;
  memcpy(body.data(), &i, sizeof i);
  body.insert(body.end(), {7, 0, IFLA_IFNAME, 0, 'l', 'o', 0, 0});
  EXPECT_EQ(parse(answer_requests(request(RTM_GETLINK, 0, body), 1))[0].head.nlmsg_type, RTM_NEWLINK);
}

TEST(Route, ChangesAreRefusedAndUnknownAnswered) {
  std::vector<uint8_t> body(16);
  for (uint16_t type : {RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_DELROUTE, RTM_NEWROUTE})
    EXPECT_EQ(error_of(parse(answer_requests(request(type, NLM_F_ACK, body), 1))[0]), -EPERM) << type;
  EXPECT_EQ(error_of(parse(answer_requests(request(4000, 0, body), 1))[0]), -EOPNOTSUPP);
  EXPECT_EQ(error_of(parse(answer_requests(request(NLMSG_NOOP, NLM_F_ACK, {}), 1))[0]), 0);
}

TEST(Route, AnyBytesAreSurvived) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; round++) {
    Datagram d(random() % 200);
    for (auto& b : d) b = static_cast<std::byte>(random());
    if (d.size() >= sizeof(nlmsghdr)) {  // make most of them get past the header
      nlmsghdr h;
      memcpy(&h, d.data(), sizeof h);
      h.nlmsg_len = static_cast<uint32_t>(random() % (d.size() + 20));
      h.nlmsg_type = static_cast<uint16_t>(RTM_BASE + random() % 110);
      h.nlmsg_flags |= NLM_F_REQUEST;
      memcpy(d.data(), &h, sizeof h);
    }
    parse(answer_requests(d, 1));
  }
}

}  // namespace
}  // namespace sentry::net::netlink

// SPDX-License-Identifier: Apache-2.0
// Linux: ip_cmsg_send, ip_cmsg_recv, ip6_datagram_send_ctl, ip6_datagram_recv_ctl. Everything comes by the loopback (index 1).
#include "sentry/net/inet/control.h"

#include <netinet/udp.h>

#include <algorithm>

namespace sentry::net::inet {
namespace {

constexpr int kLoopback = 1;

constexpr size_t align(size_t n) { return (n + 7) & ~size_t{7}; }

template <typename T>
Result<T> exactly(std::span<const std::byte> data) {
  if (data.size() != sizeof(T)) return kEINVAL;
  T v;
  memcpy(&v, data.data(), sizeof v);
  return v;
}

// The sender's address: any of this machine, of the version of where it goes.
Result<void> set_source(const in6_addr& address, uint32_t index, Way& way) {
  if (index != 0 && index != kLoopback) return kENODEV;
  Endpoint e;
  e.address = address;
  if (e.is_any()) return {};
  if (e.is_v4() != way.to.is_v4() || !e.is_loopback()) return kEINVAL;
  way.from.address = address;
  return {};
}

Result<void> read_v4(int type, std::span<const std::byte> data, Way& way) {
  switch (type) {
    case IP_TTL: {
      const int v = TRY(exactly<int>(data));
      if (v < 1 || v > 255) return kEINVAL;
      way.hops = v;
      return {};
    }
    case IP_TOS: {
      const int v = data.size() == 1 ? static_cast<int>(data[0]) : TRY(exactly<int>(data));
      if (v < 0 || v > 255) return kEINVAL;
      way.traffic_class = v;
      return {};
    }
    case IP_PKTINFO: {
      const auto v = TRY(exactly<in_pktinfo>(data));
      return set_source(Endpoint::v4(ntohl(v.ipi_spec_dst.s_addr), 0).address, static_cast<uint32_t>(v.ipi_ifindex), way);
    }
  }
  return kEINVAL;
}

Result<void> read_v6(int type, std::span<const std::byte> data, Way& way) {
  switch (type) {
    case IPV6_HOPLIMIT: {
      const int v = TRY(exactly<int>(data));
      if (v < -1 || v > 255) return kEINVAL;
      if (v >= 0) way.hops = v;
      return {};
    }
    case IPV6_TCLASS: {
      const int v = TRY(exactly<int>(data));
      if (v < -1 || v > 255) return kEINVAL;
      if (v >= 0) way.traffic_class = v;
      return {};
    }
    case IPV6_DONTFRAG: {
      const int v = TRY(exactly<int>(data));
      if (v < 0 || v > 1) return kEINVAL;
      return {};
    }
    case IPV6_PKTINFO: {
      if (data.size() < sizeof(in6_pktinfo)) return kEINVAL;
      const auto v = TRY(exactly<in6_pktinfo>(data.first(sizeof(in6_pktinfo))));
      return set_source(v.ipi6_addr, v.ipi6_ifindex, way);
    }
  }
  return kEINVAL;
}

template <typename T>
void append(std::vector<std::byte>& out, int level, int type, const T& value) {
  cmsghdr h{};
  h.cmsg_len = sizeof h + sizeof value;
  h.cmsg_level = level;
  h.cmsg_type = type;
  const size_t at = out.size();
  out.resize(at + align(h.cmsg_len));
  memcpy(out.data() + at, &h, sizeof h);
  memcpy(out.data() + at + sizeof h, &value, sizeof value);
}

}  // namespace

Result<void> read_control(std::span<const std::byte> control, const LocalEnd& local, int family, Way& way) {
  const bool v4 = way.to.is_v4();
  way.hops = v4 ? local.option(IPPROTO_IP, IP_TTL) : local.option(IPPROTO_IPV6, IPV6_UNICAST_HOPS);
  way.traffic_class = v4 ? local.option(IPPROTO_IP, IP_TOS) : local.option(IPPROTO_IPV6, IPV6_TCLASS);
  while (control.size() >= sizeof(cmsghdr)) {
    cmsghdr h;
    memcpy(&h, control.data(), sizeof h);
    if (h.cmsg_len < sizeof h || h.cmsg_len > control.size()) return kEINVAL;
    auto data = control.subspan(sizeof h, h.cmsg_len - sizeof h);
    control = control.subspan(std::min(align(h.cmsg_len), control.size()));
    if (h.cmsg_level == SOL_UDP) return kEINVAL;  // no segments of one buffer
    if (v4) {
      if (h.cmsg_level == IPPROTO_IP) TRY(read_v4(h.cmsg_type, data, way));
      else if (h.cmsg_level == IPPROTO_IPV6 && h.cmsg_type == IPV6_PKTINFO && family == AF_INET6) TRY(read_v6(h.cmsg_type, data, way));
    } else if (h.cmsg_level == IPPROTO_IPV6) {
      TRY(read_v6(h.cmsg_type, data, way));
    }
  }
  return {};
}

std::vector<std::byte> control_of(const Way& way, const LocalEnd& local, int family) {
  std::vector<std::byte> out;
  if (family == AF_INET6) {
    if (local.option(IPPROTO_IPV6, IPV6_RECVPKTINFO)) append(out, IPPROTO_IPV6, IPV6_PKTINFO, in6_pktinfo{way.to.address, kLoopback});
    if (!way.to.is_v4()) {
      if (local.option(IPPROTO_IPV6, IPV6_RECVHOPLIMIT)) append(out, IPPROTO_IPV6, IPV6_HOPLIMIT, way.hops);
      if (local.option(IPPROTO_IPV6, IPV6_RECVTCLASS)) append(out, IPPROTO_IPV6, IPV6_TCLASS, way.traffic_class);
      return out;
    }
  }
  if (local.option(IPPROTO_IP, IP_PKTINFO)) {
    in_pktinfo info{};
    info.ipi_ifindex = kLoopback;
    memcpy(&info.ipi_addr, &way.to.address.s6_addr[12], 4);
    info.ipi_spec_dst = info.ipi_addr;
    append(out, IPPROTO_IP, IP_PKTINFO, info);
  }
  if (local.option(IPPROTO_IP, IP_RECVTTL)) append(out, IPPROTO_IP, IP_TTL, way.hops);
  if (local.option(IPPROTO_IP, IP_RECVTOS)) append(out, IPPROTO_IP, IP_TOS, static_cast<unsigned char>(way.traffic_class));
  return out;
}

}  // namespace sentry::net::inet

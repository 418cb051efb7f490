// SPDX-License-Identifier: Apache-2.0
// The socket: requests go to the kernel's side at once, answers wait in the queue. Linux: net/netlink/af_netlink.c.
#include "sentry/net/netlink/netlink.h"

#include <linux/netlink.h>

#include <algorithm>
#include <map>
#include <set>

#include "sentry/net/netlink/route.h"

namespace sentry::net::netlink {
namespace {

constexpr uint32_t kWakeIn = EPOLLIN | EPOLLRDNORM;
constexpr size_t kMaxRequest = 32 * 1024;

// Port ids in use.
Guarded<std::set<uint32_t>>& ports() {
  static auto* p = new Guarded<std::set<uint32_t>>(LockRank::kFilePrivate);
  return *p;
}

sockaddr_nl nl_address(uint32_t port, uint32_t groups) {
  sockaddr_nl a{};
  a.nl_family = AF_NETLINK;
  a.nl_pid = port;
  a.nl_groups = groups;
  return a;
}

class RouteSock final : public Sock {
 public:
  RouteSock(int type_) : Sock(AF_NETLINK, type_, NETLINK_ROUTE) {}

  Result<void> bind(const Address& a) override {
    if (a.size < sizeof(sockaddr_nl) || a.family() != AF_NETLINK) return kEINVAL;
    auto nl = a.as<sockaddr_nl>();
    uint32_t mine = port();
    if (mine != 0) {
      if (nl.nl_pid != mine && nl.nl_pid != 0) return kEINVAL;
    } else {
      TRY(take_port(nl.nl_pid));
    }
    groups_ = nl.nl_groups;  // nothing ever changes here, so nothing is ever told
    return {};
  }
  Result<void> connect(const Address& a, bool) override {
    if (a.family() == AF_UNSPEC && a.size >= sizeof(uint16_t)) return {};
    if (a.size < sizeof(sockaddr_nl) || a.family() != AF_NETLINK) return kEINVAL;
    auto nl = a.as<sockaddr_nl>();
    if (nl.nl_pid != 0 || nl.nl_groups != 0) return kEPERM;
    return ensure_port();
  }
  Result<Address> name() override { return Address::of(nl_address(port(), groups_)); }
  Result<Address> peer_name() override { return Address::of(nl_address(0, 0)); }

  Result<size_t> send(SendRequest& r) override {
    if (r.flags & MSG_OOB) return kEOPNOTSUPP;
    if (r.to) {
      if (r.to->size < sizeof(sockaddr_nl) || r.to->family() != AF_NETLINK) return kEINVAL;
      auto to = r.to->as<sockaddr_nl>();
      if (to.nl_groups != 0) return kEPERM;
      if (to.nl_pid != 0) return kECONNREFUSED;
    }
    if (r.data.size() > max_message()) return kEMSGSIZE;
    TRY(ensure_port());
    auto answers = answer_requests(r.data, port());
    {
      MutexLock l(mu_);
      for (auto& a : answers) {
        if (bytes_ + a.size() > static_cast<size_t>(receive_buffer_.load())) {
          set_error(kENOBUFS);  // Linux: netlink_overrun
          break;
        }
        bytes_ += a.size();
        queue_.push_back(std::move(a));
      }
    }
    queue().wake_all(kWakeIn);
    return r.data.size();
  }
  void deliver(std::span<const std::byte> bytes) {
    {
      MutexLock l(mu_);
      if (bytes_ + bytes.size() > static_cast<size_t>(receive_buffer_.load())) return;
      bytes_ += bytes.size();
      queue_.emplace_back(bytes.begin(), bytes.end());
    }
    queue().wake_all(kWakeIn);
  }
  Result<Received> receive(const ReceiveRequest& r) override {
    if (r.flags & MSG_OOB) return kEOPNOTSUPP;
    sched::Nanos deadline = receive_deadline();
    for (;;) {
      TRY(take_error());
      {
        MutexLock l(mu_);
        if (!queue_.empty()) {
          Datagram& d = queue_.front();
          Received out;
          out.size = std::min(r.data.size(), d.size());
          if (out.size) memcpy(r.data.data(), d.data(), out.size);
          out.full_size = d.size();
          if (out.size < d.size()) out.flags |= MSG_TRUNC;
          out.from = Address::of(nl_address(0, 0));
          if (passes_credentials()) out.sender = Identity{nullptr, nullptr, 0, 0};
          if (!(r.flags & MSG_PEEK)) {
            bytes_ -= d.size();
            queue_.pop_front();
          }
          return out;
        }
      }
      TRY(wait([&] {
        MutexLock l(mu_);
        return !queue_.empty() || has_error();
      }, r.nonblock(), deadline, kWakeIn | EPOLLERR));
    }
  }
  uint32_t poll_events() override {
    uint32_t e = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
    if (has_error()) e |= EPOLLERR;
    MutexLock l(mu_);
    if (!queue_.empty()) e |= EPOLLIN | EPOLLRDNORM;
    return e;
  }
  size_t max_message() const override { return kMaxRequest; }
  void close() override {
    uint32_t p = port_.exchange(0);
    if (p) ports().with([&](auto& s) { s.erase(p); });
  }

  Result<void> set_option(int level, int option, OptionBytes value) override {
    if (level != SOL_NETLINK) return Sock::set_option(level, option, value);
    int v = TRY(option_as<int>(value));
    switch (option) {
      case NETLINK_ADD_MEMBERSHIP:
      case NETLINK_DROP_MEMBERSHIP:
        if (v <= 0 || v > 64) return kEINVAL;
        return {};
      case NETLINK_PKTINFO: case NETLINK_BROADCAST_ERROR: case NETLINK_NO_ENOBUFS: case NETLINK_CAP_ACK:
      case NETLINK_EXT_ACK: case NETLINK_GET_STRICT_CHK:
        if (v) flags_.fetch_or(1u << option);
        else flags_.fetch_and(~(1u << option));
        return {};
      default: return kENOPROTOOPT;
    }
  }
  Result<OptionValue> get_option(int level, int option, size_t room) override {
    if (level != SOL_NETLINK) return Sock::get_option(level, option, room);
    switch (option) {
      case NETLINK_PKTINFO: case NETLINK_BROADCAST_ERROR: case NETLINK_NO_ENOBUFS: case NETLINK_CAP_ACK:
      case NETLINK_EXT_ACK: case NETLINK_GET_STRICT_CHK:
        if (room < sizeof(int)) return kEINVAL;
        return option_bytes(static_cast<int>((flags_.load() >> option) & 1));
      default: return kENOPROTOOPT;
    }
  }

 private:
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  ~RouteSock() override { close(); }

  uint32_t port() const { return port_.load(); }
  Result<void> ensure_port() { return port() ? Result<void>() : take_port(0); }
  // 0: the process id, or, when that is taken, a number no process has. Linux: netlink_autobind.
  Result<void> take_port(uint32_t wanted) {
    uint32_t first = wanted;
    if (first == 0) {
      auto* t = kernel::Task::find_current();
      first = t ? static_cast<uint32_t>(t->group().pid()) : 1;
    }
    return ports().with([&](std::set<uint32_t>& used) -> Result<void> {
      uint32_t p = first;
      if (!used.insert(p).second) {
        if (wanted != 0) return kEADDRINUSE;
        p = static_cast<uint32_t>(-4096);
        while (!used.insert(p).second) p--;
      }
      uint32_t none = 0;
      if (!port_.compare_exchange_strong(none, p)) used.erase(p);  // another thread was quicker
      return {};
    });
  }

  std::atomic<uint32_t> port_{0}, groups_{0}, flags_{0};
  mutable Mutex mu_{LockRank::kSocket};
  std::deque<Datagram> queue_ GUARDED_BY(mu_);
  size_t bytes_ GUARDED_BY(mu_) = 0;
};

}  // namespace

void deliver(Sock& sock, std::span<const std::byte> bytes) { static_cast<RouteSock&>(sock).deliver(bytes); }

Result<Ref<Sock>> create(int type, int protocol) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return kESOCKTNOSUPPORT;
  if (protocol != NETLINK_ROUTE) return kEPROTONOSUPPORT;
  return Ref<Sock>(make_ref<RouteSock>(type));
}

}  // namespace sentry::net::netlink

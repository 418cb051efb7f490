// SPDX-License-Identifier: Apache-2.0
// Options of SOL_SOCKET, errors, identities. Linux: net/core/sock.c.
#include "sentry/net/common/sock.h"

#include <linux/sock_diag.h>

#include <algorithm>

namespace sentry::net {
namespace {

// Options that are a flag of 0 or 1 and change nothing here: kept, so that they read back.
constexpr bool is_kept_flag(int option) {
  switch (option) {
    case SO_DEBUG: case SO_DONTROUTE: case SO_BROADCAST: case SO_KEEPALIVE: case SO_OOBINLINE: case SO_TIMESTAMP:
    case SO_TIMESTAMPNS: case SO_RXQ_OVFL: return true;
    default: return false;
  }
}
constexpr uint32_t flag_bit(int option) { return 1u << (option % 32); }
static_assert([] {
  uint32_t seen = 0;
  for (int o = 0; o < 64; o++) {
    if (!is_kept_flag(o)) continue;
    if (seen & flag_bit(o)) return false;
    seen |= flag_bit(o);
  }
  return true;
}(), "each kept option has a bit of its own");

uint64_t next_cookie() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

bool may(const Sock& s, int cap) {
  auto* t = kernel::Task::find_current();
  return !t || t->own_credentials().has_cap_in(s.net->user_ns().get(), cap);
}

// Linux: sock_set_timeout. Negative seconds: no waiting at all is what it means there for 0 jiffies; we keep "none".
Result<int64_t> timeout_of(OptionBytes value) {
  auto tv = TRY(option_as<timeval>(value));
  if (tv.tv_usec < 0 || tv.tv_usec >= 1000000) return kEDOM;
  if (tv.tv_sec < 0) return int64_t{1};  // expires at once
  if (tv.tv_sec > INT64_MAX / 4000000000) return int64_t{0};
  return tv.tv_sec * 1000000000 + tv.tv_usec * 1000;
}
OptionValue timeout_value(int64_t ns) { return option_bytes(timeval{ns / 1000000000, ns % 1000000000 / 1000}); }

int buffer_size(int asked, int minimum, int maximum) {
  int v = std::clamp(asked, 0, maximum);
  return std::max(v * 2, minimum);
}

}  // namespace

Identity Identity::current() {
  Identity i;
  auto* t = kernel::Task::find_current();
  if (!t) return i;
  auto cred = t->credentials();
  i.group = t->group_ref();
  i.uid = cred->euid;
  i.gid = cred->egid;
  i.cred = cred;
  return i;
}

struct ucred Identity::for_caller() const {
  struct ucred c{0, uid, gid};
  auto* t = kernel::Task::find_current();
  if (t) {
    const auth::UserNamespace* ns = t->own_credentials().user_ns.get();
    if (uid != auth::kNoId) c.uid = auth::shown_uid(ns, uid);
    if (gid != auth::kNoId) c.gid = auth::shown_gid(ns, gid);
  }
  if (group && t) c.pid = group->pid_in(t->group().pid_namespace());
  return c;
}

Sock::Sock(int family_, int type_, int protocol_)
    : family(family_), type(type_), protocol(protocol_), net(kernel::current_net()), budget_(make_ref<SendBudget>()), cookie_(next_cookie()) {
  budget_->limit = kDefaultBuffer;
}

Result<void> Sock::take_error() {
  int e = error_.exchange(0, std::memory_order_acq_rel);
  if (e == 0) return {};
  return Errno(e);
}

Errno Sock::broken_pipe(int flags) {
  if (!(flags & MSG_NOSIGNAL))
    if (auto* t = kernel::Task::find_current()) t->send_signal(kernel::SignalInfo::kernel(SIGPIPE, SI_USER));
  return kEPIPE;
}

void Sock::inherit_options(const Sock& l) {
  pass_cred_ = l.pass_cred_.load();
  receive_buffer_ = l.receive_buffer_.load();
  low_water_ = l.low_water_.load();
  reuse_address_ = l.reuse_address_.load();
  linger_seconds_ = l.linger_seconds_.load();
  budget_->limit = l.budget_->limit.load();
  flags_ = l.flags_.load();
  priority_ = l.priority_.load();
  mark_ = l.mark_.load();
  receive_timeout_ = l.receive_timeout_.load();
  send_timeout_ = l.send_timeout_.load();
}

Result<void> Sock::set_option(int level, int option, OptionBytes value) {
  if (level != SOL_SOCKET) return kENOPROTOOPT;
  if (option == SO_BINDTODEVICE) {
    std::string name(reinterpret_cast<const char*>(value.data()), std::min<size_t>(value.size(), 15));
    name = name.c_str();
    if (name.empty() || name == "lo") return {};
    return kENODEV;
  }
  int v = TRY(option_as<int>(value));
  if (is_kept_flag(option)) {
    if (v) flags_.fetch_or(flag_bit(option));
    else flags_.fetch_and(~flag_bit(option));
    return {};
  }
  switch (option) {
    case SO_REUSEADDR: reuse_address_ = v != 0; return {};
    case SO_REUSEPORT: reuse_port_ = v != 0; return {};
    case SO_SNDBUF: budget_->limit = buffer_size(v, 4608, kDefaultBuffer); return {};
    case SO_RCVBUF: receive_buffer_ = buffer_size(v, 2304, kDefaultBuffer); return {};
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
      if (!may(*this, CAP_NET_ADMIN)) return kEPERM;
      if (option == SO_SNDBUFFORCE) budget_->limit = buffer_size(v, 4608, kMaxForcedBuffer);
      else receive_buffer_ = buffer_size(v, 2304, kMaxForcedBuffer);
      return {};
    case SO_NO_CHECK: return {};
    case SO_PRIORITY:
      if ((v < 0 || v > 6) && !may(*this, CAP_NET_ADMIN)) return kEPERM;
      priority_ = v;
      return {};
    case SO_MARK:
      if (!may(*this, CAP_NET_ADMIN)) return kEPERM;
      mark_ = v;
      return {};
    case SO_LINGER: {
      auto l = TRY(option_as<struct linger>(value));
      linger_seconds_ = l.l_onoff ? std::clamp(l.l_linger, 0, 0x7fff) : -1;
      return {};
    }
    case SO_PASSCRED: pass_cred_ = v != 0; return {};
    case SO_RCVLOWAT: low_water_ = v < 0 ? INT32_MAX : std::max(v, 1); return {};
    case SO_RCVTIMEO_OLD:
    case SO_RCVTIMEO_NEW: receive_timeout_ = TRY(timeout_of(value)); return {};
    case SO_SNDTIMEO_OLD:
    case SO_SNDTIMEO_NEW: send_timeout_ = TRY(timeout_of(value)); return {};
    case SO_PEEK_OFF: return kEOPNOTSUPP;
    case SO_ATTACH_FILTER:
    case SO_ATTACH_BPF: return kEINVAL;
    case SO_DETACH_FILTER: return kENOENT;
    default: return kENOPROTOOPT;  // SO_TYPE, SO_PEERCRED … cannot be set either
  }
}

Result<OptionValue> Sock::get_option(int level, int option, size_t) {
  if (level != SOL_SOCKET) return kENOPROTOOPT;
  auto number = [](int v) { return option_bytes(v); };
  if (is_kept_flag(option)) return number((flags_.load() & flag_bit(option)) != 0);
  switch (option) {
    case SO_TYPE: return number(type);
    case SO_DOMAIN: return number(family);
    case SO_PROTOCOL: return number(protocol);
    case SO_ERROR: return number(error_.exchange(0));
    case SO_ACCEPTCONN: return number(accepting_.load());
    case SO_REUSEADDR: return number(reuse_address_.load());
    case SO_REUSEPORT: return number(reuse_port_.load());
    case SO_SNDBUF: return number(static_cast<int>(budget_->limit.load()));
    case SO_RCVBUF: return number(receive_buffer_.load());
    case SO_NO_CHECK: return number(0);
    case SO_PRIORITY: return number(priority_.load());
    case SO_MARK: return number(mark_.load());
    case SO_LINGER: {
      int s = linger_seconds_.load();
      return option_bytes(linger{s >= 0, std::max(s, 0)});
    }
    case SO_PASSCRED: return number(passes_credentials());
    case SO_PEERCRED: return peer_credentials();
    case SO_PEERGROUPS: return peer_groups();
    case SO_RCVLOWAT: return number(low_water_.load());
    case SO_SNDLOWAT: return number(1);
    case SO_RCVTIMEO_OLD:
    case SO_RCVTIMEO_NEW: return timeout_value(receive_timeout_.load());
    case SO_SNDTIMEO_OLD:
    case SO_SNDTIMEO_NEW: return timeout_value(send_timeout_.load());
    case SO_BINDTODEVICE: return OptionValue{};
    case SO_PEEK_OFF: return number(peek_offset_.load());
    case SO_COOKIE: return option_bytes(cookie_);
    case SO_INCOMING_CPU: return number(-1);
    case SO_BUSY_POLL: return number(0);
    case SO_ZEROCOPY: return number(0);
    case SO_GET_FILTER: return OptionValue{};
    default: return kENOPROTOOPT;
  }
}

}  // namespace sentry::net

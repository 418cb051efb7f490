// SPDX-License-Identifier: Apache-2.0
// Signal queues, default actions, tables of handlers: data without tasks.
#include "sentry/kernel/signal.h"

#include "sentry/kernel/task.h"

namespace sentry::kernel {
namespace {
constexpr int kFirstRealTime = 32;  // the kernel's SIGRTMIN
constexpr SignalSet kSynchronous = signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) | signal_bit(SIGTRAP) |
                                   signal_bit(SIGFPE) | signal_bit(SIGSYS);
}  // namespace

uint64_t QueuedSignals::of(uint32_t uid) const {
  return counts_.with([&](const auto& m) -> uint64_t {
    auto it = m.find(uid);
    return it == m.end() ? 0 : it->second;
  });
}
void QueuedSignals::add(uint32_t uid) {
  counts_.with([&](auto& m) { m[uid]++; });
}
void QueuedSignals::forget(uint32_t uid) {
  counts_.with([&](auto& m) {
    auto it = m.find(uid);
    CHECK(it != m.end());
    if (--it->second == 0) m.erase(it);
  });
}

std::vector<SignalInfo> PendingSignals::all() const {
  std::vector<SignalInfo> v;
  for (const Entry& e : queue_) v.push_back(e.info);
  return v;
}

bool PendingSignals::add(const SignalInfo& info, RefOrNull<QueuedSignals> counts, uint32_t uid) {
  SignalSet bit = signal_bit(info.si.si_signo);
  if (info.si.si_signo < kFirstRealTime && (set_ & bit)) return false;
  set_ |= bit;
  queue_.emplace_back(info, std::move(counts), uid);
  return true;
}

bool PendingSignals::take(SignalSet wanted, SignalInfo* out) {
  SignalSet s = set_ & wanted;
  if (s == 0) return false;
  if (s & kSynchronous) s &= kSynchronous;
  const int signo = __builtin_ctzll(s) + 1;
  bool found = false, more = false;
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (it->info.si.si_signo != signo) {
      ++it;
    } else if (!found) {
      *out = it->info;
      found = true;
      it = queue_.erase(it);
    } else {
      more = true;
      break;
    }
  }
  CHECK(found);
  if (!more) set_ &= ~signal_bit(signo);
  return true;
}

void PendingSignals::remove(SignalSet which) {
  if (!(set_ & which)) return;
  set_ &= ~which;
  queue_.remove_if([&](const Entry& e) { return (signal_bit(e.info.si.si_signo) & which) != 0; });
}

// Linux: include/linux/signal.h, the table in its comment.
DefaultAction default_action(int signo) {
  switch (signo) {
    case SIGCONT: return DefaultAction::resume;
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH: return DefaultAction::ignore;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU: return DefaultAction::stop;
    case SIGQUIT:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGFPE:
    case SIGSEGV:
    case SIGBUS:
    case SIGSYS:
    case SIGXCPU:
    case SIGXFSZ: return DefaultAction::core;
    default: return DefaultAction::terminate;
  }
}

Ref<SignalHandlers> SignalHandlers::copy() const {
  Ref<SignalHandlers> n = make_ref<SignalHandlers>();
  std::array<SignalAction, kSignals> now;
  {
    MutexLock l(mu_);
    now = actions_;
  }
  MutexLock l(n->mu_);
  n->actions_ = now;
  return n;
}

void SignalHandlers::reset_for_exec() {
  MutexLock l(mu_);
  for (SignalAction& a : actions_) {
    uint64_t keep = a.handler == reinterpret_cast<uint64_t>(SIG_IGN) ? a.handler : 0;
    a = SignalAction{};
    a.handler = keep;
  }
}

SignalAction SignalHandlers::get(int signo) const {
  MutexLock l(mu_);
  return actions_[static_cast<size_t>(signo - 1)];
}

void SignalHandlers::set(int signo, const SignalAction& a) {
  MutexLock l(mu_);
  actions_[static_cast<size_t>(signo - 1)] = a;
}

}  // namespace sentry::kernel

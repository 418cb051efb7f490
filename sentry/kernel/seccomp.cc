// SPDX-License-Identifier: Apache-2.0
// Modes, installing and evaluating filters.
#include "sentry/kernel/seccomp.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>

#include "base/bpf/evaluate.h"
#include "sentry/kernel/answers.h"
#include "sentry/kernel/seccomp_listener.h"
#include "sentry/kernel/trace.h"
#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

constexpr size_t kMaxPath = 32768;  // instructions of a chain, with a penalty for each filter (MAX_INSNS_PER_PATH)
constexpr size_t kPenalty = 4;
constexpr uint32_t kMaxErrno = 4095;

struct Decision {
  uint32_t action = SECCOMP_RET_ALLOW;
  RefOrNull<SeccompFilter> by;
};

// The newest filter that demands most wins. Linux: seccomp_run_filters().
Decision decide(const RefOrNull<SeccompFilter>& newest, const seccomp_data& data) {
  Decision d;
  for (RefOrNull<SeccompFilter> f = newest; f; f = f->older()) {
    Result<base::bpf::Verdict> v = base::bpf::evaluate(f->program(), data);
    const uint32_t action = v.ok() ? v->action : static_cast<uint32_t>(SECCOMP_RET_KILL_PROCESS);
    auto demand = [](uint32_t a) { return static_cast<int32_t>(a & SECCOMP_RET_ACTION_FULL); };
    if (demand(action) < demand(d.action)) d = Decision{action, f};
  }
  return d;
}

SignalInfo sigsys(Task& t, const platform::Call& call, uint32_t data) {
  SignalInfo info = SignalInfo::kernel(SIGSYS, 1 /* SYS_SECCOMP */);
  info.si.si_errno = static_cast<int>(data);
  info.si.si_call_addr = reinterpret_cast<void*>(t.context().instruction_pointer());
  info.si.si_syscall = static_cast<int>(call.number);
  info.si.si_arch = AUDIT_ARCH_X86_64;
  return info;
}

// This thread alone, as if the signal had killed it. Linux: do_exit(signo).
Result<long> end_thread(Task& t, int signo) {
  MutexLock l(t.group().impl().mu);
  t.impl().exit_code.store(ExitStatus::signaled(signo, false).wait_status);
  t.impl().want_exit = true;
  t.impl().keep_registers = true;
  recalculate_pending_locked(t.group().impl(), t);
  return 0L;
}

Result<long> kill_by(Task& t, const platform::Call& call, uint32_t action) {
  LOG(info, "seccomp: {} ends by call {}", t.name(), call.number);
  if ((action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_KILL_THREAD && t.group().tasks().size() > 1) return end_thread(t, SIGSYS);
  force_signal(t, sigsys(t, call, action & SECCOMP_RET_DATA), true);
  t.impl().keep_registers = true;
  return 0L;
}

// may_trace: a tracer has not been asked about this call yet.
std::optional<Result<long>> check_filters(Task& t, platform::Call* made, bool may_trace = true) {
  const platform::Call& call = *made;
  RefOrNull<SeccompFilter> filter = filter_of(t);
  if (filter && filter->always_allows(call.number)) return std::nullopt;
  seccomp_data data{};
  data.nr = static_cast<int>(call.number);
  data.arch = AUDIT_ARCH_X86_64;
  data.instruction_pointer = t.context().instruction_pointer();
  for (int i = 0; i < 6; i++) data.args[i] = call.args[i];
  Decision d = decide(filter, data);
  const uint32_t value = d.action & SECCOMP_RET_DATA;
  switch (d.action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return std::nullopt;
    case SECCOMP_RET_LOG:
      LOG(info, "seccomp: {} makes call {}", t.name(), call.number);
      return std::nullopt;
    case SECCOMP_RET_ERRNO:
      // A plain result: the numbers beyond 511 are not restarts here.
      return Result<long>(-static_cast<long>(std::min(value, kMaxErrno)));
    case SECCOMP_RET_TRACE: {
      if (!may_trace) return std::nullopt;
      int64_t instead = 0;
      if (!trace_seccomp(t, made, value, &instead)) return Result<long>(long{instead});
      return check_filters(t, made, false);  // perhaps it is another call by now
    }
    case SECCOMP_RET_TRAP:
      // The handler sees rax as it was before the call.
      force_signal(t, sigsys(t, call, value));
      return Result<long>(static_cast<long>(call.number & 0x7fffffff));
    case SECCOMP_RET_USER_NOTIF: {
      RefOrNull<SeccompListener> l = d.by->listener();
      if (!l) return Result<long>(kENOSYS);
      return l->ask(t, call);
    }
    default:
      return kill_by(t, call, d.action);
  }
}

void adopt(Task& t, Task& other, const Ref<SeccompFilter>& next) {
  RefOrNull<SeccompFilter> f = next;
  {
    MutexLock l(other.impl().mu);
    std::swap(other.impl().seccomp, f);
  }
  other.impl().seccomp_mode = SECCOMP_MODE_FILTER;
  withdraw_answers(other);
  if (&other == &t || !t.own_credentials().no_new_privs) return;
  Ref<auth::Credentials> before = other.credentials();
  if (before->no_new_privs) return;
  Ref<auth::Credentials> c = before->copy();
  c->no_new_privs = true;
  next->keep(std::move(before));
  other.set_credentials(std::move(c));
}

// Every thread gets the caller's filters, or none does. The number of one that cannot, or 0. Linux: seccomp_can_sync_threads().
int adopt_everywhere(Task& t, const Ref<SeccompFilter>& next, const SeccompFilter* old) {
  const std::vector<Ref<Task>> tasks = t.group().tasks();
  for (const Ref<Task>& other : tasks) {
    if (other.get() == &t || other->impl().exiting_now) continue;
    const int mode = other->impl().seccomp_mode.load();
    RefOrNull<SeccompFilter> has = filter_of(*other);
    if (mode == SECCOMP_MODE_DISABLED) continue;
    if (mode == SECCOMP_MODE_FILTER && has && has->is_same_or_older_than(old)) continue;
    return other->tid();
  }
  // Until nobody is left who became known meanwhile (inherit_filters_again() is the other half).
  std::vector<const Task*> done;
  for (bool again = true; again;) {
    again = false;
    for (const Ref<Task>& other : t.group().tasks()) {
      if (std::find(done.begin(), done.end(), other.get()) != done.end()) continue;
      done.push_back(other.get());
      again = true;
      adopt(t, *other, next);
    }
  }
  return 0;
}

}  // namespace

SeccompFilter::SeccompFilter(std::vector<sock_filter> program, RefOrNull<SeccompFilter> older, bool log)
    : program_(std::move(program)), older_(std::move(older)), log_(log) {
  instructions_ = program_.size() + kPenalty + (older_ ? older_->instructions_ : 0);
  if (older_) count_ = older_->count_ + 1;
}
SeccompFilter::~SeccompFilter() {
  if (listener_) listener_->filter_gone();
  // A long chain goes one by one, not by recursion.
  RefOrNull<SeccompFilter> next = std::move(older_);
  while (next && next->ref_count() == 1) {
    RefOrNull<SeccompFilter> after = std::move(next->older_);
    next = std::move(after);
  }
}

bool SeccompFilter::always_allows(uint64_t number) const {
  if (number >= known_.size()) return false;
  // By a loop: an application may install thousands.
  bool yes = true;
  for (const SeccompFilter* f = this; f && yes; f = f->older_.get()) {
    if (Known k = f->known_[number].load(std::memory_order_relaxed); k != unknown) {  // it and those before it
      yes = k == allowed;
      break;
    }
    Result<base::bpf::Verdict> v = base::bpf::evaluate_number(f->program_, static_cast<int>(number), AUDIT_ARCH_X86_64);
    yes = v.ok() && (v->action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW;
  }
  known_[number].store(yes ? allowed : depends, std::memory_order_relaxed);
  return yes;
}

RefOrNull<SeccompFilter> filter_of(Task& t) {
  MutexLock l(t.impl().mu);
  return t.impl().seccomp;
}

RefOrNull<SeccompListener> SeccompFilter::listener() const { return listener_; }
void SeccompFilter::set_listener(RefOrNull<SeccompListener> l) { listener_ = std::move(l); }
bool SeccompFilter::has_listener() const {
  for (const SeccompFilter* f = this; f; f = f->older_.get())
    if (f->listener_) return true;
  return false;
}
bool SeccompFilter::is_same_or_older_than(const SeccompFilter* other) const {
  for (; other; other = other->older_.get())
    if (other == this) return true;
  return false;
}

Result<Ref<SeccompFilter>> SeccompFilter::create(std::vector<sock_filter> program, RefOrNull<SeccompFilter> older, bool log) {
  if (program.empty() || program.size() > BPF_MAXINSNS) return kEINVAL;
  TRY(base::bpf::validate(program));
  Ref<SeccompFilter> f = adopt_ref(new SeccompFilter(std::move(program), std::move(older), log));
  if (f->instructions_ > kMaxPath) return kENOMEM;
  return f;
}

std::optional<Result<long>> seccomp_check(Task& t, platform::Call* call) {
  if (t.impl().seccomp_mode.load(std::memory_order_relaxed) == SECCOMP_MODE_FILTER) return check_filters(t, call);
  switch (call->number) {  // read, write, rt_sigreturn, exit
    case 0: case 1: case 15: case 60: return std::nullopt;
    default: return end_thread(t, SIGKILL);
  }
}

Result<long> seccomp_set_strict(Task& t) {
  if (t.impl().seccomp_mode.load() == SECCOMP_MODE_FILTER) return kEINVAL;
  t.impl().seccomp_mode = SECCOMP_MODE_STRICT;
  publish_answers(t);
  return 0L;
}

Result<long> seccomp_set_filter(Task& t, uint64_t flags, uint64_t program) {
  constexpr uint64_t kKillable = 32;  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
  constexpr uint64_t kKnown = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                              SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | kKillable;
  if (flags & ~kKnown) return kEINVAL;
  if ((flags & SECCOMP_FILTER_FLAG_TSYNC) && (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) &&
      !(flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH))
    return kEINVAL;
  if ((flags & kKillable) && !(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)) return kEINVAL;
  struct Program {
    uint16_t length;
    uint64_t filter;
  };
  Program p = TRY(mm::UserIn<Program>(program).copy_in(t.context()));
  if (p.length == 0 || p.length > BPF_MAXINSNS) return kEINVAL;
  const auth::Credentials& c = t.own_credentials();
  if (!c.no_new_privs && !c.has_own_cap(CAP_SYS_ADMIN)) return kEACCES;
  auto code = TRY(mm::UserIn<sock_filter>(p.filter).copy_in_array(t.context(), p.length));
  RefOrNull<SeccompFilter> old = filter_of(t);
  Ref<SeccompFilter> next = TRY(SeccompFilter::create(std::move(code), old, flags & SECCOMP_FILTER_FLAG_LOG));
  if (t.impl().seccomp_mode.load() == SECCOMP_MODE_STRICT) return kEINVAL;

  std::optional<FdReservation> fd;
  RefOrNull<vfs::File> file;
  if (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) {
    if (old && old->has_listener()) return kEBUSY;
    fd.emplace(TRY(FdReservation::reserve(t.files(), t.rlimit(RLIMIT_NOFILE))));
    Ref<SeccompListener> l = make_ref<SeccompListener>((flags & kKillable) != 0);
    file = SeccompListener::make_file(l, t.credentials());
    next->set_listener(l);
  }
  if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
    if (int tid = adopt_everywhere(t, next, old.get()))
      return flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH ? Result<long>(kESRCH) : Result<long>(long{tid});
  } else {
    RefOrNull<SeccompFilter> f = next;
    {
      MutexLock l(t.impl().mu);
      std::swap(t.impl().seccomp, f);
    }
    t.impl().seccomp_mode = SECCOMP_MODE_FILTER;
  }
  publish_answers(t);
  if (fd) return long{fd->commit(file.get_ref(), true)};
  return 0L;
}

bool is_confined(Task& t) {
  return t.impl().seccomp_mode.load() == SECCOMP_MODE_STRICT || filter_of(t).get() != t.container().seccomp().get();
}

void inherit_filters_again(Task& maker, Task& thread) {
  RefOrNull<SeccompFilter> f = filter_of(maker);
  if (f.get() == filter_of(thread).get()) return;
  {
    MutexLock l(thread.impl().mu);
    std::swap(thread.impl().seccomp, f);
  }
  thread.impl().seccomp_mode = SECCOMP_MODE_FILTER;
  withdraw_answers(thread);
  if (!maker.credentials()->no_new_privs || thread.credentials()->no_new_privs) return;
  Ref<auth::Credentials> c = thread.credentials()->copy();
  c->no_new_privs = true;
  thread.set_credentials(std::move(c));
}

int seccomp_filter_count(Task& t) {
  RefOrNull<SeccompFilter> f = filter_of(t);
  return f ? f->length() : 0;
}

}  // namespace sentry::kernel

// SPDX-License-Identifier: Apache-2.0
// Threads and processes: made by the thread that is to be copied, vouched for by the kernel, ended with a deadline.
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

// As the filter compares them (seccomp-profiles/stub.json).
constexpr uint64_t kForkFlags = CLONE_PARENT | SIGCHLD;
constexpr uint64_t kThreadFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
constexpr sched::Nanos kBirthDeadline = 5 * kSecond;
constexpr int kAuditsAfterBirth = 4;
constexpr int kBirthTries = 20;
constexpr sched::Nanos kRest = kSecond / 2;

// What the child goes on with: the parent's registers.
void copy_registers(Context& from, Context::Impl& to) {
  to.self.set_registers(from.registers());
}

}  // namespace

// ---- Births ----

bool Context::Impl::announce(Birth& b) {
  Platform::Impl& p = platform();
  Op* op = add(OpCode::clone, stub::kMust);
  if (!op) return false;
  const uint64_t token = random_token();
  op->a[0] = b.flags;
  op->a[1] = b.stack;
  op->a[2] = token;
  notes[op_count - 1].birth = true;
  const uint64_t args[6] = {b.flags, b.stack, 0, 0, 0, 0};
  grant(SYS_clone, args);
  {
    MutexLock l(p.mu);
    making = Ref<Birth>(b);
    b.cloned = false;
    b.token = token;
    p.births.emplace(token, Ref<Birth>(b));
    p.audits_left = kAuditsAfterBirth;
  }
  p.start_watchdog();
  return true;
}

void Context::Impl::clone_made(int64_t result) {
  Platform::Impl& p = platform();
  RefOrNull<Birth> b;
  bool pending = false;
  {
    MutexLock l(p.mu);
    std::swap(b, making);
    if (!b || result > 0) return;  // whoever it is will knock
    pending = p.births.erase(b->token) != 0;
  }
  if (!pending) return;  // it has knocked, whatever the thread says
  // The host restarts a clone that meets a pending signal, and the grant is used up by then.
  if ((result == -EINTR || result == -ENOSYS) && ++b->tries < kBirthTries && announce(*b)) return;
  queued_birth_error = result == -ENOMEM ? ENOMEM : EAGAIN;
  LOG(debug, "stub {}: the host makes no {}: {} after {} tries", space->host_pid(), b->kind == Birth::thread ? "thread" : "process", result, b->tries);
  p.refuse(*b);
}

void Platform::Impl::refuse(Birth& b) {
  Context::Impl& c = b.child->impl();
  RefOrNull<sched::Fiber> waiter;
  {
    MutexLock l(mu);
    std::swap(waiter, b.waiter);
    c.own_birth = nullptr;
  }
  b.state.store(Birth::refused);
  c.never_born.store(true);
  if (b.kind != Birth::thread) c.space->impl().mark_gone();
  if (waiter) waiter->wake();
  MutexLock l(poll_mu);
  if (c.fiber) c.fiber->wake();
}

bool Platform::Impl::drop_lost_births(sched::Nanos t) {
  std::vector<Ref<Birth>> lost;
  bool more;
  {
    MutexLock l(mu);
    std::erase_if(births, [&](auto& entry) {
      const Birth& b = *entry.second;
      if (b.kind == Birth::zygote || !b.parent->gone() || (b.cloned && t - b.since < kBirthDeadline)) return false;
      lost.push_back(entry.second);
      return true;
    });
    more = !births.empty();
  }
  for (auto& b : lost) {
    refuse(*b);
  }
  return more;
}

void Context::Impl::await(Birth& b) {
  Platform::Impl& p = platform();
  {
    MutexLock l(p.mu);
    b.waiter = Ref<sched::Fiber>(*sched::current());
  }
  const sched::Nanos since = sched::now();
  const uint64_t cpu = process_cpu_time(b.parent->host_pid());
  while (b.state.load() == Birth::waiting && !overdue(*b.parent, since, cpu)) sched::park(sched::now() + kDeadline);
  if (b.state.load() != Birth::waiting) return;
  bool pending;
  {
    MutexLock l(p.mu);
    b.waiter = nullptr;
    pending = p.births.erase(b.token) != 0;
  }
  if (!pending) {  // it knocks at this moment, or its maker tries again
    while (b.state.load() == Birth::waiting && !b.parent->gone()) sched::park(sched::now() + kSecond / 1000);
    return;
  }
  // A child that nobody knows may exist.
  LOG(warn, "stub {}: a clone that never reported; killed", b.parent->host_pid());
  b.parent->kill();
  p.refuse(b);
  p.audit();
}

Result<Ref<Context>> Context::Impl::make(Ref<Birth> b, Birthday when) {
  {
    MutexLock l(platform().mu);
    b->child->impl().own_birth = b;
  }
  if (!announce(*b)) {
    platform().refuse(*b);
    return kESRCH;
  }
  if (when == Birthday::at_resume) return b->child;
  if (!perform().ok()) platform().drop_lost_births(sched::now());
  if (int e = std::exchange(queued_birth_error, 0)) return Errno(e);
  await(*b);
  if (b->state.load() != Birth::born) return kESRCH;
  return b->child;
}

int Context::finish_birth() {
  Impl& m = *impl_;
  while (m.making && m.op_count != 0 && m.perform().ok()) {
  }
  return std::exchange(m.queued_birth_error, 0);
}

Result<Ref<Context>> Context::clone_thread(Birthday when) {
  Impl& m = *impl_;
  TRY(m.perform());
  if (auto c = m.wake_resting()) return Ref<Context>(*c);
  int i = m.space->impl().take_slot();
  if (i < 0) return kEAGAIN;
  auto index = static_cast<unsigned>(i);
  auto child = Maker::context(m.space, index);
  m.space->impl().control.prepare_slot(index);
  copy_registers(*this, *child->impl_);
  m.space->impl().put_context(index, child.get());
  auto b = make_ref<Birth>(Birth::thread, child, m.space);
  b->flags = kThreadFlags;
  b->stack = stub::slot_address(index) + STUB_STACK_TOP;
  auto r = m.make(std::move(b), when);
  if (!r.ok()) child->exit_thread(0);
  return r;
}

Result<Ref<Context>> Context::fork(Birthday when) {
  Impl& m = *impl_;
  TRY(m.perform());
  Platform::Impl& p = m.platform();
  Control control = TRY(p.new_control());
  Zygote* zygote;
  {
    MutexLock l(p.mu);
    zygote = m.space->impl().zygote;
  }
  auto space = Maker::space(p, zygote, std::move(control));
  space->impl().patience = m.space->impl().patience;
  {
    // The child's descriptors are copies of ours.
    MutexLock l(p.mu);
    auto& fds = space->impl().fds;
    fds = m.space->impl().fds;
    for (auto& f : fds) {
      if (f.pins != 0) f.key = 0;  // on its way just now
      f.pins = 0;
    }
    space->impl().fd_clock = m.space->impl().fd_clock;
    if (zygote) zygote->impl().spaces.push_back(space.get());
  }
  auto child = Maker::context(space, m.index);
  // The same slot as the parent's thread has: then GS and the signal stack are right by themselves.
  space->impl().control.prepare_slot(m.index);
  copy_registers(*this, *child->impl_);
  space->impl().put_context(m.index, child.get());
  auto b = make_ref<Birth>(Birth::process, child, m.space);
  b->flags = kForkFlags;
  {
    // Another thread could map what is only passing through.
    MutexLock l(p.poll_mu);
    auto& slots = m.space->impl().slots;
    b->carried = when == Birthday::at_resume && std::count_if(slots.begin(), slots.end(), [](Context* c) { return c; }) == 1;
  }
  if (b->carried) {  // nor are those there that have ended
    MutexLock l(p.mu);
    auto ours = [&](const auto& x) { return &*x.space == m.space.get(); };
    b->carried = std::none_of(p.resting.begin(), p.resting.end(), ours) && std::none_of(p.leaving.begin(), p.leaving.end(), ours);
  }
  auto r = m.make(std::move(b), when);
  if (!r.ok()) {
    child->exit_thread(0);
    space->kill();
  }
  return r;
}

// ---- vfork ----

Result<SavedThread> Context::save_thread() {
  Impl& m = *impl_;
  if (!m.add(OpCode::xsave, stub::kMust)) return kESRCH;
  TRY(m.perform());
  SavedThread s;
  s.regs = registers();
  s.vector_size = xsave_size();
  s.vector = std::make_unique<std::byte[]>(s.vector_size);
  untrusted_copy(s.vector.get(), m.slot->xsave, s.vector_size);
  return s;
}

void Context::restore_thread(SavedThread saved) {
  Impl& m = *impl_;
  // Something of the child's may be queued (its last words); it must not run into the parent's registers.
  IGNORE_ERROR(m.perform(), "gone, or the child's own failure");
  m.queued_copy_failed = false;
  m.queued_memory_error = 0;
  set_registers(saved.regs);
  memcpy(m.slot->xsave, saved.vector.get(), saved.vector_size);
  m.add(OpCode::xrstor, stub::kMust);
  m.in_call = m.in_valid = false;
}

// ---- Threads that live again ----

// To end and to make a host thread takes three notifications; to let it sleep and to wake it, none.
bool Context::Impl::rest(uint64_t clear_tid) {
  Platform::Impl& p = platform();
  Space::Impl& s = space->impl();
  if (phase.load() != Phase::handling || s.gone.load() || self.host_tid_ == s.pid.load()) return false;
  {
    MutexLock l(p.mu);
    if (p.resting.size() >= Platform::Impl::kMaxResting) return false;
  }
  // What the host does for a thread that ends.
  if (clear_tid != 0 && in_application(clear_tid, 4)) {
    Op* zero = add(OpCode::zero_out, 0);
    if (!zero) return false;
    zero->a[0] = clear_tid;
    zero->a[2] = 4;
    Op* wake = add(OpCode::host_call, 0);
    if (!wake) return false;
    wake->aux = SYS_futex;
    const uint64_t args[6] = {clear_tid, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0};
    memcpy(wake->a, args, sizeof args);
  }
  if (!add(OpCode::cpu_time, 0)) return false;
  Resting r{space.get(), self.host_tid_, index, op_count - 1, sched::now(), process_cpu_time(s.pid.load())};
  __atomic_store_n(&slot->header.polled, 1, __ATOMIC_SEQ_CST);  // it need not tell anybody that it has done so
  send_reply(stub::kRest);
  bool first;
  {
    MutexLock l(p.mu);
    p.resting.push_back(r);
    first = p.resting.size() == 1;
  }
  p.forget(self);
  if (first) p.start_watchdog();
  return true;
}

RefOrNull<Context> Context::Impl::wake_resting() {
  Platform::Impl& p = platform();
  auto& all = p.resting;
  Resting r{};
  {
    MutexLock l(p.mu);
    auto it = std::find_if(all.rbegin(), all.rend(), [&](const Resting& x) REQUIRES(p.mu) {
      return x.space == space.get() && is_request(__atomic_load_n(&x.space->impl().control.slot(x.slot).header.state, __ATOMIC_ACQUIRE));
    });
    if (it == all.rend()) return nullptr;
    r = *it;
    all.erase(std::next(it).base());
  }
  auto child = Maker::context(space, r.slot);
  Impl& c = *child->impl_;
  c.self.host_tid_ = r.tid;
  stub::SlotHeader& h = c.slot->header;
  h.kicked = h.polled = h.waits = 0;
  child->ask_about_all();
  const int64_t used = fetch(c.slot->ops[r.clock].result);
  c.cpu_before = used > 0 ? static_cast<uint64_t>(used) : 0;
  {
    MutexLock l(p.mu);
    p.threads[r.tid] = child.get();
  }
  space->impl().put_context(r.slot, child.get());
  // As clone(2) has it: the registers and the vector units are the maker's.
  copy_registers(self, c);
  if (!add(OpCode::xsave, stub::kMust) || !perform().ok()) return nullptr;  // the process is gone
  untrusted_copy(c.slot->xsave, slot->xsave, xsave_size());
  c.add(OpCode::xrstor, stub::kMust);
  return child;
}

void Platform::Impl::dismiss_resting(sched::Nanos now, std::vector<Ref<Space>>& guilty) {
  std::erase_if(resting, [&](const Resting& x) REQUIRES(mu) {
    Slot& slot = x.space->impl().control.slot(x.slot);
    if (x.space->gone()) return true;
    const bool rests = is_request(__atomic_load_n(&slot.header.state, __ATOMIC_ACQUIRE));
    if (rests ? now - x.since < kRest : !overdue(*x.space, x.since, x.cpu)) return false;
    RefOrNull<Space> space = RefOrNull<Space>::upgrade(x.space);  // whoever takes it below lets it go without the lock
    if (!space) return true;
    if (!rests) {
      guilty.push_back(Ref<Space>(*space));
      return true;
    }
    slot.ops[0] = {.code = OpCode::exit_thread, .flags = 0, .aux = 0, .a = {}, .result = 0};
    __atomic_exchange_n(&slot.header.state, stub::kReply | 1 << 8 | stub::kResume << 16, __ATOMIC_SEQ_CST);
    IGNORE_ERROR(sys::raw(SYS_futex, reinterpret_cast<long>(&slot.header.state), FUTEX_WAKE, 1), "then it has not slept yet");
    leaving.push_back({Ref<Space>(*space), x.tid, x.slot, now, process_cpu_time(space->host_pid())});
    return true;
  });
}

// ---- The end ----

void Context::exit_thread(uint64_t clear_tid) {
  Impl& m = *impl_;
  Space::Impl& s = m.space->impl();
  if (m.left) return;
  RefOrNull<Birth> birth;
  {
    MutexLock l(m.platform().mu);
    birth = m.own_birth;
  }
  if (birth && !s.gone.load()) m.await(*birth);  // who does not live yet cannot be told to go
  m.left = true;
  if (m.never_born.load()) {
    m.platform().forget(*this);
    s.free_slot(m.index);
    return;
  }
  if (m.rest(clear_tid)) return;
  bool leader = host_tid_ == s.pid.load();
  Op* op = s.gone.load() ? nullptr : m.add(OpCode::exit_thread, 0);
  if (op) {
    op->a[0] = clear_tid;
    op->a[1] = leader;
    m.send_reply(stub::kResume);
  }
  Platform::Impl& p = m.platform();
  p.forget(*this);
  if (leader || s.gone.load()) return;
  bool first;
  {
    MutexLock l(p.mu);
    p.leaving.push_back({m.space, host_tid_, m.index, sched::now(), process_cpu_time(s.pid.load())});
    first = p.leaving.size() == 1;
  }
  if (first) p.start_watchdog();
}

uint64_t Context::cpu_time() {
  Impl& m = *impl_;
  size_t threads = 0, slots;  // there are more slots than one if there ever was a second thread
  {
    MutexLock l(m.platform().poll_mu);
    slots = m.space->impl().slots.size();
    for (Context* c : m.space->impl().slots) threads += c != nullptr;
  }
  if (threads <= 1 && slots <= 1) return m.space->cpu_time();
  // Only the thread itself can read its clock; when it is ours just now, it does.
  if (m.phase.load() == Phase::handling && m.fiber.get() == sched::current() && !m.left) {
    if (m.add(OpCode::cpu_time, 0)) {
      auto r = m.perform_for(m.op_count - 1);
      if (r.ok() && *r > 0) m.last_cpu_time = static_cast<uint64_t>(*r) - std::min(static_cast<uint64_t>(*r), m.cpu_before);
    }
  }
  return m.last_cpu_time;
}

}  // namespace sentry::platform

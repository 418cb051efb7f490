// SPDX-License-Identifier: Apache-2.0
// Threads and processes: made by the thread that is to be copied, vouched for by the kernel, ended with a deadline.
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>

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

// What the child goes on with: the parent's registers.
void copy_registers(Context& from, Context::Impl& to) {
  to.self.set_registers(from.registers());
}

// Lets `m` clone, and waits until the child has been born. EINTR: a signal came between, try again.
Result<void> try_birth(Context::Impl& m, Birth& birth, uint64_t flags, uint64_t stack) {
  Platform::Impl& p = m.platform();
  uint64_t token = random_token();
  Op* op = m.add(OpCode::clone, 0);
  if (!op) return kESRCH;
  unsigned at = m.op_count - 1;
  op->a[0] = flags;
  op->a[1] = stack;
  op->a[2] = token;
  const uint64_t args[6] = {flags, stack, 0, 0, 0, 0};
  m.grant(SYS_clone, args);
  {
    MutexLock l(p.mu);
    p.births[token] = &birth;
    p.audits_left = kAuditsAfterBirth;
  }
  if (p.threads_file.valid()) p.start_watchdog();
  auto r = m.perform_for(at);
  auto settled = [&] {
    return __atomic_load_n(&birth.born, __ATOMIC_ACQUIRE) || __atomic_load_n(&birth.refused, __ATOMIC_ACQUIRE);
  };
  bool made = r.ok() && *r > 0;
  sched::Nanos deadline = sched::now() + kBirthDeadline;
  p.notices_expected.fetch_add(1, std::memory_order_relaxed);
  while (made && !settled() && !m.space->gone() && sched::now() < deadline) sched::park(deadline);
  p.notices_expected.fetch_sub(1, std::memory_order_relaxed);
  bool pending;
  {
    MutexLock l(p.mu);
    pending = p.births.erase(token) != 0;
  }
  // The notification is being handled at this moment: it holds a pointer to `birth`.
  while (!pending && !settled()) sched::park();
  if (__atomic_load_n(&birth.born, __ATOMIC_ACQUIRE)) return {};
  if (!r.ok()) return r.error();
  if (made) {
    // A child that nobody knows may exist.
    LOG(warn, "stub {}: a clone that never reported; killed", m.space->impl().pid.load());
    m.space->kill();
    p.audit();
    return kESRCH;
  }
  // The host restarts a clone that meets a pending signal, and the grant is used up by then.
  if (*r == -EINTR || *r == -ENOSYS) return kEINTR;
  if (*r == -ENOMEM) return kENOMEM;
  return kEAGAIN;
}

Result<void> give_birth(Context::Impl& m, Birth& birth, uint64_t flags, uint64_t stack) {
  for (int tries = 0; tries < kBirthTries; tries++) {
    auto r = try_birth(m, birth, flags, stack);
    if (r.ok() || !(r.error() == kEINTR)) return r;
    birth.refused = false;
  }
  return kEAGAIN;
}

}  // namespace

Result<Ref<Context>> Context::clone_thread() {
  Impl& m = *impl_;
  TRY(m.perform());
  int i = m.space->impl().take_slot();
  if (i < 0) return kEAGAIN;
  auto index = static_cast<unsigned>(i);
  auto child = Maker::context(m.space, index);
  m.space->impl().control.prepare_slot(index);
  copy_registers(*this, *child->impl_);
  Birth birth{Birth::thread, child.get(), m.space, sched::current()};
  m.space->impl().put_context(index, child.get());
  auto r = give_birth(m, birth, kThreadFlags, stub::slot_address(index) + STUB_STACK_TOP);
  if (r.ok()) return child;
  m.platform().forget(*child);
  m.space->impl().free_slot(index);
  child->impl_->left = true;
  return r.error();
}

Result<Ref<Context>> Context::fork() {
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
  Birth birth{Birth::process, child.get(), m.space, sched::current()};
  space->impl().put_context(m.index, child.get());
  auto r = give_birth(m, birth, kForkFlags, 0);
  if (!r.ok()) {
    child->impl_->left = true;
    p.forget(*child);
    space->kill();
    return r.error();
  }
  return child;
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

// ---- The end ----

void Context::exit_thread(uint64_t clear_tid) {
  Impl& m = *impl_;
  Space::Impl& s = m.space->impl();
  if (m.left) return;
  m.left = true;
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
  size_t threads = 0;
  {
    MutexLock l(m.platform().poll_mu);
    for (Context* c : m.space->impl().slots) threads += c != nullptr;
  }
  if (threads <= 1) return m.space->cpu_time();
  // Only the thread itself can read its clock; when it is ours just now, it does.
  if (m.phase.load() == Phase::handling && m.fiber.get() == sched::current() && !m.left) {
    if (m.add(OpCode::cpu_time, 0)) {
      auto r = m.perform_for(m.op_count - 1);
      if (r.ok() && *r > 0) m.last_cpu_time = static_cast<uint64_t>(*r);
    }
  }
  return m.last_cpu_time;
}

}  // namespace sentry::platform

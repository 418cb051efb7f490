// SPDX-License-Identifier: Apache-2.0
// ptrace(2) as a tracer sees it: attaching, letting go on, and looking into a stopped tracee.
#include <elf.h>
#include <linux/audit.h>
#include <sys/uio.h>
#include <sys/user.h>

#include <algorithm>
#include <cstddef>

#include "sentry/kernel/answers.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/trace.h"
#include "sentry/kernel/tracer.h"
#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

using Mode = TraceState::Mode;
using Op = TraceState::Op;

constexpr uint64_t kOptions = 0xff | PTRACE_O_EXITKILL;  // TRACESYSGOOD .. TRACESECCOMP
constexpr uint64_t kSuspendSeccomp = 1 << 21;
constexpr long kPeekSiginfo = 0x4209, kGetSigmask = 0x420a, kSetSigmask = 0x420b, kSysemu = 31, kSysemuStep = 32,
               kArchPrctl = 30, kGetSyscallInfo = 0x420e;
constexpr size_t kLegacy = 512;  // FXSAVE image
constexpr size_t kHeaderAt = 512, kSoftwareAt = 464, kMxcsrAt = 24, kMxcsrMaskAt = 28;

// Numbers of the layout of struct user that debuggers use.
constexpr uint64_t kDebugRegisters = offsetof(struct user, u_debugreg);

// Hands f to the stopped tracee's own fiber and waits for it. ESRCH: it has gone on or ended.
template <typename F>
Result<void> as_tracee(Task& tracer, Task& t, F&& f) {
  TraceState& s = t.impl().trace;
  TraceJob job;
  job.fn = [](Task& tracee, void* arg) { (*static_cast<std::remove_reference_t<F>*>(arg))(tracee); };
  job.arg = &f;
  {
    MutexLock l(task_set_lock);
    if (s.tracer != &tracer || !s.stopped || s.resumed) return kESRCH;
    if (s.job) return kESRCH;
    s.job = &job;
  }
  s.queue.wake_all();
  auto over = [&] {
    MutexLock l(task_set_lock);
    return job.state == TraceJob::State::done || job.state == TraceJob::State::cancelled;
  };
  IGNORE_ERROR(sched::wait_for(s.job_queue, over, sched::kNever, sched::Interruptible::no), "no deadline");
  if (job.state != TraceJob::State::done) return kESRCH;
  return {};
}

// The state of a stopped tracee under the lock. ESRCH.
template <typename F>
auto with_stopped(Task& tracer, Task& t, F&& f) -> decltype(f(t.impl().trace)) {
  MutexLock l(task_set_lock);
  TraceState& s = t.impl().trace;
  if (s.tracer != &tracer || !s.stopped || s.resumed || s.listening) return kESRCH;
  return f(s);
}

// ---- Going on ----

uint32_t mode_of(long request) {
  switch (request) {
    case PTRACE_SYSCALL: return Mode::kTraced | Mode::kSyscalls;
    case PTRACE_SINGLESTEP: return Mode::kTraced | Mode::kStep;
    case kSysemu: return Mode::kTraced | Mode::kEmulate;
    case kSysemuStep: return Mode::kTraced | Mode::kEmulate | Mode::kStep;
    default: return Mode::kTraced;
  }
}

Result<long> let_go_on(Task& tracer, Task& t, long request, uint64_t signal) {
  if (signal > kSignals) return kEIO;
  TRY(with_stopped(tracer, t, [&](TraceState& s) -> Result<void> {
    s.mode = mode_of(request) | (s.seized() ? Mode::kSeized : 0u);
    s.resume_signal = static_cast<int>(signal);
    s.resumed = s.reported = true;
    return {};
  }));
  t.impl().trace.queue.wake_all();
  return 0L;
}

Result<long> detach(Task& tracer, Task& t, uint64_t signal) {
  if (signal > kSignals) return kEIO;
  std::vector<Ref<Task>> keep;
  TRY(with_stopped(tracer, t, [&](TraceState& s) REQUIRES(task_set_lock) -> Result<void> {
    s.resume_signal = static_cast<int>(signal);
    s.resumed = s.reported = true;
    s.tracer = nullptr;
    s.mode = 0;
    tracer.group().impl().tracees.remove_if([&](const Ref<Task>& x) {
      if (x.get() != &t) return false;
      keep.push_back(x);
      return true;
    });
    return {};
  }));
  t.impl().trace.queue.wake_all();
  return 0L;
}

// PTRACE_INTERRUPT, PTRACE_LISTEN: of a tracee that was seized.
Result<long> interrupt(Task& tracer, Task& t) {
  {
    MutexLock l(task_set_lock);
    if (t.impl().trace.tracer != &tracer) return kESRCH;
    if (!t.impl().trace.seized()) return kEIO;
  }
  MutexLock l(t.group().impl().mu);
  t.impl().trap_pending = true;
  recalculate_pending_locked(t.group().impl(), t);
  wake_task_locked(t.group().impl(), t);
  return 0L;
}

Result<long> listen(Task& tracer, Task& t) {
  TRY(with_stopped(tracer, t, [&](TraceState& s) -> Result<long> {
    if (!s.seized() || s.code >> 8 != kEventStop) return kEIO;
    s.listening = s.reported = true;
    return 0L;
  }));
  t.impl().trace.queue.wake_all();  // what it listens for may have come already
  return 0L;
}

// ---- Memory ----

struct WriteJob {
  uint64_t addr;
  const std::byte* src;
  size_t n;
  size_t done = 0;
};

// On the own fiber of a stopped thread of that memory.
void force_write(Task& t, WriteJob& w) {
  RefOrNull<mm::AddressSpace> space = t.find_mm();
  while (space && w.done < w.n) {
    const uint64_t at = w.addr + w.done, page = at & ~(platform::kPageSize - 1);
    const size_t n = std::min<uint64_t>(w.n - w.done, page + platform::kPageSize - at);
    std::optional<mm::Vma> v = space->find(at);
    if (!v || (v->shared && !(v->prot & PROT_WRITE)) || v->name == "[vdso]" || v->name == "[vvar]") return;
    platform::Context& c = t.context();
    platform::MemoryCall call{};
    call.op = platform::MemoryOp::protect;
    call.address = page;
    call.length = platform::kPageSize;
    call.prot = v->prot | PROT_READ | PROT_WRITE;
    const bool opened = !(v->prot & PROT_WRITE);
    if (opened && !c.memory_call(call).ok()) return;
    const bool written = c.copy_out_now(at, w.src + w.done, n).ok();
    call.prot = v->prot;
    if (opened) IGNORE_ERROR(c.memory_call(call), "a page that can be written as well harms its own process only");
    if (!written) return;
    w.done += n;
  }
}

Result<long> poke(Task& tracer, Task& t, uint64_t addr, uint64_t word) {
  TRY(with_stopped(tracer, t, [](TraceState&) -> Result<void> { return {}; }));
  WriteJob w{addr, reinterpret_cast<const std::byte*>(&word), sizeof word};
  TRY(as_tracee(tracer, t, [&](Task& tracee) { force_write(tracee, w); }));
  return w.done == sizeof word ? Result<long>(0L) : Result<long>(kEIO);
}

Result<long> peek(Task& tracer, Task& t, uint64_t addr, uint64_t out) {
  TRY(with_stopped(tracer, t, [](TraceState&) -> Result<void> { return {}; }));
  RefOrNull<mm::AddressSpace> space = t.find_mm();
  if (!space) return kESRCH;
  uint64_t word = 0;
  Result<size_t> n = space->read_remote(addr, &word, sizeof word);
  if (!n.ok() || *n != sizeof word) return kEIO;
  TRY(mm::UserOut<uint64_t>(out).copy_out(tracer.context(), word));
  return 0L;
}

// ---- Registers ----

// What a tracer may write. Linux: putreg().
Result<void> check_registers(const arch::Registers& r, const arch::Registers& old) {
  if (r.cs != old.cs || r.ss != old.ss) {
    if ((r.cs & 3) != 3 || (r.ss & 3) != 3) return kEIO;
  }
  if (r.fs_base >= platform::kAppLimit || r.gs_base >= platform::kAppLimit) return kEIO;
  return {};
}

Result<void> set_registers(Task& tracer, Task& t, size_t offset, const void* src, size_t n) {
  return with_stopped(tracer, t, [&](TraceState& s) -> Result<void> {
    arch::Registers r = s.registers;
    memcpy(reinterpret_cast<char*>(&r) + offset, src, n);
    TRY(check_registers(r, s.registers));
    r.cs = s.registers.cs;
    r.ss = s.registers.ss;
    s.registers = r;
    s.registers_changed = true;
    return {};
  });
}

Result<arch::Registers> get_registers(Task& tracer, Task& t) {
  return with_stopped(tracer, t, [](TraceState& s) -> Result<arch::Registers> { return s.registers; });
}

Result<long> peek_user(Task& tracer, Task& t, uint64_t offset, uint64_t out) {
  if ((offset & 7) || offset > sizeof(struct user) - 8) return kEIO;
  const arch::Registers r = TRY(get_registers(tracer, t));
  uint64_t v = 0;
  if (offset < sizeof r) memcpy(&v, reinterpret_cast<const char*>(&r) + offset, sizeof v);
  else if (offset < kDebugRegisters) v = 0;
  TRY(mm::UserOut<uint64_t>(out).copy_out(tracer.context(), v));
  return 0L;
}

Result<long> poke_user(Task& tracer, Task& t, uint64_t offset, uint64_t value) {
  if ((offset & 7) || offset > sizeof(struct user) - 8) return kEIO;
  if (offset < sizeof(arch::Registers)) {
    TRY(set_registers(tracer, t, offset, &value, sizeof value));
    return 0L;
  }
  TRY(get_registers(tracer, t));
  // No debug registers here: only what switches none on.
  if (offset < kDebugRegisters) return kEIO;
  const uint64_t index = (offset - kDebugRegisters) / 8;
  if (index == 4 || index == 5) return kEIO;
  if (index == 7 && (value & 0xff)) return kENOSPC;
  return 0L;
}

// What XSAVE keeps of an application: without the tiles, which stubs never ask for.
uint64_t vector_features() {
  uint32_t lo, hi;
  asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t{hi} << 32 | lo) & ~(3ull << 17);
}

Result<std::vector<std::byte>> get_vector(Task& tracer, Task& t) {
  std::vector<std::byte> image;
  TRY(as_tracee(tracer, t, [&](Task& tracee) {
    Result<platform::SavedThread> saved = tracee.context().save_thread();
    if (saved.ok()) image.assign(saved->vector.get(), saved->vector.get() + saved->vector_size);
  }));
  if (image.empty()) return kESRCH;
  return image;
}

// The x87 and SSE part, or all; the header and MXCSR as the processor takes them.
Result<void> set_vector(Task& tracer, Task& t, const std::byte* src, size_t n) {
  uint32_t mxcsr;
  memcpy(&mxcsr, src + kMxcsrAt, sizeof mxcsr);
  if (mxcsr & ~0xffffu) return kEINVAL;
  Errno error = kESRCH;
  bool done = false;
  TRY(as_tracee(tracer, t, [&](Task& tracee) {
    Result<platform::SavedThread> saved = tracee.context().save_thread();
    if (!saved.ok()) return;
    std::byte* image = saved->vector.get();
    if (n > saved->vector_size) {
      error = kEFAULT;
      return;
    }
    uint64_t have;
    memcpy(&have, image + kHeaderAt, sizeof have);
    if (n > kLegacy) {
      uint64_t header[8];
      memcpy(header, src + kHeaderAt, sizeof header);
      const uint64_t allowed = vector_features();
      if ((header[0] & ~allowed) || std::any_of(header + 1, header + 8, [](uint64_t w) { return w != 0; })) {
        error = kEINVAL;
        return;
      }
      have = 0;
    }
    uint32_t mask;
    memcpy(&mask, image + kMxcsrMaskAt, sizeof mask);
    memcpy(image, src, n);
    memcpy(image + kMxcsrMaskAt, &mask, sizeof mask);
    if (n <= kLegacy) {
      have |= 3;
      memcpy(image + kHeaderAt, &have, sizeof have);
    }
    tracee.context().restore_thread(std::move(saved).value());
    done = true;
  }));
  if (!done) return error;
  return {};
}

void describe_vector(std::vector<std::byte>& image) {
  const uint64_t features = vector_features();
  memset(image.data() + kSoftwareAt, 0, kLegacy - kSoftwareAt);
  memcpy(image.data() + kSoftwareAt, &features, sizeof features);
}

// PTRACE_GETREGSET, PTRACE_SETREGSET.
Result<long> register_set(Task& tracer, Task& t, uint64_t type, uint64_t iov_address, bool set) {
  mm::UserInOut<iovec> where(iov_address);
  iovec v = TRY(where.copy_in(tracer.context()));
  const auto base = reinterpret_cast<uint64_t>(v.iov_base);
  std::vector<std::byte> bytes;
  size_t unit = 8;
  switch (type) {
    case NT_PRSTATUS: {
      const arch::Registers r = TRY(get_registers(tracer, t));
      bytes.assign(reinterpret_cast<const std::byte*>(&r), reinterpret_cast<const std::byte*>(&r + 1));
      break;
    }
    case NT_FPREGSET:
      bytes = TRY(get_vector(tracer, t));
      bytes.resize(kLegacy);
      break;
    case NT_X86_XSTATE:
      bytes = TRY(get_vector(tracer, t));
      describe_vector(bytes);
      bytes.resize((bytes.size() + 7) & ~size_t{7});
      break;
    default: return kEINVAL;
  }
  if (v.iov_len % unit) return kEINVAL;
  const size_t n = std::min(v.iov_len, bytes.size());
  if (!set) {
    TRY(tracer.context().copy_out_now(base, bytes.data(), n));
  } else {
    if (n) TRY(tracer.context().copy_in(bytes.data(), base, n));
    if (type == NT_PRSTATUS) {
      TRY(set_registers(tracer, t, 0, bytes.data(), n));
    } else {
      if (type == NT_X86_XSTATE && n < kLegacy + 64) return kEFAULT;
      TRY(set_vector(tracer, t, bytes.data(), type == NT_FPREGSET ? kLegacy : bytes.size()));
    }
  }
  v.iov_len = n;
  TRY(where.copy_out(tracer.context(), v));
  return 0L;
}

// ---- Signals and calls ----

Result<long> peek_siginfo(Task& tracer, Task& t, uint64_t args, uint64_t out) {
  struct Args {
    uint64_t offset;
    uint32_t flags;
    int32_t count;
  };
  const Args a = TRY(mm::UserIn<Args>(args).copy_in(tracer.context()));
  if (a.flags & ~1u) return kEINVAL;
  if (a.count < 0) return kEINVAL;
  TRY(with_stopped(tracer, t, [](TraceState&) -> Result<void> { return {}; }));
  std::vector<SignalInfo> all;
  {
    MutexLock l(t.group().impl().mu);
    all = (a.flags & 1 ? t.group().impl().shared : t.impl().pending).all();
  }
  long n = 0;
  for (uint64_t i = a.offset; i < all.size() && n < a.count; i++, n++)
    TRY(tracer.context().copy_out_now(out + static_cast<uint64_t>(n) * sizeof(siginfo_t), &all[i].si, sizeof(siginfo_t)));
  return n;
}

Result<long> signal_mask(Task& tracer, Task& t, uint64_t size, uint64_t address, bool set) {
  if (size != sizeof(SignalSet)) return kEINVAL;
  TRY(with_stopped(tracer, t, [](TraceState&) -> Result<void> { return {}; }));
  if (!set) {
    SignalSet now;
    {
      MutexLock l(t.group().impl().mu);
      now = t.impl().restore_mask ? t.impl().saved_mask : t.impl().blocked;
    }
    TRY(mm::UserOut<SignalSet>(address).copy_out(tracer.context(), now));
    return 0L;
  }
  const SignalSet next = TRY(mm::UserIn<SignalSet>(address).copy_in(tracer.context()));
  TRY(as_tracee(tracer, t, [&](Task& tracee) {
    tracee.impl().restore_mask = false;
    tracee.set_blocked(next);
  }));
  return 0L;
}

Result<long> syscall_info(Task& tracer, Task& t, uint64_t size, uint64_t out) {
  struct Info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp;
    union {
      struct { uint64_t nr, args[6]; } entry;
      struct { int64_t value; uint8_t is_error; } exit;
      struct { uint64_t nr, args[6]; uint32_t data; } seccomp;
    };
  } info{};
  size_t n = offsetof(Info, entry);
  TRY(with_stopped(tracer, t, [&](TraceState& s) -> Result<void> {
    const arch::Registers& r = s.registers;
    info.arch = AUDIT_ARCH_X86_64;
    info.ip = r.rip;
    info.sp = r.rsp;
    info.op = static_cast<uint8_t>(s.op);
    switch (s.op) {
      case Op::none: break;
      case Op::entry:
      case Op::seccomp:
        info.seccomp = {r.orig_rax, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}, s.op == Op::seccomp ? s.seccomp_data : 0};
        n = s.op == Op::entry ? offsetof(Info, seccomp.data) : offsetof(Info, seccomp.data) + 4;
        break;
      case Op::exit:
        info.exit.value = static_cast<int64_t>(r.rax);
        info.exit.is_error = r.rax >= static_cast<uint64_t>(-4095);
        n = offsetof(Info, exit.is_error) + 1;
        break;
    }
    return {};
  }));
  if (const size_t give = std::min<uint64_t>(size, n)) TRY(tracer.context().copy_out_now(out, &info, give));
  return static_cast<long>(n);
}

Result<long> set_options(Task& tracer, Task& t, uint64_t options) {
  if (options & ~(kOptions | kSuspendSeccomp)) return kEINVAL;
  if (options & kSuspendSeccomp) return kEPERM;
  return with_stopped(tracer, t, [&](TraceState& s) -> Result<long> {
    s.options = static_cast<uint32_t>(options);
    return 0L;
  });
}

}  // namespace

bool may_trace(Task& tracer, Task& target) {
  if (&tracer.group() == &target.group()) return true;
  Ref<auth::Credentials> me = tracer.credentials(), it = target.credentials();
  if (!may_see_memory(*me, target)) return false;
  if (me->has_cap_in(it->user_ns.get(), CAP_SYS_PTRACE)) return true;
  if (me->uid != it->euid || me->uid != it->suid || me->uid != it->uid || me->gid != it->egid || me->gid != it->sgid ||
      me->gid != it->gid)
    return false;
  return me->user_ns.get() == it->user_ns.get() && (it->cap_permitted & ~me->cap_permitted) == 0;
}

Result<long> trace_me(Task& t) {
  MutexLock l(task_set_lock);
  TraceState& s = t.impl().trace;
  ThreadGroup* parent = t.group().impl().parent;
  if (s.tracer || !parent) return kEPERM;
  RefOrNull<Task> leader;
  {
    MutexLock m(parent->impl().mu);
    leader = parent->impl().leader;
  }
  Task* tracer = t.group().impl().parent_task ? t.group().impl().parent_task : leader.get();
  if (!tracer) return kEPERM;
  s.tracer = tracer;
  s.options = 0;
  s.message = 0;
  s.mode = Mode::kTraced;
  parent->impl().tracees.push_back(Ref<Task>(t));
  withdraw_answers(t);
  return 0L;
}

// Linux: ptrace_attach().
Result<long> trace_attach(Task& tracer, Task& t, bool seize, uint64_t options) {
  if (seize && (options & ~kOptions)) return kEIO;
  if (&tracer.group() == &t.group()) return kEPERM;
  if (!may_trace(tracer, t)) return kEPERM;
  {
    MutexLock l(task_set_lock);
    TraceState& s = t.impl().trace;
    bool gone;
    {
      MutexLock m(t.group().impl().mu);
      gone = t.impl().exiting_now || t.group().impl().exiting;
    }
    if (s.tracer || gone || t.group().impl().zombie) return kEPERM;
    s.tracer = &tracer;
    s.options = static_cast<uint32_t>(options);
    s.message = 0;
    s.mode = Mode::kTraced | (seize ? Mode::kSeized : 0u);
    tracer.group().impl().tracees.push_back(Ref<Task>(t));
  }
  withdraw_answers(t);
  if (!seize) send_to_task(t, SignalInfo::kernel(SIGSTOP, SI_KERNEL), true);
  t.group().impl().stop_queue.wake_all();  // one that is stopped already stops for the tracer
  return 0L;
}

Result<long> trace_request(Task& tracer, Task& t, long request, uint64_t addr, uint64_t data) {
  platform::Context& c = tracer.context();
  switch (request) {
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA: return peek(tracer, t, addr, data);
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA: return poke(tracer, t, addr, data);
    case PTRACE_PEEKUSER: return peek_user(tracer, t, addr, data);
    case PTRACE_POKEUSER: return poke_user(tracer, t, addr, data);
    case PTRACE_CONT:
    case PTRACE_SYSCALL:
    case PTRACE_SINGLESTEP:
    case kSysemu:
    case kSysemuStep: return let_go_on(tracer, t, request, data);
    case PTRACE_DETACH: return detach(tracer, t, data);
    case PTRACE_KILL: {
      {
        MutexLock l(task_set_lock);
        if (t.impl().trace.tracer != &tracer) return kESRCH;
      }
      send_to_group(t.group(), SignalInfo::kernel(SIGKILL, SI_KERNEL), true);
      return 0L;
    }
    case PTRACE_INTERRUPT: return interrupt(tracer, t);
    case PTRACE_LISTEN: return listen(tracer, t);
    case PTRACE_SETOPTIONS: return set_options(tracer, t, data);
    case PTRACE_GETEVENTMSG: {
      const uint64_t m = TRY(with_stopped(tracer, t, [](TraceState& s) -> Result<uint64_t> { return s.message; }));
      TRY(mm::UserOut<uint64_t>(data).copy_out(c, m));
      return 0L;
    }
    case PTRACE_GETSIGINFO: {
      const SignalInfo i = TRY(with_stopped(tracer, t, [](TraceState& s) -> Result<SignalInfo> {
        if (!s.info) return kEINVAL;
        return *s.info;
      }));
      TRY(mm::UserOut<siginfo_t>(data).copy_out(c, i.si));
      return 0L;
    }
    case PTRACE_SETSIGINFO: {
      SignalInfo i;
      i.si = TRY(mm::UserIn<siginfo_t>(data).copy_in(c));
      return with_stopped(tracer, t, [&](TraceState& s) -> Result<long> {
        if (!s.info) return kEINVAL;
        s.info = i;
        return 0L;
      });
    }
    case kPeekSiginfo: return peek_siginfo(tracer, t, addr, data);
    case kGetSigmask: return signal_mask(tracer, t, addr, data, false);
    case kSetSigmask: return signal_mask(tracer, t, addr, data, true);
    case PTRACE_GETREGS: {
      const arch::Registers r = TRY(get_registers(tracer, t));
      TRY(mm::UserOut<arch::Registers>(data).copy_out(c, r));
      return 0L;
    }
    case PTRACE_SETREGS: {
      const arch::Registers r = TRY(mm::UserIn<arch::Registers>(data).copy_in(c));
      TRY(set_registers(tracer, t, 0, &r, sizeof r));
      return 0L;
    }
    case PTRACE_GETFPREGS: {
      const std::vector<std::byte> image = TRY(get_vector(tracer, t));
      TRY(c.copy_out_now(data, image.data(), kLegacy));
      return 0L;
    }
    case PTRACE_SETFPREGS: {
      std::vector<std::byte> image(kLegacy);
      TRY(c.copy_in(image.data(), data, kLegacy));
      TRY(set_vector(tracer, t, image.data(), kLegacy));
      return 0L;
    }
    case PTRACE_GETREGSET: return register_set(tracer, t, addr, data, false);
    case PTRACE_SETREGSET: return register_set(tracer, t, addr, data, true);
    case kGetSyscallInfo: return syscall_info(tracer, t, addr, data);
    case kArchPrctl: {
      constexpr uint64_t kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
      if (data == kSetFs) {
        TRY(set_registers(tracer, t, offsetof(arch::Registers, fs_base), &addr, sizeof addr));
        return 0L;
      }
      if (data != kGetFs && data != kGetGs) return kEINVAL;
      const arch::Registers r = TRY(get_registers(tracer, t));
      TRY(mm::UserOut<uint64_t>(addr).copy_out(c, data == kGetFs ? r.fs_base : 0));
      return 0L;
    }
    default:
      TRY(with_stopped(tracer, t, [](TraceState&) -> Result<void> { return {}; }));
      return kEIO;
  }
}

Result<size_t> write_as_debugger(mm::AddressSpace& space, uint64_t addr, const void* src, size_t n) {
  Result<size_t> plain = space.write_remote(addr, src, n);
  if (plain.ok() && *plain > 0) return plain;
  Task* me = Task::find_current();
  if (!me) return plain;
  RefOrNull<Task> stopped;
  {
    MutexLock l(task_set_lock);
    for (const Ref<Task>& t : me->group().impl().tracees) {
      const TraceState& s = t->impl().trace;
      if (!s.stopped || s.resumed || s.job || t->find_mm().get() != &space) continue;
      stopped = t;
      break;
    }
  }
  if (!stopped) return plain;
  RefOrNull<Task> tracer;
  {
    MutexLock l(task_set_lock);
    if (Task* p = stopped->impl().trace.tracer) tracer = Ref<Task>(*p);
  }
  if (!tracer) return plain;
  WriteJob w{addr, static_cast<const std::byte*>(src), n};
  TRY(as_tracee(*tracer, *stopped, [&](Task& tracee) { force_write(tracee, w); }));
  if (w.done == 0) return kEFAULT;
  return w.done;
}

}  // namespace sentry::kernel

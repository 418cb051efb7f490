// SPDX-License-Identifier: Apache-2.0
// How application code runs. A Space is one address space (a host process, the stub); a Context is one host thread in it
// with its mailbox. Everything that a stub says is hostile: results that come back through memory are hints, on which
// no other process's safety depends.
//
// All operations that need the application's own thread (memory calls, copies) are done by the Context whose
// event is being handled, on the fiber that handles it; they may park that fiber.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "sentry/arch/regs.h"
#include "sentry/base.h"
#include "sentry/sched/sched.h"

namespace sentry::platform {

class Platform;
class Space;
class Context;

// Applications live below kAppLimit; shared file mappings lie in [kSharedBase, kAppLimit), so that a stub's own
// mprotect never reaches them (seccomp-profiles/stub.json).
inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kAppLimit = 0x7ffe00000000;
inline constexpr uint64_t kSharedBase = 0x7f0000000000;
inline constexpr uint64_t kMinAddress = 0x10000;  // vm.mmap_min_addr
// Patched call sites leave the application by `jmp *%gs:kEntryPointer`, with the return address in rcx.
inline constexpr uint32_t kEntryPointer = 112;

// What the stub may do by itself, from patched sites alone: calls whose result it holds, and calls that concern nobody but its own
// process. Off for whoever has to see every call (a tracer, a filter, --strace).
enum class Answer : uint8_t { none, pid, tid, ppid, uid, euid, gid, egid, yield, futex };

enum class EventKind : uint8_t {
  syscall,     // call() says which
  fault,       // fault() says what: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP of the application's own code
  interrupt,   // a kick arrived while application code ran: look for signals, then resume
  gone,        // the stub process is dead (killed by the host: OOM, or by us)
  never_born,  // its maker could not make this thread after all (birth_error() of the maker)
};

// When a thread or process is made: before the call returns, or by the maker's next resume(), which saves two exchanges.
enum class Birthday : uint8_t { now, at_resume };

struct Call {
  uint64_t number;
  uint64_t args[6];
};

struct Fault {
  int signo, code;
  uint64_t address, ip, trap_number, error_code;
};

// Whether the page of zeros, which costs nothing, is one that is present.
enum class ZeroPage : uint8_t { is_none, is_there };

// One operation on the application's memory, made by its own thread.
enum class MemoryOp : uint8_t { map_anonymous, map_file, unmap, protect, advise, remap };
struct MemoryCall {
  MemoryOp op;
  uint64_t address = 0, length = 0;
  int prot = 0;
  int flags = 0;             // MAP_PRIVATE / MAP_SHARED, MAP_FIXED or MAP_FIXED_NOREPLACE, NORESERVE, STACK; madvise's advice
  int host_fd = -1;          // map_file: borrowed for the call; the stub gets a duplicate
  uint64_t file_key = 0;     // identifies (file, access mode) for re-use of a descriptor the stub already has; 0 = none
  int64_t offset = 0;
  uint64_t new_address = 0, new_length = 0;  // remap (always MREMAP_MAYMOVE|MREMAP_FIXED, or in place when equal)
};

// What a signal frame holds. siginfo is the kernel's 128-byte siginfo_t.
struct SignalFrame {
  uint64_t handler, restorer, flags;  // sa_flags
  unsigned char siginfo[128];
  uint64_t mask;                      // to restore (uc_sigmask)
  uint64_t altstack_sp, altstack_size;
  uint32_t altstack_flags;            // uc_stack
  uint64_t stack_pointer;             // where the frame goes: below this (already red-zone or altstack adjusted)
  bool with_fault = false;            // trapno, err, cr2 of `fault` go into the frame
  Fault fault{};
};
// What rt_sigreturn(2) found in the frame. Registers and vector state are already back in the thread.
struct SignalReturn {
  uint64_t mask;
  uint64_t altstack_sp, altstack_size;
  uint32_t altstack_flags;
};

// Registers and vector state of a thread whose host thread is lent to its vfork child.
struct SavedThread {
  arch::Registers regs;
  std::unique_ptr<std::byte[]> vector;  // XSAVE image
  size_t vector_size = 0;
};

// One application thread's host thread. Held by: its Task (or two Tasks in turn, during vfork).
class Context : public RefCounted<Context> {
 public:
  // Lets the application run until its next event. Everything queued (copies out, memory calls, registers) is done first, by
  // the thread itself. Parks the calling fiber, which must be the one given to set_fiber(). If a queued copy failed
  // with EFAULT, the thread does not run: returns copy_failed() first. After a kick() that came while the event was being
  // handled it returns EventKind::interrupt at once; results and operations stay queued for the next resume().
  EventKind resume();
  // The fiber that handles this thread's events; set once before the first resume (again when lent to a vfork child).
  void set_fiber(sched::Fiber* fiber);

  const Call& call() const { return call_; }
  // The call came by a trap, not from a patched site. The stub's word: only for deciding what to patch.
  bool trapped() const { return trapped_; }
  const Fault& fault() const { return fault_; }
  // True after resume() returned because a queued copy_out met a bad address: the call should answer EFAULT.
  bool copy_failed() const { return copy_failed_; }

  // Sets rax and completes the current call at the next resume().
  void set_result(int64_t rax);
  // Single-fetch copy of all registers (orig_rax = number while a call is handled). rip is where the application goes on: after
  // the `syscall` instruction (callers subtract 2 to restart).
  arch::Registers registers();
  // Replaces all general registers, FS and GS at the next resume (exec, ptrace, signals, clone). Segments and flags are
  // sanitised here. fresh_vector: the vector state is reset as after exec.
  void set_registers(const arch::Registers& regs, bool fresh_vector = false);
  uint64_t instruction_pointer();
  uint64_t stack_pointer();
  void set_fs_base(uint64_t base);  // arch_prctl(ARCH_SET_FS); at the next resume
  uint64_t fs_base();

  // ---- Copies. addr is an application address; EFAULT when any byte is not accessible. ----
  Result<void> copy_in(void* dst, uint64_t addr, size_t n);
  // At most limit bytes; at least one; stops after the first inaccessible page: EFAULT only if nothing was copied.
  Result<size_t> copy_in_some(void* dst, uint64_t addr, size_t n);
  // As copy_in_some, at most kWindow bytes, without a copy: they lie where the stub may change them at any moment. For the host alone, or
  // to be copied once. Until the next copy or memory call.
  Result<std::span<const std::byte>> in_window(uint64_t addr, size_t n);
  // A NUL-terminated string without its NUL. ENAMETOOLONG if there is none within limit bytes.
  Result<std::string> copy_in_string(uint64_t addr, size_t limit);
  // Queued: done before the application goes on. Use copy_out_now where a failure must be undone.
  Result<void> copy_out(uint64_t addr, const void* src, size_t n);
  Result<void> copy_out_now(uint64_t addr, const void* src, size_t n);
  Result<size_t> copy_out_some(uint64_t addr, const void* src, size_t n);  // now; partial as copy_in_some
  Result<void> zero_out(uint64_t addr, size_t n);                          // now
  Result<void> queue_zero_out(uint64_t addr, size_t n);                    // as copy_out
  // Room in the mailbox for up to n bytes (at most kWindow) that the application will receive at addr: fill a prefix, then
  // commit how much. Contents are exposed to the stub at once: put only what it may see there, and never read them back.
  // No other copy or memory call between the two.
  static constexpr size_t kWindow = 64 * 1024;
  std::span<std::byte> out_window(size_t n);
  Result<void> commit_out(uint64_t addr, std::span<std::byte> window, size_t filled);

  // Atomic compare-and-exchange of an application's 32-bit word by its own thread. Returns the old value.
  Result<uint32_t> cmpxchg32(uint64_t addr, uint32_t expected, uint32_t desired);
  Result<uint32_t> load32(uint64_t addr);

  // ---- Memory calls (order of truth: the caller, sentry/mm, keeps it). ----
  // Done now, by this thread; parks. The returned value is the thread's word: a hint.
  Result<uint64_t> memory_call(const MemoryCall& call);
  // All of them, in few exchanges, up to the first that fails: its error.
  Result<void> memory_calls(std::span<const MemoryCall> calls);
  // pread(2) of a host file into the application's memory, made by its own thread now: for reads that are too large to pass through
  // the sentry. host_fd and key as in MemoryCall; a descriptor that the application may map for reading. At most n bytes came,
  // as far as the thread says. EOPNOTSUPP in strict mode, EAGAIN when no place is free: read it otherwise.
  Result<size_t> read_host(int host_fd, uint64_t key, uint64_t addr, size_t n, uint64_t offset);
  // Queued before the application goes on; *stamp becomes the number to compare with completed_stamp().
  Result<void> queue_memory_call(const MemoryCall& call, uint64_t* stamp);
  // Calls queued with a stamp <= this have been made (as far as this thread says).
  uint64_t completed_stamp() const;
  // A queued memory call failed (errno), e.g. EEXIST or ENOMEM: reported by resume() as the result of the call; 0 = none.
  int memory_call_error() const { return memory_call_error_; }
  // The error of a queued call that something done at once (memory_call, copy_out_now, …) has already performed; resume() will not
  // report it again. For the loader.
  int take_memory_call_error();
  // The same for queued copies: whether one has failed.
  bool take_copy_failed();

  // futex(2) on private memory, done by the thread itself on the host: blocks there, ended by kick() with EINTR. Instead of
  // set_result(): the result of the host call becomes rax, or, when interrupted, resume() returns
  // EventKind::interrupt with futex_interrupted() true and rax undecided.
  void run_host_futex(const Call& call);
  bool futex_interrupted() const { return futex_interrupted_; }
  // Wakes at most n private waiters at addr now, by this thread: how many.
  Result<int64_t> host_futex_wake(uint64_t addr, int n);
  // Waiters of private words are queued by the sentry too (futex_waitv): from now on this Space's stub asks about every wake. Call it
  // before the words are looked at.
  void watch_futexes();
  // membarrier(2) with a private command, made by this thread.
  Result<int64_t> host_membarrier(int command);

  // ---- Signals ----
  // Builds a frame on the application's stack from the current registers (which become the handler's at resume). Parks.
  // EFAULT: the stack cannot take it (the caller kills with SIGSEGV).
  Result<void> push_signal_frame(const SignalFrame& frame);
  // rt_sigreturn: takes the frame at the stack pointer apart. Parks.
  Result<SignalReturn> pop_signal_frame();
  // Size in bytes a frame takes at most, vector state included (AT_MINSIGSTKSZ).
  static size_t signal_frame_size();

  // ---- Answers. Any thread; the caller's lock keeps writers apart. ----
  // The result of that call from now on; of yield and futex: that the stub may make them.
  void answer(Answer which, uint32_t value);
  void ask_about(Answer which);
  void ask_about_all();
  bool answers(Answer which) const;
  // It sleeps in a futex of its own accord. The stub's word: for showing only.
  bool waits_by_itself() const;

  // ---- Life ----
  // Makes the application come out with EventKind::interrupt soon, if it runs. No effect on a thread whose event is being
  // handled. Any thread. A thread that does not answer within a second loses its process.
  void kick();
  // A thread of the same Space; starts with a copy of this thread's registers and vector state. EAGAIN, ENOMEM.
  Result<Ref<Context>> clone_thread(Birthday when = Birthday::now);
  // A copy of the whole Space; the new Context starts with a copy of this thread's registers and vector state.
  // Preconditions: no memory call of this Space is in flight (sentry/mm holds its exclusive lock); at_resume: no other thread.
  Result<Ref<Context>> fork(Birthday when = Birthday::now);
  // After at_resume the new Context may be used at once; it waits. If the host refuses, this thread's resume() returns
  // EventKind::syscall with birth_error() set (errno), and the new one's EventKind::never_born.
  int birth_error() const { return birth_error_; }
  // Makes now what waits for resume(). Returns 0 or that errno.
  int finish_birth();
  // vfork: keep what the thread holds while a child task uses it, and give it back.
  Result<SavedThread> save_thread();
  void restore_thread(SavedThread saved);
  // Ends the host thread (the process's last thread, or its leader, parks instead); nothing may be called afterwards.
  // clear_tid: address to zero and futex-wake (set_tid_address), or 0.
  void exit_thread(uint64_t clear_tid);

  Space& space() const { return *space_; }
  int host_tid() const { return host_tid_; }
  // CPU time of the host thread in ns, as far as it is known.
  uint64_t cpu_time();

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  friend class RefCounted<Context>;
  friend struct Maker;
  Context();
  ~Context();
  std::unique_ptr<Impl> impl_;
  Space* space_ = nullptr;
  Call call_{};
  Fault fault_{};
  int host_tid_ = 0;
  int memory_call_error_ = 0;
  int birth_error_ = 0;
  bool copy_failed_ = false;
  bool trapped_ = false;
  bool futex_interrupted_ = false;
};

// One address space: a stub process. Held by: its Contexts and the mm::AddressSpace that lists its mappings.
class Space : public RefCounted<Space> {
 public:
  // SIGKILL to the host process; its Contexts' resume() return EventKind::gone.
  void kill();
  // Nobody needs it any more: as kill(), but at a moment and on a processor where the end of its memory keeps nobody waiting.
  void retire();
  bool gone() const;
  int host_pid() const;
  uint64_t cpu_time();  // ns, all threads that ever ran
  // Memory of a process other than the caller's (ptrace, /proc/PID/mem, process_vm_readv, /proc/PID/cmdline). On the I/O pool:
  // parks. The caller has checked credentials and the range against the list of mappings.
  Result<size_t> read_remote(uint64_t addr, void* dst, size_t n);
  Result<size_t> write_remote(uint64_t addr, const void* src, size_t n);
  // Which of these pages the host has in memory for this process: present[i] belongs to addresses[i]. On the I/O pool: parks.
  Result<void> pages_present(std::span<const uint64_t> addresses, std::span<bool> present, ZeroPage zero = ZeroPage::is_none);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  friend class RefCounted<Space>;
  friend struct Maker;
  Space();
  ~Space();
  std::unique_ptr<Impl> impl_;
};

// What the stub copies in by itself when a call is made: at most two ranges a call.
struct CopyIn {
  enum Kind : uint8_t { none, string, fixed, sized, iovec } kind = none;
  uint8_t arg = 0;         // index of the address argument
  uint16_t size = 0;       // fixed: bytes; sized: element size, count in argument size_arg; iovec: 1 if what it points to comes too
  uint8_t size_arg = 0;
};
struct CallDescriptor {
  CopyIn in[2];
  bool may_block = false;  // the thread does not spin for the answer
  Answer answer = Answer::none;
};
inline constexpr size_t kMaxCallNumber = 512;

enum class Mode : uint8_t { direct, strict };

struct PlatformOptions {
  Mode mode = Mode::direct;
  bool may_spin = true;
  unsigned cpus = 1;
  std::span<const CallDescriptor> descriptors;  // by number, at most kMaxCallNumber; copied
  // Tests that show what a wall is worth take it away.
  std::span<const uint64_t> other_filter = {};  // instead of the mode's
  bool seal = true;                             // whether stubs seal their own mappings, where the host can
};

// One zygote: the ancestor of a container's stubs, in that container's cgroup.
class Zygote : public RefCounted<Zygote> {
 public:
  // A fresh process with nothing mapped but the stub, taken from the pool or made now; parks. Its Context is ready for memory
  // calls, copies, set_registers() and resume().
  Result<Ref<Context>> new_process();
  // Kills every stub that descends from it, and the zygote itself.
  void kill_all();
  // Addresses of the vDSO in every stub (AT_SYSINFO_EHDR).
  uint64_t vdso_address() const;
  uint64_t vdso_length() const;  // vvar pages included, from vvar_address()
  uint64_t vvar_address() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  friend class RefCounted<Zygote>;
  friend struct Maker;
  Zygote();
  ~Zygote();
  std::unique_ptr<Impl> impl_;
};

// One per sentry. Registers itself as the scheduler's Poller.
class Platform {
 public:
  static Result<std::unique_ptr<Platform>> create(const PlatformOptions& options);
  ~Platform();
  // Adopts a zygote over the socket its maker gave us (first a record with its seccomp listener). Parks.
  Result<Ref<Zygote>> adopt_zygote(Fd socket);
  // The sandbox's cgroup.threads file, for the audit of undeclared threads; optional.
  void set_threads_file(Fd file);

  struct Stats {
    uint64_t calls, notifications, knocks, kicks, faults, traps, copies, stubs_made, processes_killed;
  };
  Stats stats() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  Platform();
  std::unique_ptr<Impl> impl_;
};

}  // namespace sentry::platform

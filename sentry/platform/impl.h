// SPDX-License-Identifier: Apache-2.0
// What the platform is made of. Only sentry/platform includes this.
//
// Locks, both of rank kPlatform and never nested: Platform::Impl::mu guards the tables of threads, grants and births;
// poll_mu guards what poll() walks (slots, attended spaces, hot contexts, knocks to answer). All else in a Context belongs to
// the fiber that handles its event.
#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/untrusted.h"
#include "sentry/platform/control.h"
#include "sentry/platform/patience.h"
#include "sentry/platform/platform.h"
#include "sentry/platform/records.h"
#include "sentry/platform/stub/stub_layout.h"
#include "sentry/sched/wait.h"

namespace sentry::platform {

using stub::Op;
using stub::OpCode;
using stub::RequestKind;
using stub::Slot;

inline constexpr sched::Nanos kSecond = 1'000'000'000;
// A stub that has used this much CPU time without doing what it was told, or has been silent for so long, is killed.
inline constexpr sched::Nanos kDeadline = kSecond;
inline constexpr sched::Nanos kCpuDeadline = kSecond / 2;
inline constexpr sched::Nanos kSilentDeadline = 20 * kSecond;

static_assert(kEntryPointer == SLOT_ENTRY);

enum class Phase : uint8_t { handling, running, requested };

struct Space::Impl {
  explicit Impl(Space& s, Platform::Impl& p, Zygote* z, Control c) : self(s), platform(p), zygote(z), control(std::move(c)) {}
  Space& self;
  Platform::Impl& platform;
  Zygote* zygote;                      // guarded by Platform::Impl::mu
  RefOrNull<Patience> patience;        // its zygote's; set when it is made
  Control control;
  std::atomic<int> pid{0};
  std::atomic<bool> gone{false};
  Process* process = nullptr;          // guarded by mu; null when dead
  std::vector<Context*> slots;         // guarded by poll_mu; index = slot
  std::vector<uint8_t> slot_busy;      // guarded by poll_mu: a host thread may still use it
  std::atomic<unsigned> places{1};     // slots.size(): there never were more threads at once
  bool attended = false;               // guarded by poll_mu
  uint32_t shown_cpu = ~0u;            // what its page says about us; guarded by poll_mu
  uint64_t cpu_at_end = 0;
  std::atomic<unsigned> remote_users{0};  // process_vm calls in flight

  // Descriptors in the stub's table that can be mapped again. Guarded by mu.
  struct CachedFd {
    uint64_t key = 0;
    uint64_t used = 0;
    unsigned pins = 0;
  };
  static constexpr int kFirstCachedFd = 4;
  std::array<CachedFd, 16> fds{};
  uint64_t fd_clock = 0;

  void mark_gone();
  void signal(int sig);
  // A free slot, or -1.
  int take_slot();
  void put_context(unsigned index, Context* c);
  void free_slot(unsigned index);
};

struct Context::Impl {
  Impl(Context& c, Ref<Space> s, unsigned i)
      : self(c), space(std::move(s)), index(i), slot(&space->impl().control.slot(i)) {}
  Context& self;
  Ref<Space> space;
  unsigned index;
  Slot* slot;
  RefOrNull<sched::Fiber> fiber;  // guarded by poll_mu
  std::atomic<Phase> phase{Phase::handling};
  std::atomic<bool> kick_wanted{false};
  std::atomic<bool> resuming{false};  // it was let go, not asked to come back
  bool hot = false;              // guarded by poll_mu
  bool left = false;             // exit_thread was called
  bool parked_for_ever = false;

  // The event being handled.
  uint32_t answered = 0;         // bits of the answers that the stub has; ordered by the lock of whoever gives them
  bool in_call = false;          // a system call: registers() has orig_rax
  bool in_valid = false;         // copied-in ranges not yet overwritten
  stub::CopiedIn in[2 + stub::kMaxPieces]{};
  uint32_t in_end = 0;           // of those ranges in the data area

  // The answer being made.
  struct Note {
    OpCode code;
    uint16_t flags;
    uint8_t pin;                 // fds index + 1
    bool memory;
    bool birth;                  // the clone of `making`
    uint64_t want;               // result that means success, for copies
    uint64_t stamp;
  };
  unsigned op_count = 0;
  Note notes[stub::kMaxOps];
  uint32_t data_used = 0;
  uint32_t reply_flags = 0;
  bool has_rax = false;
  int64_t rax = 0;
  bool futex_queued = false;
  uint64_t futex_args[6] = {};
  uint64_t stamp = 0;            // last one given out
  uint64_t stamp_done = 0;       // made for sure, as far as requests tell
  bool queued_copy_failed = false;
  int queued_memory_error = 0;
  RefOrNull<Birth> making;       // whose clone is in the list; changed under mu
  int queued_birth_error = 0;
  RefOrNull<Birth> own_birth;    // until it is born; guarded by mu
  std::atomic<bool> never_born{false};

  std::vector<Grant> grants;     // guarded by mu
  std::vector<FdGrant> fd_grants;
  uint64_t knock_token = 0;      // of the knock in the list that brings descriptors; 0: none yet

  // Kicks; guarded by mu.
  bool kick_sent = false;
  sched::Nanos kick_time = 0;
  uint64_t kick_cpu = 0;
  uint64_t last_cpu_time = 0;
  uint64_t cpu_before = 0;  // what its host thread had used in former lives

  Platform::Impl& platform() const { return space->impl().platform; }
  // ---- context.cc ----
  // Sends the answer and waits for the next request: its state word. Nothing (0): the process is gone.
  uint32_t exchange(uint32_t flags);
  void send_reply(uint32_t flags);
  // Whether the thread has posted a request that nobody took; takes it.
  bool try_take();
  void begin_call();
  void send_kick();
  void set_host_tid(int tid) { self.host_tid_ = tid; }
  // ---- ops.cc ----
  // An operation at the end of the list (which is performed first if it is full). Null: the process is gone.
  Op* add(OpCode code, uint16_t flags);
  // Room in the data area; offset in the slot. Performs the list if there is none.
  Result<uint32_t> data_room(size_t n);
  // Performs the list now. EFAULT etc. of queued operations is kept for resume().
  Result<void> perform();
  // Performs the list, whose last operation is `last`: its result.
  Result<int64_t> perform_for(unsigned last);
  // An operation at the end of the list, and the list performed: its result.
  Result<int64_t> ask(OpCode code, std::initializer_list<uint64_t> args, uint32_t aux = 0);
  // The list has been performed, as far as the thread says.
  void finish_list(uint32_t tried, bool asked);
  void grant(uint64_t number, const uint64_t (&args)[6]);
  void drop_grants();
  // ---- life.cc ----
  // Adds the clone that makes `b.child` and announces it.
  bool announce(Birth& b);
  // The clone has been made, or not: its result as the thread says.
  void clone_made(int64_t result);
  // Parks until `b` is born or refused.
  void await(Birth& b);
  Result<Ref<Context>> make(Ref<Birth> b, Birthday when);
  // Instead of leaving: the thread does what is left to do and rests. False: it must leave.
  bool rest(uint64_t clear_tid);
  // A new thread on the host thread of one that rests. Null: there is none.
  RefOrNull<Context> wake_resting();
  bool pinned = false, granted = false;
};

// A word or more of what a stub may be writing.
template <typename T>
T fetch(const T& shared) {
  return reinterpret_cast<const Untrusted<T>&>(shared).copy_in();
}
inline bool in_application(uint64_t addr, size_t n) { return addr < kAppLimit && n <= kAppLimit - addr; }

uint64_t read_tsc();
inline bool is_request(uint32_t word) { return (word & stub::kStateMask) == stub::kRequest; }
struct Platform::Impl final : sched::Poller {
  explicit Impl(const PlatformOptions& o);
  ~Impl() override;
  Mode mode;
  bool may_spin;
  unsigned cpus;
  Fd zygote_page;
  uint64_t tsc_per_us = 1000;
  std::array<uint8_t, kMaxCallNumber> has_in{};  // how many ranges the stub may copy in for this call

  Mutex mu{LockRank::kPlatform};
  std::unordered_map<int, Context*> threads GUARDED_BY(mu);           // by host tid
  std::unordered_map<uint64_t, Ref<Birth>> births GUARDED_BY(mu);     // by token
  std::unordered_map<int, std::unique_ptr<Process>> processes GUARDED_BY(mu);
  std::vector<Context*> kicked GUARDED_BY(mu);
  std::vector<Leaving> leaving GUARDED_BY(mu);
  static constexpr size_t kMaxResting = 8;
  std::vector<Resting> resting GUARDED_BY(mu);
  std::unordered_map<const Zygote*, std::shared_ptr<Fd>> threads_files GUARDED_BY(mu);  // null: of the whole sandbox
  std::unordered_map<int, sched::Nanos> strangers GUARDED_BY(mu);     // tids in no table, since when
  static constexpr size_t kMaxRetired = 4;
  std::vector<int> retired GUARDED_BY(mu);                            // processes that nobody needs, until they are killed: their pids
  std::atomic<size_t> retired_count{0};                               // its size
  std::vector<Fd> condemned GUARDED_BY(mu);                           // pidfds of killed strangers, to be reaped
  static constexpr size_t kMaxSpareControls = 4;
  std::vector<Control> spare_controls GUARDED_BY(mu);                 // of processes that were seen dead; not cleared yet
  Control clear_control GUARDED_BY(mu);                               // one that is
  std::atomic<bool> may_prepare{false};                               // prepare_control() has something to do
  int audits_left GUARDED_BY(mu) = 0;
  sched::Nanos next_audit GUARDED_BY(mu) = 0;
  sched::Timer watchdog;

  static constexpr unsigned kMaxHot = 8, kMaxAttended = 64;
  Mutex poll_mu{LockRank::kPlatform};
  Context* hot[kMaxHot] GUARDED_BY(poll_mu) = {};
  unsigned hot_next GUARDED_BY(poll_mu) = 0;
  unsigned hot_count GUARDED_BY(poll_mu) = 0;
  std::vector<Space*> attended GUARDED_BY(poll_mu);
  std::atomic<size_t> attended_count{0};  // its size
  std::vector<PendingKnock> knocks GUARDED_BY(poll_mu);
  std::atomic<uint32_t> knock_count{0};

  // Spinning.
  uint64_t last_request_tsc GUARDED_BY(poll_mu) = 0;
  bool polling GUARDED_BY(poll_mu) = false;  // the worker that leads looks, not one that has been called
  // Written under poll_mu; hints, relaxed.
  std::atomic<uint64_t> gap_tsc{0};  // moving average of the time between requests
  std::atomic<uint32_t> worker_cpu{~0u}, partner_cpu{~1u};  // of the last request; the latter is the stub's word
  std::atomic<uint64_t> expected_until{0};  // TSC: a stub does what it was told and will answer before this
  uint64_t last_move_tsc = 0;  // when it left its partner's processor
  uint64_t move_after_us = 100;
  uint64_t looked_tsc = 0, quiet_us = 5'000;  // last time in worth_spinning()
  std::atomic<uint64_t> quiet_until_tsc{0};     // nobody spins before
  bool requests_come_fast() const;
  cpu_set_t usable_cpus{};       // of the sandbox, when it started
  bool leave_cpu(unsigned cpu);  // the calling worker goes to another processor

  struct Counters {
    std::atomic<uint64_t> calls{0}, notifications{0}, knocks{0}, kicks{0}, faults{0}, traps{0}, copies{0}, stubs_made{0},
        processes_killed{0};
  } counters;

  // ---- poll.cc ----
  bool poll() override;
  bool prepare_sleep() override;
  bool attends() const override { return attended_count.load() != 0; }
  bool worth_spinning(sched::Nanos idle_for) override;
  bool spinner_wanted() override;
  bool look(Context& c) REQUIRES(poll_mu);
  bool scan(Space& s) REQUIRES(poll_mu);
  void make_hot(Context& c) REQUIRES(poll_mu);
  void cool(Context& c) REQUIRES(poll_mu);
  void attend(Space& s) REQUIRES(poll_mu);
  void neglect(Space& s) REQUIRES(poll_mu);
  void note_request(Context& c) REQUIRES(poll_mu);
  void show_cpu(Space::Impl& s) REQUIRES(poll_mu);
  // A worker stays awake for the answer of a stub's own code, whatever the application's rhythm was: a sleep and a wake-up across
  // CPUs cost more than most of what a stub is told to do.
  void expect_answer(uint64_t within_us) {
    if (may_spin && cpus > 1) expected_until.store(read_tsc() + within_us * tsc_per_us, std::memory_order_relaxed);
  }
  // Keeps a knock until its context is answered.
  void keep_knock(const PendingKnock& k) REQUIRES(poll_mu);
  // Ends a knock of this context, if one is unanswered. dying: its thread will be killed.
  void end_knock_of(Context& c, bool dying) REQUIRES(poll_mu);
  void answer_knock_of(Context& c) EXCLUDES(poll_mu);
  void forget(Context& c) EXCLUDES(mu, poll_mu);
  void forget(Space& s) EXCLUDES(mu, poll_mu);

  // ---- watchdog.cc ----
  void start_watchdog();
  // Kills the retired processes, on this processor or away from it.
  enum class Where : uint8_t { here, away };
  void kill_retired(Where where) EXCLUDES(mu);
  void on_watchdog();
  void audit();
  void process_died(Process& p);
  // Returns what is to be destroyed without the lock.
  Control reap(Process& p) REQUIRES(mu);
  Control retire(Control c) REQUIRES(mu);
  Result<Control> new_control() EXCLUDES(mu);
  // Tells those that have rested for long to leave; adds the spaces of those that do not rest to `guilty`.
  void dismiss_resting(sched::Nanos now, std::vector<Ref<Space>>& guilty) REQUIRES(mu);
  // Clears one for the next new_control(), in an idle moment.
  void prepare_control() EXCLUDES(mu);

  // ---- life.cc ----
  // It will never be: tells whoever waits. Not while it is in the table.
  void refuse(Birth& b) EXCLUDES(mu, poll_mu);
  // Refuses those whose maker cannot make them any more. Whether some are left.
  bool drop_lost_births(sched::Nanos now) EXCLUDES(mu, poll_mu);

  // ---- notify.cc ----
  // Waits for a notification and handles it. False: nobody is left who could send one.
  bool receive(int listener);
};

// Where a worker waits for the notifications of one zygote's stubs.
class ListenerSeat final : public sched::Seat {
 public:
  ListenerSeat(Platform::Impl& p, Fd listener) : platform_(p), listener_(std::move(listener)) {}
  bool sit() override { return platform_.receive(listener_.get()); }
  int fd() const { return listener_.get(); }

 private:
  ~ListenerSeat() override = default;
  Platform::Impl& platform_;
  Fd listener_;
};

struct Zygote::Impl {
  Impl(Zygote& z, Platform::Impl& p);
  Zygote& self;
  Platform::Impl& platform;
  RefOrNull<ListenerSeat> seat;
  RefOrNull<Context> context;      // the zygote's own thread; forks are made on it one at a time
  sched::SleepMutex fork_lock;
  std::vector<Ref<Context>> pool;  // guarded by mu
  bool refilling = false;          // guarded by mu
  size_t wanted = 1;               // guarded by mu
  sched::Nanos last_taken = 0;     // guarded by mu
  std::vector<Space*> spaces;      // descendants; guarded by mu
  bool dead = false;
  const Ref<Patience> patience = make_ref<Patience>();
  uint64_t vvar = 0, vdso = 0, vdso_end = 0;

  Result<Ref<Context>> make();
  void refill();
};

// The only maker of these objects.
struct Maker {
  static Ref<Space> space(Platform::Impl& p, Zygote* z, Control c);
  static Ref<Context> context(const Ref<Space>& s, unsigned index);
  static Ref<Zygote> zygote(Platform::Impl& p);
};

uint64_t random_token();
uint64_t process_cpu_time(int pid);  // ns; 0 when gone
// The size of an XSAVE image with the features that stubs save, and their mask.
uint64_t xsave_mask();
uint32_t xsave_size();

}  // namespace sentry::platform

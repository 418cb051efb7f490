// SPDX-License-Identifier: Apache-2.0
// AddressSpace from the inside: the list, the calls in flight, and how an operation starts, is queued and is undone.
//
// An operation: under mu_, when no other thread's call is in flight on its ranges, change the list and enter a Flight that says
// how to undo it; then, without the lock, hand the call to the thread. The flight's ranges stay blocked until the thread's
// completion stamp, so that nobody gets a range before the host agrees. What one thread does is in order anyway: its own flights
// never block it.
#pragma once

#include <array>
#include <atomic>

#include "sentry/mm/vma_list.h"

namespace sentry::mm {

inline constexpr uint64_t kPageMask = platform::kPageSize - 1;
constexpr uint64_t page_down(uint64_t v) { return v & ~kPageMask; }
constexpr bool page_aligned(uint64_t v) { return (v & kPageMask) == 0; }
// Rounds up; 0 when that wraps (or for 0), as PAGE_ALIGN of Linux.
constexpr uint64_t page_up(uint64_t v) { return (v + kPageMask) & ~kPageMask; }

// One call on the host that has not been seen to be complete, or the last one of its thread.
struct Flight {
  uint64_t id = 0;
  const platform::Context* owner = nullptr;  // identity only
  RefOrNull<platform::Context> context;      // while it is not complete
  bool synchronous = false;                  // ends by finish(), not by its stamp
  bool complete = false;
  uint64_t stamp = UINT64_MAX;               // not queued yet
  Range range, second;                       // blocked for others; second: where mremap moves to
  // How to undo: the ranges drop out of the list, the pieces go back where their place is free.
  Range drop;
  std::vector<Vma> restore;
  bool replaces = false;                     // what was there may be left when the call fails: unmap it
  RefOrNull<Mappable> keep;                  // what the borrowed descriptor belongs to
  std::optional<uint64_t> old_brk;           // a failed brk answers the old end
};

// Patched text that is mapped over one mapping of a program.
struct Patch {
  Ref<patch::Text> text;
  RefOrNull<Mappable> file;
  uint64_t base = 0;                  // address of offset 0 of the file
  std::vector<patch::Piece> pages;    // as this process has them, by place
  std::vector<patch::Piece> rooms;    // trampolines
  Range range_of(const patch::Piece& p) const { return {base + p.at, base + p.end()}; }
};

struct AddressSpace::Impl {
  explicit Impl(platform::Space& s) : space(s) {}

  Ref<platform::Space> space;
  uint64_t id = 0;  // of private futex keys

  mutable Mutex mu{LockRank::kMmMappings};
  VmaList vmas GUARDED_BY(mu);
  std::vector<Flight> flights GUARDED_BY(mu);
  uint64_t next_flight GUARDED_BY(mu) = 1;
  const platform::Context* exclusive GUARDED_BY(mu) = nullptr;  // who forks
  Limits limits GUARDED_BY(mu);
  Layout layout GUARDED_BY(mu){platform::kSharedBase - (1ull << 30), platform::kAppLimit - (1ull << 30)};
  uint64_t brk_start GUARDED_BY(mu) = 0, brk_end GUARDED_BY(mu) = 0;
  uint64_t stack_low GUARDED_BY(mu) = UINT64_MAX;  // the stack is shown from here
  bool lock_future GUARDED_BY(mu) = false, future_on_fault GUARDED_BY(mu) = false;  // MCL_FUTURE, with MCL_ONFAULT
  uint64_t vvar = 0, vdso = 0, vdso_end = 0;

  // Waiting for other threads' calls: yields, then short naps; after the deadline the whole space is killed.
  class Patience {
   public:
    explicit Patience(Impl& impl) : impl_(impl) {}
    Result<void> wait();

   private:
    Impl& impl_;
    unsigned rounds_ = 0;
    sched::Nanos since_ = 0;
    uint64_t cpu_at_deadline_ = 0;
  };

  // Holds mu from the moment on when no other thread's flight touches a or b and nobody else is exclusive. With an error
  // (the process is dead) it holds mu as well.
  class SCOPED_CAPABILITY Started {
   public:
    // patches: what is patched there is taken out before, unless kept.
    enum class Patches : uint8_t { out, kept };
    Started(Impl& impl, platform::Context& by, Range a, Range b = {}, Patches patches = Patches::out) ACQUIRE(impl.mu);
    ~Started() RELEASE();
    Result<void> result() const {
      if (error_) return Errno(error_);
      return {};
    }
    // Lets go of it after the lock: the last reference to a file must not go under a lock.
    void bury(std::vector<Vma> v) { vmas_ = std::move(v); }

   private:
    Impl& impl_;
    int error_ = 0;
    std::vector<Flight> flights_;
    std::vector<Vma> vmas_;
  };

  // Notes what has come to an end; what can go goes into `done`.
  void note_completed_locked(platform::Context& by, std::vector<Flight>& done) REQUIRES(mu);
  bool is_clear_locked(const platform::Context& by, Range a, Range b) const REQUIRES(mu);
  // Ranges that a placement for `by` must not touch.
  std::vector<Range> blocked_locked(const platform::Context& by) const REQUIRES(mu);
  Flight& begin_flight_locked(platform::Context& by, Range range) REQUIRES(mu);
  Flight* find_flight_locked(uint64_t flight) REQUIRES(mu);
  // What it takes out of the list goes into f.restore, to go outside the lock.
  void undo_locked(Flight& f) REQUIRES(mu);
  Flight take_flight_locked(size_t index) REQUIRES(mu);

  // Queues the flight's call; on an error of queueing undoes it. keep: whose descriptor the call borrows.
  Result<void> queue(platform::Context& by, uint64_t flight, const platform::MemoryCall& call) EXCLUDES(mu);
  // Makes it now; on an error of the host undoes the flight.
  Result<void> call_now(platform::Context& by, uint64_t flight, const platform::MemoryCall& call) EXCLUDES(mu);
  void finish(uint64_t flight) EXCLUDES(mu);
  // Has the host make the pages of r, but for what is locked on fault. A mapping it refuses ends that, or is left out. Parks.
  enum class Refusal : uint8_t { ends, ignored };
  Result<void> populate(platform::Context& by, Range r, Refusal refusal) EXCLUDES(mu);
  // The host refused the flight's call: the list goes back to what the host has. Ends the flight.
  void repair(platform::Context& by, uint64_t flight) EXCLUDES(mu);

  // ---- patches.cc ----
  std::vector<Patch> patches GUARDED_BY(mu);
  std::vector<Patch> left_patches GUARDED_BY(mu);  // taken out not long ago: a thread may still be in a trampoline
  std::atomic<bool> patched{false};                // whether there is any of these
  patch::Domain domain GUARDED_BY(mu);
  bool may_patch GUARDED_BY(mu) = true;
  unsigned patch_changes GUARDED_BY(mu) = 0;       // of one text for another
  std::array<std::atomic<uint64_t>, 64> trapping{};  // sites known to trap for ever, by hash
  // The text mapping at addr, as patches need it. Nothing: it is not the file's own code.
  struct TextMapping {
    RefOrNull<Mappable> file;
    uint64_t base = 0;
    Range range;
    int prot = 0;
    patch::Extent extent;
  };
  std::optional<TextMapping> text_at(uint64_t addr) EXCLUDES(mu);
  std::optional<TextMapping> text_at_locked(uint64_t addr) const REQUIRES(mu);
  bool is_patched_locked(Range r) const REQUIRES(mu);
  // Takes out what is patched in r.
  Result<void> take_out(platform::Context& by, Range r) EXCLUDES(mu);
  // What gives mappings their patched pages, and the trampolines of these.
  struct Installation {
    std::vector<platform::MemoryCall> calls;
    std::vector<uint64_t> flights;
    std::vector<Range> ranges;
  };
  // Adds these pages of the text. False: they are there, or cannot be. Every one prepared is then installed.
  bool prepare(platform::Context& by, const TextMapping& at, const Ref<patch::Text>& text, std::vector<patch::Piece> pages,
               Installation& out) EXCLUDES(mu);
  void install(platform::Context& by, const Installation& what) EXCLUDES(mu);
  // What is known of the text that has just been mapped there.
  RefOrNull<patch::Text> known_text(uint64_t addr, std::optional<TextMapping>& at) EXCLUDES(mu);
  bool adopts(uint64_t addr) EXCLUDES(mu);
  void adopt(platform::Context& by, std::span<const uint64_t> texts) EXCLUDES(mu);
  void will_trap(uint64_t site) { trapping[site / 2 % trapping.size()].store(site, std::memory_order_relaxed); }
  bool traps_for_ever(uint64_t site) const {
    return trapping[site / 2 % trapping.size()].load(std::memory_order_relaxed) == site;
  }

  // ---- Rules ----
  // ENOMEM: RLIMIT_AS, RLIMIT_DATA. added and data may be reduced by what is replaced.
  Result<void> check_growth_locked(uint64_t added, uint64_t added_data) const REQUIRES(mu);
  Result<void> check_count_locked(size_t more) const REQUIRES(mu);
  // An address for `length` free bytes; ENOMEM.
  Result<uint64_t> place_locked(const platform::Context& by, uint64_t hint, uint64_t length, bool shared, bool low_2g,
                                bool patch_room, uint64_t align) REQUIRES(mu);
  void note_stack_locked(uint64_t sp) REQUIRES(mu);
  uint64_t shown_start_locked(const Vma& v) const REQUIRES(mu);
  uint64_t hidden_stack_locked() const REQUIRES(mu);  // bytes of the stack that are not shown
};

// What a range that loses its mappings takes off the limits.
struct Sizes {
  uint64_t total = 0, data = 0, locked = 0;
};
Sizes sizes_of(const VmaList& list, Range r);

}  // namespace sentry::mm

// SPDX-License-Identifier: Apache-2.0
// Calls in flight: who waits for whom, completion, and repairing the list when the host refuses a call.
#include <algorithm>

#include "sentry/mm/impl.h"

namespace sentry::mm {

namespace {

constexpr sched::Nanos kMillisecond = 1'000'000;
constexpr sched::Nanos kDeadline = 1000 * kMillisecond;
// A process that did not get to run (frozen, out of quota) is not at fault: it has longer.
constexpr sched::Nanos kHardDeadline = 30'000 * kMillisecond;
constexpr uint64_t kCpuAfterDeadline = 50 * kMillisecond;
constexpr unsigned kYields = 32;
// Complete flights are kept for the failure that their thread may still report, but not without bound.
constexpr size_t kKeptFlights = 256;

}  // namespace

Result<void> AddressSpace::Impl::Patience::wait() {
  if (impl_.space->gone()) return kEINTR;
  if (rounds_++ < kYields) {
    sched::yield();
    return {};
  }
  sched::Nanos now = sched::now();
  if (since_ == 0) since_ = now;
  if (now - since_ > kDeadline) {
    uint64_t cpu = impl_.space->cpu_time();
    if (cpu_at_deadline_ == 0) cpu_at_deadline_ = std::max<uint64_t>(cpu, 1);
    if (cpu - cpu_at_deadline_ > kCpuAfterDeadline || now - since_ > kHardDeadline) {
      LOG(warn, "process {}: a thread does not finish its memory call; killed", impl_.space->host_pid());
      impl_.space->kill();
      return kEINTR;
    }
  }
  sched::park(now + std::min<sched::Nanos>(kMillisecond, (now - since_) / 4 + 20'000));
  return {};
}

AddressSpace::Impl::Started::Started(Impl& impl, platform::Context& by, Range a, Range b, Patches patches) NO_THREAD_SAFETY_ANALYSIS
    : impl_(impl) {
  // The loop releases the lock between looks and leaves it held: more than the analysis can follow.
  Patience patience(impl);
  for (;;) {
    impl.mu.lock();
    impl.note_completed_locked(by, flights_);
    bool clear = impl.is_clear_locked(by, a, b);
    bool in_the_way = patches == Patches::out && (impl.is_patched_locked(a) || impl.is_patched_locked(b));
    if (clear && !in_the_way) return;
    impl.mu.unlock();
    flights_.clear();
    auto r = clear ? impl.take_out(by, a) : patience.wait();
    if (clear && r.ok()) r = impl.take_out(by, b);
    if (!r.ok()) {
      error_ = r.error().value();
      impl.mu.lock();
      return;
    }
  }
}

AddressSpace::Impl::Started::~Started() { impl_.mu.unlock(); }

Flight AddressSpace::Impl::take_flight_locked(size_t index) {
  Flight f = std::move(flights[index]);
  if (index + 1 != flights.size()) flights[index] = std::move(flights.back());
  flights.pop_back();
  return f;
}

void AddressSpace::Impl::note_completed_locked(platform::Context& by, std::vector<Flight>& done) {
  bool crowded = flights.size() > kKeptFlights;
  for (size_t i = 0; i < flights.size();) {
    Flight& f = flights[i];
    if (!f.complete && !f.synchronous && f.stamp != UINT64_MAX && f.context->completed_stamp() >= f.stamp) {
      f.complete = true;
      if (f.owner != &by && !crowded) {
        Flight& part = done.emplace_back();
        part.context = std::move(f.context);
        part.keep = std::move(f.keep);
      }
    }
    // A thread that comes with its next operation has nothing left to report about a complete one.
    if (f.complete && (f.owner == &by || crowded)) done.push_back(take_flight_locked(i));
    else i++;
  }
}

bool AddressSpace::Impl::is_clear_locked(const platform::Context& by, Range a, Range b) const {
  if (exclusive && exclusive != &by) return false;
  for (const Flight& f : flights) {
    if (f.complete || f.owner == &by) continue;
    for (const Range& r : {a, b})
      if (!r.empty() && (f.range.overlaps(r) || f.second.overlaps(r))) return false;
  }
  return true;
}

std::vector<Range> AddressSpace::Impl::blocked_locked(const platform::Context& by) const {
  std::vector<Range> out;
  for (const Flight& f : flights) {
    if (f.complete || f.owner == &by) continue;
    if (!f.range.empty()) out.push_back(f.range);
    if (!f.second.empty()) out.push_back(f.second);
  }
  for (const Patch& p : patches)
    for (const patch::Piece& r : p.rooms) out.push_back(p.range_of(r));
  return out;
}

Flight& AddressSpace::Impl::begin_flight_locked(platform::Context& by, Range range) {
  Flight& f = flights.emplace_back();
  f.id = next_flight++;
  f.owner = &by;
  f.context = Ref<platform::Context>(by);
  f.range = range;
  return f;
}

Flight* AddressSpace::Impl::find_flight_locked(uint64_t flight) {
  for (Flight& f : flights)
    if (f.id == flight) return &f;
  return nullptr;
}

void AddressSpace::Impl::undo_locked(Flight& f) {
  std::vector<Vma> dropped;
  if (!f.drop.empty()) dropped = vmas.remove(f.drop);
  for (Vma& v : f.restore)
    if (!vmas.overlaps({v.start, v.end})) vmas.insert(std::move(v));
  for (Vma& v : dropped) f.restore.push_back(std::move(v));
  if (f.old_brk) brk_end = *f.old_brk;
}

void AddressSpace::Impl::finish(uint64_t flight) {
  Flight gone;  // its references go outside the lock
  MutexLock l(mu);
  for (size_t i = 0; i < flights.size(); i++) {
    if (flights[i].id != flight) continue;
    gone = take_flight_locked(i);
    return;
  }
}

void AddressSpace::Impl::repair(platform::Context& by, uint64_t flight) {
  platform::MemoryCall call{};
  call.op = platform::MemoryOp::unmap;
  bool left = false;
  {
    MutexLock l(mu);
    Flight* f = find_flight_locked(flight);
    if (!f) return;
    undo_locked(*f);
    left = f->replaces;
    f->synchronous = true;  // blocks the range until the host agrees
    f->complete = false;
    call.address = f->drop.start;
    call.length = f->drop.end - f->drop.start;
  }
  if (left) IGNORE_ERROR(by.memory_call(call), "the range stays unlisted; a later mapping there fails with EEXIST");
  finish(flight);
}

Result<void> AddressSpace::Impl::queue(platform::Context& by, uint64_t flight, const platform::MemoryCall& call) {
  uint64_t stamp = 0;
  auto r = by.queue_memory_call(call, &stamp);
  if (!r.ok()) {
    repair(by, flight);
    return r.error();
  }
  MutexLock l(mu);
  if (Flight* f = find_flight_locked(flight)) f->stamp = stamp;
  return {};
}

Result<void> AddressSpace::Impl::call_now(platform::Context& by, uint64_t flight, const platform::MemoryCall& call) {
  {
    MutexLock l(mu);
    if (Flight* f = find_flight_locked(flight)) f->synchronous = true;
  }
  auto r = by.memory_call(call);
  if (!r.ok()) {
    repair(by, flight);
    return r.error();
  }
  finish(flight);
  return {};
}

int64_t AddressSpace::on_memory_call_failed(platform::Context& by, int error) {
  Impl& m = *impl_;
  uint64_t last = 0;
  int64_t answer = -error;
  {
    MutexLock l(m.mu);
    // The failed call is the last one of this thread: an operation queues one.
    for (const Flight& f : m.flights) {
      if (f.owner != &by || f.synchronous || f.id < last) continue;
      last = f.id;
      answer = f.old_brk ? static_cast<int64_t>(*f.old_brk) : -error;
    }
  }
  if (last != 0) m.repair(by, last);
  return answer;
}

void AddressSpace::context_gone(platform::Context& by) {
  Impl& m = *impl_;
  std::vector<Flight> gone;
  MutexLock l(m.mu);
  for (size_t i = 0; i < m.flights.size();) {
    Flight& f = m.flights[i];
    if (f.owner != &by) {
      i++;
      continue;
    }
    if (!f.complete && by.completed_stamp() < f.stamp) m.undo_locked(f);
    gone.push_back(m.take_flight_locked(i));
  }
}

void AddressSpace::settle(platform::Context& by) {
  Impl& m = *impl_;
  std::vector<Flight> done;
  {
    MutexLock l(m.mu);
    m.note_completed_locked(by, done);
    bool open = false;
    for (const Flight& f : m.flights) open = open || f.owner == &by;
    if (!open) return;
  }
  // Anything that needs the thread makes it do what is queued first.
  IGNORE_ERROR(by.load32(platform::kMinAddress), "only its order counts");
}

}  // namespace sentry::mm

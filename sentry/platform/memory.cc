// SPDX-License-Identifier: Apache-2.0
// Memory calls: made by the thread itself, on our order. The filter allows some to anyone; the others are compared
// with the grants made here. Descriptors of files to map arrive by a knock and stay for a while.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

// The number under which the stub has, or will have, this file; 0: none is free.
struct Slotted {
  int number = 0;
  bool fresh = false;
};
Slotted find_fd(Context::Impl& m, uint64_t key) {
  Space::Impl& s = m.space->impl();
  MutexLock l(m.platform().mu);
  for (const FdGrant& g : m.fd_grants)  // it comes with the same list
    if (key != 0 && g.key == key && g.token == m.knock_token) {
      s.fds[static_cast<size_t>(g.number - Space::Impl::kFirstCachedFd)].pins++;
      return {g.number, false};
    }
  auto* best = static_cast<Space::Impl::CachedFd*>(nullptr);
  for (auto& f : s.fds) {
    if (key != 0 && f.key == key) {
      f.used = ++s.fd_clock;
      f.pins++;
      return {Space::Impl::kFirstCachedFd + static_cast<int>(&f - s.fds.data()), false};
    }
    if (f.pins == 0 && (!best || f.used < best->used)) best = &f;
  }
  if (!best) return {};
  best->key = 0;  // until the descriptor has arrived nobody else may count on it
  best->used = ++s.fd_clock;
  best->pins = 1;
  return {Space::Impl::kFirstCachedFd + static_cast<int>(best - s.fds.data()), true};
}

bool valid(const MemoryCall& c) {
  auto inside = [](uint64_t a, uint64_t n) {
    return a % kPageSize == 0 && n != 0 && a < kAppLimit && n <= kAppLimit - a;
  };
  if (!inside(c.address, c.length)) return false;
  return c.op != MemoryOp::remap || inside(c.new_address, c.new_length);
}

// The number under which the stub will have the file when the next operation comes: a knock before it brings the descriptor, unless
// it is there. *pin: for the operation's note, which gives it back. Preconditions: room for two operations in the list.
Result<int> hand_over(Context::Impl& m, int host_fd, uint64_t key, uint8_t* pin) {
  Slotted f = find_fd(m, key);
  if (f.number == 0) return kEAGAIN;  // sixteen threads use sixteen files at this moment
  *pin = static_cast<uint8_t>(f.number - Space::Impl::kFirstCachedFd + 1);
  m.pinned = true;
  if (!f.fresh) return f.number;
  auto copy = sys::dup_cloexec(host_fd);
  // One knock brings all descriptors of a list.
  if (copy.ok() && m.knock_token == 0) {
    if (Op* op = m.add(OpCode::knock, stub::kStop)) {
      m.knock_token = op->a[0] = random_token();
      m.notes[m.op_count - 1].memory = true;
    }
  }
  MutexLock l(m.platform().mu);
  if (!copy.ok() || m.knock_token == 0) {
    m.space->impl().fds[*pin - 1u].pins--;
    return copy.ok() ? kESRCH : copy.error();
  }
  m.granted = true;
  m.fd_grants.push_back({m.knock_token, f.number, std::move(*copy), key});
  return f.number;
}

// Appends the call; the index of its operation.
Result<unsigned> append(Context::Impl& m, const MemoryCall& c) {
  if (!valid(c)) return kEINVAL;
  // A descriptor and its mapping belong to one list.
  if (c.op == MemoryOp::map_file && m.op_count >= stub::kMaxOps - 4) TRY(m.perform());
  uint64_t number = 0;
  uint64_t args[6] = {c.address, c.length, 0, 0, 0, 0};
  uint8_t pin = 0;
  switch (c.op) {
    case MemoryOp::map_anonymous:
      number = SYS_mmap;
      args[2] = static_cast<uint64_t>(c.prot);
      args[3] = static_cast<uint64_t>(c.flags | MAP_ANONYMOUS);
      args[4] = ~0ull;
      break;
    case MemoryOp::map_file: {
      number = SYS_mmap;
      int fd = TRY(hand_over(m, c.host_fd, c.file_key, &pin));
      args[2] = static_cast<uint64_t>(c.prot);
      args[3] = static_cast<uint64_t>(c.flags);
      args[4] = static_cast<uint64_t>(fd);
      args[5] = static_cast<uint64_t>(c.offset);
      break;
    }
    case MemoryOp::unmap:
      number = SYS_munmap;
      break;
    case MemoryOp::protect:
      number = SYS_mprotect;
      args[2] = static_cast<uint64_t>(c.prot);
      break;
    case MemoryOp::advise:
      number = SYS_madvise;
      args[2] = static_cast<uint64_t>(c.flags);
      break;
    case MemoryOp::remap:
      number = SYS_mremap;
      args[2] = c.new_length;
      args[3] = c.new_address == c.address ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED;
      args[4] = c.new_address == c.address ? 0 : c.new_address;
      break;
  }
  Op* op = m.add(OpCode::host_call, stub::kMust);
  if (!op) return kESRCH;
  op->aux = static_cast<uint32_t>(number);
  for (int i = 0; i < 6; i++) op->a[i] = args[i];
  bool shared_below = c.op == MemoryOp::map_file && (c.flags & MAP_TYPE) != MAP_PRIVATE && c.address < kSharedBase;
  bool asks = m.platform().mode == Mode::strict || c.op == MemoryOp::remap || shared_below ||
              (c.op == MemoryOp::protect && c.address + c.length > kSharedBase);
  if (asks) m.grant(number, args);
  auto& note = m.notes[m.op_count - 1];
  note.memory = true;
  note.pin = pin;
  return m.op_count - 1;
}

// The list has this operation last and, before it, at most the knock that brings its descriptor.
Result<int64_t> perform_alone(Context::Impl& m, unsigned i) {
  int before = m.queued_memory_error;
  int64_t r = TRY(m.perform_for(i));
  // Its descriptor did not arrive: the call itself was not made.
  if (int e = std::exchange(m.queued_memory_error, before); e != before && e != 0) return Errno(e);
  return r;
}

}  // namespace

Result<uint64_t> Context::memory_call(const MemoryCall& call) {
  Impl& m = *impl_;
  TRY(m.perform());  // what was queued before keeps its own errors
  unsigned i = TRY(append(m, call));
  int64_t r = TRY(perform_alone(m, i));
  if (r < 0 && r > -4096) return Errno(static_cast<int>(-r));
  return static_cast<uint64_t>(r);
}

Result<size_t> Context::read_host(int host_fd, uint64_t key, uint64_t addr, size_t n, uint64_t offset) {
  Impl& m = *impl_;
  if (m.platform().mode == Mode::strict) return kEOPNOTSUPP;
  if (addr >= kAppLimit || n > kAppLimit - addr) return kEFAULT;
  TRY(m.perform());
  uint8_t pin = 0;
  const int fd = TRY(hand_over(m, host_fd, key, &pin));
  Op* op = m.add(OpCode::host_call, stub::kMust);
  if (!op) return kESRCH;
  op->aux = SYS_pread64;
  op->a[0] = static_cast<uint64_t>(fd);
  op->a[1] = addr;
  op->a[2] = n;
  op->a[3] = offset;
  m.notes[m.op_count - 1].memory = true;
  m.notes[m.op_count - 1].pin = pin;
  int64_t r = TRY(perform_alone(m, m.op_count - 1));
  if (r < 0) return Errno(r > -4096 ? static_cast<int>(-r) : EIO);
  return std::min(static_cast<size_t>(r), n);
}

Result<void> Context::memory_calls(std::span<const MemoryCall> calls) {
  Impl& m = *impl_;
  constexpr size_t kAtOnce = 12;  // they fit into a list
  while (!calls.empty()) {
    TRY(m.perform());
    unsigned i = 0;
    for (const MemoryCall& call : calls.first(std::min(calls.size(), kAtOnce))) {
      i = TRY(append(m, call));
      m.slot->ops[i].flags |= stub::kStop;
      m.notes[i].flags |= stub::kStop;
    }
    calls = calls.subspan(std::min(calls.size(), kAtOnce));
    int before = m.queued_memory_error;
    m.queued_memory_error = 0;
    auto r = m.perform_for(i);
    int e = std::exchange(m.queued_memory_error, before);
    if (e != 0) return Errno(e);
    int64_t last = TRY(std::move(r));
    if (last < 0 && last > -4096) return Errno(static_cast<int>(-last));
  }
  return {};
}

Result<void> Context::queue_memory_call(const MemoryCall& call, uint64_t* stamp) {
  Impl& m = *impl_;
  unsigned i = TRY(append(m, call));
  m.slot->ops[i].flags |= stub::kStamp;
  m.notes[i].stamp = ++m.stamp;
  m.slot->ops[i].result = static_cast<int64_t>(m.stamp);
  if (stamp) *stamp = m.stamp;
  return {};
}

bool Context::take_copy_failed() { return std::exchange(impl_->queued_copy_failed, false); }

int Context::take_memory_call_error() { return std::exchange(impl_->queued_memory_error, 0); }

uint64_t Context::completed_stamp() const {
  const Impl& m = *impl_;
  uint64_t said = reinterpret_cast<const Untrusted<uint64_t>&>(m.slot->header.stamp).copy_in();
  return std::max(m.stamp_done, std::min(said, m.stamp));
}

void Context::run_host_futex(const Call& call) {
  Impl& m = *impl_;
  for (int i = 0; i < 6; i++) m.futex_args[i] = call.args[i];
  m.futex_args[1] |= FUTEX_PRIVATE_FLAG;
  m.futex_queued = true;  // resume() appends it: it must be the last operation
  m.has_rax = false;
}

}  // namespace sentry::platform

// SPDX-License-Identifier: Apache-2.0
// Lists of operations for a thread to perform, and the copies made of them.
#include <algorithm>
#include <cstring>

#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

constexpr size_t kChunk = STUB_DATA_SIZE;
constexpr size_t kZeroChunk = 4 << 20;

}  // namespace

// ---- Lists ----

Op* Context::Impl::add(OpCode code, uint16_t flags) {
  if (op_count >= stub::kMaxOps - 2 && !perform().ok()) return nullptr;
  Op& op = slot->ops[op_count];
  op.code = code;
  op.flags = flags;
  notes[op_count] = {code, flags, 0, false, false, 0, 0};
  op_count++;
  return &op;
}

void Context::Impl::finish_list(uint32_t tried, bool asked) {
  bool cloning = false;
  int64_t clone_result = 1;  // a list that was not asked about has been performed
  if (op_count != 0) {
    for (unsigned i = 0; i < op_count; i++) {
      Note& n = notes[i];
      cloning |= n.birth;
      if (!asked) continue;
      int64_t r = i < tried ? fetch(slot->ops[i].result) : -EINTR;
      if (i >= tried && n.flags & stub::kStop) r = fetch(slot->ops[i].result);
      if (n.birth) {
        clone_result = r;
      } else if (n.memory) {
        if (r < 0 && r > -4096 && queued_memory_error == 0) queued_memory_error = static_cast<int>(-r);
      } else if (n.flags & stub::kMust && static_cast<uint64_t>(r) != n.want) {
        queued_copy_failed = true;
      }
    }
    if (pinned) {
      MutexLock l(platform().mu);
      for (unsigned i = 0; i < op_count; i++)
        if (notes[i].pin) space->impl().fds[notes[i].pin - 1u].pins--;
      pinned = false;
    }
    op_count = 0;
  }
  if (granted) drop_grants();
  knock_token = 0;
  stamp_done = stamp;
  data_used = in_valid ? in_end : 0;
  if (cloning) clone_made(clone_result);  // may begin the next list with another try
}

void Context::Impl::grant(uint64_t number, const uint64_t (&args)[6]) {
  MutexLock l(platform().mu);
  Grant g{number, {}};
  memcpy(g.args, args, sizeof g.args);
  grants.push_back(g);
  granted = true;
}

void Context::Impl::drop_grants() {
  std::vector<FdGrant> closed;
  MutexLock l(platform().mu);
  grants.clear();
  closed.swap(fd_grants);
  granted = false;
}

Result<void> Context::Impl::perform() {
  while (op_count != 0) {
    uint32_t word = exchange(0);
    if (word == 0) return kESRCH;
    finish_list(word >> 16, true);
  }
  return {};
}

Result<int64_t> Context::Impl::perform_for(unsigned last) {
  uint32_t word = exchange(0);
  if (word == 0) return kESRCH;
  uint32_t tried = word >> 16;
  int64_t r = fetch(slot->ops[last].result);
  notes[last].flags = 0;  // its failure is the caller's
  notes[last].memory = false;
  finish_list(tried, true);
  return r;
}

Result<int64_t> Context::Impl::ask(OpCode code, std::initializer_list<uint64_t> args, uint32_t aux) {
  Op* op = add(code, 0);
  if (!op) return kESRCH;
  op->aux = aux;
  std::copy(args.begin(), args.end(), op->a);
  return perform_for(op_count - 1);
}

Result<uint32_t> Context::Impl::data_room(size_t n) {
  if (n > STUB_DATA_SIZE) return kEINVAL;
  uint32_t at = (data_used + 63) & ~63u;
  if (at + n > STUB_DATA_SIZE) {
    in_valid = false;
    TRY(perform());
    at = 0;
  }
  data_used = at + static_cast<uint32_t>(n);
  return STUB_DATA_OFFSET + at;
}

// ---- Copies in ----

Result<std::span<const std::byte>> Context::in_window(uint64_t addr, size_t n) {
  Impl& m = *impl_;
  if (addr >= kAppLimit) return kEFAULT;
  n = std::min<uint64_t>({n, kAppLimit - addr, kChunk});
  auto* const slot = reinterpret_cast<std::byte*>(m.slot);
  if (m.in_valid)
    for (const stub::CopiedIn& r : m.in)
      if (addr >= r.address && addr - r.address < r.length && n <= r.length - (addr - r.address))
        return std::span<const std::byte>(slot + r.offset + (addr - r.address), n);
  m.platform().counters.copies.fetch_add(1, std::memory_order_relaxed);
  uint32_t at = TRY(m.data_room(n));
  int64_t r = TRY(m.ask(OpCode::copy_in, {addr, at, n}));
  size_t got = r < 0 ? 0 : std::min(static_cast<size_t>(r), n);
  if (got == 0 && n != 0) return kEFAULT;
  return std::span<const std::byte>(slot + at, got);
}

Result<size_t> Context::copy_in_some(void* dst, uint64_t addr, size_t n) {
  for (size_t done = 0; done < n;) {
    const size_t want = std::min(n - done, kChunk);
    auto window = in_window(addr + done, want);
    if (!window.ok()) {
      if (done) return done;
      return window.error();
    }
    untrusted_copy(static_cast<std::byte*>(dst) + done, window->data(), window->size());
    done += window->size();
    if (window->size() < want) return done;
  }
  return n;
}

Result<void> Context::copy_in(void* dst, uint64_t addr, size_t n) {
  if (!in_application(addr, n)) return kEFAULT;
  size_t got = TRY(copy_in_some(dst, addr, n));
  if (got != n) return kEFAULT;
  return {};
}

Result<std::string> Context::copy_in_string(uint64_t addr, size_t limit) {
  Impl& m = *impl_;
  std::string out;
  if (m.in_valid)
    for (const stub::CopiedIn& r : m.in)
      if (addr == r.address && r.length != 0) {
        size_t n = std::min<size_t>(r.length, limit);
        out.resize(n);
        untrusted_copy(out.data(), reinterpret_cast<std::byte*>(m.slot) + r.offset, n);
        if (size_t end = out.find('\0'); end != std::string::npos) {
          out.resize(end);
          return out;
        }
        out.clear();
      }
  m.platform().counters.copies.fetch_add(1, std::memory_order_relaxed);
  while (out.size() < limit) {
    size_t chunk = std::min(limit - out.size(), kChunk);
    if (addr + out.size() >= kAppLimit) return kEFAULT;
    uint32_t at = TRY(m.data_room(chunk));
    int64_t r = TRY(m.ask(OpCode::copy_string, {addr + out.size(), at, chunk}));
    size_t got = r == -ENAMETOOLONG ? chunk : r < 0 ? 0 : std::min(static_cast<size_t>(r), chunk);
    if (r < 0 && r != -ENAMETOOLONG) return kEFAULT;
    size_t old = out.size();
    out.resize(old + got);
    untrusted_copy(out.data() + old, reinterpret_cast<std::byte*>(m.slot) + at, got);
    // A string has no NUL inside, whatever another thread wrote meanwhile.
    if (size_t end = out.find('\0', old); end != std::string::npos) out.resize(end), r = 0;
    if (r >= 0) return out;
  }
  return kENAMETOOLONG;
}

// ---- Copies out ----

Result<void> Context::copy_out(uint64_t addr, const void* src, size_t n) {
  Impl& m = *impl_;
  if (n == 0) return {};
  if (!in_application(addr, n)) return kEFAULT;
  auto* from = static_cast<const std::byte*>(src);
  if (n <= 32) {
    Op* op = m.add(OpCode::inline_out, stub::kMust);
    if (!op) return kESRCH;
    op->a[0] = addr;
    op->a[1] = n;
    memcpy(&op->a[2], from, n);
    m.notes[m.op_count - 1].want = n;
    return {};
  }
  while (n > 0) {
    size_t chunk = std::min(n, kChunk);
    uint32_t at = TRY(m.data_room(chunk));
    memcpy(reinterpret_cast<std::byte*>(m.slot) + at, from, chunk);
    Op* op = m.add(OpCode::copy_out, stub::kMust);
    if (!op) return kESRCH;
    op->a[0] = addr;
    op->a[1] = at;
    op->a[2] = chunk;
    m.notes[m.op_count - 1].want = chunk;
    addr += chunk;
    from += chunk;
    n -= chunk;
  }
  return {};
}

Result<size_t> Context::copy_out_some(uint64_t addr, const void* src, size_t n) {
  Impl& m = *impl_;
  if (n == 0) return size_t{0};
  if (addr >= kAppLimit) return kEFAULT;
  n = std::min<uint64_t>(n, kAppLimit - addr);
  for (size_t done = 0; done < n;) {
    size_t chunk = std::min(n - done, kChunk);
    uint32_t at = TRY(m.data_room(chunk));
    memcpy(reinterpret_cast<std::byte*>(m.slot) + at, static_cast<const std::byte*>(src) + done, chunk);
    int64_t r = TRY(m.ask(OpCode::copy_out, {addr + done, at, chunk}));
    size_t put = r < 0 ? 0 : std::min(static_cast<size_t>(r), chunk);
    done += put;
    if (put < chunk) {
      if (done == 0) return kEFAULT;
      return done;
    }
  }
  return n;
}

Result<void> Context::copy_out_now(uint64_t addr, const void* src, size_t n) {
  if (!in_application(addr, n)) return kEFAULT;
  size_t put = TRY(copy_out_some(addr, src, n));
  if (put != n) return kEFAULT;
  return {};
}

Result<void> Context::zero_out(uint64_t addr, size_t n) {
  Impl& m = *impl_;
  if (!in_application(addr, n)) return kEFAULT;
  while (n > 0) {
    size_t chunk = std::min(n, kZeroChunk);
    int64_t r = TRY(m.ask(OpCode::zero_out, {addr, 0, chunk}));
    if (r < 0 || static_cast<size_t>(r) != chunk) return kEFAULT;
    addr += chunk;
    n -= chunk;
  }
  return {};
}

Result<void> Context::queue_zero_out(uint64_t addr, size_t n) {
  Impl& m = *impl_;
  if (n == 0) return {};
  if (!in_application(addr, n) || n > kZeroChunk) return kEFAULT;
  Op* op = m.add(OpCode::zero_out, stub::kMust);
  if (!op) return kESRCH;
  op->a[0] = addr;
  op->a[2] = n;
  m.notes[m.op_count - 1].want = n;
  return {};
}

std::span<std::byte> Context::out_window(size_t n) {
  Impl& m = *impl_;
  auto at = m.data_room(std::min(n, kWindow));
  if (!at.ok()) return {};
  return {reinterpret_cast<std::byte*>(m.slot) + *at, std::min(n, kWindow)};
}

Result<void> Context::commit_out(uint64_t addr, std::span<std::byte> window, size_t filled) {
  Impl& m = *impl_;
  if (filled == 0) return {};
  CHECK(filled <= window.size());
  if (!in_application(addr, filled)) return kEFAULT;
  auto at = static_cast<uint64_t>(window.data() - reinterpret_cast<std::byte*>(m.slot));
  CHECK(at >= STUB_DATA_OFFSET && at + filled <= STUB_SLOT_SIZE);
  Op* op = m.add(OpCode::copy_out, stub::kMust);
  if (!op) return kESRCH;
  op->a[0] = addr;
  op->a[1] = at;
  op->a[2] = filled;
  m.notes[m.op_count - 1].want = filled;
  return {};
}

// ---- Words ----

Result<uint32_t> Context::load32(uint64_t addr) {
  Impl& m = *impl_;
  if (!in_application(addr, 4)) return kEFAULT;
  int64_t r = TRY(m.ask(OpCode::load32, {addr}));
  if (r < 0) return kEFAULT;
  return static_cast<uint32_t>(r);
}

Result<int64_t> Context::host_futex_wake(uint64_t addr, int n) {
  Impl& m = *impl_;
  if (!in_application(addr, 4)) return kEFAULT;
  constexpr uint64_t kPrivateWake = 1 | 128;
  int64_t r = TRY(m.ask(OpCode::host_call, {addr, kPrivateWake, static_cast<uint64_t>(n), 0, 0, 0}, 202));  // futex
  if (r < 0) return kEFAULT;
  return r;
}

Result<int64_t> Context::host_membarrier(int command) {
  Impl& m = *impl_;
  int64_t r = TRY(m.ask(OpCode::host_call, {static_cast<uint64_t>(command), 0, 0, 0, 0, 0}, 324));  // membarrier
  if (r < 0 && r > -4096) return Errno(static_cast<int>(-r));
  return r;
}

Result<uint32_t> Context::cmpxchg32(uint64_t addr, uint32_t expected, uint32_t desired) {
  Impl& m = *impl_;
  if (!in_application(addr, 4)) return kEFAULT;
  int64_t r = TRY(m.ask(OpCode::cmpxchg32, {addr, expected, desired}));
  if (r < 0) return kEFAULT;
  return static_cast<uint32_t>(r);
}

}  // namespace sentry::platform

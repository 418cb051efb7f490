// SPDX-License-Identifier: Apache-2.0
// Stacks that grow. No mapping of a stub grows on the host by itself (design review, M5); the sentry maps more when
// a fault asks for it. Linux: expand_stack().
#include <signal.h>

#include <algorithm>

#include "sentry/mm/impl.h"

namespace sentry::mm {

namespace {

constexpr uint64_t kGrowBy = 64 * 1024;       // at least, where there is room
constexpr uint64_t kPresent = 1;              // of a page fault's error code: a page is there
constexpr uint64_t kWrite = 2, kFetch = 16;
constexpr uint64_t kPageFault = 14;

}  // namespace

bool AddressSpace::handle_fault(platform::Context& by, const platform::Fault& fault) {
  Impl& m = *impl_;
  if (fault.signo != SIGSEGV || fault.trap_number != kPageFault || (fault.error_code & kPresent)) return false;
  if (fault.address >= platform::kAppLimit) return false;
  uint64_t page = page_down(fault.address), flight = 0;
  platform::MemoryCall call{};
  {
    Impl::Started s(m, by, {page, page + platform::kPageSize});
    if (!s.result().ok()) return false;
    const Vma* v = m.vmas.find_from(page);
    if (!v) return false;
    if (v->start <= page) {  // another thread's fault has made it meanwhile
      int needed = fault.error_code & kWrite ? PROT_WRITE : fault.error_code & kFetch ? PROT_EXEC : PROT_READ;
      return v->grows_down && (v->prot & needed);
    }
    if (!v->grows_down || page < platform::kMinAddress) return false;
    if (v->end - page > m.limits.stack) return false;
    uint64_t lowest = platform::kMinAddress;
    if (const Vma* below = m.vmas.find_before(page)) lowest = std::max(lowest, below->end + (below->grows_down ? 0 : kStackGuardGap));
    if (m.limits.stack < v->end) lowest = std::max(lowest, page_up(v->end - m.limits.stack));
    if (page < lowest) return false;
    uint64_t start = std::max(lowest, std::min(page, v->start > kGrowBy ? v->start - kGrowBy : 0));
    Vma grown = *v;
    grown.end = v->start;
    grown.start = start;
    if (!m.check_growth_locked(grown.length(), 0).ok()) return false;
    Flight& f = m.begin_flight_locked(by, {grown.start, grown.end});
    f.drop = {grown.start, grown.end};
    flight = f.id;
    call.op = platform::MemoryOp::map_anonymous;
    call.address = grown.start;
    call.length = grown.length();
    call.prot = grown.prot;
    call.flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK;
    m.vmas.insert(std::move(grown));
  }
  return m.queue(by, flight, call).ok();
}

}  // namespace sentry::mm

// SPDX-License-Identifier: Apache-2.0
// The platform as a whole: what all its zygotes share.
#include "sentry/platform/platform.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"
#include "seccomp-profiles/stub_direct.h"
#include "seccomp-profiles/stub_strict.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

constexpr long kMseal = 462;

uint64_t measure_tsc() {
  sched::Nanos t0 = sched::now();
  uint64_t c0 = read_tsc();
  while (sched::now() - t0 < 300'000) __builtin_ia32_pause();
  sched::Nanos t1 = sched::now();
  return std::max<uint64_t>((read_tsc() - c0) * 1000 / static_cast<uint64_t>(t1 - t0), 1);
}

// The page that all stubs of this sentry read: call descriptors and the filter.
Result<Fd> make_zygote_page(const PlatformOptions& o) {
  Fd fd = TRY(sys::memfd_create("zygote", MFD_ALLOW_SEALING));
  TRY(sys::ftruncate(fd.get(), stub::kZygotePageSize));
  void* at = TRY(sys::mmap(nullptr, stub::kZygotePageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  auto& page = *static_cast<stub::ZygotePage*>(at);
  for (size_t i = 0; i < o.descriptors.size() && i < stub::kMaxCalls; i++) {
    const CallDescriptor& d = o.descriptors[i];
    bool has_in = false;
    for (int k = 0; k < 2; k++) {
      const CopyIn& c = d.in[k];
      page.calls[i].in[k] = {static_cast<uint8_t>(c.kind), c.arg, c.size_arg, 0, c.size, 0};
      if (c.kind == CopyIn::fixed) page.calls[i].in[k].size_arg = 0xff;
      has_in |= c.kind != CopyIn::none;
    }
    page.flags[i] = static_cast<uint8_t>((d.may_block ? stub::kMayBlock : 0) | (has_in ? stub::kHasIn : 0) |
                                         static_cast<unsigned>(d.answer) << STUB_ANSWER_SHIFT);
  }
  page.xfeatures = xsave_mask();
  const seccomp_profiles::Program& filter =
      o.mode == Mode::strict ? seccomp_profiles::stub_strict::kProgram : seccomp_profiles::stub_direct::kProgram;
  static_assert(sizeof(sock_filter) == sizeof(page.filter[0]));
  CHECK(filter.length <= 4096);
  static_assert(sizeof seccomp_profiles::stub_direct::kSites != 0);  // exact addresses, not a range
  page.filter_length = filter.length;
  memcpy(page.filter, filter.filter, filter.length * sizeof(sock_filter));
  if (!o.other_filter.empty()) {
    CHECK(o.other_filter.size() <= 4096);
    page.filter_length = static_cast<uint32_t>(o.other_filter.size());
    memcpy(page.filter, o.other_filter.data(), o.other_filter.size_bytes());
  }
  page.have_mseal = o.seal && sys::raw(kMseal, 0, 0, 0).ok();
  TRY(sys::munmap(at, stub::kZygotePageSize));
  TRY(sys::add_seals(fd.get(), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  return fd;
}

}  // namespace

Ref<Space> Maker::space(Platform::Impl& p, Zygote* z, Control c) {
  auto s = adopt_ref(new Space);
  s->impl_ = std::make_unique<Space::Impl>(*s, p, z, std::move(c));
  return s;
}
Ref<Context> Maker::context(const Ref<Space>& s, unsigned index) {
  auto c = adopt_ref(new Context);
  c->impl_ = std::make_unique<Context::Impl>(*c, s, index);
  c->space_ = s.get();
  return c;
}
Ref<Zygote> Maker::zygote(Platform::Impl& p) {
  auto z = adopt_ref(new Zygote);
  z->impl_ = std::make_unique<Zygote::Impl>(*z, p);
  return z;
}

Platform::Impl::Impl(const PlatformOptions& o)
    : mode(o.mode), may_spin(o.may_spin), cpus(o.cpus),
      watchdog([](void* arg) { static_cast<Impl*>(arg)->on_watchdog(); }, this) {
  for (size_t i = 0; i < o.descriptors.size() && i < has_in.size(); i++)
    for (const CopyIn& c : o.descriptors[i].in)
      if (c.kind != CopyIn::none)
        has_in[i] = std::max<uint8_t>(has_in[i], c.kind == CopyIn::iovec && c.size ? 2 + stub::kMaxPieces : 2);
  tsc_per_us = measure_tsc();
  gap_tsc.store(tsc_per_us * 100, std::memory_order_relaxed);
  IGNORE_ERROR(sys::raw(SYS_sched_getaffinity, 0, sizeof usable_cpus, reinterpret_cast<long>(&usable_cpus)),
               "then no worker changes its processor");
}

Platform::Impl::~Impl() = default;

Platform::Platform() = default;

Result<std::unique_ptr<Platform>> Platform::create(const PlatformOptions& options) {
  auto p = std::unique_ptr<Platform>(new Platform);
  p->impl_ = std::make_unique<Impl>(options);
  p->impl_->zygote_page = TRY(make_zygote_page(options));
  sched::Scheduler::get().set_poller(p->impl_.get());
  return p;
}

Platform::~Platform() {
  sched::Scheduler::get().set_poller(nullptr);
  impl_->watchdog.cancel();
  // These hold Spaces, which want the rest of us when they go.
  std::vector<Leaving> last;
  MutexLock l(impl_->mu);
  last.swap(impl_->leaving);
}

void Platform::set_threads_file(Fd file) {
  MutexLock l(impl_->mu);
  impl_->threads_files[nullptr] = std::make_shared<Fd>(std::move(file));
}

Platform::Stats Platform::stats() const {
  auto& c = impl_->counters;
  return {c.calls, c.notifications, c.knocks, c.kicks, c.faults, c.traps, c.copies, c.stubs_made, c.processes_killed};
}

}  // namespace sentry::platform

// SPDX-License-Identifier: Apache-2.0
// AddressSpace: making one, facts about it, futex keys, access from other tasks.
#include "sentry/mm/address_space.h"

#include <sys/auxv.h>

#include <algorithm>

#include "sentry/mm/impl.h"

namespace sentry::mm {

namespace {

std::atomic<uint64_t> g_next_space_id{1};

// Linux shows this much of a stack below the stack pointer at the start.
constexpr uint64_t kShownStack = 132 * 1024;

}  // namespace

AddressSpace::AddressSpace() = default;
AddressSpace::~AddressSpace() = default;

Ref<AddressSpace> AddressSpace::create(platform::Space& space) {
  auto a = adopt_ref(new AddressSpace);
  a->impl_ = std::make_unique<Impl>(space);
  a->impl_->id = g_next_space_id.fetch_add(1, std::memory_order_relaxed);
  return a;
}

void AddressSpace::set_layout(const Layout& layout) {
  MutexLock l(impl_->mu);
  impl_->layout = layout;
}

void AddressSpace::set_vdso(uint64_t vvar_address, uint64_t vdso_address, uint64_t vdso_end) {
  impl_->vvar = vvar_address;
  impl_->vdso = vdso_address;
  impl_->vdso_end = vdso_end;
}

void AddressSpace::set_brk_start(uint64_t addr) {
  MutexLock l(impl_->mu);
  impl_->brk_start = impl_->brk_end = addr;
}

uint64_t AddressSpace::brk_start() const {
  MutexLock l(impl_->mu);
  return impl_->brk_start;
}

void AddressSpace::set_limits(const Limits& limits) {
  MutexLock l(impl_->mu);
  impl_->limits = limits;
}

platform::Space& AddressSpace::space() const { return *impl_->space; }

void AddressSpace::Impl::note_stack_locked(uint64_t sp) {
  if (sp >= stack_low) return;
  const Vma* v = vmas.find(sp);
  if (v && v->grows_down && v->name == "[stack]") stack_low = page_down(sp);
}

void AddressSpace::note_stack_pointer(uint64_t sp) {
  MutexLock l(impl_->mu);
  impl_->note_stack_locked(sp);
}

uint64_t AddressSpace::Impl::shown_start_locked(const Vma& v) const {
  if (!v.grows_down || v.name != "[stack]" || stack_low < v.start || stack_low >= v.end) return v.start;
  return std::max(v.start, page_down(stack_low > kShownStack ? stack_low - kShownStack : 0));
}

bool AddressSpace::is_mapped(uint64_t addr, uint64_t len, int prot) const {
  if (addr + len < addr) return false;
  MutexLock l(impl_->mu);
  return impl_->vmas.covered({addr, addr + len}, prot);
}

std::optional<Vma> AddressSpace::find(uint64_t addr) const {
  MutexLock l(impl_->mu);
  const Vma* v = impl_->vmas.find(addr);
  if (!v) return std::nullopt;
  return *v;
}

std::vector<Vma> AddressSpace::list() const {
  std::vector<Vma> out;
  {
    MutexLock l(impl_->mu);
    out.reserve(impl_->vmas.size() + 2);
    for (auto& [start, v] : impl_->vmas.map()) {
      out.push_back(v);
      out.back().start = impl_->shown_start_locked(v);
    }
  }
  if (impl_->vdso != 0) {
    if (impl_->vvar < impl_->vdso)
      out.push_back({.start = impl_->vvar, .end = impl_->vdso, .prot = PROT_READ, .max_prot = PROT_READ, .name = "[vvar]"});
    out.push_back({.start = impl_->vdso,
                   .end = impl_->vdso_end,
                   .prot = PROT_READ | PROT_EXEC,
                   .max_prot = PROT_READ | PROT_EXEC,
                   .name = "[vdso]"});
  }
  return out;
}

uint64_t AddressSpace::Impl::hidden_stack_locked() const {
  const Vma* v = stack_low == UINT64_MAX ? nullptr : vmas.find(stack_low);
  return v ? shown_start_locked(*v) - v->start : 0;
}

uint64_t AddressSpace::total_bytes() const {
  MutexLock l(impl_->mu);
  return impl_->vmas.total_bytes() - impl_->hidden_stack_locked();
}

Result<FutexKey> AddressSpace::futex_key(uint64_t addr, bool private_flag) const {
  if (addr >= platform::kAppLimit) return kEFAULT;
  if (private_flag) return FutexKey{impl_->id, addr, 0, true};
  RefOrNull<Mappable> file;
  int64_t offset = 0;
  {
    MutexLock l(impl_->mu);
    const Vma* v = impl_->vmas.find(addr);
    if (!v || !(v->prot & PROT_READ)) return kEFAULT;
    if (!v->shared) return FutexKey{impl_->id, addr, 0, true};
    file = v->file;
    offset = v->offset + static_cast<int64_t>(addr - v->start);
  }
  return FutexKey{file->device(), file->inode_number(), static_cast<uint64_t>(offset), false};
}

namespace {

// How many bytes from addr on are mapped without a hole, at most n.
uint64_t mapped_run(const VmaList& vmas, uint64_t addr, uint64_t n) {
  uint64_t at = addr, end = addr + n < addr ? UINT64_MAX : addr + n;
  while (at < end) {
    const Vma* v = vmas.find(at);
    if (!v) break;
    at = v->end;
  }
  return std::min(at, end) - addr;
}

}  // namespace

Result<size_t> AddressSpace::read_remote(uint64_t addr, void* dst, size_t n) {
  uint64_t run;
  {
    MutexLock l(impl_->mu);
    run = mapped_run(impl_->vmas, addr, n);
  }
  if (run == 0 && addr >= impl_->vdso && addr < impl_->vdso_end) {
    // Debuggers read its symbols. It is the same in every process of the host, so this one's will do.
    const uint64_t own = getauxval(AT_SYSINFO_EHDR);
    if (own == 0) return kEFAULT;
    run = std::min<uint64_t>(n, impl_->vdso_end - addr);
    memcpy(dst, reinterpret_cast<const void*>(own + (addr - impl_->vdso)), run);
    return run;
  }
  if (run == 0) {
    if (n == 0) return size_t{0};
    return kEFAULT;
  }
  return impl_->space->read_remote(addr, dst, run);
}

Result<size_t> AddressSpace::write_remote(uint64_t addr, const void* src, size_t n) {
  uint64_t run;
  {
    MutexLock l(impl_->mu);
    run = mapped_run(impl_->vmas, addr, n);
  }
  if (run == 0) {
    if (n == 0) return size_t{0};
    return kEFAULT;
  }
  return impl_->space->write_remote(addr, src, run);
}

Result<void> AddressSpace::Impl::check_growth_locked(uint64_t added, uint64_t added_data) const {
  if (added != 0 && limits.as != RLIM_INFINITY) {
    uint64_t total = vmas.total_bytes() - hidden_stack_locked();
    if (added > limits.as || total > limits.as - added) return kENOMEM;
  }
  if (added_data != 0 && limits.data != RLIM_INFINITY) {
    if (added_data > limits.data || vmas.data_bytes() > limits.data - added_data) return kENOMEM;
  }
  return {};
}

Result<void> AddressSpace::Impl::check_count_locked(size_t more) const {
  if (vmas.size() + more > kMaxMapCount) return kENOMEM;
  return {};
}

Sizes sizes_of(const VmaList& list, Range r) {
  Sizes s;
  for (const Vma* v = list.find_from(r.start); v && v->start < r.end; v = list.find_from(v->end)) {
    uint64_t n = std::min(v->end, r.end) - std::max(v->start, r.start);
    s.total += n;
    if (VmaList::is_data(*v)) s.data += n;
    if (v->locked) s.locked += n;
  }
  return s;
}

}  // namespace sentry::mm

// SPDX-License-Identifier: Apache-2.0
// Patched program text in an address space: when it is mapped over the file's own, and when it must go again. The list of mappings
// never shows it. What may change or look at the text, or wants the place of its trampolines, has it taken out before
// (Impl::Started); the trampolines' place is kept free of new mappings as long as the application does not ask for it.
#include <signal.h>

#include <algorithm>

#include "sentry/mm/impl.h"

namespace sentry::mm {

namespace {

constexpr unsigned kMaxChanges = 8;      // of one text for another, when a process changes its identity
constexpr size_t kLeftPatches = 16;
constexpr uint64_t kDebugTrap = 1;
constexpr unsigned kMaxPieces = 64;      // mappings that an image consists of

platform::MemoryCall map_piece(const Patch& p, const patch::Piece& piece, int prot, int placement) {
  platform::MemoryCall c{};
  c.op = platform::MemoryOp::map_file;
  c.address = p.base + piece.at;
  c.length = piece.length;
  c.prot = prot;
  c.flags = MAP_PRIVATE | placement;
  c.host_fd = p.text->fd();
  c.file_key = p.text->key();
  c.offset = piece.offset;
  return c;
}

Range hull(const Patch& p, const std::vector<patch::Piece>& pieces) {
  if (pieces.empty()) return {};
  uint64_t from = UINT64_MAX, to = 0;
  for (const patch::Piece& x : pieces) {
    from = std::min(from, x.at);
    to = std::max(to, x.end());
  }
  return p.range_of({from, to - from, 0});
}

// Whether the newest of these that shows the page shows it from this offset.
bool has_page(const std::vector<patch::Piece>& have, uint64_t page, int64_t offset) {
  for (auto it = have.rbegin(); it != have.rend(); ++it)
    if (page >= it->at && page < it->end()) return it->offset + static_cast<int64_t>(page - it->at) == offset;
  return false;
}

}  // namespace

std::optional<AddressSpace::Impl::TextMapping> AddressSpace::Impl::text_at_locked(uint64_t addr) const {
  const Vma* v = vmas.find(addr);
  if (!v || !v->file || v->shared || v->written || !(v->prot & PROT_EXEC) || (v->prot & PROT_WRITE)) return std::nullopt;
  TextMapping t;
  t.file = v->file;
  t.base = v->start - static_cast<uint64_t>(v->offset);
  t.range = {v->start, v->end};
  t.prot = v->prot;
  uint64_t end = v->end;
  const Vma* next = v;
  for (unsigned i = 0; i < kMaxPieces && (next = vmas.find(end)); i++) end = next->end;
  t.extent = {v->start - t.base, v->end - t.base, end - t.base};
  return t;
}

std::optional<AddressSpace::Impl::TextMapping> AddressSpace::Impl::text_at(uint64_t addr) {
  MutexLock l(mu);
  if (!may_patch) return std::nullopt;
  return text_at_locked(addr);
}

bool AddressSpace::Impl::is_patched_locked(Range r) const {
  if (r.empty()) return false;
  for (const Patch& p : patches)
    for (const auto* pieces : {&p.pages, &p.rooms})
      for (const patch::Piece& x : *pieces)
        if (p.range_of(x).overlaps(r)) return true;
  return false;
}

Result<void> AddressSpace::Impl::take_out(platform::Context& by, Range r) {
  for (;;) {
    std::optional<Patch> found;
    {
      MutexLock l(mu);
      for (const Patch& p : patches) {
        auto touches = [&](const patch::Piece& x) { return p.range_of(x).overlaps(r); };
        if (std::any_of(p.pages.begin(), p.pages.end(), touches) || std::any_of(p.rooms.begin(), p.rooms.end(), touches)) {
          found = p;
          break;
        }
      }
    }
    if (!found) return {};
    MapFd original = TRY(found->file->map_fd(false));
    std::vector<platform::MemoryCall> calls;
    std::vector<Patch> forgotten;
    uint64_t flight;
    {
      Started s(*this, by, hull(*found, found->pages), hull(*found, found->rooms), Started::Patches::kept);
      TRY(s.result());
      auto it = std::find_if(patches.begin(), patches.end(),
                             [&](const Patch& p) { return p.base == found->base && p.text == found->text; });
      if (it == patches.end()) continue;
      found = *it;
      // Only where the file is still mapped; the pieces may overlap, and the last ones count no more than the first.
      Range pages = hull(*found, found->pages);
      for (const Vma& v : vmas.copy(pages)) {
        if (v.file.get() != found->file.get() || v.shared || v.start - static_cast<uint64_t>(v.offset) != found->base) continue;
        platform::MemoryCall c{};
        c.op = platform::MemoryOp::map_file;
        c.address = v.start;
        c.length = v.length();
        c.prot = v.prot;
        c.flags = MAP_PRIVATE | MAP_FIXED;
        c.host_fd = original.fd;
        c.file_key = original.key;
        c.offset = v.offset + original.host_offset;
        calls.push_back(c);
      }
      for (const patch::Piece& x : found->rooms) {
        platform::MemoryCall c{};
        c.op = platform::MemoryOp::unmap;
        c.address = found->base + x.at;
        c.length = x.length;
        calls.push_back(c);
      }
      Flight& f = begin_flight_locked(by, pages);
      f.second = hull(*found, found->rooms);
      f.synchronous = true;
      flight = f.id;
      it->file = nullptr;  // nothing more than where its trampolines were is needed of it
      it->pages.clear();
      left_patches.push_back(std::move(*it));
      patches.erase(it);
      if (left_patches.size() > kLeftPatches) {
        forgotten.push_back(std::move(left_patches.front()));
        left_patches.erase(left_patches.begin());
      }
    }
    bool failed = !by.memory_calls(calls).ok();
    if (failed && !space->gone()) {
      LOG(warn, "process {}: its patched code cannot be taken back; killed", space->host_pid());
      space->kill();
    }
    finish(flight);
    if (failed) return kEINTR;
  }
}

bool AddressSpace::Impl::prepare(platform::Context& by, const TextMapping& at, const Ref<patch::Text>& text,
                                 std::vector<patch::Piece> pages, Installation& out) {
  if (pages.empty() || !at.file->map_fd(false).ok()) return false;  // which taking it out will need
  {
    // Another text over the same code: the process has changed its identity.
    bool other = false;
    {
      MutexLock l(mu);
      for (const Patch& p : patches) other |= p.base == at.base && p.file.get() == at.file.get() && !(p.text == text);
      if (other && patch_changes++ >= kMaxChanges) return false;
    }
    if (other && !take_out(by, at.range).ok()) return false;
  }
  Patch what{text, at.file, at.base, std::move(pages), text->rooms()};
  std::vector<patch::Piece> new_rooms;
  int prot = 0;
  {
    Started s(*this, by, at.range, hull(what, what.rooms), Started::Patches::kept);
    if (!s.result().ok() || !may_patch) return false;
    auto now = text_at_locked(at.range.start);
    if (!now || now->file.get() != at.file.get() || now->base != at.base || !(now->extent == text->extent())) return false;
    prot = now->prot;
    Patch* p = nullptr;
    for (Patch& x : patches) {
      if (x.text == text && x.base == at.base) p = &x;
      else if (x.base == at.base && x.file.get() == at.file.get()) return false;
    }
    for (const patch::Piece& r : what.rooms) {
      if (p && std::find(p->rooms.begin(), p->rooms.end(), r) != p->rooms.end()) continue;
      const Range room = what.range_of(r);
      if (room.start >= room.end || room.end > platform::kAppLimit) return false;
      if (!vmas.is_gap(room) || is_patched_locked(room)) return false;
      new_rooms.push_back(r);
    }
    if (p)
      std::erase_if(what.pages, [&](const patch::Piece& x) { return x.length == platform::kPageSize && has_page(p->pages, x.at, x.offset); });
    if (what.pages.empty()) return false;
    if (!p) p = &patches.emplace_back(Patch{text, at.file, at.base, {}, {}});
    // Noted before any thread can get there.
    p->rooms = what.rooms;
    p->pages.insert(p->pages.end(), what.pages.begin(), what.pages.end());
    patched.store(true, std::memory_order_relaxed);
    Flight& f = begin_flight_locked(by, at.range);
    f.second = hull(what, what.rooms);
    f.synchronous = true;
    f.keep = at.file;
    out.flights.push_back(f.id);
  }
  for (const patch::Piece& r : new_rooms) out.calls.push_back(map_piece(what, r, prot, MAP_FIXED_NOREPLACE));
  for (const patch::Piece& x : what.pages) out.calls.push_back(map_piece(what, x, prot, MAP_FIXED));
  out.ranges.push_back(at.range);
  return true;
}

void AddressSpace::Impl::install(platform::Context& by, const Installation& what) {
  if (what.calls.empty()) return;
  auto done = by.memory_calls(what.calls);
  for (uint64_t flight : what.flights) finish(flight);
  if (done.ok()) return;
  for (Range r : what.ranges) IGNORE_ERROR(take_out(by, r), "the process has been killed");
}

RefOrNull<patch::Text> AddressSpace::Impl::known_text(uint64_t addr, std::optional<TextMapping>& at) {
  patch::Domain who;
  {
    MutexLock l(mu);
    who = domain;
    if (may_patch && !domain.none()) at = text_at_locked(addr);
  }
  auto contents = at ? at->file->content_id() : std::nullopt;
  if (!contents) return nullptr;
  return patch::Store::instance().find(*contents, who, at->extent);
}

bool AddressSpace::Impl::adopts(uint64_t addr) {
  std::optional<TextMapping> at;
  RefOrNull<patch::Text> text = known_text(addr, at);
  return text && !text->pages().empty();
}

void AddressSpace::Impl::adopt(platform::Context& by, std::span<const uint64_t> texts) {
  Installation all;
  for (uint64_t addr : texts) {
    std::optional<TextMapping> at;
    RefOrNull<patch::Text> text = known_text(addr, at);
    if (text) prepare(by, *at, Ref<patch::Text>(*text), text->pages(), all);
  }
  if (all.calls.empty()) return;
  for (auto& t : trapping) t.store(0, std::memory_order_relaxed);
  install(by, all);
}

void AddressSpace::note_trap(platform::Context& by, const patch::Domain& domain) {
  Impl& m = *impl_;
  patch::Store& store = patch::Store::instance();
  const uint64_t site = by.instruction_pointer() - patch::kSyscallLength;
  if (!store.enabled() || m.traps_for_ever(site)) return;
  auto at = m.text_at(site);
  auto id = at ? at->file->content_id() : std::nullopt;
  auto text = id ? store.get(*id, domain, at->extent) : Result<Ref<patch::Text>>(kEINVAL);
  auto fd = text.ok() ? at->file->map_fd(false) : Result<MapFd>(kEINVAL);
  if (!fd.ok()) {
    m.will_trap(site);
    return;
  }
  uint64_t place = site - at->base;
  switch ((*text)->trapped(place, by.call().number, fd->fd)) {
    case patch::Text::Verdict::count:
      return;
    case patch::Text::Verdict::unfit:
      LOG(debug, "{}: the call at offset {:#x} (number {}) is not patched", at->file->path(), place, by.call().number);
      break;
    case patch::Text::Verdict::patched: {
      if (at->file->content_id() != id) break;  // written to while it was read
      bool known;
      {
        MutexLock l(m.mu);
        m.domain = domain;
        known = std::any_of(m.patches.begin(), m.patches.end(),
                            [&](const Patch& p) { return p.text == *text && p.base == at->base; });
      }
      std::vector<patch::Piece> pages;
      if (!known) pages = (*text)->pages();
      else if (auto page = (*text)->page_of(place)) pages.push_back(*page);
      Impl::Installation one;
      if (m.prepare(by, *at, *text, std::move(pages), one)) m.install(by, one);
      break;
    }
  }
  m.will_trap(site);  // there is no more to do for it
}

void AddressSpace::use_patches(platform::Context& by, const patch::Domain& domain) {
  Impl& m = *impl_;
  if (!patch::Store::instance().enabled() || domain.none()) return;
  std::vector<uint64_t> texts;
  {
    MutexLock l(m.mu);
    m.domain = domain;
    for (auto& [start, v] : m.vmas.map())
      if (m.text_at_locked(start)) texts.push_back(start);
  }
  m.adopt(by, texts);
}

AddressSpace::Left AddressSpace::leave_trampoline(platform::Context& by, const platform::Fault* fault) {
  Impl& m = *impl_;
  if (!m.patched.load(std::memory_order_relaxed)) return Left::no;
  const uint64_t ip = by.instruction_pointer();
  RefOrNull<patch::Text> text;
  uint64_t base = 0;
  bool installed = false;
  {
    MutexLock l(m.mu);
    for (const auto* all : {&m.patches, &m.left_patches})
      for (const Patch& p : *all)
        for (const patch::Piece& r : p.rooms) {
          Range range = p.range_of(r);
          if (text || ip < range.start || ip >= range.end) continue;
          text = p.text;
          base = p.base;
          installed = all == &m.patches;
        }
  }
  auto origin = text ? text->origin(ip - base) : std::nullopt;
  if (!origin) return Left::no;
  arch::Registers regs = by.registers();
  regs.rip = base + origin->site;
  if (origin->number) regs.rax = *origin->number;
  by.set_registers(regs);
  if (!fault) return Left::moved;
  // A program that steps through itself sees its own instructions from here on; the mov has been stepped over, a pun has not. And
  // where trampolines fault that should be there, something has unmapped them.
  const bool stepped = fault->signo == SIGTRAP && fault->trap_number == kDebugTrap;
  if (stepped || installed) stop_patching(by);
  return stepped && origin->number ? Left::moved : Left::retry;
}

void AddressSpace::stop_patching(platform::Context& by) {
  {
    MutexLock l(impl_->mu);
    impl_->may_patch = false;
  }
  IGNORE_ERROR(impl_->take_out(by, {0, platform::kAppLimit}), "the process has been killed");
}

}  // namespace sentry::mm

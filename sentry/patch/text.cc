// SPDX-License-Identifier: Apache-2.0
#include "sentry/patch/text.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"
#include "sentry/sched/sched.h"

namespace sentry::patch {
namespace {

constexpr uint64_t page_down(uint64_t v) { return v & ~(kPage - 1); }
constexpr uint64_t page_up(uint64_t v) { return page_down(v + kPage - 1); }

// Where the puns over `cmp $-4096,%rax` (48 3d 00) and `cmp $-4095,%rax` (48 3d 01) lead, from the site on.
constexpr uint64_t kNear = 0x3d4800 + kMovLength, kFar = 0x13d4800 + kMovLength;
constexpr uint64_t kTargets = 256;
constexpr uint64_t kMovWindow = 64 * 1024;
constexpr uint64_t kMaxCopies = 16 << 20;    // bytes of copied pages
constexpr uint64_t kMergeGap = 64 * kPage;   // pages between two patched ones are copied as well if they are so few: one mapping
constexpr size_t kMaxSites = 8192, kMaxOthers = 256;
constexpr size_t kChunk = 256 * 1024;

// All n bytes, zeros after the end of the file.
bool read_all(int file, void* dst, size_t n, uint64_t offset) {
  size_t done = 0;
  while (done < n) {
    auto r = sys::pread(file, static_cast<char*>(dst) + done, n - done, static_cast<int64_t>(offset + done));
    if (!r.ok()) return false;
    if (*r == 0) break;
    done += *r;
  }
  memset(static_cast<char*>(dst) + done, 0, n - done);
  return true;
}

std::atomic<uint64_t> g_copied{0};  // bytes, of all texts

// Apart from those of files.
uint64_t new_key() {
  static std::atomic<uint64_t> next{1};
  return 1ull << 63 | next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Result<Ref<Text>> Text::create(const Extent& e, uint32_t slot) {
  if (e.lo >= e.hi || e.hi > e.end || e.hi - e.lo > kMaxText || (e.lo | e.hi | e.end) % kPage != 0) return kEINVAL;
  // A jump reaches 2 GiB, there and back; gigabytes of zeroes may lie between text and room.
  if (e.end + kRoom - e.lo > static_cast<uint64_t>(INT32_MAX)) return kEINVAL;
  std::array<Window, 2> windows;
  Piece& near = windows[0].piece;
  near.at = e.end;
  near.length = kMovWindow;
  windows[0].first_for_mov = e.end;
  if (uint64_t to = page_up(e.hi + kNear + kTargets + kTrampolineMax); to > e.end) {
    near.at = std::max(e.end, page_down(e.lo + kNear));
    windows[0].first_for_mov = to;
    near.length = to - near.at + kMovWindow;
  }
  Piece& far = windows[1].piece;
  far.at = std::max(near.end(), page_down(e.lo + kFar));
  far.length = std::max(far.at, page_up(e.hi + kFar + kTargets + kTrampolineMax)) - far.at;
  if (std::max(near.end(), far.end()) > e.end + kRoom) return kEINVAL;
  far.offset = static_cast<int64_t>(near.length);
  uint64_t size = near.length + far.length + std::min(2 * (e.hi - e.lo) + 64 * kPage, kMaxCopies);

  Fd fd = TRY(sys::memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  TRY(sys::ftruncate(fd.get(), static_cast<int64_t>(size)));
  void* base = TRY(sys::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0));
  Ref<Text> text = adopt_ref(new Text(e, slot, std::move(fd), static_cast<std::byte*>(base), size, std::move(windows)));
  // Ours is the last mapping that can write.
  TRY(sys::add_seals(text->fd(), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL));
  return text;
}

Text::Text(const Extent& extent, uint32_t slot, Fd fd, std::byte* base, uint64_t size, std::array<Window, 2> windows)
    : extent_(extent), slot_(slot), fd_(std::move(fd)), base_(base), size_(size), key_(new_key()), windows_(std::move(windows)),
      first_copy_(windows_[0].piece.length + windows_[1].piece.length), next_copy_(first_copy_) {}

Text::~Text() {
  g_copied.fetch_sub(next_copy_ - first_copy_, std::memory_order_relaxed);
  IGNORE_ERROR(sys::munmap(base_, size_), "our own mapping");
}

Text::Verdict Text::trapped(uint64_t site, uint64_t number, int file) {
  if (site < extent_.lo || site >= extent_.hi) return Verdict::unfit;
  bool all;
  {
    MutexLock l(mu_);
    if (patched_.contains(site)) return Verdict::patched;
    if (building_) return Verdict::count;
    all = !built_;
    if (all) {
      if (++traps_ < kEnoughTraps) return Verdict::count;
    } else {
      if (others_.size() >= kMaxOthers && !others_.contains(site)) return Verdict::unfit;
      Other& o = others_[site];
      if (o.unfit) return Verdict::unfit;
      if (++o.traps < kEnoughOfOne) return Verdict::count;
      o.unfit = true;  // there is one try
      counts_.unfit++;
    }
    building_ = true;
  }
  sched::run_blocking([&] {
    std::vector<Site> sites;
    if (all) {
      sites = find_sure_sites(file);
    } else if (auto s = look_at(file, site, number)) {
      sites.push_back(*s);
    }
    if (!sites.empty()) build(file, sites);
  });
  MutexLock l(mu_);
  building_ = false;
  if (all) {
    built_ = true;
  } else if (patched_.contains(site)) {
    others_.erase(site);
    counts_.unfit--;
  } else {
    return Verdict::unfit;
  }
  return patched_.contains(site) ? Verdict::patched : Verdict::count;
}

std::vector<Text::Site> Text::find_sure_sites(int file) const {
  std::vector<Site> out;
  // Sites that lie across the ends of the extent are left alone; those across chunks are seen in the next one.
  std::vector<std::byte> buffer(kChunk);
  constexpr std::byte needle[] = {std::byte{0x0f}, std::byte{0x05}};
  for (uint64_t at = extent_.lo; at < extent_.hi && out.size() < kMaxSites;) {
    size_t n = std::min<uint64_t>(kChunk, extent_.hi - at);
    if (n < kAroundSure || !read_all(file, buffer.data(), n, at)) break;
    const std::byte* from = buffer.data() + kBefore;
    const std::byte* end = buffer.data() + n;
    while (from < end && out.size() < kMaxSites) {
      auto* p = static_cast<const std::byte*>(memmem(from, static_cast<size_t>(end - from), needle, sizeof needle));
      if (!p || static_cast<size_t>(end - p) < kAroundSure - kBefore) break;
      from = p + 1;
      std::span<const std::byte, kAroundSure> around(p - kBefore, kAroundSure);
      Sure sure = sure_site(around);
      if (sure == Sure::no) continue;
      Site& s = out.emplace_back();
      s.at = at + static_cast<uint64_t>(p - buffer.data());
      s.form = sure == Sure::mov ? Form::mov : Form::pun;
      memcpy(&s.number, p - 4, sizeof s.number);
      memcpy(s.bytes.data(), p - kBefore, kAround);
    }
    if (at + n >= extent_.hi) break;
    at += n - (kAroundSure - 1);
  }
  return out;
}

std::optional<Text::Site> Text::look_at(int file, uint64_t at, uint64_t number) const {
  Site s{at, Form::pun, static_cast<uint32_t>(number), {}};
  if (at < extent_.lo + kBefore || at + kSyscallLength + kAfter > extent_.hi) return std::nullopt;
  if (!read_all(file, s.bytes.data(), kAround, at - kBefore)) return std::nullopt;
  if (is_mov_site(s.bytes, number)) s.form = Form::mov;
  else if (!pun_reach(s.bytes)) return std::nullopt;
  return s;
}

uint64_t Text::page_to_patch(const Site& s) const { return page_down(s.form == Form::mov ? s.at - kMovLength : s.at); }

void Text::build(int file, const std::vector<Site>& sites) {
  std::map<uint64_t, std::vector<const Site*>> wanted;
  for (const Site& s : sites) {
    uint64_t last = s.form == Form::mov ? s.at - 1 : s.at + kSyscallLength - 1;
    if (page_down(last) == page_to_patch(s)) wanted[page_to_patch(s)].push_back(&s);
  }
  // Runs of pages to copy: with the few between two of them.
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  for (const auto& [page, unused] : wanted) {
    if (!runs.empty() && page - runs.back().second <= kMergeGap) runs.back().second = page + kPage;
    else runs.emplace_back(page, page + kPage);
  }
  for (auto [from, to] : runs) {
    uint64_t offset;
    {
      MutexLock l(mu_);
      offset = next_copy_;
      if (to - from > size_ - offset) continue;
      if (g_copied.fetch_add(to - from, std::memory_order_relaxed) + (to - from) > kMaxAllCopies) {
        g_copied.fetch_sub(to - from, std::memory_order_relaxed);
        continue;
      }
      next_copy_ += to - from;
    }
    std::byte* copy = base_ + offset;
    if (!read_all(file, copy, to - from, from)) continue;
    MutexLock l(mu_);
    bool any = false;
    for (uint64_t page = from; page < to; page += kPage)
      if (auto old = pages_.find(page); old != pages_.end()) memcpy(copy + (page - from), base_ + old->second, kPage);
    for (auto it = wanted.lower_bound(from); it != wanted.end() && it->first < to; ++it)
      for (const Site* s : it->second) any |= patch_locked(*s, copy + (it->first - from), it->first);
    if (!any) {
      memset(copy, 0, to - from);
      continue;
    }
    for (uint64_t page = from; page < to; page += kPage) pages_[page] = offset + (page - from);
    counts_.pages += (to - from) / kPage;
  }
}

bool Text::patch_locked(const Site& s, std::byte* page, uint64_t page_at) {
  Window* window = &windows_[0];
  std::optional<uint64_t> at;
  uint64_t reach = 0;
  if (s.form == Form::mov) {
    at = find_place_locked(*window, window->first_for_mov, window->piece.end(), trampoline_length(s.form));
  } else {
    reach = *pun_reach(s.bytes);
    uint64_t lowest = s.at + reach;
    if (lowest >= windows_[1].piece.at) window = &windows_[1];
    at = find_place_locked(*window, lowest, lowest + kTargets - 1, trampoline_length(s.form));
  }
  if (!at) return false;
  if (s.form == Form::mov) window->first_for_mov = *at + trampoline_length(s.form);
  auto code = trampoline(s.form, *at, s.at, s.number, slot_);
  memcpy(base_ + window->piece.offset + (*at - window->piece.at), code.data(), trampoline_length(s.form));
  if (s.form == Form::mov) {
    auto bytes = mov_patch(s.at, *at);
    memcpy(page + (s.at - kMovLength - page_at), bytes.data(), bytes.size());
    counts_.mov++;
  } else {
    auto bytes = pun_patch(reach, s.at, *at);
    memcpy(page + (s.at - page_at), bytes.data(), bytes.size());
    counts_.pun++;
  }
  trampolines_[*at] = {s.at, s.form, s.number};
  patched_[s.at] = page_at;
  return true;
}

// The first free n bytes that begin in [lowest, highest].
std::optional<uint64_t> Text::find_place_locked(Window& w, uint64_t lowest, uint64_t highest, size_t n) {
  uint64_t at = std::max(lowest, w.piece.at);
  auto next = w.taken.upper_bound(at);
  if (next != w.taken.begin()) at = std::max(at, std::prev(next)->second);
  for (; next != w.taken.end() && next->first < at + n; ++next) at = next->second;
  if (at > highest || at + n > w.piece.end()) return std::nullopt;
  w.taken[at] = at + n;
  return at;
}

std::vector<Piece> Text::pages() const {
  std::vector<Piece> out;
  MutexLock l(mu_);
  for (auto [page, offset] : pages_) {
    auto o = static_cast<int64_t>(offset);
    if (!out.empty() && out.back().end() == page && out.back().offset + static_cast<int64_t>(out.back().length) == o)
      out.back().length += kPage;
    else out.push_back({page, kPage, o});
  }
  return out;
}

std::optional<Piece> Text::page_of(uint64_t site) const {
  MutexLock l(mu_);
  auto p = patched_.find(site);
  if (p == patched_.end()) return std::nullopt;
  return Piece{p->second, kPage, static_cast<int64_t>(pages_.at(p->second))};
}

std::vector<Piece> Text::rooms() const {
  std::vector<Piece> out;
  MutexLock l(mu_);
  for (const Window& w : windows_)
    if (!w.taken.empty()) out.push_back(w.piece);
  return out;
}

std::optional<Origin> Text::origin(uint64_t at) const {
  MutexLock l(mu_);
  auto t = trampolines_.upper_bound(at);
  if (t == trampolines_.begin()) return std::nullopt;
  --t;
  if (at >= t->first + trampoline_length(t->second.form)) return std::nullopt;
  Origin o{t->second.site, std::nullopt};
  if (t->second.form == Form::mov) o.number = t->second.number;
  return o;
}

Counts Text::counts() const {
  MutexLock l(mu_);
  return counts_;
}

}  // namespace sentry::patch

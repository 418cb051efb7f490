// SPDX-License-Identifier: Apache-2.0
// VmaList against a model with one entry a page, under random operations.
#include "sentry/mm/vma_list.h"

#include <gtest/gtest.h>

#include <random>

namespace sentry::mm {
namespace {

constexpr uint64_t kPage = platform::kPageSize;
constexpr uint64_t kBase = 0x100000;
constexpr int kPages = 96;

class FakeFile : public Mappable {
 public:
  Result<MapFd> map_fd(bool) override { return kENODEV; }
  uint64_t device() const override { return 1; }
  uint64_t inode_number() const override { return 2; }
  std::string path() const override { return "/f"; }
};

struct Page {
  bool used = false;
  int prot = 0;
  int kind = 0;        // 0 anonymous, 1 file
  int64_t offset = 0;  // of a file page
  bool locked = false;
};

struct Model {
  Page pages[kPages];
  bool free(int a, int b) const {
    for (int i = a; i < b; i++)
      if (pages[i].used) return false;
    return true;
  }
  int top_gap(int n) const {
    for (int i = kPages - n; i >= 0; i--)
      if (free(i, i + n)) return i;
    return -1;
  }
  int low_gap(int n) const {
    for (int i = 0; i + n <= kPages; i++)
      if (free(i, i + n)) return i;
    return -1;
  }
};

uint64_t at(int page) { return kBase + static_cast<uint64_t>(page) * kPage; }

void expect_same(const VmaList& list, const Model& m) {
  uint64_t total = 0, data = 0, locked = 0;
  for (int i = 0; i < kPages; i++) {
    const Page& p = m.pages[i];
    const Vma* v = list.find(at(i));
    ASSERT_EQ(v != nullptr, p.used) << i;
    if (!v) continue;
    total += kPage;
    if (p.prot & PROT_WRITE) data += kPage;
    if (p.locked) locked += kPage;
    ASSERT_EQ(v->prot, p.prot);
    ASSERT_EQ(v->locked, p.locked);
    ASSERT_EQ(static_cast<bool>(v->file), p.kind == 1);
    if (p.kind == 1) {
      ASSERT_EQ(v->offset + static_cast<int64_t>(at(i) - v->start), p.offset);
    }
  }
  ASSERT_EQ(list.total_bytes(), total);
  ASSERT_EQ(list.data_bytes(), data);
  ASSERT_EQ(list.locked_bytes(), locked);
  const Vma* before = nullptr;
  for (auto& [start, v] : list.map()) {
    ASSERT_EQ(start, v.start);
    ASSERT_LT(v.start, v.end);
    if (before) {
      ASSERT_LE(before->end, v.start);
      ASSERT_FALSE(VmaList::mergeable(*before, v));
    }
    before = &v;
  }
}

TEST(VmaList, AgreesWithAModelUnderRandomOperations) {
  std::mt19937 rng(7);
  Ref<Mappable> file = make_ref<FakeFile>();
  VmaList list;
  Model m;
  auto rnd = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  for (int step = 0; step < 100000; step++) {
    int a = rnd(kPages), n = 1 + rnd(step % 7 == 0 ? 30 : 5);
    int b = std::min(kPages, a + n);
    Range r{at(a), at(b)};
    switch (rnd(5)) {
      case 0:
      case 1: {  // place
        int len = b - a;
        int want = m.top_gap(len);
        auto got = list.find_gap_top_down(static_cast<uint64_t>(len) * kPage, kPage, {kBase, at(kPages)}, {});
        ASSERT_EQ(got.has_value(), want >= 0);
        int low = m.low_gap(len);
        auto got_low = list.find_gap_bottom_up(static_cast<uint64_t>(len) * kPage, {kBase, at(kPages)}, {});
        ASSERT_EQ(got_low.has_value(), low >= 0);
        if (!got) break;
        ASSERT_EQ(*got, at(want));
        ASSERT_EQ(*got_low, at(low));
        Vma v{.start = *got, .end = *got + static_cast<uint64_t>(len) * kPage, .prot = rnd(4)};
        int kind = rnd(2);
        int64_t offset = static_cast<int64_t>(static_cast<uint64_t>(want + rnd(2)) * kPage);  // often continues a neighbour's
        if (kind) {
          v.file = file;
          v.offset = offset;
        }
        for (int i = 0; i < len; i++)
          m.pages[want + i] = {true, v.prot, kind, offset + i * static_cast<int64_t>(kPage), false};
        list.insert(v);
        break;
      }
      case 2: {  // remove
        size_t before = list.size(), cuts = list.cuts(r);
        auto gone = list.remove(r);
        ASSERT_EQ(list.size() + gone.size(), before + cuts);
        uint64_t bytes = 0;
        for (auto& v : gone) {
          ASSERT_GE(v.start, r.start);
          ASSERT_LE(v.end, r.end);
          bytes += v.length();
        }
        uint64_t expected = 0;
        for (int i = a; i < b; i++) {
          expected += m.pages[i].used ? kPage : 0;
          m.pages[i].used = false;
        }
        ASSERT_EQ(bytes, expected);
        break;
      }
      case 3: {  // protect, and lock
        int prot = rnd(4);
        bool locked = rnd(2);
        list.change(r, [&](Vma& v) {
          v.prot = prot;
          v.locked = locked;
        });
        for (int i = a; i < b; i++)
          if (m.pages[i].used) {
            m.pages[i].prot = prot;
            m.pages[i].locked = locked;
          }
        break;
      }
      case 4: {  // take out and put back
        auto pieces = list.copy(r);
        auto gone = list.remove(r);
        ASSERT_EQ(pieces.size(), gone.size());
        for (auto& v : gone) list.insert(std::move(v));
        ASSERT_EQ(list.is_gap(r), m.free(a, b));
        break;
      }
    }
    if (step % 16 == 0) {
      ASSERT_NO_FATAL_FAILURE(expect_same(list, m));
    }
    bool covered = true;
    for (int i = a; i < b; i++) covered = covered && m.pages[i].used && (m.pages[i].prot & PROT_READ);
    ASSERT_EQ(list.covered(r, PROT_READ), covered);
  }
}

TEST(VmaList, BlockedRangesAreSkippedAndFoundAgainLater) {
  VmaList list;
  Range in{at(0), at(10)};
  Range blocked[] = {{at(8), at(9)}};
  EXPECT_EQ(list.find_gap_top_down(2 * kPage, kPage, in, blocked), at(6));
  list.insert({.start = at(6), .end = at(8), .prot = 0});
  EXPECT_EQ(list.find_gap_top_down(2 * kPage, kPage, in, {}), at(8));
  EXPECT_EQ(list.find_gap_bottom_up(7 * kPage, in, {}), std::nullopt);
}

TEST(VmaList, KeepsAGapBelowWhatGrowsDown) {
  VmaList list;
  uint64_t stack = 64 << 20;
  list.insert({.start = stack, .end = stack + kPage, .prot = 3, .grows_down = true});
  EXPECT_EQ(list.find_gap_top_down(kPage, kPage, {0x10000, stack}, {}), stack - kStackGuardGap - kPage);
  EXPECT_FALSE(list.is_gap({stack - kPage, stack}));
  EXPECT_TRUE(list.is_gap({stack - kStackGuardGap - kPage, stack - kStackGuardGap}));
}

TEST(VmaList, KeepsRoomForPatchesFree) {
  VmaList list;
  uint64_t text = 64 << 20;
  list.insert({.start = text, .end = text + kPage, .prot = 5, .patch_room = true});
  uint64_t top = text + kPage + kPatchRoom + 2 * kPage;
  EXPECT_EQ(list.find_gap_top_down(2 * kPage, kPage, {0x10000, top}, {}), top - 2 * kPage);
  list.insert({.start = top - 2 * kPage, .end = top, .prot = 3});
  EXPECT_EQ(list.find_gap_top_down(2 * kPage, kPage, {0x10000, top}, {}), text - 2 * kPage);
}

}  // namespace
}  // namespace sentry::mm

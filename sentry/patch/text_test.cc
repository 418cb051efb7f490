// SPDX-License-Identifier: Apache-2.0
// Texts made of files: what is patched, where it goes, and that published pages stay as they are.
#include "sentry/patch/text.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "sentry/patch/store.h"
#include "sentry/sched/test_scheduler.h"

namespace sentry::patch {
namespace {

constexpr uint32_t kSlot = 112;

// Texts read files on the I/O pool.
void on_fiber(const std::function<void()>& f) { sched::on_scheduler(1u, f); }

class File {
 public:
  explicit File(uint64_t pages) : bytes_(pages * kPage, '\x90') {}
  void put(uint64_t at, std::initializer_list<unsigned> b) {
    for (unsigned v : b) bytes_[at++] = static_cast<char>(v);
  }
  // `mov $n,%eax; syscall; ret`: the site.
  uint64_t mov(uint64_t at, unsigned n) {
    put(at, {0xb8, n, 0, 0, 0, 0x0f, 0x05, 0xc3});
    return at + 5;
  }
  // `xor %eax,%eax; syscall; cmp $-4096,%rax; ret`
  uint64_t pun(uint64_t at) {
    put(at, {0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0xc3});
    return at + 2;
  }
  int fd() {
    if (!fd_.valid()) {
      fd_ = Fd(memfd_create("file", MFD_CLOEXEC));
      EXPECT_EQ(pwrite(fd_.get(), bytes_.data(), bytes_.size(), 0), static_cast<ssize_t>(bytes_.size()));
    }
    return fd_.get();
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  Fd fd_;
};

std::string page_at(const Text& t, int64_t offset) {
  std::string out(kPage, '\0');
  EXPECT_EQ(pread(t.fd(), out.data(), kPage, offset), static_cast<ssize_t>(kPage));
  return out;
}

// Traps often enough that all sure sites are patched.
Text::Verdict heat(Text& t, uint64_t site, uint64_t number, File& f) {
  Text::Verdict v{};
  for (uint32_t i = 0; i < kEnoughTraps; i++) v = t.trapped(site, number, f.fd());
  return v;
}

TEST(Text, PatchesAllSureSitesAtOnce) {
  File f(8);
  uint64_t a = f.mov(kPage + 100, 39), b = f.mov(6 * kPage + 5, 1), c = f.pun(2 * kPage + 77);
  on_fiber([&] {
    auto t = Text::create({0, 8 * kPage, 8 * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    EXPECT_EQ((*t)->trapped(a, 39, f.fd()), Text::Verdict::count);
    EXPECT_TRUE((*t)->pages().empty());
    EXPECT_EQ(heat(**t, a, 39, f), Text::Verdict::patched);
    EXPECT_EQ((*t)->trapped(b, 1, f.fd()), Text::Verdict::patched);
    EXPECT_EQ((*t)->trapped(c, 0, f.fd()), Text::Verdict::patched);
    auto pages = (*t)->pages();
    ASSERT_EQ(pages.size(), 1u);  // near enough to each other
    EXPECT_EQ(pages[0].at, kPage);
    EXPECT_EQ(pages[0].length, 6 * kPage);
    Counts n = (*t)->counts();
    EXPECT_EQ(n.mov, 2u);
    EXPECT_EQ(n.pun, 1u);
    EXPECT_EQ(n.pages, 6u);
    // Only the patched bytes differ.
    size_t different = 0;
    for (uint64_t p = 0; p < 6; p++) {
      std::string copy = page_at(**t, pages[0].offset + static_cast<int64_t>(p * kPage));
      for (uint64_t i = 0; i < kPage; i++) different += copy[i] != f.bytes()[(p + 1) * kPage + i];
    }
    EXPECT_LE(different, 5u + 5u + 2u);
    EXPECT_EQ(page_at(**t, pages[0].offset)[100], '\xe9');
    EXPECT_EQ(page_at(**t, pages[0].offset).substr(105, 2), "\x0f\x05");  // still there for who jumps to it
  });
}

TEST(Text, TrampolinesLieBehindTheImageAndKnowTheirSites) {
  File f(4);
  uint64_t a = f.mov(100, 39), c = f.pun(2 * kPage);
  on_fiber([&] {
    Extent e{0, 4 * kPage, 9 * kPage};
    auto t = Text::create(e, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, a, 39, f);
    auto rooms = (*t)->rooms();
    ASSERT_FALSE(rooms.empty());
    for (const Piece& r : rooms) {
      EXPECT_GE(r.at, e.end);
      EXPECT_LE(r.end(), e.end + kRoom);
      EXPECT_EQ(r.at % kPage, 0u);
    }
    // The jump in the patched page leads to a trampoline that belongs to the site.
    std::string page = page_at(**t, (*t)->page_of(a)->offset);
    int32_t rel;
    memcpy(&rel, &page[a - 4], 4);
    auto o = (*t)->origin(a + static_cast<uint64_t>(rel));
    ASSERT_TRUE(o.has_value());
    EXPECT_EQ(o->site, a);
    EXPECT_EQ(o->number, 39u);
    EXPECT_EQ((*t)->origin(a + static_cast<uint64_t>(rel) + trampoline_length(Form::mov) - 1)->site, a);
    page = page_at(**t, (*t)->page_of(c)->offset);
    memcpy(&rel, &page[c % kPage + 1], 4);
    auto p = (*t)->origin(c + 5 + static_cast<uint64_t>(rel));
    ASSERT_TRUE(p.has_value());
    EXPECT_EQ(p->site, c);
    EXPECT_FALSE(p->number.has_value());
    EXPECT_FALSE((*t)->origin(e.end - 1).has_value());
  });
}

TEST(Text, OtherSitesArePatchedByThemselvesInANewCopy) {
  File f(4);
  uint64_t a = f.mov(100, 39);
  f.put(200, {0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0x01, 0, 0});  // mov %edi,%eax; syscall; cmp $256,%rax
  uint64_t other = 202;
  on_fiber([&] {
    auto t = Text::create({0, 4 * kPage, 4 * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, a, 39, f);
    auto before = *(*t)->page_of(a);
    std::string was = page_at(**t, before.offset);
    Text::Verdict v{};
    for (uint32_t i = 0; i < kEnoughOfOne; i++) v = (*t)->trapped(other, 7, f.fd());
    EXPECT_EQ(v, Text::Verdict::patched);
    auto after = *(*t)->page_of(a);
    EXPECT_NE(after.offset, before.offset);
    EXPECT_EQ(page_at(**t, before.offset), was);  // who has it keeps it
    std::string now = page_at(**t, after.offset);
    EXPECT_EQ(now.substr(100, 7), was.substr(100, 7));
    EXPECT_EQ(now[202], '\xe9');
    EXPECT_EQ(now.substr(204, 3), was.substr(204, 3));
  });
}

TEST(Text, WhatCannotBePatchedIsToldOnce) {
  File f(2);
  uint64_t a = f.mov(100, 39);
  f.put(300, {0x0f, 0x05, 0x48, 0x89, 0xc3});  // would jump backwards
  on_fiber([&] {
    auto t = Text::create({0, 2 * kPage, 2 * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, a, 39, f);
    for (uint32_t i = 1; i < kEnoughOfOne; i++) EXPECT_EQ((*t)->trapped(300, 7, f.fd()), Text::Verdict::count);
    EXPECT_EQ((*t)->trapped(300, 7, f.fd()), Text::Verdict::unfit);
    EXPECT_EQ((*t)->trapped(300, 7, f.fd()), Text::Verdict::unfit);
    EXPECT_EQ((*t)->counts().unfit, 1u);
    EXPECT_EQ((*t)->trapped(5 * kPage, 7, f.fd()), Text::Verdict::unfit);  // not in this text
  });
}

TEST(Text, SitesAcrossPagesAreLeftAlone) {
  File f(4);
  uint64_t a = f.mov(100, 39);
  uint64_t across = f.mov(2 * kPage - 3, 1);   // the mov's bytes lie in two pages
  uint64_t inside = f.mov(3 * kPage - 5, 1);   // only the `syscall` is in the next one
  on_fiber([&] {
    auto t = Text::create({0, 4 * kPage, 4 * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, a, 39, f);
    EXPECT_NE((*t)->trapped(across, 1, f.fd()), Text::Verdict::patched);
    EXPECT_EQ((*t)->trapped(inside, 1, f.fd()), Text::Verdict::patched);
    EXPECT_EQ((*t)->page_of(inside)->at, 2 * kPage);
  });
}

TEST(Text, APunIntoTheImageIsNone) {
  constexpr uint64_t pages = 6 << 8;  // 6 MiB: the near puns of its beginning lie inside
  File f(pages);
  uint64_t a = f.mov(100, 39), inside = f.pun(kPage), outside = f.pun((pages - 2) * kPage);
  on_fiber([&] {
    auto t = Text::create({0, pages * kPage, pages * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, a, 39, f);
    EXPECT_NE((*t)->trapped(inside, 0, f.fd()), Text::Verdict::patched);
    EXPECT_EQ((*t)->trapped(outside, 0, f.fd()), Text::Verdict::patched);
  });
}

TEST(Text, ManySitesOfOnePage) {
  File f(64);
  std::vector<uint64_t> sites;
  for (uint64_t at = 0; at + 16 < 64 * kPage; at += 16) sites.push_back(f.mov(at, 39));
  on_fiber([&] {
    auto t = Text::create({0, 64 * kPage, 64 * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, sites[0], 39, f);
    // The room for trampolines is bounded; what is in it overlaps nothing.
    EXPECT_GT((*t)->counts().mov, 3000u);
    for (const Piece& r : (*t)->rooms()) EXPECT_LE(r.length, kRoom);
  });
}

TEST(Text, NobodyCanWriteToIt) {
  File f(2);
  uint64_t a = f.mov(100, 39);
  on_fiber([&] {
    auto t = Text::create({0, 2 * kPage, 2 * kPage}, kSlot);
    ASSERT_TRUE(t.ok());
    heat(**t, a, 39, f);
    char c = 0;
    EXPECT_EQ(pwrite((*t)->fd(), &c, 1, 0), -1);
    EXPECT_EQ(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, (*t)->fd(), 0), MAP_FAILED);
    void* p = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, (*t)->fd(), 0);
    ASSERT_NE(p, MAP_FAILED);
    EXPECT_EQ(mprotect(p, kPage, PROT_READ | PROT_WRITE), -1);
    munmap(p, kPage);
    EXPECT_EQ(ftruncate((*t)->fd(), 0), -1);
  });
}

TEST(Text, StrangeExtentsAreRefused) {
  EXPECT_FALSE(Text::create({kPage, kPage, kPage}, kSlot).ok());
  EXPECT_FALSE(Text::create({0, 2 * kPage, kPage}, kSlot).ok());
  EXPECT_FALSE(Text::create({0, kPage + 1, 2 * kPage}, kSlot).ok());
  EXPECT_FALSE(Text::create({0, kMaxText + kPage, kMaxText + kPage}, kSlot).ok());
}

TEST(Store, SharesByContentsAndDomain) {
  Store s;
  Extent e{0, kPage, kPage};
  Domain root{1, 0, ~0ull}, user{1, 1000, 0}, elsewhere{2, 0, ~0ull};
  EXPECT_FALSE(s.get({1}, root, e).ok());  // not enabled
  s.enable(kSlot);
  auto a = s.get({1}, root, e);
  ASSERT_TRUE(a.ok());
  auto same = s.get({1}, root, e), other_user = s.get({1}, user, e), other_container = s.get({1}, elsewhere, e), other = s.get({2}, root, e);
  EXPECT_EQ(same->get(), a->get());
  EXPECT_NE(other_user->get(), a->get());
  EXPECT_NE(other_container->get(), a->get());
  EXPECT_NE(other->get(), a->get());
  EXPECT_FALSE(s.get({1}, root, {0, kPage, 2 * kPage}).ok());  // mapped otherwise
  EXPECT_FALSE(s.find({1}, root, {0, kPage, 2 * kPage}));
  EXPECT_FALSE(s.find({3}, root, e));
  EXPECT_FALSE(s.get({4}, Domain{}, e).ok());
}

TEST(Store, ForgetsTheOldestThatNobodyUses) {
  Store s;
  s.enable(kSlot);
  Extent e{0, kPage, kPage};
  Domain d{1, 0, 0};
  auto first = s.get({1}, d, e);
  Ref<Text> held = *first;
  for (uint64_t i = 2; i < 400; i++) ASSERT_TRUE(s.get({i}, d, e).ok());
  EXPECT_EQ(s.find({1}, d, e).get(), held.get());
  EXPECT_FALSE(s.find({2}, d, e));
  EXPECT_TRUE(s.find({399}, d, e));
}

// Between text and its room may lie more zeroes than a jump reaches.
TEST(Text, AnImageOfGigabytesIsLeftAlone) {
  on_fiber([] {
    EXPECT_TRUE(Text::create({0, 4 * kPage, 1ull << 30}, kSlot).ok());
    auto t = Text::create({0, 4 * kPage, 3ull << 30}, kSlot);
    ASSERT_FALSE(t.ok());
    EXPECT_EQ(t.error(), kEINVAL);
  });
}

}  // namespace
}  // namespace sentry::patch

// SPDX-License-Identifier: Apache-2.0
// AddressSpace over a host made of a table of pages: the list must equal that table whatever happens. The functions of
// platform::Context and Space that sentry/mm calls are defined here.
#include "sentry/mm/address_space.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <deque>
#include <map>
#include <random>
#include <set>

namespace sentry::platform {

constexpr uint64_t kPage = kPageSize;

struct HostPage {
  int prot;
  int fd;          // -1: anonymous
  bool shared;
  int64_t offset;  // of a file
  friend bool operator==(const HostPage&, const HostPage&) = default;
};

struct Space::Impl {
  std::map<uint64_t, HostPage> pages;
  std::set<uint64_t> filled;  // by MADV_POPULATE
  int fail_next = 0;       // errno for the next call
  int failures = 0;
  bool killed = false;
  static Ref<Space> make() {
    auto s = adopt_ref(new Space);
    s->impl_ = std::make_unique<Impl>();
    return s;
  }

  int64_t perform(const MemoryCall& c) {
    if (fail_next) {
      failures++;
      return -std::exchange(fail_next, 0);
    }
    uint64_t end = c.address + c.length;
    auto mapped = [&](uint64_t a) { return pages.count(a) != 0; };
    switch (c.op) {
      case MemoryOp::map_anonymous:
      case MemoryOp::map_file:
        for (uint64_t a = c.address; a < end; a += kPage)
          if ((c.flags & MAP_FIXED_NOREPLACE) && mapped(a)) return -EEXIST;
        for (uint64_t a = c.address; a < end; a += kPage) {
          bool file = c.op == MemoryOp::map_file;
          pages[a] = {c.prot, file ? c.host_fd : -1, (c.flags & MAP_TYPE) == MAP_SHARED,
                      file ? c.offset + static_cast<int64_t>(a - c.address) : 0};
        }
        return static_cast<int64_t>(c.address);
      case MemoryOp::unmap:
        pages.erase(pages.lower_bound(c.address), pages.lower_bound(end));
        return 0;
      case MemoryOp::protect:
        for (uint64_t a = c.address; a < end; a += kPage) {
          if (!mapped(a)) return -ENOMEM;
          pages[a].prot = c.prot;
        }
        return 0;
      case MemoryOp::advise:
        for (uint64_t a = c.address; a < end; a += kPage)
          if (c.flags == MADV_POPULATE_READ || c.flags == MADV_POPULATE_WRITE) filled.insert(a);
        return 0;
      case MemoryOp::remap: {
        std::vector<HostPage> old;
        for (uint64_t a = c.address; a < end; a += kPage) {
          if (!mapped(a)) return -EFAULT;
          old.push_back(pages[a]);
        }
        pages.erase(pages.lower_bound(c.address), pages.lower_bound(end));
        if (old.empty()) return -EINVAL;
        for (uint64_t i = 0; i * kPage < c.new_length; i++) {
          HostPage p = i < old.size() ? old[i] : old.back();
          if (p.fd >= 0) p.offset = old[0].offset + static_cast<int64_t>(i * kPage);
          pages[c.new_address + i * kPage] = p;
        }
        return static_cast<int64_t>(c.new_address);
      }
    }
    return -ENOSYS;
  }
};

struct Context::Impl {
  std::deque<std::pair<uint64_t, MemoryCall>> queue;
  uint64_t queued = 0, completed = 0;
  arch::Registers regs{};
  static Ref<Context> make(Space& s) {
    auto c = adopt_ref(new Context);
    c->impl_ = std::make_unique<Impl>();
    c->space_ = &s;
    return c;
  }
};

// What resume() does first: returns the error of a failed call.
int run_queue(Context& c) {
  int error = 0;
  auto& q = c.impl().queue;
  while (!q.empty()) {
    int64_t r = c.space().impl().perform(q.front().second);
    c.impl().completed = q.front().first;
    q.pop_front();
    if (r < 0) error = static_cast<int>(-r);
  }
  return error;
}

Context::Context() = default;
Context::~Context() = default;
Space::Space() = default;
Space::~Space() = default;
Result<void> Context::queue_memory_call(const MemoryCall& call, uint64_t* stamp) {
  *stamp = ++impl_->queued;
  impl_->queue.push_back({*stamp, call});
  return {};
}
Result<uint64_t> Context::memory_call(const MemoryCall& call) {
  run_queue(*this);
  int64_t r = space_->impl().perform(call);
  if (r < 0) return Errno(static_cast<int>(-r));
  return static_cast<uint64_t>(r);
}
Result<void> Context::memory_calls(std::span<const MemoryCall> calls) {
  for (const MemoryCall& c : calls) TRY(memory_call(c));
  return {};
}
uint64_t Context::completed_stamp() const { return impl_->completed; }
Result<uint32_t> Context::load32(uint64_t) {
  run_queue(*this);
  return kEFAULT;
}
uint64_t Context::stack_pointer() { return 0; }
uint64_t Context::instruction_pointer() { return impl_->regs.rip; }
arch::Registers Context::registers() { return impl_->regs; }
void Context::set_registers(const arch::Registers& regs, bool) { impl_->regs = regs; }
Result<Ref<Context>> Context::fork(Birthday) {
  EXPECT_TRUE(impl_->queue.empty());
  auto s = Space::Impl::make();
  s->impl().pages = space_->impl().pages;
  static std::deque<Ref<Space>> all;  // a context does not keep its space
  all.push_back(s);
  return Impl::make(*s);
}
bool Space::gone() const { return impl_->killed; }
void Space::kill() { impl_->killed = true; }
uint64_t Space::cpu_time() { return 0; }
int Space::host_pid() const { return 1; }
Result<void> Space::pages_present(std::span<const uint64_t> addresses, std::span<bool> present, ZeroPage) {
  for (size_t i = 0; i < addresses.size(); i++) present[i] = impl_->filled.count(addresses[i]) != 0;
  return {};
}
Result<size_t> Space::read_remote(uint64_t, void*, size_t n) { return n; }
Result<size_t> Space::write_remote(uint64_t, const void*, size_t n) { return n; }

}  // namespace sentry::platform

namespace sentry::mm {
namespace {

using platform::kPage;
using Lock = AddressSpace::Lock;

class TestFile : public Mappable {
 public:
  explicit TestFile(int fd) : fd_(fd) {}
  Result<MapFd> map_fd(bool writable) override {
    if (writable) gave_writable = true;
    return MapFd{fd_, static_cast<uint64_t>(fd_), 0};
  }
  uint64_t device() const override { return 8; }
  uint64_t inode_number() const override { return static_cast<uint64_t>(fd_); }
  std::string path() const override { return "/file"; }
  bool gave_writable = false;

 private:
  int fd_;
};

struct AddressSpaceTest : ::testing::Test {
  Ref<platform::Space> host = platform::Space::Impl::make();
  Ref<platform::Context> t1 = platform::Context::Impl::make(*host), t2 = platform::Context::Impl::make(*host);
  Ref<AddressSpace> mm = AddressSpace::create(*host);
  Ref<TestFile> file = make_ref<TestFile>(7);

  MapRequest anonymous(uint64_t len, int prot = PROT_READ | PROT_WRITE, int flags = 0, uint64_t at = 0) {
    MapRequest r;
    r.address = at;
    r.length = len;
    r.prot = prot;
    r.flags = MAP_PRIVATE | MAP_ANONYMOUS | flags;
    return r;
  }
  MapRequest of_file(uint64_t len, int prot, int flags, bool writable, int64_t offset = 0, uint64_t at = 0) {
    MapRequest r;
    r.address = at;
    r.length = len;
    r.prot = prot;
    r.flags = flags;
    r.file = file;
    r.file_writable = writable;
    r.offset = offset;
    return r;
  }
  uint64_t must_map(platform::Context& by, const MapRequest& r) {
    auto a = mm->map(by, r);
    EXPECT_TRUE(a.ok()) << (a.ok() ? 0 : a.error().value());
    return a.ok() ? *a : 0;
  }
  // The application goes on.
  int64_t run(platform::Context& by, int64_t result = 0) {
    int e = platform::run_queue(by);
    return e ? mm->on_memory_call_failed(by, e) : result;
  }
  void expect_equal(AddressSpace& space, platform::Space& h) {
    std::map<uint64_t, platform::HostPage> want;
    for (const Vma& v : space.list())
      for (uint64_t a = v.start; a < v.end; a += kPage) {
        int fd = -1;
        int64_t offset = 0;
        if (v.file) {
          fd = v.file->map_fd(v.shared && (v.max_prot & PROT_WRITE)).value().fd;
          offset = v.offset + static_cast<int64_t>(a - v.start);
        }
        want[a] = {v.prot, fd, v.shared, offset};
      }
    ASSERT_EQ(want.size(), h.impl().pages.size());
    ASSERT_TRUE(want == h.impl().pages);
  }
};

#define EXPECT_ERRNO(e, expr)               \
  do {                                      \
    auto result_ = (expr);                  \
    ASSERT_FALSE(result_.ok());             \
    EXPECT_EQ(result_.error().value(), e);  \
  } while (0)

TEST_F(AddressSpaceTest, MapAndUnmapOnlyQueue) {
  uint64_t a = must_map(*t1, anonymous(3 * kPage));
  EXPECT_EQ(t1->impl().queue.size(), 1u);
  EXPECT_TRUE(host->impl().pages.empty());
  run(*t1);
  EXPECT_EQ(host->impl().pages.size(), 3u);
  EXPECT_TRUE(mm->unmap(*t1, a + kPage, kPage).ok());
  EXPECT_FALSE(mm->is_mapped(a, 3 * kPage, PROT_READ));
  run(*t1);
  expect_equal(*mm, *host);
  EXPECT_EQ(must_map(*t1, anonymous(kPage)), a + kPage);
}

TEST_F(AddressSpaceTest, ARangeIsNotReusedBeforeItsUnmapIsDone) {
  uint64_t a = must_map(*t1, anonymous(kPage));
  run(*t1);
  ASSERT_TRUE(mm->unmap(*t1, a, kPage).ok());  // t1 has not run yet
  uint64_t b = must_map(*t2, anonymous(kPage));
  EXPECT_NE(a, b);
  EXPECT_EQ(run(*t2), 0);
  run(*t1);
  uint64_t c = must_map(*t2, anonymous(kPage));
  EXPECT_EQ(a, c);
  run(*t2);
  expect_equal(*mm, *host);
}

TEST_F(AddressSpaceTest, FixedMappingsOfTheManPage) {
  uint64_t a = must_map(*t1, anonymous(4 * kPage));
  run(*t1);
  EXPECT_ERRNO(EEXIST, mm->map(*t1, anonymous(kPage, PROT_READ, MAP_FIXED_NOREPLACE, a + kPage)));
  EXPECT_EQ(must_map(*t1, anonymous(2 * kPage, PROT_READ, MAP_FIXED, a + kPage)), a + kPage);
  run(*t1);
  expect_equal(*mm, *host);
  EXPECT_EQ(mm->list().size(), 3u);
  EXPECT_ERRNO(EINVAL, mm->map(*t1, anonymous(kPage, 0, MAP_FIXED, a + 1)));
  EXPECT_ERRNO(EPERM, mm->map(*t1, anonymous(kPage, 0, MAP_FIXED, 0)));
  EXPECT_ERRNO(ENOMEM, mm->map(*t1, anonymous(kPage, 0, MAP_FIXED, platform::kAppLimit)));
  EXPECT_ERRNO(ENOMEM, mm->map(*t1, anonymous(kPage, 0, MAP_FIXED, 0x7fff00000000)));
  EXPECT_ERRNO(ENOMEM, mm->map(*t1, anonymous(UINT64_MAX)));
  EXPECT_ERRNO(EINVAL, mm->map(*t1, anonymous(0)));
  EXPECT_ERRNO(EOVERFLOW, mm->map(*t1, of_file(2 * kPage, PROT_READ, MAP_PRIVATE, false, INT64_MAX - 4095)));
}

TEST_F(AddressSpaceTest, AReadOnlyFileNeverGivesAWritableDescriptor) {
  uint64_t a = must_map(*t1, of_file(kPage, PROT_READ, MAP_SHARED, false));
  EXPECT_GE(a, platform::kSharedBase);
  EXPECT_ERRNO(EACCES, mm->map(*t1, of_file(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, false)));
  EXPECT_ERRNO(EACCES, mm->protect(*t1, a, kPage, PROT_READ | PROT_WRITE));
  uint64_t p = must_map(*t1, of_file(kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, true));
  EXPECT_LT(p, platform::kSharedBase);
  EXPECT_FALSE(file->gave_writable);
  uint64_t w = must_map(*t1, of_file(kPage, PROT_READ, MAP_SHARED, true));
  EXPECT_TRUE(file->gave_writable);
  EXPECT_TRUE(mm->protect(*t1, w, kPage, PROT_READ | PROT_WRITE).ok());
  MapRequest r = of_file(kPage, PROT_READ, MAP_PRIVATE, false);
  r.file_noexec = true;
  uint64_t n = must_map(*t1, r);
  EXPECT_ERRNO(EACCES, mm->protect(*t1, n, kPage, PROT_EXEC));
  r.prot = PROT_EXEC;
  EXPECT_ERRNO(EPERM, mm->map(*t1, r));
}

TEST_F(AddressSpaceTest, ProtectAppliesUpToTheHole) {
  uint64_t a = must_map(*t1, anonymous(4 * kPage));
  ASSERT_TRUE(mm->unmap(*t1, a + 2 * kPage, kPage).ok());
  run(*t1);
  EXPECT_ERRNO(ENOMEM, mm->protect(*t1, a, 4 * kPage, PROT_READ));
  run(*t1);
  expect_equal(*mm, *host);
  EXPECT_FALSE(mm->is_mapped(a, kPage, PROT_WRITE));
  EXPECT_TRUE(mm->is_mapped(a + 3 * kPage, kPage, PROT_WRITE));
  EXPECT_ERRNO(EINVAL, mm->protect(*t1, a + 1, kPage, PROT_READ));
  EXPECT_ERRNO(EINVAL, mm->protect(*t1, a, kPage, 0x100));
  EXPECT_ERRNO(ENOMEM, mm->protect(*t1, a, UINT64_MAX - 4096, PROT_READ));
  EXPECT_TRUE(mm->protect(*t1, a, 0, PROT_READ).ok());
}

TEST_F(AddressSpaceTest, BrkGrowsShrinksAndAnswersTheOldEndOnFailure) {
  mm->set_brk_start(0x10000000);
  EXPECT_EQ(mm->brk(*t1, 0).value(), 0x10000000u);
  EXPECT_EQ(mm->brk(*t1, 0x10000000 + 5000).value(), 0x10000000u + 5000);
  run(*t1);
  expect_equal(*mm, *host);
  EXPECT_EQ(mm->list()[0].name, "[heap]");
  EXPECT_EQ(mm->list()[0].length(), 2 * kPage);
  host->impl().fail_next = ENOMEM;
  EXPECT_EQ(mm->brk(*t1, 0x10000000 + 50000).value(), 0x10000000u + 50000);
  EXPECT_EQ(run(*t1), 0x10000000 + 5000);
  EXPECT_EQ(mm->brk(*t1, 0).value(), 0x10000000u + 5000);
  expect_equal(*mm, *host);
  must_map(*t1, anonymous(kPage, PROT_READ, MAP_FIXED, 0x10000000 + 8 * kPage));
  run(*t1);
  EXPECT_EQ(mm->brk(*t1, 0x10000000 + 9 * kPage).value(), 0x10000000u + 5000);
  EXPECT_EQ(mm->brk(*t1, 0x10000000 + 100).value(), 0x10000000u + 100);
  run(*t1);
  expect_equal(*mm, *host);
  Limits l;
  l.data = 3 * kPage;
  mm->set_limits(l);
  EXPECT_EQ(mm->brk(*t1, 0x10000000 + 4 * kPage).value(), 0x10000000u + 100);
}

TEST_F(AddressSpaceTest, LimitsOfAddressSpaceDataAndLockedMemory) {
  Limits l;
  l.as = 8 * kPage;
  l.data = 4 * kPage;
  l.memlock = 2 * kPage;
  mm->set_limits(l);
  uint64_t a = must_map(*t1, anonymous(4 * kPage));
  EXPECT_ERRNO(ENOMEM, mm->map(*t1, anonymous(kPage)));
  uint64_t b = must_map(*t1, anonymous(4 * kPage, PROT_READ));
  EXPECT_ERRNO(ENOMEM, mm->map(*t1, anonymous(kPage, PROT_READ)));
  EXPECT_ERRNO(ENOMEM, mm->protect(*t1, b, kPage, PROT_READ | PROT_WRITE));
  EXPECT_TRUE(mm->lock_range(*t1, a, 2 * kPage, Lock::now).ok());
  EXPECT_ERRNO(ENOMEM, mm->lock_range(*t1, a + 2 * kPage, kPage, Lock::now));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, a, kPage, MADV_DONTNEED));
  EXPECT_TRUE(mm->lock_range(*t1, a, kPage, Lock::off).ok());
  EXPECT_TRUE(mm->advise(*t1, a, kPage, MADV_DONTNEED).ok());
  EXPECT_TRUE(mm->lock_range(*t1, a + 3 * kPage, kPage, Lock::now).ok());
}

TEST_F(AddressSpaceTest, LockedMemoryIsFilled) {
  auto is_there = [&](uint64_t a) { return mm->mincore(*t1, a, kPage).value() == std::vector<unsigned char>{1}; };
  uint64_t a = must_map(*t1, anonymous(4 * kPage));
  ASSERT_TRUE(mm->lock_range(*t1, a + kPage, kPage, Lock::now).ok());
  ASSERT_TRUE(mm->lock_range(*t1, a + 2 * kPage, kPage, Lock::on_fault).ok());
  EXPECT_FALSE(is_there(a));
  EXPECT_TRUE(is_there(a + kPage));
  EXPECT_FALSE(is_there(a + 2 * kPage));
  ASSERT_TRUE(mm->lock_all(*t1, MCL_CURRENT | MCL_FUTURE).ok());
  EXPECT_TRUE(is_there(a));
  EXPECT_TRUE(is_there(a + 2 * kPage));
  EXPECT_TRUE(is_there(must_map(*t1, anonymous(kPage))));
  ASSERT_TRUE(mm->lock_all(*t1, MCL_FUTURE | MCL_ONFAULT).ok());
  EXPECT_FALSE(is_there(must_map(*t1, anonymous(kPage))));
}

TEST_F(AddressSpaceTest, SealedMemoryStaysAsItIs) {
  uint64_t a = must_map(*t1, anonymous(6 * kPage, PROT_READ)), top = a + 6 * kPage;
  EXPECT_ERRNO(EINVAL, mm->seal(*t1, a + 1, kPage));
  EXPECT_ERRNO(ENOMEM, mm->seal(*t1, a, 1 << 30));
  ASSERT_TRUE(mm->seal(*t1, a + 2 * kPage, 2 * kPage).ok());
  EXPECT_ERRNO(EPERM, mm->unmap(*t1, a, 6 * kPage));
  EXPECT_TRUE(mm->is_mapped(a, 6 * kPage, PROT_READ));
  MapRequest over = anonymous(4 * kPage);
  over.address = a;
  over.flags |= MAP_FIXED;
  EXPECT_ERRNO(EPERM, mm->map(*t1, over));
  EXPECT_ERRNO(EPERM, mm->remap(*t1, a + 2 * kPage, kPage, 2 * kPage, MREMAP_MAYMOVE, 0));
  EXPECT_ERRNO(EPERM, mm->remap(*t1, a + 2 * kPage, 2 * kPage, kPage, 0, 0));
  EXPECT_ERRNO(EPERM, mm->advise(*t1, a + 2 * kPage, kPage, MADV_DONTNEED));
  EXPECT_TRUE(mm->advise(*t1, a + 2 * kPage, kPage, MADV_WILLNEED).ok());
  // What lies below the sealed part is done.
  EXPECT_ERRNO(EPERM, mm->protect(*t1, a, 6 * kPage, PROT_READ | PROT_WRITE));
  EXPECT_TRUE(mm->is_mapped(a, 2 * kPage, PROT_WRITE));
  EXPECT_FALSE(mm->is_mapped(a + 2 * kPage, kPage, PROT_WRITE));
  EXPECT_TRUE(mm->unmap(*t1, a, 2 * kPage).ok());
  EXPECT_TRUE(mm->unmap(*t1, top - 2 * kPage, 2 * kPage).ok());
}

TEST_F(AddressSpaceTest, RemapGrowsInPlaceMovesAndKeeps) {
  uint64_t a = must_map(*t1, anonymous(4 * kPage));
  ASSERT_TRUE(mm->unmap(*t1, a + 2 * kPage, 2 * kPage).ok());
  run(*t1);
  EXPECT_EQ(mm->remap(*t1, a, 2 * kPage, 3 * kPage, 0, 0).value(), a);
  run(*t1);
  expect_equal(*mm, *host);
  EXPECT_ERRNO(ENOMEM, mm->remap(*t1, a, kPage, 2 * kPage, 0, 0));
  uint64_t b = mm->remap(*t1, a, kPage, 8 * kPage, MREMAP_MAYMOVE, 0).value();
  run(*t1);
  EXPECT_NE(a, b);
  expect_equal(*mm, *host);
  EXPECT_ERRNO(EFAULT, mm->remap(*t1, a, kPage, 2 * kPage, MREMAP_MAYMOVE, 0));
  EXPECT_ERRNO(EFAULT, mm->remap(*t1, b, 9 * kPage, 10 * kPage, MREMAP_MAYMOVE, 0));
  EXPECT_ERRNO(EINVAL, mm->remap(*t1, b, kPage, 0, MREMAP_MAYMOVE, 0));
  EXPECT_ERRNO(EINVAL, mm->remap(*t1, b, kPage, kPage, MREMAP_FIXED, a));
  EXPECT_ERRNO(EINVAL, mm->remap(*t1, b, 2 * kPage, 2 * kPage, MREMAP_FIXED | MREMAP_MAYMOVE, b + kPage));
  EXPECT_ERRNO(EINVAL, mm->remap(*t1, b, 0, kPage, MREMAP_MAYMOVE, 0));
  EXPECT_EQ(mm->remap(*t1, b, 8 * kPage, 2 * kPage, 0, 0).value(), b);
  run(*t1);
  EXPECT_EQ(mm->remap(*t1, b, 2 * kPage, 2 * kPage, MREMAP_FIXED | MREMAP_MAYMOVE, a + kPage).value(), a + kPage);
  run(*t1);
  expect_equal(*mm, *host);
  uint64_t c = mm->remap(*t1, a + kPage, kPage, kPage, MREMAP_MAYMOVE | 4, 0).value();
  run(*t1);
  EXPECT_TRUE(mm->is_mapped(a + kPage, kPage, PROT_WRITE));
  EXPECT_TRUE(mm->is_mapped(c, kPage, PROT_WRITE));
  expect_equal(*mm, *host);
  uint64_t s = must_map(*t1, of_file(2 * kPage, PROT_READ, MAP_SHARED, false, kPage));
  run(*t1);
  uint64_t twin = mm->remap(*t1, s + kPage, 0, kPage, MREMAP_MAYMOVE, 0).value();
  run(*t1);
  EXPECT_EQ(mm->find(twin)->offset, static_cast<int64_t>(2 * kPage));
  expect_equal(*mm, *host);
}

TEST_F(AddressSpaceTest, ForkLeavesOutAndWipes) {
  uint64_t a = must_map(*t1, anonymous(6 * kPage));
  must_map(*t1, of_file(2 * kPage, PROT_READ, MAP_PRIVATE, false));
  ASSERT_TRUE(mm->advise(*t1, a, kPage, MADV_DONTFORK).ok());
  ASSERT_TRUE(mm->advise(*t1, a + 2 * kPage, kPage, MADV_WIPEONFORK).ok());
  ASSERT_TRUE(mm->lock_range(*t1, a + 3 * kPage, kPage, Lock::now).ok());
  auto r = mm->fork(*t1, platform::Birthday::now);
  ASSERT_TRUE(r.ok());
  platform::run_queue(*r->context);
  expect_equal(*r->space, r->context->space());
  EXPECT_FALSE(r->space->is_mapped(a, kPage, 0));
  EXPECT_FALSE(r->space->find(a + 3 * kPage)->locked);
  EXPECT_EQ(mm->find(a + 3 * kPage)->locked, true);
  expect_equal(*mm, *host);
}

TEST_F(AddressSpaceTest, GrowsStacksDownToTheGuardGap) {
  uint64_t top = 0x40000000;
  must_map(*t1, anonymous(4 * kPage, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_GROWSDOWN, top));
  must_map(*t1, anonymous(kPage, PROT_READ, MAP_FIXED, top - (2 << 20)));
  run(*t1);
  platform::Fault f{SIGSEGV, 1, top - 100, 0, 14, 6};
  EXPECT_TRUE(mm->handle_fault(*t1, f));
  run(*t1);
  expect_equal(*mm, *host);
  EXPECT_TRUE(mm->is_mapped(top - kPage, kPage, PROT_WRITE));
  f.address = top - (1 << 20) + (16 << 10);
  EXPECT_TRUE(mm->handle_fault(*t1, f));
  run(*t1);
  f.address = top - (1 << 20) - 1;
  EXPECT_FALSE(mm->handle_fault(*t1, f));
  f.address = 0x1000;
  EXPECT_FALSE(mm->handle_fault(*t1, f));
  expect_equal(*mm, *host);
}

TEST_F(AddressSpaceTest, AdviceOfTheManPage) {
  uint64_t a = must_map(*t1, anonymous(4 * kPage));
  ASSERT_TRUE(mm->unmap(*t1, a + kPage, kPage).ok());
  run(*t1);
  EXPECT_ERRNO(ENOMEM, mm->advise(*t1, a, 3 * kPage, MADV_DONTNEED));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, a + 1, kPage, MADV_DONTNEED));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, a, kPage, 4711));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, a, kPage, 102));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, a, UINT64_MAX, MADV_NORMAL));
  EXPECT_TRUE(mm->advise(*t1, a, 0, MADV_NORMAL).ok());
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, a, kPage, MADV_REMOVE));
  uint64_t f = must_map(*t1, of_file(kPage, PROT_READ, MAP_PRIVATE, false));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, f, kPage, MADV_FREE));
  EXPECT_ERRNO(EINVAL, mm->advise(*t1, f, kPage, MADV_WIPEONFORK));
  EXPECT_ERRNO(EACCES, mm->advise(*t1, f, kPage, MADV_REMOVE));
}

TEST_F(AddressSpaceTest, FutexKeysOfSharedMemoryAreTheFiles) {
  uint64_t p = must_map(*t1, anonymous(kPage));
  uint64_t s1 = must_map(*t1, of_file(2 * kPage, PROT_READ, MAP_SHARED, false, 0));
  uint64_t s2 = must_map(*t1, of_file(kPage, PROT_READ, MAP_SHARED, false, kPage));
  EXPECT_TRUE(mm->futex_key(p, false)->is_private);
  EXPECT_EQ(mm->futex_key(s1 + kPage + 8, false).value(), mm->futex_key(s2 + 8, false).value());
  EXPECT_FALSE(mm->futex_key(s1, false).value() == mm->futex_key(s2, false).value());
  EXPECT_ERRNO(EFAULT, mm->futex_key(0x12340000, false));
}

TEST_F(AddressSpaceTest, AnUnmappedSharedFileIsLetGoAtOnce) {
  uint64_t a = must_map(*t1, of_file(kPage, PROT_READ, MAP_SHARED, true));
  run(*t1);
  EXPECT_GT(file->ref_count(), 1u);
  ASSERT_TRUE(mm->unmap(*t1, a, kPage).ok());
  EXPECT_EQ(file->ref_count(), 1u);
}

// Two threads, random calls, each call's host part done at once or later, some refused by the host.
TEST_F(AddressSpaceTest, TheListEqualsTheHostUnderRandomCalls) {
  std::mt19937 rng(11);
  auto rnd = [&](uint64_t n) { return rng() % n; };
  constexpr uint64_t kLow = 0x20000000;
  constexpr uint64_t kSpan = 64;
  mm->set_brk_start(kLow - 64 * kPage);
  uint64_t refused = 0;
  for (int step = 0; step < 60000; step++) {
    platform::Context& by = rnd(2) ? *t1 : *t2;
    platform::Context& other = &by == &*t1 ? *t2 : *t1;
    run(by);
    // Calls at given addresses could wait for the other thread, which only a fiber can.
    bool fixed = rnd(4) != 0;
    if (fixed) run(other);
    uint64_t at = kLow + rnd(kSpan) * kPage, len = (1 + rnd(8)) * kPage;
    if (rnd(40) == 0) host->impl().fail_next = ENOMEM;
    int error = 0;
    auto note = [&](const auto& r) { error = r.ok() ? 0 : r.error().value(); };
    switch (fixed ? rnd(9) : 9) {
      case 0:
        note(mm->map(by, anonymous(len, static_cast<int>(rnd(8)), MAP_FIXED, at)));
        break;
      case 1:
        note(mm->map(by, of_file(len, PROT_READ, MAP_PRIVATE | MAP_FIXED, false, static_cast<int64_t>(at - kLow), at)));
        break;
      case 2:
        note(mm->map(by, anonymous(len, PROT_READ, rnd(2) ? MAP_FIXED_NOREPLACE : 0, at)));
        break;
      case 3:
      case 4:
        note(mm->unmap(by, at, len));
        break;
      case 5:
        note(mm->protect(by, at, len, static_cast<int>(rnd(8))));
        break;
      case 6:
        note(mm->remap(by, at, len, (1 + rnd(8)) * kPage, MREMAP_MAYMOVE, 0));
        break;
      case 7:
        note(mm->remap(by, at, len, rnd(3) ? len : len + kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                       kLow + rnd(kSpan) * kPage));
        break;
      case 8:
        note(mm->brk(by, kLow - 64 * kPage + rnd(64) * kPage));
        break;
      default: {
        auto r = mm->map(by, rnd(2) ? anonymous(len) : of_file(len, PROT_READ, MAP_SHARED, true));
        note(r);
        if (r.ok() && rnd(2)) {
          run(by);
          note(mm->unmap(by, *r, len));
        }
      }
    }
    if (error) refused++;
    host->impl().fail_next = rnd(2) ? host->impl().fail_next : 0;
    if (step % 8 == 0) {
      run(*t1);
      run(*t2);
      ASSERT_NO_FATAL_FAILURE(expect_equal(*mm, *host)) << step;
    }
    if (step % 5000 == 4999) {  // start again, so that it does not fill up
      run(*t1);
      run(*t2);
      ASSERT_TRUE(mm->unmap(*t1, platform::kMinAddress, platform::kAppLimit - platform::kMinAddress).ok());
      host->impl().fail_next = 0;
      run(*t1);
      ASSERT_TRUE(host->impl().pages.empty());
      ASSERT_EQ(mm->total_bytes(), 0u);
    }
  }
  EXPECT_GT(host->impl().failures, 100);
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace sentry::mm

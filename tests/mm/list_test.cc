// SPDX-License-Identifier: Apache-2.0
// The sentry's list of mappings equals the host's, after random calls of several threads at once, and across forks.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <random>
#include <sstream>

#include "sentry/mm/address_space.h"
#include "tests/platform/harness.h"

namespace platform_test {
namespace {

constexpr uint64_t kPage = platform::kPageSize;

class FdMappable : public mm::Mappable {
 public:
  FdMappable(int ro, int rw) : ro_(ro), rw_(rw) {}
  Result<mm::MapFd> map_fd(bool writable) override {
    return writable ? mm::MapFd{rw_, key_ + 1, 0} : mm::MapFd{ro_, key_, 0};
  }
  uint64_t device() const override { return 1; }
  uint64_t inode_number() const override { return key_; }
  std::string path() const override { return "/file"; }

 private:
  int ro_, rw_;
  uint64_t key_ = mm::new_map_key() * 1000;
};

// "start-end prot" lines; neighbours with equal rights are one, whatever the reason for which either side keeps them apart.
class Lines {
 public:
  void add(uint64_t start, uint64_t end, const std::string& rights) {
    if (end_ == start && rights_ == rights) {
      end_ = end;
      return;
    }
    flush();
    start_ = start;
    end_ = end;
    rights_ = rights;
  }
  std::string text() {
    flush();
    return text_;
  }

 private:
  void flush() {
    std::ostringstream o;
    if (end_ != 0) o << std::hex << start_ << '-' << end_ << ' ' << rights_ << '\n';
    text_ += o.str();
    end_ = 0;
  }
  uint64_t start_ = 0, end_ = 0;
  std::string rights_, text_;
};

std::string of_list(const mm::AddressSpace& space) {
  Lines lines;
  for (const mm::Vma& v : space.list()) {
    std::string r = "----";
    if (v.prot & PROT_READ) r[0] = 'r';
    if (v.prot & PROT_WRITE) r[1] = 'w';
    if (v.prot & PROT_EXEC) r[2] = 'x';
    r[3] = v.shared ? 's' : 'p';
    lines.add(v.start, v.end, r);
  }
  return lines.text();
}

std::string of_host(int pid) {
  Lines lines;
  std::istringstream in(maps_of(pid));
  std::string line;
  while (std::getline(in, line)) {
    uint64_t start = std::stoull(line, nullptr, 16), end = std::stoull(line.substr(line.find('-') + 1), nullptr, 16);
    if (start < platform::kAppLimit) lines.add(start, end, line.substr(line.find(' ') + 1, 4));
  }
  return lines.text();
}

struct Process {
  explicit Process(World& w) {
    auto c = w.zygote().new_process();
    CHECK(c.ok());
    context = *c;
    context->set_fiber(sched::current());
    space = mm::AddressSpace::create(context->space());
  }
  RefOrNull<Context> context;
  RefOrNull<mm::AddressSpace> space;
};

// What the kernel's task loop does with queued calls before the application goes on.
// Whether the host refused one of them.
bool go_on(mm::AddressSpace& space, Context& c) {
  space.settle(c);
  int e = c.take_memory_call_error();
  if (e) (void)space.on_memory_call_failed(c, e);
  return e != 0;
}

struct Worker {
  Ref<mm::AddressSpace> space;
  Ref<Context> context;
  Ref<FdMappable> file;
  unsigned seed;
  int steps;
  bool one_by_one = false;  // as the calls of an application come, whose failures are told one at a time
  int done = 0, refused = 0, failed = 0;

  void run() {
    std::mt19937 rng(seed);
    auto rnd = [&](uint64_t n) { return rng() % n; };
    constexpr uint64_t kLow = 0x20000000, kSpan = 48;
    Context& by = *context;
    for (int i = 0; i < steps; i++) {
      uint64_t at = kLow + rnd(kSpan) * kPage, len = (1 + rnd(8)) * kPage;
      mm::MapRequest r;
      r.address = at;
      r.length = len;
      r.prot = static_cast<int>(rnd(8));
      r.flags = MAP_PRIVATE | MAP_ANONYMOUS;
      bool ok = true;
      switch (rnd(13)) {
        case 0:
        case 1:
          r.flags |= rnd(2) ? MAP_FIXED : MAP_FIXED_NOREPLACE;
          ok = space->map(by, r).ok();
          break;
        case 2:
          r.file = file;
          r.flags = MAP_PRIVATE | MAP_FIXED;
          r.offset = static_cast<int64_t>(rnd(4) * kPage);
          ok = space->map(by, r).ok();
          break;
        case 3: {
          r.file = rnd(2) ? RefOrNull<mm::Mappable>(file) : RefOrNull<mm::Mappable>();
          r.flags = MAP_SHARED | (r.file ? 0 : MAP_ANONYMOUS);
          r.file_writable = rnd(2);
          if (r.file && !r.file_writable) r.prot &= ~PROT_WRITE;
          auto a = space->map(by, r);
          ok = a.ok();
          if (ok && rnd(2)) {
            go_on(*space, by);
            ok = space->protect(by, *a, len, static_cast<int>(rnd(8))).ok();
          }
          if (a.ok() && rnd(4)) {
            go_on(*space, by);
            ok = space->unmap(by, *a, len).ok();
          }
          break;
        }
        case 4:
        case 5:
          ok = space->unmap(by, at, len).ok();
          break;
        case 6:
        case 7:
          ok = space->protect(by, at, len, static_cast<int>(rnd(8))).ok();
          break;
        case 8:
          ok = space->remap(by, at, len, (1 + rnd(8)) * kPage, MREMAP_MAYMOVE, 0).ok();
          break;
        case 9:
          ok = space->remap(by, at, len, rnd(2) ? len : len + kPage, MREMAP_MAYMOVE | MREMAP_FIXED, kLow + rnd(kSpan) * kPage).ok();
          break;
        case 10:
          ok = space->advise(by, at, len, rnd(2) ? MADV_DONTNEED : MADV_POPULATE_READ).ok();
          break;
        case 11:  // where the program says, below the zone of shared mappings or at its end
          r.file = rnd(2) ? RefOrNull<mm::Mappable>(file) : RefOrNull<mm::Mappable>();
          r.flags = MAP_SHARED | (r.file ? 0 : MAP_ANONYMOUS) | (rnd(4) ? MAP_FIXED : MAP_FIXED_NOREPLACE);
          r.file_writable = rnd(2);
          if (r.file && !r.file_writable) r.prot &= ~PROT_WRITE;
          ok = space->map(by, r).ok();
          if (ok && rnd(2)) {
            go_on(*space, by);
            ok = space->remap(by, at, len, len + rnd(3) * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, kLow + rnd(kSpan) * kPage).ok();
          }
          break;
        default: {  // the quick pair
          r.address = 0;
          auto a = space->map(by, r);
          ok = a.ok();
          if (rnd(2) || one_by_one) failed += go_on(*space, by);
          if (ok) ok = space->unmap(by, *a, len).ok();
        }
      }
      (ok ? done : refused)++;
      if (rnd(3) == 0) sched::yield();  // with the call still queued
      failed += go_on(*space, by);
    }
  }
};

class MmList : public testing::TestWithParam<platform::Mode> {
 protected:
  void SetUp() override {
    World::Options o;
    o.mode = GetParam();
    o.workers = 2;
    world = std::make_unique<World>(o);
    content = std::string(8 * kPage, 'x');
    ro = file_of(content, false);
    rw = file_of(content, true);
  }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
  std::string content;
  base::Fd ro, rw;
};
INSTANTIATE_TEST_SUITE_P(, MmList, testing::Values(platform::Mode::direct, platform::Mode::strict),
                         [](auto& i) { return i.param == platform::Mode::direct ? "direct" : "strict"; });

TEST_P(MmList, EqualsTheHostsUnderRandomCallsOfTwoThreads) {
  RefOrNull<mm::AddressSpace> space;
  RefOrNull<Context> first, second;
  auto file = make_ref<FdMappable>(ro.get(), rw.get());
  on_fiber([&] {
    Process p(*world);
    space = p.space;
    first = p.context;
    auto t = p.context->clone_thread();
    ASSERT_TRUE(t.ok());
    second = *t;
  });
  int steps = GetParam() == platform::Mode::direct ? 3000 : 1000;
  Worker a{space.get_ref(), first.get_ref(), file, 1, steps}, b{space.get_ref(), second.get_ref(), file, 2, steps};
  auto run = [](Worker& w) {
    on_fiber([&] {
      w.context->set_fiber(sched::current());
      w.run();
    });
  };
  std::thread other([&] { run(b); });
  run(a);
  other.join();
  EXPECT_GT(a.done, steps / 3);
  EXPECT_GT(b.done, steps / 3);
  EXPECT_GT(a.refused, 10);
  EXPECT_FALSE(space->space().gone());
  EXPECT_EQ(of_list(*space), of_host(space->space().host_pid()));
}

TEST_P(MmList, ForkCopiesListAndHostAlike) {
  on_fiber([&] {
    Process p(*world);
    auto file = make_ref<FdMappable>(ro.get(), rw.get());
    Worker w{p.space.get_ref(), p.context.get_ref(), file, 3, 300};
    w.run();
    Context& by = *p.context;
    mm::MapRequest r;
    r.length = 8 * kPage;
    r.prot = PROT_READ | PROT_WRITE;
    r.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint64_t at = p.space->map(by, r).value();
    ASSERT_TRUE(p.space->advise(by, at + kPage, kPage, MADV_DONTFORK).ok());
    ASSERT_TRUE(p.space->advise(by, at + 3 * kPage, kPage, MADV_WIPEONFORK).ok());
    uint64_t word = 4711;
    for (int i : {0, 3}) ASSERT_TRUE(by.copy_out_now(at + static_cast<uint64_t>(i) * kPage, &word, 8).ok());
    auto f = p.space->fork(by, platform::Birthday::now);
    ASSERT_TRUE(f.ok()) << f.error().name();
    f->context->set_fiber(sched::current());
    uint64_t seen = 1;
    ASSERT_TRUE(f->context->copy_in(&seen, at, 8).ok());
    EXPECT_EQ(seen, 4711u);
    ASSERT_TRUE(f->context->copy_in(&seen, at + 3 * kPage, 8).ok());
    EXPECT_EQ(seen, 0u);
    EXPECT_FALSE(f->context->copy_in(&seen, at + kPage, 8).ok());
    EXPECT_EQ(of_list(*f->space), of_host(f->space->space().host_pid()));
    EXPECT_EQ(of_list(*p.space), of_host(p.space->space().host_pid()));
    EXPECT_NE(of_list(*p.space), of_list(*f->space));
  });
}

// A host that has no more memory for this process: 0 pages more than it has, or no limit at all.
void limit_host(int pid, int64_t more_pages) {
  rlimit l{RLIM_INFINITY, RLIM_INFINITY};
  if (more_pages >= 0) {
    uint64_t pages = 0;
    std::ifstream("/proc/" + std::to_string(pid) + "/statm") >> pages;
    ASSERT_NE(pages, 0u);
    l.rlim_cur = (pages + static_cast<uint64_t>(more_pages)) * kPage;
  }
  ASSERT_EQ(prlimit(pid, RLIMIT_AS, &l, nullptr), 0);
}

TEST_P(MmList, EqualsTheHostsAlsoWhenTheHostRefuses) {
  on_fiber([&] {
    Process p(*world);
    auto file = make_ref<FdMappable>(ro.get(), rw.get());
    int refused_free = 0, refused_short = 0;
    for (unsigned round = 0; round < 60; round++) {
      const bool tight = round % 2;
      Worker w{p.space.get_ref(), p.context.get_ref(), file, 100 + round / 2, 60};
      w.one_by_one = true;
      limit_host(p.space->space().host_pid(), tight ? round % 5 : -1);
      w.run();
      (tight ? refused_short : refused_free) += w.refused + w.failed;
      ASSERT_FALSE(p.space->space().gone());
      ASSERT_EQ(of_list(*p.space), of_host(p.space->space().host_pid())) << round;
    }
    EXPECT_GT(refused_short, refused_free + 50) << "the control: the host refused more";
    // And it is good for something afterwards.
    limit_host(p.space->space().host_pid(), -1);
    mm::MapRequest r;
    r.length = 64 * kPage;
    r.prot = PROT_READ | PROT_WRITE;
    r.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint64_t at = p.space->map(*p.context, r).value();
    go_on(*p.space, *p.context);
    uint64_t word = 1;
    EXPECT_TRUE(p.context->copy_out_now(at + 63 * kPage, &word, 8).ok());
  });
}

// Generations: each forks, parent and child go their own ways, some start afresh as exec does; every list stays its host's.
TEST_P(MmList, EqualsTheHostsOverGenerations) {
  on_fiber([&] {
    auto file = make_ref<FdMappable>(ro.get(), rw.get());
    auto p = std::make_unique<Process>(*world);
    for (unsigned generation = 0; generation < 16; generation++) {
      Worker w{p->space.get_ref(), p->context.get_ref(), file, 500 + generation, 80};
      w.run();
      ASSERT_EQ(of_list(*p->space), of_host(p->space->space().host_pid())) << generation;
      auto f = p->space->fork(*p->context, platform::Birthday::now);
      ASSERT_TRUE(f.ok()) << f.error().name();
      f->context->set_fiber(sched::current());
      const std::string before = of_list(*p->space);
      Worker c{f->space, f->context, file, 900 + generation, 80};
      c.run();
      EXPECT_EQ(of_list(*f->space), of_host(f->space->space().host_pid())) << generation;
      EXPECT_EQ(of_list(*p->space), before) << "the child's calls are its own";
      EXPECT_EQ(of_host(p->space->space().host_pid()), before);
      if (generation % 4 == 3) {
        p = std::make_unique<Process>(*world);
        EXPECT_EQ(of_list(*p->space), "");
        EXPECT_EQ(of_host(p->space->space().host_pid()), "");
      } else {
        p->space->space().kill();
        p->space = f->space;
        p->context = f->context;
      }
    }
  });
}

TEST_P(MmList, AReadOnlySharedMappingCannotBeMadeWritable) {
  on_fiber([&] {
    Process p(*world);
    auto file = make_ref<FdMappable>(ro.get(), rw.get());
    mm::MapRequest r;
    r.length = kPage;
    r.prot = PROT_READ;
    r.flags = MAP_SHARED;
    r.file = file;
    uint64_t at = p.space->map(*p.context, r).value();
    go_on(*p.space, *p.context);
    auto refused = p.space->protect(*p.context, at, kPage, PROT_READ | PROT_WRITE);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error(), kEACCES);
    // And what the stub could do by itself: the host refuses it too.
    MemoryCall direct{.op = MemoryOp::protect, .address = at, .length = kPage, .prot = PROT_READ | PROT_WRITE};
    EXPECT_FALSE(p.context->memory_call(direct).ok());
    // The positive control: opened for writing, it can.
    r.file_writable = true;
    at = p.space->map(*p.context, r).value();
    EXPECT_TRUE(p.space->protect(*p.context, at, kPage, PROT_READ | PROT_WRITE).ok());
    go_on(*p.space, *p.context);
    uint32_t word = 7;
    EXPECT_TRUE(p.context->copy_out_now(at, &word, 4).ok());
  });
}

TEST_P(MmList, BrkAndAPairOfMapAndUnmapTakeNoRoundTrip) {
  on_fiber([&] {
    Process p(*world);
    p.space->set_brk_start(0x30000000);
    ASSERT_EQ(p.space->brk(*p.context, 0x30000000 + 5 * kPage).value(), 0x30000000 + 5 * kPage);
    uint64_t before = world->platform().stats().copies;
    mm::MapRequest r;
    r.length = kPage;
    r.prot = PROT_READ;
    r.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint64_t at = p.space->map(*p.context, r).value();
    ASSERT_TRUE(p.space->unmap(*p.context, at, kPage).ok());
    EXPECT_EQ(world->platform().stats().copies, before);
    EXPECT_EQ(of_host(p.space->space().host_pid()), "");  // nothing has happened there yet
    go_on(*p.space, *p.context);
    EXPECT_EQ(of_list(*p.space), of_host(p.space->space().host_pid()));
    EXPECT_EQ(of_list(*p.space), "30000000-30005000 rw-p\n");
  });
}

}  // namespace
}  // namespace platform_test

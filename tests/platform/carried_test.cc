// SPDX-License-Identifier: Apache-2.0
// A child's control memory may pass through its parent's descriptor 3. What is left of it afterwards, and what a parent can do that
// keeps it against our will.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/platform/impl.h"
#include "tests/platform/attack.h"

namespace platform_test {
namespace {

using platform::Birthday;
using platform::Mode;

class Carried : public Attack {};
INSTANTIATE_TEST_SUITE_P(, Carried, testing::Values(Mode::direct, Mode::strict),
                         [](auto& i) { return i.param == Mode::direct ? "direct" : "strict"; });

bool has_descriptor(int pid, int fd) {
  std::string link = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  char buf[64];
  return readlink(link.c_str(), buf, sizeof buf) >= 0;
}

bool carried(Guest& g) {
  auto& b = g->impl().making;
  CHECK(b);
  return b->carried;
}

// Every way to map descriptor 3: none leads to the control memory of anybody.
void expect_not_mappable(Guest& g, const std::set<uint64_t>& foreign) {
  uint64_t memory = stub_symbol("stub_ip_memory"), at = platform::kSharedBase + 0x40000000;
  for (uint64_t where : {at, uint64_t{0x50000000}})
    for (uint64_t flags : {MAP_SHARED | MAP_FIXED, MAP_SHARED | MAP_FIXED_NOREPLACE, MAP_PRIVATE | MAP_FIXED,
                           MAP_PRIVATE | MAP_FIXED_NOREPLACE})
      for (uint64_t prot : {1ull, 3ull}) {
        auto r = through(g, memory, SYS_mmap, {where, 0x40000, prot, flags, 3, 0});
        ASSERT_TRUE(r.has_value());
        EXPECT_LT(*r, 0) << std::hex << where << ' ' << flags << ' ' << prot;
      }
  for (auto& m : mapped(g->space().host_pid())) EXPECT_FALSE(foreign.contains(m.inode) && m.inode != 0) << std::hex << m.from;
}

TEST_P(Carried, NothingIsLeftInParentAndChild) {
  on_fiber([&] {
    Guest g(*world);
    for (int round = 0; round < 20; round++) {
      g.call(App::null_calls, {kNull, 1});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto c = g->fork(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      EXPECT_TRUE(carried(g)) << "the control: this is the case that it is about";
      Guest child(*world, std::move(*c));
      g->set_result(0);
      ASSERT_EQ(g.run(), 0);
      child->set_fiber(sched::current());
      child->set_result(0);
      ASSERT_EQ(child.run(), 0);
      int parents = g->space().host_pid(), childs = child->space().host_pid();
      EXPECT_FALSE(has_descriptor(parents, 3));
      EXPECT_FALSE(has_descriptor(childs, 3));
      auto of_parent = control_inodes(parents), of_child = control_inodes(childs);
      EXPECT_FALSE(of_child.empty());
      for (uint64_t i : of_child) EXPECT_FALSE(of_parent.contains(i));
      if (round != 0) continue;
      expect_not_mappable(g, of_child);
      expect_not_mappable(child, of_parent);
    }
  });
}

TEST_P(Carried, NotWhereAnotherThreadCouldTakeIt) {
  on_fiber([&] {
    Guest g(*world);
    Guest thread = g.thread();
    const int tid = thread->host_tid();
    enum Other { lives, has_ended, has_gone };  // one that has ended may still do as it likes
    for (Other other : {lives, has_ended, has_gone}) {
      if (other == has_ended) thread->exit_thread(0);
      auto& p = g->impl().platform();
      if (other == has_gone) {
        ASSERT_TRUE(eventually([&] {
          base::MutexLock l(p.mu);
          return p.leaving.empty() && p.resting.empty() && syscall(SYS_tgkill, g->space().host_pid(), tid, 0) != 0;
        }));
      }
      g.call(App::null_calls, {kNull, 1});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto c = g->fork(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      EXPECT_EQ(carried(g), other == has_gone);
      Guest child(*world, std::move(*c));
      g->set_result(0);
      ASSERT_EQ(g.run(), 0);
      child->set_fiber(sched::current());
      child->set_result(0);
      ASSERT_EQ(child.run(), 0);
      EXPECT_FALSE(has_descriptor(g->space().host_pid(), 3));
      EXPECT_FALSE(has_descriptor(child->space().host_pid(), 3));
    }
  });
}

// The way back from the clone faults, so the parent keeps the descriptor. It gains nothing by it.
TEST_P(Carried, AParentThatKeepsItCannotMapIt) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::own_clone, {slot_of(g.context()), stub_symbol("stub_ip_ask"), stub_symbol("stub_ip_clone"), CLONE_PARENT | SIGCHLD});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    auto c = g->fork(Birthday::at_resume);
    ASSERT_TRUE(c.ok());
    ASSERT_TRUE(carried(g));
    Guest child(*world, std::move(*c));
    g->set_result(0);
    ASSERT_EQ(g->resume(), EventKind::fault);
    child.call(App::null_calls, {kNull, 3});
    child->set_fiber(sched::current());
    ASSERT_EQ(child.run(), 0 + 1 + 2);
    EXPECT_TRUE(has_descriptor(g->space().host_pid(), 3)) << "the control: it holds the descriptor";
    EXPECT_FALSE(has_descriptor(child->space().host_pid(), 3));
    expect_not_mappable(g, control_inodes(child->space().host_pid()));
    // The child's own instructions that map are open to everyone: there they meet the parent's own zone.
    for (auto [site, at, length, prot, offset] : {std::tuple{"stub_ip_map_page", kStubZone, 0x1000ull, 1ull, 0ull},
                                                  std::tuple{"stub_ip_map_zone", kStubZone + 0x1000, 0x7ffff000ull, 3ull, 0x1000ull}}) {
      auto before = control_inodes(g->space().host_pid());
      auto [from, n, p, o] = std::tuple{at, length, prot, offset};
      auto r = through(g, stub_symbol(site), SYS_mmap, {from, n, p, 0x100001, 3, o});
      if (g->space().gone() || !r) break;  // what follows the instruction ends it
      EXPECT_EQ(control_inodes(g->space().host_pid()), before);
    }
    child.call(App::null_calls, {kNull, 10});
    EXPECT_EQ(child.run(), 45);
  });
}

}  // namespace
}  // namespace platform_test

// SPDX-License-Identifier: Apache-2.0
// What hostile code needs: calls through the stub's own instructions, rubbish over its memory, and a look from outside.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/platform/harness.h"

namespace platform_test {

inline constexpr uint64_t kStubZone = 0x7fff10000000, kStubZoneEnd = 0x7fff90000000;

// One call through a `syscall; ret` of the stub. nullopt: the process did not come back in good order.
std::optional<int64_t> through(Guest& g, uint64_t ip, uint64_t nr, std::array<uint64_t, 6> a);

// A thread of the guest's process that overwrites [at, at+n) for ever.
std::pair<std::unique_ptr<Guest>, std::unique_ptr<Task>> scrambler(Guest& g, uint64_t at, uint64_t n);

// Where the thread's slot is in its process.
uint64_t slot_of(platform::Context& c);

struct Mapped {
  uint64_t from, to, inode;
  std::string perms;
};
std::vector<Mapped> mapped(int pid);
uint64_t inode_of(int fd);
// Inodes that this process has mapped in the control zone.
std::set<uint64_t> control_inodes(int pid);

// The attacks in each mode, with every wall up.
class Attack : public testing::TestWithParam<platform::Mode> {
 protected:
  void SetUp() override {
    World::Options o;
    o.mode = GetParam();
    o.workers = 2;
    world = std::make_unique<World>(o);
  }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
};

// The same with walls taken away: what the attacks are worth then.
inline std::unique_ptr<World> open_world(bool seal) {
  World::Options o;
  o.workers = 2;
  o.filter = false;
  o.seal = seal;
  return std::make_unique<World>(o);
}

}  // namespace platform_test

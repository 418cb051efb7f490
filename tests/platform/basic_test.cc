// SPDX-License-Identifier: Apache-2.0
// One process at a time: calls, copies, memory calls, faults.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/platform/harness.h"

namespace platform_test {
namespace {

class Basic : public testing::TestWithParam<platform::Mode> {
 protected:
  void SetUp() override {
    World::Options o;
    o.mode = GetParam();
    o.descriptors.resize(512);
    o.descriptors[1].in[0] = {platform::CopyIn::sized, 1, 1, 2};
    o.descriptors[2].in[0] = {platform::CopyIn::string, 0, 0, 0};
    o.descriptors[3].in[0] = {platform::CopyIn::string, 0, 0, 0};
    o.descriptors[3].in[1] = {platform::CopyIn::fixed, 1, 16, 0};
    o.descriptors[7].may_block = true;
    world = std::make_unique<World>(o);
  }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
};
INSTANTIATE_TEST_SUITE_P(, Basic, testing::Values(platform::Mode::direct, platform::Mode::strict),
                         [](auto& i) { return i.param == platform::Mode::direct ? "direct" : "strict"; });

TEST_P(Basic, NullCallsReturnTheirResult) {
  on_fiber([&] {
    Guest g(*world);
    EXPECT_EQ(g.call_and_run(App::null_calls, {kNull, 1000}), 499500);
    // A call that may block does not spin.
    EXPECT_EQ(g.call_and_run(App::null_calls, {7, 200}), 19900);
  });
}

TEST_P(Basic, ACallPreservesWhatLinuxPreserves) {
  on_fiber([&] {
    Guest g(*world);
    const uint64_t args[7] = {kNull, 1, 2, 3, 4, 5, 6};
    ASSERT_TRUE(g->copy_out_now(kData, args, sizeof args).ok());
    g.call(App::call_once, {kData});
    EXPECT_EQ(g.run([](Context& c, const platform::Call& call) {
      for (unsigned i = 0; i < 6; i++) EXPECT_EQ(call.args[i], i + 1);
      c.set_result(-38);
    }), -38);
  });
}

}  // namespace
}  // namespace platform_test

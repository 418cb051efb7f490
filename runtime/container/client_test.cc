// SPDX-License-Identifier: Apache-2.0
// What a sentry that means no good can do to its caller.
#include "runtime/container/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "base/sys.h"

namespace runtime::container {
namespace {

namespace wire = base::wire;

TEST(Client, AnswersToNobodyDoNotProlongAWait) {
  auto pair = base::sys::socketpair(SOCK_SEQPACKET);
  ASSERT_TRUE(pair.ok());
  std::atomic<bool> stop{false};
  std::thread sentry([&] {
    wire::ReplyHeader h;
    for (h.tag = 1000; !stop; h.tag++) {
      h.error = h.tag % 2 ? ENOENT : 0;
      IGNORE_ERROR(base::sys::send_fds(pair->b.get(), wire::encode(h), {}, MSG_DONTWAIT), "full");
      host::sleep_us(5000);
    }
  });
  Client c(std::move(pair->a));
  int64_t begin = host::now_ms();
  auto r = c.call<wire::StateReply>(wire::ControlOp::kState, wire::IdRequest{"a"}, 300);
  int64_t took = host::now_ms() - begin;
  stop = true;
  sentry.join();
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code(), base::kETIMEDOUT);
  EXPECT_GE(took, 300);
  EXPECT_LT(took, 5000);
}

}  // namespace
}  // namespace runtime::container

// SPDX-License-Identifier: Apache-2.0
// Signals as data.
#include "sentry/kernel/signal.h"

#include <gtest/gtest.h>

#include "sentry/kernel/task.h"

namespace sentry::kernel {
namespace {

SignalInfo info(int signo, int value = 0) {
  SignalInfo i = SignalInfo::kernel(signo, SI_QUEUE);
  i.si.si_value.sival_int = value;
  return i;
}

TEST(PendingSignals, StandardSignalsAreKeptOnce) {
  PendingSignals p;
  EXPECT_TRUE(p.add(info(SIGUSR1, 1)));
  EXPECT_FALSE(p.add(info(SIGUSR1, 2)));
  SignalInfo out;
  ASSERT_TRUE(p.take(~0ull, &out));
  EXPECT_EQ(out.si.si_value.sival_int, 1);
  EXPECT_FALSE(p.take(~0ull, &out));
  EXPECT_EQ(p.set(), 0u);
}

TEST(PendingSignals, RealTimeSignalsKeepTheirOrder) {
  PendingSignals p;
  for (int i = 0; i < 4; i++) EXPECT_TRUE(p.add(info(40, i)));
  EXPECT_EQ(p.queued(), 4u);
  for (int i = 0; i < 4; i++) {
    EXPECT_EQ(p.set(), signal_bit(40));
    SignalInfo out;
    ASSERT_TRUE(p.take(signal_bit(40), &out));
    EXPECT_EQ(out.si.si_value.sival_int, i);
  }
  EXPECT_EQ(p.set(), 0u);
}

TEST(PendingSignals, FaultsComeFirstThenTheLowestNumber) {
  PendingSignals p;
  for (int s : {50, SIGTERM, SIGHUP, SIGSEGV}) p.add(info(s));
  SignalInfo out;
  std::vector<int> order;
  while (p.take(~0ull, &out)) order.push_back(out.si.si_signo);
  EXPECT_EQ(order, (std::vector<int>{SIGSEGV, SIGHUP, SIGTERM, 50}));
}

TEST(PendingSignals, OnlyWantedOnesAreTaken) {
  PendingSignals p;
  p.add(info(SIGUSR1));
  p.add(info(SIGUSR2));
  SignalInfo out;
  ASSERT_TRUE(p.take(signal_bit(SIGUSR2), &out));
  EXPECT_EQ(out.si.si_signo, SIGUSR2);
  EXPECT_FALSE(p.take(signal_bit(SIGUSR2), &out));
  EXPECT_EQ(p.set(), signal_bit(SIGUSR1));
}

TEST(PendingSignals, RemovedOnesAreGone) {
  PendingSignals p;
  for (int i = 0; i < 3; i++) p.add(info(45, i));
  p.add(info(SIGCONT));
  p.remove(signal_bit(45));
  EXPECT_EQ(p.set(), signal_bit(SIGCONT));
  EXPECT_EQ(p.queued(), 1u);
}

TEST(DefaultAction, AsTheManualSays) {
  EXPECT_EQ(default_action(SIGKILL), DefaultAction::terminate);
  EXPECT_EQ(default_action(SIGABRT), DefaultAction::core);
  EXPECT_EQ(default_action(SIGCHLD), DefaultAction::ignore);
  EXPECT_EQ(default_action(SIGTTIN), DefaultAction::stop);
  EXPECT_EQ(default_action(SIGCONT), DefaultAction::resume);
  EXPECT_EQ(default_action(34), DefaultAction::terminate);
}

TEST(SignalHandlers, ExecKeepsIgnoredOnesOnly) {
  Ref<SignalHandlers> h = make_ref<SignalHandlers>();
  h->set(SIGINT, {.handler = 1, .flags = SA_RESTART, .restorer = 0, .mask = 5});
  h->set(SIGTERM, {.handler = 0x1000, .flags = 0, .restorer = 0, .mask = 0});
  Ref<SignalHandlers> copy = h->copy();
  h->reset_for_exec();
  EXPECT_EQ(h->get(SIGINT).handler, 1u);
  EXPECT_EQ(h->get(SIGINT).flags, 0u);
  EXPECT_EQ(h->get(SIGTERM).handler, 0u);
  EXPECT_EQ(copy->get(SIGTERM).handler, 0x1000u);
}

}  // namespace
}  // namespace sentry::kernel

// SPDX-License-Identifier: Apache-2.0
// What a task's stub may answer by itself (architecture, section 3.6). A task's own fiber gives answers; anybody may take them back.
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::kernel {

struct AnsweredCall {
  platform::Answer answer;
  uint64_t number;
};
inline constexpr AnsweredCall kAnsweredCalls[] = {
    {platform::Answer::pid, 39},   {platform::Answer::tid, 186}, {platform::Answer::ppid, 110},
    {platform::Answer::uid, 102},  {platform::Answer::euid, 107}, {platform::Answer::gid, 104},
    {platform::Answer::egid, 108}, {platform::Answer::yield, 24}, {platform::Answer::futex, 202}};

// Own fiber, after anything that changes what the calls return: birth, exec, credentials, the return of a lent Context.
void publish_answers(Task& t);
// After the reason has been set (a tracer, a filter): from its next call on the task asks.
void withdraw_answers(Task& t);
// The process has another parent.
void publish_parent(ThreadGroup& g);
// It sleeps in a futex that it did not ask about, as it says itself: for showing only.
bool waits_by_itself(Task& t);

}  // namespace sentry::kernel

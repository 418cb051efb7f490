// SPDX-License-Identifier: Apache-2.0
// What the programs of this folder share: a call that must fail with an errno, and children whose failures count.
#pragma once

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT_ERRNO(call, e)                                \
  do {                                                       \
    errno = 0;                                               \
    EXPECT_EQ((call), decltype(call)(-1)) << #call;          \
    EXPECT_EQ(errno, e) << #call << ": " << strerror(errno); \
  } while (0)

// A process that runs f and exits with 1 if an expectation failed in it.
template <typename F>
pid_t child(F f) {
  pid_t p = fork();
  if (p == 0) {
    f();
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  return p;
}
// Waits for it: the status of waitpid(2).
inline int status_of(pid_t p) {
  int s = -1;
  EXPECT_EQ(waitpid(p, &s, 0), p);
  return s;
}
template <typename F>
int in_child(F f) {
  return status_of(child(std::move(f)));
}

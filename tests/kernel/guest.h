// SPDX-License-Identifier: Apache-2.0
// The guest program's cases: plain Linux C++. Each is a function that returns or fails by EXPECT.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

struct Case {
  const char* name;
  void (*run)();
  Case* next;
};
extern Case* g_cases;
struct Registration {
  Case c;
  Registration(const char* name, void (*run)()) : c{name, run, g_cases} { g_cases = &c; }
};
#define CASE(name)                                              \
  static void case_##name();                                    \
  static Registration registration_##name(#name, case_##name);  \
  static void case_##name()

// Ends the process with status 99; the line number is the only text that needs no working stdio.
[[noreturn]] void fail(const char* file, int line, const char* what, long got);
#define EXPECT(cond) do { if (!(cond)) fail(__FILE__, __LINE__, #cond, errno); } while (0)
#define EXPECT_EQ(a, b) do { long a_ = static_cast<long>(a); if (a_ != static_cast<long>(b)) fail(__FILE__, __LINE__, #a " == " #b, a_); } while (0)

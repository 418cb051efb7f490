// SPDX-License-Identifier: Apache-2.0
// The prototypes of all system calls, made from table.inc, and what one row is at run time.
#pragma once

#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <utime.h>

#include "sentry/kernel/kernel.h"
#include "sentry/mm/user.h"

namespace sentry::syscalls {

using kernel::Task;
using mm::UserIn;
using mm::UserInOut;
using mm::UserOut;
using mm::UserSized;
using PollFds = UserSized<1, 8>;  // struct pollfd; written too
using mm::UserString;
using UserReadVector = mm::UserVector<false>;
using UserWriteVector = mm::UserVector<true>;

#define SYSCALL(number, name, support, note, ...) Result<long> sys_##name(Task& task __VA_OPT__(, ) __VA_ARGS__);
#define ABSENT(number, name, note)
#define MISSING(number, name, note)
#include "sentry/syscalls/table.inc"
#undef SYSCALL
#undef ABSENT
#undef MISSING

enum class Support : uint8_t { missing, absent, partial, full };

// How strace shows an argument.
enum class ArgKind : uint8_t { none, integer, word, pointer, string };

struct Row {
  const char* name = nullptr;
  Result<long> (*call)(Task&, const platform::Call&) = nullptr;  // null: missing or absent
  Support support = Support::missing;
  const char* note = "";
  uint8_t args = 0;
  ArgKind kinds[6] = {};
};

// Null: never assigned on amd64.
const Row* find_row(uint64_t number);

// For the platform: what each call's stub copies in.
std::span<const platform::CallDescriptor> descriptors();

// The CallHandler of a sandbox: table look-up, accounting of missing calls (named once in the log), strace.
struct Options {
  bool strace = false;
};
std::unique_ptr<kernel::CallHandler> make_dispatcher(const Options& options);

}  // namespace sentry::syscalls

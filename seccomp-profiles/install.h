// SPDX-License-Identifier: Apache-2.0
// Puts a profile on the calling thread, and explains what a profile does to a call.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "seccomp-profiles/program.h"

namespace seccomp_profiles {

// Makes the C library do now what it would later do by opening files, which the filters of sentry and gofer
// answer with the end of the process: reads the time zone (even gmtime_r does once), and tells malloc never to
// shrink a thread's arena (it would read /proc/sys/vm/overcommit_memory first) and how many there may be (it would count
// the processors in /sys before the ninth). Call before install().
void prepare_libc();
// For a program with threads, before its filter: the first thread of the C library sets signal handlers.
void prepare_threads();

// Sets no_new_privs and installs the filter with SECCOMP_FILTER_FLAG_* flags. Returns the listener with
// SECCOMP_FILTER_FLAG_NEW_LISTENER, else an empty Fd.
// Errors: seccomp(2); EBUSY with NEW_LISTENER: another filter of this thread already has a listener;
// ESRCH with TSYNC: some thread could not be synchronised.
base::Result<base::Fd> install(const Program& program, unsigned long flags);

// One paragraph: the call with its arguments, the action, and the rule that decided (with its reason), or which
// rules of that call did not match.
std::string describe(const Program& program, const seccomp_data& call);

}  // namespace seccomp_profiles

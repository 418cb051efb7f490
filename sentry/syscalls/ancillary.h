// SPDX-License-Identifier: Apache-2.0
// Ancillary data: from the bytes of a caller to what a message carries, and back. Linux: net/core/scm.c.
#pragma once

#include "sentry/net/common/message.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

// Parses private bytes (copied in once). EINVAL: malformed, or more than 253 descriptors; EBADF; EPERM: credentials of somebody
// else; ETOOMANYREFS.
Result<net::Control> parse_control(Task& task, int family, std::span<const std::byte> bytes);

// The answer to recvmsg(2): sender's credentials and descriptors written to the caller's buffer. Two-phased: numbers are copied
// out before the files go in.
struct ControlAnswer {
  size_t written = 0;
  int flags = 0;  // MSG_CTRUNC
};
Result<ControlAnswer> give_control(Task& task, net::Received& got, uint64_t buffer, size_t room, bool cloexec);

}  // namespace sentry::syscalls

// SPDX-License-Identifier: Apache-2.0
// What the socket calls share: descriptors to sockets, addresses in and out.
#pragma once

#include "sentry/net/common/socket_file.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

// EBADF, ENOTSOCK.
Result<Ref<net::SocketFile>> socket_file(Task& task, int fd);
// EINVAL: longer than any address. Linux: move_addr_to_kernel.
Result<net::Address> address_in(Task& task, UserIn<void> addr, unsigned len);
// Writes at most *len bytes and then the address's own size to len. Linux: move_addr_to_user.
Result<void> address_out(Task& task, const net::Address& a, UserOut<void> addr, UserInOut<unsigned> len);

}  // namespace sentry::syscalls

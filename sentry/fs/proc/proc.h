// SPDX-License-Identifier: Apache-2.0
// procfs of one PID namespace. Linux: man 5 proc.
#pragma once

#include <string>
#include <string_view>

#include "sentry/kernel/kernel.h"

namespace sentry::fs::proc {

Ref<vfs::FileSystem> create(kernel::Kernel& kernel, const Ref<kernel::Container>& container);

// The process whose directory (/proc/PID) this is an open file of: it serves as a pidfd. Null: something else.
RefOrNull<kernel::ThreadGroup> process_of(const vfs::File& file);

// The text of /proc/net/NAME (man 5 proc_pid_net) as seen by the task whose directory it is in; header lines included. The rooms that
// know are beside this one, so boot/ tells it once. Names: "unix", "tcp", "tcp6", "udp", "udp6", "raw", "dev", "route",
// "netlink", "packet", "arp", "sockstat", "if_inet6", …; an unknown one is ignored.
using NetTable = std::string (*)(kernel::Task&);
void set_net_table(std::string_view name, NetTable table);

}  // namespace sentry::fs::proc

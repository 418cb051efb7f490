// SPDX-License-Identifier: Apache-2.0
// The sockets where shims listen. containerd says nothing of a shim that was killed before it was called for the first time; so each socket has a
// note of its shim's process below the root, and whoever comes next removes those of the dead.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace shim {

// Held while sockets are made and taken away; waits for it.
base::ResultX<base::Fd> lock_sockets(const std::string& directory);
// A listening socket, or none when a shim serves this path already. With the lock held: of two containers of one pod that are started at once only one
// may find the path free.
base::ResultX<base::Fd> listen_at(const std::string& path);
// With the lock held. A note that cannot be written is only missed when that shim is killed early.
void note_socket(const std::string& root, const std::string& path, int pid);
// The socket and its note.
void remove_socket(const std::string& root, const std::string& path);
// Those of all shims of this root that have died. With the lock held.
void sweep_sockets(const std::string& root, const std::string& directory);

}  // namespace shim

// SPDX-License-Identifier: Apache-2.0
// Endpoint: the path of a unix socket, owned by one process at a time. A socket that a dead process left is removed; one that
// somebody answers at is left alone.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace cri {

// "/run/x.sock", "unix:/run/x.sock" and "unix:///run/x.sock" -> "/run/x.sock"; anything else is refused.
base::ResultX<std::string> socket_path(const std::string& text);

class Endpoint {
 public:
  // Makes the path free to bind. Errors: EADDRINUSE when another process listens there or another Endpoint holds it,
  // EEXIST when something else than a socket is there.
  static base::ResultX<Endpoint> claim(const std::string& path);
  // After bind: the socket's mode and, where they are not -1, its owner. Until then nobody but root could connect,
  // if the caller has set a umask of 0177.
  base::ResultX<void> open_to(mode_t mode, uid_t owner, gid_t group) const;
  const std::string& path() const { return path_; }

 private:
  Endpoint(std::string path, base::Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  base::Fd lock_;  // of PATH.lock, held as long as this lives
};

// Somebody listens on this unix socket.
bool is_listening(const std::string& path);

}  // namespace cri

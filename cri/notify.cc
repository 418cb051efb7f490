// SPDX-License-Identifier: Apache-2.0
#include "cri/notify.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"

namespace cri {

void notify_manager(std::string_view state) {
  const char* name = ::getenv("NOTIFY_SOCKET");
  if (!name) return;
  sockaddr_un a{};
  size_t n = strlen(name);
  if ((name[0] != '/' && name[0] != '@') || n >= sizeof a.sun_path) return;
  a.sun_family = AF_UNIX;
  memcpy(a.sun_path, name, n);
  if (name[0] == '@') a.sun_path[0] = 0;
  base::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + n);
  if (!fd.valid() || ::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&a), size) < 0)
    LOG(warn, "the service manager at {} cannot be told {}: {}", name, state, strerror(errno));
}

}  // namespace cri

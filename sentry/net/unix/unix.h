// SPDX-License-Identifier: Apache-2.0
// AF_UNIX sockets. man 7 unix.
#pragma once

#include <string>
#include <vector>

#include "sentry/net/common/sock.h"

namespace sentry::net::local {

// EPROTONOSUPPORT, ESOCKTNOSUPPORT.
Result<Ref<Sock>> create(int type, int protocol);
struct Pair {
  Ref<Sock> a, b;
};
Result<Pair> create_pair(int type, int protocol);

// For /proc/net/unix.
struct Info {
  uint32_t references = 0;
  int type = 0;
  bool listening = false;
  int state = 1;         // SS_UNCONNECTED 1, SS_CONNECTING 2, SS_CONNECTED 3, as the St column
  uint64_t inode = 0;
  std::string path;      // an abstract name starts with '@'; empty: none
};
std::vector<Info> list();
// The text of /proc/net/unix, header line included.
std::string list_text();

}  // namespace sentry::net::local

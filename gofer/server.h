// SPDX-License-Identifier: Apache-2.0
// The socket side: a record in, the handler, a record out. One request is answered after the other.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "gofer/files.h"

namespace gofer {

struct Answer {
  enum class Kind { reply, none, hang_up, leave } kind = Kind::reply;  // hang_up: not even a tag could be read
  std::vector<std::byte> bytes;
  Donated fds;
};

class Server {
 public:
  explicit Server(Files& files) : files_(files) {}
  // The record is hostile; it is private memory that no one else can write.
  Answer answer(std::span<const std::byte> record);
  // Serves until the peer closes or tells us to leave (success), or sends what is no record of ours: EBADMSG, EMSGSIZE.
  base::Result<void> serve(int socket);
  // Of this program once serve() has returned: what the client told it to end with. A client that just went is a container that
  // was killed.
  int exit_code() const { return exit_code_; }

 private:
  Answer leave(base::wire::Reader& body);
  template <typename Request>
  Answer run(uint64_t tag, base::wire::Reader& body);
  Files& files_;
  int exit_code_ = 128 + 9;
};

}  // namespace gofer

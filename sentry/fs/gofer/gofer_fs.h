// SPDX-License-Identifier: Apache-2.0
// The gofer's trees as file systems. One Client per container (one socket); one file system per attach point.
#pragma once

#include <functional>

#include "sentry/fs/common/backing.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs::gofer {

// One connection. What it does is in client.h, which only this room sees; complete here so that a Ref<Client> can be held.
// Held by: its file systems, its backing sources.
class Client : public RefCounted<Client> {
 public:
  // Called once, on a worker, when the conversation has ended though nobody told the gofer to leave: it has died, or one side
  // is broken. To be set before anything else can go wrong; called at once if it has.
  virtual void set_end_handler(std::function<void()> handler) = 0;
  // The container is over: the gofer ends with this exit code, and every later request is EIO. Never parks.
  virtual void leave(uint8_t code) = 0;

 protected:
  friend class RefCounted<Client>;
  virtual ~Client() = default;
};

// What waits for a reply. awake: with a CPU to spare it looks for it for a while before it lets its worker sleep.
enum class Waiting : uint8_t { asleep, awake };

// Says hello over the socket. Parks. EPROTO: another version or a broken peer.
Result<Ref<Client>> connect(Fd socket, Waiting waiting = Waiting::asleep);

struct AttachOptions {
  uint32_t index = 0;      // attach point of the runtime's tree
  bool exclusive = true;   // nobody else changes it: names and attributes are cached for ever
  bool read_only = false;
};
// May be a single regular file (a bind-mounted file): its root() is then that file. Parks.
Result<Ref<vfs::FileSystem>> attach(const Ref<Client>& client, const AttachOptions& options);
// From now on somebody else may change the tree of one that attach() made as exclusive.
void share(vfs::FileSystem& attached);

enum class Store : uint8_t { disk, shm };
// Unnamed host files for large contents of tmpfs (shm) and of the overlay's upper layer (disk).
std::shared_ptr<common::BackingSource> backing(const Ref<Client>& client, Store store);

}  // namespace sentry::fs::gofer

// SPDX-License-Identifier: Apache-2.0
// Names of AF_UNIX sockets: paths (found by inode), abstract names, and the tables that find a socket by either.
#pragma once

#include <sys/un.h>

#include <string>

#include "sentry/net/common/sock.h"

namespace sentry::net::local {

// The name of one socket; a member of it.
class Name {
 public:
  explicit Name(Sock& owner);
  ~Name();
  // EINVAL: has a name, or a malformed address; EADDRINUSE; errors of making a file. Parks.
  Result<void> bind(const Address& a);
  // An abstract name of the system's choice, unless it has one (bind with nothing but a family; SO_PASSCRED).
  Result<void> bind_automatically();
  // What an accepted socket has from its listener: told, but not found by it.
  void copy_from(const Name& listener);
  // Leaves the tables; the address stays to be told.
  void leave();
  bool is_bound() const;
  Address address() const;  // nothing but the family when there is none
  Address for_receiver() const;  // empty when there is none

 private:
  struct State {
    Address address;        // size 0: none
    vfs::Path path;         // keeps the inode
    RefOrNull<vfs::Inode> inode;
    std::string abstract;   // without the leading NUL byte…
    bool has_abstract = false;  // …when it is one (the empty abstract name exists)
  };
  Result<void> bind_path(std::string_view path);
  Result<void> bind_abstract(std::string_view name);
  Sock& owner_;
  sched::SleepMutex bind_lock_;
  Guarded<State> state_;
};

// EINVAL: not an AF_UNIX address with a name.
Result<void> check_address(const Address& a);
// The socket bound to this address: ECONNREFUSED, EPROTOTYPE, errors of the walk. Parks.
Result<Ref<Sock>> find(const Address& a, int type);

}  // namespace sentry::net::local

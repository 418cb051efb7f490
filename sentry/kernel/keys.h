// SPDX-License-Identifier: Apache-2.0
// Keyrings: keys of the types "user", "logon" and "keyring", in memory, found by their owners' processes. No key is ever asked of a
// program outside (request-key). Linux: security/keys/; man 7 keyrings.
#pragma once

#include <string>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

// Held by: keyrings that link it, tasks, the table (those of users).
class Key : public RefCounted<Key> {
 public:
  enum class Type : uint8_t { user, logon, keyring };
  const int serial;
  const Type type;
  const std::string description;
  // Guarded by the table's lock.
  uint32_t uid = 0, gid = 0, permissions = 0;
  std::string payload;
  std::vector<Ref<Key>> links;
  sched::Nanos expires = sched::kNever;
  bool revoked = false;

  const char* type_name() const;

 private:
  friend class RefCounted<Key>;
  friend class KeyTable;
  Key(KeyTable& table, int serial_, Type type_, std::string description_);
  ~Key();
  KeyTable& table_;
  uint64_t charged_ = 0;   // bytes
  uint32_t charged_to_ = 0;
};

// All keys of the sandbox. Every call is made by the current task.
class KeyTable {
 public:
  KeyTable();
  ~KeyTable();
  Result<long> add(Task& t, const std::string& type, const std::string& description, std::string payload, int ring);
  Result<long> request(Task& t, const std::string& type, const std::string& description, int ring);
  Result<long> control(Task& t, int operation, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

 private:
  friend class Key;
  struct Impl;
  class Call;
  std::unique_ptr<Impl> impl_;
};

// fork, clone: the session's keyring is shared.
void inherit_keyrings(Task& t, Task& child);
// execve: the keyrings of the thread and the process go.
void drop_keyrings_for_exec(Task& t);

}  // namespace sentry::kernel

// SPDX-License-Identifier: Apache-2.0
// What is remembered of a container: a directory <root>/<id> with plan.json (everything that has to be taken away in
// the end, written before it is made), state.json (what was made, complete), started (a mark), config.json (a copy),
// control.sock (of a member of a pod: a link to the sandbox container's) and perhaps store/. Each file appears whole and is never written again, so the state can be read at any
// moment, and no disk file is replaced, which on ext4 waits for the disk. A lock on the directory lets one command at
// a time change it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/host/proc.h"

namespace runtime::container {

enum class Phase { creating, created, started };

struct State {
  std::string id, version, bundle, rootfs, created;  // created: RFC 3339
  std::map<std::string, std::string> annotations;
  Phase phase = Phase::creating;
  uint32_t owner = 0;                    // user id that made it
  bool terminal = false;
  host::ProcessName creator, sentry, gofer;
  std::string sandbox;                   // of a member of a pod: the sandbox container, whose sentry it is in; else empty
  std::optional<uint32_t> id_slot;       // host user ids leased
  std::string store;                     // host directory of the upper files
  std::vector<std::string> cgroup_leaves, cgroup_made;
  bool member() const { return !sandbox.empty(); }
  // The process whose pid is told to others; it lives as long as the container runs, and ends with its exit code.
  const host::ProcessName& told() const { return member() ? gofer : sentry; }
  std::string unit;                      // systemd's name of the group, if systemd made it
};

std::string encode_state(const State& s);
base::ResultX<State> decode_state(const std::string& text);

// The directory of all containers. Made if missing.
class Root {
 public:
  static base::ResultX<Root> open(const std::string& path);
  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  std::vector<std::string> ids() const;

 private:
  std::string path_;
  base::Fd fd_;
};

base::ResultX<void> check_id(const std::string& id);

// One container's directory.
class Directory {
 public:
  // EEXIST: the id is taken. The new directory is locked.
  static base::ResultX<Directory> create(const Root& root, const std::string& id);
  static base::ResultX<Directory> open(const Root& root, const std::string& id);
  // What a create() left that was killed before the directory had its name.
  static void remove_stillborn(const Root& root, const std::string& id);
  // Waits for the lock at most timeout_ms (ETIMEDOUT). ENOENT if the container was deleted meanwhile.
  base::ResultX<void> lock(int timeout_ms);
  // For a command that goes on but changes nothing for now; it locks again before it does.
  void unlock();
  // The process that took the lock, if it still has the directory open; pid 0 if nobody has, or that cannot be told.
  host::ProcessName find_lock_holder() const;
  base::ResultX<State> load() const;
  // As the phase says: plan.json, state.json, or both of it and the mark.
  base::ResultX<void> save(const State& s) const;
  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  const std::string& id() const { return id_; }
  // The directory and what is in it; the store elsewhere is not touched.
  base::ResultX<void> remove();

 private:
  std::string path_, id_;
  int root_fd_ = -1;
  base::Fd fd_;
};

// Deletes dir/name and everything below it without following a symbolic link.
base::Result<void> remove_tree(int dir, const char* name);

}  // namespace runtime::container

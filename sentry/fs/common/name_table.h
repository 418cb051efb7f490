// SPDX-License-Identifier: Apache-2.0
// The names of a directory that lives in the sentry's memory, in the order they were made: a reader that goes on later misses
// nothing that stayed and sees nothing twice.
#pragma once

#include <map>
#include <string>

#include "sentry/vfs/file.h"

namespace sentry::fs::common {

class NameTable {
 public:
  static constexpr uint64_t kFirst = 2;  // positions 0 and 1 are "." and ".."

  RefOrNull<vfs::Inode> find(std::string_view name) const EXCLUDES(mu_);
  // A new name, or another inode behind an old one (which keeps its position). ino: as readdir shows it.
  void set(std::string_view name, Ref<vfs::Inode> inode, uint64_t ino) EXCLUDES(mu_);
  RefOrNull<vfs::Inode> remove(std::string_view name) EXCLUDES(mu_);
  // Everything, for a directory that goes.
  std::vector<Ref<vfs::Inode>> take_all() EXCLUDES(mu_);
  bool empty() const EXCLUDES(mu_);
  size_t size() const EXCLUDES(mu_);
  struct Entry {
    std::string name;
    uint64_t ino = 0;
    uint32_t type = 0;      // S_IFMT bits
    uint64_t position = 0;
  };
  // The first entry at or after position; false when there is none.
  bool next(uint64_t position, Entry* out) const EXCLUDES(mu_);

 private:
  struct Slot {
    Ref<vfs::Inode> inode;
    uint64_t ino;
    uint64_t position;
  };
  using ByName = std::map<std::string, Slot, std::less<>>;
  mutable Mutex mu_{LockRank::kFilePrivate};
  ByName names_ GUARDED_BY(mu_);
  std::map<uint64_t, ByName::iterator> order_ GUARDED_BY(mu_);
  uint64_t next_ GUARDED_BY(mu_) = kFirst;
};

// A description of a directory whose entries are `names`, which the inode keeps. Reads ".", "..", then the names.
Ref<vfs::File> open_name_table(const vfs::Path& where, Ref<vfs::Inode> inode, const NameTable& names, int flags,
                               const Ref<auth::Credentials>& cred);

// For directory descriptions: adds "." and ".." if *pos is before them. False: the sink is full.
bool add_dots(const vfs::File& dir, vfs::DirectorySink& sink, int64_t* pos);
// DT_* of a mode.
inline unsigned char directory_type(uint32_t mode) { return static_cast<unsigned char>((mode & S_IFMT) >> 12); }

}  // namespace sentry::fs::common

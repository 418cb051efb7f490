// SPDX-License-Identifier: Apache-2.0
// The file system of terminals by number. Inside fs/tty only.
#pragma once

#include <map>

#include "sentry/fs/common/synthetic.h"
#include "sentry/fs/tty/core.h"
#include "sentry/fs/tty/tty.h"

namespace sentry::fs::tty {

// Held by: its mounts, the terminals it names.
class Devpts final : public vfs::FileSystem {
 public:
  explicit Devpts(const DevptsOptions& o);
  Ref<vfs::Inode> root() override { return root_; }
  vfs::FsStat statfs() override;
  const char* type_name() const override { return "devpts"; }
  std::string options() const override;

  // A number that no other terminal has; ENOSPC.
  Result<int> reserve();
  // Makes the terminal on this line and gives it its name.
  Ref<Terminal> add(int number, Ref<Port> port, const auth::Credentials& owner);
  // The name goes, and the number is free again.
  void remove(int number);

 private:
  const DevptsOptions options_;
  Ref<common::StaticDirectory> root_;
  Guarded<std::map<int, bool>> numbers_{LockRank::kFilePrivate};
};

// Makes a pair; the description of its master. By pty.cc.
Result<Ref<vfs::File>> open_ptmx(vfs::FileSystem& devpts, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                 const Ref<auth::Credentials>& cred);

}  // namespace sentry::fs::tty

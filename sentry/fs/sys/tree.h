// SPDX-License-Identifier: Apache-2.0
// A file system that is a table of paths: directories are made of what lies below them. For sysfs and cgroup2.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "sentry/fs/common/synthetic.h"
#include "sentry/fs/common/text.h"
#include "sentry/kernel/inspect.h"

namespace sentry::fs::sys {

using common::append;

class Tree;

struct Node {
  std::string path;      // "devices/system/cpu/online"
  uint32_t mode;         // with type: S_IFREG, S_IFDIR (an empty directory), S_IFLNK
  std::string text;      // contents or target, unless make is set
  Result<std::string> (*make)(Tree&) = nullptr;
};

class Tree final : public vfs::FileSystem {
 public:
  // nodes: sorted here; directories in between need no node of their own.
  Tree(kernel::Kernel& k, Ref<kernel::PidNamespace> pids, const char* type, uint64_t magic, std::vector<Node> nodes);
  Ref<vfs::Inode> root() override;
  vfs::FsStat statfs() override;
  const char* type_name() const override { return type_; }

  // Whose limits are shown: the reader's container.
  RefOrNull<kernel::Container> container();

  kernel::Kernel& kernel;
  const Ref<kernel::PidNamespace> pids;
  const std::vector<Node>& nodes() const { return nodes_; }

 private:
  const char* const type_;
  const uint64_t magic_;
  std::vector<Node> nodes_;
  RefOrNull<vfs::Inode> root_;
};

}  // namespace sentry::fs::sys

// SPDX-License-Identifier: Apache-2.0
// Copy-on-write over a read-only lower tree. The upper layer lives in the sandbox: names and small contents in the sentry's
// memory, large contents in unnamed host files (BackingSource). Linux: Documentation/filesystems/overlayfs.rst.
#pragma once

#include "sentry/fs/common/backing.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs::overlay {

struct Options {
  Ref<vfs::FileSystem> lower;
  std::shared_ptr<common::BackingSource> store;
};
Result<Ref<vfs::FileSystem>> create(Options options);

}  // namespace sentry::fs::overlay

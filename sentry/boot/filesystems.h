// SPDX-License-Identifier: Apache-2.0
// Mount type -> file system, for the mounts of a container and for mount(2) inside it.
#pragma once

#include <memory>
#include <string>

#include "sentry/fs/common/backing.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

// What a file system may need to be made.
struct FsEnvironment {
  kernel::Kernel& kernel;
  Ref<kernel::Container> container;
  Ref<fs::gofer::Client> gofer;
};

// "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup" …; data as mount(2) takes it. ENODEV: no such type; EINVAL: bad options.
Result<Ref<vfs::FileSystem>> make_filesystem(const FsEnvironment& env, const std::string& type, const std::string& data);

// The same for calls of the container's tasks; the container keeps it.
std::unique_ptr<kernel::FileSystems> file_systems_of(kernel::Kernel& kernel, kernel::Container& container,
                                                     const Ref<fs::gofer::Client>& gofer);

}  // namespace sentry::boot

// SPDX-License-Identifier: Apache-2.0
// Files that stand for namespaces: what the links of /proc/PID/ns lead to. Linux: fs/nsfs.c, man 2 ioctl_ns.
#pragma once

#include "sentry/kernel/namespaces.h"

namespace sentry::fs::nsfs {

// All namespaces lie in one file system, so that device and number tell whether two are the same.
vfs::Path path_of(kernel::Kernel& k, kernel::AnyNamespace ns);
std::string text_of(kernel::Kernel& k, const kernel::AnyNamespace& ns);  // "uts:[4026531838]"
// EINVAL: not such a file.
Result<kernel::AnyNamespace> namespace_of_file(vfs::File& file);

}  // namespace sentry::fs::nsfs

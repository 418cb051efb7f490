// SPDX-License-Identifier: Apache-2.0
// What opening a FIFO or a device node leads to. The rooms that know are right of this one, so boot/ tells it once.
#pragma once

#include "sentry/vfs/file.h"

namespace sentry::vfs {

// where: the path it was opened by (tells the devpts instance). ENXIO: no driver for this number.
using SpecialOpener = Result<Ref<File>> (*)(uint64_t rdev, const Path& where, const Ref<Inode>& inode, int flags,
                                            const Ref<auth::Credentials>& cred);

// type: S_IFIFO, S_IFCHR or S_IFBLK. Before the first open(); without one, nodes of that type answer ENXIO.
void set_special_opener(uint32_t type, SpecialOpener opener);

// For file systems that hold device nodes: by Inode::open() of such a node. Sockets answer ENXIO.
Result<Ref<File>> open_special(const Path& where, Inode& inode, int flags, const Ref<auth::Credentials>& cred);

}  // namespace sentry::vfs

// SPDX-License-Identifier: Apache-2.0
// tmpfs: a file system in the sandbox's memory, and memfds, which are its nameless files. Linux: mm/shmem.c, man 5 tmpfs.
#pragma once

#include <memory>
#include <string_view>

#include "sentry/fs/common/backing.h"
#include "sentry/vfs/file.h"

namespace sentry::fs::tmpfs {

struct Options {
  uint64_t size = 0;       // bytes, 0 = no limit
  uint64_t inodes = 0;     // 0 = kDefaultInodes
  uint32_t mode = 01777, uid = 0, gid = 0;
  std::shared_ptr<common::BackingSource> backing;
};
inline constexpr uint64_t kDefaultInodes = 1 << 20;

// The data of mount(2): "size=64k,nr_inodes=100,mode=755,uid=0,gid=0". total_memory: what size=50% is of. EINVAL for what is
// not understood.
Result<Options> parse_options(std::string_view data, Options defaults, uint64_t total_memory);

Ref<vfs::FileSystem> create(const Options& options);

// memfd_create(2) without its name checks: a read-write description of an empty nameless file, "/memfd:NAME (deleted)".
// F_ADD_SEALS and F_GET_SEALS work through Inode::add_seals() and seals().
Result<Ref<vfs::File>> create_memfd(std::string_view name, bool allow_sealing, uint32_t mode,
                                    std::shared_ptr<common::BackingSource> backing, const Ref<auth::Credentials>& cred);

}  // namespace sentry::fs::tmpfs

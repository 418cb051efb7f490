// SPDX-License-Identifier: Apache-2.0
// The description of a regular file whose contents are a RegularData (tmpfs, memfds, the overlay's upper layer).
#pragma once

#include "sentry/fs/common/regular_data.h"

namespace sentry::fs::common {

// What the description tells its inode. Implemented by the inode.
class DataOwner {
 public:
  virtual void data_accessed() = 0;  // atime
  virtual void data_modified() = 0;  // mtime, ctime
  // Seals: may bytes be written at offset (UINT64_MAX: at the end), space be given or taken, the file be mapped for writing?
  virtual Result<void> may_write(uint64_t /*offset*/, uint64_t /*length*/) { return {}; }
  virtual Result<void> may_allocate(int /*mode*/, uint64_t /*end*/) { return {}; }
  // Held while contents change that may yet be sealed: a seal does not come between the question and the change. Null: none will come.
  virtual sched::SleepMutex* seal_lock() { return nullptr; }
  virtual Result<void> writer_maps() { return {}; }  // a mapping that may write begins
  virtual void writer_unmaps() {}

 protected:
  ~DataOwner() = default;
};

Ref<vfs::File> open_data(const vfs::Path& where, Ref<vfs::Inode> inode, DataOwner& owner, Ref<RegularData> data, int flags,
                         const Ref<auth::Credentials>& cred);

// For File::mappable(): contents as seen through one description, which it keeps (Linux: vm_file). owner: the file's inode.
Ref<mm::Mappable> make_file_mappable(Ref<vfs::File> file, DataOwner& owner, Ref<RegularData> data);

}  // namespace sentry::fs::common

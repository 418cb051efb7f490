// SPDX-License-Identifier: Apache-2.0
// File events (IN_* of inotify(7)): who watches an inode, and the places that tell them. Linux: include/linux/fsnotify.h.
// Everything here costs one load while nobody watches anything.
#pragma once

#include <sys/inotify.h>

#include "sentry/vfs/file.h"

namespace sentry::vfs {

// One watch of one inode. Held by: its inotify instance, the inode's list; it keeps the inode in turn until one of them lets go.
class FileWatch : public RefCounted<FileWatch> {
 public:
  // name: of an entry of the watched directory; empty: the object itself. unlinked: the entry has lost its name.
  // Called without locks of the inode's; may take Mutexes, never parks.
  virtual void event(uint32_t mask, uint32_t cookie, std::string_view name, bool unlinked) = 0;
  // The inode or its file system is gone: the list has forgotten this watch.
  virtual void ended() = 0;

 protected:
  friend class RefCounted<FileWatch>;
  virtual ~FileWatch() = default;
};

struct WatchList;
void destroy_watches(WatchList* list);

void add_watch(Inode& inode, Ref<FileWatch> watch);
void remove_watch(Inode& inode, FileWatch& watch);
// The watch that `pick` accepts, of this inode.
std::vector<Ref<FileWatch>> watches_of(Inode& inode);

// How many watches there are in the sentry.
extern std::atomic<uint32_t> watch_count;
inline bool anybody_watches() { return __builtin_expect(watch_count.load(std::memory_order_relaxed) != 0, 0); }

// IN_ISDIR is added where it belongs.
void tell_entry(Inode& dir, uint32_t mask, const Inode* child, std::string_view name, uint32_t cookie = 0);
void tell_self(Inode& inode, uint32_t mask);
// Something happened to an object with a name: its directory learns of it, then its own watchers.
void tell_object(const Path& path, Inode& inode, uint32_t mask);
inline void tell_file(File& file, uint32_t mask) {
  if (anybody_watches() && !(file.flags() & O_PATH)) tell_object(file.path(), file.inode(), mask);
}
// A name of `inode` was removed from `dir`.
void tell_removed(Inode& dir, Inode& inode, std::string_view name);
void tell_moved(Inode& old_dir, std::string_view old_name, Inode& new_dir, std::string_view new_name, Inode& moved,
                Inode* replaced);
// What a change of attributes is, as an event.
void tell_attributes(const Path& path, Inode& inode, uint32_t set_mask);
// The last reference to a description goes, or its inode may have lost its last user.
void tell_closed(const File& file);
// The last mount of a file system is gone.
void tell_unmounted(FileSystem& fs);

}  // namespace sentry::vfs

// SPDX-License-Identifier: Apache-2.0
// Slots of 16 ids above all that systemd, subuid files and container engines hand out, below 2^31.
#include "runtime/host/ids.h"

#include <dirent.h>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/sys.h"

namespace runtime::host {

namespace sys = base::sys;

namespace {

constexpr uint32_t kFirst = 0x70000000;  // 1,879,048,192: the first id after systemd's container range
constexpr uint32_t kSlots = 1 << 20;

std::string link_name(uint32_t slot) { return ".ids/" + std::to_string(slot); }

}  // namespace

IdRange IdLease::range() const {
  uint32_t first = kFirst + slot * kIdsPerSandbox;
  return {first, first, kIdsPerSandbox};
}

base::ResultX<IdLease> lease_ids(int root_dir, const std::string& id) {
  auto made = sys::from_libc(::mkdirat(root_dir, ".ids", 0700));
  if (!made.ok() && made.error() != base::kEEXIST) return base::wrap(made.error(), "make .ids in the state directory");
  // Random slots: two state directories of one host do not know of each other, and a dead sandbox's ids
  // are not used again at once.
  for (int tries = 0; tries < 64; tries++) {
    uint32_t slot = 0;
    if (::getrandom(&slot, sizeof slot, 0) != sizeof slot) continue;
    slot %= kSlots;
    auto r = sys::from_libc(::symlinkat(id.c_str(), root_dir, link_name(slot).c_str()));
    if (r.ok()) return IdLease{slot};
    if (r.error() != base::kEEXIST) return base::wrap(r.error(), "note the sandbox's user ids in the state directory");
  }
  return base::error(base::kEAGAIN, "no free range of user ids: look for stale links in .ids of the state directory");
}

void release_ids(int root_dir, uint32_t slot, const std::string& id) {
  char target[1100];
  std::string name = link_name(slot);
  ssize_t n = ::readlinkat(root_dir, name.c_str(), target, sizeof target);
  if (n > 0 && id == std::string_view(target, static_cast<size_t>(n))) ::unlinkat(root_dir, name.c_str(), 0);
}

void release_ids_of(int root_dir, const std::string& id) {
  auto fd = sys::openat(root_dir, ".ids", O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return;
  DIR* dir = ::fdopendir(fd->release());
  if (!dir) return;
  while (dirent* e = ::readdir(dir)) {
    char* end = nullptr;
    unsigned long slot = std::strtoul(e->d_name, &end, 10);
    if (end != e->d_name && *end == 0) release_ids(root_dir, static_cast<uint32_t>(slot), id);
  }
  ::closedir(dir);
}

}  // namespace runtime::host

// SPDX-License-Identifier: Apache-2.0
// Where a file is in its file system, by the mounts of this process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace runtime::host {

struct MountedFile {
  std::string path;        // from the file system's root, without the first '/'; "" is the root itself
  std::string all_points;  // every place where the file system is mounted, each with a '/' and a line end after it
  unsigned mode = 0, uid = 0, gid = 0;  // of the file system's root if that can be seen, else of the file
};
// Nothing: its file system is mounted nowhere that this process sees.
std::optional<MountedFile> find_mount(const std::string& file, dev_t device);
// The same of a given text of mountinfo; mode, uid and gid are those of the file.
std::optional<MountedFile> find_mount_in(const std::string& mountinfo, const std::string& file, dev_t device);

// Whether other mounts are told of what is mounted below this file's, or tell it: its mount is shared or a slave. mountinfo is read when it is empty.
bool shares_mounts(const std::string& file, std::string* mountinfo);
bool shares_mounts_in(const std::string& mountinfo, uint64_t mount_id);

}  // namespace runtime::host

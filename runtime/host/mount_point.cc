// SPDX-License-Identifier: Apache-2.0
// Reads /proc/self/mountinfo (man 5 proc).
#include "runtime/host/mount_point.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <sstream>

#include "base/error.h"
#include "runtime/host/proc.h"

namespace runtime::host {

namespace {

// Space, tab, newline and backslash are written as \ooo.
std::string plain(const std::string& s) {
  std::string out;
  for (size_t i = 0; i < s.size(); i++) {
    auto octal = [&](size_t k) { return k < s.size() && s[k] >= '0' && s[k] <= '7'; };
    if (s[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0'));
      i += 3;
    } else {
      out += s[i];
    }
  }
  return out;
}

bool below(const std::string& path, const std::string& top) {
  if (top == "/") return true;
  return path.compare(0, top.size(), top) == 0 && (path.size() == top.size() || path[top.size()] == '/');
}

void look(const std::string& at, MountedFile& m) {
  struct stat st;
  if (::stat(at.c_str(), &st) != 0) return;
  m.mode = st.st_mode & 07777;
  m.uid = st.st_uid;
  m.gid = st.st_gid;
}

struct Found {
  MountedFile file;
  std::string root_at;  // where the file system's own root is mounted, if it is
};

std::optional<Found> search(const std::string& mountinfo, const std::string& file, dev_t device) {
  const std::string wanted = base::format("{}:{}", major(device), minor(device));
  std::optional<Found> found;
  Found f;
  size_t best = 0;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, number, root, point;
    if (!(words >> id >> parent >> number >> root >> point) || number != wanted) continue;
    root = plain(root);
    point = plain(point);
    f.file.all_points += point + "/\n";
    if (root == "/") f.root_at = point;
    if (!below(file, point) || point.size() < best) continue;
    best = point.size();
    std::string inside = (root == "/" ? "" : root) + file.substr(point == "/" ? 0 : point.size());
    f.file.path = inside.empty() || inside == "/" ? "" : inside.substr(1);
    found = f;
  }
  if (!found) return found;
  found->file.all_points = f.file.all_points;
  found->root_at = f.root_at;
  return found;
}

}  // namespace

std::optional<MountedFile> find_mount_in(const std::string& mountinfo, const std::string& file, dev_t device) {
  auto found = search(mountinfo, file, device);
  if (!found) return std::nullopt;
  look(file, found->file);
  return found->file;
}

std::optional<MountedFile> find_mount(const std::string& file, dev_t device) {
  char resolved[PATH_MAX];
  auto text = read_file("/proc/self/mountinfo", 16 << 20);
  if (!text.ok() || !::realpath(file.c_str(), resolved)) return std::nullopt;
  auto found = search(*text, resolved, device);
  if (!found) return std::nullopt;
  look(found->root_at.empty() ? resolved : found->root_at, found->file);
  return found->file;
}

bool shares_mounts_in(const std::string& mountinfo, uint64_t mount_id) {
  const std::string id = base::format("{} ", mount_id);
  size_t at = mountinfo.find("\n" + id);
  if (mountinfo.starts_with(id)) at = 0;
  else if (at++ == std::string::npos) return false;
  std::istringstream words(mountinfo.substr(at, mountinfo.find('\n', at) - at));
  std::string word;
  // Id, parent, device, root, point and options; then fields until a dash.
  for (int i = 0; i < 6; i++) words >> word;
  while (words >> word && word != "-")
    if (word.starts_with("shared:") || word.starts_with("master:")) return true;
  return false;
}

bool shares_mounts(const std::string& file, std::string* mountinfo) {
  struct statx st;
  if (::statx(AT_FDCWD, file.c_str(), 0, STATX_MNT_ID, &st) != 0 || !(st.stx_mask & STATX_MNT_ID)) return false;
  if (mountinfo->empty()) *mountinfo = read_file("/proc/self/mountinfo", 16 << 20).value_or("");
  return shares_mounts_in(*mountinfo, st.stx_mnt_id);
}

}  // namespace runtime::host

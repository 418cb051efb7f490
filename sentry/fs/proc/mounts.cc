// SPDX-License-Identifier: Apache-2.0
// /proc/PID/{mounts,mountinfo,mountstats}. Linux: fs/proc_namespace.c.
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;
using Info = vfs::MountNamespace::Info;

std::vector<Info> mounts_of(Task& t) {
  RefOrNull<kernel::FsContext> fs = kernel::find_fs(t);
  if (!fs) return {};
  return fs->mounts()->list(fs->root());
}

// The options of the mount itself; ro is said of either.
std::string mount_options(const vfs::Mount& m) {
  const uint64_t f = m.flags();
  std::string out = f & MS_RDONLY ? "ro" : "rw";
  if (f & MS_NOSUID) out += ",nosuid";
  if (f & MS_NODEV) out += ",nodev";
  if (f & MS_NOEXEC) out += ",noexec";
  if (f & MS_NOATIME) out += ",noatime";
  if (f & MS_NODIRATIME) out += ",nodiratime";
  if (!(f & (MS_NOATIME | MS_STRICTATIME))) out += ",relatime";
  if (f & 256 /* MS_NOSYMFOLLOW */) out += ",nosymfollow";
  return out;
}

std::string with_more(std::string options, const vfs::FileSystem& fs) {
  std::string more = fs.options();
  if (!more.empty()) options += "," + more;
  return options;
}

std::string source_of(const vfs::Mount& m) {
  return m.source().empty() ? "none" : escape_mount_field(m.source());
}

}  // namespace

std::string escape_mount_field(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\' || c == '#') append(out, "\\%03o", static_cast<unsigned>(c));
    else out += c;
  }
  return out;
}

Result<std::string> mounts_text(const Subject&, Task& t) {
  std::string out;
  for (const Info& i : mounts_of(t)) {
    out += source_of(*i.mount) + " " + escape_mount_field(i.mountpoint) + " " + i.mount->fs()->type_name() + " " +
           with_more((i.mount->read_only() ? "ro" : "rw") + mount_options(*i.mount).substr(2), *i.mount->fs()) + " 0 0\n";
  }
  return out;
}

Result<std::string> mountinfo_text(const Subject&, Task& t) {
  std::string out;
  for (const Info& i : mounts_of(t)) {
    const uint64_t device = i.mount->fs()->device();
    append(out, "%d %d %u:%u ", i.mount->id(), i.parent_id, major(device), minor(device));
    out += escape_mount_field(vfs::dentry_text(*i.mount->root())) + " " + escape_mount_field(i.mountpoint) + " " +
           mount_options(*i.mount);
    if (i.shared) append(out, " shared:%d", i.shared);
    if (i.master) append(out, " master:%d", i.master);
    if (i.from && i.from != i.master) append(out, " propagate_from:%d", i.from);
    if (i.unbindable) out += " unbindable";
    out += std::string(" - ") + i.mount->fs()->type_name() + " " + source_of(*i.mount) + " " + with_more(i.mount->read_only() ? "ro" : "rw", *i.mount->fs()) + "\n";
  }
  return out;
}

Result<std::string> mountstats_text(const Subject&, Task& t) {
  std::string out;
  for (const Info& i : mounts_of(t)) {
    const std::string& source = i.mount->source();
    out += source.empty() ? "no device" : "device " + escape_mount_field(source);
    out += " mounted on " + escape_mount_field(i.mountpoint) + " with fstype " + i.mount->fs()->type_name() + "\n";
  }
  return out;
}

}  // namespace sentry::fs::proc

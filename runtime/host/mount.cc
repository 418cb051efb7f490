// SPDX-License-Identifier: Apache-2.0
// Built with detached mounts (fsmount, open_tree, move_mount), so no directory of the host serves as a mount point.
#include "runtime/host/mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "base/fd.h"
#include "base/sys.h"
#include "runtime/host/proc.h"

// <sys/mount.h> and <linux/mount.h> do not go together in glibc 2.36.
extern "C" int umount2(const char*, int) noexcept;
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*) noexcept;

namespace runtime::host {

using base::Fd;
using base::Result;
using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr unsigned long kMsRec = 16384, kMsPrivate = 1 << 18, kMsSlave = 1 << 19;
constexpr int kMntDetach = 2;

long ptr(const void* p) { return reinterpret_cast<long>(p); }

Result<Fd> new_tmpfs(const char* mode) {
  Fd fs(static_cast<int>(TRY(sys::raw(SYS_fsopen, ptr("tmpfs"), FSOPEN_CLOEXEC))));
  TRY(sys::raw(SYS_fsconfig, fs.get(), FSCONFIG_SET_STRING, ptr("mode"), ptr(mode), 0));
  TRY(sys::raw(SYS_fsconfig, fs.get(), FSCONFIG_SET_STRING, ptr("source"), ptr("caisson"), 0));
  TRY(sys::raw(SYS_fsconfig, fs.get(), FSCONFIG_CMD_CREATE, 0, 0, 0));
  return Fd(static_cast<int>(TRY(
      sys::raw(SYS_fsmount, fs.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV))));
}

Result<void> attach(int mount_fd, int dir, const char* name) {
  long flags = MOVE_MOUNT_F_EMPTY_PATH;
  TRY(sys::raw(SYS_move_mount, mount_fd, ptr(""), dir, ptr(name), flags));
  return {};
}

Result<void> set_attributes(int fd, uint64_t set, bool recursive, uint64_t propagation = 0) {
  mount_attr a{};
  a.attr_set = set;
  a.propagation = propagation;
  long flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  TRY(sys::raw(SYS_mount_setattr, fd, ptr(""), flags, ptr(&a), sizeof a));
  return {};
}

// slave: hears of the host, which never hears of it.
ResultX<void> part_from_host(unsigned long propagation) {
  TRY_MSG(sys::from_libc(::mount(nullptr, "/", nullptr, kMsRec | propagation, nullptr)), "make all mounts {}",
          propagation == kMsSlave ? "slaves of the host's" : "private");
  return {};
}

// Our new root, mounted over the old one (whose files stay reachable by path until the pivot).
ResultX<Fd> cover_root() {
  Fd root = TRY_MSG(new_tmpfs("0755"), "mount a tmpfs");
  TRY_MSG(attach(root.get(), AT_FDCWD, "/"), "mount the new root over /");
  return root;
}

ResultX<void> pivot(const Fd& root) {
  TRY_MSG(sys::from_libc(::fchdir(root.get())), "enter the new root");
  TRY_MSG(sys::raw(SYS_pivot_root, ptr("."), ptr(".")), "pivot_root");
  // The old root now lies over the new one at "."; take it away.
  TRY_MSG(sys::from_libc(::umount2(".", kMntDetach)), "detach the host's root");
  TRY_MSG(sys::from_libc(::chdir("/")), "enter the new root");
  return {};
}

bool is_pseudo(const std::string& type) {
  static constexpr const char* kTypes[] = {
      "proc",    "sysfs",      "cgroup",   "cgroup2",   "devpts", "devtmpfs",   "mqueue", "debugfs",     "tracefs",
      "pstore",  "securityfs", "configfs", "fusectl",   "bpf",    "efivarfs",   "autofs", "binfmt_misc", "hugetlbfs",
      "nsfs",    "rpc_pipefs", "nfsd",     "selinuxfs", "ramfs",  "smackfs"};
  return std::any_of(std::begin(kTypes), std::end(kTypes), [&](const char* t) { return type == t; });
}

// Detaches pseudo file systems below our root. Best effort: in a user namespace mounts that came together cannot
// be taken apart, and the sentry's own /proc, /sys and /dev cover them.
void drop_pseudo_mounts(const std::string& below) {
  auto text = read_file("/proc/self/mountinfo", 16 << 20);
  if (!text.ok()) return;
  std::istringstream lines(*text);
  std::vector<std::string> points;
  for (std::string line; std::getline(lines, line);) {
    size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string word, type;
    for (int i = 0; i < 5; i++) left >> word;
    right >> type;
    if (is_pseudo(type)) points.push_back(word);
  }
  // `points` are as seen in the old root; the same names lie below the attach. Children come after their parents.
  for (auto it = points.rbegin(); it != points.rend(); ++it) {
    if (*it != "/") ::umount2((below + *it).c_str(), kMntDetach);
  }
}

// A copy of a mount, not yet attached.
struct Clone {
  Fd tree;
  bool directory;
};

// Before our root covers "/": a recursive copy of "/" would have that cover on it.
ResultX<Clone> clone_tree(size_t n, const Attach& a) {
  // Follows symbolic links: the path is the host administrator's, as mount(8) takes it.
  auto opened = sys::openat(AT_FDCWD, a.source.c_str(), O_PATH);
  if (!opened.ok()) return base::wrap(opened.error(), base::format("mount source {}", a.source));
  Fd source = std::move(opened).value();
  struct stat st;
  TRY_MSG(sys::fstat(source.get(), &st), "mount source {}", a.source);
  bool directory = S_ISDIR(st.st_mode);
  if (n == 0 && !directory) return base::error(base::kENOTDIR, "root.path {} is not a directory", a.source);
  long flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (a.recursive ? AT_RECURSIVE : 0);
  Fd tree(static_cast<int>(TRY_MSG(sys::raw(SYS_open_tree, source.get(), ptr(""), flags), "bind {}", a.source)));
  // No set-uid program and no device of an image ever counts on the host, whatever the gofer is made to do.
  uint64_t set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (a.read_only) set |= MOUNT_ATTR_RDONLY;
  if (a.no_exec) set |= MOUNT_ATTR_NOEXEC;
  TRY_MSG(set_attributes(tree.get(), set, a.recursive, a.slave ? kMsSlave : kMsPrivate), "set mount attributes of {}", a.source);
  return Clone{std::move(tree), directory};
}

ResultX<void> attach_tree(int root, size_t n, const Attach& a, const Clone& clone) {
  std::string name = std::to_string(n);
  if (clone.directory) {
    TRY_MSG(sys::from_libc(::mkdirat(root, name.c_str(), 0755)), "make /{}", name);
  } else {
    Fd made = TRY_MSG(sys::openat(root, name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600), "make /{}", name);
  }
  TRY_MSG(attach(clone.tree.get(), root, name.c_str()), "attach {}", a.source);
  return {};
}

}  // namespace

ResultX<void> enter_empty_root() {
  TRY(part_from_host(kMsPrivate));
  Fd root = TRY(cover_root());
  TRY(pivot(root));
  TRY_MSG(set_attributes(root.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, false), "make the root read-only");
  return {};
}

ResultX<void> enter_gofer_root(const std::vector<Attach>& attaches, const std::string& store, Owner owner) {
  TRY(part_from_host(kMsSlave));
  std::vector<Clone> clones;
  for (size_t i = 0; i < attaches.size(); i++) clones.push_back(TRY(clone_tree(i, attaches[i])));
  Fd root = TRY(cover_root());
  for (size_t i = 0; i < attaches.size(); i++) TRY(attach_tree(root.get(), i, attaches[i], clones[i]));
  for (const char* d : {"store", "shm"}) {
    TRY_MSG(sys::from_libc(::mkdirat(root.get(), d, 0700)), "make /{}", d);
  }
  Fd st(static_cast<int>(TRY_MSG(sys::raw(SYS_open_tree, AT_FDCWD, ptr(store.c_str()), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
                                 "bind the store {}", store)));
  TRY_MSG(set_attributes(st.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false, kMsPrivate), "set mount attributes of {}", store);
  TRY_MSG(attach(st.get(), root.get(), "store"), "attach the store {}", store);
  Fd shm = TRY_MSG(new_tmpfs("0700"), "mount a tmpfs");
  TRY_MSG(attach(shm.get(), root.get(), "shm"), "attach the tmpfs for shared memory");
  for (const Fd* own : {&st, &shm}) {
    if (owner.uid || owner.gid) TRY_MSG(sys::from_libc(::fchownat(own->get(), "", owner.uid, owner.gid, AT_EMPTY_PATH)), "give the store to {}:{}", owner.uid, owner.gid);
  }
  if (!attaches.empty() && attaches[0].drop_pseudo) {
    TRY_MSG(sys::from_libc(::fchdir(root.get())), "enter the new root");
    drop_pseudo_mounts("0");
  }
  TRY(pivot(root));
  TRY_MSG(set_attributes(root.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, false), "make the root read-only");
  return {};
}

}  // namespace runtime::host

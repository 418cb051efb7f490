// SPDX-License-Identifier: Apache-2.0
// The top of procfs: processes by number, self, and the files of the whole system. Linux: fs/proc/root.c.
#include <algorithm>
#include <charconv>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;

constexpr uint64_t kRootIno = 1, kFirstSystemIno = 0x1000, kFirstDirIno = 0x2000;

// /proc/self and /proc/thread-self lead to whoever follows them.
class SelfLink final : public common::SyntheticSymlink {
 public:
  SelfLink(ProcFs& fs, uint64_t ino, bool thread) : SyntheticSymlink(fs, ino), thread_(thread) {}
  Result<std::string> target() override {
    Task* me = reader();
    const auto& pids = *static_cast<ProcFs&>(fs()).pids;
    int pid = me ? me->group().pid_in(pids) : 0;
    if (pid == 0) return kENOENT;
    std::string out = std::to_string(pid);
    if (thread_) out += "/task/" + std::to_string(me->tid_in(pids));
    return out;
  }

 private:
  const bool thread_;
};

class SystemText final : public common::TextInode {
 public:
  SystemText(ProcFs& fs, uint64_t ino, const SystemEntry& e) : TextInode(fs, ino, e.mode), entry_(e) {}
  Result<std::string> text() override { return entry_.text(static_cast<ProcFs&>(fs())); }

 private:
  const SystemEntry& entry_;
};

// /proc/sysvipc: what the reader's namespace has.
class SysvipcText final : public common::TextInode {
 public:
  SysvipcText(ProcFs& fs, uint64_t ino, const char* kind) : TextInode(fs, ino, 0444), fs_(fs), kind_(kind) {}
  Result<std::string> text() override { return kernel::sysvipc_text(kind_, *fs_.pids); }

 private:
  ProcFs& fs_;
  const std::string_view kind_;
};

class RootDirectory final : public common::SyntheticDirectory {
 public:
  explicit RootDirectory(ProcFs& fs) : SyntheticDirectory(fs, kRootIno), proc_(fs) {
    uint64_t ino = kFirstSystemIno;
    for (const SystemEntry& e : system_entries()) fixed_.emplace(e.name, make_ref<SystemText>(fs, ino++, e));
    ino = kFirstDirIno;
    fixed_.emplace("self", make_ref<SelfLink>(fs, ino++, false));
    fixed_.emplace("thread-self", make_ref<SelfLink>(fs, ino++, true));
    fixed_.emplace("mounts", common::make_constant_symlink(fs, ino++, "self/mounts"));
    fixed_.emplace("net", common::make_constant_symlink(fs, ino++, "self/net"));
    for (const char* empty : {"bus", "driver", "fs", "irq"})
      fixed_.emplace(empty, make_ref<common::StaticDirectory>(fs, ino++));
    fixed_.emplace("tty", make_tty(ino));
    fixed_.emplace("sysvipc", make_sysvipc(ino));
    fixed_.emplace("sys", make_sys(fs));
  }

  bool dentries_are_stable() const override { return false; }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    auto it = fixed_.find(name);
    if (it != fixed_.end()) return RefOrNull<vfs::Inode>(it->second);
    int tid = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), tid);
    if (error != std::errc() || end != name.data() + name.size() || name[0] == '0' || tid <= 0)
      return kENOENT;
    if (RefOrNull<kernel::ThreadGroup> g = proc_.pids->find_group(tid))
      return RefOrNull<vfs::Inode>(ProcessDirectory::of(Subject{proc_, g.get_ref(), nullptr, tid}));
    // A thread that leads no process is not listed, but answers.
    RefOrNull<Task> t = proc_.pids->find_task(tid);
    if (!t) return kENOENT;
    return RefOrNull<vfs::Inode>(ProcessDirectory::of(Subject{proc_, t->group_ref(), t, tid}));
  }
  Result<std::vector<Entry>> entries() override {
    std::vector<Entry> out;
    for (const auto& [name, inode] : fixed_) {
      Result<vfs::Attributes> a = inode->attributes();
      out.push_back({name, a.ok() ? a->ino : 0, inode->type()});
    }
    for (const Ref<kernel::ThreadGroup>& g : proc_.pids->groups()) {
      int pid = g->pid_in(*proc_.pids);
      if (pid > 0) out.push_back({std::to_string(pid), ino_of_tid(pid, false), S_IFDIR});
    }
    return out;
  }
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = TRY(SyntheticDirectory::attributes());
    a.nlink = static_cast<uint32_t>(2 + 9 + proc_.pids->groups().size());
    return a;
  }

 private:
  Ref<vfs::Inode> make_tty(uint64_t& ino) {
    auto dir = make_ref<common::StaticDirectory>(proc_, ino++);
    dir->add("drivers", common::make_constant_text(proc_, ino++, 0444,
        "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
        "/dev/console         /dev/console    5       1 system:console\n"
        "/dev/ptmx            /dev/ptmx       5       2 system\n"
        "pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
        "pty_master           /dev/ptm      128 0-1048575 pty:master\n"));
    dir->add("ldiscs", common::make_constant_text(proc_, ino++, 0444, "n_tty       0\n"));
    return dir;
  }
  Ref<vfs::Inode> make_sysvipc(uint64_t& ino) {
    auto dir = make_ref<common::StaticDirectory>(proc_, ino++);
    for (const char* name : {"msg", "sem", "shm"}) dir->add(name, make_ref<SysvipcText>(proc_, ino++, name));
    return dir;
  }

  ProcFs& proc_;
  std::map<std::string, Ref<vfs::Inode>, std::less<>> fixed_;
};

}  // namespace

Ref<vfs::Inode> ProcFs::root() { return root_.get_ref(); }
vfs::FsStat ProcFs::statfs() {
  vfs::FsStat s;
  s.type = 0x9fa0;  // PROC_SUPER_MAGIC
  return s;
}

RefOrNull<kernel::Container> container_of_reader(ProcFs& fs) {
  if (Task* me = reader()) return Ref<kernel::Container>(me->container());
  if (RefOrNull<kernel::ThreadGroup> init = fs.pids->init()) return Ref<kernel::Container>(init->container());
  return nullptr;
}

unsigned cpus_of_reader(ProcFs& fs) {
  RefOrNull<kernel::Container> c = container_of_reader(fs);
  return c ? kernel::cpu_count(fs.kernel, *c) : fs.kernel.machine().cpus;
}

std::string text_for_reader(const vfs::Path& p) {
  Task* me = reader();
  RefOrNull<kernel::FsContext> fs = me ? kernel::find_fs(*me) : nullptr;
  if (!fs) return vfs::path_text_from_top(p);
  // Linux: d_path() does not say that a place cannot be reached, as getcwd(2) does.
  constexpr std::string_view kUnreachable = "(unreachable)";
  std::string text = vfs::path_text(*fs->mounts(), p, fs->root());
  return text.starts_with(kUnreachable) ? text.substr(kUnreachable.size()) : text;
}

Ref<vfs::Inode> make_root(ProcFs& fs) { return make_ref<RootDirectory>(fs); }

Ref<vfs::FileSystem> create(kernel::Kernel& kernel, const Ref<kernel::Container>& container) {
  Task* t = reader();  // who mounts it sees its own processes
  Ref<ProcFs> fs = make_ref<ProcFs>(kernel, t ? Ref<kernel::PidNamespace>(t->group().pid_namespace()) : container->pids());
  fs->set_root(make_root(*fs));
  return fs;
}

}  // namespace sentry::fs::proc

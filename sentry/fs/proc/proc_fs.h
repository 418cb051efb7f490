// SPDX-License-Identifier: Apache-2.0
// What the files of this room share: the file system, and whom an inode is about.
#pragma once

#include <map>
#include <span>
#include <string>

#include "sentry/fs/common/synthetic.h"
#include "sentry/fs/common/text.h"
#include "sentry/kernel/inspect.h"

namespace sentry::fs::proc {

using common::append;

class ProcessDirectory;

// The mounted file system. It keeps the PID namespace, never the container: that one keeps the mount.
class ProcFs final : public vfs::FileSystem {
 public:
  ProcFs(kernel::Kernel& k, Ref<kernel::PidNamespace> p) : kernel(k), pids(std::move(p)) {}
  Ref<vfs::Inode> root() override;
  vfs::FsStat statfs() override;
  const char* type_name() const override { return "proc"; }
  void set_root(Ref<vfs::Inode> r) { root_ = std::move(r); }

  kernel::Kernel& kernel;
  const Ref<kernel::PidNamespace> pids;

  // Directories of processes and threads that somebody uses, so that a path through one keeps its identity.
  struct Key {
    int tid;
    bool thread;
    auto operator<=>(const Key&) const = default;
  };
  Mutex mu{LockRank::kFilePrivate};
  std::map<Key, ProcessDirectory*> directories GUARDED_BY(mu);
  // Values written to /proc/sys that nothing acts on, by path.
  std::map<std::string, std::string, std::less<>> settings GUARDED_BY(mu);
  // Load averages go on from here when they are next read.
  struct Load {
    int64_t at = 0;
    uint64_t cpu_ns = 0;
    double average[3] = {};
  };
  Load load GUARDED_BY(mu);
  uint64_t shown_user GUARDED_BY(mu) = 0, shown_system GUARDED_BY(mu) = 0;  // /proc/stat never goes back

 private:
  RefOrNull<vfs::Inode> root_;
};

// In loops over what an application can make many of: lets others go first now and then.
struct Breather {
  unsigned n = 0;
  void step() {
    if (++n % 256 == 0 && sched::current()) sched::yield();
  }
};

// Who reads; null: the kernel itself.
inline kernel::Task* reader() { return kernel::Task::find_current(); }
// The reader's container, for limits; null when nobody is left.
RefOrNull<kernel::Container> container_of_reader(ProcFs& fs);
unsigned cpus_of_reader(ProcFs& fs);
// A path as the reader sees it from its root.
std::string text_for_reader(const vfs::Path& p);

// A process, or one thread of it (/proc/PID/task/TID).
struct Subject {
  ProcFs& fs;
  Ref<kernel::ThreadGroup> group;
  RefOrNull<kernel::Task> thread;  // null: the process, which its leader stands for
  int tid = 0;                     // in the file system's namespace

  bool alive() const;
  Result<Ref<kernel::Task>> task() const;  // ESRCH
  RefOrNull<mm::AddressSpace> space() const;  // null: none any more
};

// Inode numbers tell what they are of: (tid + 1) << 28, the thread bit, the index.
inline constexpr uint64_t kThreadBit = 1 << 27;
inline constexpr uint64_t kFdBase = 1 << 21, kFdInfoBase = 1 << 22, kNetBase = 1 << 23;
inline uint64_t ino_of(const Subject& s, uint64_t index) {
  return (static_cast<uint64_t>(s.tid) + 1) << 28 | (s.thread ? kThreadBit : 0) | index;
}
inline uint64_t ino_of_tid(int tid, bool thread) { return (static_cast<uint64_t>(tid) + 1) << 28 | (thread ? kThreadBit : 0); }

// The owner of a task's files: its effective ids, or root when it may not be looked into.
void own(const Subject& s, vfs::Attributes& a);

// An inode that belongs to its subject.
template <typename Base>
class OfTask : public Base {
 public:
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = TRY(Base::attributes());
    own(subject_, a);
    return a;
  }
  Result<void> check_access(const auth::Credentials& cred, int mask) override {
    vfs::Attributes a = TRY(attributes());
    return vfs::check_mode(cred, mask, a.mode, a.uid, a.gid);
  }

 protected:
  template <typename... A>
  OfTask(const Subject& s, A&&... a) : Base(s.fs, std::forward<A>(a)...), subject_(s) {}
  // Linux: proc_fd_access_allowed() and its like.
  Result<Ref<kernel::Task>> inspected() const {
    Ref<kernel::Task> t = TRY(subject_.task());
    if (!kernel::may_inspect(reader(), *t)) return kEACCES;
    return t;
  }
  const Subject subject_;
};

using TextOf = Result<std::string> (*)(const Subject&, kernel::Task&);
using StoreTo = Result<void> (*)(const Subject&, kernel::Task&, std::string_view);
// With the description that is written to: whoever opened it counts.
using StoreAs = Result<void> (*)(const Subject&, kernel::Task&, vfs::File&, std::string_view);
using Maker = Ref<vfs::Inode> (*)(const Subject&, uint64_t ino);

enum class Guard : uint8_t { none, at_open };  // at_open: EACCES unless the opener may inspect the task
enum class Where : uint8_t { both, process, thread };

// One name in /proc/PID: a text, or what `make` makes.
struct TaskEntry {
  const char* name;
  uint32_t mode;  // with type
  TextOf text = nullptr;
  StoreTo store = nullptr;
  StoreAs store_as = nullptr;
  Guard guard = Guard::none;
  Where where = Where::both;
  Maker make = nullptr;
};

// A directory of such entries. The inodes it has made stay with it. As all of procfs it answers ENOENT for other names: then
// making one fails with that too, whoever asks.
class TableDirectory : public OfTask<common::SyntheticDirectory> {
 public:
  TableDirectory(const Subject& s, uint64_t ino, uint32_t mode, std::span<const TaskEntry> table, uint64_t first_index)
      : OfTask(s, ino, mode), table_(table), first_(first_index) {}
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override;
  Result<std::vector<Entry>> entries() override;
  bool dentries_are_stable() const override { return false; }

 private:
  bool shown(const TaskEntry& e) const;
  const std::span<const TaskEntry> table_;
  const uint64_t first_;
  std::map<size_t, Ref<vfs::Inode>> made_;  // guarded by lock(), as lookup() is
};

// /proc/PID and /proc/PID/task/TID.
class ProcessDirectory final : public TableDirectory {
 public:
  explicit ProcessDirectory(const Subject& s);
  ~ProcessDirectory() override;
  const Subject& subject() const { return subject_; }
  static Ref<ProcessDirectory> of(const Subject& s);
};

// ---- Texts, by file ----
// status.cc
Result<std::string> stat_text(const Subject& s, kernel::Task& t);
Result<std::string> statm_text(const Subject& s, kernel::Task& t);
Result<std::string> status_text(const Subject& s, kernel::Task& t);
// accounts.cc
Result<std::string> limits_text(const Subject& s, kernel::Task& t);
Result<std::string> sched_text(const Subject& s, kernel::Task& t);
Result<std::string> schedstat_text(const Subject& s, kernel::Task& t);
Result<std::string> children_text(const Subject& s, kernel::Task& t);
Result<std::string> timers_text(const Subject& s, kernel::Task& t);
// maps.cc
Result<std::string> maps_text(const Subject& s, kernel::Task& t);
Result<std::string> smaps_text(const Subject& s, kernel::Task& t);
Result<std::string> smaps_rollup_text(const Subject& s, kernel::Task& t);
Result<std::string> numa_maps_text(const Subject& s, kernel::Task& t);
// One line of maps; name: what stands in its last column.
std::string maps_line(const mm::Vma& v, std::string_view name);
// memory.cc
Result<std::string> cmdline_text(const Subject& s, kernel::Task& t);
Result<std::string> environ_text(const Subject& s, kernel::Task& t);
Result<std::string> auxv_text(const Subject& s, kernel::Task& t);
Ref<vfs::Inode> make_mem(const Subject& s, uint64_t ino);
// mounts.cc
Result<std::string> mounts_text(const Subject& s, kernel::Task& t);
Result<std::string> mountinfo_text(const Subject& s, kernel::Task& t);
Result<std::string> mountstats_text(const Subject& s, kernel::Task& t);
std::string escape_mount_field(std::string_view text);
// links.cc
Ref<vfs::Inode> make_exe(const Subject& s, uint64_t ino);
Ref<vfs::Inode> make_cwd(const Subject& s, uint64_t ino);
Ref<vfs::Inode> make_root_link(const Subject& s, uint64_t ino);
Ref<vfs::Inode> make_ns(const Subject& s, uint64_t ino);
// descriptors.cc
Ref<vfs::Inode> make_fd(const Subject& s, uint64_t ino);
Ref<vfs::Inode> make_fdinfo(const Subject& s, uint64_t ino);
// net.cc
Ref<vfs::Inode> make_net(const Subject& s, uint64_t ino);
// id_maps.cc
Result<std::string> uid_map_text(const Subject& s, kernel::Task& t);
Result<std::string> gid_map_text(const Subject& s, kernel::Task& t);
Result<std::string> projid_map_text(const Subject& s, kernel::Task& t);
Result<void> uid_map_store(const Subject& s, kernel::Task& t, vfs::File& f, std::string_view v);
Result<void> gid_map_store(const Subject& s, kernel::Task& t, vfs::File& f, std::string_view v);
Result<void> projid_map_store(const Subject& s, kernel::Task& t, vfs::File& f, std::string_view v);
Result<std::string> setgroups_text(const Subject& s, kernel::Task& t);
Result<void> setgroups_store(const Subject& s, kernel::Task& t, vfs::File& f, std::string_view v);
Result<std::string> timens_text(const Subject& s, kernel::Task& t);
Result<void> timens_store(const Subject& s, kernel::Task& t, vfs::File& f, std::string_view v);
// process.cc
Ref<vfs::Inode> make_task(const Subject& s, uint64_t ino);

// ---- Files of the whole system ----
struct SystemEntry {
  const char* name;
  uint32_t mode;
  std::string (*text)(ProcFs&);
};
std::span<const SystemEntry> system_entries();
std::string cpuinfo_text(ProcFs& fs);
std::string meminfo_text(ProcFs& fs);
std::string system_stat_text(ProcFs& fs);
std::string uptime_text(ProcFs& fs);
std::string loadavg_text(ProcFs& fs);
std::string vmstat_text(ProcFs& fs);
Ref<vfs::Inode> make_sys(ProcFs& fs);  // sysctl.cc
Ref<vfs::Inode> make_root(ProcFs& fs);

}  // namespace sentry::fs::proc

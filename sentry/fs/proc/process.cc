// SPDX-License-Identifier: Apache-2.0
// /proc/PID and /proc/PID/task: the table of names and the small files that need no more than a line. Linux: fs/proc/base.c.
#include <algorithm>
#include <charconv>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;
using R = Result<std::string>;

bool same_process(const Subject& s) {
  Task* me = reader();
  return me && &me->group() == s.group.get();
}
bool has_cap(int cap) {
  Task* me = reader();
  return !me || me->credentials()->has_cap(cap);
}

// ---- Small texts ----

R comm_text(const Subject&, Task& t) { return t.name() + "\n"; }
Result<void> comm_store(const Subject& s, Task& t, std::string_view v) {
  if (!same_process(s)) return kEINVAL;
  v = v.substr(0, 15);
  t.set_name(v.substr(0, v.find('\0')));
  return {};
}

R oom_score_text(const Subject& s, Task&) {
  return std::to_string(std::max(0, 666 + kernel::oom_score_adj(*s.group) * 2 / 3)) + "\n";
}
R oom_score_adj_text(const Subject& s, Task&) { return std::to_string(kernel::oom_score_adj(*s.group)) + "\n"; }
Result<void> oom_score_adj_store(const Subject& s, Task&, std::string_view v) {
  int64_t n = TRY(common::parse_number(v));
  if (n < -1000 || n > 1000) return kEINVAL;
  if (n < kernel::oom_score_adj(*s.group) && !has_cap(CAP_SYS_RESOURCE)) return kEACCES;
  kernel::set_oom_score_adj(*s.group, static_cast<int>(n));
  return {};
}
// The old scale, -17 to 15 (Linux: oom_adj_read).
R oom_adj_text(const Subject& s, Task&) {
  int adj = kernel::oom_score_adj(*s.group);
  int old = adj == 1000 ? 15 : adj * 17 / 1000;
  return std::to_string(std::min(old, 15)) + "\n";
}
Result<void> oom_adj_store(const Subject& s, Task& t, std::string_view v) {
  int64_t n = TRY(common::parse_number(v));
  if (n < -17 || n > 15) return kEINVAL;
  return oom_score_adj_store(s, t, std::to_string(n == 15 ? 1000 : n * 1000 / 17));
}

R loginuid_text(const Subject& s, Task&) { return std::to_string(kernel::login_uid(*s.group)); }
Result<void> loginuid_store(const Subject& s, Task&, std::string_view v) {
  if (!same_process(s)) return kEPERM;
  int64_t n = TRY(common::parse_number(v));
  if (n < -1 || n > UINT32_MAX) return kEINVAL;
  if (kernel::login_uid(*s.group) != ~0u && !has_cap(CAP_AUDIT_CONTROL)) return kEPERM;
  kernel::set_login_uid(*s.group, static_cast<uint32_t>(n));
  return {};
}
R sessionid_text(const Subject& s, Task&) { return std::to_string(kernel::audit_session(*s.group)); }

R cgroup_text(const Subject&, Task&) { return std::string("0::/\n"); }
R cpuset_text(const Subject&, Task&) { return std::string("/\n"); }
// Differs from Linux: no kernel function is ever named.
R wchan_text(const Subject&, Task&) { return std::string("0"); }
R stack_text(const Subject&, Task&) { return kEPERM; }
R attr_text(const Subject&, Task&) { return kEINVAL; }  // no security module
Result<void> attr_store(const Subject&, Task&, std::string_view) { return kEINVAL; }

R io_text(const Subject&, Task&) {
  return std::string("rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
}
R personality_text(const Subject&, Task& t) {
  std::string out;
  append(out, "%08x\n", kernel::personality(t));
  return out;
}
R syscall_text(const Subject&, Task& t) {
  uint64_t n = kernel::last_call_number(t);
  if (n == ~0ull) return std::string("running\n");
  std::string out;
  // Differs from Linux: arguments and pointers are not told.
  append(out, "%llu 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", static_cast<unsigned long long>(n));
  return out;
}

R timerslack_text(const Subject& s, Task& t) {
  if (!same_process(s) && !has_cap(CAP_SYS_NICE)) return kEPERM;
  return std::to_string(kernel::timer_slack_ns(t)) + "\n";
}
Result<void> timerslack_store(const Subject& s, Task& t, std::string_view v) {
  if (!same_process(s) && !has_cap(CAP_SYS_NICE)) return kEPERM;
  int64_t n = TRY(common::parse_number(v));
  if (n < 0) return kEINVAL;
  kernel::set_timer_slack_ns(t, n == 0 ? 50000 : static_cast<uint64_t>(n));
  return {};
}

R coredump_filter_text(const Subject& s, Task&) {
  std::string out;
  append(out, "%08x\n", kernel::coredump_filter(*s.group));
  return out;
}
Result<void> coredump_filter_store(const Subject& s, Task&, std::string_view v) {
  kernel::set_coredump_filter(*s.group, static_cast<uint32_t>(TRY(common::parse_number(v))));
  return {};
}

Result<void> refuse_store(const Subject&, Task&, std::string_view) { return kEPERM; }
R arch_status_text(const Subject&, Task&) { return std::string(); }
R autogroup_text(const Subject& s, Task& t) {
  std::string out;
  append(out, "/autogroup-%d nice 0\n", kernel::task_facts(t, *s.fs.pids, kernel::FactsOf::process).session);
  return out;
}
R ksm_text(const Subject&, Task&) { return std::string("0\n"); }
Result<void> clear_refs_store(const Subject&, Task&, std::string_view v) {
  int64_t n = TRY(common::parse_number(v));
  if (n < 1 || n > 5) return kEINVAL;
  return {};
}

// Resets statistics that are not kept.
Result<void> accept_store(const Subject&, Task&, std::string_view) { return {}; }

constexpr uint32_t kReg = S_IFREG, kDir = S_IFDIR, kLnk = S_IFLNK | 0777;

constexpr TaskEntry kAttr[] = {
    {.name = "current", .mode = kReg | 0666, .text = attr_text, .store = attr_store},
    {.name = "prev", .mode = kReg | 0444, .text = attr_text},
    {.name = "exec", .mode = kReg | 0666, .text = attr_text, .store = attr_store},
    {.name = "fscreate", .mode = kReg | 0666, .text = attr_text, .store = attr_store},
    {.name = "keycreate", .mode = kReg | 0666, .text = attr_text, .store = attr_store},
    {.name = "sockcreate", .mode = kReg | 0666, .text = attr_text, .store = attr_store},
};
constexpr uint64_t kAttrFirst = 256;

Ref<vfs::Inode> make_attr(const Subject& s, uint64_t ino) {
  return make_ref<TableDirectory>(s, ino, 0555, kAttr, kAttrFirst);
}

// In Linux's order (tgid_base_stuff).
constexpr TaskEntry kEntries[] = {
    {.name = "task", .mode = kDir | 0555, .where = Where::process, .make = make_task},
    {.name = "fd", .mode = kDir | 0500, .make = make_fd},
    {.name = "fdinfo", .mode = kDir | 0555, .make = make_fdinfo},
    {.name = "ns", .mode = kDir | 0511, .make = make_ns},
    {.name = "net", .mode = kDir | 0555, .make = make_net},
    {.name = "environ", .mode = kReg | 0400, .text = environ_text, .guard = Guard::at_open},
    {.name = "auxv", .mode = kReg | 0400, .text = auxv_text, .guard = Guard::at_open},
    {.name = "status", .mode = kReg | 0444, .text = status_text},
    {.name = "personality", .mode = kReg | 0400, .text = personality_text, .guard = Guard::at_open},
    {.name = "limits", .mode = kReg | 0444, .text = limits_text},
    {.name = "sched", .mode = kReg | 0644, .text = sched_text, .store = accept_store},
    {.name = "autogroup", .mode = kReg | 0644, .text = autogroup_text, .store = refuse_store, .where = Where::process},
    {.name = "timens_offsets", .mode = kReg | 0644, .text = timens_text, .store_as = timens_store, .where = Where::process},
    {.name = "comm", .mode = kReg | 0644, .text = comm_text, .store = comm_store},
    {.name = "syscall", .mode = kReg | 0400, .text = syscall_text, .guard = Guard::at_open},
    {.name = "cmdline", .mode = kReg | 0444, .text = cmdline_text},
    {.name = "stat", .mode = kReg | 0444, .text = stat_text},
    {.name = "statm", .mode = kReg | 0444, .text = statm_text},
    {.name = "maps", .mode = kReg | 0444, .text = maps_text, .guard = Guard::at_open},
    {.name = "children", .mode = kReg | 0444, .text = children_text, .where = Where::thread},
    {.name = "numa_maps", .mode = kReg | 0444, .text = numa_maps_text, .guard = Guard::at_open},
    {.name = "mem", .mode = kReg | 0600, .make = make_mem},
    {.name = "cwd", .mode = kLnk, .make = make_cwd},
    {.name = "root", .mode = kLnk, .make = make_root_link},
    {.name = "exe", .mode = kLnk, .make = make_exe},
    {.name = "mounts", .mode = kReg | 0444, .text = mounts_text},
    {.name = "mountinfo", .mode = kReg | 0444, .text = mountinfo_text},
    {.name = "mountstats", .mode = kReg | 0400, .text = mountstats_text, .where = Where::process},
    {.name = "clear_refs", .mode = kReg | 0200, .text = attr_text, .store = clear_refs_store},
    {.name = "smaps", .mode = kReg | 0444, .text = smaps_text, .guard = Guard::at_open},
    {.name = "smaps_rollup", .mode = kReg | 0444, .text = smaps_rollup_text, .guard = Guard::at_open},
    {.name = "attr", .mode = kDir | 0555, .make = make_attr},
    {.name = "wchan", .mode = kReg | 0444, .text = wchan_text},
    {.name = "stack", .mode = kReg | 0400, .text = stack_text},
    {.name = "schedstat", .mode = kReg | 0444, .text = schedstat_text},
    {.name = "cpuset", .mode = kReg | 0444, .text = cpuset_text},
    {.name = "cgroup", .mode = kReg | 0444, .text = cgroup_text},
    {.name = "oom_score", .mode = kReg | 0444, .text = oom_score_text},
    {.name = "oom_adj", .mode = kReg | 0644, .text = oom_adj_text, .store = oom_adj_store},
    {.name = "oom_score_adj", .mode = kReg | 0644, .text = oom_score_adj_text, .store = oom_score_adj_store},
    {.name = "loginuid", .mode = kReg | 0644, .text = loginuid_text, .store = loginuid_store},
    {.name = "sessionid", .mode = kReg | 0444, .text = sessionid_text},
    {.name = "coredump_filter", .mode = kReg | 0644, .text = coredump_filter_text, .store = coredump_filter_store,
     .where = Where::process},
    {.name = "io", .mode = kReg | 0400, .text = io_text, .guard = Guard::at_open},
    {.name = "uid_map", .mode = kReg | 0644, .text = uid_map_text, .store_as = uid_map_store},
    {.name = "gid_map", .mode = kReg | 0644, .text = gid_map_text, .store_as = gid_map_store},
    {.name = "projid_map", .mode = kReg | 0644, .text = projid_map_text, .store_as = projid_map_store},
    {.name = "setgroups", .mode = kReg | 0644, .text = setgroups_text, .store_as = setgroups_store},
    {.name = "timers", .mode = kReg | 0444, .text = timers_text, .where = Where::process},
    {.name = "timerslack_ns", .mode = kReg | 0666, .text = timerslack_text, .store = timerslack_store,
     .where = Where::process},
    {.name = "arch_status", .mode = kReg | 0444, .text = arch_status_text},
    {.name = "ksm_merging_pages", .mode = kReg | 0400, .text = ksm_text, .guard = Guard::at_open},
};

// ---- A text of a task ----

class TaskText final : public OfTask<common::TextInode> {
 public:
  TaskText(const Subject& s, uint64_t ino, const TaskEntry& e) : OfTask(s, ino, e.mode), entry_(e) {}
  Result<std::string> text() override {
    Ref<Task> t = TRY(subject_.task());
    return entry_.text(subject_, *t);
  }
  Result<void> store(vfs::File& f, std::string_view v) override {
    if (!entry_.store && !entry_.store_as) return kEIO;
    Ref<Task> t = TRY(subject_.task());
    if (entry_.store_as) return entry_.store_as(subject_, *t, f, v);
    return entry_.store(subject_, *t, v);
  }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    if (entry_.guard == Guard::at_open) (void)TRY(inspected());
    return TextInode::open(where, flags, cred);
  }

 private:
  const TaskEntry& entry_;
};

// ---- /proc/PID/task ----

class TaskListDirectory final : public OfTask<common::SyntheticDirectory> {
 public:
  TaskListDirectory(const Subject& s, uint64_t ino) : OfTask(s, ino) {}
  bool dentries_are_stable() const override { return false; }
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = TRY(OfTask::attributes());
    a.nlink = 2 + static_cast<uint32_t>(subject_.group->tasks().size());
    return a;
  }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    int tid = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), tid);
    if (error != std::errc() || end != name.data() + name.size() || name[0] == '0' || tid <= 0)
      return kENOENT;
    RefOrNull<Task> t = subject_.fs.pids->find_task(tid);
    if (!t || &t->group() != subject_.group.get()) return kENOENT;
    return RefOrNull<vfs::Inode>(ProcessDirectory::of(Subject{subject_.fs, subject_.group, t, tid}));
  }
  Result<std::vector<Entry>> entries() override {
    if (!subject_.alive()) return kENOENT;
    std::vector<Entry> out;
    for (const Ref<Task>& t : subject_.group->tasks()) {
      int tid = t->tid_in(*subject_.fs.pids);
      if (tid > 0) out.push_back({std::to_string(tid), ino_of_tid(tid, true), S_IFDIR});
    }
    if (out.empty()) out.push_back({std::to_string(subject_.tid), ino_of_tid(subject_.tid, true), S_IFDIR});  // a zombie
    return out;
  }
};

}  // namespace

Ref<vfs::Inode> make_task(const Subject& s, uint64_t ino) { return make_ref<TaskListDirectory>(s, ino); }

// ---- Subjects ----

bool Subject::alive() const {
  if (thread) return fs.pids->find_task(tid).get() == thread.get();
  return fs.pids->find_group(tid).get() == group.get();
}

Result<Ref<Task>> Subject::task() const {
  if (!alive()) return kESRCH;
  if (thread) return thread.get_ref();
  RefOrNull<Task> t = group->leader();
  if (!t) return kESRCH;
  return t.get_ref();
}

RefOrNull<mm::AddressSpace> Subject::space() const {
  if (thread) return thread->find_mm();
  // The leader may have ended before its threads.
  RefOrNull<Task> t = group->leader();
  if (t)
    if (RefOrNull<mm::AddressSpace> m = t->find_mm()) return m;
  for (const Ref<Task>& other : group->tasks())
    if (RefOrNull<mm::AddressSpace> m = other->find_mm()) return m;
  return nullptr;
}

void own(const Subject& s, vfs::Attributes& a) {
  RefOrNull<Task> t = s.thread ? s.thread : s.group->leader();
  if (!t) return;
  Ref<auth::Credentials> cred = t->credentials();
  if (!kernel::is_dumpable(*t) && a.mode != (S_IFDIR | 0555)) return;
  a.uid = cred->euid;
  a.gid = cred->egid;
}

// ---- Directories ----

bool TableDirectory::shown(const TaskEntry& e) const {
  return e.where == Where::both || (e.where == Where::thread) == static_cast<bool>(subject_.thread);
}

Result<RefOrNull<vfs::Inode>> TableDirectory::lookup(std::string_view name) {
  for (size_t i = 0; i < table_.size(); i++) {
    const TaskEntry& e = table_[i];
    if (name != e.name || !shown(e)) continue;
    if (!subject_.alive()) break;
    auto it = made_.find(i);
    if (it == made_.end()) {
      uint64_t ino = ino_of(subject_, first_ + i);
      Ref<vfs::Inode> made = e.make ? e.make(subject_, ino) : Ref<vfs::Inode>(make_ref<TaskText>(subject_, ino, e));
      it = made_.emplace(i, std::move(made)).first;
    }
    return RefOrNull<vfs::Inode>(it->second);
  }
  return kENOENT;
}

Result<std::vector<common::SyntheticDirectory::Entry>> TableDirectory::entries() {
  if (!subject_.alive()) return kENOENT;
  std::vector<Entry> out;
  for (size_t i = 0; i < table_.size(); i++)
    if (shown(table_[i])) out.push_back({table_[i].name, ino_of(subject_, first_ + i), table_[i].mode & S_IFMT});
  return out;
}

ProcessDirectory::ProcessDirectory(const Subject& s)
    : TableDirectory(s, ino_of_tid(s.tid, static_cast<bool>(s.thread)), 0555, kEntries, 1) {}

ProcessDirectory::~ProcessDirectory() {
  ProcFs& f = subject_.fs;
  MutexLock l(f.mu);
  auto it = f.directories.find({subject_.tid, static_cast<bool>(subject_.thread)});
  if (it != f.directories.end() && it->second == this) f.directories.erase(it);
}

// Linux: tgid_pidfd_to_pid().
RefOrNull<kernel::ThreadGroup> process_of(const vfs::File& file) {
  vfs::Inode& inode = file.inode();
  if (!inode.is_directory() || std::string_view(inode.fs().type_name()) != "proc" || (file.flags() & O_PATH)) return nullptr;
  auto& fs = static_cast<ProcFs&>(inode.fs());
  MutexLock l(fs.mu);
  for (auto& [key, directory] : fs.directories)
    if (directory == &inode && !key.thread) return directory->subject().group;
  return nullptr;
}

Ref<ProcessDirectory> ProcessDirectory::of(const Subject& s) {
  const ProcFs::Key key{s.tid, static_cast<bool>(s.thread)};
  RefOrNull<ProcessDirectory> known;
  {
    MutexLock l(s.fs.mu);
    auto it = s.fs.directories.find(key);
    if (it != s.fs.directories.end()) known = RefOrNull<ProcessDirectory>::upgrade(it->second);
  }
  if (known && known->subject().group == s.group && known->subject().thread.get() == s.thread.get())
    return known.get_ref();
  Ref<ProcessDirectory> made = make_ref<ProcessDirectory>(s);
  MutexLock l(s.fs.mu);
  s.fs.directories[key] = made.get();
  return made;
}

}  // namespace sentry::fs::proc

// SPDX-License-Identifier: Apache-2.0
// /proc/sys: one table of paths. A value that the kernel does not act on is either fixed (writes answer EPERM) or remembered for
// readers, as tools check what they wrote. Linux: kernel/sysctl.c, man 5 proc_sys.
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/kernel/ipc.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;

enum class Kind : uint8_t { fixed, remembered };

struct Setting {
  const char* path;
  uint32_t mode;
  Kind kind;
  const char* value;  // first value; null: text()
  std::string (*text)(ProcFs&) = nullptr;
  Result<void> (*store)(ProcFs&, std::string_view) = nullptr;
};

RefOrNull<kernel::UtsNamespace> uts(ProcFs& fs) {
  if (Task* me = reader()) return me->uts();
  if (RefOrNull<kernel::Container> c = container_of_reader(fs)) return c->uts();
  return nullptr;
}
std::string hostname(ProcFs& fs) {
  auto u = uts(fs);
  return u ? u->hostname() : "";
}
std::string domainname(ProcFs& fs) {
  auto u = uts(fs);
  std::string name = u ? u->domainname() : "";
  return name.empty() ? "(none)" : name;
}
Result<std::string> new_uts_name(std::string_view v) {
  Task* me = reader();
  if (me && !me->credentials()->has_cap_in(me->uts()->user_ns().get(), CAP_SYS_ADMIN)) return kEPERM;
  v = v.substr(0, v.find('\n'));
  return std::string(v.substr(0, 64));
}
Result<void> set_hostname(ProcFs& fs, std::string_view v) {
  std::string name = TRY(new_uts_name(v));
  if (auto u = uts(fs)) u->set_hostname(std::move(name));
  return {};
}
Result<void> set_domainname(ProcFs& fs, std::string_view v) {
  std::string name = TRY(new_uts_name(v));
  if (auto u = uts(fs)) u->set_domainname(std::move(name));
  return {};
}

// /proc/sys/user: of the reader's user namespace.
using N = kernel::NamespaceKind;
auth::NamespaceCounts& counts() {
  Task* me = reader();
  return auth::counts_of(me ? me->own_credentials().user_ns.get() : nullptr);
}
template <N kKind>
std::string max_namespaces(ProcFs&) {
  return std::to_string(counts().max[static_cast<size_t>(kKind)].load());
}
template <N kKind>
Result<void> set_max_namespaces(ProcFs&, std::string_view v) {
  const int64_t n = TRY(common::parse_number(v));
  if (n < 0 || n > INT32_MAX) return kEINVAL;
  counts().max[static_cast<size_t>(kKind)].store(static_cast<int>(n));
  return {};
}

std::string ns_last_pid(ProcFs& fs) { return std::to_string(fs.pids->last_pid()); }
std::string threads_max(ProcFs& fs) {
  RefOrNull<kernel::Container> c = container_of_reader(fs);
  int64_t limit = c ? c->limits().pids : 0;
  return std::to_string(limit > 0 ? limit : 65536);
}
std::string file_nr(ProcFs& fs) {
  size_t open = 0;
  for (const Ref<kernel::ThreadGroup>& g : fs.pids->groups())
    if (RefOrNull<Task> t = g->leader())
      if (RefOrNull<kernel::FdTable> files = kernel::find_files(*t)) open += files->numbers().size();
  return std::to_string(open) + "\t0\t9223372036854775807";
}
std::string boot_id(ProcFs& fs) { return kernel::boot_id(fs.kernel); }
std::string uuid(ProcFs& fs) { return kernel::random_uuid(fs.kernel); }

// /proc/sys/fs/mqueue: of the reader's IPC namespace.
using Q = kernel::QueueLimits;
template <std::atomic<int> Q::*Member>
std::string queue_limit(ProcFs&) {
  Task* me = reader();
  return std::to_string(me ? ((*kernel::ipc_of(*me)->queue_limits()).*Member).load() : (Q().*Member).load());
}
template <std::atomic<int> Q::*Member, int Least, int Most>
Result<void> set_queue_limit(ProcFs&, std::string_view v) {
  const int64_t n = TRY(common::parse_number(v));
  if (n < Least || n > Most) return kEINVAL;
  if (Task* me = reader()) (*kernel::ipc_of(*me)->queue_limits()).*Member = static_cast<int>(n);
  return {};
}

constexpr Kind F = Kind::fixed, M = Kind::remembered;

// Sorted by path: a directory's entries stand together.
constexpr Setting kSettings[] = {
    {"fs/aio-max-nr", 0644, M, "65536"},
    {"fs/aio-nr", 0444, F, "0"},
    {"fs/epoll/max_user_watches", 0644, M, "4194304"},
    {"fs/file-max", 0644, F, "9223372036854775807"},
    {"fs/file-nr", 0444, F, nullptr, file_nr},
    {"fs/inode-nr", 0444, F, "0\t0"},
    {"fs/inotify/max_queued_events", 0644, M, "16384"},
    {"fs/inotify/max_user_instances", 0644, M, "128"},
    {"fs/inotify/max_user_watches", 0644, M, "65536"},
    {"fs/lease-break-time", 0644, M, "45"},
    {"fs/leases-enable", 0644, M, "1"},
    {"fs/mount-max", 0644, F, "100000"},
    {"fs/mqueue/msg_default", 0644, F, nullptr, queue_limit<&Q::msg_default>, set_queue_limit<&Q::msg_default, 1, Q::kMaxMessages>},
    {"fs/mqueue/msg_max", 0644, F, nullptr, queue_limit<&Q::msg_max>, set_queue_limit<&Q::msg_max, 1, Q::kMaxMessages>},
    {"fs/mqueue/msgsize_default", 0644, F, nullptr, queue_limit<&Q::msgsize_default>, set_queue_limit<&Q::msgsize_default, 128, Q::kMaxSize>},
    {"fs/mqueue/msgsize_max", 0644, F, nullptr, queue_limit<&Q::msgsize_max>, set_queue_limit<&Q::msgsize_max, 128, Q::kMaxSize>},
    {"fs/mqueue/queues_max", 0644, F, nullptr, queue_limit<&Q::queues_max>, set_queue_limit<&Q::queues_max, 0, INT32_MAX>},
    {"fs/nr_open", 0644, F, "1048576"},
    {"fs/overflowgid", 0644, F, "65534"},
    {"fs/overflowuid", 0644, F, "65534"},
    {"fs/pipe-max-size", 0644, F, "1048576"},
    {"fs/pipe-user-pages-hard", 0644, M, "0"},
    {"fs/pipe-user-pages-soft", 0644, M, "16384"},
    {"fs/protected_fifos", 0600, F, "0"},
    {"fs/protected_hardlinks", 0600, F, "1"},
    {"fs/protected_regular", 0600, F, "0"},
    {"fs/protected_symlinks", 0600, F, "0"},
    {"fs/suid_dumpable", 0644, F, "0"},
    {"kernel/cap_last_cap", 0444, F, "40"},
    {"kernel/core_pattern", 0644, M, "core"},
    {"kernel/core_pipe_limit", 0644, M, "0"},
    {"kernel/core_uses_pid", 0644, M, "0"},
    {"kernel/dmesg_restrict", 0644, F, "1"},
    {"kernel/domainname", 0644, F, nullptr, domainname, set_domainname},
    {"kernel/hostname", 0644, F, nullptr, hostname, set_hostname},
    {"kernel/kptr_restrict", 0644, F, "2"},
    {"kernel/msgmax", 0644, M, "8192"},
    {"kernel/msgmnb", 0644, M, "16384"},
    {"kernel/msgmni", 0644, M, "32000"},
    {"kernel/ngroups_max", 0444, F, "65536"},
    {"kernel/ns_last_pid", 0666, F, nullptr, ns_last_pid},
    {"kernel/osrelease", 0444, F, kernel::kRelease},
    {"kernel/ostype", 0444, F, kernel::kSysname},
    {"kernel/overflowgid", 0644, F, "65534"},
    {"kernel/overflowuid", 0644, F, "65534"},
    {"kernel/panic", 0644, M, "0"},
    {"kernel/panic_on_oops", 0644, M, "0"},
    {"kernel/perf_event_paranoid", 0644, F, "4"},
    {"kernel/pid_max", 0644, F, "32768"},
    {"kernel/printk", 0644, M, "4\t4\t1\t7"},
    {"kernel/pty/max", 0644, M, "4096"},
    {"kernel/pty/nr", 0444, F, "0"},
    {"kernel/pty/reserve", 0644, M, "1024"},
    {"kernel/random/boot_id", 0444, F, nullptr, boot_id},
    {"kernel/random/entropy_avail", 0444, F, "256"},
    {"kernel/random/poolsize", 0444, F, "256"},
    {"kernel/random/urandom_min_reseed_secs", 0644, M, "60"},
    {"kernel/random/uuid", 0444, F, nullptr, uuid},
    {"kernel/random/write_wakeup_threshold", 0644, M, "256"},
    {"kernel/randomize_va_space", 0644, F, "2"},
    {"kernel/sem", 0644, M, "32000\t1024000000\t500\t32000"},
    {"kernel/shm_rmid_forced", 0644, M, "0"},
    {"kernel/shmall", 0644, M, "18446744073692774399"},
    {"kernel/shmmax", 0644, M, "18446744073692774399"},
    {"kernel/shmmni", 0644, M, "4096"},
    {"kernel/tainted", 0644, F, "0"},
    {"kernel/threads-max", 0644, F, nullptr, threads_max},
    {"kernel/unprivileged_bpf_disabled", 0644, F, "2"},
    {"kernel/version", 0444, F, kernel::kVersion},
    {"net/core/netdev_max_backlog", 0644, M, "1000"},
    {"net/core/optmem_max", 0644, M, "131072"},
    {"net/core/rmem_default", 0644, M, "212992"},
    {"net/core/rmem_max", 0644, M, "212992"},
    {"net/core/somaxconn", 0644, M, "4096"},
    {"net/core/wmem_default", 0644, M, "212992"},
    {"net/core/wmem_max", 0644, M, "212992"},
    {"net/ipv4/conf/all/forwarding", 0644, M, "0"},
    {"net/ipv4/conf/all/rp_filter", 0644, M, "0"},
    {"net/ipv4/conf/default/forwarding", 0644, M, "0"},
    {"net/ipv4/conf/default/rp_filter", 0644, M, "0"},
    {"net/ipv4/icmp_echo_ignore_all", 0644, M, "0"},
    {"net/ipv4/ip_default_ttl", 0644, M, "64"},
    {"net/ipv4/ip_forward", 0644, M, "0"},
    {"net/ipv4/ip_local_port_range", 0644, M, "32768\t60999"},
    {"net/ipv4/ip_local_reserved_ports", 0644, M, ""},
    {"net/ipv4/ip_nonlocal_bind", 0644, M, "0"},
    {"net/ipv4/ip_unprivileged_port_start", 0644, M, "1024"},
    {"net/ipv4/ping_group_range", 0644, M, "1\t0"},
    {"net/ipv4/tcp_abort_on_overflow", 0644, M, "0"},
    {"net/ipv4/tcp_allowed_congestion_control", 0644, F, "reno cubic"},
    {"net/ipv4/tcp_available_congestion_control", 0444, F, "reno cubic"},
    {"net/ipv4/tcp_congestion_control", 0644, F, "cubic"},
    {"net/ipv4/tcp_ecn", 0644, M, "2"},
    {"net/ipv4/tcp_fastopen", 0644, M, "1"},
    {"net/ipv4/tcp_fin_timeout", 0644, M, "60"},
    {"net/ipv4/tcp_keepalive_intvl", 0644, M, "75"},
    {"net/ipv4/tcp_keepalive_probes", 0644, M, "9"},
    {"net/ipv4/tcp_keepalive_time", 0644, M, "7200"},
    {"net/ipv4/tcp_max_orphans", 0644, M, "131072"},
    {"net/ipv4/tcp_max_syn_backlog", 0644, M, "2048"},
    {"net/ipv4/tcp_max_tw_buckets", 0644, M, "131072"},
    {"net/ipv4/tcp_mem", 0644, M, "287901\t383869\t575802"},
    {"net/ipv4/tcp_moderate_rcvbuf", 0644, M, "1"},
    {"net/ipv4/tcp_mtu_probing", 0644, M, "0"},
    {"net/ipv4/tcp_no_metrics_save", 0644, M, "0"},
    {"net/ipv4/tcp_retries1", 0644, M, "3"},
    {"net/ipv4/tcp_retries2", 0644, M, "15"},
    {"net/ipv4/tcp_rmem", 0644, M, "4096\t131072\t6291456"},
    {"net/ipv4/tcp_sack", 0644, M, "1"},
    {"net/ipv4/tcp_slow_start_after_idle", 0644, M, "1"},
    {"net/ipv4/tcp_syn_retries", 0644, M, "6"},
    {"net/ipv4/tcp_synack_retries", 0644, M, "5"},
    {"net/ipv4/tcp_syncookies", 0644, M, "1"},
    {"net/ipv4/tcp_timestamps", 0644, M, "1"},
    {"net/ipv4/tcp_tw_reuse", 0644, M, "2"},
    {"net/ipv4/tcp_window_scaling", 0644, M, "1"},
    {"net/ipv4/tcp_wmem", 0644, M, "4096\t16384\t4194304"},
    {"net/ipv6/bindv6only", 0644, M, "0"},
    {"net/ipv6/conf/all/disable_ipv6", 0644, M, "1"},
    {"net/ipv6/conf/all/forwarding", 0644, M, "0"},
    {"net/ipv6/conf/default/disable_ipv6", 0644, M, "1"},
    {"net/ipv6/conf/lo/disable_ipv6", 0644, M, "1"},
    {"net/unix/max_dgram_qlen", 0644, M, "10"},
    {"user/max_cgroup_namespaces", 0644, F, nullptr, max_namespaces<N::cgroup>, set_max_namespaces<N::cgroup>},
    {"user/max_ipc_namespaces", 0644, F, nullptr, max_namespaces<N::ipc>, set_max_namespaces<N::ipc>},
    {"user/max_mnt_namespaces", 0644, F, nullptr, max_namespaces<N::mnt>, set_max_namespaces<N::mnt>},
    {"user/max_net_namespaces", 0644, F, nullptr, max_namespaces<N::net>, set_max_namespaces<N::net>},
    {"user/max_pid_namespaces", 0644, F, nullptr, max_namespaces<N::pid>, set_max_namespaces<N::pid>},
    {"user/max_time_namespaces", 0644, F, nullptr, max_namespaces<N::time>, set_max_namespaces<N::time>},
    {"user/max_user_namespaces", 0644, F, nullptr, max_namespaces<N::user>, set_max_namespaces<N::user>},
    {"user/max_uts_namespaces", 0644, F, nullptr, max_namespaces<N::uts>, set_max_namespaces<N::uts>},
    {"vm/dirty_background_ratio", 0644, M, "10"},
    {"vm/dirty_expire_centisecs", 0644, M, "3000"},
    {"vm/dirty_ratio", 0644, M, "20"},
    {"vm/dirty_writeback_centisecs", 0644, M, "500"},
    {"vm/max_map_count", 0644, F, "65530"},
    {"vm/min_free_kbytes", 0644, F, "67584"},
    {"vm/mmap_min_addr", 0644, F, "65536"},
    {"vm/nr_hugepages", 0644, F, "0"},
    {"vm/oom_kill_allocating_task", 0644, F, "0"},
    {"vm/overcommit_kbytes", 0644, F, "0"},
    {"vm/overcommit_memory", 0644, F, "0"},
    {"vm/overcommit_ratio", 0644, F, "50"},
    {"vm/panic_on_oom", 0644, F, "0"},
    {"vm/swappiness", 0644, M, "60"},
    {"vm/vfs_cache_pressure", 0644, M, "100"},
    {"vm/zone_reclaim_mode", 0644, F, "0"},
};
static_assert(platform::kMinAddress == 65536, "vm/mmap_min_addr above");
static_assert(mm::kMaxMapCount == 65530, "vm/max_map_count above");

constexpr uint64_t kFirstIno = 0x10000;

// Numbers stay numbers, as many as there were.
Result<std::string> checked_value(const Setting& s, std::string_view v) {
  v = common::trim(v);
  const std::string_view was(s.value);
  const bool numeric = !was.empty() && was.find_first_not_of("-0123456789\t") == was.npos;
  std::string out;
  if (!numeric) return std::string(v.substr(0, 127));
  size_t fields = 0;
  while (!v.empty()) {
    const size_t end = std::min(v.find_first_of(" \t"), v.size());
    const std::string_view word = v.substr(0, end);
    uint64_t n = 0;
    const char* first = word.data() + (word[0] == '-' ? 1 : 0);
    auto [stop, error] = std::from_chars(first, word.data() + word.size(), n);
    if (error != std::errc() || stop != word.data() + word.size()) return kEINVAL;
    if (!out.empty()) out += '\t';
    out += word;
    fields++;
    v = common::trim(v.substr(end));
  }
  size_t expected = 1;
  for (char c : was) expected += c == '\t';
  if (fields != expected) return kEINVAL;
  return out;
}

class SettingText final : public common::TextInode {
 public:
  SettingText(ProcFs& fs, const Setting& s)
      : TextInode(fs, kFirstIno + static_cast<uint64_t>(&s - kSettings), S_IFREG | s.mode), proc_(fs), setting_(s) {}
  // What counts in a user namespace is its root's to change. Linux: set_permissions() of kernel/ucount.c.
  Result<void> check_access(const auth::Credentials& cred, int mask) override {
    if (std::string_view(setting_.path).starts_with("user/") && !(mask & X_OK) && cred.has_own_cap(CAP_SYS_RESOURCE)) return {};
    return TextInode::check_access(cred, mask);
  }
  Result<std::string> text() override {
    if (setting_.text) return setting_.text(proc_) + "\n";
    MutexLock l(proc_.mu);
    auto it = proc_.settings.find(setting_.path);
    return (it == proc_.settings.end() ? std::string(setting_.value) : it->second) + "\n";
  }
  Result<void> store(vfs::File&, std::string_view v) override {
    if (setting_.store) return setting_.store(proc_, v);
    if (setting_.kind == Kind::fixed) return kEPERM;
    std::string value = TRY(checked_value(setting_, v));
    MutexLock l(proc_.mu);
    proc_.settings[setting_.path] = std::move(value);
    return {};
  }

 private:
  ProcFs& proc_;
  const Setting& setting_;
};

// A directory of the table: everything whose path begins with prefix_.
class SettingDirectory final : public common::SyntheticDirectory {
 public:
  SettingDirectory(ProcFs& fs, uint64_t ino, std::string prefix)
      : SyntheticDirectory(fs, ino), proc_(fs), prefix_(std::move(prefix)) {}
  bool dentries_are_stable() const override { return false; }

  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    auto it = made_.find(name);
    if (it != made_.end()) return RefOrNull<vfs::Inode>(it->second);
    for (const Setting& s : kSettings) {
      std::string_view rest = below(s);
      if (rest.substr(0, rest.find('/')) != name || rest.empty()) continue;
      Ref<vfs::Inode> made = rest.size() == name.size()
          ? Ref<vfs::Inode>(make_ref<SettingText>(proc_, s))
          : Ref<vfs::Inode>(make_ref<SettingDirectory>(proc_, ino_of_directory(s), prefix_ + std::string(name) + "/"));
      made_.emplace(std::string(name), made);
      return RefOrNull<vfs::Inode>(std::move(made));
    }
    return kENOENT;
  }
  Result<std::vector<Entry>> entries() override {
    std::vector<Entry> out;
    for (const Setting& s : kSettings) {
      std::string_view rest = below(s);
      if (rest.empty()) continue;
      const size_t slash = rest.find('/');
      std::string name(rest.substr(0, slash));
      if (!out.empty() && out.back().name == name) continue;
      if (slash == rest.npos) out.push_back({name, kFirstIno + static_cast<uint64_t>(&s - kSettings), S_IFREG});
      else out.push_back({name, ino_of_directory(s), S_IFDIR});
    }
    return out;
  }

 private:
  // What is left of the path below this directory; empty: not in it.
  std::string_view below(const Setting& s) const {
    std::string_view path(s.path);
    return path.starts_with(prefix_) ? path.substr(prefix_.size()) : std::string_view();
  }
  uint64_t ino_of_directory(const Setting& first) const {
    return kFirstIno * 2 + static_cast<uint64_t>(&first - kSettings) * 16 + static_cast<uint64_t>(std::count(prefix_.begin(), prefix_.end(), '/'));
  }
  ProcFs& proc_;
  const std::string prefix_;
  std::map<std::string, Ref<vfs::Inode>, std::less<>> made_;  // guarded by lock()
};

}  // namespace

Ref<vfs::Inode> make_sys(ProcFs& fs) { return make_ref<SettingDirectory>(fs, kFirstIno - 1, ""); }

}  // namespace sentry::fs::proc

// SPDX-License-Identifier: Apache-2.0
// Runtime (and shim) to sentry: boot and control. One SOCK_SEQPACKET record each way; descriptors ride along in the
// order their message names them. The runtime has already checked the OCI config; the sentry checks
// again what it relies on. Records are at most kMaxRecord bytes.
//
// A sentry is started as `caisson-sentry CONTROL_FD` with one connected seqpacket socket to the process that
// made it, over which the first record is Boot. Later clients connect to the listening socket that Boot carries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/wire/codec.h"

namespace base::wire {

inline constexpr uint32_t kControlVersion = 6;
inline constexpr size_t kMaxRecord = 192 * 1024;  // fits the default net.core.wmem_max of a seqpacket socket
inline constexpr size_t kMaxRecordFds = 32;

struct Rlimit {
  uint32_t resource;  // RLIMIT_* number
  uint64_t soft, hard;
  template <typename A> void visit(A& a) { a(resource); a(soft); a(hard); }
};

// process.scheduler, ioPriority and execCPUAffinity.final, and linux.personality: 0 or empty is what a process has anyway.
struct Scheduling {
  int32_t policy = 0, nice = 0;      // SCHED_*
  uint32_t io_priority = 0;          // as ioprio_set(2) takes it
  std::vector<uint32_t> cpus;        // by their numbers inside; those that are not there do not count
  uint32_t personality = 0;          // PER_*
  template <typename A> void visit(A& a) { a(policy); a(nice); a(io_priority); a(cpus); a(personality); }
};

// process of the OCI spec.
struct Process {
  std::vector<std::string> args, env;
  std::string cwd;
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
  uint32_t umask = 022;
  bool no_new_privs = false;
  bool terminal = false;  // stdio descriptors are one host terminal; it becomes the controlling terminal
  uint16_t rows = 0, cols = 0;
  // Capability sets as 64-bit masks, bit n = CAP number n.
  uint64_t cap_bounding = 0, cap_effective = 0, cap_inheritable = 0, cap_permitted = 0, cap_ambient = 0;
  std::vector<Rlimit> rlimits;
  int32_t oom_score_adj = 0;
  Scheduling scheduling;
  template <typename A> void visit(A& a) {
    a(args); a(env); a(cwd); a(uid); a(gid); a(groups); a(umask); a(no_new_privs); a(terminal); a(rows); a(cols);
    a(cap_bounding); a(cap_effective); a(cap_inheritable); a(cap_permitted); a(cap_ambient); a(rlimits);
    a(oom_score_adj); a(scheduling);
  }
};

// A mount inside the container, in order. type: "gofer" (attach says which tree of the gofer), "tmpfs", "proc",
// "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "overlay" …
struct Mount {
  std::string destination;      // absolute path inside the container
  std::string type;
  uint32_t attach = 0;          // gofer attach point; 0 is the root file system
  uint64_t flags = 0;           // MS_RDONLY, MS_NOSUID, … of mount(2)
  uint64_t propagation = 0;     // MS_SHARED or MS_UNBINDABLE; with MS_SLAVE what the host mounts below it comes in
  std::string data;             // file system options as mount(2) takes them: "size=64m,mode=1777"
  bool shared = false;          // others may change it: revalidate instead of caching for ever
  bool copy_up = false;         // tmpfs: begins with what it hides
  // tmpfs: if not empty, the one of the whole sandbox that has this key (made with `data` by the first who names it), and
  // which directory of it (made if missing; empty: its root).
  std::string volume, volume_path;
  template <typename A> void visit(A& a) {
    a(destination); a(type); a(attach); a(flags); a(propagation); a(data); a(shared); a(copy_up); a(volume); a(volume_path);
  }
};

// A node of linux.devices. Which devices there are is for the sandbox's kernel to say: a node of another opens with ENXIO.
struct Device {
  std::string path;
  uint32_t mode = 0;  // with S_IFCHR, S_IFBLK or S_IFIFO
  uint32_t major = 0, minor = 0, uid = 0, gid = 0;
  template <typename A> void visit(A& a) { a(path); a(mode); a(major); a(minor); a(uid); a(gid); }
};

struct Sysctl {
  std::string name, value;  // "net.core.somaxconn"
  template <typename A> void visit(A& a) { a(name); a(value); }
};

// linux.seccomp of the OCI spec; names of calls as they are there. op: libseccomp's SCMP_CMP_NE = 1, LT, LE, EQ, GE, GT, MASKED_EQ.
struct SeccompArg {
  uint32_t index = 0, op = 0;
  uint64_t value = 0, value_two = 0;
  template <typename A> void visit(A& a) { a(index); a(op); a(value); a(value_two); }
};
struct SeccompRule {
  std::vector<std::string> names;
  uint32_t action = 0;  // SECCOMP_RET_* with its data
  std::vector<SeccompArg> args;
  template <typename A> void visit(A& a) { a(names); a(action); a(args); }
};
struct Seccomp {
  bool given = false;
  uint32_t default_action = 0;
  std::vector<SeccompRule> rules;
  template <typename A> void visit(A& a) { a(given); a(default_action); a(rules); }
};

// The network of a sandbox with sockets of the host, as it was when the container was made. Addresses are 4 or 16 bytes in network
// order, or none.
struct NetInterface {
  uint32_t index = 0, flags = 0, mtu = 0, tx_queue = 0;
  uint16_t type = 0;      // ARPHRD_*
  uint8_t operstate = 0;  // IF_OPER_*
  std::string name, address, broadcast;  // hardware addresses
  template <typename A> void visit(A& a) {
    a(index); a(flags); a(mtu); a(tx_queue); a(type); a(operstate); a(name); a(address); a(broadcast);
  }
};
struct NetAddress {
  uint32_t index = 0, flags = 0;  // IFA_F_*
  uint8_t prefix = 0, scope = 0;
  std::string address, local, broadcast, label;
  template <typename A> void visit(A& a) { a(index); a(flags); a(prefix); a(scope); a(address); a(local); a(broadcast); a(label); }
};
struct NetRoute {
  uint8_t family = 0, prefix = 0, tos = 0, protocol = 0, scope = 0, type = 0, preference = 0;
  uint32_t table = 0, flags = 0, metric = 0, interface = 0;  // 0: none
  std::string destination, gateway, source;
  template <typename A> void visit(A& a) {
    a(family); a(prefix); a(tos); a(protocol); a(scope); a(type); a(preference); a(table); a(flags); a(metric); a(interface);
    a(destination); a(gateway); a(source);
  }
};
struct Network {
  bool given = false;
  std::vector<NetInterface> interfaces;
  std::vector<NetAddress> addresses;
  std::vector<NetRoute> routes;
  template <typename A> void visit(A& a) { a(given); a(interfaces); a(addresses); a(routes); }
};

enum class OverlayMode : uint8_t { none, self };  // where writes to the rootfs go: through, or an upper layer

// Whose namespaces of the sandbox's kernel a container is in: ids of containers in the same sandbox; empty: its own.
struct Joins {
  std::string pid, ipc, uts;
  template <typename A> void visit(A& a) { a(pid); a(ipc); a(uts); }
};

// Ids of a container's files that have another name on the host: `count` from `inside` on are those from `outside` on.
struct IdExtent {
  uint32_t inside = 0, outside = 0, count = 0;
  template <typename A> void visit(A& a) { a(inside); a(outside); a(count); }
};
inline constexpr size_t kMaxIdExtents = 340;  // as on Linux

inline constexpr size_t kMaxContainers = 256;  // of one sandbox, ended ones that nobody destroyed included
inline constexpr size_t kMaxContainerId = 255;
inline constexpr size_t kMaxVolumes = 256;     // in memory, of one sandbox

struct ContainerSpec {
  std::string id, hostname, domainname;  // names are set in a joined UTS namespace too, unless they are empty
  Process process;
  bool root_readonly = false;
  uint64_t root_propagation = 0;  // MS_SHARED …, with MS_REC for all mounts; 0: as they are
  OverlayMode overlay = OverlayMode::self;
  std::vector<Mount> mounts;                 // besides the root
  std::vector<std::string> masked_paths, readonly_paths;
  // Limits that the inside tells its programs (nproc, /proc/meminfo, rlimits); 0 = none.
  uint64_t memory_limit = 0;
  uint64_t cpu_quota_us = 0, cpu_period_us = 0;
  std::string cpuset;
  int64_t pids_limit = 0;
  // Descriptors, in this order: gofer socket, zygote socket, stdin, stdout, stderr, preserved fds 3…, then the cgroup.threads
  // file of the container's group if has_threads_file.
  uint32_t preserve_fds = 0;
  bool has_threads_file = false;
  std::vector<Sysctl> sysctls;
  Seccomp seccomp;  // of every process of the container, by the sentry's own filters
  std::vector<Device> devices;
  Network network;
  bool root_shared = false;  // others may change the root at any time
  Joins joins;
  // A member of a pod: its end is the end of its gofer, which is told init's exit code, and not of the sandbox.
  bool member = false;
  // The gofer's own user namespace; empty: it has none, and every id is the host's. No other id means anything inside then.
  std::vector<IdExtent> uids, gids;
  template <typename A> void visit(A& a) {
    a(id); a(hostname); a(domainname); a(process); a(root_readonly); a(root_propagation); a(overlay); a(mounts); a(masked_paths);
    a(readonly_paths); a(memory_limit); a(cpu_quota_us); a(cpu_period_us); a(cpuset); a(pids_limit); a(preserve_fds);
    a(has_threads_file); a(sysctls); a(seccomp); a(devices); a(root_shared); a(joins); a(member); a(network);
    a(uids); a(gids);
  }
};

enum class MemoryMode : uint8_t { direct, strict };

// First record. Descriptors: listening control socket; debug-log file if has_log; the sandbox cgroup's cgroup.threads
// file if has_threads_file; the host's /proc/self/mem… nothing else.
struct Boot {
  uint32_t version = kControlVersion;
  std::string sandbox_id;
  MemoryMode memory_mode = MemoryMode::direct;
  bool strace = false;
  uint8_t log_level = 2;  // base::LogLevel
  bool has_log = false;
  bool has_threads_file = false;
  uint32_t cpus = 0;      // usable CPUs (affinity and quota applied), at least 1
  bool patch_calls = true;  // call sites of programs are patched so that they need no trap
  bool may_spin = true;   // a CPU to spare: quota none or >= 1.5 CPUs
  // The sandbox lives as long as its first container: when the init of that has ended, the others are killed, all waiters are
  // answered, and the sentry exits with init's exit code (128 + n for signal n). Engines that know only a pid learn of the end so.
  bool exit_with_init = false;
  // Inet sockets are the host's, in the network namespace that the sentry was started in; else it has a loopback of its own.
  bool host_sockets = false;
  template <typename A> void visit(A& a) {
    a(version); a(sandbox_id); a(memory_mode); a(strace); a(log_level); a(has_log); a(has_threads_file); a(cpus);
    a(patch_calls); a(may_spin); a(exit_with_init); a(host_sockets);
  }
};

enum class ControlOp : uint16_t {
  kCreate = 1,   // ContainerSpec + descriptors -> PidReply: init exists (that is its pid inside), has not started
  kStart,        // IdRequest -> Empty, once init's exec succeeded (or its errno)
  kExec,         // ExecRequest + stdio -> PidReply
  kSignal,       // SignalRequest
  kWait,         // WaitRequest -> WaitReply, when the process is gone
  kState,        // IdRequest -> StateReply
  kResize,       // ResizeRequest
  kProcesses,    // IdRequest -> ProcessesReply
  kDestroy,      // IdRequest: kill everything of the container and forget it; answered when all of a member is given back
  kStats,        // IdRequest -> StatsReply
  kUpdate,       // UpdateRequest
  kPause,        // IdRequest: the host freezes the container's group next: its silence is no offence, and what may be changed from
                 // outside meanwhile is looked at anew
  kResume,       // IdRequest: it has been thawed
  kProcessDetails,  // IdRequest -> ProcessesReply with everything in it; kProcesses leaves out what takes asking
};

struct RequestHeader {
  ControlOp op{};
  uint64_t tag = 0;  // comes back in the reply; several requests may be in flight on one connection
  template <typename A> void visit(A& a) { a(op); a(tag); }
};
// Every reply starts so; the body follows only when error is 0.
struct ReplyHeader {
  uint64_t tag = 0;
  int32_t error = 0;    // errno, positive
  std::string message;  // for a person, when error is set
  template <typename A> void visit(A& a) { a(tag); a(error); a(message); }
};

struct IdRequest { std::string id; template <typename A> void visit(A& a) { a(id); } };
struct PidReply { int32_t pid = 0; template <typename A> void visit(A& a) { a(pid); } };
struct ExecRequest {
  std::string id;
  Process process;
  uint32_t preserve_fds = 0;
  template <typename A> void visit(A& a) { a(id); a(process); a(preserve_fds); }
};
struct SignalRequest {
  std::string id;
  int32_t pid = 0;   // inside the container; 0 = init
  int32_t signo = 0;
  bool all = false;  // every process of the container
  template <typename A> void visit(A& a) { a(id); a(pid); a(signo); a(all); }
};
struct WaitRequest { std::string id; int32_t pid = 0; template <typename A> void visit(A& a) { a(id); a(pid); } };
struct WaitReply { int32_t status = 0; /* as wait(2) */ template <typename A> void visit(A& a) { a(status); } };
struct ResizeRequest {
  std::string id;
  int32_t pid = 0;
  uint16_t rows = 0, cols = 0;
  template <typename A> void visit(A& a) { a(id); a(pid); a(rows); a(cols); }
};
enum class ContainerStatus : uint8_t { created, running, paused, stopped };
struct StateReply {
  ContainerStatus status{};
  int32_t exit_status = 0;
  template <typename A> void visit(A& a) { a(status); a(exit_status); }
};
struct ProcessInfo {
  int32_t pid = 0, ppid = 0;
  uint32_t uid = 0, threads = 0;
  std::string command;
  // The rest comes with kProcessDetails.
  int32_t pgrp = 0, session = 0, nice = 0;
  uint32_t gid = 0;
  uint64_t start_unix_ns = 0, cpu_ns = 0, size = 0, resident = 0;  // bytes
  std::string state, tty, arguments;  // "S", "pts/0" or nothing; words parted by spaces, cut when long
  template <typename A> void visit(A& a) {
    a(pid); a(ppid); a(uid); a(threads); a(command); a(pgrp); a(session); a(nice); a(gid); a(start_unix_ns); a(cpu_ns); a(size);
    a(resident); a(state); a(tty); a(arguments);
  }
};
struct ProcessesReply { std::vector<ProcessInfo> list; template <typename A> void visit(A& a) { a(list); } };
struct StatsReply {
  uint64_t pids = 0, syscalls = 0, sentry_cpu_ns = 0;
  // Of the whole sandbox: calls that came by a trap; call sites patched in either form, and those found unfit.
  uint64_t trapped = 0, patched_mov = 0, patched_pun = 0, unfit = 0;
  template <typename A> void visit(A& a) {
    a(pids); a(syscalls); a(sentry_cpu_ns); a(trapped); a(patched_mov); a(patched_pun); a(unfit);
  }
};
// 0 leaves a limit as it is, -1 takes it away.
struct UpdateRequest {
  std::string id;
  int64_t memory_limit = 0, cpu_quota_us = 0;
  uint64_t cpu_period_us = 0;
  int64_t pids_limit = 0;
  std::string cpuset;
  template <typename A> void visit(A& a) { a(id); a(memory_limit); a(cpu_quota_us); a(cpu_period_us); a(pids_limit); a(cpuset); }
};

}  // namespace base::wire

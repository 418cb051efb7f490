// SPDX-License-Identifier: Apache-2.0
// The jails: which namespaces, which descriptors, which privileges each program starts with.
#include "runtime/host/launch.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/sys.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace runtime::host {

using base::Error;
using base::Fd;
using base::Result;
using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr int kSettleMs = 5000;
constexpr const char* kNoUserNamespace = "run without root: make a user namespace (it must be allowed by "
                                         "/proc/sys/user/max_user_namespaces and the host's security modules)";

constexpr uint64_t bit(int cap) { return uint64_t{1} << cap; }
// It must create files of any owner and mode for the container. No device nodes, no mounts, no processes.
constexpr uint64_t kGoferCapabilities = bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) |
                                        bit(CAP_FOWNER) | bit(CAP_FSETID) | bit(CAP_SETFCAP);

// The last steps of all three. program and socket are moved; only returns on failure.
ResultX<void> run_program(const Launch& l, std::vector<Placed> extra, const std::vector<std::string>& args,
                          uint64_t capabilities) {
  std::vector<Placed> fds = std::move(extra);
  if (l.stderr_fd >= 0) fds.insert(fds.end(), {{l.null_fd, 0}, {l.null_fd, 1}, {l.stderr_fd, 2}});
  TRY_MSG(refuse_core_dumps(), "set RLIMIT_CORE");
  TRY_MSG(limit_capabilities(capabilities), "drop capabilities");
  TRY_MSG(set_no_new_privileges(), "set no_new_privs");
  int program = TRY_MSG(place_descriptors(fds, l.program.fd.get(), Others::close_at_exec), "place descriptors");
  return base::wrap(exec_fd(program, args), base::format("execute {}", l.program.path));
}

void raise_oom_score(int adj) {
  // Raising is always allowed; lowering is not in every container, and then the value stays as it is.
  IGNORE_ERROR(write_file("/proc/self/oom_score_adj", std::to_string(adj)), "a host without /proc, or a lower limit");
}

// Of the calling process, which its children inherit.
ResultX<void> schedule(const Scheduling& s) {
  constexpr int kThisProcess = 1;  // IOPRIO_WHO_PROCESS
  if (s.policy) {
    sched_param none{};
    TRY_MSG(sys::from_libc(::sched_setscheduler(0, s.policy, &none)), "set process.scheduler.policy");
  }
  if (s.nice) TRY_MSG(sys::from_libc(::setpriority(PRIO_PROCESS, 0, s.nice)), "set process.scheduler.nice to {}", s.nice);
  if (s.io_priority) TRY_MSG(sys::raw(SYS_ioprio_set, kThisProcess, 0, s.io_priority), "set process.ioPriority");
  return {};
}

// Runs fn in a child that becomes a program; every way out of fn but exec is told through the report.
template <typename F>
ResultX<int> spawn(Report& report, const Launch& l, uint64_t flags, F&& fn) {
  auto pid = clone_process({flags, l.cgroups.v2_leaf()});
  if (!pid.ok()) return base::wrap(pid.error(), base::format("start a process for {}", l.program.path));
  if (*pid != 0) return *pid;
  lift_limits();
  ResultX<void> r = fn();
  report.fail(r.ok() ? base::error(base::kEIO, "a child ended without executing its program") : r.error());
}

uint32_t root_of(const std::vector<IdMap>& maps) {
  for (auto& m : maps) {
    if (m.inside == 0) return m.outside;
  }
  return 0;
}

// The maps of a user namespace are written from outside it: by a child that was born before.
ResultX<int> start_map_writer(const GoferLaunch& l, const Fd& self, int go) {
  int child = TRY_MSG(clone_process({}), "start a process that maps ids");
  if (child != 0) return child;
  auto write = [&](const char* name, const std::vector<IdMap>& maps) -> base::Result<void> {
    std::string text;
    for (auto& m : maps) text += base::format("{} {} {}\n", m.inside, m.outside, m.count);
    Fd file = TRY(sys::openat(self.get(), name, O_WRONLY));
    TRY(sys::write(file.get(), text.data(), text.size()));
    return {};
  };
  char c;
  auto n = sys::read(go, &c, 1);
  bool done = n.ok() && *n == 1 && write("uid_map", l.uids).ok() && write("gid_map", l.gids).ok();
  _exit(done ? 0 : 1);
}

ResultX<void> enter_mapped_namespace(int writer, const Fd& go) {
  TRY_MSG(sys::raw(SYS_unshare, CLONE_NEWUSER), "make a user namespace for the container's files (see /proc/sys/user/max_user_namespaces)");
  TRY_MSG(sys::write_all(go.get(), "g", 1), "have the ids mapped");
  if (reap(writer) != 0) {
    return base::error(base::kEPERM, "linux.uidMappings and gidMappings cannot be set on this host: their hostIDs must be ids that the caller may use");
  }
  TRY_MSG(become_namespace_root(), "become root of the container's user namespace");
  return {};
}

ResultX<void> gofer_child(const GoferLaunch& l) {
  TRY_MSG(l.common.cgroups.join_v1(), "join the container's cgroups");
  reset_signals();
  TRY_MSG(sys::from_libc(::setsid()), "start a session");
  TRY(schedule({0, 0, l.io_priority}));
  const bool mapped = !l.uids.empty();
  Fd self, go_read, go_write;
  int writer = 0;
  if (mapped) {
    self = TRY_MSG(sys::open("/proc/self", O_RDONLY | O_DIRECTORY), "open /proc/self");
    int go[2];
    TRY_MSG(sys::from_libc(::pipe2(go, O_CLOEXEC)), "make a pipe");
    go_read = Fd(go[0]);
    go_write = Fd(go[1]);
    writer = TRY(start_map_writer(l, self, go_read.get()));
  }
  TRY(enter_gofer_root(l.attaches, l.store, {root_of(l.uids), root_of(l.gids)}));
  TRY_MSG(limit_open_files(0), "raise RLIMIT_NOFILE");
  if (mapped) TRY(enter_mapped_namespace(writer, go_write));
  ::umask(0);
  std::vector<std::string> args{"caisson-gofer", "3", l.log >= 0 ? "4" : "-1"};
  for (size_t i = 0; i < l.attaches.size(); i++) {
    args.push_back(std::to_string(i) + (l.attaches[i].read_only ? ":ro" : ":rw") + (l.attaches[i].slave ? ":slave" : ""));
  }
  std::vector<Placed> fds{{l.socket, 3}};
  if (l.log >= 0) fds.push_back({l.log, 4});
  return run_program(l.common, std::move(fds), args, kGoferCapabilities);
}

// In a network namespace of the sandbox's: ports below 1024 and ICMP echo are for its own kernel to refuse, which the host knows as a
// user without rights. What a namespace of somebody else's does not let us change stays.
void adjust_network(const SentryLaunch& l) {
  constexpr const char* kWhy = "then the namespace's own limits hold as well";
  for (auto& [name, value] : l.sysctls) {
    if (name.compare(0, 4, "net.") != 0) continue;
    std::string path = "/proc/sys/" + name;
    std::replace(path.begin(), path.end(), '.', '/');
    auto r = write_file(path, value);
    if (!r.ok()) LOG(warn, "sysctl {} of the host's network namespace stays as it is: {}", name, r.error().text());
  }
  IGNORE_ERROR(write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"), kWhy);
  // All groups, or those that this user namespace knows.
  constexpr const char* kGroups = "/proc/sys/net/ipv4/ping_group_range";
  if (!write_file(kGroups, "0 2147483647").ok()) IGNORE_ERROR(write_file(kGroups, "0 0"), kWhy);
}

ResultX<void> raise_loopback() {
  Fd s(static_cast<int>(TRY_MSG(sys::from_libc(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), "make a socket")));
  ifreq r{};
  memcpy(r.ifr_name, "lo", 3);
  r.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
  TRY_MSG(sys::from_libc(::ioctl(s.get(), SIOCSIFFLAGS, &r)), "raise lo");
  return {};
}

ResultX<void> sentry_child(const SentryLaunch& l, int go) {
  // The maps of the user namespace are written from outside; until then no id means anything.
  char c;
  size_t n = TRY_MSG(sys::read(go, &c, 1), "wait for the user namespace's maps");
  if (n == 0) _exit(1);  // the other side has told why
  TRY_MSG(become_namespace_root(), "become root of the new user namespace");
  if (l.net == Net::fresh) {
    TRY(raise_loopback());
    adjust_network(l);
  }
  TRY(enter_empty_root());
  reset_signals();
  // Its log may be a pipe whose reader is gone.
  ::signal(SIGPIPE, SIG_IGN);
  TRY_MSG(limit_open_files(0), "raise RLIMIT_NOFILE");
  return run_program(l.common, {{l.control, 3}}, {"caisson-sentry", "3"}, 0);
}

// Without offsets the clocks of the sandbox start near 0, so the host's uptime does not show.
ResultX<void> new_time_namespace(const std::optional<ClockOffsets>& given) {
  TRY_MSG(sys::raw(SYS_unshare, CLONE_NEWTIME), "make a time namespace");
  timespec mono{}, boot{};
  clock_gettime(CLOCK_MONOTONIC, &mono);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  ClockOffsets o = given.value_or(ClockOffsets{-(mono.tv_sec - 1), 0, -(boot.tv_sec - 1), 0});
  std::string offsets = base::format("monotonic {} {}\nboottime {} {}\n", o.monotonic_s, o.monotonic_ns, o.boottime_s, o.boottime_ns);
  TRY_MSG(write_file("/proc/self/timens_offsets", offsets), "set the clocks of the time namespace (monotonic by {} s, boottime by {} s)",
          o.monotonic_s, o.boottime_s);
  return {};
}

ResultX<void> write_id_maps(int pid, const IdRange& ids) {
  auto file = [&](const char* name) { return base::format("/proc/{}/{}", pid, name); };
  // Without CAP_SETGID outside, the kernel wants setgroups forbidden first.
  std::string uids = base::format("0 {} {}\n", ids.first_uid, ids.count);
  std::string gids = base::format("0 {} {}\n", ids.first_gid, ids.count);
  TRY_MSG(write_file(file("uid_map"), uids), "map user ids of the sandbox ({})", uids);
  auto r = write_file(file("gid_map"), gids);
  if (!r.ok() && r.error() == base::kEPERM) {
    TRY_MSG(write_file(file("setgroups"), "deny"), "forbid setgroups in the sandbox");
    r = write_file(file("gid_map"), gids);
  }
  TRY_MSG(std::move(r), "map group ids of the sandbox ({})", gids);
  return {};
}

// A short-lived process between the caller and the sentry: it enters the network and time namespaces, so that the
// caller need not, clones the sentry as the caller's child, and maps its ids.
ResultX<void> sentry_stage(const SentryLaunch& l, Report& report) {
  TRY_MSG(l.common.cgroups.join_v1(), "join the sandbox's cgroups");
  TRY_MSG(sys::from_libc(::setsid()), "start a session");
  raise_oom_score(-998);
  if (l.net == Net::join) {
    TRY_MSG(sys::raw(SYS_setns, l.network, CLONE_NEWNET), "join the network namespace");
    if (l.adjust) adjust_network(l);
  }
  TRY(new_time_namespace(l.clocks));
  int go[2];
  TRY_MSG(sys::from_libc(::pipe2(go, O_CLOEXEC)), "make a pipe");
  uint64_t flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
                   CLONE_PARENT;
  if (l.net == Net::empty || l.net == Net::fresh) flags |= CLONE_NEWNET;
  auto pid = clone_process({flags, -1});
  if (!pid.ok()) {
    return base::wrap(pid.error(), "make the sandbox's user, mount, PID, IPC, UTS and network namespaces "
                      "(see max_*_namespaces in /proc/sys/user)");
  }
  if (*pid == 0) {
    ::close(go[1]);
    ResultX<void> r = sentry_child(l, go[0]);
    report.fail(r.error());
  }
  report.tell_pid(*pid);
  TRY(write_id_maps(*pid, l.ids));
  TRY_MSG(sys::write_all(go[1], "g", 1), "let the sentry go on");
  return {};
}

ResultX<void> zygote_child(const ZygoteLaunch& l, Report& report) {
  TRY_MSG(l.common.cgroups.join_v1(), "join the container's cgroups");
  reset_signals();
  TRY_MSG(sys::from_libc(::setsid()), "start a session");
  raise_oom_score(l.oom_score_adj);
  TRY(schedule(l.scheduling));
  long all = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
             CLONE_NEWTIME | (l.own_network ? 0 : CLONE_NEWNET);
  TRY_MSG(sys::raw(SYS_setns, l.sentry_pidfd, all), "join the sandbox's namespaces");
  if (l.own_network) TRY_MSG(sys::raw(SYS_unshare, CLONE_NEWNET), "make a network namespace for programs");
  TRY_MSG(become_namespace_root(), "become root of the sandbox's user namespace");
  // Addresses of the first program are fixed: the platform lays out the address space itself.
  TRY_MSG(sys::from_libc(::personality(ADDR_NO_RANDOMIZE)), "turn address randomisation off");
  TRY_MSG(limit_open_files(4096), "set RLIMIT_NOFILE");
  // Joining a pid namespace takes effect on children: the first one is in it, and the second one, an orphan at once,
  // is adopted by its pid 1, the sentry.
  int first = TRY_MSG(clone_process({}), "start a process in the sandbox");
  if (first != 0) {
    _exit(reap(first) == 0 ? 0 : 1);
  }
  auto second = clone_process({});
  if (!second.ok()) return base::wrap(second.error(), "start the zygote in the sandbox");
  if (*second != 0) _exit(0);
  while (::getppid() != 1) ::sched_yield();
  ResultX<void> r = run_program(l.common, {{l.socket, 3}}, {"zygote"}, 0);
  report.fail(r.error());
}

}  // namespace

ResultX<Program> find_program(const char* name) {
  std::vector<std::string> places;
  const char* named = ::getenv("CAISSON_LIBEXEC");
  if (named && *named) places.push_back(std::string(named) + "/");  // then nowhere else: no mix of two builds
  char self[4096];
  ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (n > 0 && places.empty()) {
    std::string dir(self, static_cast<size_t>(n));
    dir.resize(dir.rfind('/') + 1);
    places.push_back(dir);
    places.push_back(dir + "../libexec/caisson/");
  }
  std::string looked;
  for (auto& p : places) {
    auto fd = sys::open((p + name).c_str(), O_RDONLY);
    if (!fd.ok()) {
      looked += (looked.empty() ? "" : ", ") + p;
      continue;
    }
    struct stat st;
    TRY_MSG(sys::fstat(fd->get(), &st), "look at {}{}", p, name);
    // The sandbox's own user must be able to read it: the kernel makes a process of an unreadable program
    // untouchable even for its own sentry.
    if (!S_ISREG(st.st_mode) || (st.st_mode & 05) != 05) {
      return base::error(base::kEACCES, "{}{} must be a file that everybody may read and execute (mode 0755)", p, name);
    }
    return Program{std::move(fd).value(), p + name};
  }
  return base::error(base::kENOENT, "the program {} is missing (looked in {}): install it there, or name its directory "
                     "in CAISSON_LIBEXEC", name, looked.empty() ? "no directory" : looked);
}

ResultX<void> Starting::settle(const char* what) {
  auto r = report.await(kSettleMs, pid);
  if (!r.ok()) return base::wrap(r.error(), base::format("start the {}", what));
  return {};
}

ResultX<Starting> start_gofer(const GoferLaunch& l) {
  Starting s;
  s.report = TRY_MSG(Report::create(), "make a pipe");
  uint64_t flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID;
  s.pid = TRY(spawn(s.report, l.common, flags, [&] { return gofer_child(l); }));
  return s;
}

ResultX<Starting> start_sentry(const SentryLaunch& l) {
  Starting s;
  s.report = TRY_MSG(Report::create(), "make a pipe");
  int stage = TRY(spawn(s.report, l.common, 0, [&]() -> ResultX<void> {
    auto r = sentry_stage(l, s.report);
    if (r.ok()) _exit(0);
    return r;
  }));
  // Its report is complete once the sentry runs and the stage has ended; a pid comes with it unless the stage failed before.
  auto told = s.report.await(kSettleMs, stage);
  if (!told.ok()) ::kill(stage, SIGKILL);
  reap(stage);
  if (!told.ok()) {
    if (s.report.pid()) kill_and_wait(process_name(s.report.pid()), 1000);
    return base::wrap(told.error(), "start the sentry");
  }
  if (*told == 0) return base::error(base::kEIO, "start the sentry: its helper process ended early");
  s.pid = *told;
  return s;
}

ResultX<Starting> start_zygote(const ZygoteLaunch& l) {
  Starting s;
  s.report = TRY_MSG(Report::create(), "make a pipe");
  int helper = TRY(spawn(s.report, l.common, 0, [&] { return zygote_child(l, s.report); }));
  s.pid = helper;
  auto settled = s.settle("zygote");
  if (!settled.ok()) ::kill(helper, SIGKILL);
  reap(helper);
  if (!settled.ok()) return settled.error();
  s.pid = 0;  // the zygote's own is known to the sandbox alone
  return s;
}

namespace {

bool is_own_alone(const std::vector<IdMap>& maps, uint32_t own) {
  return maps.empty() || (maps.size() == 1 && maps[0].inside == 0 && maps[0].outside == own && maps[0].count == 1);
}

// Runs newuidmap or newgidmap on a process that has made a user namespace.
ResultX<void> run_mapper(const char* program, int pid, const std::vector<IdMap>& maps) {
  std::vector<std::string> args{program, std::to_string(pid)};
  for (auto& m : maps) args.insert(args.end(), {std::to_string(m.inside), std::to_string(m.outside), std::to_string(m.count)});
  int child = TRY_MSG(clone_process({}), "start {}", program);
  if (child == 0) {
    std::vector<char*> argv;
    for (auto& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    ::execvp(program, argv.data());
    _exit(127);
  }
  int code = reap(child);
  if (code == 0) return {};
  return base::error(base::kEPERM, "map the ids of the user namespace: {} {} (it needs Debian's package uidmap, and the ids must be "
                     "this user's in /etc/subuid and /etc/subgid)", program, code == 127 ? "cannot be executed" : "refused");
}

// newuidmap must run outside the new namespace: a child that was born before maps its parent's ids.
ResultX<void> map_ranges(const std::vector<IdMap>& uids, const std::vector<IdMap>& gids) {
  auto report = TRY_MSG(Report::create(), "make a pipe");
  int go[2];
  TRY_MSG(sys::from_libc(::pipe2(go, O_CLOEXEC)), "make a pipe");
  Fd read_end(go[0]), write_end(go[1]);
  int parent = ::getpid();
  int child = TRY_MSG(clone_process({}), "start a process that maps ids");
  if (child == 0) {
    write_end.reset();
    char c;
    auto n = sys::read(read_end.get(), &c, 1);
    if (!n.ok() || *n == 0) _exit(1);  // there is no namespace, and the parent says why
    auto r = run_mapper("newuidmap", parent, uids);
    if (r.ok()) r = run_mapper("newgidmap", parent, gids);
    if (!r.ok()) report.fail(r.error());
    _exit(0);
  }
  auto unshared = sys::raw(SYS_unshare, CLONE_NEWUSER);
  if (unshared.ok()) IGNORE_ERROR(sys::write_all(write_end.get(), "g", 1), "a child that died tells by its report");
  write_end.reset();
  auto mapped = report.await(kSettleMs);
  reap(child);
  TRY_MSG(std::move(unshared), "{}", kNoUserNamespace);
  if (!mapped.ok()) return mapped.error();
  TRY_MSG(become_namespace_root(), "become root of the user namespace");
  return {};
}

}  // namespace

bool in_user_namespace() {
  auto map = read_file("/proc/self/uid_map");
  if (!map.ok()) return false;
  uint32_t inside = 0, outside = 0, count = 0;
  std::istringstream in(*map);
  in >> inside >> outside >> count;
  return inside != 0 || outside != 0 || count != UINT32_MAX;
}

ResultX<void> enter_own_user_namespace(const std::vector<IdMap>& uids, const std::vector<IdMap>& gids) {
  uint32_t uid = ::geteuid(), gid = ::getegid();
  if (!is_own_alone(uids, uid) || !is_own_alone(gids, gid)) {
    auto root_is = [](const std::vector<IdMap>& maps, uint32_t own) {
      return std::any_of(maps.begin(), maps.end(), [&](auto& m) { return m.inside == 0 && m.outside == own && m.count > 0; });
    };
    if (!root_is(uids, uid) || !root_is(gids, gid)) {
      return base::error(base::kEINVAL, "linux.uidMappings and gidMappings of a run without root must map container id 0 to the caller's own "
                         "ids ({} and {})", uid, gid);
    }
    return map_ranges(uids, gids);
  }
  auto r = sys::raw(SYS_unshare, CLONE_NEWUSER);
  if (!r.ok()) return base::wrap(r.error(), kNoUserNamespace);
  TRY_MSG(write_file("/proc/self/setgroups", "deny"), "forbid setgroups");
  TRY_MSG(write_file("/proc/self/uid_map", base::format("0 {} 1\n", uid)), "map user id {}", uid);
  TRY_MSG(write_file("/proc/self/gid_map", base::format("0 {} 1\n", gid)), "map group id {}", gid);
  return {};
}

}  // namespace runtime::host

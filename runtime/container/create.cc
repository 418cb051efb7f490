// SPDX-License-Identifier: Apache-2.0
// The order of things when a container is made. What must be taken away again is written to the state first.
#include "runtime/container/create.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/container/hooks.h"
#include "runtime/container/keeper.h"
#include "runtime/container/lifecycle.h"
#include "runtime/container/plan.h"
#include "runtime/container/pod.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/ids.h"
#include "runtime/host/launch.h"
#include "runtime/host/network.h"
#include "runtime/host/systemd.h"
#include "runtime/host/terminal.h"

namespace runtime::container {

using base::Error;
using base::Fd;
using base::ResultX;
namespace sys = base::sys;
namespace wire = base::wire;

namespace {

constexpr int kCreateMs = 20000;

std::string now_rfc3339() {
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  struct tm tm;
  gmtime_r(&ts.tv_sec, &tm);
  char text[40];
  size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf(text + n, sizeof text - n, ".%09ldZ", ts.tv_nsec);
  return text;
}

ResultX<std::string> read_config(const std::string& bundle) {
  std::string path = bundle + "/config.json";
  auto text = host::read_file(path, oci::kMaxConfig);
  if (text.ok()) return std::move(text).value();
  if (text.error() == base::kENOENT) {
    return base::error(base::kENOENT, "{} does not exist: --bundle must name the directory that holds it "
                       "(`caisson spec` writes one)", path);
  }
  if (text.error() == base::kEFBIG) {
    return base::error(base::kEFBIG, "{} is larger than {} bytes, the most that is accepted", path, oci::kMaxConfig);
  }
  return base::wrap(text.error(), "read " + path);
}

// The upper files of the overlay are disk files where there is a disk: /run is memory on most hosts.
bool in_memory(const std::string& path) {
  struct statfs fs;
  constexpr long kTmpfs = 0x01021994, kRamfs = 0x858458f6;
  return ::statfs(path.c_str(), &fs) == 0 && (fs.f_type == kTmpfs || fs.f_type == kRamfs);
}

std::string choose_store(const Directory& d, const std::string& id, bool rootless) {
  if (!in_memory(d.path())) return d.path() + "/store";
  std::string base = "/var/lib/caisson";
  if (rootless) {
    const char* home = ::getenv("HOME");
    if (!home || home[0] != '/') return d.path() + "/store";
    base = std::string(home) + "/.local/share/caisson";
  }
  base += "/store";
  if (!host::make_directories(base, 0700).ok() || ::access(base.c_str(), W_OK) != 0) return d.path() + "/store";
  // Another state directory may have a container of the same name: the process that makes it tells them apart.
  return base + "/" + id + "." + std::to_string(::getpid()) + "." + std::to_string(time(nullptr));
}

// CPUs that this sandbox can really use, and whether one may be kept busy waiting.
void fill_cpus(wire::Boot& boot, const wire::ContainerSpec& spec, const host::CpuShare& share) {
  cpu_set_t set;
  CPU_ZERO(&set);
  double usable = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (share.cpus) usable = std::min<double>(usable, share.cpus);
  if (share.quota > 0) usable = std::min(usable, share.quota);
  if (spec.cpu_quota_us && spec.cpu_period_us) {  // without a cgroup of ours nobody else holds it to that
    usable = std::min(usable, static_cast<double>(spec.cpu_quota_us) / static_cast<double>(spec.cpu_period_us));
  }
  boot.cpus = static_cast<uint32_t>(std::max(1.0, std::ceil(usable)));
  boot.may_spin = usable >= 1.5;
}

ResultX<Fd> listen_control(const Directory& d) {
  Fd s(static_cast<int>(TRY_MSG(
      sys::from_libc(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), "make a socket")));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/control.sock", d.fd());
  TRY_MSG(sys::from_libc(::bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a)), "make {}/control.sock", d.path());
  TRY_MSG(sys::from_libc(::listen(s.get(), 64)), "listen on {}/control.sock", d.path());
  return s;
}

// A sentry that may bind sockets must not be able to take a name of the host with one that it was given: one has one name.
ResultX<void> give_name(const Fd& socket) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  TRY_MSG(sys::from_libc(::bind(socket.get(), reinterpret_cast<sockaddr*>(&a), sizeof a.sun_family)), "name a socket");
  return {};
}

// The last line that the sandbox's programs wrote: why one of them ended.
std::string last_words(int fd) {
  std::string all;
  char buf[4096];
  for (;;) {
    auto n = sys::read(fd, buf, sizeof buf);
    if (!n.ok() || *n == 0) break;
    all.append(buf, *n);
    if (all.size() > 65536) all.erase(0, all.size() - 65536);
  }
  return base::last_line(all);
}

struct Programs {
  host::Program sentry, gofer, zygote;
};

ResultX<Programs> find_programs() {
  Programs p{TRY(host::find_program("caisson-sentry")), TRY(host::find_program("caisson-gofer")),
             TRY(host::find_program("caisson-zygote"))};
  return p;
}

// Where the sentry lives, and whether it makes sockets there.
struct NetworkChoice {
  host::Net net = host::Net::empty;
  Fd path;
  bool foreign = false;  // joined, and not the one that this process is in
};

ResultX<NetworkChoice> choose_network(const oci::Spec& spec, Network mode) {
  NetworkChoice c;
  const oci::Namespace* n = spec.find_namespace("network");
  if (mode == Network::none) return c;
  if (!n) {
    c.net = host::Net::keep;
  } else if (!n->path.empty()) {
    c.path = TRY_MSG(sys::open(n->path.c_str(), O_RDONLY), "network namespace {}", n->path);
    c.net = host::Net::join;
    struct stat mine, theirs;
    c.foreign = ::stat("/proc/self/ns/net", &mine) != 0 || ::fstat(c.path.get(), &theirs) != 0 || mine.st_ino != theirs.st_ino;
  } else if (mode == Network::host || !spec.hooks.prestart.empty() || !spec.hooks.create_runtime.empty()) {
    c.net = host::Net::fresh;
  }
  return c;
}

ResultX<void> check_mapping(const std::vector<oci::IdMapping>& maps, const char* name) {
  bool root = false;
  for (size_t i = 0; i < maps.size(); i++) {
    auto& m = maps[i];
    if (m.size == 0 || m.size > UINT32_MAX - m.container || m.size > UINT32_MAX - m.host) {
      return base::error(base::kEINVAL, "{}[{}] is no range of ids: containerID {}, hostID {}, size {}", name, i, m.container, m.host, m.size);
    }
    root |= m.container == 0;
    for (size_t k = 0; k < i; k++) {
      auto& o = maps[k];
      auto meet = [&](uint32_t a, uint32_t b) { return a < b + o.size && b < a + m.size; };
      if (meet(m.container, o.container) || meet(m.host, o.host)) {
        return base::error(base::kEINVAL, "{}[{}] overlaps with {}[{}]: no id may be in two ranges", name, i, name, k);
      }
    }
  }
  if (maps.size() > wire::kMaxIdExtents) return base::error(base::kEINVAL, "{} has more than {} ranges", name, wire::kMaxIdExtents);
  if (!root) return base::error(base::kEINVAL, "{} has no containerID 0: the container needs a root, to whom its files belong", name);
  return {};
}

// Of a caller who is root, in whose user namespace hostIDs are. Others make a user namespace for the whole sandbox first.
ResultX<void> check_mappings(const oci::Spec& spec) {
  auto* space = spec.find_namespace("user");
  bool given = !spec.uid_mappings.empty() || !spec.gid_mappings.empty();
  if (!space && !given) return {};
  if (!space) {
    return base::error(base::kEINVAL, "linux.uidMappings or gidMappings are set, but linux.namespaces has no user namespace: add "
                       "{{\"type\": \"user\"}}, or remove them");
  }
  TRY(check_mapping(spec.uid_mappings, "linux.uidMappings"));
  return check_mapping(spec.gid_mappings, "linux.gidMappings");
}

std::vector<host::IdMap> id_maps(const std::vector<oci::IdMapping>& from) {
  std::vector<host::IdMap> out;
  for (auto& m : from) out.push_back({m.container, m.host, m.size});
  return out;
}

// One making. Fills `out` as it goes, so that the caller can undo what was done when it fails.
class Maker {
 public:
  Maker(const CreateOptions& o, const oci::Spec& spec, Plan plan, Programs programs, Place place, std::optional<Pod> pod,
        bool rootless, uint32_t owner)
      : o_(o), spec_(spec), plan_(std::move(plan)), programs_(std::move(programs)), place_(std::move(place)),
        pod_(std::move(pod)), rootless_(rootless), owner_(owner) {}

  ResultX<void> make(const Root& root, Directory& d, const std::string& config) {
    LOG(debug, "making container '{}' of {}", o_.id, o_.bundle);
    begin_state(d);
    TRY(make_resources(root, d));
    TRY_MSG(host::replace_file_at(d.fd(), "config.json", config), "write {}/config.json", d.path());
    LOG(debug, "cgroups and store are made");
    TRY(open_terminal());
    TRY(launch(d));
    if (!o_.pid_file.empty()) TRY(write_pid_file());
    state_.phase = o_.starts ? Phase::started : Phase::created;
    return d.save(state_);
  }

  // What to do with a failure: the sandbox's own last words say more than a closed socket.
  Error explain(const Error& e) {
    if (!words_.valid()) return e;
    stderr_out_.reset();
    std::string line = last_words(words_.get());
    if (line.empty()) return e;
    return base::error(e.code(), "{} ({})", e.text(), line);
  }

  // What they did may have to be undone by those of poststop.
  bool hooks_begun() const { return hooks_begun_; }
  State& state() { return state_; }
  Client& client() { return *client_; }
  Fd take_terminal() { return std::move(terminal_.master); }
  Fd take_pidfd() { return std::move(pidfd_); }
  Fd take_words() {
    stderr_out_.reset();
    return std::move(words_);
  }

 private:
  void begin_state(const Directory& d) {
    state_.id = o_.id;
    state_.version = spec_.version;
    state_.bundle = o_.bundle;
    state_.rootfs = plan_.rootfs;
    state_.created = now_rfc3339();
    state_.annotations = spec_.annotations;
    state_.owner = owner_;
    state_.terminal = spec_.process.terminal;
    state_.creator = host::process_name(::getpid());
    state_.store = choose_store(d, o_.id, rootless_);
    if (pod_) {
      state_.sandbox = place_.sandbox;
      state_.sentry = pod_->sandbox.sentry;
    }
  }

  ResultX<void> make_resources(const Root& root, Directory& d) {
    if (pod_) {
      // Its programs are users of the pod's sandbox, and its sentry is reached as any other.
      std::string socket = "../" + state_.sandbox + "/control.sock";
      TRY_MSG(sys::from_libc(::symlinkat(socket.c_str(), d.fd(), "control.sock")), "make {}/control.sock", d.path());
    } else if (!rootless_) {
      auto lease = TRY(host::lease_ids(root.fd(), o_.id));
      state_.id_slot = lease.slot;
      ids_ = lease.range();
    } else {
      ids_ = {0, 0, 1};  // of the user namespace that this process made: the user's own
    }
    hierarchies_ = host::find_hierarchies();
    for (auto& w : unset_limits(spec_.resources, hierarchies_)) LOG(warn, "{}", w);
    // Without a path of the spec's: a name that the same id in another state directory does not get.
    std::string group = "caisson-" + o_.id + "." + std::to_string(::getpid());
    std::string path = spec_.cgroups_path;
    host::ScopeName scope;
    if (o_.systemd_cgroup) {
      if (rootless_) {
        return base::error(base::kEOPNOTSUPP, "--systemd-cgroup needs root: leave it out (without root no limits of resources hold, "
                           "except where a cgroup is delegated to you)");
      }
      scope = TRY(host::parse_scope_name(path, o_.id));
      path = scope.path();
    }
    auto limits = host_limits(spec_.resources);
    // A pod's sandbox has next to no weight, because its own program only sleeps. Here the pod's kernel works in that group.
    if (place_.role == Role::sandbox) limits.cpu_shares.reset();
    auto planned = host::plan_cgroups(hierarchies_, path, group);
    TRY(host::check_cgroups_free(hierarchies_, planned));
    state_.cgroup_leaves = planned;
    state_.unit = scope.unit;
    TRY(d.save(state_));
    if (o_.systemd_cgroup) {
      scope_ = TRY(host::Scope::create(scope, "caisson container " + o_.id, limits));
      if (scope_.path() != path) {
        path = scope_.path();
        state_.cgroup_leaves = host::plan_cgroups(hierarchies_, path, group);
        TRY(d.save(state_));
      }
    }
    cgroups_ = TRY(host::Cgroups::create(hierarchies_, path, group, limits, !rootless_));
    if (cgroups_.leaves().empty() && asks_for_limits(spec_.resources)) {
      LOG(warn, "no cgroup can be made here: the host does not enforce linux.resources, and pause has no means (have a group delegated to "
                "this user, and be started in it)");
    }
    state_.cgroup_leaves = cgroups_.leaves();
    state_.cgroup_made = cgroups_.made();
    // The pod's own group, if the sandbox container made it: whoever of the pod is removed last takes it away.
    if (pod_) {
      auto above = pod_->sandbox.cgroup_made;
      for (auto& leaf : pod_->sandbox.cgroup_leaves) std::erase(above, leaf);
      state_.cgroup_made.insert(state_.cgroup_made.begin(), above.begin(), above.end());
    }
    TRY_MSG(sys::from_libc(::mkdir(state_.store.c_str(), 0700)), "make {}", state_.store);
    return {};
  }

  ResultX<void> open_terminal() {
    auto& p = plan_.wire.process;
    if (!p.terminal) {
      if (!o_.console_socket.empty()) {
        return base::error(base::kEINVAL, "--console-socket is given, but process.terminal is false: remove one or set the other");
      }
      return {};
    }
    if (o_.console_socket.empty() && !o_.foreground) {
      return base::error(base::kEINVAL, "process.terminal is true, but nobody would hold the terminal: give --console-socket");
    }
    terminal_ = TRY(host::open_terminal());
    if (!p.rows && o_.foreground) {
      if (auto size = host::terminal_size(0); size.ok()) {
        p.rows = size->rows;
        p.cols = size->cols;
      }
    }
    if (p.rows) IGNORE_ERROR(host::set_terminal_size(terminal_.master.get(), {p.rows, p.cols}), "a size is a courtesy");
    if (!o_.console_socket.empty()) {
      TRY(host::send_terminal(o_.console_socket, terminal_));
      terminal_.master.reset();
    }
    return {};
  }

  ResultX<void> launch(Directory& d) {
    Fd null = TRY_MSG(sys::open("/dev/null", O_RDWR), "open /dev/null");
    Fd log;
    if (!o_.debug_log.empty()) {
      log = TRY_MSG(sys::open(o_.debug_log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0640), "open --debug-log {}", o_.debug_log);
    }
    TRY(open_words());
    auto gofer_pair = TRY_MSG(sys::socketpair(SOCK_SEQPACKET), "make a socket pair");
    auto zygote_pair = TRY_MSG(sys::socketpair(SOCK_SEQPACKET), "make a socket pair");
    for (const Fd* end : {&gofer_pair.b, &zygote_pair.b}) TRY(give_name(*end));
    auto& wanted = plan_.wire.process.scheduling;
    host::Scheduling scheduling{wanted.policy, wanted.nice, wanted.io_priority};
    host::GoferLaunch g{common(programs_.gofer, null), gofer_pair.a.get(), log.valid() ? log.get() : -1, plan_.attaches, state_.store,
                        wanted.io_priority, {}, {}};
    if (!plan_.wire.uids.empty()) {
      g.uids = id_maps(spec_.uid_mappings);
      g.gids = id_maps(spec_.gid_mappings);
    }
    auto gofer = TRY(host::start_gofer(g));
    state_.gofer = host::process_name(gofer.pid);
    LOG(debug, "gofer is pid {}", gofer.pid);
    gofer_pair.a.reset();

    if (pod_) {
      pidfd_ = std::move(pod_->sentry);
      client_ = TRY(Client::connect(d.fd()));
    } else {
      TRY(start_sentry(d, null, log));
    }
    scope_.release();
    // Without a cgroup, this alone tells who they are if we are killed now.
    if (cgroups_.leaves().empty()) TRY(d.save(state_));
    // A stub's table of descriptors holds what it may map and nothing else.
    host::ZygoteLaunch z{{programs_.zygote, cgroups_, -1, -1}, zygote_pair.a.get(), pidfd_.get(), zygote_oom_score(), scheduling,
                         pod_ || net_ != host::Net::empty};
    TRY(host::start_zygote(z));
    zygote_pair.a.reset();
    LOG(debug, "zygote runs");
    TRY(gofer.settle("gofer"));
    LOG(debug, "gofer runs");

    auto hooked = run_create_hooks();
    if (!hooked.ok()) return hooked.error();

    // After the hooks, which may have given it interfaces.
    if (!pod_ && net_ != host::Net::empty) {
      auto seen = host::describe_network(net_ == host::Net::keep ? -1 : pidfd_.get());
      if (seen.ok()) plan_.wire.network = std::move(*seen);
      else LOG(warn, "interfaces are not told to the container: {}", seen.error().text());
    }
    std::vector<int> fds{gofer_pair.b.get(), zygote_pair.b.get()};
    for (int i = 0; i < 3; i++) fds.push_back(terminal_.slave.valid() ? terminal_.slave.get() : i);
    plan_.wire.preserve_fds = static_cast<uint32_t>(o_.preserve_fds);
    for (int i = 0; i < o_.preserve_fds; i++) fds.push_back(3 + i);
    Fd threads;
    if (pod_) {
      plan_.wire.member = true;
      plan_.wire.joins = pod_->joins;
      if (auto opened = cgroups_.open_threads(); opened.ok()) threads = std::move(opened).value();
      plan_.wire.has_threads_file = threads.valid();
      if (threads.valid()) fds.push_back(threads.get());
    }

    client_->watch(state_.cgroup_leaves, state_.sentry.pid, state_.gofer.pid);
    TRY(client_->call<wire::PidReply>(wire::ControlOp::kCreate, plan_.wire, kCreateMs, fds));
    if (terminal_.slave.valid() && !terminal_.master.valid()) {
      TRY(keep_terminal({o_.id, 0, terminal_.slave.get(), TRY(Client::connect(d.fd())), &cgroups_}));
    }
    terminal_.slave.reset();
    LOG(debug, "the sentry has made the container");
    return {};
  }

  host::Launch common(const host::Program& p, const Fd& null) const {
    return host::Launch{p, cgroups_, null.get(), stderr_out_.get()};
  }

  ResultX<void> start_sentry(const Directory& d, const Fd& null, const Fd& log) {
    NetworkChoice network = TRY(choose_network(spec_, o_.network));
    net_ = network.net;
    auto control_pair = TRY_MSG(sys::socketpair(SOCK_SEQPACKET), "make a socket pair");
    Fd listener = TRY(listen_control(d));
    TRY(give_name(control_pair.a));
    host::SentryLaunch sl{common(programs_.sentry, null), control_pair.a.get(), ids_, network.net,
                          network.path.valid() ? network.path.get() : -1, network.foreign, spec_.sysctls, {}};
    if (auto& t = spec_.time_offsets) {
      sl.clocks = {{t->monotonic.seconds, t->monotonic.nanoseconds, t->boottime.seconds, t->boottime.nanoseconds}};
    }
    auto sentry = TRY(host::start_sentry(sl));
    state_.sentry = host::process_name(sentry.pid);
    LOG(debug, "sentry is pid {}", sentry.pid);
    pidfd_ = TRY_MSG(sys::pidfd_open(sentry.pid), "watch the sentry");
    control_pair.a.reset();
    client_.emplace(std::move(control_pair.b));
    return send_boot(listener, log, network.net != host::Net::empty);
  }

  ResultX<void> open_words() {
    int p[2];
    TRY_MSG(sys::from_libc(::pipe2(p, O_CLOEXEC)), "make a pipe");
    words_ = Fd(p[0]);
    stderr_out_ = Fd(p[1]);
    // Neither end ever blocks: a sentry must not wait for a reader that has gone to sleep.
    TRY_MSG(sys::set_nonblocking(p[0], true), "set up a pipe");
    TRY_MSG(sys::set_nonblocking(p[1], true), "set up a pipe");
    return {};
  }

  // Stubs are the first to go when the host is short of memory, in the order the spec gives among sandboxes.
  int zygote_oom_score() const { return 500 + (spec_.process.oom_score_adj + 1000) / 4; }

  ResultX<void> send_boot(const Fd& listener, const Fd& log, bool sockets) {
    wire::Boot boot;
    boot.sandbox_id = o_.id;
    boot.memory_mode = o_.memory_mode;
    boot.patch_calls = o_.patch_calls;
    boot.strace = o_.strace;
    boot.log_level = static_cast<uint8_t>(o_.debug   ? base::LogLevel::debug
                                          : log.valid() ? base::LogLevel::info
                                                        : base::LogLevel::warn);
    boot.exit_with_init = true;
    boot.host_sockets = sockets;
    fill_cpus(boot, plan_.wire, host::find_cpu_share(hierarchies_, cgroups_.leaves()));
    std::vector<int> fds{listener.get()};
    if (log.valid()) {
      boot.has_log = true;
      fds.push_back(log.get());
    }
    auto threads = cgroups_.open_threads();
    if (threads.ok() && threads->valid()) {
      boot.has_threads_file = true;
      fds.push_back(threads->get());
    }
    return client_->send_boot(boot, fds);
  }

  ResultX<void> run_create_hooks() {
    auto& h = spec_.hooks;
    if (h.prestart.empty() && h.create_runtime.empty() && h.create_container.empty()) return {};
    hooks_begun_ = true;
    std::string json = state_json(state_, Status::creating);
    TRY(run_hooks(h.prestart, "prestart", json, o_.bundle));
    TRY(run_hooks(h.create_runtime, "createRuntime", json, o_.bundle));
    return run_hooks(h.create_container, "createContainer", json, o_.bundle, pidfd_.get());
  }

  ResultX<void> write_pid_file() {
    TRY_MSG(host::replace_file(o_.pid_file, std::to_string(state_.told().pid), 0644), "write --pid-file {}", o_.pid_file);
    return {};
  }

  const CreateOptions& o_;
  const oci::Spec& spec_;
  Plan plan_;
  Programs programs_;
  Place place_;
  std::optional<Pod> pod_;
  bool rootless_;
  uint32_t owner_;
  State state_;
  bool hooks_begun_ = false;
  host::IdRange ids_;
  std::vector<host::Hierarchy> hierarchies_;
  host::Scope scope_;
  host::Cgroups cgroups_;
  host::Terminal terminal_;
  host::Net net_ = host::Net::empty;  // of a sentry that was started here
  Fd words_, stderr_out_, pidfd_;
  std::optional<Client> client_;
};

ResultX<std::string> absolute_bundle(const std::string& bundle) {
  char resolved[4096];
  if (!::realpath(bundle.empty() ? "." : bundle.c_str(), resolved)) {
    return base::wrap(sys::from_libc(-1).error(), "bundle " + bundle);
  }
  return std::string(resolved);
}

ResultX<void> check_descriptors(int preserve) {
  for (int i = 0; i < preserve; i++) {
    if (::fcntl(3 + i, F_GETFD) < 0) {
      return base::error(base::kEBADF, "--preserve-fds {}: descriptor {} is not open", preserve, 3 + i);
    }
  }
  constexpr unsigned kOthers = 6;  // gofer, zygote, stdio, the group's threads
  if (preserve < 0 || static_cast<unsigned>(preserve) + kOthers > wire::kMaxRecordFds) {
    return base::error(base::kEINVAL, "--preserve-fds {}: at most {} can be handed over", preserve, wire::kMaxRecordFds - kOthers);
  }
  return {};
}

}  // namespace

ResultX<Created> create_container(const CreateOptions& options) {
  CreateOptions o = options;
  TRY(check_id(o.id));
  o.bundle = TRY(absolute_bundle(o.bundle));
  TRY(check_descriptors(o.preserve_fds));
  uint32_t uid = ::geteuid();
  // Its own user namespace, or one that an engine made for it.
  bool own_namespace = uid != 0, rootless = own_namespace || host::in_user_namespace();

  std::string config;
  oci::Spec spec;
  if (o.spec) {
    spec = *o.spec;
    config = "{}";
  } else {
    config = TRY(read_config(o.bundle));
    spec = TRY_MSG(oci::parse_spec(config), "{}/config.json", o.bundle);
  }
  if (!own_namespace) TRY(check_mappings(spec));
  Place place = TRY(find_place(o.id, spec.annotations));
  if (o.adjust) TRY(o.adjust(spec, place.role, o));
  for (auto& n : spec.namespaces) {
    bool joins = n.type == "network" || (place.role != Role::alone && (n.type == "pid" || n.type == "ipc" || n.type == "uts"));
    if (n.path.empty() || joins) continue;
    spec.warnings.push_back(base::format("linux.namespaces joins {} as its {} namespace: the sandbox has one of its own kernel and "
                                         "joins no other, ignored", n.path, n.type));
  }
  // What the spec does not name is the caller's own, and a sandbox has no part of it (of the network it may, see choose_network()).
  std::string absent;
  for (const char* type : {"pid", "ipc", "uts", "mount"}) {
    if (!o.spec && !spec.find_namespace(type)) absent += (absent.empty() ? "" : ", ") + std::string(type);
  }
  if (!absent.empty()) {
    spec.warnings.push_back(base::format("linux.namespaces does not have {}: the host's are not shared with a sandbox, it has its own",
                                         absent));
  }
  RootWrites writes;
  if (o.overlay) writes.overlay = *o.overlay;
  else if (!o.spec) writes = TRY(choose_root_writes(spec, o.root));
  Plan plan = TRY(make_plan(spec, {o.id, o.bundle, writes, o.spec != nullptr, place.role != Role::alone}));
  if (o.listen_fds > 0) {
    plan.wire.process.env.push_back("LISTEN_FDS=" + std::to_string(o.listen_fds));
    plan.wire.process.env.push_back("LISTEN_PID=1");
  }
  if (!own_namespace) {
    for (auto& m : spec.uid_mappings) plan.wire.uids.push_back({m.container, m.host, m.size});
    for (auto& m : spec.gid_mappings) plan.wire.gids.push_back({m.container, m.host, m.size});
  }
  for (auto& w : spec.warnings) LOG(warn, "{}", w);
  for (auto& w : plan.warnings) LOG(warn, "{}", w);

  Programs programs = TRY(find_programs());
  Root root = TRY(Root::open(o.root));
  std::optional<Pod> pod;
  if (place.role == Role::member) pod = TRY(find_pod(root, place, spec));
  if (own_namespace) {
    TRY(pod ? enter_user_namespace_of(*pod)
            : host::enter_own_user_namespace(id_maps(spec.uid_mappings), id_maps(spec.gid_mappings)));
  }
  Directory d = TRY(Directory::create(root, o.id));
  Maker maker(o, spec, std::move(plan), std::move(programs), std::move(place), std::move(pod), rootless, uid);
  auto made = maker.make(root, d, config);
  if (!made.ok()) {
    Error e = maker.explain(made.error());
    auto undone = destroy_container(root, d, maker.state());
    if (!undone.ok()) LOG(warn, "cleaning up after the failure: {}", undone.error().text());
    if (maker.hooks_begun()) run_poststop_hooks(spec.hooks.poststop, state_json(maker.state(), Status::stopped), o.bundle);
    return e;
  }
  return Created{maker.state(),           std::move(d), std::move(maker.client()), maker.take_terminal(),
                 maker.take_pidfd(), maker.take_words(), std::move(root)};
}

ResultX<oci::Spec> load_saved_spec(const Directory& d) {
  auto text = host::read_file_at(d.fd(), "config.json", oci::kMaxConfig);
  if (!text.ok()) return base::wrap(text.error(), "read " + d.path() + "/config.json");
  return TRY_MSG(oci::parse_spec(*text), "{}/config.json", d.path());
}

}  // namespace runtime::container

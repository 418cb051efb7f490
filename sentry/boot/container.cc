// SPDX-License-Identifier: Apache-2.0
// Builds a container: gofer, root, mounts, /dev, masked paths, then its first process.
#include "sentry/boot/container.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/sys.h"
#include "sentry/boot/copy_up.h"
#include "sentry/boot/filesystems.h"
#include "sentry/boot/seccomp_profile.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/host/host_file.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/container_life.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/net/common/network.h"
#include "sentry/net/common/ports.h"
#include "sentry/net/host/host.h"
#include "sentry/net/unix/unix.h"
#include "sentry/platform/zygote_life.h"
#include "sentry/vfs/special.h"
#include "sentry/vfs/walk.h"

namespace sentry::boot {
namespace {

Failure fail(Errno e, std::string doing) { return Failure{e, std::move(doing)}; }

// TRY for steps that a person hears about.
#define STEP(expr, ...)                                                        \
  __extension__({                                                              \
    auto step = (expr);                                                        \
    if (!step.ok()) return fail(step.error(), base::format(__VA_ARGS__));      \
    std::move(step).value();                                                   \
  })

// The kernel's own hands: everything is allowed.
Ref<auth::Credentials> root_credentials() {
  auto c = make_ref<auth::Credentials>();
  c->cap_effective = c->cap_permitted = c->cap_bounding = auth::kAllCaps;
  return c;
}

vfs::WalkContext walk_from(const vfs::MountNamespace& ns) {
  return vfs::WalkContext{ns, ns.root(), ns.root(), root_credentials()};
}

// Makes every missing directory of an absolute path. Symlinks in it are followed inside the container's root.
Result<void> make_directories(const vfs::WalkContext& c, const std::string& path) {
  for (size_t at = 1; at <= path.size(); at++) {
    if (at != path.size() && path[at] != '/') continue;
    auto r = vfs::make_directory(c, path.substr(0, at), 0755);
    if (!r.ok() && !(r.error() == kEEXIST) && !(r.error() == kEROFS)) return r.error();
  }
  return {};
}

// The place of a mount, made when it is missing: a directory, or an empty file for a file.
Result<vfs::Path> mount_point(const vfs::WalkContext& c, const std::string& path, bool directory) {
  auto found = vfs::walk(c, path, vfs::kFollow);
  if (found.ok() || !(found.error() == kENOENT)) return found;
  if (directory) {
    TRY(make_directories(c, path));
  } else {
    size_t slash = path.rfind('/');
    if (slash != 0 && slash != std::string::npos) TRY(make_directories(c, path.substr(0, slash)));
    TRY(vfs::make_node(c, path, S_IFREG | 0644, 0));
  }
  return vfs::walk(c, path, vfs::kFollow);
}

// Nodes and links that programs expect in /dev (OCI runtime spec, "Default Devices", "Default filesystems"). No /dev/core: there is no
// /proc/kcore here that it could lead to, and runc makes none then.
Result<void> fill_dev(const vfs::WalkContext& c) {
  for (const auto& n : fs::dev::default_nodes()) {
    auto r = vfs::make_node(c, std::string("/dev/") + n.name, S_IFCHR | n.mode, n.rdev);
    if (!r.ok() && !(r.error() == kEEXIST)) return r.error();
  }
  static constexpr std::pair<const char*, const char*> kLinks[] = {
      {"/proc/self/fd", "/dev/fd"},     {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
      {"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"}};
  for (const auto& [target, path] : kLinks) {
    auto r = vfs::make_symlink(c, target, path);
    if (!r.ok() && !(r.error() == kEEXIST)) return r.error();
  }
  return {};
}

// A place in a file system that need not be mounted anywhere.
Result<Ref<vfs::Dentry>> directory_in(const Ref<vfs::FileSystem>& fs, const std::string& path) {
  auto alone = vfs::MountNamespace::create(fs, 0, "volume");
  auto c = walk_from(*alone);
  TRY(make_directories(c, "/" + path));
  auto found = TRY(vfs::walk(c, "/" + path, vfs::kNoSymlinks));
  return found.dentry.get_ref();
}

// Everything but the root: whoever looks at these mounts still may, nobody finds them any more. Mounts of proc and sysfs hold their
// container, so one that is over would live on in its own mounts.
void unmount_all(vfs::MountNamespace& ns) {
  for (const auto& m : ns.list(ns.root())) {
    if (!ns.mountpoint_of(*m.mount)) continue;  // the root, or gone with another
    IGNORE_ERROR(ns.unmount(vfs::Path{m.mount, m.mount->root()}, MNT_DETACH), "it went this moment");
  }
}

// fs.mqueue.*: of an IPC namespace, not of a proc file system.
Result<void, Failure> set_queue_limits(kernel::IpcNamespace& ipc, const std::vector<wire::Sysctl>& all) {
  using Q = kernel::QueueLimits;
  auto limits = ipc.queue_limits();
  const struct {
    const char* name;
    std::atomic<int>& value;
    int least, most;
  } known[] = {{"fs.mqueue.queues_max", limits->queues_max, 0, INT32_MAX},
               {"fs.mqueue.msg_max", limits->msg_max, 1, Q::kMaxMessages},
               {"fs.mqueue.msg_default", limits->msg_default, 1, Q::kMaxMessages},
               {"fs.mqueue.msgsize_max", limits->msgsize_max, 128, Q::kMaxSize},
               {"fs.mqueue.msgsize_default", limits->msgsize_default, 128, Q::kMaxSize}};
  for (const auto& s : all) {
    for (const auto& k : known) {
      if (s.name != k.name) continue;
      int n = 0;
      auto [end, error] = std::from_chars(s.value.data(), s.value.data() + s.value.size(), n);
      if (error != std::errc() || end != s.value.data() + s.value.size() || n < k.least || n > k.most)
        return fail(kEINVAL, base::format("setting the sysctl {} to '{}'", s.name, s.value));
      k.value = n;
    }
  }
  return {};
}

// The task's IPC namespace is that of the pod, or its container's.
void join_ipc(const Running& running, kernel::ThreadGroup& g) {
  if (auto leader = g.leader(); leader && running.shared_ipc) kernel::set_ipc(*leader, running.shared_ipc.get_ref());
}

// What opening a FIFO or a device node means; told once to the vfs, which does not know those rooms.
Result<Ref<vfs::File>> open_character_device(uint64_t rdev, const vfs::Path& where, const Ref<vfs::Inode>& inode,
                                             int flags, const Ref<auth::Credentials>& cred) {
  auto f = fs::dev::open(rdev, where, inode, flags, cred);
  if (!f.ok() && f.error() == kENXIO) return fs::tty::open_device(rdev, where, inode, flags, cred);
  return f;
}
Result<Ref<vfs::File>> open_fifo(uint64_t, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                 const Ref<auth::Credentials>& cred) {
  return fs::pipe::open_fifo(where, inode, flags, cred);
}

struct Builder {
  kernel::Kernel& kernel;
  const wire::ContainerSpec& spec;
  Ref<fs::gofer::Client> gofer;
  Ref<kernel::Container> container;
  const Shared& shared;

  Result<Ref<vfs::FileSystem>, Failure> make_fs(const wire::Mount& m) {
    if (m.type == "gofer")
      return STEP(fs::gofer::attach(gofer, {.index = m.attach, .exclusive = !m.shared,
                                            .read_only = (m.flags & MS_RDONLY) != 0}),
                  "attaching the volume for {}", m.destination);
    if (!m.volume.empty()) {
      FsEnvironment of_all{kernel, container, shared.gofer ? shared.gofer.get_ref() : gofer};
      return STEP(shared.volumes->get(m.volume, [&] { return make_filesystem(of_all, "tmpfs", m.data); }),
                  "making the volume for {}", m.destination);
    }
    FsEnvironment env{kernel, container, gofer};
    auto made = STEP(make_filesystem(env, m.type, m.data), "making a {} file system for {}", m.type, m.destination);
    if (m.type == "proc") {
      auto set = set_sysctls(made);
      if (!set.ok()) return set.error();
    }
    return made;
  }

  // Written where nothing is mounted over them. What this kernel does not have, or does not let change, is told and passed over:
  // engines set some for every container.
  Result<void, Failure> set_sysctls(const Ref<vfs::FileSystem>& proc) {
    std::vector<wire::Sysctl> all;
    for (const auto& s : shared.sysctls)  // of namespaces that are the pod's
      if (s.name.starts_with("net.") || (shared.ipc && (s.name.starts_with("kernel.shm") || s.name.starts_with("kernel.msg") || s.name == "kernel.sem")))
        all.push_back(s);
    all.insert(all.end(), spec.sysctls.begin(), spec.sysctls.end());
    if (all.empty()) return {};
    auto alone = vfs::MountNamespace::create(proc, 0, "proc");
    auto c = walk_from(*alone);
    for (const auto& s : all) {
      if (s.name.starts_with("fs.mqueue.")) continue;
      std::string path = "/sys/" + s.name;
      std::replace(path.begin(), path.end(), '.', '/');
      auto file = vfs::open(c, path, O_WRONLY, 0, vfs::kNoSymlinks);
      Result<size_t> written = file.ok() ? Result<size_t>(size_t{0}) : Result<size_t>(file.error());
      int64_t at = 0;
      if (file.ok()) written = (*file)->write(std::as_bytes(std::span(s.value)), &at, {});
      if (written.ok()) continue;
      if (written.error() == kEINVAL) return fail(kEINVAL, base::format("setting the sysctl {} to '{}'", s.name, s.value));
      LOG(warn, "sysctl {} stays as it is: {}", s.name, written.error().text());
    }
    return {};
  }

  Result<void> set_propagation(const Ref<vfs::Mount>& m, uint64_t type) {
    return container->mounts()->change(vfs::Path{m, m->root()}, type & MS_REC, {0, 0, type & ~uint64_t{MS_REC}});
  }

  Result<void, Failure> mount_all() {
    const auto& ns = *container->mounts();
    auto c = walk_from(ns);
    bool has_dev = false;
    for (wire::Mount m : spec.mounts) {
      // A tmpfs without a mode has that of the directory it hides, as other runtimes have it.
      const bool mode_given = m.data.find("mode=") != std::string::npos;
      if (m.type == "tmpfs" && !mode_given) {
        auto place = vfs::walk(c, m.destination, vfs::kFollow);
        auto inode = place.ok() ? place->inode() : RefOrNull<vfs::Inode>();
        auto a = inode ? inode->attributes() : Result<vfs::Attributes>(kENOENT);
        if (a.ok() && S_ISDIR(a->mode)) m.data += base::format("{}mode={:o}", m.data.empty() ? "" : ",", a->mode & 07777);
      }
      auto filesystem = make_fs(m);
      if (!filesystem.ok()) return filesystem.error();
      RefOrNull<vfs::Dentry> subdir;
      if (!m.volume_path.empty()) {
        subdir = STEP(directory_in(*filesystem, m.volume_path), "finding {} in the volume for {}", m.volume_path, m.destination);
      }
      auto top = subdir ? subdir->inode() : RefOrNull<vfs::Inode>((*filesystem)->root());
      bool directory = top && top->is_directory();
      auto at = STEP(mount_point(c, m.destination, directory), "finding the mount point {}", m.destination);
      if (m.copy_up) STEP(copy_up(c, at, *filesystem, mode_given ? CopyMode::of_contents : CopyMode::of_all), "copying what is at {} into the tmpfs there", m.destination);
      auto mounted = STEP(container->mounts()->mount(*filesystem, at, m.flags & ~uint64_t{MS_BIND | MS_REC}, m.type, subdir),
                          "mounting {} on {}", m.type, m.destination);
      if (m.propagation & MS_SLAVE) vfs::MountNamespace::follow_outside(*mounted);
      for (uint64_t type : {uint64_t{MS_SHARED}, uint64_t{MS_UNBINDABLE}})
        if (m.propagation & type) STEP(set_propagation(mounted, type), "making {} of {}", type == MS_SHARED ? "peers" : "an unbindable mount", m.destination);
      if (m.destination == "/dev") {
        has_dev = true;
        STEP(fill_dev(c), "filling /dev");
      }
    }
    if (!has_dev) {
      STEP(make_directories(c, "/dev"), "making /dev");
      STEP(fill_dev(c), "filling /dev");
    }
    auto made = make_devices(c);
    if (!made.ok()) return made.error();
    auto hidden = hide_paths(c);
    if (!hidden.ok()) return hidden.error();
    if (spec.root_propagation) STEP(set_propagation(ns.root().mount.get_ref(), spec.root_propagation), "setting the propagation of the root");
    return {};
  }

  Result<void, Failure> make_devices(const vfs::WalkContext& c) {
    for (const auto& d : spec.devices) {
      size_t slash = d.path.rfind('/');
      if (slash != 0 && slash != std::string::npos) STEP(make_directories(c, d.path.substr(0, slash)), "making the directory of {}", d.path);
      auto r = vfs::make_node(c, d.path, d.mode, makedev(d.major, d.minor));
      if (!r.ok() && r.error() == kEEXIST) continue;  // the usual ones are there
      STEP(std::move(r), "making the device {}", d.path);
      auto at = STEP(vfs::walk(c, d.path, 0), "making the device {}", d.path);
      vfs::SetAttributes set;
      set.mask = vfs::SetAttributes::kMode | vfs::SetAttributes::kUid | vfs::SetAttributes::kGid;
      set.mode = d.mode & 07777;
      set.uid = d.uid;
      set.gid = d.gid;
      auto inode = at.inode();
      if (inode) STEP(inode->set_attributes(set), "setting mode and owner of {}", d.path);
    }
    return {};
  }

  Result<void, Failure> hide_paths(const vfs::WalkContext& c) {
    FsEnvironment env{kernel, container, gofer};
    for (const auto& p : spec.readonly_paths) {
      auto at = vfs::walk(c, p, vfs::kFollow);
      if (!at.ok()) continue;  // runc: a path that is not there needs no protection
      uint64_t flags = at->mount->flags() | MS_RDONLY;
      (void)STEP(container->mounts()->mount(at->mount->fs(), *at, flags, at->mount->source(), at->dentry), "making {} read-only", p);
    }
    for (const auto& p : spec.masked_paths) {
      auto at = vfs::walk(c, p, vfs::kFollow);
      if (!at.ok()) continue;
      auto inode = at->inode();
      if (inode && inode->is_directory()) {
        auto empty = STEP(make_filesystem(env, "tmpfs", "size=4k,mode=755"), "masking {}", p);
        (void)STEP(container->mounts()->mount(empty, *at, MS_RDONLY, "tmpfs"), "masking {}", p);
      } else {
        auto null = vfs::walk(c, "/dev/null", 0);
        if (!null.ok()) continue;
        (void)STEP(container->mounts()->mount(null->mount->fs(), *at, MS_RDONLY, null->mount->source(), null->dentry), "masking {}", p);
      }
    }
    return {};
  }
};

Ref<auth::Credentials> credentials_of(const wire::Process& p) {
  auto c = make_ref<auth::Credentials>();
  c->uid = c->euid = c->suid = c->fsuid = p.uid;
  c->gid = c->egid = c->sgid = c->fsgid = p.gid;
  c->groups = p.groups;
  std::sort(c->groups.begin(), c->groups.end());  // as setgroups(2) leaves them
  c->cap_bounding = p.cap_bounding & auth::kAllCaps;
  c->cap_effective = p.cap_effective & auth::kAllCaps;
  c->cap_permitted = p.cap_permitted & auth::kAllCaps;
  c->cap_inheritable = p.cap_inheritable & auth::kAllCaps;
  c->cap_ambient = p.cap_ambient & c->cap_permitted & c->cap_inheritable;
  c->no_new_privs = p.no_new_privs;
  return c;
}

struct OpenTerminal {
  Ref<vfs::File> file;
  Ref<kernel::TtyLink> link;
};
enum class Console { mount, none };

// A host terminal as one of the container's devpts, open by its name there. Console::mount: /dev/console is the same terminal (OCI
// runtime spec, "Devices": a bind mount of the pts), for init.
Result<OpenTerminal> open_terminal(kernel::Container& container, Fd fd, const Ref<auth::Credentials>& cred, Console console) {
  auto& ns = *container.mounts();
  auto c = walk_from(ns);
  auto pts = vfs::walk(c, "/dev/pts", vfs::kFollow | vfs::kDirectory);
  bool named = pts.ok() && strcmp(pts->mount->fs()->type_name(), "devpts") == 0;
  Ref<vfs::FileSystem> devpts = named ? pts->mount->fs() : TRY(fs::tty::create_devpts({}));
  auto tty = TRY(fs::tty::add_host_terminal(*devpts, std::move(fd), *cred));
  vfs::Path where;
  if (named) {
    where = TRY(vfs::walk(c, "/dev/pts/" + tty.name, 0));
  } else {
    where.dentry = TRY(vfs::Dentry::make_root(devpts->root())->lookup(tty.name));
  }
  if (console == Console::mount) {
    auto at = mount_point(c, "/dev/console", false);
    if (at.ok()) {
      uint64_t flags = named ? pts->mount->flags() : 0;
      auto mounted = TRY(ns.mount(devpts, *at, flags, "devpts", where.dentry));
      if (!named) where = {mounted, mounted->root()};
    } else if (!(at.error() == kEROFS)) {  // without a /dev that can be written to, there is no console either
      return at.error();
    }
  }
  auto inode = where.inode();
  if (!inode) return kEIO;
  return OpenTerminal{TRY(inode->open(where, O_RDWR, cred)), tty.terminal};
}

// The directory that /etc/passwd of the container names for a user; "/" when it names none.
std::string home_of(kernel::Container& container, uint32_t uid) {
  constexpr size_t kMostBytes = 1 << 20;
  auto c = walk_from(*container.mounts());
  auto at = vfs::walk(c, "/etc/passwd", vfs::kFollow);
  auto inode = at.ok() ? at->inode() : RefOrNull<vfs::Inode>();
  if (!inode || !inode->is_regular()) return "/";
  auto file = vfs::open(c, "/etc/passwd", O_RDONLY, 0, 0);
  if (!file.ok()) return "/";
  std::string text(kMostBytes, '\0');
  size_t size = 0;
  int64_t offset = 0;
  for (;;) {
    auto n = (*file)->read(std::as_writable_bytes(std::span(text).subspan(size)), &offset, {});
    if (!n.ok() || *n == 0) break;
    size += *n;
  }
  text.resize(size);
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    std::array<std::string_view, 6> field;  // name, password, uid, gid, comment, home
    for (auto& f : field) {
      f = line.substr(0, line.find(':'));
      line.remove_prefix(std::min(f.size() + 1, line.size()));
    }
    if (field[2] == std::to_string(uid) && !field[5].empty()) return std::string(field[5]);
  }
  return "/";
}

Result<kernel::ProcessSpec, Failure> process_of(const wire::Process& p, std::span<Fd> fds, kernel::Container& container,
                                                Console console, RefOrNull<kernel::TtyLink>* terminal) {
  kernel::ProcessSpec out{.args = p.args, .env = p.env, .cwd = p.cwd.empty() ? "/" : p.cwd,
                          .credentials = credentials_of(p), .umask = p.umask & 0777, .rlimits = {}, .files = {},
                          .controlling_terminal = p.terminal};
  auto home = std::find_if(out.env.begin(), out.env.end(), [](const std::string& e) { return e.starts_with("HOME="); });
  if (home == out.env.end()) out.env.push_back("HOME=" + home_of(container, p.uid));
  else if (*home == "HOME=") *home += home_of(container, p.uid);
  for (const auto& r : p.rlimits) {
    if (r.resource >= RLIM_NLIMITS) return fail(kEINVAL, base::format("rlimit number {} is unknown", r.resource));
    out.rlimits.emplace_back(static_cast<int>(r.resource), rlimit64{r.soft, r.hard});
  }
  if (p.terminal && !fds.empty()) {
    // One terminal, three descriptors: the same description for all.
    auto tty = STEP(open_terminal(container, std::move(fds[0]), out.credentials, console), "adopting the terminal");
    *terminal = tty.link;
    if (p.rows) fs::tty::set_host_size(*tty.link, p.rows, p.cols);
    out.files.assign(3, tty.file);
    fds = fds.size() > 3 ? fds.subspan(3) : std::span<Fd>();
  }
  for (Fd& fd : fds) {
    if (!fd.valid()) {
      out.files.emplace_back();
      continue;
    }
    size_t n = out.files.size();
    out.files.push_back(STEP(fs::host::from_host_fd(std::move(fd), out.credentials), "adopting descriptor {}", n));
  }
  return out;
}

// Before it runs. Of the CPUs those count that are there; none at all: every one.
void schedule(kernel::ThreadGroup& g, const wire::Process& p) {
  const wire::Scheduling& s = p.scheduling;
  auto leader = g.leader();
  if (!leader) return;
  auto& t = leader->impl();
  t.policy = s.policy;
  t.nice = s.nice;
  t.io_priority = static_cast<int>(s.io_priority);
  t.personality = s.personality;
  kernel::CpuSet cpus{};
  const unsigned count = kernel::cpu_count(leader->kernel(), leader->container());
  for (uint32_t n : s.cpus)
    if (n < count && n / 64 < cpus.size()) cpus[n / 64] |= uint64_t{1} << (n % 64);
  leader->set_affinity(cpus);
  kernel::set_oom_score_adj(g, p.oom_score_adj);
}

// In the words that engines look for to tell 126 and 127 apart from other failures.
Failure cannot_run(const wire::Process& p, Errno e) {
  const std::string program = p.args.empty() ? std::string() : p.args[0];
  std::string why(e.text());
  if (!why.empty()) why[0] = static_cast<char>(tolower(static_cast<unsigned char>(why[0])));
  if (e == kENOENT && program.find('/') == std::string::npos) why = "executable file not found in $PATH";
  return Failure{e, base::format("exec: \"{}\": {}", program, why), true};
}

// A working directory that is missing is made for the first program, as other runtimes do.
Result<void, Failure> check_cwd(const vfs::MountNamespace& ns, const std::string& cwd, bool make) {
  auto c = walk_from(ns);
  if (make) IGNORE_ERROR(make_directories(c, cwd), "looked for next");
  auto found = vfs::walk(c, cwd, vfs::kFollow | vfs::kDirectory);
  if (!found.ok()) return fail(found.error(), base::format("changing to process.cwd {}", cwd));
  return {};
}

Result<std::unique_ptr<const auth::IdMap>, Failure> id_map_of(const std::vector<wire::IdExtent>& from) {
  if (from.empty()) return std::unique_ptr<const auth::IdMap>();
  if (from.size() > wire::kMaxIdExtents) return fail(kEINVAL, "too many id mappings");
  std::vector<auth::IdExtent> out;
  for (const auto& e : from) {
    if (e.count == 0 || e.count > UINT32_MAX - e.inside || e.count > UINT32_MAX - e.outside) return fail(kEINVAL, "an id mapping is out of range");
    out.push_back({e.inside, e.outside, e.count});
  }
  return std::make_unique<const auth::IdMap>(std::move(out));
}

Result<void, Failure> check_ids(const wire::Process& p, const kernel::Container& container) {
  const auth::IdMap *uids = container.host_uids(), *gids = container.host_gids();
  if (uids && uids->to_kernel(p.uid) == auth::kNoId)
    return fail(kEINVAL, base::format("process.user.uid {} is none of linux.uidMappings", p.uid));
  if (!gids) return {};
  std::vector<uint32_t> groups = p.groups;
  groups.push_back(p.gid);
  for (uint32_t g : groups)
    if (gids->to_kernel(g) == auth::kNoId) return fail(kEINVAL, base::format("group {} of process.user is none of linux.gidMappings", g));
  return {};
}

kernel::ContainerLimits limits_of(const wire::ContainerSpec& spec) {
  kernel::ContainerLimits l;
  l.memory_bytes = spec.memory_limit;
  l.pids = spec.pids_limit;
  if (spec.cpu_quota_us && spec.cpu_period_us)
    l.cpus = static_cast<double>(spec.cpu_quota_us) / static_cast<double>(spec.cpu_period_us);
  return l;
}

}  // namespace

Result<Ref<vfs::FileSystem>> Volumes::get(const std::string& key,
                                          const std::function<Result<Ref<vfs::FileSystem>>()>& make) {
  auto find = [&](auto& m) -> RefOrNull<vfs::FileSystem> {
    auto it = m.find(key);
    return it == m.end() ? RefOrNull<vfs::FileSystem>() : RefOrNull<vfs::FileSystem>(it->second);
  };
  if (auto known = map_.with(find)) return known.get_ref();
  auto made = TRY(make());
  auto kept = map_.with([&](auto& m) -> RefOrNull<vfs::FileSystem> {
    if (auto other = find(m)) return other;  // somebody else was quicker
    if (m.size() >= wire::kMaxVolumes) return nullptr;
    m.emplace(key, made);
    return made;
  });
  if (!kept) return kENOSPC;
  return kept.get_ref();
}

void Running::kill() {
  for (auto& g : kernel::groups_of(*container)) g->send_signal(kernel::SignalInfo::kernel(SIGKILL));
}

void Running::see_to_its_end() {
  IGNORE_ERROR(sched::wait_for(init_->exit_queue(), [&] { return init_->exit_status().has_value(); }, sched::kNever,
                               sched::Interruptible::no), "no deadline");
  if (!member) return;  // the sandbox ends with it
  constexpr sched::Nanos kStep = 5'000'000;  // a child may have been born meanwhile
  for (;;) {
    auto left = kernel::groups_of(*container);
    std::erase_if(left, [](const Ref<kernel::ThreadGroup>& g) { return g->exit_status().has_value(); });
    if (left.empty()) break;
    kill();
    IGNORE_ERROR(sched::wait_for(left.front()->exit_queue(), [&] { return left.front()->exit_status().has_value(); },
                                 sched::now() + kStep, sched::Interruptible::no), "then once more");
  }
  kernel::reap_dead(*container);
  container->zygote()->kill_all();
  unmount_all(*container->mounts());  // proc and sysfs hold the container
  int status = init_->exit_status()->wait_status;
  gofer_->leave(static_cast<uint8_t>((status & 0x7f) ? 128 + (status & 0x7f) : (status >> 8) & 0xff));
  ended_.store(true);
  ended_queue_.wake_all();
}

bool Running::wait_for_end(sched::Nanos deadline) {
  return sched::wait_for(ended_queue_, [&] { return ended_.load(); }, deadline, sched::Interruptible::no).ok();
}

namespace {

// What the runtime saw is what programs see; a container that comes later brings newer news.
void adopt_network(const wire::ContainerSpec& spec) {
  for (const auto& s : spec.sysctls)
    if (s.name == "net.ipv4.ip_unprivileged_port_start") net::first_unprivileged_port = atoi(s.value.c_str());
  fs::proc::set_net_table("dev", [](kernel::Task&) { return net::dev_text(); });
  if (!net::host::enabled()) return;
  fs::proc::set_net_table("route", [](kernel::Task&) { return net::route_text(); });
  fs::proc::set_net_table("if_inet6", [](kernel::Task&) { return net::if_inet6_text(); });
  fs::proc::set_net_table("ipv6_route", [](kernel::Task&) { return net::ipv6_route_text(); });
  fs::proc::set_net_table("tcp", [](kernel::Task&) { return net::host::list_text(AF_INET, IPPROTO_TCP); });
  fs::proc::set_net_table("tcp6", [](kernel::Task&) { return net::host::list_text(AF_INET6, IPPROTO_TCP); });
  fs::proc::set_net_table("udp", [](kernel::Task&) { return net::host::list_text(AF_INET, IPPROTO_UDP); });
  fs::proc::set_net_table("udp6", [](kernel::Task&) { return net::host::list_text(AF_INET6, IPPROTO_UDP); });
  if (!spec.network.given) return;
  auto n = make_ref<net::Network>();
  for (const auto& i : spec.network.interfaces)
    n->interfaces.push_back({i.index, i.flags, i.mtu, i.tx_queue, i.type, i.operstate, i.name, i.address, i.broadcast});
  for (const auto& a : spec.network.addresses)
    n->addresses.push_back({a.index, a.flags, a.prefix, a.scope, a.address, a.local, a.broadcast, a.label});
  for (const auto& r : spec.network.routes)
    n->routes.push_back({r.family, r.prefix, r.tos, r.protocol, r.scope, r.type, r.preference, r.table, r.flags, r.metric, r.interface,
                         r.destination, r.gateway, r.source});
  net::set_network(std::move(n));
}

}  // namespace

Result<Ref<Running>, Failure> create_container(kernel::Kernel& kernel, platform::Platform& platform,
                                               const wire::ContainerSpec& spec, const Shared& shared, std::vector<Fd> fds) {
  vfs::set_special_opener(S_IFCHR, open_character_device);
  vfs::set_special_opener(S_IFIFO, open_fifo);
  adopt_network(spec);
  fs::proc::set_net_table("unix", [](kernel::Task&) { return net::local::list_text(); });
  if (fds.size() != size_t{5} + spec.preserve_fds + (spec.has_threads_file ? 1 : 0))
    return fail(kEINVAL, "a container needs gofer, zygote, three stdio descriptors, and those it says that it has");
  Fd threads;
  if (spec.has_threads_file) {
    threads = std::move(fds.back());
    fds.pop_back();
  }
  auto gofer = STEP(fs::gofer::connect(std::move(fds[0]), shared.waiting), "talking to the gofer");
  auto adopted = platform.adopt_zygote(std::move(fds[1]));
  if (!adopted.ok() && adopted.error() == kEBUSY)
    return Failure{kEBUSY, "caisson runs below a seccomp filter that has a listener (of an outer container runtime, say), and the host "
                   "allows one only: run it outside, or without that filter", true};
  auto zygote = STEP(std::move(adopted), "adopting the zygote");
  if (threads.valid()) platform::set_threads_file(*zygote, std::move(threads));
  auto root = STEP(fs::gofer::attach(gofer, {.index = 0, .exclusive = !spec.root_shared,
                                             .read_only = spec.overlay == wire::OverlayMode::self}),
                   "attaching the root file system");
  RefOrNull<vfs::FileSystem> open_root;
  if (spec.overlay == wire::OverlayMode::none) open_root = root;
  if (spec.overlay == wire::OverlayMode::self)
    root = STEP(fs::overlay::create({.lower = root, .store = fs::gofer::backing(gofer, fs::gofer::Store::disk)}),
                "making the overlay");
  // busybox's df knows no mount whose source is "rootfs".
  auto mounts = vfs::MountNamespace::create(root, 0, spec.overlay == wire::OverlayMode::self ? "overlay" : "gofer");
  auto container = make_ref<kernel::Container>(
      spec.id, zygote, mounts, shared.uts ? shared.uts.get_ref() : make_ref<kernel::UtsNamespace>(spec.hostname, spec.domainname),
      limits_of(spec), shared.pids);
  if (shared.uts && !spec.hostname.empty()) shared.uts->set_hostname(spec.hostname);
  if (shared.uts && !spec.domainname.empty()) shared.uts->set_domainname(spec.domainname);
  // Half a container is not to live on in its own mounts.
  struct Unfinished {
    kernel::Container* container;
    ~Unfinished() {
      if (!container) return;
      container->zygote()->kill_all();
      unmount_all(*container->mounts());
    }
  } unfinished{container.get()};
  auto uids = id_map_of(spec.uids);
  if (!uids.ok()) return uids.error();
  auto gids = id_map_of(spec.gids);
  if (!gids.ok()) return gids.error();
  container->set_host_ids(std::move(uids).value(), std::move(gids).value());
  container->set_file_systems(file_systems_of(kernel, *container, gofer));
  if (spec.seccomp.given) container->set_seccomp(STEP(compile_profile(spec.seccomp), "making a filter of linux.seccomp"));
  auto queues = set_queue_limits(shared.ipc ? *shared.ipc : *container->ipc(), spec.sysctls);
  if (!queues.ok()) return queues.error();
  Builder b{kernel, spec, gofer, container, shared};
  auto mounted = b.mount_all();
  if (!mounted.ok()) return mounted.error();
  if (spec.root_readonly) mounts->root().mount->set_flags(mounts->root().mount->flags() | MS_RDONLY);

  RefOrNull<kernel::TtyLink> tty;
  if (auto known = check_ids(spec.process, *container); !known.ok()) return known.error();
  auto process = process_of(spec.process, std::span(fds).subspan(2), *container, Console::mount, &tty);
  if (!process.ok()) return process.error();
  auto cwd = check_cwd(*mounts, process->cwd, true);
  if (!cwd.ok()) return cwd.error();
  auto init = kernel.create_process(container, *process);
  if (!init.ok()) return cannot_run(spec.process, init.error());
  schedule(**init, spec.process);
  auto running = make_ref<Running>(container, gofer, *init, shared.ipc, spec.member);
  unfinished.container = nullptr;
  running->open_root = std::move(open_root);
  join_ipc(*running, **init);
  running->set_terminal(tty);
  // Without its files or without new processes it is nothing. Its end makes everybody forget it, these handlers included.
  auto kill = [running](const char* who) {
    LOG(warn, "container '{}' has lost its {} and is killed", running->container->id(), who);
    IGNORE_ERROR(sched::spawn([running] { running->kill(); }), "without memory for a fiber its files answer EIO");
  };
  gofer->set_end_handler([kill] { kill("gofer"); });
  platform::set_death_handler(*zygote, [kill] { kill("zygote"); });
  return running;
}

Result<Ref<kernel::ThreadGroup>, Failure> exec_in_container(kernel::Kernel& kernel, Running& running,
                                                            const wire::ExecRequest& request, std::vector<Fd> fds) {
  if (fds.size() < 3) return fail(kEINVAL, "a process needs three stdio descriptors");
  if (running.init()->exit_status()) return fail(kESRCH, "the container is stopped");
  RefOrNull<kernel::TtyLink> tty;
  if (auto known = check_ids(request.process, *running.container); !known.ok()) return known.error();
  auto process = process_of(request.process, fds, *running.container, Console::none, &tty);
  if (!process.ok()) return process.error();
  auto cwd = check_cwd(*running.container->mounts(), process->cwd, false);
  if (!cwd.ok()) return cwd.error();
  auto made = kernel.create_process(running.container, *process);
  if (!made.ok()) return cannot_run(request.process, made.error());
  auto g = *made;
  schedule(*g, request.process);
  join_ipc(running, *g);
  running.add(g, tty);
  kernel.start_process(*g);
  return g;
}

}  // namespace sentry::boot

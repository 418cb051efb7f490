// SPDX-License-Identifier: Apache-2.0
// The life of a container after its making.
#include "runtime/container/lifecycle.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/container/create.h"
#include "runtime/container/freeze.h"
#include "runtime/container/hooks.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/ids.h"
#include "runtime/host/systemd.h"

namespace runtime::container {

using base::ResultX;
namespace wire = base::wire;

namespace {

constexpr int kStartMs = 10000, kAskMs = 2000;

bool is_stopped(const State& s) { return host::process_state(s.sentry.pid) == 'T'; }

// One startContainer hook: a program of the container, run in it as its user before its own program.
ResultX<void> run_inside(Client& client, const State& s, const oci::Spec& spec, const oci::Hook& h) {
  wire::ExecRequest q;
  q.id = s.id;
  q.process.args.push_back(h.path);
  if (h.args.size() > 1) q.process.args.insert(q.process.args.end(), h.args.begin() + 1, h.args.end());
  q.process.env = h.env;
  auto& own = spec.process;
  q.process.cwd = own.cwd;
  q.process.uid = own.uid;
  q.process.gid = own.gid;
  q.process.groups = own.groups;
  q.process.umask = own.umask;
  q.process.cap_bounding = own.cap_bounding;
  q.process.cap_effective = own.cap_effective;
  q.process.cap_permitted = own.cap_permitted;
  q.process.cap_inheritable = own.cap_inheritable;
  q.process.cap_ambient = own.cap_ambient;
  q.process.no_new_privs = own.no_new_privs;
  int p[2];
  TRY_MSG(base::sys::from_libc(::pipe2(p, O_CLOEXEC)), "make a pipe");
  base::Fd in(p[0]), out(p[1]);
  host::Heard heard = TRY_MSG(host::Heard::create(), "make pipes for its output");
  TRY_MSG(base::sys::set_nonblocking(out.get(), true), "set up a pipe");
  std::string json = state_json(s, Status::created);
  IGNORE_ERROR(base::sys::write_all(out.get(), json.data(), json.size()), "a pipe holds more than a state; a hook need not read it");
  out.reset();
  std::vector<int> fds{in.get(), heard.out(), heard.err()};
  auto made = TRY(client.call<wire::PidReply>(wire::ControlOp::kExec, q, kStartMs, fds));
  in.reset();
  heard.close_ends();
  uint64_t tag = TRY(client.send(wire::ControlOp::kWait, wire::WaitRequest{s.id, made.pid}));
  const int64_t since = host::now_ms();
  while (heard.until(client.fd(), since, h.timeout_s)) {
    uint64_t failed = 0;
    auto r = client.receive(0, &failed);
    if (!r.ok() && (!failed || failed == tag)) return r.error();
    if (!r.ok() || r->tag != tag) continue;
    int status = TRY(Client::decode_body<wire::WaitReply>(*r)).status;
    heard.hear();
    return judge_hook(status, heard);
  }
  return base::error(base::kETIMEDOUT, "did not end within its timeout of {} s{}", h.timeout_s, heard.words());
}

ResultX<void> run_start_hooks(Client& client, const State& s, const oci::Spec& spec) {
  for (auto& h : spec.hooks.start_container) {
    auto r = run_inside(client, s, spec, h);
    if (r.ok()) continue;
    // The spec: the container is stopped, and its life ends as after its program.
    host::kill_and_wait(s.told(), 2000);
    return base::wrap(r.error(), base::format("startContainer hook {}", h.path));
  }
  return {};
}

}  // namespace

ResultX<Client> connect_to(const Directory& d, const State& s) {
  Client c = TRY(Client::connect(d.fd()));
  c.watch(s.cgroup_leaves, s.sentry.pid, s.gofer.pid);
  return c;
}

const char* status_name(Status s) {
  switch (s) {
    case Status::creating: return "creating";
    case Status::created: return "created";
    case Status::running: return "running";
    case Status::paused: return "paused";
    case Status::stopped: return "stopped";
  }
  return "stopped";
}

Status find_status(const Directory& d, const State& s) {
  if (s.phase == Phase::creating) return host::alive(s.creator) ? Status::creating : Status::stopped;
  if (!host::alive(s.sentry) || !host::alive(s.told())) return Status::stopped;
  if (is_frozen(s)) return Status::paused;
  if (s.phase == Phase::created) return Status::created;  // while it starts, the answer may be a moment old
  if (is_stopped(s)) return Status::running;  // it would not answer
  // The sentry lives as long as anything of the sandbox does; only it knows whether init has ended.
  auto client = Client::connect(d.fd());
  if (client.ok()) {
    auto r = client->call<wire::StateReply>(wire::ControlOp::kState, wire::IdRequest{s.id}, kAskMs);
    if (r.ok()) {
      switch (r->status) {
        case wire::ContainerStatus::stopped: return Status::stopped;
        case wire::ContainerStatus::created: return Status::created;
        case wire::ContainerStatus::paused: return Status::paused;
        case wire::ContainerStatus::running: return Status::running;
      }
    } else if (r.error().code() == base::kENOENT) {
      return Status::stopped;
    }
  }
  return host::alive(s.told()) ? Status::running : Status::stopped;
}

std::string state_json(const State& s, Status status) {
  nlohmann::ordered_json j;
  j["ociVersion"] = s.version;
  j["id"] = s.id;
  j["pid"] = status == Status::stopped ? 0 : s.told().pid;
  j["status"] = status_name(status);
  j["bundle"] = s.bundle;
  j["rootfs"] = s.rootfs;
  j["created"] = s.created;
  if (!s.annotations.empty()) j["annotations"] = s.annotations;
  j["owner"] = s.owner == 0 ? "root" : std::to_string(s.owner);
  return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

ResultX<void> start_container(Directory& d, State& s, Client* client) {
  auto spec = load_saved_spec(d);
  if (client) {
    if (spec.ok()) TRY(run_start_hooks(*client, s, *spec));
    TRY(client->call<Nothing>(wire::ControlOp::kStart, wire::IdRequest{s.id}, kStartMs));
  } else {
    Status status = find_status(d, s);
    if (status != Status::created) {
      return base::error(base::kEINVAL, "container '{}' cannot be started: it is {}, must be created", s.id,
                         status_name(status));
    }
    Client own = TRY(connect_to(d, s));
    if (spec.ok()) TRY(run_start_hooks(own, s, *spec));
    TRY(own.call<Nothing>(wire::ControlOp::kStart, wire::IdRequest{s.id}, kStartMs));
  }
  s.phase = Phase::started;
  TRY(d.save(s));
  if (spec.ok() && !spec->hooks.poststart.empty()) {
    auto hooked = run_hooks(spec->hooks.poststart, "poststart", state_json(s, Status::running), s.bundle);
    // The spec now: the container is stopped.
    if (!hooked.ok()) {
      host::kill_and_wait(s.told(), 2000);
      return hooked.error();
    }
  }
  return {};
}

ResultX<void> signal_container(const Directory& d, const State& s, int signo, bool all) {
  Status status = find_status(d, s);
  if (status == Status::stopped || status == Status::creating) {
    // Asking for an end that has come is no failure when all processes are meant.
    if (all && status == Status::stopped) return {};
    return base::error(base::kESRCH, "container '{}' is not running: it is {}", s.id, status_name(status));
  }
  if (signo == 0) return {};  // only asks whether there is somebody to get one
  if (status == Status::paused && signo == SIGKILL) TRY(freeze_container(d, s, false));
  auto send = [&]() -> ResultX<void> {
    if (is_stopped(s)) {
      return base::error(base::kETIMEDOUT, "the sentry of container '{}' (pid {}) is stopped by a signal: let it go on with `kill "
                         "-CONT {}`", s.id, s.sentry.pid, s.sentry.pid);
    }
    Client c = TRY(Client::connect(d.fd()));
    wire::SignalRequest q{s.id, 0, signo, all};
    // A frozen sentry does as a frozen process does: it finds the signal when it runs again.
    if (status == Status::paused && signo != SIGKILL) TRY(c.send(wire::ControlOp::kSignal, q));
    else TRY(c.call<Nothing>(wire::ControlOp::kSignal, q, kAskMs));
    return {};
  };
  auto r = send();
  if (r.ok() || signo != SIGKILL) return r;
  if (r.error().code() == base::kESRCH) return r;
  // A sentry that does not answer can still be killed, and all its processes with it. That of a pod has other work as well.
  bool dead = host::kill_and_wait(s.told(), 3000);
  if (s.member()) dead &= host::kill_cgroups(s.cgroup_leaves, 2000);
  if (!dead) return r;
  return {};
}

namespace {

void tell_of_pause(const Directory& d, const State& s, wire::ControlOp op) {
  auto c = Client::connect(d.fd());
  if (c.ok()) IGNORE_ERROR(c->call<Nothing>(op, wire::IdRequest{s.id}, 1000), "the freezer works all the same");
}

// What a member has on the host; its sentry stays.
ResultX<void> end_member(Directory& d, const State& s) {
  auto forget = [&]() -> ResultX<void> {
    if (!host::alive(s.sentry)) return {};
    Client c = TRY(Client::connect(d.fd()));
    auto r = c.call<Nothing>(wire::ControlOp::kDestroy, wire::IdRequest{s.id}, 5000);
    if (!r.ok() && r.error().code() != base::kENOENT) return r.error();
    return {};
  };
  auto forgotten = forget();
  bool dead = host::kill_and_wait(s.gofer, 1000);
  dead &= host::kill_cgroups(s.cgroup_leaves, 2000);
  if (!dead) {
    return base::error(base::kEBUSY, "processes of container '{}' do not end (gofer pid {}): see what they wait for, then delete "
                       "again", s.id, s.gofer.pid);
  }
  // Now that the host has killed them, the sentry has nothing left to wait for.
  if (!forgotten.ok()) forgotten = forget();
  if (!forgotten.ok() && host::alive(s.sentry)) return base::wrap(forgotten.error(), "the pod's sentry");
  return {};
}

// What a container with a sentry of its own has; the members of its pod end with it.
ResultX<void> end_sandbox(Directory& d, const State& s) {
  if (s.sentry.pid && s.phase != Phase::creating && host::alive(s.sentry) && !is_stopped(s)) {
    auto c = Client::connect(d.fd());
    if (c.ok()) {
      IGNORE_ERROR(c->call<Nothing>(wire::ControlOp::kDestroy, wire::IdRequest{s.id}, 1000), "it is killed next");
    }
  }
  // The sentry is pid 1 of its namespace: with it all stubs die.
  bool dead = host::kill_and_wait(s.sentry, 2000);
  dead &= host::kill_and_wait(s.gofer, 1000);
  dead &= host::kill_cgroups(s.cgroup_leaves, 2000);
  if (!dead) {
    return base::error(base::kEBUSY, "processes of container '{}' do not end (sentry pid {}, gofer pid {}): see what they "
                       "wait for, then delete again", s.id, s.sentry.pid, s.gofer.pid);
  }
  return {};
}

}  // namespace

ResultX<void> freeze_container(const Directory& d, const State& s, bool frozen) {
  if (frozen) tell_of_pause(d, s, wire::ControlOp::kPause);
  auto r = freeze_groups(s, frozen);
  // What went wrong may have done so after the thaw.
  if (!is_frozen(s)) tell_of_pause(d, s, wire::ControlOp::kResume);
  return r;
}

ResultX<void> destroy_container(const Root& root, Directory& d, const State& s) {
  LOG(debug, "removing container '{}'", s.id);
  // Nothing frozen can die.
  if (is_frozen(s)) IGNORE_ERROR(freeze_container(d, s, false), "killing is tried in any case");
  TRY(s.member() ? end_member(d, s) : end_sandbox(d, s));
  LOG(debug, "its processes are gone");
  remove_held(s);
  if (!s.unit.empty()) host::stop_scope(s.unit);
  TRY(host::remove_cgroups(s.cgroup_leaves, s.cgroup_made, 2000));
  LOG(debug, "its cgroups are gone");
  if (!s.store.empty()) TRY_MSG(remove_tree(AT_FDCWD, s.store.c_str()), "remove {}", s.store);
  // Late, so that no other sandbox gets these ids while anything might still use them; but before the directory, without which nobody would know
  // that they are left if we were killed between.
  if (s.id_slot) host::release_ids(root.fd(), *s.id_slot, s.id);
  else host::release_ids_of(root.fd(), s.id);
  TRY(d.remove());
  LOG(debug, "container '{}' is removed", s.id);
  return {};
}

namespace {

// Another command holds the container and does not end: forced means that it must go.
ResultX<void> break_lock(Directory& d) {
  auto s = d.load();
  host::ProcessName holder = d.find_lock_holder();
  bool maker = s.ok() && s->phase == Phase::creating && s->creator.pid == holder.pid;
  // Unless it is stopped, another than its maker gets some more time: it may be deleting it.
  if (holder.pid && !maker && host::process_state(holder.pid) != 'T') {
    auto locked = d.lock(1500);
    if (locked.ok() || locked.error().code() != base::kETIMEDOUT) return locked;
    holder = d.find_lock_holder();
  }
  if (holder.pid && holder.pid != ::getpid()) {
    LOG(info, "killing the command that holds container '{}' (pid {})", d.id(), holder.pid);
    host::kill_and_wait(holder, 1000);
  } else if (s.ok()) {
    // It is dead, and a process that it was making has its descriptors yet.
    if (s->creator.pid != ::getpid()) host::kill_and_wait(s->creator, 1000);
    host::kill_and_wait(s->sentry, 1000);
    host::kill_and_wait(s->gofer, 1000);
    host::kill_cgroups(s->cgroup_leaves, 1000);
  }
  return d.lock(1000);
}

}  // namespace

ResultX<void> delete_container(const Root& root, const std::string& id, bool force) {
  auto opened = Directory::open(root, id);
  if (force) Directory::remove_stillborn(root, id);
  if (!opened.ok()) {
    if (force && opened.error().code() == base::kENOENT) return {};
    return opened.error();
  }
  Directory d = std::move(opened).value();
  auto locked = d.lock(force ? 1500 : 4000);
  if (!locked.ok()) {
    if (!force || locked.error().code() != base::kETIMEDOUT) {
      if (force && locked.error().code() == base::kENOENT) return {};
      return locked.error();
    }
    auto broken = break_lock(d);
    if (!broken.ok() && broken.error().code() == base::kENOENT) return {};  // whoever held it was deleting it
    TRY(std::move(broken));
  }
  auto loaded = d.load();
  State s;
  if (loaded.ok()) {
    s = std::move(loaded).value();
  } else {
    if (!force) return loaded.error();
    s.id = id;  // nothing was noted, so there is nothing but the directory
  }
  Status status = find_status(d, s);
  if (!force && (status == Status::running || status == Status::paused)) {
    return base::error(base::kEBUSY, "container '{}' is {}: kill it first, or delete it with --force", id,
                       status_name(status));
  }
  auto spec = load_saved_spec(d);
  TRY(destroy_container(root, d, s));
  if (spec.ok()) run_poststop_hooks(spec->hooks.poststop, state_json(s, Status::stopped), s.bundle);
  return {};
}

}  // namespace runtime::container

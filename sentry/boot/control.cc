// SPDX-License-Identifier: Apache-2.0
// Records in, records out.
#include "sentry/boot/control.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/container_life.h"
#include "sentry/kernel/inspect.h"
#include "sentry/patch/store.h"
#include "sentry/platform/zygote_life.h"

namespace sentry::boot {
namespace {

using wire::ControlOp;

// What a handler answers: an encoded body, or a Failure.
using Answer = Result<std::vector<std::byte>, Failure>;

template <typename T>
Answer body(const T& v) {
  return wire::encode(v);
}
Answer empty() { return std::vector<std::byte>{}; }
Failure failure(Errno e, std::string text) { return Failure{e, std::move(text)}; }

template <typename T>
Result<T, Failure> parse(std::span<const std::byte> in) {
  auto r = wire::decode<T>(in);
  if (!r.ok()) return failure(r.error(), "malformed control request");
  return std::move(r).value();
}

}  // namespace

struct ControlServer::Connection : RefCounted<Connection> {
  Connection(ControlServer& s, Fd f)
      : server(s), socket(std::move(f)), watch([](void* p, uint32_t) {
          auto* c = static_cast<Connection*>(p);
          c->server.read_all(*c);
        }, this) {}
  ~Connection() = default;
  ControlServer& server;
  Fd socket;
  sched::FdWatch watch;
  bool open = true;  // callbacks of one watch do not overlap
  bool makers = false;  // of the process that made this sandbox
};

ControlServer::ControlServer(kernel::Kernel& kernel, platform::Platform& platform, Fd listener, bool exit_with_init, fs::gofer::Waiting waiting)
    : kernel_(kernel), platform_(platform), listener_(std::move(listener)), containers_(LockRank::kEpollInterest),
      exit_with_init_(exit_with_init), waiting_(waiting) {}
ControlServer::~ControlServer() = default;

void ControlServer::start(Fd first) {
  serve(std::move(first), true);
  accept_watch_ = std::make_unique<sched::FdWatch>(
      [](void* p, uint32_t) { static_cast<ControlServer*>(p)->accept_all(); }, this);
  IGNORE_ERROR(sys::set_nonblocking(listener_.get(), true), "fails only for a descriptor that is not there");
  auto r = accept_watch_->start(listener_.get(), EPOLLIN);
  if (!r.ok()) LOG(error, "watching the control socket: {}", r.error().name());
  accept_all();
}

void ControlServer::accept_all() {
  for (;;) {
    auto s = sys::from_libc(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!s.ok()) return;
    serve(Fd(static_cast<int>(*s)), false);
  }
}

void ControlServer::serve(Fd socket, bool makers) {
  IGNORE_ERROR(sys::set_nonblocking(socket.get(), true), "fails only for a descriptor that is not there");
  auto c = make_ref<Connection>(*this, std::move(socket));
  c->makers = makers;
  auto r = c->watch.start(c->socket.get(), EPOLLIN | EPOLLRDHUP);
  if (!r.ok()) {
    LOG(error, "watching a control connection: {}", r.error().name());
    return;
  }
  Connection* raw = c.leak();  // read_all() gives it back when the peer is gone
  read_all(*raw);
}

void ControlServer::read_all(Connection& c) {
  if (!c.open) return;
  for (;;) {
    std::vector<std::byte> buf(wire::kMaxRecord);
    std::vector<Fd> fds(wire::kMaxRecordFds);
    auto got = sys::recv_fds(c.socket.get(), buf, fds, MSG_DONTWAIT);
    if (!got.ok() && got.error() == kEAGAIN) return;
    if (!got.ok() || got->size == 0) {
      if (c.makers && !had_container_.load()) _exit(0);  // whoever wanted this sandbox is gone
      if (c.makers) maker_served_.store(true);
      c.open = false;
      c.watch.stop();
      c.unref();  // the reference of serve()
      return;
    }
    buf.resize(got->size);
    fds.resize(got->fd_count);
    auto work = [this, ref = Ref<Connection>(c), b = std::move(buf), f = std::move(fds)]() mutable {
      handle(std::move(ref), std::move(b), std::move(f));
    };
    auto fiber = sched::spawn(std::move(work));
    if (!fiber.ok()) LOG(error, "no fiber for a control request: {}", fiber.error().name());
  }
}

namespace {

Result<std::vector<std::byte>, Failure> wait_for_exit(kernel::ThreadGroup& g) {
  auto r = sched::wait_for(g.exit_queue(), [&] { return g.exit_status().has_value(); }, sched::kNever,
                           sched::Interruptible::no);
  if (!r.ok()) return failure(r.error(), "waiting for the process");
  return body(wire::WaitReply{g.exit_status()->wait_status});
}

Answer signal_processes(Running& run, const wire::SignalRequest& q) {
  if (q.signo < 0 || q.signo > 64) return failure(kEINVAL, base::format("signal {} is not between 1 and 64", q.signo));
  auto info = kernel::SignalInfo::user(q.signo, SI_USER, 0, 0);
  if (q.all) {
    for (auto& g : kernel::groups_of(*run.container))
      if (q.signo) g->send_signal(info);
    return empty();
  }
  auto g = run.find(q.pid);
  if (!g) g = run.container->pids()->find_group(q.pid);
  if (g && &g->container() != run.container.get()) g = nullptr;
  if (!g || g->exit_status()) return failure(kESRCH, base::format("process {} is not running", q.pid));
  if (q.signo) g->send_signal(info);
  return empty();
}

uint64_t unix_ns() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

std::string arguments_of(mm::AddressSpace& space) {
  constexpr size_t kMost = 4096;
  std::string text(space.arg_end > space.arg_start ? std::min<size_t>(space.arg_end - space.arg_start, kMost) : 0, '\0');
  auto n = space.read_remote(space.arg_start, text.data(), text.size());
  text.resize(n.ok() ? *n : 0);
  while (!text.empty() && text.back() == '\0') text.pop_back();
  std::replace(text.begin(), text.end(), '\0', ' ');
  return text;
}

void add_details(wire::ProcessInfo& p, kernel::ThreadGroup& g, const kernel::PidNamespace& ns, size_t& room) {
  auto t = g.leader();
  if (!t) return;
  kernel::TaskFacts f = kernel::task_facts(*t, ns, kernel::FactsOf::process);
  p.state = f.state;
  p.pgrp = f.pgrp;
  p.session = f.session;
  p.nice = f.nice;
  p.gid = f.cred ? f.cred->egid : 0;
  const int64_t age = sched::now() - t->kernel().boot_monotonic_ns() - f.start_ns;
  p.start_unix_ns = unix_ns() - static_cast<uint64_t>(std::max<int64_t>(age, 0));
  p.cpu_ns = f.user_ns + f.system_ns;
  constexpr unsigned kPts = 136;
  if (f.tty) p.tty = major(f.tty) == kPts ? base::format("pts/{}", minor(f.tty)) : "console";
  auto space = t->find_mm();
  if (!space) return;
  for (const mm::Vma& v : space->list()) p.size += v.length();
  p.resident = kernel::residence(*space).total();
  p.arguments = arguments_of(*space);
  if (p.arguments.size() > room) p.arguments.resize(room);
  room -= p.arguments.size();
}

enum class Details { left_out, all };
Answer list_processes(Running& run, Details details) {
  wire::ProcessesReply reply;
  size_t room = wire::kMaxRecord / 2;  // for all arguments together
  auto ns = run.container->pids();
  for (auto& g : kernel::groups_of(*run.container)) {
    wire::ProcessInfo p;
    p.pid = g->pid_in(*ns);
    p.ppid = g->ppid_in(*ns);
    p.threads = static_cast<uint32_t>(g->tasks().size());
    if (auto t = g->leader()) {
      p.command = t->name();
      p.uid = t->credentials()->euid;
    }
    if (details == Details::all) add_details(p, *g, *ns, room);
    reply.list.push_back(std::move(p));
  }
  return body(reply);
}

Answer destroy(Running& run) {
  constexpr sched::Nanos kPatience = 4'000'000'000;
  run.kill();
  if (!run.member) {
    run.container->zygote()->kill_all();
  } else if (!run.wait_for_end(sched::now() + kPatience)) {
    return failure(kETIMEDOUT, "waiting for the container's processes to end");
  }
  return empty();
}

Answer state_of(Running& run) {
  wire::StateReply r;
  auto status = run.init()->exit_status();
  r.status = status ? wire::ContainerStatus::stopped
                    : run.started.load() ? wire::ContainerStatus::running : wire::ContainerStatus::created;
  r.exit_status = status ? status->wait_status : 0;
  return body(r);
}

}  // namespace

// Ends the program with the first container's exit code, once it is over and whoever waits has been told.
void ControlServer::end_with(Running& first) {
  auto all = containers_.with([](auto& m) { return m; });
  for (auto& [id, run] : all)
    if (run.get() != &first) run->kill();
  for (auto& [id, run] : all)
    if (run.get() != &first) run->wait_for_end(sched::now() + 2'000'000'000);
  // A maker that runs in the foreground asks for the exit status after it has started init, which may be gone by then.
  constexpr sched::Nanos kPatience = 10000000000, kStep = 1000000;
  sched::Nanos deadline = sched::now() + kPatience;
  while ((requests_.load() > 0 || !maker_served_.load()) && sched::now() < deadline) sched::park(sched::now() + kStep);
  int status = first.init()->exit_status()->wait_status;
  _exit((status & 0x7f) ? 128 + (status & 0x7f) : (status >> 8) & 0xff);
}

Result<std::vector<std::byte>, Failure> ControlServer::create(const wire::ContainerSpec& spec, std::vector<Fd> fds) {
  if (spec.id.empty() || spec.id.size() > wire::kMaxContainerId) return failure(kEINVAL, "the container's id is too long, or empty");
  if (ending_.load()) return failure(kESRCH, "the sandbox is ending");
  Shared shared;
  shared.volumes = &volumes_;
  bool first = !had_container_.load();
  if (!first) shared.sysctls = sysctls_;
  if (first && spec.member) return failure(kEINVAL, "the first container of a sandbox is no member of it");
  auto join = [&](const std::string& id, auto&& take) {
    if (id.empty()) return true;
    auto other = find(id);
    if (other) take(*other);
    return static_cast<bool>(other);
  };
  if (!join(spec.joins.pid, [&](Running& r) { shared.pids = r.container->pids(); }) ||
      !join(spec.joins.ipc, [&](Running& r) { shared.ipc = r.shared_ipc ? r.shared_ipc.get_ref() : r.container->ipc(); }) ||
      !join(spec.joins.uts, [&](Running& r) { shared.uts = r.container->uts(); })) {
    return failure(kENOENT, "joining the namespace of a container that is not in this sandbox");
  }
  shared.waiting = waiting_;
  containers_.with([&](auto& m) {
    for (auto& [id, run] : m)
      if (!run->member) shared.gofer = run->gofer();
  });
  // The name is taken before anything parks.
  enum class Room { yes, taken, full };
  Room room = containers_.with([&](auto& m) {
    if (m.contains(spec.id) || making_.contains(spec.id)) return Room::taken;
    if (m.size() + making_.size() >= wire::kMaxContainers) return Room::full;
    making_.insert(spec.id);
    return Room::yes;
  });
  if (room == Room::taken) return failure(kEEXIST, "container '" + spec.id + "' exists in this sandbox");
  if (room == Room::full) return failure(kENOSPC, base::format("a sandbox has at most {} containers", wire::kMaxContainers));
  auto run = create_container(kernel_, platform_, spec, shared, std::move(fds));
  containers_.with([&](auto& m) {
    making_.erase(spec.id);
    if (run.ok()) m.emplace(spec.id, *run);
  });
  if (!run.ok()) return run.error();
  if (first) sysctls_ = spec.sysctls;
  bool ends = !had_container_.exchange(true) && exit_with_init_;
  auto fiber = sched::spawn([this, running = *run, ends] {
    running->see_to_its_end();
    if (!ends) return;
    ending_.store(true);
    end_with(*running);
  });
  if (!fiber.ok()) LOG(error, "no fiber to wait for init: {}", fiber.error().name());
  return body(wire::PidReply{(*run)->init()->pid()});
}

RefOrNull<Running> ControlServer::find(const std::string& id) {
  return containers_.with([&](auto& m) -> RefOrNull<Running> {
    auto it = m.find(id);
    if (it == m.end()) return nullptr;
    return it->second;
  });
}

void ControlServer::handle(Ref<Connection> c, std::vector<std::byte> record, std::vector<Fd> fds) {
  struct Counted {
    explicit Counted(std::atomic<int>& n) : n_(n) { n_.fetch_add(1); }
    ~Counted() { n_.fetch_sub(1); }
    std::atomic<int>& n_;
  } counted(requests_);
  wire::Reader in(record);
  wire::RequestHeader h;
  in(h);
  constexpr size_t kHeader = sizeof(uint16_t) + sizeof(uint64_t);
  auto rest = std::span<const std::byte>(record).subspan(record.size() < kHeader ? record.size() : kHeader);
  auto with_id = [&](auto&& f) -> Answer {
    auto q = parse<wire::IdRequest>(rest);
    if (!q.ok()) return q.error();
    auto run = find(q->id);
    if (!run) return failure(kENOENT, "no container '" + q->id + "' in this sandbox");
    return f(*run);
  };
  auto answer = [&]() -> Answer {
    if (in.bad()) return failure(kEBADMSG, "malformed control request");
    switch (h.op) {
      case ControlOp::kCreate: {
        auto spec = parse<wire::ContainerSpec>(rest);
        if (!spec.ok()) return spec.error();
        return create(*spec, std::move(fds));
      }
      case ControlOp::kStart:
        return with_id([&](Running& run) -> Answer {
          if (run.started.exchange(true)) return failure(kEBUSY, "the container was started before");
          kernel_.start_process(*run.init());
          return empty();
        });
      case ControlOp::kExec: {
        auto q = parse<wire::ExecRequest>(rest);
        if (!q.ok()) return q.error();
        auto run = find(q->id);
        if (!run) return failure(kENOENT, "no container '" + q->id + "' in this sandbox");
        auto g = exec_in_container(kernel_, *run, *q, std::move(fds));
        if (!g.ok()) return g.error();
        return body(wire::PidReply{(*g)->pid()});
      }
      case ControlOp::kSignal: {
        auto q = parse<wire::SignalRequest>(rest);
        if (!q.ok()) return q.error();
        auto run = find(q->id);
        if (!run) return failure(kENOENT, "no container '" + q->id + "' in this sandbox");
        return signal_processes(*run, *q);
      }
      case ControlOp::kWait: {
        auto q = parse<wire::WaitRequest>(rest);
        if (!q.ok()) return q.error();
        auto run = find(q->id);
        RefOrNull<kernel::ThreadGroup> g;
        if (run) g = run->find(q->pid);
        if (!g) return failure(kESRCH, base::format("no process {} was started in '{}'", q->pid, q->id));
        auto status = wait_for_exit(*g);
        if (status.ok()) run->told(q->pid);
        return status;
      }
      case ControlOp::kState: return with_id([](Running& run) { return state_of(run); });
      case ControlOp::kProcesses: return with_id([](Running& run) { return list_processes(run, Details::left_out); });
      case ControlOp::kProcessDetails: return with_id([](Running& run) { return list_processes(run, Details::all); });
      case ControlOp::kDestroy:
        return with_id([&](Running& run) -> Answer {
          auto r = destroy(run);
          if (!r.ok()) return r;
          RefOrNull<Running> gone;  // let go outside the lock
          containers_.with([&](auto& m) {
            auto it = m.find(run.container->id());
            if (it == m.end()) return;
            gone = it->second;
            m.erase(it);
          });
          return r;
        });
      case ControlOp::kStats:
        return with_id([&](Running& run) -> Answer {
          wire::StatsReply s;
          for (auto& g : kernel::groups_of(*run.container)) s.pids += g->tasks().size();
          const auto done = platform_.stats();
          s.syscalls = done.calls;
          s.trapped = done.traps;
          const auto sites = patch::Store::instance().counts();
          s.patched_mov = sites.mov;
          s.patched_pun = sites.pun;
          s.unfit = sites.unfit;
          return body(s);
        });
      case ControlOp::kUpdate: {
        auto q = parse<wire::UpdateRequest>(rest);
        if (!q.ok()) return q.error();
        auto run = find(q->id);
        if (!run) return failure(kENOENT, "no container '" + q->id + "' in this sandbox");
        kernel::ContainerLimits l = run->container->limits();
        if (q->memory_limit) l.memory_bytes = q->memory_limit > 0 ? static_cast<uint64_t>(q->memory_limit) : 0;
        if (q->pids_limit) l.pids = q->pids_limit > 0 ? q->pids_limit : 0;
        if (q->cpu_quota_us < 0) l.cpus = 0;
        if (q->cpu_quota_us > 0 && q->cpu_period_us)
          l.cpus = static_cast<double>(q->cpu_quota_us) / static_cast<double>(q->cpu_period_us);
        run->container->set_limits(l);
        return empty();
      }
      case ControlOp::kResize: {
        auto q = parse<wire::ResizeRequest>(rest);
        if (!q.ok()) return q.error();
        auto run = find(q->id);
        RefOrNull<kernel::TtyLink> tty;
        if (run) tty = run->terminal(q->pid);
        if (!tty) return failure(kENOTTY, base::format("process {} of '{}' was not started with a terminal", q->pid, q->id));
        fs::tty::set_host_size(*tty, q->rows, q->cols);
        return empty();
      }
      case ControlOp::kPause:
      case ControlOp::kResume:
        return with_id([&](Running& run) -> Answer {
          if (run.open_root && h.op == ControlOp::kPause) fs::gofer::share(*run.open_root);
          platform::set_paused(*run.container->zygote(), h.op == ControlOp::kPause);
          return empty();
        });
    }
    return failure(kENOSYS, base::format("unknown control request {}", static_cast<int>(h.op)));
  }();

  wire::ReplyHeader rh;
  rh.tag = h.tag;
  if (!answer.ok()) {
    rh.error = answer.error().error.value();
    const Failure& f = answer.error();
    rh.message = f.whole ? f.message : base::format("{}: {}", f.message, f.error.text());
  }
  std::vector<std::byte> out = wire::encode(rh);
  if (answer.ok()) out.insert(out.end(), answer->begin(), answer->end());
  if (out.size() > wire::kMaxRecord) {  // thousands of processes: a reply that could not be sent would be waited for
    rh.error = EOVERFLOW;
    rh.message = "the answer is longer than a record may be";
    out = wire::encode(rh);
  }
  auto sent = sys::send_fds(c->socket.get(), out, {}, MSG_DONTWAIT);
  if (c->makers && h.op == ControlOp::kWait) {  // not the wait for a startContainer hook
    auto q = parse<wire::WaitRequest>(rest);
    if (!q.ok() || q->pid <= 1) maker_served_.store(true);
  }
  if (!sent.ok() && !(sent.error() == kEPIPE)) LOG(warn, "control reply lost: {}", sent.error().name());
}

}  // namespace sentry::boot

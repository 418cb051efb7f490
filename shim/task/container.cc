// SPDX-License-Identifier: Apache-2.0
// From making to removal. What happens while it lives: container_live.cc.
#include "shim/task/container.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "runtime/container/create.h"
#include "runtime/host/proc.h"
#include "runtime/host/terminal.h"
#include "shim/task/logger.h"
#include "shim/task/metrics.h"
#include "shim/task/options.h"

namespace shim::task {

using base::Fd;
using base::ResultX;
using rpc::Code;
namespace wire = base::wire;
namespace rc = runtime::container;

namespace {

constexpr int kCreateMs = 60000, kStartMs = 15000, kRemoveMs = 30000, kReaderMs = 5000;

proto::Timestamp now() {
  timespec t;
  ::clock_gettime(CLOCK_REALTIME, &t);
  proto::Timestamp out;
  out.set_seconds(t.tv_sec);
  out.set_nanos(static_cast<int32_t>(t.tv_nsec));
  return out;
}

// A program for the output, and the reading ends that it gets.
struct Logger {
  std::string uri, space;
  int out = -1, err = -1;
};

// Runs in a worker.
ResultX<Outcome> make_container(rc::CreateOptions options, const std::vector<RootMount>& mounts, const Logger& logger,
                                const std::string& config) {
  runtime::config::apply(TRY(runtime::config::load_config(config)), environment_options(), options);
  TRY(mount_root(options.bundle, mounts));
  if (!logger.uri.empty()) {
    auto started = start_logger(logger.uri, options.id, logger.space, logger.out, logger.err);
    if (!started.ok()) {
      unmount_root(options.bundle);
      return started.error();
    }
  }
  auto made = rc::create_container(options);
  if (!made.ok()) {
    unmount_root(options.bundle);
    return made.error();
  }
  Outcome out;
  auto spec = rc::load_saved_spec(made->directory);
  bool hooks = !spec.ok() || !spec->hooks.start_container.empty() || !spec->hooks.poststart.empty();
  out.data.push_back(hooks ? 'h' : '-');
  auto hand_over = [&](int fd) -> ResultX<void> {
    out.data.push_back(fd >= 0 ? '+' : '-');
    if (fd >= 0) out.fds.push_back(TRY_MSG(base::sys::dup_cloexec(fd), "copy a descriptor"));
    return {};
  };
  TRY(hand_over(made->client.fd()));
  TRY(hand_over(made->sentry_words.get()));
  TRY(hand_over(made->terminal.get()));
  return out;
}

}  // namespace

Container::~Container() {
  host_.loop.unwatch(words_watch_);
  host_.loop.cancel(reap_timer_);
  host_.loop.cancel(init_.open_timer);
  for (auto& [id, p] : execs_) host_.loop.cancel(p->open_timer);
}

void Container::open_streams(Process& p, const StdioPaths& paths, int64_t until_ms, Opened done) {
  bool more = runtime::host::now_ms() < until_ms;
  auto opened = open_more(paths, more ? Readers::needed : Readers::awaited_no_more, p.io);
  if (!more || opened.ok() || !(opened.error().code() == base::kENXIO)) {
    Stdio io = std::exchange(p.io, {});
    if (opened.ok()) return done(std::move(io));
    return done(opened.error());
  }
  p.open_timer = host_.loop.after(2, [this, &p, paths, until_ms, done = std::move(done)] {
    p.open_timer = 0;
    open_streams(p, paths, until_ms, done);
  });
}

Process* Container::find(const std::string& exec_id) {
  if (exec_id.empty()) return &init_;
  auto it = execs_.find(exec_id);
  return it == execs_.end() ? nullptr : it->second.get();
}

void Container::create(const proto::CreateTaskRequest& q, Pending call, std::function<void(bool made)> done) {
  auto fail = [&](const base::Error& e) {
    call->fail(e);
    done(false);
  };
  if (!q.checkpoint().empty() || !q.parent_checkpoint().empty()) {
    return fail(base::error(base::kEOPNOTSUPP, "checkpoints are not supported"));
  }
  init_.paths = {q.stdin(), q.stdout(), q.stderr(), q.terminal()};
  StdioPaths paths = init_.paths;
  std::string logger;
  if (is_logger(paths.out)) {
    if (paths.terminal) return fail(base::error(base::kEOPNOTSUPP, "a terminal's output cannot go to the logger {}", paths.out));
    logger = paths.out;
    paths.out = paths.err = "";
  }
  open_streams(init_, paths, runtime::host::now_ms() + kReaderMs, [this, q, call, logger, done = std::move(done)](ResultX<Stdio> io) {
    if (!io.ok()) {
      call->fail(io.error());
      return done(false);
    }
    init_.io = std::move(io).value();
    make(q, call, logger, done);
  });
}

void Container::make(const proto::CreateTaskRequest& q, Pending call, std::string log_uri, std::function<void(bool made)> done) {
  auto fail = [&](const base::Error& e) {
    call->fail(e);
    done(false);
  };
  Logger logger{log_uri, host_.space};
  Fd log_ends[2];
  if (!logger.uri.empty()) {
    for (int i = 0; i < 2; i++) {
      int p[2];
      if (::pipe2(p, O_CLOEXEC) != 0) return fail(base::wrap(base::sys::from_libc(-1).error(), "make a pipe"));
      log_ends[i].reset(p[0]);
      (i == 0 ? init_.io.out : init_.io.err).reset(p[1]);
      (i == 0 ? logger.out : logger.err) = p[0];
    }
  }
  for (auto& m : q.rootfs()) mounts_.push_back({m.type(), m.source(), m.target(), {m.options().begin(), m.options().end()}});

  rc::CreateOptions o;
  o.root = host_.root;
  o.id = id_;
  o.bundle = bundle_;
  o.foreground = q.terminal();  // the terminal comes to this process
  o.debug = host_.debug;
  std::string config = config_path_of(q.options());
  if (config.empty()) config = host_.config;
  int stdio[3] = {-1, -1, -1};
  if (!q.terminal()) {
    stdio[0] = init_.io.in.get();
    stdio[1] = init_.io.out.get();
    stdio[2] = init_.io.err.get();
  }
  proto::TaskCreate event;
  event.set_container_id(id_);
  event.set_bundle(bundle_);
  *event.mutable_rootfs() = q.rootfs();
  event.mutable_io()->set_stdin(q.stdin());
  event.mutable_io()->set_stdout(q.stdout());
  event.mutable_io()->set_stderr(q.stderr());
  event.mutable_io()->set_terminal(q.terminal());
  host_.workers.run("make the container", kCreateMs, stdio, [o, mounts = mounts_, logger, config] { return make_container(o, mounts, logger, config); },
                    [this, call, event, done = std::move(done)](ResultX<Outcome> made) mutable {
                      if (!made.ok()) {
                        call->fail(made.error());
                        return done(false);
                      }
                      adopt(std::move(made).value());
                      if (!link_) {
                        call->fail(Code::internal, "the container was made, but its state cannot be read");
                        return done(false);
                      }
                      event.set_pid(init_.pid);
                      host_.publisher.publish("/tasks/create", "TaskCreate", event);
                      proto::CreateTaskResponse r;
                      r.set_pid(init_.pid);
                      call->reply(r);
                      done(true);
                    });
}

void Container::adopt(Outcome made) {
  auto root = rc::Root::open(host_.root);
  if (!root.ok()) return;
  root_.emplace(std::move(root).value());
  auto d = rc::Directory::open(*root_, id_);
  if (!d.ok()) return;
  directory_.emplace(std::move(d).value());
  auto s = directory_->load();
  if (!s.ok() || made.data.size() != 4 || made.fds.empty()) return;
  state_ = std::move(s).value();
  hooks_ = made.data[0] == 'h';
  size_t at = 0;
  auto take = [&](size_t which) { return made.data[which] == '+' && at < made.fds.size() ? std::move(made.fds[at++]) : Fd(); };
  Fd client = take(1);
  words_ = take(2);
  Fd master = take(3);
  link_ = std::make_unique<SentryLink>(host_.loop, rc::Client(std::move(client)), [] {});
  init_.pid = host_pid();
  v2_ = uses_v2(state_.cgroup_leaves);
  if (words_.valid()) {
    auto w = host_.loop.watch(words_.get(), EPOLLIN, [this](uint32_t) { hear_words(); });
    if (w.ok()) words_watch_ = *w;
  }
  if (master.valid()) {
    init_.relay = std::make_unique<Relay>(host_.loop, std::move(master), std::move(init_.io));
  }
  // The process has its own now; a writer of ours would keep readers waiting.
  init_.io.in.reset();
  init_.io.out.reset();
  init_.io.err.reset();
  oom_ = std::make_unique<OomWatch>(host_.loop, state_.cgroup_leaves, [this] {
    proto::TaskNamed e;
    e.set_container_id(id_);
    host_.publisher.publish("/tasks/oom", "TaskOOM", e);
  });
  await(init_);
}

void Container::await(Process& p) {
  link_->ask(wire::ControlOp::kWait, wire::WaitRequest{id_, p.inside}, -1, [this, &p](ResultX<SentryLink::Reply> r) {
    auto reply = SentryLink::decode<wire::WaitReply>(std::move(r));
    if (reply.ok()) return ended(p, reply->status);
    if (&p == &init_ && reply.error().code() == base::kEPIPE) return sandbox_gone();
    LOG(debug, "waiting for {} {}: {}", id_, p.exec_id, reply.error().text());
    ended(p, SIGKILL);
  });
}

// The sandbox ended without a word about its init: its own end says as much, if it came to one.
void Container::sandbox_gone() {
  if (sentry_status_) return ended(init_, WIFEXITED(*sentry_status_) ? *sentry_status_ : SIGKILL);
  reaping_ = true;
  reap_timer_ = host_.loop.after(500, [this] {
    reap_timer_ = 0;
    reaping_ = false;
    ended(init_, SIGKILL);
  });
}

void Container::reaped(int pid, int status) {
  if (!ready() || pid != state_.sentry.pid) return;
  sentry_status_ = status;
  if (!reaping_) return;
  reaping_ = false;
  host_.loop.cancel(std::exchange(reap_timer_, 0));
  sandbox_gone();
}

void Container::ended(Process& p, int wait_status) {
  if (p.stage == Stage::stopped) return;
  if (p.starting) {  // first the word of the start
    p.early = wait_status;
    return;
  }
  p.stage = Stage::stopped;
  p.exit_status = static_cast<uint32_t>(WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
  p.exited_at = now();
  if (p.relay) p.relay->finish();
  p.io = Stdio();
  if (&p == &init_) {
    paused_ = false;
    if (oom_) oom_->look();
  }
  LOG(debug, "{} {} ended with {}", id_, p.exec_id, p.exit_status);
  proto::TaskExit e;
  e.set_container_id(id_);
  e.set_id(p.exec_id.empty() ? id_ : p.exec_id);
  e.set_pid(p.pid);
  e.set_exit_status(p.exit_status);
  *e.mutable_exited_at() = p.exited_at;
  host_.publisher.publish("/tasks/exit", "TaskExit", e);
  auto waiters = std::move(p.waiters);
  p.waiters.clear();
  for (auto& w : waiters) wait(p, std::move(w));
}

void Container::wait(Process& p, rpc::Call call) {
  if (p.stage != Stage::stopped) {
    // Those whose clients have gone do not pile up.
    std::erase_if(p.waiters, [](const rpc::Call& c) { return !c.awaited(); });
    p.waiters.push_back(std::move(call));
    return;
  }
  proto::WaitResponse r;
  r.set_exit_status(p.exit_status);
  *r.mutable_exited_at() = p.exited_at;
  call.reply(r);
}

void Container::start(Process& p, Pending call) {
  if (p.stage != Stage::created || p.starting) {
    return call->fail(Code::failed_precondition, base::format("{} {} has been started already", id_, p.exec_id));
  }
  if (&p != &init_) return start_exec(p, call);
  p.starting = true;
  auto done = [this, call](const base::Error* failure) {
    init_.starting = false;
    if (failure) {
      call->fail(rpc::status_of(*failure));
    } else {
      started(init_, call);
    }
    if (init_.early) ended(init_, *init_.early);
  };
  if (hooks_) {
    const int none[3] = {-1, -1, -1};
    host_.workers.run("start the container", kStartMs * 20, none,
                      [root = host_.root, id = id_]() -> ResultX<Outcome> {
                        auto r = TRY(rc::Root::open(root));
                        auto d = TRY(rc::Directory::open(r, id));
                        TRY(d.lock(4000));
                        auto s = TRY(d.load());
                        TRY(rc::start_container(d, s));
                        return Outcome{};
                      },
                      [done](ResultX<Outcome> r) { done(r.ok() ? nullptr : &r.error()); });
    return;
  }
  link_->ask(wire::ControlOp::kStart, wire::IdRequest{id_}, kStartMs, [this, done](ResultX<SentryLink::Reply> r) {
    if (!r.ok()) return done(&r.error());
    state_.phase = rc::Phase::started;
    auto saved = directory_->save(state_);
    if (!saved.ok()) LOG(warn, "{}", saved.error().text());
    done(nullptr);
  });
}

void Container::started(Process& p, const Pending& call) {
  p.stage = Stage::running;
  if (&p == &init_) {
    proto::TaskStart e;
    e.set_container_id(id_);
    e.set_pid(p.pid);
    host_.publisher.publish("/tasks/start", "TaskStart", e);
  } else {
    proto::TaskExecStarted e;
    e.set_container_id(id_);
    e.set_exec_id(p.exec_id);
    e.set_pid(p.pid);
    host_.publisher.publish("/tasks/exec-started", "TaskExecStarted", e);
  }
  proto::StartResponse r;
  r.set_pid(p.pid);
  call->reply(r);
}

void Container::remove(Pending call, std::function<void()> gone) {
  if (init_.stage == Stage::running || init_.starting) {
    return call->fail(Code::failed_precondition, base::format("container {} is running: it must be stopped first", id_));
  }
  if (!begin_change(call)) return;
  const int none[3] = {-1, -1, -1};
  host_.workers.run("remove the container", kRemoveMs, none,
                    [root = host_.root, id = id_, bundle = bundle_]() -> ResultX<Outcome> {
                      auto r = TRY(rc::Root::open(root));
                      TRY(rc::delete_container(r, id, true));
                      unmount_root(bundle);
                      return Outcome{};
                    },
                    [this, call, gone = std::move(gone)](ResultX<Outcome> r) {
                      changing_ = false;
                      if (!r.ok()) return call->fail(r.error());
                      if (init_.stage == Stage::created) {  // never started: nothing else tells of its end
                        ended(init_, SIGKILL);
                      }
                      proto::DeleteResponse d;
                      d.set_pid(init_.pid);
                      d.set_exit_status(init_.exit_status);
                      *d.mutable_exited_at() = init_.exited_at;
                      proto::TaskDelete e;
                      e.set_container_id(id_);
                      e.set_pid(init_.pid);
                      e.set_exit_status(init_.exit_status);
                      *e.mutable_exited_at() = init_.exited_at;
                      host_.publisher.publish("/tasks/delete", "TaskDelete", e);
                      call->reply(d);
                      host_.loop.post(gone);  // ends this object
                    });
}

bool Container::begin_change(const Pending& call) {
  if (changing_) {
    call->fail(Code::failed_precondition, base::format("container {} is being changed by another call", id_));
    return false;
  }
  changing_ = true;
  return true;
}

}  // namespace shim::task

// SPDX-License-Identifier: Apache-2.0
// What is asked of a container while it lives: execs, signals, sizes, limits, figures.
#include <fcntl.h>
#include <signal.h>

#include "base/log.h"
#include "base/sys.h"
#include "base/words.h"
#include "runtime/container/create.h"
#include "runtime/container/plan.h"
#include "runtime/host/terminal.h"
#include "shim/task/container.h"
#include "shim/task/metrics.h"

namespace shim::task {

using base::Fd;
using base::ResultX;
using rpc::Code;
namespace wire = base::wire;
namespace rc = runtime::container;
namespace host = runtime::host;

namespace {

constexpr int kAskMs = 3000, kExecMs = 15000, kChangeMs = 15000, kReaderMs = 5000;
constexpr const char* kFinished = "process already finished: not found";

}  // namespace

size_t Container::running() const {
  size_t n = init_.stage == Stage::stopped ? 0 : 1;
  for (auto& [id, p] : execs_) n += p->stage == Stage::running ? 1 : 0;
  return n;
}

void Container::describe(const Process& p, proto::StateResponse* out) const {
  out->set_id(id_);
  out->set_bundle(bundle_);
  out->set_exec_id(p.exec_id);
  out->set_pid(p.pid);
  out->set_stdin(p.paths.in);
  out->set_stdout(p.paths.out);
  out->set_stderr(p.paths.err);
  out->set_terminal(p.paths.terminal);
  switch (p.stage) {
    case Stage::created: out->set_status(proto::CREATED); break;
    case Stage::running: out->set_status(paused_ ? proto::PAUSED : proto::RUNNING); break;
    case Stage::stopped:
      out->set_status(proto::STOPPED);
      out->set_exit_status(p.exit_status);
      *out->mutable_exited_at() = p.exited_at;
      break;
  }
}

void Container::exec(const proto::ExecProcessRequest& q, Pending call) {
  if (q.exec_id().empty()) return call->fail(Code::invalid_argument, "the exec has no id");
  if (execs_.count(q.exec_id())) {
    return call->fail(Code::already_exists, base::format("exec {} exists already", q.exec_id()));
  }
  if (init_.stage == Stage::stopped) {
    return call->fail(Code::failed_precondition, base::format("container {} is stopped: nothing can be run in it", id_));
  }
  std::vector<std::string> warnings;
  auto spec = runtime::oci::parse_process(q.spec().value(), &warnings);
  if (!spec.ok()) return call->fail(Code::invalid_argument, spec.error().text());
  for (auto& w : warnings) LOG(warn, "{}", w);
  auto p = std::make_unique<Process>();
  p->exec_id = q.exec_id();
  p->paths = {q.stdin(), q.stdout(), q.stderr(), q.terminal()};
  p->spec = std::move(spec).value();
  p->spec.terminal = q.terminal();
  execs_[q.exec_id()] = std::move(p);
  proto::TaskExecAdded e;
  e.set_container_id(id_);
  e.set_exec_id(q.exec_id());
  host_.publisher.publish("/tasks/exec-added", "TaskExecAdded", e);
  call->reply();
}

void Container::start_exec(Process& p, const Pending& call) {
  if (init_.stage == Stage::stopped || paused_) {
    return call->fail(Code::failed_precondition, base::format("container {} is {}: nothing can be run in it", id_, paused_ ? "paused" : "stopped"));
  }
  p.starting = true;
  open_streams(p, p.paths, host::now_ms() + kReaderMs, [this, &p, call](ResultX<Stdio> io) {
    p.starting = false;
    if (!io.ok()) return call->fail(io.error());
    p.io = std::move(io).value();
    run_exec(p, call);
  });
}

void Container::run_exec(Process& p, const Pending& call) {
  auto null = base::sys::open("/dev/null", O_RDWR);
  if (!null.ok()) return call->fail(base::wrap(null.error(), "open /dev/null"));
  wire::ExecRequest q;
  q.id = id_;
  q.process = p.spec;
  host::Terminal terminal;
  int fds[3] = {null->get(), null->get(), null->get()};
  if (p.paths.terminal) {
    auto t = host::open_terminal();
    if (!t.ok()) return call->fail(t.error());
    terminal = std::move(t).value();
    if (p.rows) {
      q.process.rows = p.rows;
      q.process.cols = p.cols;
    }
    if (q.process.rows) {
      IGNORE_ERROR(host::set_terminal_size(terminal.master.get(), {q.process.rows, q.process.cols}), "a size is a courtesy");
    }
    for (int& fd : fds) fd = terminal.slave.get();
    p.relay = std::make_unique<Relay>(host_.loop, std::move(terminal.master), std::move(p.io));
  } else {
    if (p.io.in.valid()) fds[0] = p.io.in.get();
    if (p.io.out.valid()) fds[1] = p.io.out.get();
    if (p.io.err.valid()) fds[2] = p.io.err.get();
  }
  p.starting = true;
  link_->ask(wire::ControlOp::kExec, q, kExecMs, [this, &p, call, rows = p.rows, cols = p.cols](ResultX<SentryLink::Reply> r) {
    p.starting = false;
    auto reply = SentryLink::decode<wire::PidReply>(std::move(r));
    if (!reply.ok()) {
      p.relay.reset();
      p.io = Stdio();
      return call->fail(rpc::status_of(reply.error()));
    }
    p.inside = reply->pid;
    p.pid = static_cast<uint32_t>(reply->pid);
    p.spec = {};
    await(p);
    if (p.rows && (p.rows != rows || p.cols != cols)) {  // it came while the program was being started
      link_->ask(wire::ControlOp::kResize, wire::ResizeRequest{id_, p.inside, p.rows, p.cols}, kAskMs, [](ResultX<SentryLink::Reply>) {});
    }
    started(p, call);
  }, fds);
  // On their way; a writer of ours would keep readers waiting.
  p.io.in.reset();
  p.io.out.reset();
  p.io.err.reset();
}

void Container::remove_exec(Process& p, Pending call) {
  if (p.stage == Stage::running || p.starting) {
    return call->fail(Code::failed_precondition, base::format("exec {} is running: it must be stopped first", p.exec_id));
  }
  proto::DeleteResponse r;
  r.set_pid(p.pid);
  r.set_exit_status(p.exit_status);
  if (p.stage == Stage::stopped) *r.mutable_exited_at() = p.exited_at;
  call->reply(r);
  // What its terminal still holds is carried to the end.
  if (p.relay) lingering_.push_back(std::move(p.relay));
  execs_.erase(p.exec_id);
  std::erase_if(lingering_, [](const std::unique_ptr<Relay>& relay) { return relay->master() < 0; });
}

void Container::fail_not_running(const Process& p, const Pending& call) const {
  if (p.stage == Stage::stopped) return call->fail(Code::not_found, kFinished);
  call->fail(Code::failed_precondition, base::format("{} {} has not been started", id_, p.exec_id));
}

void Container::kill(Process& p, int signo, bool all, Pending call) {
  if (p.stage == Stage::stopped) {
    return all ? call->reply() : call->fail(Code::not_found, kFinished);
  }
  if (&p != &init_ && p.stage != Stage::running) return fail_not_running(p, call);
  if (signo < 1 || signo > 64) return call->fail(Code::invalid_argument, base::format("signal {} is not between 1 and 64", signo));
  if (paused_ && signo == SIGKILL) {  // nothing frozen can die
    if (!begin_change(call)) return;
    const int none[3] = {-1, -1, -1};
    host_.workers.run("thaw the container", kChangeMs, none,
                      [s = state_, root = host_.root]() -> ResultX<Outcome> {
                        auto r = TRY(rc::Root::open(root));
                        auto d = TRY(rc::Directory::open(r, s.id));
                        TRY(rc::freeze_container(d, s, false));
                        return Outcome{};
                      },
                      [this, exec_id = p.exec_id, signo, all, call](ResultX<Outcome> r) {
                        changing_ = false;
                        if (!r.ok()) return call->fail(r.error());
                        paused_ = false;
                        Process* again = find(exec_id);
                        if (!again) return call->fail(Code::not_found, kFinished);
                        kill(*again, signo, all, call);
                      });
    return;
  }
  wire::SignalRequest q{id_, p.inside, signo, all};
  if (paused_) {  // it is delivered when the container goes on
    link_->ask(wire::ControlOp::kSignal, q, -1, [](ResultX<SentryLink::Reply>) {});
    return call->reply();
  }
  link_->ask(wire::ControlOp::kSignal, q, kAskMs, [this, signo, call](ResultX<SentryLink::Reply> r) {
    if (r.ok()) return call->reply();
    int e = r.error().code().value();
    if (e == ESRCH || e == EPIPE) return call->fail(Code::not_found, kFinished);
    if (signo == SIGKILL && e == ETIMEDOUT && host::alive(state_.sentry)) {
      // A sandbox that does not answer can still be killed itself.
      LOG(warn, "the sandbox of {} does not answer: it is killed", id_);
      ::kill(state_.sentry.pid, SIGKILL);
      return call->reply();
    }
    call->fail(r.error());
  });
}

void Container::pids(Pending call) {
  if (init_.stage == Stage::stopped) {
    proto::PidsResponse none;
    return call->reply(none);
  }
  link_->ask(wire::ControlOp::kProcesses, wire::IdRequest{id_}, kAskMs, [this, call](ResultX<SentryLink::Reply> r) {
    auto list = SentryLink::decode<wire::ProcessesReply>(std::move(r));
    if (!list.ok()) return call->fail(list.error());
    proto::PidsResponse out;
    for (auto& one : list->list) {
      auto* to = out.add_processes();
      to->set_pid(static_cast<uint32_t>(one.pid));
      for (auto& [exec_id, p] : execs_) {
        if (p->stage != Stage::running || p->inside != one.pid) continue;
        proto::ProcessDetails d;
        d.set_exec_id(exec_id);
        to->mutable_info()->set_type_url("containerd.runc.v1.ProcessDetails");  // the name that clients know
        to->mutable_info()->set_value(d.SerializeAsString());
      }
    }
    call->reply(out);
  });
}

void Container::freeze(bool on, Pending call) {
  if (init_.stage != Stage::running) return fail_not_running(init_, call);
  if (on == paused_) {
    return call->fail(Code::failed_precondition, base::format("container {} is {}paused", id_, on ? "already " : "not "));
  }
  if (!begin_change(call)) return;
  const int none[3] = {-1, -1, -1};
  host_.workers.run(on ? "pause the container" : "resume the container", kChangeMs, none,
                    [root = host_.root, s = state_, on]() -> ResultX<Outcome> {
                      auto r = TRY(rc::Root::open(root));
                      auto d = TRY(rc::Directory::open(r, s.id));
                      TRY(rc::freeze_container(d, s, on));
                      return Outcome{};
                    },
                    [this, on, call](ResultX<Outcome> r) {
                      changing_ = false;
                      if (!r.ok()) return call->fail(r.error());
                      if (init_.stage == Stage::running) paused_ = on;
                      proto::TaskNamed e;
                      e.set_container_id(id_);
                      host_.publisher.publish(on ? "/tasks/paused" : "/tasks/resumed", on ? "TaskPaused" : "TaskResumed", e);
                      call->reply();
                    });
}

void Container::resize(Process& p, uint32_t rows, uint32_t cols, Pending call) {
  if (!p.paths.terminal) return call->fail(Code::failed_precondition, base::format("{} {} has no terminal", id_, p.exec_id));
  if (rows > UINT16_MAX || cols > UINT16_MAX) return call->fail(Code::invalid_argument, "a terminal has at most 65535 rows and columns");
  p.rows = static_cast<uint16_t>(rows);
  p.cols = static_cast<uint16_t>(cols);
  if (p.relay && p.relay->master() >= 0) {
    IGNORE_ERROR(host::set_terminal_size(p.relay->master(), {p.rows, p.cols}), "a size is a courtesy");
    // Answered when it is so: what the program does next sees it.
    if (p.stage != Stage::stopped && !p.starting && !paused_) {
      return link_->ask(wire::ControlOp::kResize, wire::ResizeRequest{id_, p.inside, p.rows, p.cols}, kAskMs,
                        [call](ResultX<SentryLink::Reply>) { call->reply(); });
    }
  }
  call->reply();
}

void Container::close_stdin(Process& p) {
  if (p.relay) p.relay->close_in();
  p.io.hold_in.reset();
}

void Container::update(const std::string& resources, Pending call) {
  auto parsed = runtime::oci::parse_resources(resources);
  if (!parsed.ok()) return call->fail(Code::invalid_argument, parsed.error().text());
  if (init_.stage == Stage::stopped) return fail_not_running(init_, call);
  if (!begin_change(call)) return;
  auto& r = *parsed;
  wire::UpdateRequest q;
  q.id = id_;
  q.memory_limit = r.memory_limit.value_or(0);
  q.cpu_quota_us = r.cpu_quota.value_or(0);
  q.cpu_period_us = r.cpu_period.value_or(q.cpu_quota_us ? 100000 : 0);
  q.pids_limit = r.pids_limit.value_or(0);
  q.cpuset = r.cpus;
  // Taking memory away from a group may take the kernel a while.
  const int none[3] = {-1, -1, -1};
  host_.workers.run("change the limits", kChangeMs, none,
                    [leaves = state_.cgroup_leaves, limits = rc::host_limits(r)]() -> ResultX<Outcome> {
                      TRY(host::Cgroups::apply(leaves, host::find_hierarchies(), limits));
                      return Outcome{};
                    },
                    [this, q, call](ResultX<Outcome> applied) {
                      changing_ = false;
                      if (!applied.ok()) return call->fail(applied.error());
                      link_->ask(wire::ControlOp::kUpdate, q, paused_ ? -1 : kAskMs, [paused = paused_, call](ResultX<SentryLink::Reply> reply) {
                        if (paused) return;
                        reply.ok() ? call->reply() : call->fail(reply.error());
                      });
                      if (paused_) call->reply();
                    });
}

void Container::stats(Pending call) {
  if (init_.stage == Stage::stopped) return fail_not_running(init_, call);
  auto answer = [this, call](const wire::StatsReply* inside) {
    if (!figures_) figures_.emplace(state_.cgroup_leaves);
    auto s = figures_->read();
    // The host's group also holds the sandbox's own threads.
    if (inside) s.pids = inside->pids;
    if (s.pids_limit && s.pids_limit != UINT64_MAX && s.pids_limit > static_cast<uint64_t>(rc::kOwnPids)) {
      s.pids_limit -= static_cast<uint64_t>(rc::kOwnPids);
    }
    proto::StatsResponse r;
    *r.mutable_stats() = encode_metrics(s, v2_);
    call->reply(r);
  };
  if (paused_) return answer(nullptr);
  link_->ask(wire::ControlOp::kStats, wire::IdRequest{id_}, 1000, [answer](ResultX<SentryLink::Reply> r) {
    auto inside = SentryLink::decode<wire::StatsReply>(std::move(r));
    answer(inside.ok() ? &*inside : nullptr);
  });
}

// What the sandbox's programs write to standard error, for the log: whole lines, printable, not too long.
void Container::hear_words() {
  char buf[4096];
  auto n = base::sys::read(words_.get(), buf, sizeof buf);
  if (!n.ok() && n.error() == base::kEAGAIN) return;
  if (!n.ok() || *n == 0) {
    host_.loop.unwatch(std::exchange(words_watch_, 0));
    words_.reset();
    return;
  }
  for (size_t i = 0; i < *n; i++) {
    char c = buf[i];
    if (c != '\n' && line_.size() < 1000) {
      line_ += c;
    } else if (!line_.empty()) {
      LOG(info, "sandbox of {}: {}", id_, base::without_controls(line_));
      line_.clear();
    }
  }
}

}  // namespace shim::task

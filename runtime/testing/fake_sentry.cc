// SPDX-License-Identifier: Apache-2.0
// Stand-in for caisson-sentry: speaks the control protocol, and plays "programs" that test the runtime:
//   report            prints what sentry, gofer and zygote see, the container's spec and the boot message; exits 0
//   exit N            exits with N
//   sleep             runs until a signal ends it (exit by that signal); prints "paused" and "resumed" when that is told
//   escape            the same, and ps gets words for it that a terminal would obey
//   trap              counts: SIGUSR1 prints "usr1"; others end it
//   echo WORD…        prints the words
//   cat               copies standard input to standard output, then exits
//   crash             the sentry itself ends, with words on standard error
//   hang              the sentry itself stops answering
// create fails with "refuse" as first argument.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "base/sys.h"
#include "base/wire/control.h"
#include "runtime/testing/world.h"

namespace {

using base::Fd;
namespace wire = base::wire;
namespace sys = base::sys;

struct Waiter {
  int connection;
  uint64_t tag;
};

struct Process {
  wire::Process spec;
  std::vector<Fd> stdio;
  std::optional<int> status;
  std::vector<Waiter> waiters;
  bool started = false;
};

struct Sandbox {
  wire::Boot boot;
  std::optional<wire::ContainerSpec> spec;
  std::string world, boot_fds;
  Fd gofer, zygote;
  std::map<int, Process> processes;  // 1 = init
  std::vector<Fd> connections;
  bool end_told = false, maker_gone = false;
};

void reply(int connection, uint64_t tag, const std::vector<std::byte>& body, int error = 0, const char* words = "") {
  wire::ReplyHeader h{tag, error, words};
  auto out = wire::encode(h);
  if (!error) out.insert(out.end(), body.begin(), body.end());
  IGNORE_ERROR(sys::send_fds(connection, out, {}, 0), "the client has gone");
}

void print(Process& p, const std::string& text) {
  IGNORE_ERROR(sys::write_all(p.stdio[1].get(), text.data(), text.size()), "nobody reads");
}

void finish(Process& p, int status) {
  p.status = status;
  p.stdio.clear();
  for (auto& w : p.waiters) reply(w.connection, w.tag, wire::encode(wire::WaitReply{status}));
  p.waiters.clear();
}

std::string receive_text(int fd) {
  char buf[16384];
  pollfd p{fd, POLLIN, 0};
  if (::poll(&p, 1, 2000) <= 0) return "nothing came\n";
  ssize_t n = ::recv(fd, buf, sizeof buf, 0);
  return n > 0 ? std::string(buf, static_cast<size_t>(n)) : "closed\n";
}

std::string prefixed(const std::string& text, const std::string& with) {
  std::string out, line;
  for (char c : text) {
    line += c;
    if (c == '\n') out += with + line, line.clear();
  }
  return out;
}

void report(Sandbox& s, Process& p) {
  std::string out = prefixed(s.world, "sentry.") + s.boot_fds;
  out += prefixed(receive_text(s.gofer.get()), "gofer.") + prefixed(receive_text(s.zygote.get()), "zygote.");
  auto& c = *s.spec;
  out += "boot.id=" + s.boot.sandbox_id + "\nboot.cpus=" + std::to_string(s.boot.cpus) +
         "\nboot.may_spin=" + std::to_string(s.boot.may_spin) + "\nboot.strace=" + std::to_string(s.boot.strace) +
         "\nboot.strict=" + std::to_string(s.boot.memory_mode == wire::MemoryMode::strict) + "\n";
  out += "spec.id=" + c.id + "\nspec.hostname=" + c.hostname + "\nspec.readonly=" + std::to_string(c.root_readonly) +
         "\nspec.memory=" + std::to_string(c.memory_limit) + "\nspec.pids=" + std::to_string(c.pids_limit) + "\n";
  for (auto& m : c.mounts) {
    out += "mount." + m.destination + "=" + m.type + " " + std::to_string(m.attach) + " " + std::to_string(m.flags) + " " + m.data + "\n";
  }
  out += "process.cwd=" + p.spec.cwd + "\nprocess.uid=" + std::to_string(p.spec.uid) + "\n";
  for (auto& e : p.spec.env) out += "env." + e + "\n";
  out += "process.fds=" + std::to_string(p.stdio.size()) + "\n";
  winsize w{};
  if (p.spec.terminal && ::ioctl(p.stdio[0].get(), TIOCGWINSZ, &w) == 0) {
    out += "terminal=" + std::to_string(w.ws_row) + "x" + std::to_string(w.ws_col) + "\n";
  }
  print(p, out);
}

void begin(Sandbox& s, Process& p) {
  auto& a = p.spec.args;
  p.started = true;
  if (a[0] == "report") {
    report(s, p);
    finish(p, 0);
  } else if (a[0] == "exit") {
    finish(p, atoi(a[1].c_str()) << 8);
  } else if (a[0] == "echo") {
    std::string line;
    for (size_t i = 1; i < a.size(); i++) line += (i > 1 ? " " : "") + a[i];
    print(p, line + "\n");
    finish(p, 0);
  } else if (a[0] == "cat") {
    auto text = sys::read_all(p.stdio[0].get(), 1 << 20);
    if (text.ok()) print(p, *text);
    finish(p, 0);
  } else if (a[0] == "crash") {
    const char words[] = "something\nthe sentry crashed on purpose\n";
    IGNORE_ERROR(sys::write_all(2, words, sizeof words - 1), "nobody reads");
    ::_exit(9);
  } else if (a[0] == "hang") {
    ::raise(SIGSTOP);
  }
}

std::vector<Fd> take(std::vector<Fd>& fds, size_t from) {
  std::vector<Fd> out;
  for (size_t i = from; i < fds.size(); i++) out.push_back(std::move(fds[i]));
  return out;
}

void signal_process(Process& p, int signo) {
  if (p.status || signo == 0) return;
  if (p.spec.args[0] == "trap" && signo == SIGUSR1) print(p, "usr1\n");
  else finish(p, signo);
}

void handle(Sandbox& s, int connection, std::span<const std::byte> record, std::vector<Fd> fds) {
  wire::Reader in(record);
  wire::RequestHeader h;
  in(h);
  auto rest = record.subspan(std::min(record.size(), wire::encode(h).size()));
  auto fail = [&](int e, const char* words) { reply(connection, h.tag, {}, e, words); };
  auto answer = [&](auto&& v) { reply(connection, h.tag, wire::encode(v)); };
  auto done = [&] { reply(connection, h.tag, {}); };
  using Op = wire::ControlOp;
  if (h.op == Op::kCreate) {
    auto c = wire::decode<wire::ContainerSpec>(rest);
    if (!c.ok()) return fail(EBADMSG, "bad spec");
    if (c->process.args[0] == "refuse") return fail(ENOENT, "exec: \"refuse\": not found in $PATH");
    if (fds.size() != 5u + c->preserve_fds) return fail(EINVAL, "wrong number of descriptors");
    s.spec = std::move(c).value();
    s.gofer = std::move(fds[0]);
    s.zygote = std::move(fds[1]);
    s.processes[1] = Process{s.spec->process, take(fds, 2), {}, {}, false};
    return answer(wire::PidReply{1});
  }
  if (!s.spec) return fail(ENOENT, "no container");
  if (h.op == Op::kStart) {
    auto& p = s.processes[1];
    if (p.spec.args[0] == "fail-start") return fail(EACCES, "exec: permission denied");
    done();
    return begin(s, p);
  }
  if (h.op == Op::kExec) {
    auto q = wire::decode<wire::ExecRequest>(rest);
    if (!q.ok()) return fail(EBADMSG, "bad request");
    if (q->process.args[0] == "refuse") return fail(ENOENT, "exec: \"refuse\": not found in $PATH");
    int pid = s.processes.rbegin()->first + 1;
    s.processes[pid] = Process{q->process, std::move(fds), {}, {}, false};
    answer(wire::PidReply{pid});
    return begin(s, s.processes[pid]);
  }
  if (h.op == Op::kWait) {
    auto q = wire::decode<wire::WaitRequest>(rest);
    auto it = s.processes.find(q.ok() && q->pid ? q->pid : 1);
    if (!q.ok() || it == s.processes.end()) return fail(ESRCH, "no such process");
    s.end_told |= it->first == 1;  // now, or when it ends
    if (it->second.status) return answer(wire::WaitReply{*it->second.status});
    it->second.waiters.push_back({connection, h.tag});
    return;
  }
  if (h.op == Op::kSignal) {
    auto q = wire::decode<wire::SignalRequest>(rest);
    auto it = s.processes.find(q.ok() && q->pid ? q->pid : 1);
    if (!q.ok() || it == s.processes.end()) return fail(ESRCH, "no such process");
    if (!q->all && it->second.status) return fail(ESRCH, "process has ended");
    if (q->all) {
      for (auto& [pid, p] : s.processes) signal_process(p, q->signo);
    } else {
      signal_process(it->second, q->signo);
    }
    return done();
  }
  if (h.op == Op::kState) {
    auto& p = s.processes[1];
    wire::StateReply r;
    r.status = p.status ? wire::ContainerStatus::stopped
                        : p.started ? wire::ContainerStatus::running : wire::ContainerStatus::created;
    return answer(r);
  }
  if (h.op == Op::kProcesses || h.op == Op::kProcessDetails) {
    wire::ProcessesReply r;
    for (auto& [pid, p] : s.processes) {
      if (p.status) continue;
      r.list.emplace_back();
      r.list.back().pid = pid;
      r.list.back().uid = p.spec.uid;
      r.list.back().threads = 1;
      r.list.back().command = p.spec.args[0];
      if (p.spec.args[0] == "escape") r.list.back().state = r.list.back().tty = "S\x1b[31m\n";
    }
    return answer(r);
  }
  if (h.op == Op::kDestroy) {
    for (auto& [pid, p] : s.processes) {
      if (!p.status) finish(p, SIGKILL);
    }
    return done();
  }
  if (h.op == Op::kPause || h.op == Op::kResume) {
    auto& p = s.processes[1];
    if (!p.status && p.spec.args[0] == "sleep") print(p, h.op == Op::kPause ? "paused\n" : "resumed\n");
    return done();
  }
  if (h.op == Op::kResize || h.op == Op::kUpdate) return done();
  fail(ENOSYS, "unknown request");
}

}  // namespace

int main(int argc, char** argv) {
  Sandbox s;
  s.world = describe_world(argc, argv);
  int control = atoi(argv[1]);
  std::vector<std::byte> buf(wire::kMaxRecord);
  std::vector<Fd> fds(wire::kMaxRecordFds);
  auto first = sys::recv_fds(control, buf, fds);
  if (!first.ok() || first->size == 0) return 2;
  auto boot = wire::decode<wire::Boot>(std::span(buf).first(first->size));
  if (!boot.ok()) return 3;
  s.boot = std::move(boot).value();
  Fd listener = std::move(fds[0]);
  size_t expect = 1u + s.boot.has_log + s.boot.has_threads_file;
  s.boot_fds = "boot.fds=" + std::to_string(first->fd_count) + "/" + std::to_string(expect) + "\n";
  if (s.boot.has_threads_file) {
    auto text = sys::read_all(fds[expect - 1].get(), 65536);
    s.boot_fds += "boot.threads=" + std::string(text.ok() && text->find("1\n") != std::string::npos ? "has me" : "wrong") + "\n";
  }
  s.connections.emplace_back(control);
  for (;;) {
    // As the real one: it ends with the program, once whoever made it was told so or has gone.
    if (s.boot.exit_with_init && s.spec && s.processes[1].status && (s.end_told || s.maker_gone)) return 0;
    std::vector<pollfd> p{{listener.get(), POLLIN, 0}};
    for (auto& c : s.connections) p.push_back({c.get(), POLLIN, 0});
    if (::poll(p.data(), p.size(), -1) < 0) continue;
    for (size_t i = 1; i < p.size(); i++) {
      if (!p[i].revents) continue;
      int fd = p[i].fd;
      std::vector<Fd> got_fds(wire::kMaxRecordFds);
      auto got = sys::recv_fds(fd, buf, got_fds, MSG_DONTWAIT);
      if (got.ok() && got->size) {
        got_fds.resize(got->fd_count);
        handle(s, fd, std::span(buf).first(got->size), std::move(got_fds));
        continue;
      }
      for (auto& [pid, process] : s.processes) {
        std::erase_if(process.waiters, [&](const Waiter& w) { return w.connection == fd; });
      }
      s.maker_gone |= fd == control;  // the first of this number is closed first
      std::erase_if(s.connections, [&](const Fd& c) { return c.get() == fd; });
      if (s.connections.empty() && !s.spec) return 0;  // whoever made this gave up
      break;
    }
    if (p[0].revents) {
      int c = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (c >= 0) s.connections.emplace_back(c);
    }
  }
}

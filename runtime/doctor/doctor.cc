// SPDX-License-Identifier: Apache-2.0
// The configuration, containerd, a trial, and how it is told.
#include "runtime/doctor/doctor.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"
#include "runtime/install/install.h"

namespace runtime::doctor {

using base::Fd;
namespace sys = base::sys;

namespace {

const char* word(Status s) { return s == Status::ok ? "ok" : s == Status::warn ? "warn" : "fail"; }

struct Output {
  int status = -1;
  std::string text;  // standard output and error
};

// Runs a program to its end with nothing on standard input.
Output run(const std::vector<std::string>& words) {
  Output out;
  int p[2];
  if (::pipe2(p, O_CLOEXEC) != 0) return out;
  Fd in(p[0]), end(p[1]);
  auto pid = host::clone_process({});
  if (!pid.ok()) return out;
  if (*pid == 0) {
    Fd null = sys::open("/dev/null", O_RDWR).value_or(Fd());
    ::dup2(null.get(), 0);
    ::dup2(end.get(), 1);
    ::dup2(end.get(), 2);
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  end.reset();
  auto text = sys::read_all(in.get(), 1 << 16);
  in.reset();
  out.status = host::reap(*pid);
  if (text.ok()) out.text = std::move(*text);
  while (!out.text.empty() && out.text.back() == '\n') out.text.pop_back();
  return out;
}

// The pid of the process that listens on containerd's socket; 0: nobody; -1: it listens, but who it is cannot be told.
int listener_of(const char* path) {
  Fd s(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  strncpy(a.sun_path, path, sizeof a.sun_path - 1);
  if (!s.valid() || ::connect(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) return 0;
  ucred c{};
  socklen_t n = sizeof c;
  if (::getsockopt(s.get(), SOL_SOCKET, SO_PEERCRED, &c, &n) != 0 || c.pid <= 1) return -1;
  return c.pid;
}

void look_at_running(const std::string& config, bool has_handler, Findings& out) {
  int pid = listener_of("/run/containerd/containerd.sock");
  if (pid == 0) {
    out.push_back({"containerd-runs", Status::warn, "nobody answers on /run/containerd/containerd.sock", "systemctl start containerd"});
    return;
  }
  struct stat file, process;
  if (has_handler && pid > 0 && ::stat(config.c_str(), &file) == 0 && ::stat(base::format("/proc/{}", pid).c_str(), &process) == 0 &&
      file.st_mtim.tv_sec > process.st_mtim.tv_sec) {
    out.push_back({"containerd-runs", Status::warn, base::format("containerd (pid {}) was started before {} was changed", pid, config), "systemctl restart containerd"});
    return;
  }
  out.push_back({"containerd-runs", Status::ok, pid > 0 ? base::format("pid {}", pid) : "it answers", ""});
}

}  // namespace

bool is_containerd_1_6(std::string_view version) {
  return version.find(" 1.6.") != version.npos || version.find(" v1.6.") != version.npos;
}

void look_at_config(const Options& o, Findings& out) {
  auto c = config::load_config(o.config_path);
  if (!c.ok()) {
    out.push_back({"config", Status::fail, c.error().text(), "correct it: man caisson.toml"});
    return;
  }
  out.push_back({"config", Status::ok, c->path.empty() ? base::format("there is no {}: the defaults hold", config::kDefaultPath) : c->path, ""});
}

void look_at_containerd(const Options& o, Findings& out) {
  auto version = run({"containerd", "--version"});
  if (version.status != 0) {
    out.push_back({"containerd", Status::warn, "containerd is not in the PATH", "for Kubernetes: install containerd 1.6 or later"});
  } else {
    out.push_back({"containerd", Status::ok, version.text.substr(0, 100), ""});
  }
  auto text = host::read_file(o.containerd_config, config::kMaxFile);
  std::string install = "caisson install" + (o.containerd_config == install::kContainerdConfig ? "" : " --containerd-config " + o.containerd_config) +
                        (o.handler == "caisson" ? "" : " --handler " + o.handler);
  if (!text.ok()) {
    bool gone = text.error() == base::kENOENT;
    out.push_back({"handler", Status::warn, base::format("{}: {}", o.containerd_config, gone ? "does not exist" : text.error().text()),
                   gone ? "to run pods: " + install : "run as root"});
    return;
  }
  auto view = install::look(*text, o.containerd_config);
  if (!view.ok()) {
    out.push_back({"handler", Status::fail, view.error().text(), "correct it, then " + install});
    return;
  }
  auto r = view->runtimes.find(o.handler);
  if (r == view->runtimes.end()) {
    out.push_back({"handler", Status::warn, base::format("{} has no handler {}", o.containerd_config, o.handler), "to run pods: " + install});
  } else {
    std::vector<std::string> problems;
    auto& h = r->second;
    if (h.type != install::kRuntimeType) problems.push_back(base::format("its runtime_type is \"{}\", not \"{}\"", h.type, install::kRuntimeType));
    if (!h.path.empty() && ::access(h.path.c_str(), X_OK) != 0) problems.push_back(base::format("its runtime_path {} cannot be executed", h.path));
    bool found = !view->opt.empty() && ::access((view->opt + "/bin/" + install::kShim).c_str(), X_OK) == 0;
    for (const char* d : {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}) {
      found = found || ::access((std::string(d) + "/" + install::kShim).c_str(), X_OK) == 0;
    }
    bool old = version.status == 0 && is_containerd_1_6(version.text);
    if (!found && h.path.empty()) problems.push_back(base::format("{} is in none of the usual directories, and it has no runtime_path", install::kShim));
    if (!found && !h.path.empty() && old) {
      problems.push_back(base::format("containerd 1.6 takes no notice of its runtime_path, and {} is neither in the usual directories nor in {}/bin",
                                      install::kShim, view->opt.empty() ? "/opt/containerd" : view->opt));
    }
    if (!h.config_path.empty()) {
      auto c = config::load_config(h.config_path);
      if (!c.ok()) problems.push_back(c.error().text());
    }
    std::string text_of;
    for (auto& p : problems) text_of += (text_of.empty() ? "" : "; ") + p;
    if (!problems.empty()) out.push_back({"handler", Status::fail, base::format("handler {}: {}", o.handler, text_of), install});
    else out.push_back({"handler", Status::ok, base::format("{} has the handler {}", o.containerd_config, o.handler), ""});
    if (!h.passes_annotations) {
      out.push_back({"annotations", Status::warn, base::format("handler {} passes no annotation dev.caisson.* of pods on", o.handler),
                     "give it pod_annotations = [\"dev.caisson.*\"] if pods shall be allowed any"});
    }
  }
  if (view->cri_disabled) {
    out.push_back({"cri", Status::warn, base::format("{} disables containerd's CRI plugin", o.containerd_config),
                   "for Kubernetes: take it out of disabled_plugins"});
  }
  look_at_running(o.containerd_config, r != view->runtimes.end(), out);
}

// The whole way, with the programs that are there.
void try_a_sandbox(const Options& o, Findings& out) {
  char root[] = "/tmp/caisson-doctor.XXXXXX";
  if (!::mkdtemp(root)) {
    out.push_back({"trial", Status::fail, "no directory can be made in /tmp", "make it writable"});
    return;
  }
  std::vector<std::string> words{"/proc/self/exe", "--root", root};
  if (!o.config_path.empty()) words.insert(words.end(), {"--config", o.config_path});
  words.insert(words.end(), {"do", "--no-tty", "--cwd", "/", "/proc/self/exe", "--version"});
  // Inside it is the program itself that runs, from the host's files.
  char self[4096];
  ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (n > 0) words[0] = words[words.size() - 2] = std::string(self, static_cast<size_t>(n));
  auto r = run(words);
  IGNORE_ERROR(container::remove_tree(AT_FDCWD, root), "a few bytes in /tmp");
  if (r.status == 0 && r.text.find("caisson version") != r.text.npos) {
    out.push_back({"trial", Status::ok, "a program ran in a sandbox", ""});
    return;
  }
  out.push_back({"trial", Status::fail, base::format("a program in a sandbox ended with {}: {}", WIFEXITED(r.status) ? WEXITSTATUS(r.status) : -1, r.text.substr(0, 500)),
                 "see what failed above; `caisson --debug --debug-log FILE do true` tells more"});
}

Findings examine(const Options& o) {
  Findings out;
  look_at_kernel(out);
  look_at_namespaces(out);
  look_at_limits(out);
  look_at_cgroups(out);
  look_at_programs(out);
  look_at_config(o, out);
  look_at_containerd(o, out);
  if (o.trial) try_a_sandbox(o, out);
  return out;
}

int exit_code(const Findings& f) {
  return std::any_of(f.begin(), f.end(), [](auto& x) { return x.status == Status::fail; }) ? 1 : 0;
}

std::string as_text(const Findings& f) {
  std::string out;
  int warned = 0, failed = 0;
  for (auto& x : f) {
    out += base::format("{:<5}{:<17}{}\n", word(x.status), x.check, x.found);
    if (!x.advice.empty()) out += base::format("{:<22}-> {}\n", "", x.advice);
    warned += x.status == Status::warn;
    failed += x.status == Status::fail;
  }
  return out + (failed ? base::format("this host cannot run sandboxes as it is: {} of {} checks failed\n", failed, f.size())
                : warned ? base::format("this host can run sandboxes; {} of {} checks have a remark\n", warned, f.size())
                         : std::string("this host can run sandboxes\n"));
}

std::string as_json(const Findings& f) {
  nlohmann::ordered_json j;
  j["ok"] = exit_code(f) == 0;
  j["findings"] = nlohmann::ordered_json::array();
  for (auto& x : f) {
    nlohmann::ordered_json one{{"check", x.check}, {"status", word(x.status)}, {"found", x.found}};
    if (!x.advice.empty()) one["advice"] = x.advice;
    j["findings"].push_back(std::move(one));
  }
  return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace runtime::doctor

// SPDX-License-Identifier: Apache-2.0
// `start`: called by containerd in the bundle's directory for every container. It reads what this prints until the end of the
// file, so the shim that stays behind keeps none of our descriptors.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"
#include "runtime/oci/spec.h"
#include "shim/command.h"
#include "shim/sockets.h"

namespace shim {

using base::Fd;
using base::ResultX;
namespace host = runtime::host;
namespace sys = base::sys;

namespace {

[[noreturn]] void become_shim(const Arguments& a, const std::string& address, Fd listener, Fd known) {
  ::setsid();
  Fd null = sys::open("/dev/null", O_RDWR).value_or(Fd());
  Fd self = sys::open("/proc/self/exe", O_RDONLY).value_or(Fd());
  auto kept = host::place_descriptors({{null.get(), 0}, {null.get(), 1}, {null.get(), 2}, {listener.get(), kListenerFd}, {known.get(), kKnownFd}},
                                      self.get(), host::Others::close_at_exec);
  if (!kept.ok()) ::_exit(1);
  host::reset_signals();
  std::vector<std::string> words{"containerd-shim-caisson-v1", "-namespace", a.space, "-address", a.address, "-id", a.id,
                                 "-socket", address, "-root", a.root};
  if (!a.config.empty()) words.insert(words.end(), {"-config", a.config});
  if (a.debug) words.push_back("-debug");
  words.push_back("serve");
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  ::execveat(*kept, "", argv.data(), environ, AT_EMPTY_PATH);
  ::_exit(1);
}

// The shim should not be the first to go when memory is short, but go before containerd.
void adjust_oom_score(int pid) {
  auto parent = host::read_file(base::format("/proc/{}/oom_score_adj", ::getppid()));
  if (!parent.ok()) return;
  int score = std::min(1000, atoi(parent->c_str()) + 1);
  IGNORE_ERROR(host::write_file(base::format("/proc/{}/oom_score_adj", pid), std::to_string(score)),
               "lowering it takes a capability; then it stays containerd's");
}

}  // namespace

ResultX<void> start(const Arguments& given) {
  ::signal(SIGPIPE, SIG_IGN);
  Arguments a = given;
  auto words = sys::read_all(0, 1 << 20);
  add_bootstrap(a, words.ok() ? *words : "");
  TRY(check_names(a));
  // A mistake in it is told here, where containerd hears it.
  a.config = words.ok() ? options_path(*words) : "";
  auto settings = TRY(runtime::config::load_config(a.config));
  a.root = choose_root(settings);
  if (settings.shim_version == 3) a.protocol = 3;
  auto config = host::read_file("config.json", runtime::oci::kMaxConfig);
  if (!config.ok()) return base::wrap(config.error(), "read config.json in the bundle");
  std::string address = address_of(a, group_of(*config, a.id));
  std::string path = socket_path(address);
  std::string directory = path.substr(0, path.rfind('/'));
  // Two containers of one pod may be started at once: only one of them may find the address free.
  Fd lock = TRY(lock_sockets(directory));
  sweep_sockets(a.root, directory);
  Fd listener = TRY(listen_at(path));
  TRY_MSG(host::replace_file("address", address, 0600), "write the file `address` in the bundle");
  TRY_MSG(host::replace_file(kRootFile, a.root, 0600), "write the file `{}` in the bundle", kRootFile);
  Fd known, tell;
  if (listener.valid()) {
    int ends[2];
    TRY_MSG(sys::from_libc(::pipe2(ends, O_CLOEXEC)), "make a pipe to the shim");
    known = Fd(ends[0]), tell = Fd(ends[1]);
    pid_t pid = ::fork();
    if (pid == 0) become_shim(a, address, std::move(listener), std::move(known));
    if (pid < 0) {
      auto e = base::wrap(sys::from_libc(-1).error(), "start the shim");
      ::unlink(path.c_str());
      return e;
    }
    note_socket(a.root, path, pid);
    adjust_oom_score(pid);
  }
  std::string out = a.protocol >= 3 ? base::format("{{\"version\":3,\"address\":\"{}\",\"protocol\":\"ttrpc\"}}", address) : address;
  TRY_MSG(sys::write_all(1, out.data(), out.size()), "print the address");
  if (tell.valid()) TRY_MSG(sys::write_all(tell.get(), "", 1), "tell the shim that its address is known: it has ended");
  return {};
}

}  // namespace shim

// SPDX-License-Identifier: Apache-2.0
// A note is a file ROOT/.shims/NAME of the socket's name; it holds the process's pid and start time.
#include "shim/sockets.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <vector>

#include "base/sys.h"
#include "runtime/host/proc.h"
#include "shim/rpc/client.h"

namespace shim {

using base::Fd;
using base::ResultX;
namespace host = runtime::host;
namespace sys = base::sys;

namespace {

std::string notes(const std::string& root) { return root + "/.shims"; }
std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

ResultX<Fd> lock_sockets(const std::string& directory) {
  TRY_MSG(host::make_directories(directory, 0711), "make {}", directory);
  Fd d = TRY_MSG(sys::open(directory.c_str(), O_RDONLY | O_DIRECTORY), "open {}", directory);
  TRY_MSG(sys::from_libc(::flock(d.get(), LOCK_EX)), "lock {}", directory);
  return d;
}

ResultX<Fd> listen_at(const std::string& path) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof a.sun_path);
  memcpy(a.sun_path, path.c_str(), path.size());
  for (int i = 0; i < 3; i++) {
    Fd s(static_cast<int>(TRY_MSG(sys::from_libc(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), "make a socket")));
    // Of this user alone from the first moment on.
    mode_t before = ::umask(0177);
    auto bound = sys::from_libc(::bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a));
    ::umask(before);
    if (bound.ok()) {
      TRY_MSG(sys::from_libc(::listen(s.get(), 128)), "listen on {}", path);
      return s;
    }
    if (bound.error() != base::kEADDRINUSE) return base::wrap(bound.error(), "make " + path);
    auto there = rpc::connect_unix(path);
    if (there.ok()) return Fd();
    if (there.error().code() != base::kECONNREFUSED && there.error().code() != base::kENOENT) return there.error();
    ::unlink(path.c_str());  // of a shim that was killed
  }
  return base::error(base::kEADDRINUSE, "{} cannot be taken", path);
}

void note_socket(const std::string& root, const std::string& path, int pid) {
  IGNORE_ERROR(host::make_directories(notes(root), 0700), "the write tells");
  IGNORE_ERROR(host::replace_file(notes(root) + "/" + name_of(path), base::format("{} {}", pid, host::process_name(pid).start_time), 0600),
               "only missed when this shim is killed early");
}

void remove_socket(const std::string& root, const std::string& path) {
  ::unlink(path.c_str());
  ::unlink((notes(root) + "/" + name_of(path)).c_str());
}

void sweep_sockets(const std::string& root, const std::string& directory) {
  DIR* d = ::opendir(notes(root).c_str());
  if (!d) return;
  std::vector<std::string> names;
  while (dirent* e = ::readdir(d)) {
    if (e->d_name[0] != '.') names.push_back(e->d_name);
  }
  ::closedir(d);
  for (auto& name : names) {
    auto text = host::read_file(notes(root) + "/" + name, 64);
    if (!text.ok()) continue;
    char* rest = nullptr;
    host::ProcessName p;
    p.pid = static_cast<int>(strtol(text->c_str(), &rest, 10));
    p.start_time = strtoull(rest, nullptr, 10);
    if (host::alive(p)) continue;
    std::string path = directory + "/" + name;
    auto there = rpc::connect_unix(path);
    if (there.ok() || !(there.error().code() == base::kECONNREFUSED || there.error().code() == base::kENOENT)) continue;
    remove_socket(root, path);
  }
}

}  // namespace shim

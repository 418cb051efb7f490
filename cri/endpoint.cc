// SPDX-License-Identifier: Apache-2.0
#include "cri/endpoint.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/sys.h"

namespace cri {
namespace {

constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

}  // namespace

base::ResultX<std::string> socket_path(const std::string& text) {
  std::string path = text;
  if (path.starts_with("unix://")) path = path.substr(7);
  else if (path.starts_with("unix:")) path = path.substr(5);
  if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos)
    return base::error(base::kEINVAL, "'{}' names no socket: an absolute path is needed, or unix:// and one", text);
  if (path.size() > kMaxPath)
    return base::error(base::kENAMETOOLONG, "'{}' has {} characters, and the path of a socket may have {}", path, path.size(), kMaxPath);
  return path;
}

bool is_listening(const std::string& path) {
  auto fd = base::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid() || path.size() > kMaxPath) return false;
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  memcpy(a.sun_path, path.data(), path.size());
  // EAGAIN: its queue is full, so there is one.
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0 || errno == EAGAIN;
}

base::ResultX<Endpoint> Endpoint::claim(const std::string& path) {
  std::string name = path + ".lock";
  auto lock = TRY_MSG(base::sys::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), "open {}", name);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
    return base::error(base::kEADDRINUSE, "another caisson-cri serves {} ({} is locked): stop it first, or choose another path with --listen", path, name);
  struct stat st;
  if (::lstat(path.c_str(), &st) == 0) {
    if (!S_ISSOCK(st.st_mode)) return base::error(base::kEEXIST, "{} exists and is no socket: remove it, or choose another path with --listen", path);
    if (is_listening(path))
      return base::error(base::kEADDRINUSE, "another process listens on {}: stop it first, or choose another path with --listen", path);
    TRY_MSG(base::sys::from_libc(::unlink(path.c_str())), "remove the stale socket {}", path);
  }
  return Endpoint(path, std::move(lock));
}

base::ResultX<void> Endpoint::open_to(mode_t mode, uid_t owner, gid_t group) const {
  if (owner != uid_t(-1) || group != gid_t(-1))
    TRY_MSG(base::sys::from_libc(::lchown(path_.c_str(), owner, group)), "give {} to user {} and group {}", path_, owner, group);
  TRY_MSG(base::sys::from_libc(::chmod(path_.c_str(), mode)), "set the mode of {}", path_);
  return {};
}

}  // namespace cri

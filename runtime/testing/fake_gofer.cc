// SPDX-License-Identifier: Apache-2.0
// Stand-in for caisson-gofer: tells what it sees of its jail and of its trees, then waits for the sentry to go.
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "runtime/testing/world.h"

namespace {

std::string look(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) return "errno " + std::to_string(errno);
  std::string kind = S_ISDIR(st.st_mode) ? "dir" : S_ISREG(st.st_mode) ? "file" : "other";
  std::string probe = path + (S_ISDIR(st.st_mode) ? "/.probe" : "");
  int fd = ::open(probe.c_str(), O_WRONLY | (S_ISDIR(st.st_mode) ? O_CREAT : 0), 0600);
  std::string writable = fd >= 0 ? "rw" : "ro" + std::string(errno == EROFS ? "" : " errno " + std::to_string(errno));
  if (fd >= 0) {
    ::close(fd);
    if (S_ISDIR(st.st_mode)) ::unlink(probe.c_str());
  }
  return kind + " " + writable;
}

}  // namespace

int main(int argc, char** argv) {
  // As a broken gofer, when asked to.
  struct stat st;
  if (::stat("/0/break-gofer", &st) == 0) {
    const char text[] = "first line\nthe gofer is broken on purpose\n";
    if (::write(2, text, sizeof text - 1) < 0) return 4;
    return 3;
  }
  std::string out = describe_world(argc, argv);
  for (int i = 3; i < argc; i++) {
    std::string at = "/" + std::to_string(i - 3);
    out += "attach" + at + "=" + look(at) + "\n";
  }
  out += "attach/store=" + look("/store") + "\nattach/shm=" + look("/shm") + "\n";
  out += std::string("mknod_errno=") + (::mknod("/store/dev", S_IFCHR | 0600, 0x103) == 0 ? "0" : std::to_string(errno)) + "\n";
  int socket = atoi(argv[1]);
  if (::send(socket, out.data(), out.size(), 0) < 0) return 5;
  char c;
  while (::recv(socket, &c, 1, 0) > 0) {
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// caisson-gofer SOCKET_FD LOG_FD INDEX:ro|rw…: serves the host files of one container, and ends with the code
// that the sentry tells it (else 137): engines watch it as they would the first process of a member of a pod. The runtime has pivot_rooted it
// into a tree of the attach points (/0 is the root file system), /store and /shm. LOG_FD becomes descriptor 2, the only
// one that the filter lets it write to; -1 leaves 2 as it is.
#include <charconv>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "gofer/files.h"
#include "gofer/filter.h"
#include "gofer/server.h"
#include "gofer/tree.h"

namespace {

constexpr uint64_t kMostFds = 16384;

bool number(std::string_view s, int* out) {
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *out);
  return error == std::errc() && end == s.data() + s.size();
}

int fail(const char* what, std::string_view why) {
  LOG(error, "{}: {}", what, why);
  return 1;
}

// As many descriptors as the hard limit has, within reason; how many of them may be cached directories.
size_t raise_fd_limit() {
  rlimit l{};
  if (getrlimit(RLIMIT_NOFILE, &l) != 0) return gofer::NodeTable::kNewest * 2;
  l.rlim_cur = l.rlim_max < kMostFds ? l.rlim_max : rlim_t{kMostFds};
  IGNORE_ERROR(base::sys::from_libc(setrlimit(RLIMIT_NOFILE, &l)), "then the limit stays as it is");
  // A quarter for directories, a quarter for removed files; the rest is slack for descriptors under way.
  size_t quarter = l.rlim_cur / 4;
  return quarter < gofer::NodeTable::kNewest * 2 ? gofer::NodeTable::kNewest * 2 : quarter;
}

void close_all_but(int fd) {
  auto keep = static_cast<unsigned>(fd);
  if (keep > 3) close_range(3, keep - 1, 0);
  close_range(keep < 3 ? 3 : keep + 1, ~0u, 0);
}

}  // namespace

int main(int argc, char** argv) {
  base::log_init("caisson-gofer", 2, base::LogLevel::warn);
  int socket = -1, log = -1;
  if (argc < 4 || !number(argv[1], &socket) || !number(argv[2], &log) || socket < 3)
    return fail("usage", "caisson-gofer SOCKET_FD LOG_FD INDEX:ro|rw[:slave]...");
  std::vector<gofer::AttachPoint> points;
  for (int i = 3; i < argc; i++) {
    std::string_view s = argv[i];
    int index = -1;
    bool slave = s.ends_with(":slave");
    if (slave) s.remove_suffix(6);
    bool ro = s.ends_with(":ro");
    if ((!ro && !s.ends_with(":rw")) || !number(s.substr(0, s.size() - 3), &index) || index < 0)
      return fail("attach point, wanted INDEX:ro or INDEX:rw, and :slave perhaps", s);
    points.push_back({static_cast<uint32_t>(index), ro, slave});
  }
  if (log >= 0 && log != 2 && dup2(log, 2) < 0) return fail("the log's descriptor", argv[2]);
  close_all_but(socket);
  umask(0);  // modes come from the client, which has applied its own
  prctl(PR_SET_DUMPABLE, 0);

  gofer::Limits limits;
  limits.dir_fds = raise_fd_limit();
  auto root = gofer::tree::open_root("/");
  if (!root.ok()) return fail("opening the root", root.error().text());
  auto files = gofer::Files::create(std::move(root).value(), points, limits);
  if (!files.ok())
    return fail(files.error() == base::kENOSYS ? "the host lacks openat2, which Linux has since 5.6"
                                               : "opening the attach points",
                files.error().text());
  for (uint32_t i : (*files)->points_with_devices())
    LOG(warn, "attach point {} is not mounted nodev; mount it so", i);
  auto filtered = gofer::install_filter();
  if (!filtered.ok()) return fail("installing the seccomp filter", filtered.error().text());

  gofer::Server server(**files);
  auto end = server.serve(socket);
  if (!end.ok()) return fail("the client's record", end.error().text());
  return server.exit_code();
}

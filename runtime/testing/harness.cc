// SPDX-License-Identifier: Apache-2.0
// See harness.h.
#include "runtime/testing/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace runtime::testing {

namespace fs = std::filesystem;
using nlohmann::json;

std::string Outcome::value(const std::string& key) const {
  std::istringstream in(out);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size() + 1, key + "=") == 0) return line.substr(key.size() + 1);
  }
  return "(none)";
}

Scratch::Scratch() {
  char name[] = "/tmp/caisson-test-XXXXXX";
  if (::mkdtemp(name)) path = name;
  ::chmod(path.c_str(), 0755);
}
Scratch::~Scratch() {
  std::error_code e;
  fs::remove_all(path, e);
}

Bundle::Bundle(const Scratch& s, const std::string& name) : path(s.path + "/" + name) {
  fs::create_directories(path + "/rootfs/bin");
  config = json::parse(R"({
    "ociVersion": "1.0.2",
    "process": {"args": ["exit", "0"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["A=b"]},
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]}
  })");
  write();
}
void Bundle::write() const { write_text(path + "/config.json", config.dump(1)); }

std::string Leftovers::text() const {
  std::ostringstream o;
  o << mounts << " mounts, " << processes << " processes, " << cgroups << " cgroups, " << state_files << " state files, "
    << stores << " stores";
  return o.str();
}

namespace {

// Every caisson that this program or a child of it has started. Other tests run beside it, older ones may have been cut short, and
// numbers of processes come again: what counts as ours has the number and the container's name of one of these, and is not older.
struct Started {
  std::atomic<size_t> count;
  struct {
    std::atomic<int> pid;
    char words[124];  // the last arguments, each followed by a newline
  } list[8192];
};
Started& started() {
  static auto* s = static_cast<Started*>(::mmap(nullptr, sizeof(Started), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  return *s;
}

void note_started(int pid, const std::vector<std::string>& args) {
  size_t at = started().count++;
  if (at >= std::size(started().list)) ::abort();
  auto& e = started().list[at];
  std::string words = "\n";
  for (auto& a : args) words += a + "\n";
  if (words.size() >= sizeof e.words) words = words.substr(words.size() - sizeof e.words + 1);
  memcpy(e.words, words.c_str(), words.size() + 1);
  e.pid = pid;
}

// The last `numbers` parts of the name are a process and what follows it: "caisson-ID.PID" of a cgroup, "ID.PID.TIME" of a store.
bool is_ours(std::string name, int numbers) {
  std::string pid;
  for (int i = 0; i < numbers; i++) {
    size_t dot = name.rfind('.');
    if (dot == std::string::npos) return false;
    pid = name.substr(dot + 1);
    name.resize(dot);
  }
  size_t n = std::min(started().count.load(), std::size(started().list));
  for (size_t i = 0; i < n; i++) {
    auto& e = started().list[i];
    // `do` makes the name up.
    if (std::to_string(e.pid) == pid && (strstr(e.words, ("\n" + name + "\n").c_str()) || strstr(e.words, "\ndo\n"))) return true;
  }
  return false;
}

struct Places {
  std::set<std::string> cgroups, stores;
};
// The cgroups and stores that may be a container's, whosever.
Places find_places() {
  Places p;
  std::error_code ec;
  for (auto it = fs::recursive_directory_iterator("/sys/fs/cgroup", fs::directory_options::skip_permission_denied, ec);
       it != fs::recursive_directory_iterator(); it.increment(ec)) {
    if (it->path().filename().string().rfind("caisson-", 0) == 0) p.cgroups.insert(it->path());
  }
  if (fs::exists("/var/lib/caisson/store", ec)) {
    for (auto& e : fs::directory_iterator("/var/lib/caisson/store", ec)) p.stores.insert(e.path());
  }
  return p;
}
const Places& older_than_us() {
  static const Places p = find_places();
  return p;
}

size_t count_lines_with(const std::string& text, const std::string& word) {
  size_t n = 0;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) n += line.find(word) != std::string::npos;
  return n;
}

}  // namespace

Caisson::Running Caisson::start(std::vector<std::string> args, const std::string& input) const {
  int in[2], out[2], err[2];
  if (::pipe2(in, O_CLOEXEC) || ::pipe2(out, O_CLOEXEC) || ::pipe2(err, O_CLOEXEC)) return {};
  older_than_us();
  args.insert(args.begin(), {CAISSON_PROGRAM, "--root", root});
  std::vector<char*> argv;
  for (auto& a : args) argv.push_back(a.data());
  argv.push_back(nullptr);
  pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    ::setenv("CAISSON_LIBEXEC", libexec.empty() ? CAISSON_FAKES : libexec.c_str(), 1);
    for (auto& [k, v] : env) ::setenv(k.c_str(), v.c_str(), 1);
    if (uid >= 0) {
      ::setgroups(0, nullptr);
      if (::setgid(static_cast<gid_t>(uid)) || ::setuid(static_cast<uid_t>(uid))) ::_exit(120);
    }
    ::execv(CAISSON_PROGRAM, argv.data());
    ::_exit(121);
  }
  note_started(pid, args);
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  if (::write(in[1], input.data(), input.size()) < 0) input.size();
  ::close(in[1]);
  return {pid, out[0], err[0]};
}

Outcome Caisson::finish(Running r) {
  Outcome o;
  // Until caisson itself ends: a detached container keeps the pipes open.
  bool ended = false;
  int status = 0;
  for (;;) {
    pollfd p[2] = {{r.out, POLLIN, 0}, {r.err, POLLIN, 0}};
    int n = ::poll(p, 2, 5);
    char buf[65536];
    bool got = false;
    for (int i = 0; i < 2 && n > 0; i++) {
      if (p[i].revents & POLLIN) {
        ssize_t k = ::read(p[i].fd, buf, sizeof buf);
        if (k > 0) (i ? o.err : o.out).append(buf, static_cast<size_t>(k)), got = true;
      }
    }
    if (got) continue;
    if (ended) break;
    if (::waitpid(r.pid, &status, WNOHANG) == r.pid) ended = true;
    else if (n > 0) ::usleep(1000);
  }
  ::close(r.out);
  ::close(r.err);
  o.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return o;
}

Outcome Caisson::operator()(std::vector<std::string> args, const std::string& input) const {
  return finish(start(std::move(args), input));
}

Leftovers Caisson::leftovers() const {
  Leftovers l;
  l.mounts = count_lines_with(read_text("/proc/self/mountinfo"), fs::path(root).parent_path());
  for (auto& e : fs::directory_iterator("/proc")) {
    std::error_code ec;
    auto exe = fs::read_symlink(e.path() / "exe", ec);
    if (!ec && exe.string().rfind(CAISSON_FAKES, 0) == 0) l.processes++;
  }
  std::error_code ec;
  Places now = find_places();
  constexpr size_t kPrefix = sizeof "caisson-" - 1;
  for (const fs::path g : now.cgroups) l.cgroups += !older_than_us().cgroups.contains(g) && is_ours(g.filename().string().substr(kPrefix), 1);
  for (const fs::path t : now.stores) l.stores += !older_than_us().stores.contains(t) && is_ours(t.filename(), 2);
  if (fs::exists(root, ec)) {
    for (auto it = fs::recursive_directory_iterator(root, ec); it != fs::recursive_directory_iterator(); it.increment(ec)) {
      if (it->path().filename() != ".ids") l.state_files++;
    }
  }
  return l;
}

std::string Caisson::status(const std::string& id) const {
  auto o = (*this)({"state", id});
  auto j = json::parse(o.out, nullptr, false);
  return o.code == 0 && j.is_object() ? j.value("status", "?") : "error: " + o.err;
}

int Caisson::pid(const std::string& id) const {
  auto j = json::parse((*this)({"state", id}).out, nullptr, false);
  return j.is_object() ? j.value("pid", 0) : 0;
}

bool eventually(const std::function<bool()>& f) {
  for (int i = 0; i < 500; i++) {
    if (f()) return true;
    ::usleep(10000);
  }
  return false;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace runtime::testing

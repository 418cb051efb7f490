// SPDX-License-Identifier: Apache-2.0
// state.json and the directories around it.
#include "runtime/container/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/sys.h"
#include "base/words.h"

namespace runtime::container {

using base::Fd;
using base::Result;
using base::ResultX;
using nlohmann::json;
namespace sys = base::sys;

namespace {

constexpr size_t kMaxState = 16 << 20;

json of_process(const host::ProcessName& p) { return {{"pid", p.pid}, {"start", p.start_time}}; }
host::ProcessName to_process(const json& j) { return {j.at("pid").get<int>(), j.at("start").get<uint64_t>()}; }

}  // namespace

std::string encode_state(const State& s) {
  json j{{"id", s.id},           {"ociVersion", s.version},       {"bundle", s.bundle},
         {"rootfs", s.rootfs},   {"created", s.created},          {"annotations", s.annotations},
         {"phase", s.phase},     {"owner", s.owner},              {"terminal", s.terminal},
         {"store", s.store},     {"creator", of_process(s.creator)}, {"sentry", of_process(s.sentry)},
         {"gofer", of_process(s.gofer)}, {"cgroupLeaves", s.cgroup_leaves}, {"cgroupMade", s.cgroup_made}};
  if (s.id_slot) j["idSlot"] = *s.id_slot;
  if (s.member()) j["sandbox"] = s.sandbox;

  if (!s.unit.empty()) j["unit"] = s.unit;
  return j.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

ResultX<State> decode_state(const std::string& text) {
  try {
    json j = json::parse(text);
    State s;
    s.id = j.at("id");
    s.version = j.at("ociVersion");
    s.bundle = j.at("bundle");
    s.rootfs = j.at("rootfs");
    s.created = j.at("created");
    s.annotations = j.at("annotations").get<std::map<std::string, std::string>>();
    int phase = j.at("phase").get<int>();
    s.phase = phase == 1 ? Phase::created : phase == 2 ? Phase::started : Phase::creating;
    s.owner = j.at("owner");
    s.terminal = j.at("terminal");
    s.store = j.at("store");
    s.creator = to_process(j.at("creator"));
    s.sentry = to_process(j.at("sentry"));
    s.gofer = to_process(j.at("gofer"));
    s.cgroup_leaves = j.at("cgroupLeaves").get<std::vector<std::string>>();
    s.cgroup_made = j.at("cgroupMade").get<std::vector<std::string>>();
    if (j.contains("sandbox")) s.sandbox = j.at("sandbox").get<std::string>();

    if (j.contains("unit")) s.unit = j.at("unit");
    if (j.contains("idSlot")) s.id_slot = j.at("idSlot").get<uint32_t>();
    return s;
  } catch (const json::exception& e) {
    return base::error(base::kEINVAL, "the container's state cannot be read ({}): delete --force removes it", e.what());
  }
}

ResultX<Root> Root::open(const std::string& path) {
  if (path.empty() || path[0] != '/') return base::error(base::kEINVAL, "--root {}: it must be an absolute path", path);
  TRY_MSG(host::make_directories(path, 0700), "make the state directory {} (--root names another)", path);
  Root r;
  r.fd_ = TRY_MSG(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY), "open the state directory {}", path);
  r.path_ = path;
  // What is written there says what is killed and removed in the end. A name in /tmp may be anybody's.
  struct stat st;
  TRY_MSG(sys::fstat(r.fd_.get(), &st), "look at the state directory {}", path);
  uid_t own = ::geteuid();
  if (own != 0 && st.st_uid != 0 && st.st_uid != own) {
    return base::error(base::kEACCES, "the state directory {} belongs to user {}: --root must name one of your own", path, st.st_uid);
  }
  return r;
}

std::vector<std::string> Root::ids() const {
  std::vector<std::string> out;
  DIR* d = ::opendir(path_.c_str());
  if (!d) return out;
  while (dirent* e = ::readdir(d)) {
    if (e->d_name[0] != '.') out.push_back(e->d_name);
  }
  ::closedir(d);
  std::sort(out.begin(), out.end());
  return out;
}

ResultX<void> check_id(const std::string& id) {
  bool good = !id.empty() && id.size() <= 255 && id[0] != '.';
  for (char c : id) good &= isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '+' || c == '-' || c == '.';
  if (good) return {};
  std::string shown = id.size() > 80 ? id.substr(0, 77) + "..." : id;
  return base::error(base::kEINVAL, "container id '{}' is invalid: it must be 1 to 255 letters, digits, and any of _ + - . "
                     "and not start with a dot", base::without_controls(shown));
}

namespace {

// Where a container's directory is until its maker holds its lock. An id may be as long as a name can be, so not the id itself.
std::string birth_name(const std::string& id) {
  uint64_t h = 14695981039346656037u;
  for (char c : id) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return base::format(".new.{:016x}", h);
}

}  // namespace

// Under its own name a directory is never without its maker's lock, and only who holds its lock takes it away: so a name that was
// found to be a directory's while holding the lock stays it.
ResultX<Directory> Directory::create(const Root& root, const std::string& id) {
  TRY(check_id(id));
  auto taken = [&] { return base::error(base::kEEXIST, "container id '{}' is taken: use another, or `caisson delete {}` first", id, id); };
  struct stat st;
  if (::fstatat(root.fd(), id.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return taken();
  std::string birth = birth_name(id);
  auto made = sys::from_libc(::mkdirat(root.fd(), birth.c_str(), 0700));
  if (!made.ok() && made.error() != base::kEEXIST) return base::wrap(made.error(), base::format("make {}/{}", root.path(), id));
  // There already: left by a maker that was killed, or another makes the same id this moment.
  Directory d;
  d.path_ = root.path() + "/" + birth;
  d.id_ = birth;
  d.root_fd_ = root.fd();
  d.fd_ = TRY_MSG(sys::openat(root.fd(), birth.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "open {}", d.path_);
  auto locked = d.lock(0);
  if (!locked.ok()) return taken();
  auto moved = sys::from_libc(::renameat2(root.fd(), birth.c_str(), root.fd(), id.c_str(), RENAME_NOREPLACE));
  // A file system that knows no flags: a directory with a plan in it is not replaced by any rename.
  if (!moved.ok() && moved.error() == base::kEINVAL) {
    moved = sys::from_libc(::renameat(root.fd(), birth.c_str(), root.fd(), id.c_str()));
  }
  if (!moved.ok()) {
    ::unlinkat(root.fd(), birth.c_str(), AT_REMOVEDIR);
    if (moved.error() == base::kEEXIST || moved.error() == base::kENOTEMPTY) return taken();
    return base::wrap(moved.error(), base::format("make {}/{}", root.path(), id));
  }
  d.path_ = root.path() + "/" + id;
  d.id_ = id;
  return d;
}

void Directory::remove_stillborn(const Root& root, const std::string& id) {
  std::string birth = birth_name(id);
  auto fd = sys::openat(root.fd(), birth.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd.ok()) return;
  Directory d;
  d.id_ = birth;
  d.root_fd_ = root.fd();
  d.fd_ = std::move(fd).value();
  if (d.lock(0).ok()) ::unlinkat(root.fd(), birth.c_str(), AT_REMOVEDIR);
}

ResultX<Directory> Directory::open(const Root& root, const std::string& id) {
  TRY(check_id(id));
  Directory d;
  d.path_ = root.path() + "/" + id;
  d.id_ = id;
  d.root_fd_ = root.fd();
  auto fd = sys::openat(root.fd(), id.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd.ok()) {
    if (fd.error() == base::kENOENT) {
      return base::error(base::kENOENT, "container '{}' does not exist (in {})", id, root.path());
    }
    return base::wrap(fd.error(), base::format("open {}", d.path_));
  }
  d.fd_ = std::move(fd).value();
  return d;
}

ResultX<void> Directory::lock(int timeout_ms) {
  int64_t end = host::now_ms() + timeout_ms;
  for (unsigned wait = 500;; wait = std::min(wait * 2, 20000u)) {
    auto r = sys::from_libc(::flock(fd_.get(), LOCK_EX | LOCK_NB));
    if (r.ok()) break;
    if (r.error() != base::kEAGAIN) return base::wrap(r.error(), base::format("lock {}", path_));
    if (host::now_ms() >= end) {
      return base::error(base::kETIMEDOUT, "another command has held container '{}' for {} ms: let it end, or stop it",
                         id_, timeout_ms);
    }
    host::sleep_us(wait);
  }
  // It may have been removed, and even made again, while this waited.
  struct stat here, there;
  if (::fstat(fd_.get(), &here) != 0 || ::fstatat(root_fd_, id_.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0 ||
      here.st_ino != there.st_ino || here.st_dev != there.st_dev) {
    return base::error(base::kENOENT, "container '{}' does not exist any more", id_);
  }
  return {};
}

void Directory::unlock() { ::flock(fd_.get(), LOCK_UN); }

host::ProcessName Directory::find_lock_holder() const {
  struct stat st;
  auto locks = host::read_file("/proc/locks", 16 << 20);
  if (!locks.ok() || ::fstat(fd_.get(), &st) != 0) return {};
  std::istringstream lines(*locks);
  for (std::string line; std::getline(lines, line);) {
    int pid = 0;
    unsigned long long inode = 0;
    if (sscanf(line.c_str(), "%*d: FLOCK %*s %*s %d %*x:%*x:%llu", &pid, &inode) != 2 || inode != st.st_ino || pid <= 0) continue;
    host::ProcessName name = host::process_name(pid);
    // Its device's number is not told in the same way everywhere; that it has the directory open is.
    std::string table = "/proc/" + std::to_string(pid) + "/fd";
    DIR* fds = ::opendir(table.c_str());
    if (!fds) continue;
    bool has = false;
    while (dirent* e = ::readdir(fds)) {
      struct stat theirs;
      has |= e->d_name[0] != '.' && ::stat((table + "/" + e->d_name).c_str(), &theirs) == 0 && theirs.st_ino == st.st_ino &&
             theirs.st_dev == st.st_dev;
    }
    ::closedir(fds);
    if (has && host::alive(name)) return name;
  }
  return {};
}

ResultX<State> Directory::load() const {
  auto text = host::read_file_at(fd_.get(), "state.json", kMaxState);
  bool planned = !text.ok() && text.error() == base::kENOENT;
  if (planned) text = host::read_file_at(fd_.get(), "plan.json", kMaxState);
  if (!text.ok()) {
    if (text.error() == base::kENOENT) {
      return base::error(base::kENOENT, "container '{}' is only being made, or its making was cut short: "
                         "`caisson delete --force {}` removes it", id_, id_);
    }
    return base::wrap(text.error(), base::format("read the state in {}", path_));
  }
  State s = TRY(decode_state(*text));
  if (!planned && ::faccessat(fd_.get(), "started", F_OK, 0) == 0) s.phase = Phase::started;
  return s;
}

ResultX<void> Directory::save(const State& s) const {
  if (s.phase == Phase::creating) {
    TRY_MSG(host::replace_file_at(fd_.get(), "plan.json", encode_state(s)), "write {}/plan.json", path_);
    return {};
  }
  // The mark first: with it but without state.json the container still counts as being made.
  if (s.phase == Phase::started) {
    Fd mark = TRY_MSG(sys::openat(fd_.get(), "started", O_CREAT | O_WRONLY, 0600), "make {}/started", path_);
  }
  if (::faccessat(fd_.get(), "state.json", F_OK, 0) != 0) {
    TRY_MSG(host::replace_file_at(fd_.get(), "state.json", encode_state(s)), "write {}/state.json", path_);
  }
  return {};
}

ResultX<void> Directory::remove() {
  TRY_MSG(remove_tree(root_fd_, id_.c_str()), "remove {}", path_);
  return {};
}

namespace {

Result<Fd> open_to_empty(int dir, const char* name) {
  auto fd = sys::openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (fd.ok() || fd.error() != base::kEACCES) return fd;
  // One of a user's own that he may not look into.
  TRY(sys::from_libc(::fchmodat(dir, name, 0700, 0)));
  return sys::openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<std::vector<std::string>> names_in(int directory) {
  DIR* d = ::fdopendir(TRY(sys::openat(directory, ".", O_RDONLY | O_DIRECTORY)).release());
  if (!d) return base::kENOMEM;
  std::vector<std::string> names;
  while (dirent* e = ::readdir(d)) {
    std::string n = e->d_name;
    if (n != "." && n != "..") names.push_back(std::move(n));
  }
  ::closedir(d);
  return names;
}

// Whether it is gone, or is a directory with something in it.
Result<bool> remove_one(int dir, const char* name) {
  auto r = sys::from_libc(::unlinkat(dir, name, 0));
  if (r.ok() || r.error() == base::kENOENT) return true;
  if (r.error() != base::kEISDIR && r.error() != base::kEPERM) return r.error();
  auto removed = sys::from_libc(::unlinkat(dir, name, AT_REMOVEDIR));
  if (removed.ok() || removed.error() == base::kENOENT) return true;
  if (removed.error() != base::kENOTEMPTY && removed.error() != base::kEEXIST) return removed.error();
  return false;
}

}  // namespace

// However deep it is: what is in a directory of it is moved up until nothing is below the first level.
Result<void> remove_tree(int dir, const char* name) {
  if (TRY(remove_one(dir, name))) return {};
  Fd top = TRY(open_to_empty(dir, name));
  uint64_t moved = 0;
  for (;;) {
    auto names = TRY(names_in(top.get()));
    if (names.empty()) break;
    for (auto& n : names) {
      if (TRY(remove_one(top.get(), n.c_str()))) continue;
      Fd sub = TRY(open_to_empty(top.get(), n.c_str()));
      for (auto& below : TRY(names_in(sub.get()))) {
        if (TRY(remove_one(sub.get(), below.c_str()))) continue;
        for (;;) {
          std::string free_name = ".moved." + std::to_string(moved++);
          auto up = sys::from_libc(::renameat(sub.get(), below.c_str(), top.get(), free_name.c_str()));
          if (up.ok()) break;
          if (up.error() != base::kENOTEMPTY && up.error() != base::kEEXIST && up.error() != base::kENOTDIR) return up.error();
        }
      }
      TRY(remove_one(top.get(), n.c_str()));
    }
  }
  auto removed = sys::from_libc(::unlinkat(dir, name, AT_REMOVEDIR));
  if (!removed.ok() && removed.error() != base::kENOENT) return removed.error();
  return {};
}

}  // namespace runtime::container

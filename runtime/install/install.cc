// SPDX-License-Identifier: Apache-2.0
#include "runtime/install/install.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/config/config.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"

namespace runtime::install {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr size_t kMaxProgram = 256 << 20;
constexpr const char* kBackup = ".before-caisson";

std::string real(const std::string& path) {
  char resolved[4096];
  return ::realpath(path.c_str(), resolved) ? resolved : path;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

// One file of containerd's, read and to be written back.
struct ConfigFile {
  std::string path, text;
  bool there = false;
  mode_t mode = 0644;
  uid_t uid = 0;
  gid_t gid = 0;
};

ResultX<ConfigFile> read_config(const Options& o) {
  ConfigFile f;
  f.path = real(o.host + o.containerd_config);
  auto fd = sys::open(f.path.c_str(), O_RDONLY | O_NOCTTY);
  if (!fd.ok() && fd.error() == base::kENOENT) return f;
  if (!fd.ok()) return base::wrap(fd.error(), "open " + f.path);
  struct stat st;
  TRY_MSG(sys::fstat(fd->get(), &st), "look at {}", f.path);
  f.there = true;
  f.mode = st.st_mode & 07777;
  f.uid = st.st_uid;
  f.gid = st.st_gid;
  f.text = TRY_MSG(sys::read_all(fd->get(), config::kMaxFile), "read {}", f.path);
  return f;
}

// The whole file appears at once, or not at all.
ResultX<void> write_whole(const std::string& path, std::string_view text, mode_t mode, uid_t uid, gid_t gid) {
  std::string temporary = path + ".new-" + std::to_string(::getpid());
  auto fd = sys::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!fd.ok()) return base::wrap(fd.error(), "make " + temporary);
  auto steps = [&]() -> base::Result<void> {
    TRY(sys::write_all(fd->get(), text.data(), text.size()));
    TRY(sys::from_libc(::fchown(fd->get(), uid, gid)));
    TRY(sys::from_libc(::fchmod(fd->get(), mode)));
    TRY(sys::from_libc(::fsync(fd->get())));
    TRY(sys::from_libc(::rename(temporary.c_str(), path.c_str())));
    return {};
  };
  auto written = steps();
  if (written.ok()) return {};
  ::unlink(temporary.c_str());
  return base::wrap(written.error(), "write " + path);
}

ResultX<void> run_then(const std::string& command) {
  auto pid = host::clone_process({});
  if (!pid.ok()) return base::wrap(pid.error(), "start a shell");
  if (*pid == 0) {
    ::dup2(2, 1);  // our own output stays what it is
    ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = host::reap(*pid);
  if (status == 0) return {};
  return base::error(base::kEIO, "`{}` ended with {}", command, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

// Writes the new text, keeps the old one beside it, and runs the command; when that fails the old text is put back.
ResultX<void> apply_edit(const Options& o, const ConfigFile& f, const Edit& e, Report& report) {
  for (auto& line : e.lines) report.push_back("  " + line);
  if (o.dry_run) {
    if (!o.then.empty()) report.push_back("would run: " + o.then);
    return {};
  }
  if (f.there) {
    TRY(write_whole(f.path + kBackup, f.text, f.mode, f.uid, f.gid));
    report.push_back("what was there before is in " + f.path + kBackup);
  } else {
    TRY_MSG(host::make_directories(f.path.substr(0, f.path.rfind('/')), 0755), "make the directory of {}", f.path);
  }
  TRY(write_whole(f.path, e.text, f.mode, f.uid, f.gid));
  if (o.then.empty()) {
    report.push_back("containerd reads it when it is restarted (systemctl restart containerd); pods that run are not disturbed");
    return {};
  }
  auto ran = run_then(o.then);
  if (ran.ok()) {
    report.push_back("ran: " + o.then);
    return {};
  }
  if (f.there) TRY(write_whole(f.path, f.text, f.mode, f.uid, f.gid));
  else ::unlink(f.path.c_str());
  IGNORE_ERROR(run_then(o.then), "it is told that it failed");
  return base::error(ran.error().code(), "{}: {} is as it was, and it was run again", ran.error().text(), f.path);
}

ResultX<void> copy_program(const Options& o, const std::string& from, const std::string& name, Report& report) {
  std::string to = o.host + o.copy_to + "/" + name;
  auto content = host::read_file(from, kMaxProgram);
  if (!content.ok()) return base::wrap(content.error(), "read " + from);
  struct stat st;
  bool same_file = real(from) == real(to);
  auto there = host::read_file(to, kMaxProgram);
  bool same = there.ok() && *there == *content && ::stat(to.c_str(), &st) == 0 && (st.st_mode & 0777) == 0755;
  if (same_file || same) {
    report.push_back(to + " is there already");
    return {};
  }
  report.push_back(base::format("{} {} to {}", o.dry_run ? "would copy" : "copied", from, to));
  if (o.dry_run) return {};
  TRY_MSG(host::make_directories(o.host + o.copy_to, 0755), "make {}{}", o.host, o.copy_to);
  return write_whole(to, *content, 0755, 0, 0);
}

// Where containerd finds the shim, as its configuration must say it.
ResultX<std::string> shim_path(const Options& o) {
  std::string path = o.handler.shim;
  if (path.empty() && !o.copy_to.empty()) path = o.copy_to + "/" + kShim;
  if (path.empty()) path = find_beside(kShim);
  if (path.empty()) {
    return base::error(base::kENOENT, "{} is not beside this program: name it with --shim, or have all programs copied with --copy-to", kShim);
  }
  if (path[0] != '/') return base::error(base::kEINVAL, "--shim {}: must be an absolute path", path);
  if (o.copy_to.empty() && !exists(o.host + path)) return base::error(base::kENOENT, "{}{} does not exist", o.host, path);
  return in_usual_path(path.substr(0, path.rfind('/'))) ? "" : path;
}

std::string link_path(const View& v) { return v.opt.empty() ? "" : v.opt + "/bin/" + kShim; }

// Where a link leads as it is written; "" when it is none.
std::string link_target(const std::string& path) {
  char target[4096];
  ssize_t n = ::readlink(path.c_str(), target, sizeof target);
  return n > 0 ? std::string(target, static_cast<size_t>(n)) : "";
}

// containerd 1.6 does not look where runtime_path says: a link where it does look leads there.
void link_shim(const Options& o, const Handler& h, const View& v, Report& report) {
  std::string link = link_path(v);
  if (h.shim.empty()) return;
  if (link.empty()) {
    report.push_back(base::format("note: containerd 1.6 finds the shim in its PATH only; {} is not there", h.shim));
    return;
  }
  std::string at = o.host + link;
  struct stat st;
  bool there = ::lstat(at.c_str(), &st) == 0;
  if (there && link_target(at) == h.shim) return;
  if (there && !S_ISLNK(st.st_mode)) {
    report.push_back(base::format("note: {} is no link and stays: containerd 1.6 runs it, not {}", at, h.shim));
    return;
  }
  std::string before = there ? base::format(" (it led to {})", base::without_controls(link_target(at))) : "";
  report.push_back(base::format("{} {} to {}, for containerd 1.6{}", o.dry_run ? "would link" : "linked", at, h.shim, before));
  if (o.dry_run) return;
  std::string temporary = at + ".new-" + std::to_string(::getpid());
  auto made = host::make_directories(at.substr(0, at.rfind('/')), 0755);
  if (made.ok() && ::symlink(h.shim.c_str(), temporary.c_str()) == 0 && ::rename(temporary.c_str(), at.c_str()) == 0) return;
  report.back() = base::format("note: {} cannot be made ({}): containerd 1.6 will not find {}", at,
                               (made.ok() ? sys::from_libc(-1).error() : made.error()).text(), h.shim);
  ::unlink(temporary.c_str());
}

// The link of a handler that is taken out, unless another needs it.
void unlink_shim(const Options& o, const std::string& shim, const View& v, Report& report) {
  std::string link = link_path(v);
  if (shim.empty() || link.empty() || link_target(o.host + link) != shim) return;
  for (auto& [_, r] : v.runtimes) {
    if (r.type == kRuntimeType && r.path == shim) return;
  }
  std::string at = o.host + link;
  if (o.dry_run || ::unlink(at.c_str()) == 0) {
    report.push_back(base::format("{} {}", o.dry_run ? "would remove" : "removed", at));
  } else {
    report.push_back(base::format("note: {} cannot be removed ({}): containerd 1.6 still finds {} there", at, sys::from_libc(-1).error().text(), shim));
  }
}

ResultX<void> check_handler(const std::string& name) {
  auto plain = [](char c) { return isalnum(static_cast<unsigned char>(c)) || c == '-'; };
  if (!name.empty() && name.size() <= 63 && std::all_of(name.begin(), name.end(), plain) && name[0] != '-') return {};
  return base::error(base::kEINVAL, "--handler '{}': must be a name of letters, digits and -, as Kubernetes wants it", name);
}

}  // namespace

const std::vector<ProgramName>& program_names() {
  static const std::vector<ProgramName> all = {{"caisson", true},        {"caisson-sentry", true}, {"caisson-gofer", true},
                                               {"caisson-zygote", true}, {kShim, true},            {"caisson-cri", false},  {"caisson-bench", false}};
  return all;
}

std::string find_beside(const std::string& name) {
  std::string self = real("/proc/self/exe");
  std::string directory = self.substr(0, self.rfind('/') + 1);
  for (auto& place : {directory, directory + "../libexec/caisson/"}) {
    if (exists(place + name)) return real(place + name);
  }
  return "";
}

bool in_usual_path(const std::string& directory) {
  static constexpr const char* kUsual[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
  return std::any_of(std::begin(kUsual), std::end(kUsual), [&](const char* d) { return directory == d; });
}

std::vector<std::string> containers_of_shim(const std::string& host) {
  std::vector<std::string> out;
  auto config = config::load_config(host.empty() ? "" : exists(host + config::kDefaultPath) ? host + config::kDefaultPath : "");
  std::string top = host + (config.ok() && !config->shim_root.empty() ? config->shim_root : "/run/containerd/caisson");
  auto names = [](const std::string& directory) {
    std::vector<std::string> found;
    DIR* d = ::opendir(directory.c_str());
    if (!d) return found;
    while (dirent* e = ::readdir(d)) {
      if (e->d_name[0] != '.' && e->d_type == DT_DIR) found.push_back(e->d_name);
    }
    ::closedir(d);
    std::sort(found.begin(), found.end());
    return found;
  };
  for (auto& space : names(top)) {
    for (auto& id : names(top + "/" + space)) out.push_back(space + "/" + id);
  }
  return out;
}

ResultX<Report> install(const Options& o) {
  Report report;
  TRY(check_handler(o.handler.name));
  ConfigFile f = TRY(read_config(o));
  Handler h = o.handler;
  h.shim = TRY(shim_path(o));
  if (!h.config_path.empty() && h.config_path[0] != '/') {
    return base::error(base::kEINVAL, "--config-path {}: must be an absolute path", h.config_path);
  }
  // Before anything is changed: whether it can be.
  Edit e = TRY(add_handler(f.text, f.path, h));
  if (!o.copy_to.empty()) {
    if (o.copy_to[0] != '/') return base::error(base::kEINVAL, "--copy-to {}: must be an absolute path", o.copy_to);
    for (auto& p : program_names()) {
      std::string from = find_beside(p.name);
      if (from.empty() && !p.needed) continue;
      if (from.empty()) return base::error(base::kENOENT, "{} is not beside this program", p.name);
      TRY(copy_program(o, from, p.name, report));
    }
  }
  View view = TRY(look(e.text, f.path));
  link_shim(o, h, view, report);  // before containerd is restarted
  if (!e.changed) {
    report.push_back(base::format("{} has the handler {} already: nothing to change", f.path, h.name));
    return report;
  }
  report.push_back(base::format("{} {}:", o.dry_run ? "would change" : f.there ? "changed" : "made", f.path));
  TRY(apply_edit(o, f, e, report));
  if (view.cri_disabled) {
    report.push_back("note: " + f.path + " disables containerd's CRI plugin (disabled_plugins): Kubernetes cannot use it so");
  }
  return report;
}

ResultX<Report> uninstall(const Options& o) {
  Report report;
  TRY(check_handler(o.handler.name));
  auto left = containers_of_shim(o.host);
  if (!left.empty() && !o.force) {
    return base::error(base::kEBUSY, "{} containers still run or wait to be removed ({}{}): remove them first, or say --force", left.size(),
                       left[0], left.size() > 1 ? ", …" : "");
  }
  ConfigFile f = TRY(read_config(o));
  Edit e = TRY(remove_handler(f.text, f.path, o.handler.name));
  if (e.changed) unlink_shim(o, TRY(look(f.text, f.path)).runtimes[o.handler.name].path, TRY(look(e.text, f.path)), report);
  if (e.changed) {
    report.push_back(base::format("{} {}:", o.dry_run ? "would change" : "changed", f.path));
    TRY(apply_edit(o, f, e, report));
  } else {
    report.push_back(base::format("{} has no handler {}: nothing to change", f.path, o.handler.name));
  }
  if (o.copy_to.empty()) return report;
  for (auto& p : program_names()) {
    std::string path = o.host + o.copy_to + "/" + p.name;
    if (!exists(path)) continue;
    report.push_back(base::format("{} {}", o.dry_run ? "would remove" : "removed", path));
    if (!o.dry_run && ::unlink(path.c_str()) != 0) return base::wrap(sys::from_libc(-1).error(), "remove " + path);
  }
  if (!o.dry_run) ::rmdir((o.host + o.copy_to).c_str());  // if nothing else is in it
  return report;
}

}  // namespace runtime::install

// SPDX-License-Identifier: Apache-2.0
#include "runtime/bench/contestant.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/container/state.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/proc.h"

namespace runtime::bench {

using nlohmann::ordered_json;

namespace {

constexpr int kPatience = 120, kLongRun = 1200;
constexpr uint64_t kPeriod = 100000;

int64_t quota_us(const Cpus& c) { return static_cast<int64_t>(c.quota * static_cast<double>(kPeriod)); }

}  // namespace

std::string bundle_config(const Job& job) {
  const std::vector<std::string> caps{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  ordered_json s;
  s["ociVersion"] = "1.0.2";
  s["hostname"] = "bench";
  s["root"] = {{"path", job.root}};
  auto& p = s["process"];
  p = {{"terminal", false}, {"user", {{"uid", 0}, {"gid", 0}}}, {"args", job.args}, {"cwd", "/"},
       {"env", {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}}};
  for (const char* set : {"bounding", "effective", "permitted"}) p["capabilities"][set] = caps;
  auto mount = [&](const char* at, const char* type, std::vector<std::string> options) {
    ordered_json m{{"destination", at}, {"type", type}, {"source", type}};
    if (!options.empty()) m["options"] = options;
    s["mounts"].push_back(m);
  };
  mount("/proc", "proc", {});
  mount("/dev", "tmpfs", {"nosuid", "mode=755", "size=65536k"});
  mount("/dev/shm", "tmpfs", {"nosuid", "nodev", "mode=1777", "size=65536k"});
  for (const char* type : {"pid", "ipc", "uts", "mount", "network"}) s["linux"]["namespaces"].push_back({{"type", type}});
  if (job.cpus.kind == Cpus::Kind::quota) s["linux"]["resources"]["cpu"] = {{"quota", quota_us(job.cpus)}, {"period", kPeriod}};
  return s.dump(1);
}

Contestant::Contestant(RuntimeSpec spec, std::string scratch) : spec_(std::move(spec)), scratch_(std::move(scratch)) {}

std::vector<std::string> Contestant::argv(std::vector<std::string> words) const {
  std::vector<std::string> out = spec_.command;
  out.insert(out.end(), {"--root", scratch_ + "/state"});
  out.insert(out.end(), words.begin(), words.end());
  return out;
}

std::string Contestant::prepare(const Job& job) {
  std::string id = base::format("caisson-bench-{}-{}-{}", ::getpid(), name(), ++count_);
  ::mkdir(directory(id).c_str(), 0755);
  IGNORE_ERROR(host::replace_file(directory(id) + "/config.json", bundle_config(job), 0644), "the runtime says that it is missing");
  return id;
}

void Contestant::forget(const std::string& id) {
  there_.erase(id);
  IGNORE_ERROR(container::remove_tree(AT_FDCWD, directory(id).c_str()), "it goes with the scratch directory");
}

Output Contestant::run(const Job& job) {
  if (!has_life()) return chrooted(job);
  std::string id = prepare(job);
  there_.insert(id);
  How how;
  how.first_cpu = job.cpus.kind == Cpus::Kind::one;
  auto out = bench::run(argv({"run", "--bundle", directory(id), id}), how, kLongRun);
  if (!out.ok()) end({id});
  else forget(id);
  return out;
}

std::vector<Output> Contestant::each(const std::vector<std::string>& ids, const std::function<std::vector<std::string>(const std::string&)>& words) {
  double began = now_ns();
  std::vector<Child> children;
  How how;
  for (auto& id : ids) {
    how.output = output(id);
    children.push_back(start(argv(words(id)), how));
  }
  auto out = wait_all(std::move(children), began, kPatience);
  for (size_t i = 0; i < out.size(); i++) {
    if (!out[i].ok()) out[i].err = host::read_file(output(ids[i])).value_or("");
  }
  return out;
}

std::vector<Output> Contestant::create(const std::vector<std::string>& ids) {
  there_.insert(ids.begin(), ids.end());
  return each(ids, [&](auto& id) { return std::vector<std::string>{"create", "--bundle", directory(id), id}; });
}
std::vector<Output> Contestant::begin(const std::vector<std::string>& ids) {
  return each(ids, [](auto& id) { return std::vector<std::string>{"start", id}; });
}
Output Contestant::exec(const std::string& id, const std::vector<std::string>& args) {
  std::vector<std::string> words{"exec", id};
  words.insert(words.end(), args.begin(), args.end());
  return bench::run(argv(words), {}, kPatience);
}
std::vector<Output> Contestant::remove(const std::vector<std::string>& ids) {
  auto out = each(ids, [](auto& id) { return std::vector<std::string>{"delete", "--force", id}; });
  for (size_t i = 0; i < ids.size(); i++) {
    if (out[i].ok()) forget(ids[i]);
  }
  return out;
}

std::string Contestant::hold(const Job& job, int count, std::vector<std::string>* ids) {
  for (int i = 0; i < count; i++) ids->push_back(prepare(job));
  if (!has_life()) {
    for (auto& id : *ids) {
      auto how = chroot_how(job);
      how.output = output(id);
      start(job.args, how);
    }
  } else {
    // A few at a time, as a node would.
    for (size_t at = 0; at < ids->size() && !stopped(); at += 5) {
      std::vector<std::string> some(ids->begin() + static_cast<long>(at), ids->begin() + static_cast<long>(std::min(at + 5, ids->size())));
      for (auto step : {&Contestant::create, &Contestant::begin}) {
        for (auto& o : (this->*step)(some)) {
          if (!o.ok()) return o.problem();
        }
      }
    }
  }
  double end = now_ns() + kPatience * 1e9;
  for (auto& id : *ids) {
    while (host::read_file(output(id)).value_or("").find("ready") == std::string::npos) {
      if (stopped()) return "stopped";
      if (now_ns() > end) return base::format("{} did not say that it is ready: {}", id, host::read_file(output(id)).value_or("").substr(0, 300));
      rest(20);
    }
  }
  return "";
}

void Contestant::end(const std::vector<std::string>& ids) {
  if (has_life()) {
    remove(ids);
  } else {
    end_descendants();
  }
}

void Contestant::clean_up() {
  for (auto& id : std::vector<std::string>(there_.begin(), there_.end())) {
    auto words = argv({"delete", "--force", id});
    // ^C ends what is waited for; this has to be done all the same.
    int pid = start(words, {}).pid;
    for (int i = 0; i < 3000 && pid > 0; i++) {
      int gone;
      while ((gone = ::waitpid(-1, nullptr, WNOHANG)) > 0 && gone != pid) {  // its processes too: it may wait for them to be gone
      }
      if (gone != 0) break;
      host::sleep_us(10000);
    }
  }
}

void remove_left_groups() {
  std::string prefix = base::format("caisson-bench-{}-", ::getpid());
  for (auto& h : host::find_hierarchies()) {
    std::string top = h.mount_point + h.own + "/";
    std::vector<std::string> left;
    if (DIR* d = ::opendir(top.c_str())) {
      while (dirent* e = ::readdir(d)) {
        if (std::string_view(e->d_name).substr(0, prefix.size()) == prefix) left.push_back(top + e->d_name);
      }
      ::closedir(d);
    }
    if (!left.empty()) IGNORE_ERROR(host::remove_cgroups(left, left, 5000), "empty groups are left");
  }
}

How Contestant::chroot_how(const Job& job) const {
  How how;
  how.first_cpu = job.cpus.kind == Cpus::Kind::one;
  how.enter = [root = job.root]() -> const char* {
    if (::unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) != 0) return "unshare";
    if (::mount("proc", (root + "/proc").c_str(), "proc", 0, nullptr) != 0) return "mount /proc";
    if (::mount("/dev", (root + "/dev").c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) return "mount /dev";
    if (::chroot(root.c_str()) != 0 || ::chdir("/") != 0) return "chroot";
    ::setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    ::setenv("LC_ALL", "C.UTF-8", 1);
    ::setenv("HOME", "/root", 1);
    return nullptr;
  };
  return how;
}

Output Contestant::chrooted(const Job& job) {
  How how = chroot_how(job);
  if (job.cpus.kind != Cpus::Kind::quota) {
    auto out = bench::run(job.args, how, kLongRun);
    end_descendants();
    return out;
  }
  host::CgroupLimits limits;
  limits.cpu_quota = quota_us(job.cpus);
  limits.cpu_period = kPeriod;
  auto groups = host::Cgroups::create(host::find_hierarchies(), "", base::format("caisson-bench-{}-{}", ::getpid(), ++count_), limits, true);
  if (!groups.ok()) {
    Output failed;
    failed.status = 1 << 8;
    failed.err = groups.error().text();
    return failed;
  }
  how.enter = [&, inner = how.enter]() -> const char* {
    if (!groups->join_v1().ok()) return "join the control groups";
    if (groups->v2_leaf() >= 0) {
      auto procs = base::sys::openat(groups->v2_leaf(), "cgroup.procs", O_WRONLY);
      if (!procs.ok() || !base::sys::write(procs->get(), "0", 1).ok()) return "join the control group";
    }
    return inner();
  };
  auto out = bench::run(job.args, how, kLongRun);
  end_descendants();
  IGNORE_ERROR(host::remove_cgroups(groups->leaves(), groups->made(), 5000), "an empty group is left");
  return out;
}

}  // namespace runtime::bench

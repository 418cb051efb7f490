// SPDX-License-Identifier: Apache-2.0
// One container and the processes that containerd started in it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/container/lifecycle.h"
#include "runtime/host/cgroup_stats.h"
#include "shim/proto/events.pb.h"
#include "shim/proto/task.pb.h"
#include "shim/rpc/server.h"
#include "shim/task/mounts.h"
#include "shim/task/oom.h"
#include "shim/task/publisher.h"
#include "shim/task/relay.h"
#include "shim/task/sentry_link.h"
#include "shim/task/stdio.h"
#include "shim/task/worker.h"

namespace shim::task {

// What all containers of this shim share.
struct Host {
  rpc::Loop& loop;
  Workers& workers;
  Publisher& publisher;
  std::string space;      // containerd's namespace
  std::string root;       // directory of the state of its containers
  bool debug = false;
  std::string config;     // path of the configuration, "": the default one
};

// A call that is answered later: lambdas that wait for something must be copyable.
using Pending = std::shared_ptr<rpc::Call>;

enum class Stage { created, running, stopped };

struct Process {
  std::string exec_id;        // "": init
  StdioPaths paths;
  Stdio io;
  std::unique_ptr<Relay> relay;
  uint32_t pid = 0;           // what containerd is told: for init a process of the host, else the pid inside
  int inside = 0;             // what the sentry is told: 0 = init
  Stage stage = Stage::created;
  bool starting = false;
  std::optional<int> early;   // it ended before its start was answered: the wait(2) status
  uint32_t exit_status = 0;
  proto::Timestamp exited_at;
  std::vector<rpc::Call> waiters;
  base::wire::Process spec;   // of an exec
  uint16_t rows = 0, cols = 0;
  uint64_t open_timer = 0;    // until somebody reads its streams
};

class Container {
 public:
  Container(Host& host, std::string id, std::string bundle) : host_(host), id_(std::move(id)), bundle_(std::move(bundle)) {}
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  const std::string& id() const { return id_; }
  // Made, and not being made.
  bool ready() const { return link_ != nullptr; }
  // The process of the host that others are told of: the sandbox's, or the one that a member of a pod has for itself.
  uint32_t host_pid() const { return static_cast<uint32_t>(state_.told().pid); }
  Process& init() { return init_; }
  Process* find(const std::string& exec_id);
  size_t running() const;

  // done: false, and the call is answered with the error, when nothing was made.
  void create(const proto::CreateTaskRequest& q, Pending call, std::function<void(bool made)> done);
  void start(Process& p, Pending call);
  void exec(const proto::ExecProcessRequest& q, Pending call);
  void remove_exec(Process& p, Pending call);
  // gone: called, after the call was answered, when nothing is left of the container.
  void remove(Pending call, std::function<void()> gone);
  void describe(const Process& p, proto::StateResponse* out) const;
  void kill(Process& p, int signo, bool all, Pending call);
  void wait(Process& p, rpc::Call call);
  void pids(Pending call);
  void freeze(bool on, Pending call);
  void resize(Process& p, uint32_t rows, uint32_t cols, Pending call);
  void close_stdin(Process& p);
  void update(const std::string& resources, Pending call);
  void stats(Pending call);
  // A child of this process ended that may be the sandbox.
  void reaped(int pid, int status);

 private:
  void make(const proto::CreateTaskRequest& q, Pending call, std::string logger, std::function<void(bool made)> done);
  void adopt(Outcome made);
  void await(Process& p);
  void ended(Process& p, int wait_status);
  void sandbox_gone();
  void started(Process& p, const Pending& call);
  void start_exec(Process& p, const Pending& call);
  void run_exec(Process& p, const Pending& call);
  // Opens the streams once somebody reads them, or when a while has passed in vain.
  using Opened = std::function<void(base::ResultX<Stdio>)>;
  void open_streams(Process& p, const StdioPaths& paths, int64_t until_ms, Opened done);
  void hear_words();
  void fail_not_running(const Process& p, const Pending& call) const;
  // One change at a time; false: another is being made, and the call is answered so.
  bool begin_change(const Pending& call);

  Host& host_;
  const std::string id_, bundle_;
  runtime::container::State state_;
  std::optional<runtime::container::Directory> directory_;
  std::optional<runtime::container::Root> root_;
  std::unique_ptr<SentryLink> link_;
  std::unique_ptr<OomWatch> oom_;
  std::optional<runtime::host::CgroupReader> figures_;  // once somebody has asked
  Process init_;
  std::map<std::string, std::unique_ptr<Process>> execs_;
  std::vector<std::unique_ptr<Relay>> lingering_;  // of execs that were removed
  std::vector<RootMount> mounts_;
  base::Fd words_;
  std::string line_;
  uint64_t words_watch_ = 0, reap_timer_ = 0;
  std::optional<int> sentry_status_;
  bool changing_ = false, paused_ = false, hooks_ = false, reaping_ = false, v2_ = false;
};

}  // namespace shim::task

// SPDX-License-Identifier: Apache-2.0
// The one thread of the shim: descriptors, timers and things to do next. Nothing called from here may block; what
// might is done by a worker (shim/task/worker.h).
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace shim::rpc {

class Loop {
 public:
  using Handler = std::function<void(uint32_t events)>;
  using Task = std::function<void()>;

  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // The descriptor stays the caller's, who ends the watch before closing it. The id of the watch, never 0.
  base::Result<uint64_t> watch(int fd, uint32_t events, Handler handler);
  void change(uint64_t id, uint32_t events);
  void unwatch(uint64_t id);  // also from within its handler, and for 0
  // Once, in ms milliseconds. The id for cancel(), never 0.
  uint64_t after(int64_t ms, Task task);
  void cancel(uint64_t timer);  // also for one that has run, and for 0
  // When what runs now has returned.
  void post(Task task);

  void run();   // until stop()
  void stop() { stopping_ = true; }
  void resume() { stopping_ = false; }  // so that run() can be called again

 private:
  struct Watch {
    int fd;
    Handler handler;
  };
  void run_due();
  int wait_ms() const;

  base::Fd epoll_;
  std::map<uint64_t, Watch> watches_;
  std::vector<std::map<uint64_t, Watch>::node_type> ended_;  // a handler may end its own watch while it runs
  std::multimap<int64_t, std::pair<uint64_t, Task>> timers_;
  std::vector<Task> posted_;
  uint64_t next_id_ = 1;
  bool stopping_ = false;
};

}  // namespace shim::rpc

// SPDX-License-Identifier: Apache-2.0
// The processes of a container that control requests started. A process is known by its number until its end was told, and a little longer.
#include "sentry/boot/container.h"
#include "sentry/kernel/task.h"

namespace sentry::boot {
namespace {

constexpr size_t kKeptUntold = 1024, kKeptTold = 16;

}  // namespace

void Running::add(Ref<kernel::ThreadGroup> g, RefOrNull<kernel::TtyLink> tty) {
  std::map<int, Other>::node_type gone, reused;  // let go outside the lock
  others_.with([&](Others& o) {
    auto& all = o.by_pid;
    reused = all.extract(g->pid());
    if (all.size() >= kKeptUntold + kKeptTold) {
      auto oldest = all.end();
      for (auto it = all.begin(); it != all.end(); ++it) {
        if (it->second.group->exit_status() && (oldest == all.end() || it->second.number < oldest->second.number)) oldest = it;
      }
      if (oldest != all.end()) gone = all.extract(oldest);
    }
    int pid = g->pid();
    all.emplace(pid, Other{std::move(g), std::move(tty), o.next++});
  });
}

void Running::told(int pid) {
  std::map<int, Other>::node_type gone;
  others_.with([&](Others& o) {
    auto it = o.by_pid.find(pid);
    if (it == o.by_pid.end() || it->second.told) return;
    it->second.told = true;
    size_t n = 0;
    auto oldest = o.by_pid.end();
    for (it = o.by_pid.begin(); it != o.by_pid.end(); ++it) {
      if (!it->second.told) continue;
      n++;
      if (oldest == o.by_pid.end() || it->second.number < oldest->second.number) oldest = it;
    }
    if (n > kKeptTold) gone = o.by_pid.extract(oldest);
  });
}

RefOrNull<kernel::TtyLink> Running::terminal(int pid) const {
  if (pid == 0 || pid == init_->pid()) return init_tty_;
  return others_.with([&](Others& o) -> RefOrNull<kernel::TtyLink> {
    auto it = o.by_pid.find(pid);
    return it == o.by_pid.end() ? RefOrNull<kernel::TtyLink>() : it->second.tty;
  });
}

RefOrNull<kernel::ThreadGroup> Running::find(int pid) const {
  if (pid == 0 || pid == init_->pid()) return init_;
  return others_.with([&](Others& o) -> RefOrNull<kernel::ThreadGroup> {
    auto it = o.by_pid.find(pid);
    return it == o.by_pid.end() ? RefOrNull<kernel::ThreadGroup>() : RefOrNull<kernel::ThreadGroup>(it->second.group);
  });
}

}  // namespace sentry::boot

// SPDX-License-Identifier: Apache-2.0
// Looked up by the namespace that all of them are in.
#include "sentry/kernel/container_life.h"

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

std::vector<Ref<ThreadGroup>> groups_of(const Container& c) {
  std::vector<Ref<ThreadGroup>> all = c.pids()->groups();
  std::erase_if(all, [&](const Ref<ThreadGroup>& g) { return &g->container() != &c; });
  return all;
}

void reap_dead(const Container& c) {
  std::vector<Ref<ThreadGroup>> all = groups_of(c);
  MutexLock l(task_set_lock);
  for (const Ref<ThreadGroup>& g : all) {
    ThreadGroup* parent = g->impl().parent;
    if (!g->impl().zombie || g->impl().reaped) continue;
    reap_locked(*g);
    if (parent) parent->impl().child_events.wake_all();
  }
}

}  // namespace sentry::kernel

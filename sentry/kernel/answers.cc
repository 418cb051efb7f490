// SPDX-License-Identifier: Apache-2.0
// Contexts change hands under the group's lock, so it orders all writers of a thread's answers.
#include "sentry/kernel/answers.h"

#include <linux/seccomp.h>

#include "sentry/kernel/internal.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

using platform::Answer;

// Its Context, unless a vfork child has it now.
platform::Context* own_context_locked(Task& t) {
  return t.impl().lending ? nullptr : TaskAccess::context(t).get();
}

// The values, as far as a filter lets them pass unseen.
void publish_locked(Task& t, platform::Context& c, const SeccompFilter* filter) {
  const ThreadGroup::Impl& g = t.group().impl();
  const auth::Credentials& cred = t.own_credentials();
  const bool own_ids = !cred.user_ns;  // others are shown by a map that may be yet to come
  for (const AnsweredCall& a : kAnsweredCalls) {
    bool known = !filter || filter->always_allows(a.number);
    uint32_t value = 0;
    switch (a.answer) {
      case Answer::pid: value = static_cast<uint32_t>(g.pid.load()); break;
      case Answer::tid: value = static_cast<uint32_t>(t.tid()); break;
      case Answer::ppid: value = static_cast<uint32_t>(g.ppid.load()); break;
      case Answer::uid: value = cred.uid, known &= own_ids; break;
      case Answer::euid: value = cred.euid, known &= own_ids; break;
      case Answer::gid: value = cred.gid, known &= own_ids; break;
      case Answer::egid: value = cred.egid, known &= own_ids; break;
      default: break;
    }
    if (known) c.answer(a.answer, value);
    else c.ask_about(a.answer);
  }
}

}  // namespace

void publish_answers(Task& t) {
  for (;;) {
    RefOrNull<SeccompFilter> filter = filter_of(t);
    {
      MutexLock l(t.group().impl().mu);
      platform::Context* c = own_context_locked(t);
      if (!c) return;
      if (traced(t) || t.kernel().calls().sees_all() || t.impl().seccomp_mode.load() == SECCOMP_MODE_STRICT) c->ask_about_all();
      else publish_locked(t, *c, filter.get());
    }
    if (filter_of(t).get() == filter.get()) return;  // else another thread has just changed it (SECCOMP_FILTER_FLAG_TSYNC)
  }
}

void withdraw_answers(Task& t) {
  MutexLock l(t.group().impl().mu);
  if (platform::Context* c = own_context_locked(t)) c->ask_about_all();
}

void publish_parent(ThreadGroup& g) {
  MutexLock l(g.impl().mu);
  for (const Ref<Task>& t : g.impl().tasks)
    if (platform::Context* c = own_context_locked(*t); c && c->answers(Answer::ppid))
      c->answer(Answer::ppid, static_cast<uint32_t>(g.impl().ppid.load()));
}

bool waits_by_itself(Task& t) {
  MutexLock l(t.group().impl().mu);
  platform::Context* c = own_context_locked(t);
  return c && c->waits_by_itself();
}

}  // namespace sentry::kernel

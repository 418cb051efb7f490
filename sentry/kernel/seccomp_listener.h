// SPDX-License-Identifier: Apache-2.0
// SECCOMP_RET_USER_NOTIF: calls that another process decides, over a descriptor. man 2 seccomp_unotify.
#pragma once

#include "sentry/kernel/seccomp.h"

namespace sentry::kernel {

struct Notification;

// Held by: the filter it belongs to, its descriptor.
class SeccompListener : public RefCounted<SeccompListener> {
 public:
  explicit SeccompListener(bool killable) : killable_(killable) {}
  // The supervisor's descriptor.
  static Ref<vfs::File> make_file(Ref<SeccompListener> l, const Ref<auth::Credentials>& cred);
  // Asks and waits. Nothing: the call is to be made.
  std::optional<Result<long>> ask(Task& t, const platform::Call& call);
  void filter_gone();

 private:
  friend class RefCounted<SeccompListener>;
  friend class ListenerFile;
  ~SeccompListener() = default;
  Notification* find_locked(uint64_t id) REQUIRES(mu_);
  const bool killable_;
  Mutex mu_{LockRank::kFilePrivate};
  std::list<Notification*> asked_ GUARDED_BY(mu_);
  uint64_t next_id_ GUARDED_BY(mu_) = 1;
  bool closed_ GUARDED_BY(mu_) = false, orphan_ GUARDED_BY(mu_) = false;
  sched::WaitQueue queue_;    // the supervisor
  sched::WaitQueue answers_;  // who asked
};

}  // namespace sentry::kernel

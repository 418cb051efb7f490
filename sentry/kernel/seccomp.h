// SPDX-License-Identifier: Apache-2.0
// seccomp(2) for applications: filters of their own, evaluated here for each call. Linux: kernel/seccomp.c.
#pragma once

#include <linux/filter.h>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

class SeccompListener;

// One program and those that were installed before it. Held by: tasks, newer filters.
class SeccompFilter : public RefCounted<SeccompFilter> {
 public:
  // EINVAL: Linux would not take the program; ENOMEM: the chain gets too long.
  static Result<Ref<SeccompFilter>> create(std::vector<sock_filter> program, RefOrNull<SeccompFilter> older, bool log);
  const std::vector<sock_filter>& program() const { return program_; }
  const RefOrNull<SeccompFilter>& older() const { return older_; }
  bool logs() const { return log_; }
  RefOrNull<SeccompListener> listener() const;
  void set_listener(RefOrNull<SeccompListener> l);  // before anybody else sees it
  bool has_listener() const;  // it, or an older one
  int length() const { return count_; }
  // Credentials that TSYNC has replaced in another thread, whose fiber may use them just now: they live as long as it has the filter.
  void keep(Ref<auth::Credentials> old) { kept_.push_back(std::move(old)); }
  bool is_same_or_older_than(const SeccompFilter* other) const;
  // It and the older ones let this call pass whatever its arguments. Found out once.
  bool always_allows(uint64_t number) const;

 private:
  friend class RefCounted<SeccompFilter>;
  SeccompFilter(std::vector<sock_filter> program, RefOrNull<SeccompFilter> older, bool log);
  ~SeccompFilter();
  const std::vector<sock_filter> program_;
  RefOrNull<SeccompFilter> older_;
  const bool log_;
  RefOrNull<SeccompListener> listener_;
  std::vector<Ref<auth::Credentials>> kept_;  // filled by the thread that installs it
  int count_ = 1;
  enum Known : uint8_t { unknown, allowed, depends };
  mutable std::array<std::atomic<Known>, platform::kMaxCallNumber> known_{};
  size_t instructions_ = 0;
};

// What the task's mode and filters say to a call. Nothing: it is made. Else its result (or keep_registers is set). Parks.
std::optional<Result<long>> seccomp_check(Task& t, platform::Call* call);

Result<long> seccomp_set_strict(Task& t);
// flags: SECCOMP_FILTER_FLAG_*; program: struct sock_fprog of the application.
Result<long> seccomp_set_filter(Task& t, uint64_t flags, uint64_t program);
int seccomp_filter_count(Task& t);
RefOrNull<SeccompFilter> filter_of(Task& t);
// A new thread that others know of already: what its maker was given by SECCOMP_FILTER_FLAG_TSYNC since it was copied is for it too.
void inherit_filters_again(Task& maker, Task& thread);
// It may do less than its container's filter lets all of its tasks do.
bool is_confined(Task& t);

}  // namespace sentry::kernel

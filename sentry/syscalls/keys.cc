// SPDX-License-Identifier: Apache-2.0
// add_key(2), request_key(2), keyctl(2); the work is in kernel/keys.cc.
#include "sentry/kernel/keys.h"

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxType = 32, kMaxDescription = 4096, kMaxPayload = (1 << 20) - 1, kLongestPayload = 32768;

Result<std::string> text(Task& task, UserString s, size_t limit) {
  Result<std::string> r = s.copy_in(task.context(), limit);
  if (!r.ok() && r.error() == kENAMETOOLONG) return kEINVAL;
  return r;
}

}  // namespace

Result<long> sys_add_key(Task& task, UserString type, UserString description, UserIn<void> payload, size_t size, int ring) {
  if (size > kMaxPayload) return kEINVAL;
  const std::string type_text = TRY(text(task, type, kMaxType));
  const std::string name = description.is_null() ? std::string() : TRY(text(task, description, kMaxDescription));
  if (size > kLongestPayload) return kEINVAL;
  std::string bytes(payload.is_null() ? 0 : size, '\0');
  if (!bytes.empty()) TRY(payload.copy_bytes_in(task.context(), bytes.data(), bytes.size()));
  return task.kernel().impl().keys->add(task, type_text, name, std::move(bytes), ring);
}

Result<long> sys_request_key(Task& task, UserString type, UserString description, UserString callout, int ring) {
  const std::string type_text = TRY(text(task, type, kMaxType)), name = TRY(text(task, description, kMaxDescription));
  if (!callout.is_null()) (void)TRY(text(task, callout, kMaxDescription));
  return task.kernel().impl().keys->request(task, type_text, name, ring);
}

Result<long> sys_keyctl(Task& task, int operation, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return task.kernel().impl().keys->control(task, operation, a, b, c, d);
}

}  // namespace sentry::syscalls

// SPDX-License-Identifier: Apache-2.0
// The parts of the sentry-gofer protocol that both sides share as code.
#include "base/wire/gofer.h"

namespace base::wire::gofer {

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxName || name == "." || name == "..") return false;
  for (char c : name)
    if (c == '/' || c == '\0') return false;
  return true;
}

std::vector<std::byte> encode_error(uint64_t tag, Errno error) {
  return encode(ReplyHeader{tag, error.value()});
}

bool shared_xattr(std::string_view name) {
  return (name.size() > 5 && name.starts_with("user.")) || name == "security.capability" ||
         name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

Result<uint64_t> reply_tag(std::span<const std::byte> record) {
  Reader r(record);
  ReplyHeader h;
  r(h);
  if (r.bad()) return kEBADMSG;
  return h.tag;
}

}  // namespace base::wire::gofer

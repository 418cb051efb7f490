// SPDX-License-Identifier: Apache-2.0
// Extended attributes in memory. Linux: fs/xattr.c simple_xattr_*.
#include "sentry/fs/common/xattrs.h"

#include <sys/xattr.h>

namespace sentry::fs::common {
namespace {
constexpr size_t kMaxBytes = 128 * 1024;
}

bool XattrStore::supported(const std::string& name) {
  return name.starts_with("user.") || name.starts_with("trusted.") || name.starts_with("security.");
}

Result<std::string> XattrStore::get(const std::string& name) const {
  if (!supported(name)) return kEOPNOTSUPP;
  return state_.with([&](const State& s) -> Result<std::string> {
    auto it = s.values.find(name);
    if (it == s.values.end()) return kENODATA;
    return it->second;
  });
}

Result<void> XattrStore::set(const std::string& name, std::string_view value, int flags) {
  if (!supported(name)) return kEOPNOTSUPP;
  return state_.with([&](State& s) -> Result<void> {
    auto it = s.values.find(name);
    if (it != s.values.end() && (flags & XATTR_CREATE)) return kEEXIST;
    if (it == s.values.end() && (flags & XATTR_REPLACE)) return kENODATA;
    size_t old = it == s.values.end() ? 0 : name.size() + it->second.size();
    if (s.bytes - old + name.size() + value.size() > kMaxBytes) return kENOSPC;
    s.bytes += name.size() + value.size() - old;
    s.values[name] = std::string(value);
    return {};
  });
}

std::vector<std::string> XattrStore::list() const {
  return state_.with([](const State& s) {
    std::vector<std::string> out;
    for (const auto& [name, value] : s.values) out.push_back(name);
    return out;
  });
}

Result<void> XattrStore::remove(const std::string& name) {
  if (!supported(name)) return kEOPNOTSUPP;
  return state_.with([&](State& s) -> Result<void> {
    auto it = s.values.find(name);
    if (it == s.values.end()) return kENODATA;
    s.bytes -= name.size() + it->second.size();
    s.values.erase(it);
    return {};
  });
}

}  // namespace sentry::fs::common

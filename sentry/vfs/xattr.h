// SPDX-License-Identifier: Apache-2.0
// Extended attributes with the checks of who may. Linux: fs/xattr.c xattr_permission, security/commoncap.c.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sentry/vfs/dentry.h"

namespace sentry::vfs {

Result<std::string> get_xattr(const Path& path, const std::string& name, const auth::Credentials& cred);
Result<void> set_xattr(const Path& path, const std::string& name, std::string_view value, int flags,
                       const auth::Credentials& cred);
// What cred may see (trusted. only with CAP_SYS_ADMIN).
Result<std::vector<std::string>> list_xattr(const Path& path, const auth::Credentials& cred);
Result<void> remove_xattr(const Path& path, const std::string& name, const auth::Credentials& cred);

}  // namespace sentry::vfs

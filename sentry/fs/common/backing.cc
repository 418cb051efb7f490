// SPDX-License-Identifier: Apache-2.0
// Backing files that are memfds.
#include "sentry/fs/common/backing.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <string>

#include "base/sys.h"

namespace sentry::fs::common {
namespace {

class MemfdBacking final : public BackingSource {
 public:
  Result<BackingFds> create() override {
    BackingFds b;
    b.rw = TRY(sys::memfd_create("caisson-backing", MFD_CLOEXEC));
    b.ro = TRY(sys::open(("/proc/self/fd/" + std::to_string(b.rw.get())).c_str(), O_RDONLY | O_CLOEXEC));
    b.in_memory = true;
    return b;
  }
};

}  // namespace

std::shared_ptr<BackingSource> memfd_backing() { return std::make_shared<MemfdBacking>(); }

}  // namespace sentry::fs::common

// SPDX-License-Identifier: Apache-2.0
// The generated program, installed.
#include "gofer/filter.h"

#include <malloc.h>

#include "seccomp-profiles/gofer.h"
#include "seccomp-profiles/install.h"

namespace gofer {

base::Result<void> install_filter() {
#ifdef CAISSON_SANITIZED
  return {};  // the sanitizers' own calls are none of the profile's
#endif
  seccomp_profiles::prepare_libc();
  // One thread has the main arena alone, which shrinks by brk and reads no file for it.
  ::mallopt(M_TRIM_THRESHOLD, 128 * 1024);
  auto r = seccomp_profiles::install(seccomp_profiles::gofer::kProgram, 0);
  if (!r.ok()) return r.error();
  return {};
}

}  // namespace gofer

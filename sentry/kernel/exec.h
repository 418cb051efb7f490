// SPDX-License-Identifier: Apache-2.0
// exec: a new program in a task, or in a process that is being made. Linux: fs/exec.c.
#pragma once

#include "sentry/kernel/loader/loader.h"

namespace sentry::kernel {

// A loaded program in a fresh stub, not yet anybody's.
struct NewImage {
  Ref<platform::Context> context;
  Ref<mm::AddressSpace> space;
  Ref<vfs::File> program;
  Ref<auth::Credentials> credentials;
  std::string filename;
  LoadedProgram start;
  bool ids_changed = false;  // privileges were gained: AT_SECURE
  bool dumpable = true;
  RefOrNull<auth::UserNamespace> user_ns;  // in which somebody may look at it although it is not dumpable
};

// Opens programs and interpreters as one task sees files.
class WalkOpener final : public ProgramOpener {
 public:
  explicit WalkOpener(vfs::WalkContext c) : context_(std::move(c)) {}
  Result<Ref<vfs::File>> open_program(std::string_view path) override { return open_flags(path, vfs::kFollow); }
  Result<Ref<vfs::File>> open_flags(std::string_view path, unsigned walk_flags);
  const vfs::WalkContext& context() const { return context_; }

 private:
  vfs::WalkContext context_;
};

// With whom patched code is shared: nobody while ids differ, as then not everybody with one of them may trace the process.
patch::Domain patch_domain(const Container& c, const auth::Credentials& cred);

// The fresh stub is handled by the calling fiber until set_fiber() says otherwise. Parks. After an error nothing is left.
Result<NewImage> build_image(Container& container, ProgramOpener& opener, ExecRequest request,
                             const Ref<auth::Credentials>& old, const std::array<rlimit64, RLIM_NLIMITS>& limits,
                             bool randomize, bool may_gain = true,  // may_gain: set-id bits and file capabilities count
                             const vfs::MountNamespace* mounts = nullptr,  // in which they do; null: wherever it was found
                             bool host_clocks = true);  // the vDSO tells the right time
// Registers of a program's first instruction.
arch::Registers first_registers(const LoadedProgram& p);

struct ExecArgs {
  int dirfd = AT_FDCWD;
  std::string path;
  int flags = 0;  // AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
  std::vector<std::string> args, env;
};
// execve: on success the task's registers are the new program's and the call has no result.
Result<void> exec_task(Task& t, ExecArgs args);

}  // namespace sentry::kernel

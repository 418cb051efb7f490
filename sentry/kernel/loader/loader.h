// SPDX-License-Identifier: Apache-2.0
// exec's loader: from an opened program to a process that can run. Linux: fs/exec.c, fs/binfmt_script.c, fs/binfmt_elf.c.
//
// Two steps, because the credentials of the new program depend on the file that is run in the end:
//   resolve_program()  follows "#!" lines; touches no process.
//   load_program()     maps it into a fresh process and builds its stack.
// Differs from Linux: there is no point of no return before load_program() has succeeded: every error is execve's result.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/auth/credentials.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/address_space.h"
#include "sentry/vfs/file.h"

namespace sentry::kernel {

// Opens an interpreter (of a script, or PT_INTERP) as execve opens a program: path walk of the calling task, regular file,
// execute permission, no MS_NOEXEC, readable by the kernel whatever its read permission. Linux: open_exec.
class ProgramOpener {
 public:
  virtual Result<Ref<vfs::File>> open_program(std::string_view path) = 0;

 protected:
  ~ProgramOpener() = default;
};

struct ExecRequest {
  Ref<vfs::File> program;   // opened as ProgramOpener opens
  std::string filename;     // as execve was given it; execveat(fd, ""): "/dev/fd/N"
  std::vector<std::string> args, env;
  // The name cannot be opened by an interpreter (an O_CLOEXEC descriptor of execveat): scripts answer ENOENT.
  bool path_inaccessible = false;
};

// What will run. filename stays the script's: it gives AT_EXECFN and the task's name.
struct ResolvedProgram {
  Ref<vfs::File> file;      // the ELF file: /proc/PID/exe; its set-id bits count. The caller denies writes while it runs.
  std::string filename;
  std::vector<std::string> args, env;
  std::string head;         // the file's first bytes, as they were read once
};

// Follows scripts (as deep as Linux: ELOOP). ENOEXEC: neither script nor ELF. Errors of opening interpreters. Parks.
// No arguments at all become one empty one.
Result<ResolvedProgram> resolve_program(ExecRequest request, ProgramOpener& opener);

struct LoadParameters {
  const auth::Credentials& credentials;  // of the new program, set-id bits applied
  bool secure = false;                   // AT_SECURE: ids or capabilities were gained
  mm::Limits limits;                     // soft limits; stack bounds arguments (1/4) and the stack's growth
  std::array<uint64_t, 8> random;        // for AT_RANDOM and addresses
  bool randomize = true;                 // false: personality(ADDR_NO_RANDOMIZE)
  uint64_t vvar_address = 0, vdso_address = 0, vdso_length = 0;  // of the Zygote
};

// Maps the program (and its PT_INTERP) into `space`, the empty list of the fresh process, builds the stack, sets brk, limits,
// layout and the facts for /proc (arg_start …, auxv, executable). The caller sets the registers: rip, rsp, all others 0.
// Errors: ENOEXEC, EINVAL, ENOMEM, E2BIG, ELIBBAD, EACCES, those of the opener and of reading. Parks. After an error the fresh
// process is of no use.
Result<LoadedProgram> load_program(platform::Context& fresh, mm::AddressSpace& space, const ResolvedProgram& program,
                                   ProgramOpener& opener, const LoadParameters& p);

// Bytes that arguments and environment may take together (strings and pointers), by RLIMIT_STACK: E2BIG beyond. For callers
// that copy them in: one string is at most kMaxArgString bytes with its NUL.
inline constexpr size_t kMaxArgString = 128 * 1024;
uint64_t max_argument_bytes(uint64_t stack_limit);

}  // namespace sentry::kernel

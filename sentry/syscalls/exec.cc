// SPDX-License-Identifier: Apache-2.0
// execve(2), execveat(2): arguments come in here, the rest is kernel/exec.cc.
#include "sentry/kernel/exec.h"

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxStrings = 0x7fffffff / 8;

// Reads strings that usually lie side by side, a block at a time.
class StringReader {
 public:
  explicit StringReader(platform::Context& c) : context_(c), block_(16 * 1024) {}
  // E2BIG past kMaxArgString.
  Result<std::string> read(uint64_t addr) {
    std::string s;
    for (;;) {
      if (addr < base_ || addr >= base_ + length_) {
        length_ = TRY(context_.copy_in_some(block_.data(), addr, block_.size()));
        base_ = addr;
      }
      const char* from = block_.data() + (addr - base_);
      size_t left = base_ + length_ - addr;
      size_t n = strnlen(from, left);
      s.append(from, n);
      if (s.size() >= kernel::kMaxArgString) return kE2BIG;
      if (n < left) return s;
      addr += n;
    }
  }

 private:
  platform::Context& context_;
  std::vector<char> block_;
  uint64_t base_ = 0;
  size_t length_ = 0;
};

// A NULL-terminated array of strings; null itself counts as empty. *budget: bytes that may still come.
Result<std::vector<std::string>> read_strings(Task& task, StringReader& reader, UserIn<uint64_t> array, uint64_t* budget) {
  std::vector<std::string> strings;
  if (array.is_null()) return strings;
  uint64_t at = array.unchecked_address();
  uint64_t pointers[64];
  for (;;) {
    size_t bytes = TRY(task.context().copy_in_some(pointers, at, sizeof pointers));
    if (bytes < sizeof pointers[0]) return kEFAULT;
    for (size_t i = 0; i < bytes / sizeof pointers[0]; i++) {
      if (pointers[i] == 0) return strings;
      if (strings.size() >= kMaxStrings) return kE2BIG;
      strings.push_back(TRY(reader.read(pointers[i])));
      uint64_t cost = strings.back().size() + 1 + sizeof(uint64_t);
      if (cost > *budget) return kE2BIG;
      *budget -= cost;
      if (task.exiting()) return kERESTARTNOINTR;
    }
    at += bytes / sizeof pointers[0] * sizeof pointers[0];
  }
}

Result<long> execute(Task& task, int dirfd, UserString path, UserIn<uint64_t> argv, UserIn<uint64_t> envp, int flags) {
  kernel::ExecArgs a;
  a.dirfd = dirfd;
  a.flags = flags;
  a.path = TRY(path.copy_in(task.context()));
  uint64_t budget = kernel::max_argument_bytes(task.rlimit(RLIMIT_STACK));
  StringReader reader(task.context());
  a.args = TRY(read_strings(task, reader, argv, &budget));
  a.env = TRY(read_strings(task, reader, envp, &budget));
  TRY(kernel::exec_task(task, std::move(a)));
  return 0L;
}

}  // namespace

Result<long> sys_execve(Task& task, UserString path, UserIn<uint64_t> argv, UserIn<uint64_t> envp) {
  return execute(task, AT_FDCWD, path, argv, envp, 0);
}

Result<long> sys_execveat(Task& task, int dirfd, UserString path, UserIn<uint64_t> argv, UserIn<uint64_t> envp, int flags) {
  return execute(task, dirfd, path, argv, envp, flags);
}

}  // namespace sentry::syscalls

// SPDX-License-Identifier: Apache-2.0
// Building the first stack.
#include "sentry/kernel/loader/stack.h"

#include <elf.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/loader/loader.h"

namespace sentry::kernel {

namespace {

constexpr char kPlatform[] = "x86_64";

// Bytes that strings take with their NULs; E2BIG as soon as they pass the limit.
Result<void> add_strings(const std::vector<std::string>& strings, uint64_t limit, uint64_t* total) {
  for (const std::string& s : strings) {
    if (s.size() + 1 > kMaxArgString) return kE2BIG;
    *total += s.size() + 1;
    if (*total > limit) return kE2BIG;
  }
  return {};
}

}  // namespace

uint64_t max_argument_bytes(uint64_t stack_limit) {
  // Linux: bprm_stack_limits(): a quarter of the stack, at most 6 MiB, at least 128 KiB.
  constexpr uint64_t kMost = (8ull << 20) / 4 * 3;
  return std::max<uint64_t>(128 * 1024, std::min(kMost, stack_limit / 4));
}

Result<StackImage> build_stack(const StackInput& in, uint64_t limit) {
  const auto& args = *in.args;
  const auto& env = *in.env;
  uint64_t pointers = (std::max<uint64_t>(args.size(), 1) + env.size()) * 8;
  if (pointers >= limit) return kE2BIG;
  uint64_t strings = 0;
  TRY(add_strings({*in.filename}, limit - pointers, &strings));
  TRY(add_strings(args, limit - pointers, &strings));
  TRY(add_strings(env, limit - pointers, &strings));

  // Downwards: eight zero bytes, strings, a gap, platform, random bytes, then the tables.
  uint64_t strings_at = in.top - 8 - strings;
  uint64_t at = (strings_at - in.jitter % 8192) & ~15ull;
  uint64_t platform_at = at - sizeof kPlatform;
  uint64_t random_at = (platform_at - 16) & ~15ull;
  uint64_t words = 1 + args.size() + 1 + env.size() + 1 + 2 * (in.auxv.size() + 4);
  uint64_t sp = (random_at - words * 8) & ~15ull;

  StackImage image;
  image.stack_pointer = sp;
  image.bytes.assign(in.top - sp, std::byte{0});
  auto put = [&](uint64_t address, const void* src, size_t n) { memcpy(image.bytes.data() + (address - sp), src, n); };
  uint64_t word_at = sp;
  auto word = [&](uint64_t v) {
    put(word_at, &v, 8);
    word_at += 8;
  };

  word(args.size());
  uint64_t string_at = strings_at;
  auto put_all = [&](const std::vector<std::string>& list) {
    for (const std::string& s : list) {
      word(string_at);
      put(string_at, s.c_str(), s.size() + 1);
      string_at += s.size() + 1;
    }
    word(0);
  };
  image.arg_start = string_at;
  put_all(args);
  image.arg_end = image.env_start = string_at;
  put_all(env);
  image.env_end = string_at;
  put(string_at, in.filename->c_str(), in.filename->size() + 1);
  put(platform_at, kPlatform, sizeof kPlatform);
  put(random_at, in.random.data(), 16);

  auto aux = [&](uint64_t key, uint64_t value) {
    image.auxv.push_back(key);
    image.auxv.push_back(value);
    word(key);
    word(value);
  };
  for (auto& [key, value] : in.auxv) aux(key, value);
  aux(AT_RANDOM, random_at);
  aux(AT_EXECFN, string_at);
  aux(AT_PLATFORM, platform_at);
  aux(AT_NULL, 0);
  return image;
}

}  // namespace sentry::kernel

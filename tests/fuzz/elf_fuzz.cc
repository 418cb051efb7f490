// SPDX-License-Identifier: Apache-2.0
// Fuzzing of what exec reads from a file: ELF headers and "#!" lines. Accepted plans must stay in bounds.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "sentry/kernel/loader/elf.h"
#include "sentry/kernel/loader/script.h"
#include "sentry/platform/platform.h"

using namespace sentry;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto bytes = std::as_bytes(std::span(data, size));
  auto script = kernel::parse_script({reinterpret_cast<const char*>(data), size});
  if (script.ok()) CHECK(script->interpreter.size() + script->argument.size() < kernel::kScriptHead);
  auto header = kernel::parse_elf_header(bytes);
  if (!header.ok()) return 0;
  uint64_t at = header->phdr_offset;
  size_t n = header->phdr_bytes();
  if (at > size || n > size - at) return 0;
  auto plan = kernel::parse_elf_segments(*header, bytes.subspan(at, n));
  if (!plan.ok()) return 0;
  CHECK(plan->low < plan->high && plan->high <= platform::kAppLimit && plan->end <= plan->high);
  CHECK((plan->align & (plan->align - 1)) == 0);
  for (const kernel::ElfSegment& s : plan->segments) {
    CHECK(s.file_offset >= 0 && s.file_start <= s.file_end && s.anon_start <= s.anon_end);
    CHECK(s.zero_from <= s.zero_to && s.zero_to - s.zero_from <= platform::kPageSize);
    if (s.file_end > s.file_start) CHECK(s.file_start >= plan->low && s.file_end <= plan->high);
    if (s.anon_end > s.anon_start) CHECK(s.anon_start >= plan->low && s.anon_end <= plan->high);
  }
  if (plan->interpreter) CHECK(plan->interpreter->size >= 2 && plan->interpreter->size <= 4096);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// libFuzzer: config.json and the process object. Whatever the bytes, parsing ends in a spec or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/oci/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto spec = runtime::oci::parse_spec(text);
  if (spec.ok()) {
    for (auto& m : spec->mounts) IGNORE_ERROR(runtime::oci::parse_mount_options(m), "either is fine");
  }
  IGNORE_ERROR(runtime::oci::parse_process(text, nullptr), "either is fine");
  IGNORE_ERROR(runtime::oci::parse_resources(text), "either is fine");
  return 0;
}

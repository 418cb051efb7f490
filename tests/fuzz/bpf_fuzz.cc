// SPDX-License-Identifier: Apache-2.0
// libFuzzer: the checker and the evaluator of filters, which applications bring too. Input: 64 bytes of a call, then 8 bytes for
// each instruction. What the checker accepts must run to an end within its length; whatever the bytes, nothing else happens.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/bpf/disassemble.h"
#include "base/bpf/evaluate.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  seccomp_data call{};
  static_assert(sizeof call == 64);
  if (size < sizeof call) return 0;
  memcpy(&call, data, sizeof call);
  std::vector<base::bpf::Insn> program((size - sizeof call) / sizeof(base::bpf::Insn));
  if (!program.empty()) memcpy(program.data(), data + sizeof call, program.size() * sizeof program[0]);
  auto verdict = base::bpf::evaluate(program, call);
  if (verdict.ok()) {
    CHECK(verdict->steps <= program.size());
    CHECK(verdict->at < program.size());
  }
  if (base::bpf::validate(program).ok()) {
    CHECK(verdict.ok());
    CHECK(!base::bpf::disassemble(program).empty());
    CHECK(!base::bpf::action_text(verdict->action).empty());
    CHECK(program.size() <= base::bpf::kMaxInsns);
    // The same program over the same call answers the same.
    auto again = base::bpf::evaluate(program, call);
    CHECK(again.ok() && again->action == verdict->action && again->at == verdict->at);
  }
  return 0;
}

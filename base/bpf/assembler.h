// SPDX-License-Identifier: Apache-2.0
// Assembler: classic-BPF instructions with labels. Conditional jumps reach 255 instructions; finish() puts
// an unconditional jump behind those that must go farther, so that users never count.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bpf/program.h"
#include "base/result.h"

namespace base::bpf {

// A place in the program. kNext is the instruction that follows the jump.
struct Label {
  std::uint32_t id = 0;
  friend constexpr bool operator==(Label, Label) = default;
};
inline constexpr Label kNext{0};

class Assembler {
 public:
  // A label not placed yet.
  Label label();
  // The label names the instruction emitted next. A label is placed once.
  void place(Label l);

  // A = 32 bits of seccomp_data at offset.
  void load(std::uint32_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, offset); }
  void load_value(std::uint32_t k) { emit(BPF_LD | BPF_IMM, k); }
  void load_scratch(unsigned slot) { emit(BPF_LD | BPF_MEM, slot); }
  void store_scratch(unsigned slot) { emit(BPF_ST, slot); }
  void a_to_x() { emit(BPF_MISC | BPF_TAX, 0); }
  void x_to_a() { emit(BPF_MISC | BPF_TXA, 0); }
  void and_value(std::uint32_t k) { emit(BPF_ALU | BPF_AND | BPF_K, k); }
  void add_value(std::uint32_t k) { emit(BPF_ALU | BPF_ADD | BPF_K, k); }
  void add_x() { emit(BPF_ALU | BPF_ADD | BPF_X, 0); }
  void ret(std::uint32_t action) { emit(BPF_RET | BPF_K, action); }

  void jump(Label to);
  // A == k, A > k, A >= k, A & k; unsigned.
  void jump_eq(std::uint32_t k, Label yes, Label no) { branch(BPF_JEQ | BPF_K, k, yes, no); }
  void jump_gt(std::uint32_t k, Label yes, Label no) { branch(BPF_JGT | BPF_K, k, yes, no); }
  void jump_ge(std::uint32_t k, Label yes, Label no) { branch(BPF_JGE | BPF_K, k, yes, no); }
  void jump_set(std::uint32_t k, Label yes, Label no) { branch(BPF_JSET | BPF_K, k, yes, no); }
  // A >= X.
  void jump_ge_x(Label yes, Label no) { branch(BPF_JGE | BPF_X, 0, yes, no); }

  // Instructions emitted so far, before long jumps are widened.
  std::size_t size() const { return items_.size(); }

  struct Finished {
    std::vector<Insn> insns;
    // Where the instruction that was the n-th emitted has ended up.
    std::vector<std::uint32_t> index_of;
  };
  // Resolves every jump. EINVAL: a label that is not placed, or a jump backwards or past the end;
  // E2BIG: longer than the kernel takes.
  Result<Finished> finish() const;

 private:
  struct Item {
    std::uint16_t code;
    std::uint32_t k;
    Label yes = kNext;  // of a jump; `yes` alone for an unconditional one
    Label no = kNext;
  };
  void emit(unsigned code, std::uint32_t k) { items_.push_back({static_cast<std::uint16_t>(code), k}); }
  void branch(unsigned op, std::uint32_t k, Label yes, Label no);

  std::vector<Item> items_;
  std::vector<std::uint32_t> places_{0};  // by label id: index into items_, or kUnplaced
};

}  // namespace base::bpf

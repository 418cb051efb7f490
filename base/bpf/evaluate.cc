// SPDX-License-Identifier: Apache-2.0
// Every jump goes forward, so a program of n instructions ends after at most n steps.
#include "base/bpf/evaluate.h"

#include <cstddef>
#include <cstring>
#include <vector>

namespace base::bpf {
namespace {

bool known_alu(unsigned op) {
  switch (op) {
    case BPF_ADD: case BPF_SUB: case BPF_MUL: case BPF_DIV: case BPF_AND: case BPF_OR: case BPF_XOR:
    case BPF_LSH: case BPF_RSH:
      return true;
    default:
      return false;
  }
}

bool in_data(std::uint32_t offset) { return offset % 4 == 0 && offset < sizeof(seccomp_data); }

// Whether Linux knows this instruction in a seccomp filter, and its immediate fits.
bool known(const Insn& in) {
  const unsigned code = in.code;
  switch (code) {
    case BPF_LD | BPF_W | BPF_ABS:
      return in_data(in.k);
    case BPF_LD | BPF_W | BPF_LEN: case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM: case BPF_LDX | BPF_IMM:
    case BPF_MISC | BPF_TAX: case BPF_MISC | BPF_TXA:
    case BPF_RET | BPF_K: case BPF_RET | BPF_A:
    case BPF_ALU | BPF_NEG:
      return true;
    case BPF_LD | BPF_MEM: case BPF_LDX | BPF_MEM: case BPF_ST: case BPF_STX:
      return in.k < kScratchSlots;
    case BPF_JMP | BPF_JA:
    case BPF_JMP | BPF_JEQ | BPF_K: case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K: case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K: case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K: case BPF_JMP | BPF_JSET | BPF_X:
      return true;
    default:
      break;
  }
  if (BPF_CLASS(code) != BPF_ALU || (code & ~0xffu) != 0 || !known_alu(BPF_OP(code))) return false;
  if (BPF_SRC(code) == BPF_X) return true;
  if (BPF_OP(code) == BPF_DIV) return in.k != 0;
  if (BPF_OP(code) == BPF_LSH || BPF_OP(code) == BPF_RSH) return in.k < 32;
  return true;
}

// Slots that are certainly set, flowing forward; the meet of two paths is what both have set.
bool scratch_is_set_before_use(ProgramView p) {
  std::vector<std::uint16_t> set(p.size(), 0xffff);
  std::uint16_t now = 0;
  for (std::size_t pc = 0; pc < p.size(); ++pc) {
    const Insn& in = p[pc];
    now = static_cast<std::uint16_t>(now & set[pc]);
    switch (BPF_CLASS(in.code)) {
      case BPF_ST: case BPF_STX:
        now = static_cast<std::uint16_t>(now | (1u << in.k));
        break;
      case BPF_LD: case BPF_LDX:
        if (BPF_MODE(in.code) == BPF_MEM && (now & (1u << in.k)) == 0) return false;
        break;
      case BPF_JMP:
        if (BPF_OP(in.code) == BPF_JA) {
          set[pc + 1 + in.k] &= now;
        } else {
          set[pc + 1 + in.jt] &= now;
          set[pc + 1 + in.jf] &= now;
        }
        now = 0xffff;
        break;
      default:
        break;  // Linux: check_load_and_stores does not reset behind a return either
    }
  }
  return true;
}

// A op= operand. False: division by zero, which ends the program.
bool alu(unsigned op, std::uint32_t& a, std::uint32_t operand) {
  switch (op) {
    case BPF_ADD: a += operand; return true;
    case BPF_SUB: a -= operand; return true;
    case BPF_MUL: a *= operand; return true;
    case BPF_AND: a &= operand; return true;
    case BPF_OR: a |= operand; return true;
    case BPF_XOR: a ^= operand; return true;
    case BPF_LSH: a <<= operand & 31; return true;
    case BPF_RSH: a >>= operand & 31; return true;
    case BPF_DIV:
      if (operand == 0) return false;
      a /= operand;
      return true;
    default: a = 0u - a; return true;  // BPF_NEG
  }
}

bool holds(unsigned op, std::uint32_t a, std::uint32_t operand) {
  switch (op) {
    case BPF_JEQ: return a == operand;
    case BPF_JGT: return a > operand;
    case BPF_JGE: return a >= operand;
    default: return (a & operand) != 0;  // BPF_JSET
  }
}

}  // namespace

Result<void> validate(ProgramView p) {
  if (p.empty() || p.size() > kMaxInsns) return kEINVAL;
  for (std::size_t pc = 0; pc < p.size(); ++pc) {
    const Insn& in = p[pc];
    if (!known(in)) return kEINVAL;
    if (BPF_CLASS(in.code) != BPF_JMP) continue;
    const std::size_t left = p.size() - pc - 1;
    if (BPF_OP(in.code) == BPF_JA ? in.k >= left : (in.jt >= left || in.jf >= left)) return kEINVAL;
  }
  if (BPF_CLASS(p.back().code) != BPF_RET) return kEINVAL;
  if (!scratch_is_set_before_use(p)) return kEINVAL;
  return {};
}

namespace {

// Only the first `given` bytes of the data are known: EAGAIN at a load beyond them.
Result<Verdict> run(ProgramView p, const seccomp_data& data, std::size_t given) {
  unsigned char bytes[sizeof(seccomp_data)];
  std::memcpy(bytes, &data, sizeof bytes);
  std::uint32_t a = 0, x = 0, scratch[kScratchSlots] = {};
  std::uint32_t steps = 0;
  for (std::size_t pc = 0; pc < p.size(); ++pc) {
    const Insn& in = p[pc];
    if (!known(in)) return kEINVAL;
    ++steps;
    const unsigned code = in.code;
    const std::uint32_t operand = BPF_SRC(code) == BPF_X ? x : in.k;
    switch (BPF_CLASS(code)) {
      case BPF_LD: case BPF_LDX: {
        std::uint32_t v = in.k;
        if (BPF_MODE(code) == BPF_ABS) {
          if (in.k >= given) return kEAGAIN;
          std::memcpy(&v, bytes + in.k, sizeof v);
        } else if (BPF_MODE(code) == BPF_LEN) {
          v = sizeof(seccomp_data);
        } else if (BPF_MODE(code) == BPF_MEM) {
          v = scratch[in.k];
        }
        (BPF_CLASS(code) == BPF_LD ? a : x) = v;
        break;
      }
      case BPF_ST: scratch[in.k] = a; break;
      case BPF_STX: scratch[in.k] = x; break;
      case BPF_ALU:
        // Linux: bpf_convert_filter makes a division by a zero X return 0, which is KILL_THREAD.
        if (!alu(BPF_OP(code), a, operand)) return Verdict{0, static_cast<std::uint32_t>(pc), steps};
        break;
      case BPF_JMP: {
        const std::size_t hop = BPF_OP(code) == BPF_JA ? in.k : holds(BPF_OP(code), a, operand) ? in.jt : in.jf;
        if (hop >= p.size() - pc - 1) return kEINVAL;
        pc += hop;
        break;
      }
      case BPF_RET:
        return Verdict{BPF_RVAL(code) == BPF_A ? a : in.k, static_cast<std::uint32_t>(pc), steps};
      default:  // BPF_MISC
        if (BPF_MISCOP(code) == BPF_TAX) x = a;
        else a = x;
        break;
    }
  }
  return kEINVAL;
}

}  // namespace

Result<Verdict> evaluate(ProgramView p, const seccomp_data& data) { return run(p, data, sizeof data); }

Result<Verdict> evaluate_number(ProgramView p, int number, std::uint32_t arch) {
  seccomp_data data{};
  data.nr = number;
  data.arch = arch;
  return run(p, data, offsetof(seccomp_data, instruction_pointer));
}

}  // namespace base::bpf

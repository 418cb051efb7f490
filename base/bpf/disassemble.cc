// SPDX-License-Identifier: Apache-2.0
// Loads of seccomp_data are named by field, so that a listing reads without a table.
#include "base/bpf/disassemble.h"

#include <cstdarg>
#include <cstdio>

namespace base::bpf {
namespace {

[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...) {
  char buf[128];
  va_list list;
  va_start(list, format);
  std::vsnprintf(buf, sizeof buf, format, list);
  va_end(list);
  return buf;
}

std::string field(std::uint32_t offset) {
  if (offset == kNumberOffset) return "nr";
  if (offset == kArchOffset) return "arch";
  const char* half = offset % 8 == 0 ? "low" : "high";
  if (offset / 8 * 8 == kInstructionPointer.offset) return text("ip.%s", half);
  if (offset >= argument(0).offset && offset < sizeof(seccomp_data) && offset % 4 == 0) {
    return text("arg%u.%s", (offset - argument(0).offset) / 8, half);
  }
  return text("data[%u]", offset);
}

const char* alu_name(unsigned op) {
  switch (op) {
    case BPF_ADD: return "add";
    case BPF_SUB: return "sub";
    case BPF_MUL: return "mul";
    case BPF_DIV: return "div";
    case BPF_AND: return "and";
    case BPF_OR: return "or";
    case BPF_XOR: return "xor";
    case BPF_LSH: return "lsh";
    case BPF_RSH: return "rsh";
    case BPF_NEG: return "neg";
    default: return "alu?";
  }
}

const char* jump_name(unsigned op) {
  switch (op) {
    case BPF_JEQ: return "jeq";
    case BPF_JGT: return "jgt";
    case BPF_JGE: return "jge";
    case BPF_JSET: return "jset";
    default: return "j?";
  }
}

}  // namespace

std::string action_text(std::uint32_t action) {
  const unsigned data = action & SECCOMP_RET_DATA;
  switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_KILL_PROCESS: return "kill_process";
    case SECCOMP_RET_KILL_THREAD: return "kill_thread";
    case SECCOMP_RET_TRAP: return "trap";
    case SECCOMP_RET_ERRNO: return text("errno %u", data);
    case SECCOMP_RET_USER_NOTIF: return "notify";
    case SECCOMP_RET_TRACE: return text("trace %u", data);
    case SECCOMP_RET_LOG: return "log";
    case SECCOMP_RET_ALLOW: return "allow";
    default: return text("action 0x%08x", action);
  }
}

std::string insn_text(const Insn& in, std::size_t pc) {
  const unsigned code = in.code;
  const char* reg = BPF_CLASS(code) == BPF_LDX || BPF_CLASS(code) == BPF_STX ? "x" : "a";
  const std::string operand = BPF_SRC(code) == BPF_X ? "x" : text("0x%x", in.k);
  switch (BPF_CLASS(code)) {
    case BPF_LD: case BPF_LDX:
      if (BPF_MODE(code) == BPF_ABS) return text("ld %s, ", reg) + field(in.k);
      if (BPF_MODE(code) == BPF_IMM) return text("ld %s, 0x%x", reg, in.k);
      if (BPF_MODE(code) == BPF_MEM) return text("ld %s, m[%u]", reg, in.k);
      return text("ld %s, len", reg);
    case BPF_ST: case BPF_STX:
      return text("st m[%u], %s", in.k, reg);
    case BPF_ALU:
      if (BPF_OP(code) == BPF_NEG) return "neg a";
      return text("%s a, ", alu_name(BPF_OP(code))) + operand;
    case BPF_JMP:
      if (BPF_OP(code) == BPF_JA) return text("ja %zu", pc + 1 + in.k);
      return text("%s ", jump_name(BPF_OP(code))) + operand + text(", %zu, %zu", pc + 1 + in.jt, pc + 1 + in.jf);
    case BPF_RET:
      return BPF_RVAL(code) == BPF_A ? "ret a" : "ret " + action_text(in.k);
    default:
      return BPF_MISCOP(code) == BPF_TAX ? "tax" : "txa";
  }
}

std::string disassemble(ProgramView program) {
  std::string out;
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    out += text("%4zu  ", pc) + insn_text(program[pc], pc) + "\n";
  }
  return out;
}

}  // namespace base::bpf

// SPDX-License-Identifier: Apache-2.0
// Labels, long jumps, and what the checker refuses.
#include "base/bpf/assembler.h"

#include <gtest/gtest.h>

#include "base/bpf/disassemble.h"
#include "base/bpf/evaluate.h"

namespace base::bpf {
namespace {

std::uint32_t run(const std::vector<Insn>& p, const seccomp_data& d) {
  auto v = evaluate(p, d);
  EXPECT_TRUE(v.ok());
  return v.ok() ? v->action : 0xdeadu;
}

TEST(Assembler, ResolvesForwardLabels) {
  Assembler a;
  Label yes = a.label(), no = a.label();
  a.load(kNumberOffset);
  a.jump_eq(7, yes, no);
  a.place(no);
  a.ret(SECCOMP_RET_KILL_PROCESS);
  a.place(yes);
  a.ret(SECCOMP_RET_ALLOW);
  auto p = a.finish();
  ASSERT_TRUE(p.ok());
  ASSERT_TRUE(validate(p->insns).ok());
  EXPECT_EQ(disassemble(p->insns), "   0  ld a, nr\n   1  jeq 0x7, 3, 2\n   2  ret kill_process\n   3  ret allow\n");
  seccomp_data d{};
  d.nr = 7;
  EXPECT_EQ(run(p->insns, d), SECCOMP_RET_ALLOW);
  d.nr = 8;
  EXPECT_EQ(run(p->insns, d), SECCOMP_RET_KILL_PROCESS);
}

TEST(Assembler, RefusesUnplacedBackwardAndRunawayJumps) {
  {
    Assembler a;
    Label l = a.label();
    a.jump(l);
    a.ret(0);
    EXPECT_FALSE(a.finish().ok());
  }
  {
    Assembler a;
    Label l = a.label();
    a.place(l);
    a.load(0);
    a.jump_eq(1, l, kNext);
    a.ret(0);
    EXPECT_FALSE(a.finish().ok());
  }
  {
    Assembler a;
    Label l = a.label();
    a.load(0);
    a.jump_eq(1, l, kNext);
    a.ret(0);
    a.place(l);  // past the end
    EXPECT_FALSE(a.finish().ok());
  }
  {
    Assembler a;
    a.load(0);
    a.jump_eq(1, kNext, kNext);
    EXPECT_FALSE(a.finish().ok());
  }
  EXPECT_FALSE(Assembler().finish().ok());
}

TEST(Assembler, RefusesProgramsLongerThanTheKernelTakes) {
  Assembler a;
  for (std::size_t i = 0; i < kMaxInsns - 1; ++i) a.load(0);
  a.ret(0);
  EXPECT_TRUE(a.finish().ok());
  a.ret(0);
  ASSERT_FALSE(a.finish().ok());
  EXPECT_EQ(a.finish().error(), kE2BIG);
}

// A jump over `gap` instructions, on either side or both, around the reach of 8 bits.
TEST(Assembler, WidensJumpsThatGoTooFar) {
  for (unsigned gap : {0u, 1u, 253u, 254u, 255u, 256u, 257u, 511u, 1000u}) {
    for (int shape = 0; shape < 3; ++shape) {
      Assembler a;
      Label yes = a.label(), no = a.label();
      a.load(kNumberOffset);
      a.jump_eq(42, shape == 1 ? kNext : yes, shape == 0 ? kNext : no);
      if (shape == 0) a.ret(SECCOMP_RET_ERRNO | 2);
      if (shape == 1) a.ret(SECCOMP_RET_ERRNO | 1);
      for (unsigned i = 0; i < gap; ++i) a.ret(SECCOMP_RET_ERRNO | 99);
      if (shape != 1) {
        a.place(yes);
        a.ret(SECCOMP_RET_ERRNO | 1);
      }
      if (shape != 0) {
        a.place(no);
        a.ret(SECCOMP_RET_ERRNO | 2);
      }
      auto p = a.finish();
      ASSERT_TRUE(p.ok());
      ASSERT_TRUE(validate(p->insns).ok()) << gap << " " << shape;
      seccomp_data d{};
      d.nr = 42;
      EXPECT_EQ(run(p->insns, d), SECCOMP_RET_ERRNO | 1u) << gap << " " << shape;
      d.nr = 43;
      EXPECT_EQ(run(p->insns, d), SECCOMP_RET_ERRNO | 2u) << gap << " " << shape;
    }
  }
}

// A ladder in which widening the late jumps pushes the earlier ones over the edge.
TEST(Assembler, WideningReachesAFixedPoint) {
  constexpr unsigned kRungs = 300;
  Assembler a;
  std::vector<Label> labels;
  for (unsigned i = 0; i < kRungs; ++i) labels.push_back(a.label());
  a.load(kNumberOffset);
  for (unsigned i = 0; i < kRungs; ++i) a.jump_eq(i, labels[i], kNext);
  a.ret(SECCOMP_RET_KILL_PROCESS);
  for (unsigned i = 0; i < kRungs; ++i) {
    a.place(labels[i]);
    a.ret(SECCOMP_RET_ERRNO | i);
  }
  auto p = a.finish();
  ASSERT_TRUE(p.ok());
  ASSERT_TRUE(validate(p->insns).ok());
  EXPECT_GT(p->insns.size(), a.size());
  for (unsigned i = 0; i < kRungs + 5; ++i) {
    seccomp_data d{};
    d.nr = static_cast<int>(i);
    EXPECT_EQ(run(p->insns, d), i < kRungs ? (SECCOMP_RET_ERRNO | i) : SECCOMP_RET_KILL_PROCESS);
  }
  // index_of names where an emitted instruction went.
  EXPECT_EQ(p->index_of.size(), a.size());
  EXPECT_EQ(p->insns[p->index_of[kRungs + 1]].k, SECCOMP_RET_KILL_PROCESS);
}

TEST(Validate, RefusesWhatLinuxRefuses) {
  const Insn ret{BPF_RET | BPF_K, 0, 0, 0};
  auto refused = [&](Insn in) { return !validate(std::vector<Insn>{in, ret}).ok(); };
  EXPECT_FALSE(refused({BPF_LD | BPF_W | BPF_ABS, 0, 0, 60}));
  EXPECT_TRUE(refused({BPF_LD | BPF_W | BPF_ABS, 0, 0, 64}));
  EXPECT_TRUE(refused({BPF_LD | BPF_W | BPF_ABS, 0, 0, 2}));
  EXPECT_TRUE(refused({BPF_LD | BPF_B | BPF_ABS, 0, 0, 0}));
  EXPECT_TRUE(refused({BPF_LD | BPF_MEM, 0, 0, 0})) << "slot not set";
  EXPECT_TRUE(refused({BPF_ST, 0, 0, 16}));
  EXPECT_FALSE(refused({BPF_ST, 0, 0, 15}));
  EXPECT_TRUE(refused({BPF_ALU | BPF_DIV | BPF_K, 0, 0, 0}));
  EXPECT_FALSE(refused({BPF_ALU | BPF_DIV | BPF_X, 0, 0, 0}));
  EXPECT_TRUE(refused({BPF_ALU | BPF_MOD | BPF_K, 0, 0, 3}));
  EXPECT_TRUE(refused({BPF_ALU | BPF_LSH | BPF_K, 0, 0, 32}));
  EXPECT_TRUE(refused({BPF_JMP | BPF_JA, 0, 0, 1}));
  EXPECT_TRUE(refused({BPF_JMP | BPF_JA, 0, 0, 0xffffffff}));
  EXPECT_TRUE(refused({BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0}));
  EXPECT_TRUE(refused({0xffff, 0, 0, 0}));
  EXPECT_TRUE(!validate({}).ok());
  EXPECT_TRUE(!validate(std::vector<Insn>{{BPF_LD | BPF_IMM, 0, 0, 0}}).ok()) << "no return at the end";
  // A slot set on one branch only.
  std::vector<Insn> half = {{BPF_LD | BPF_IMM, 0, 0, 1},          {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 1},
                            {BPF_ST, 0, 0, 3},                    {BPF_LD | BPF_MEM, 0, 0, 3},
                            {BPF_RET | BPF_A, 0, 0, 0}};
  EXPECT_FALSE(validate(half).ok());
  half[1].jf = 0;
  EXPECT_TRUE(validate(half).ok());
}

TEST(Evaluate, RefusesToLeaveTheProgramOrTheData) {
  seccomp_data d{};
  const Insn ret{BPF_RET | BPF_K, 0, 0, 5};
  EXPECT_FALSE(evaluate({}, d).ok());
  EXPECT_FALSE(evaluate(std::vector<Insn>{{BPF_LD | BPF_IMM, 0, 0, 1}}, d).ok());
  EXPECT_FALSE(evaluate(std::vector<Insn>{{BPF_JMP | BPF_JA, 0, 0, 0xfffffffe}, ret}, d).ok());
  EXPECT_FALSE(evaluate(std::vector<Insn>{{BPF_LD | BPF_W | BPF_ABS, 0, 0, 64}, ret}, d).ok());
  EXPECT_FALSE(evaluate(std::vector<Insn>{{BPF_LD | BPF_MEM, 0, 0, 16}, ret}, d).ok());
  EXPECT_FALSE(evaluate(std::vector<Insn>{{0x1234, 0, 0, 16}, ret}, d).ok());
}

TEST(Evaluate, DoesArithmeticAsLinux) {
  seccomp_data d{};
  auto result = [&](std::uint32_t a, std::uint32_t x, unsigned op) {
    std::vector<Insn> p = {{BPF_LDX | BPF_IMM, 0, 0, x},
                           {BPF_LD | BPF_IMM, 0, 0, a},
                           {static_cast<std::uint16_t>(BPF_ALU | op | BPF_X), 0, 0, 0},
                           {BPF_RET | BPF_A, 0, 0, 0}};
    EXPECT_TRUE(validate(p).ok());
    return run(p, d);
  };
  EXPECT_EQ(result(0xffffffff, 2, BPF_ADD), 1u);
  EXPECT_EQ(result(1, 2, BPF_SUB), 0xffffffffu);
  EXPECT_EQ(result(0x10000, 0x10001, BPF_MUL), 0x10000u);
  EXPECT_EQ(result(7, 2, BPF_DIV), 3u);
  EXPECT_EQ(result(7, 0, BPF_DIV), 0u) << "ends the program";
  EXPECT_EQ(result(1, 33, BPF_LSH), 2u);
  EXPECT_EQ(result(8, 1, BPF_RSH), 4u);
  EXPECT_EQ(result(6, 3, BPF_AND), 2u);
  EXPECT_EQ(result(6, 3, BPF_OR), 7u);
  EXPECT_EQ(result(6, 3, BPF_XOR), 5u);
}

}  // namespace
}  // namespace base::bpf

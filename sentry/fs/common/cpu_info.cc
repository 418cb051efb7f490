// SPDX-License-Identifier: Apache-2.0
// cpuid, decoded. Names and order of flags: Linux arch/x86/include/asm/cpufeatures.h.
#include "sentry/fs/common/cpu_info.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#include <cstring>

namespace sentry::fs::common {
namespace {

struct Leaf {
  uint32_t r[4] = {};  // eax, ebx, ecx, edx
};

Leaf cpuid(uint32_t leaf, uint32_t sub = 0) {
  Leaf l;
  __cpuid_count(leaf, sub, l.r[0], l.r[1], l.r[2], l.r[3]);
  return l;
}

enum Reg : uint8_t { A, B, C, D };
struct FlagWord {
  uint32_t leaf, sub;
  Reg reg;
  const char* names[32];  // null: not shown (kernel-only features and reserved bits)
};

// Kernel-mode features (vmx, svm, monitor, dtes64, pdcm, …) are left out: no program inside can use them.
constexpr FlagWord kWords[] = {
    {1, 0, D, {"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", nullptr, "sep", "mtrr", "pge", "mca",
               "cmov", "pat", "pse36", nullptr, "clflush", nullptr, nullptr, nullptr, "mmx", "fxsr", "sse", "sse2", nullptr,
               "ht", nullptr, nullptr, nullptr}},
    {0x80000001, 0, D, {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                        "syscall", nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, "nx", nullptr,
                        "mmxext", nullptr, nullptr, "fxsr_opt", "pdpe1gb", "rdtscp", nullptr, "lm", nullptr, nullptr}},
    {1, 0, C, {"pni", "pclmulqdq", nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, "ssse3", nullptr, nullptr,
               "fma", "cx16", nullptr, nullptr, nullptr, "pcid", nullptr, "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt",
               nullptr, "aes", "xsave", nullptr, "avx", "f16c", "rdrand", "hypervisor"}},
    {0x80000001, 0, C, {"lahf_lm", nullptr, nullptr, nullptr, nullptr, "abm", "sse4a", "misalignsse", "3dnowprefetch",
                        nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                        nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                        nullptr}},
    {7, 0, B, {"fsgsbase", nullptr, nullptr, "bmi1", nullptr, "avx2", nullptr, "smep", "bmi2", "erms", "invpcid", nullptr,
               nullptr, nullptr, nullptr, nullptr, "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", nullptr,
               "clflushopt", "clwb", nullptr, nullptr, nullptr, "avx512cd", "sha_ni", "avx512bw", "avx512vl"}},
    {0xd, 1, A, {"xsaveopt", "xsavec", "xgetbv1", "xsaves"}},
    {7, 1, A, {nullptr, nullptr, nullptr, nullptr, "avx_vnni", "avx512_bf16", nullptr, nullptr, nullptr, nullptr, nullptr,
               nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
               "avx_ifma"}},
    {0x80000008, 0, B, {"clzero"}},
    {7, 0, C, {nullptr, "avx512vbmi", "umip", nullptr, nullptr, nullptr, "avx512_vbmi2", nullptr, "gfni", "vaes",
               "vpclmulqdq", "avx512_vnni", "avx512_bitalg", nullptr, "avx512_vpopcntdq", nullptr, nullptr, nullptr, nullptr,
               nullptr, nullptr, nullptr, "rdpid", nullptr, nullptr, nullptr, nullptr, "movdiri", "movdir64b"}},
    {7, 0, D, {nullptr, nullptr, nullptr, nullptr, "fsrm", nullptr, nullptr, nullptr, "avx512_vp2intersect", nullptr, nullptr,
               nullptr, nullptr, nullptr, "serialize", nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
               "amx_bf16", "avx512_fp16", "amx_tile", "amx_int8"}},
};

bool has_leaf(uint32_t leaf) {
  return leaf <= cpuid(leaf & 0x80000000).r[0];
}

std::string read_flags() {
  std::string out;
  for (const FlagWord& w : kWords) {
    if (!has_leaf(w.leaf)) continue;
    Leaf l = cpuid(w.leaf, w.sub);
    for (unsigned bit = 0; bit < 32; bit++) {
      if (!w.names[bit] || !(l.r[w.reg] >> bit & 1)) continue;
      if (!out.empty()) out += ' ';
      out += w.names[bit];
    }
    // Linux's own words follow the first two.
    if (w.leaf == 0x80000001 && w.reg == D) out += " constant_tsc rep_good nopl nonstop_tsc cpuid";
  }
  return out;
}

void read_caches(CpuInfo& c) {
  const uint32_t leaf = c.is_amd ? 0x8000001d : 4;
  if (!has_leaf(leaf)) return;
  for (uint32_t sub = 0; sub < 8; sub++) {
    Leaf l = cpuid(leaf, sub);
    const unsigned type = l.r[A] & 31;
    if (type == 0 || type > 3) break;
    CpuCache k;
    k.level = l.r[A] >> 5 & 7;
    k.type = type == 1 ? 'D' : type == 2 ? 'I' : 'U';
    k.shared_by = (l.r[A] >> 14 & 0xfff) + 1;
    k.line = (l.r[B] & 0xfff) + 1;
    k.ways = (l.r[B] >> 22) + 1;
    k.sets = l.r[C] + 1;
    k.bytes = uint64_t{k.line} * ((l.r[B] >> 12 & 0x3ff) + 1) * k.ways * k.sets;
    c.caches.push_back(k);
  }
}

// How fast the time-stamp counter runs, over two milliseconds at most.
double measure_mhz() {
  if (has_leaf(0x16))
    if (uint32_t base = cpuid(0x16).r[A] & 0xffff) return base;
  timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  uint64_t t = __rdtsc();
  double ns;
  do {
    clock_gettime(CLOCK_MONOTONIC, &b);
    ns = static_cast<double>(b.tv_sec - a.tv_sec) * 1e9 + static_cast<double>(b.tv_nsec - a.tv_nsec);
  } while (ns < 1e6);
  return static_cast<double>(__rdtsc() - t) * 1000 / ns;
}

CpuInfo read_cpu() {
  CpuInfo c;
  Leaf zero = cpuid(0);
  c.max_leaf = zero.r[A];
  char vendor[12];
  memcpy(vendor, &zero.r[B], 4);
  memcpy(vendor + 4, &zero.r[D], 4);
  memcpy(vendor + 8, &zero.r[C], 4);
  c.vendor.assign(vendor, sizeof vendor);
  c.is_amd = c.vendor == "AuthenticAMD" || c.vendor == "HygonGenuine";
  Leaf one = cpuid(1);
  c.stepping = one.r[A] & 15;
  c.family = one.r[A] >> 8 & 15;
  c.model = one.r[A] >> 4 & 15;
  if (c.family >= 6) c.model |= one.r[A] >> 12 & 0xf0;
  if (c.family == 15) c.family += one.r[A] >> 20 & 255;
  c.clflush = (one.r[B] >> 8 & 255) * 8;
  if (has_leaf(0x80000004)) {
    char brand[49] = {};
    for (uint32_t i = 0; i < 3; i++) {
      Leaf l = cpuid(0x80000002 + i);
      memcpy(brand + 16 * i, l.r, 16);
    }
    std::string text(brand);
    size_t from = text.find_first_not_of(' ');
    if (from != text.npos) c.brand = text.substr(from, text.find_last_not_of(' ') - from + 1);
  }
  if (has_leaf(0x80000008)) {
    Leaf l = cpuid(0x80000008);
    c.physical_bits = l.r[A] & 255;
    c.virtual_bits = l.r[A] >> 8 & 255;
  }
  c.flags = read_flags();
  read_caches(c);
  c.mhz = measure_mhz();
  return c;
}

}  // namespace

const CpuInfo& cpu_info() {
  static const CpuInfo info = read_cpu();
  return info;
}

}  // namespace sentry::fs::common

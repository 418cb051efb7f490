// SPDX-License-Identifier: Apache-2.0
// The standard's constants are the first 32 bits of the fractional parts of roots of primes: computed, not listed.
#include "shim/sha256.h"

#include <array>
#include <bit>
#include <cstdint>

namespace shim {

namespace {

using Block = std::array<uint32_t, 8>;
__extension__ typedef unsigned __int128 Wide;

// The first 32 bits of the fraction of the n-th root of p (n = 2, 3), by bisection on whole numbers.
constexpr uint32_t root_fraction(uint32_t p, int n) {
  // The greatest r with (r / 2^32)^n <= p, that is r^n <= p * 2^(32 n); r has at most 36 bits.
  Wide low = 0, high = static_cast<Wide>(1) << 37;
  while (high - low > 1) {
    Wide mid = (low + high) / 2;
    bool fits = false;
    if (n == 2) {
      fits = mid * mid <= static_cast<Wide>(p) << 64;
    } else {
      // mid^3 <= p * 2^96, without going beyond 128 bits: mid^2 * mid compared by parts.
      Wide square = mid * mid;
      Wide high_part = (square >> 64) * mid, low_part = (square & ~uint64_t{0}) * mid;
      Wide top = high_part + (low_part >> 64);  // mid^3 >> 64
      Wide limit = static_cast<Wide>(p) << 32;
      fits = top < limit || (top == limit && (low_part & ~uint64_t{0}) == 0);
    }
    (fits ? low : high) = mid;
  }
  return static_cast<uint32_t>(low);
}

struct Constants {
  Block start{};
  std::array<uint32_t, 64> k{};
};

constexpr Constants make_constants() {
  Constants c;
  size_t n = 0;
  for (uint32_t p = 2; n < 64; p++) {
    bool prime = true;
    for (uint32_t d = 2; d * d <= p; d++) prime &= p % d != 0;
    if (!prime) continue;
    if (n < 8) c.start[n] = root_fraction(p, 2);
    c.k[n++] = root_fraction(p, 3);
  }
  return c;
}
constexpr Constants kConstants = make_constants();

void mix(Block& state, const unsigned char* p) {
  uint32_t w[64];
  for (int i = 0; i < 16; i++) {
    w[i] = uint32_t{p[4 * i]} << 24 | uint32_t{p[4 * i + 1]} << 16 | uint32_t{p[4 * i + 2]} << 8 | p[4 * i + 3];
  }
  for (int i = 16; i < 64; i++) {
    uint32_t a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (size_t i = 0; i < 64; i++) {
    uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + kConstants.k[i] + w[i];
    uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  uint32_t add[8] = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; i++) state[i] += add[i];
}

}  // namespace

std::string sha256_hex(std::string_view data) {
  std::string text(data);
  text += '\x80';
  while (text.size() % 64 != 56) text += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) text += static_cast<char>(uint64_t{data.size()} * 8 >> shift & 0xff);
  Block state = kConstants.start;
  for (size_t at = 0; at < text.size(); at += 64) mix(state, reinterpret_cast<const unsigned char*>(text.data()) + at);
  std::string out;
  for (uint32_t word : state) {
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[word >> shift & 15];
  }
  return out;
}

}  // namespace shim

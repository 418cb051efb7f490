// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without a fuzzer: on every file of the directories named, on each cut short, and on each with bytes changed in
// ways that are the same every time. What a fuzzer has found once stays found, with any compiler.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

size_t inputs = 0;

void run(const std::string& s) {
  // A copy of exactly this size: a sanitizer sees a read past it.
  std::vector<uint8_t> exact(s.begin(), s.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  inputs++;
}

void vary(const std::string& seed, unsigned changes) {
  run(seed);
  for (size_t n = 0; n < seed.size(); n += std::max<size_t>(1, seed.size() / 200)) run(seed.substr(0, n));
  static constexpr const char* kPieces[] = {"null", "-1", "\"\"", "[]", "{}", "18446744073709551616", "1e308", "\"\\u0000\"", "true", "/../"};
  std::mt19937 random(static_cast<unsigned>(seed.size()));
  for (unsigned i = 0; i < changes && !seed.empty(); i++) {
    std::string s = seed;
    for (unsigned k = random() % 4 + 1; k > 0; k--) {
      size_t at = random() % s.size();
      switch (random() % 4) {
        case 0: s[at] = static_cast<char>(random()); break;
        case 1: s[at] = "\"{}[],:0-\\"[random() % 10]; break;
        case 2: s.insert(at, kPieces[random() % std::size(kPieces)]); break;
        default: s.erase(at, random() % 16 + 1); break;
      }
      if (s.empty()) s = "x";
    }
    run(s);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    for (auto& e : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(e.path(), std::ios::binary);
      vary({std::istreambuf_iterator<char>(in), {}}, 2000);
    }
  }
  printf("%zu inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}

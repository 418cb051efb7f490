# SPDX-License-Identifier: Apache-2.0
# gcc and g++ compile, link and run; static, dynamic, threads; musl.
set -e
cat > a.c <<'S'
#include <stdio.h>
#include <math.h>
int main(int c, char **v) { printf("%s %.3f\n", v[1], sqrt(2.0 * c)); return 3; }
S
gcc -O2 -o a a.c -lm; ./a dyn || echo $?
gcc -O2 -static -o as a.c -lm; ./as static || echo $?
musl-gcc -O2 -o am a.c; ./am musl || echo $?
musl-gcc -static -O2 -o ams a.c; ./ams muslstatic || echo $?
cat > b.cc <<'S'
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>
#include <stdexcept>
#include <mutex>
int main() {
  std::mutex m; long sum = 0; std::vector<std::thread> t;
  for (int i = 0; i < 64; i++) t.emplace_back([&, i] { for (int k = 0; k < 100; k++) { std::lock_guard l(m); sum += i; } });
  for (auto& x : t) x.join();
  try { throw std::runtime_error("thrown"); } catch (std::exception& e) { std::cout << e.what() << ' ' << sum << '\n'; }
}
S
g++ -O1 -pthread -o b b.cc; ./b
g++ -O1 -pthread -fsanitize=undefined -o bu b.cc && ./bu
rm -f a as am ams b bu

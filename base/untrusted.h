// SPDX-License-Identifier: Apache-2.0
// Untrusted<T>: memory that a less trusted side can change at any moment. Its one operation copies it in,
// through volatile accesses that the compiler can neither repeat nor tear apart from the check that follows:
// copy once, then check, then use.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

namespace base {

// Copies n bytes that another process may be writing. Never reads a byte twice.
inline void untrusted_copy(void* dst, const volatile void* src, size_t n) {
  asm volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

// Lies over shared memory; made by pointer cast where the memory is mapped, never constructed.
template <typename T>
class Untrusted {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Untrusted() = delete;
  Untrusted(const Untrusted&) = delete;
  Untrusted& operator=(const Untrusted&) = delete;

  [[nodiscard]] T copy_in() const {
    T out;
    if constexpr (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8) {
      using W = std::conditional_t<sizeof(T) == 1, unsigned char,
                std::conditional_t<sizeof(T) == 2, unsigned short,
                std::conditional_t<sizeof(T) == 4, unsigned, unsigned long>>>;
      W w = *reinterpret_cast<const volatile W*>(&raw_);
      std::memcpy(&out, &w, sizeof out);
    } else {
      untrusted_copy(&out, &raw_, sizeof out);
    }
    return out;
  }
  // Writing needs no care: the other side may already be overwriting it.
  void copy_out(const T& v) { std::memcpy(&raw_, &v, sizeof v); }

 private:
  T raw_;
};

}  // namespace base

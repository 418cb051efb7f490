// SPDX-License-Identifier: Apache-2.0
// Typed application pointers. The direction of the copy is in the type; the address itself cannot be used otherwise.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "sentry/platform/platform.h"

namespace sentry::mm {

class UserPointer {
 public:
  constexpr UserPointer() = default;
  explicit constexpr UserPointer(uint64_t a) : address_(a) {}
  bool is_null() const { return address_ == 0; }
  uint64_t unchecked_address() const { return address_; }

 protected:
  uint64_t address_ = 0;
};

template <typename T>
class UserIn : public UserPointer {
  static_assert(std::is_void_v<T> || std::is_trivially_copyable_v<T>);

 public:
  using UserPointer::UserPointer;
  using Target = T;
  template <typename U = T>
  Result<U> copy_in(platform::Context& c) const {
    U v;
    TRY(c.copy_in(&v, address_, sizeof v));
    return v;
  }
  // n was bounded by the caller.
  template <typename U = T>
  Result<std::vector<U>> copy_in_array(platform::Context& c, size_t n) const {
    std::vector<U> v(n);
    if (n) TRY(c.copy_in(v.data(), address_, n * sizeof(U)));
    return v;
  }
  Result<void> copy_bytes_in(platform::Context& c, void* dst, size_t n) const { return c.copy_in(dst, address_, n); }
};

template <typename T>
class UserOut : public UserPointer {
  static_assert(std::is_void_v<T> || std::is_trivially_copyable_v<T>);

 public:
  using UserPointer::UserPointer;
  using Target = T;
  // Queued until the application goes on; a bad address turns the call's result into EFAULT.
  template <typename U = T>
  Result<void> copy_out(platform::Context& c, const U& v) const { return c.copy_out(address_, &v, sizeof v); }
  // Done at once, for calls that must undo something when it fails.
  template <typename U = T>
  Result<void> copy_out_now(platform::Context& c, const U& v) const { return c.copy_out_now(address_, &v, sizeof v); }
  Result<void> copy_bytes_out(platform::Context& c, const void* src, size_t n) const { return c.copy_out(address_, src, n); }
};

template <typename T>
class UserInOut : public UserPointer {
  static_assert(std::is_void_v<T> || std::is_trivially_copyable_v<T>);

 public:
  using UserPointer::UserPointer;
  using Target = T;
  template <typename U = T>
  Result<U> copy_in(platform::Context& c) const { return UserIn<U>(address_).copy_in(c); }
  template <typename U = T>
  Result<void> copy_out(platform::Context& c, const U& v) const { return c.copy_out(address_, &v, sizeof v); }
  template <typename U = T>
  Result<void> copy_out_now(platform::Context& c, const U& v) const { return c.copy_out_now(address_, &v, sizeof v); }
};

// A NUL-terminated string; a path unless said otherwise.
class UserString : public UserPointer {
 public:
  using UserPointer::UserPointer;
  Result<std::string> copy_in(platform::Context& c, size_t limit = 4096) const { return c.copy_in_string(address_, limit); }
};

// Things of Each bytes, whose count is argument SizeArg of the call: the stub copies the first 64 KiB in by itself.
template <int SizeArg, size_t Each = 1>
class UserSized : public UserIn<void> {
 public:
  using UserIn<void>::UserIn;
};

// struct iovec's whose count is argument 2 of the call: the stub copies them in by itself, and with Pieces the first of what they point to.
template <bool Pieces>
class UserVector : public UserIn<::iovec> {
 public:
  using UserIn<::iovec>::UserIn;
};

}  // namespace sentry::mm

// SPDX-License-Identifier: Apache-2.0
// Errno and Result: how every fallible function of Caisson answers. An Errno is a positive Linux error
// number and never 0; a bare int never becomes an error or a success by accident.
#pragma once

#include <cerrno>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace base {

// A Linux error number. Values 512..516 are the kernel's internal restart codes (include/linux/errno.h),
// which only sentry/syscalls/dispatch.cc may turn into EINTR or a restarted call.
class [[nodiscard]] Errno {
 public:
  explicit constexpr Errno(int value) : v_(value) { CHECK(value > 0 && value < 4096); }
  constexpr int value() const { return v_; }
  // "ENOENT", or "errno 300" for a number without a name.
  std::string_view name() const;
  // "No such file or directory".
  std::string_view text() const;
  friend constexpr bool operator==(Errno a, Errno b) { return a.v_ == b.v_; }

 private:
  int v_;
};

#define BASE_ERRNO(n) inline constexpr Errno k##n{n};
BASE_ERRNO(EPERM) BASE_ERRNO(ENOENT) BASE_ERRNO(ESRCH) BASE_ERRNO(EINTR) BASE_ERRNO(EIO)
BASE_ERRNO(ENXIO) BASE_ERRNO(E2BIG) BASE_ERRNO(ENOEXEC) BASE_ERRNO(EBADF) BASE_ERRNO(ECHILD)
BASE_ERRNO(EAGAIN) BASE_ERRNO(ENOMEM) BASE_ERRNO(EACCES) BASE_ERRNO(EFAULT) BASE_ERRNO(ENOTBLK)
BASE_ERRNO(EBUSY) BASE_ERRNO(EEXIST) BASE_ERRNO(EXDEV) BASE_ERRNO(ENODEV) BASE_ERRNO(ENOTDIR)
BASE_ERRNO(EISDIR) BASE_ERRNO(EINVAL) BASE_ERRNO(ENFILE) BASE_ERRNO(EMFILE) BASE_ERRNO(ENOTTY)
BASE_ERRNO(ETXTBSY) BASE_ERRNO(EFBIG) BASE_ERRNO(ENOSPC) BASE_ERRNO(ESPIPE) BASE_ERRNO(EROFS)
BASE_ERRNO(EMLINK) BASE_ERRNO(EPIPE) BASE_ERRNO(EDOM) BASE_ERRNO(ERANGE) BASE_ERRNO(EDEADLK)
BASE_ERRNO(ENAMETOOLONG) BASE_ERRNO(ENOLCK) BASE_ERRNO(ENOSYS) BASE_ERRNO(ENOTEMPTY)
BASE_ERRNO(ELOOP) BASE_ERRNO(ENOMSG) BASE_ERRNO(EIDRM) BASE_ERRNO(ENODATA) BASE_ERRNO(ETIME)
BASE_ERRNO(EPROTO) BASE_ERRNO(EBADMSG) BASE_ERRNO(EOVERFLOW) BASE_ERRNO(EILSEQ) BASE_ERRNO(EUSERS)
BASE_ERRNO(ENOTSOCK) BASE_ERRNO(EDESTADDRREQ) BASE_ERRNO(EMSGSIZE) BASE_ERRNO(EPROTOTYPE)
BASE_ERRNO(ENOPROTOOPT) BASE_ERRNO(EPROTONOSUPPORT) BASE_ERRNO(ESOCKTNOSUPPORT)
BASE_ERRNO(EOPNOTSUPP) BASE_ERRNO(EPFNOSUPPORT) BASE_ERRNO(EAFNOSUPPORT) BASE_ERRNO(EADDRINUSE)
BASE_ERRNO(EADDRNOTAVAIL) BASE_ERRNO(ENETDOWN) BASE_ERRNO(ENETUNREACH) BASE_ERRNO(ECONNABORTED)
BASE_ERRNO(ECONNRESET) BASE_ERRNO(ENOBUFS) BASE_ERRNO(EISCONN) BASE_ERRNO(ENOTCONN)
BASE_ERRNO(ESHUTDOWN) BASE_ERRNO(ETIMEDOUT) BASE_ERRNO(ECONNREFUSED) BASE_ERRNO(EHOSTUNREACH)
BASE_ERRNO(EALREADY) BASE_ERRNO(EINPROGRESS) BASE_ERRNO(ESTALE) BASE_ERRNO(EDQUOT)
BASE_ERRNO(ECANCELED) BASE_ERRNO(EKEYREJECTED) BASE_ERRNO(EOWNERDEAD) BASE_ERRNO(ENOTRECOVERABLE)
#undef BASE_ERRNO
// Internal to the kernel; no application ever sees one.
inline constexpr Errno kERESTARTSYS{512};            // restart if SA_RESTART, else EINTR
inline constexpr Errno kERESTARTNOINTR{513};         // always restart
inline constexpr Errno kERESTARTNOHAND{514};         // restart only if no handler ran
inline constexpr Errno kERESTART_RESTARTBLOCK{516};  // restart by restart_syscall(2)

// A T, or an E. E is an Errno except in programs that talk to people (runtime/), where it carries text.
template <typename T, typename E = Errno>
class [[nodiscard]] Result {
 public:
  using Value = T;
  Result(T v) : ok_(true) { ::new (static_cast<void*>(&v_)) T(std::move(v)); }
  Result(E e) : ok_(false) { ::new (static_cast<void*>(&e_)) E(std::move(e)); }
  Result(Result&& o) noexcept : ok_(o.ok_) { take(o); }
  Result& operator=(Result&& o) noexcept {
    if (this != &o) {
      destroy();
      ok_ = o.ok_;
      take(o);
    }
    return *this;
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result() { destroy(); }

  bool ok() const { return ok_; }
  T& value() & { CHECK(ok_); return v_; }
  const T& value() const& { CHECK(ok_); return v_; }
  T&& value() && { CHECK(ok_); return std::move(v_); }
  const E& error() const { CHECK(!ok_); return e_; }
  T& operator*() & { return value(); }
  T* operator->() { return &value(); }
  T value_or(T other) && { return ok_ ? std::move(v_) : std::move(other); }

 private:
  void take(Result& o) {
    if (ok_) ::new (static_cast<void*>(&v_)) T(std::move(o.v_));
    else ::new (static_cast<void*>(&e_)) E(std::move(o.e_));
  }
  void destroy() {
    if (ok_) v_.~T();
    else e_.~E();
  }
  union { T v_; E e_; };
  bool ok_;
};

// What a system call returns: one register. `return EINVAL;` and `return -EINVAL;` do not compile.
template <>
class [[nodiscard]] Result<long, Errno> {
 public:
  using Value = long;
  Result(long v) : v_(v) {}
  Result(unsigned long v) : v_(static_cast<long>(v)) {}
  Result(int) = delete;
  Result(Errno e) : e_(e.value()) {}
  bool ok() const { return e_ == 0; }
  long value() const { CHECK(ok()); return v_; }
  long operator*() const { return value(); }
  Errno error() const { return Errno(e_); }
  long value_or(long other) const { return ok() ? v_ : other; }

 private:
  long v_ = 0;
  int e_ = 0;
};

template <typename E>
class [[nodiscard]] Result<void, E> {
 public:
  using Value = void;
  Result() : ok_(true) {}
  Result(E e) : ok_(false) { ::new (static_cast<void*>(&e_)) E(std::move(e)); }
  Result(Result&& o) noexcept : ok_(o.ok_) { if (!ok_) ::new (static_cast<void*>(&e_)) E(std::move(o.e_)); }
  Result& operator=(Result&& o) noexcept {
    if (this != &o) {
      if (!ok_) e_.~E();
      ok_ = o.ok_;
      if (!ok_) ::new (static_cast<void*>(&e_)) E(std::move(o.e_));
    }
    return *this;
  }
  ~Result() { if (!ok_) e_.~E(); }
  bool ok() const { return ok_; }
  void value() const { CHECK(ok_); }
  const E& error() const { CHECK(!ok_); return e_; }

 private:
  union { char none_ = 0; E e_; };
  bool ok_;
};

// A value for success without one: `return {};` or `return kOk;`.
inline Result<void> ok() { return {}; }

}  // namespace base

#define BASE_CAT_(a, b) a##b
#define BASE_CAT(a, b) BASE_CAT_(a, b)
// TRY(expr): the value of a Result, or return its error from this function.
#define TRY(expr) TRY_IMPL_(BASE_CAT(try_result_, __COUNTER__), expr)
#define TRY_IMPL_(tmp, expr)                    \
  __extension__({                               \
    auto tmp = (expr);                          \
    if (!tmp.ok()) return tmp.error();          \
    std::move(tmp).value();                     \
  })
// IGNORE_ERROR(expr, "why"): a failure that cannot matter, with the reason.
#define IGNORE_ERROR(expr, why) do { auto ignored_ = (expr); (void)ignored_; (void)sizeof(why); } while (0)

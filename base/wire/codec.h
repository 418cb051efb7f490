// SPDX-License-Identifier: Apache-2.0
// The encoding of every message between our own processes: little-endian, no padding, strings and lists
// with a 32-bit count before them. A struct takes part by
//   template <typename A> void visit(A& a) { a(field); a(other); }
// and is then written by encode() and read by decode(), which refuses short, long and oversized input. The
// bytes are hostile: a Reader never trusts a count further than the bytes that are really there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace base::wire {

class Writer {
 public:
  template <typename T>
  void operator()(const T& v) {
    if constexpr (std::is_enum_v<T>) {
      (*this)(static_cast<std::underlying_type_t<T>>(v));
    } else if constexpr (std::is_integral_v<T>) {
      const auto* p = reinterpret_cast<const std::byte*>(&v);
      out_.insert(out_.end(), p, p + sizeof v);
    } else if constexpr (std::is_same_v<T, std::string>) {
      (*this)(static_cast<uint32_t>(v.size()));
      const auto* p = reinterpret_cast<const std::byte*>(v.data());
      out_.insert(out_.end(), p, p + v.size());
    } else if constexpr (requires { typename T::value_type; v.begin(); }) {
      (*this)(static_cast<uint32_t>(v.size()));
      for (const auto& e : v) (*this)(e);
    } else {
      const_cast<T&>(v).visit(*this);
    }
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}

  template <typename T>
  void operator()(T& v) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t b = 0;
      (*this)(b);
      if (b > 1) bad_ = true;
      v = b == 1;
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> u{};
      (*this)(u);
      v = static_cast<T>(u);  // the user checks the range: an unknown value is an unknown request
    } else if constexpr (std::is_integral_v<T>) {
      if (bad_ || in_.size() < sizeof v) {
        bad_ = true;
        v = 0;
        return;
      }
      std::memcpy(&v, in_.data(), sizeof v);
      in_ = in_.subspan(sizeof v);
    } else if constexpr (std::is_same_v<T, std::string>) {
      uint32_t n = 0;
      (*this)(n);
      if (bad_ || in_.size() < n) {
        bad_ = true;
        return;
      }
      v.assign(reinterpret_cast<const char*>(in_.data()), n);
      in_ = in_.subspan(n);
    } else if constexpr (requires { typename T::value_type; v.begin(); }) {
      uint32_t n = 0;
      (*this)(n);
      if (bad_ || n > in_.size()) {  // every element takes at least one byte
        bad_ = true;
        return;
      }
      v.clear();
      for (uint32_t i = 0; i < n && !bad_; i++) {
        typename T::value_type e{};
        (*this)(e);
        v.push_back(std::move(e));
      }
    } else {
      v.visit(*this);
    }
  }
  bool finished() const { return !bad_ && in_.empty(); }
  bool bad() const { return bad_; }

 private:
  std::span<const std::byte> in_;
  bool bad_ = false;
};

template <typename T>
std::vector<std::byte> encode(const T& v) {
  Writer w;
  w(v);
  return w.take();
}

// EBADMSG: short, long or malformed input.
template <typename T>
Result<T> decode(std::span<const std::byte> in) {
  T v{};
  Reader r(in);
  r(v);
  if (!r.finished()) return kEBADMSG;
  return v;
}

}  // namespace base::wire

// SPDX-License-Identifier: Apache-2.0
// Ref<T>: an intrusive, atomic reference that is never null, for objects that several tables hold.
// Absence is std::optional<Ref<T>> (or RefOrNull<T>, which is smaller and says the same).
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/check.h"

namespace base {

// Base of shared objects. Born with one reference, which adopt_ref() takes.
template <typename T>
class RefCounted {
 public:
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void ref() const {
    uint32_t old = count_.fetch_add(1, std::memory_order_relaxed);
    DCHECK(old != 0 && old < UINT32_MAX / 2);
    (void)old;
  }
  void unref() const {
    if (drop_ref()) delete static_cast<const T*>(this);
  }
  // For weak tables: takes a reference unless the last one is already gone.
  bool try_ref() const {
    uint32_t n = count_.load(std::memory_order_relaxed);
    while (n != 0)
      if (count_.compare_exchange_weak(n, n + 1, std::memory_order_acquire)) return true;
    return false;
  }
  uint32_t ref_count() const { return count_.load(std::memory_order_relaxed); }

 protected:
  // Gives one reference up. True: it was the last, the caller deletes (for types whose unref() does more).
  [[nodiscard]] bool drop_ref() const {
    uint32_t old = count_.fetch_sub(1, std::memory_order_acq_rel);
    CHECK(old != 0);
    return old == 1;
  }
  RefCounted() = default;
  ~RefCounted() = default;

 private:
  mutable std::atomic<uint32_t> count_{1};
};

template <typename T>
class RefOrNull;

template <typename T>
class [[nodiscard]] Ref {
 public:
  explicit Ref(T& p) : p_(&p) { p_->ref(); }
  Ref(const Ref& o) : p_(o.p_) { if (p_) p_->ref(); }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  Ref(const Ref<U>& o) : p_(o.get()) { p_->ref(); }
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  Ref(Ref<U>&& o) noexcept : p_(o.leak()) {}
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Ref() { if (p_) p_->unref(); }

  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  T* leak() { return std::exchange(p_, nullptr); }
  friend bool operator==(const Ref& a, const Ref& b) { return a.p_ == b.p_; }

 private:
  template <typename U> friend Ref<U> adopt_ref(U* p);
  template <typename U> friend class RefOrNull;
  struct Adopt {};
  Ref(Adopt, T* p) : p_(p) {}
  T* p_;
};

// Takes over the reference an object is born with.
template <typename U>
Ref<U> adopt_ref(U* p) {
  CHECK(p);
  return Ref<U>(typename Ref<U>::Adopt{}, p);
}

template <typename T, typename... A>
Ref<T> make_ref(A&&... a) {
  return adopt_ref(new T(std::forward<A>(a)...));
}

template <typename T>
class [[nodiscard]] RefOrNull {
 public:
  RefOrNull() = default;
  RefOrNull(std::nullptr_t) {}
  RefOrNull(const RefOrNull& o) : p_(o.p_) { if (p_) p_->ref(); }
  RefOrNull(RefOrNull&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  RefOrNull(const Ref<U>& o) : p_(o.get()) { p_->ref(); }
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  RefOrNull(Ref<U>&& o) noexcept : p_(o.leak()) {}
  RefOrNull& operator=(RefOrNull o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~RefOrNull() { if (p_) p_->unref(); }
  explicit operator bool() const { return p_ != nullptr; }
  T* get() const { return p_; }
  T* operator->() const { DCHECK(p_); return p_; }
  T& operator*() const { DCHECK(p_); return *p_; }
  // Preconditions: not null.
  Ref<T> get_ref() const { CHECK(p_); return Ref<T>(*p_); }
  T* leak() { return std::exchange(p_, nullptr); }
  // Takes a reference to an object of a weak table, or nothing when it is dying.
  static RefOrNull upgrade(T* p) {
    RefOrNull r;
    if (p && p->try_ref()) r.p_ = p;
    return r;
  }

 private:
  T* p_ = nullptr;
};

}  // namespace base

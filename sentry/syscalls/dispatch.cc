// SPDX-License-Identifier: Apache-2.0
// From a number to a function: the run-time table made of table.inc, and the dispatcher.
#include <array>
#include <atomic>
#include <memory>
#include <utility>

#include "sentry/kernel/answers.h"
#include "sentry/syscalls/strace.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/transfer.h"

namespace sentry::syscalls {
namespace {

// One register as an argument of type T: integers are truncated here and nowhere else, as the kernel's wrappers do.
template <typename T>
T decode(uint64_t reg) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(reg);
  else return T(reg);
}

template <auto F, typename... A, size_t... I>
Result<long> invoke(Task& task, [[maybe_unused]] const platform::Call& c, std::index_sequence<I...>) {
  return F(task, decode<A>(c.args[I])...);
}

template <typename T>
constexpr ArgKind kind_of() {
  if constexpr (std::is_same_v<T, UserString>) return ArgKind::string;
  else if constexpr (std::is_base_of_v<mm::UserPointer, T>) return ArgKind::pointer;
  else if constexpr (sizeof(T) == 8 && std::is_unsigned_v<T>) return ArgKind::word;
  else return ArgKind::integer;
}

template <typename T>
struct IsSized : std::false_type {};
template <int N, size_t Bytes>
struct IsSized<UserSized<N, Bytes>> : std::true_type {
  static constexpr int kArg = N;
  static constexpr size_t kEach = Bytes;
};
template <typename T>
struct InTarget : std::type_identity<void> {};
template <typename T>
struct InTarget<UserIn<T>> : std::type_identity<T> {};
template <typename T>
struct InTarget<UserInOut<T>> : std::type_identity<T> {};

// Fixed structures larger than this are fetched when asked for: a copy at every call would cost more than it saves.
constexpr size_t kMaxFixed = 256;

template <typename T>
constexpr void describe(platform::CallDescriptor& d, int arg, int& used) {
  if (used >= 2) return;
  platform::CopyIn in;
  in.arg = static_cast<uint8_t>(arg);
  if constexpr (std::is_same_v<T, UserString>) {
    in.kind = platform::CopyIn::string;
  } else if constexpr (IsSized<T>::value) {
    in.kind = platform::CopyIn::sized;
    in.size = IsSized<T>::kEach;
    in.size_arg = IsSized<T>::kArg;
  } else if constexpr (std::is_same_v<T, UserReadVector> || std::is_same_v<T, UserWriteVector>) {
    in.kind = platform::CopyIn::iovec;
    in.size = std::is_same_v<T, UserWriteVector>;
    in.size_arg = 2;
  } else if constexpr (!std::is_void_v<typename InTarget<T>::type>) {
    if (sizeof(typename InTarget<T>::type) > kMaxFixed) return;
    in.kind = platform::CopyIn::fixed;
    in.size = sizeof(typename InTarget<T>::type);
  } else {
    return;
  }
  d.in[used++] = in;
}

template <auto F>
struct Entry;
template <typename... A, Result<long> (*F)(Task&, A...)>
struct Entry<F> {
  static_assert(sizeof...(A) <= 6, "a system call has at most six arguments");
  static Result<long> call(Task& task, const platform::Call& c) {
    return invoke<F, A...>(task, c, std::index_sequence_for<A...>{});
  }
  static constexpr Row row(const char* name, Support s, const char* note) {
    Row r;
    r.name = name;
    r.call = &call;
    r.support = s;
    r.note = note;
    r.args = sizeof...(A);
    int i = 0;
    ((r.kinds[i++] = kind_of<A>()), ...);
    return r;
  }
  static constexpr platform::CallDescriptor descriptor() {
    platform::CallDescriptor d;
    [[maybe_unused]] int used = 0, arg = 0;
    (describe<A>(d, arg++, used), ...);
    return d;
  }
};

struct Numbered {
  unsigned number;
  Row row;
  platform::CallDescriptor descriptor;
};
constexpr Row empty_row(const char* name, Support support, const char* note) {
  Row r;
  r.name = name;
  r.support = support;
  r.note = note;
  return r;
}

#define SYSCALL(number, name, support, note, ...) \
  {number, Entry<&sys_##name>::row(#name, Support::support, note), Entry<&sys_##name>::descriptor()},
#define ABSENT(number, name, note) {number, empty_row(#name, Support::absent, note), {}},
#define MISSING(number, name, note) {number, empty_row(#name, Support::missing, note), {}},
constexpr Numbered kList[] = {
#include "sentry/syscalls/table.inc"
};
#undef SYSCALL
#undef ABSENT
#undef MISSING

constexpr bool in_order() {
  for (size_t i = 1; i < std::size(kList); i++)
    if (kList[i].number <= kList[i - 1].number) return false;
  return true;
}
static_assert(in_order(), "rows of table.inc are in number order and each number has one");
static_assert(kList[std::size(kList) - 1].number < platform::kMaxCallNumber);

struct Tables {
  std::array<Row, platform::kMaxCallNumber> rows;
  std::array<platform::CallDescriptor, platform::kMaxCallNumber> descriptors;
};
// Calls that usually wait: their threads do not spin for the answer.
constexpr unsigned kMayBlock[] = {7, 23, 34, 35, 43, 61, 128, 130, 202, 230, 232, 247, 270, 271, 281, 288, 441, 65, 69, 70, 242, 243, 220, 449, 455};
constexpr Tables make_tables() {
  Tables t{};
  for (const Numbered& n : kList) {
    t.rows[n.number] = n.row;
    t.descriptors[n.number] = n.descriptor;
  }
  for (unsigned n : kMayBlock) t.descriptors[n].may_block = true;
  for (const kernel::AnsweredCall& a : kernel::kAnsweredCalls) t.descriptors[a.number].answer = a.answer;
  return t;
}
constinit const Tables kTables = make_tables();

class Dispatcher final : public kernel::CallHandler {
 public:
  explicit Dispatcher(const Options& o) : options_(o) {}

  Result<long> handle(Task& task, const platform::Call& call) override {
    if (__builtin_expect(options_.strace, 0)) return traced(task, call);
    return plain(task, call);
  }

  Result<long> not_delivered(Task& task, const platform::Call& call, int64_t result) override { return read_again(task, call, result); }

  bool sees_all() const override { return options_.strace; }

 private:
  Result<long> plain(Task& task, const platform::Call& call) {
    if (call.number < platform::kMaxCallNumber) {
      const Row& row = kTables.rows[call.number];
      if (row.call) return row.call(task, call);
      if (row.support == Support::absent) return kENOSYS;
    }
    note_missing(call.number);
    return kENOSYS;
  }
  Result<long> traced(Task& task, const platform::Call& call) {
    StraceLine line(task, call);
    Result<long> r = plain(task, call);
    line.finish(r);
    return r;
  }
  void note_missing(uint64_t number) {
    size_t i = number < platform::kMaxCallNumber ? number : platform::kMaxCallNumber;
    if (missing_[i].fetch_add(1, std::memory_order_relaxed) != 0) return;
    const Row* row = find_row(number);
    LOG(info, "system call {} ({}) is not supported: answers ENOSYS{}{}", number, row ? row->name : "unknown",
        row && row->note[0] ? ": " : "", row ? row->note : "");
  }

  const Options options_;
  std::array<std::atomic<uint64_t>, platform::kMaxCallNumber + 1> missing_{};
};

}  // namespace

const Row* find_row(uint64_t number) {
  if (number >= platform::kMaxCallNumber || !kTables.rows[number].name) return nullptr;
  return &kTables.rows[number];
}

std::span<const platform::CallDescriptor> descriptors() { return kTables.descriptors; }

std::unique_ptr<kernel::CallHandler> make_dispatcher(const Options& options) {
  return std::make_unique<Dispatcher>(options);
}

}  // namespace sentry::syscalls

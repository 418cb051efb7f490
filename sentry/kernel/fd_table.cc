// SPDX-License-Identifier: Apache-2.0
// Descriptor tables. A slot is free, reserved, or holds a file. Files are dropped and flushed outside the lock. Linux: fs/file.c.
#include "sentry/kernel/fd_table.h"

#include <algorithm>

#include "sentry/vfs/locks.h"

namespace sentry::kernel {
namespace {
constexpr size_t kMaxDescriptors = 1 << 20;  // Linux: fs.nr_open
}  // namespace

Ref<FdTable> FdTable::create() { return adopt_ref(new FdTable); }

FdTable::~FdTable() {
  for (Slot& s : slots_)
    if (s.file) IGNORE_ERROR(vfs::close_descriptor(*s.file, this), "nobody is left to be told");
}

Ref<FdTable> FdTable::copy() const {
  Ref<FdTable> t = create();
  std::vector<Slot> slots;
  {
    MutexLock l(mu_);
    slots = slots_;
  }
  for (Slot& s : slots) s.reserved = false;  // a number on its way belongs to its thread
  while (!slots.empty() && !slots.back().file) slots.pop_back();
  MutexLock l(t->mu_);
  t->slots_ = std::move(slots);
  return t;
}

Result<Ref<vfs::File>> FdTable::get(int fd) const {
  Ref<vfs::File> f = TRY(get_path(fd));
  if (f->flags() & O_PATH) return kEBADF;
  return f;
}

Result<Ref<vfs::File>> FdTable::get_path(int fd) const {
  MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return kEBADF;
  return slots_[fd].file.get_ref();
}

Result<int> FdTable::reserve(int at_least, uint64_t limit) {
  limit = std::min<uint64_t>(limit, kMaxDescriptors);
  if (at_least < 0 || static_cast<uint64_t>(at_least) >= limit) return at_least == 0 ? kEMFILE : kEINVAL;
  MutexLock l(mu_);
  size_t i = std::max<size_t>(at_least, first_free_);
  while (i < slots_.size() && (slots_[i].file || slots_[i].reserved)) i++;
  if (static_cast<size_t>(at_least) <= first_free_) first_free_ = i;
  if (i >= limit) return kEMFILE;
  if (i >= slots_.size()) slots_.resize(i + 1);
  slots_[i].reserved = true;
  return static_cast<int>(i);
}

void FdTable::commit(int fd, Ref<vfs::File> file, bool cloexec) {
  MutexLock l(mu_);
  Slot& s = slots_[fd];
  CHECK(s.reserved && !s.file);
  s = Slot{std::move(file), false, cloexec};
}

void FdTable::cancel(int fd) {
  MutexLock l(mu_);
  CHECK(slots_[fd].reserved);
  slots_[fd] = Slot{};
  first_free_ = std::min<size_t>(first_free_, fd);
}

Result<RefOrNull<vfs::File>> FdTable::replace(int fd, Ref<vfs::File> file, bool cloexec, uint64_t limit) {
  if (fd < 0 || static_cast<uint64_t>(fd) >= std::min<uint64_t>(limit, kMaxDescriptors)) return kEBADF;
  MutexLock l(mu_);
  if (static_cast<size_t>(fd) >= slots_.size()) slots_.resize(fd + 1);
  Slot& s = slots_[fd];
  if (s.reserved) return kEBUSY;  // man 2 dup: the race with open and dup
  RefOrNull<vfs::File> old = std::move(s.file);
  s = Slot{std::move(file), false, cloexec};
  return old;
}

Result<Ref<vfs::File>> FdTable::remove(int fd) {
  MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return kEBADF;
  Ref<vfs::File> f = slots_[fd].file.get_ref();
  slots_[fd] = Slot{};
  first_free_ = std::min<size_t>(first_free_, fd);
  return f;
}

Result<bool> FdTable::cloexec(int fd) const {
  MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return kEBADF;
  return static_cast<bool>(slots_[fd].cloexec);
}

Result<void> FdTable::set_cloexec(int fd, bool on) {
  MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return kEBADF;
  slots_[fd].cloexec = on;
  return {};
}

std::vector<Ref<vfs::File>> FdTable::remove_range(uint32_t first, uint32_t last) {
  std::vector<Ref<vfs::File>> out;
  MutexLock l(mu_);
  for (size_t i = first; i < slots_.size() && i <= last; i++) {
    if (!slots_[i].file) continue;
    out.push_back(slots_[i].file.get_ref());
    slots_[i] = Slot{};
    first_free_ = std::min(first_free_, i);
  }
  return out;
}

void FdTable::set_cloexec_range(uint32_t first, uint32_t last) {
  MutexLock l(mu_);
  for (size_t i = first; i < slots_.size() && i <= last; i++)
    if (slots_[i].file) slots_[i].cloexec = true;
}

std::vector<Ref<vfs::File>> FdTable::remove_cloexec() {
  std::vector<Ref<vfs::File>> out;
  MutexLock l(mu_);
  for (size_t i = 0; i < slots_.size(); i++) {
    if (!slots_[i].file || !slots_[i].cloexec) continue;
    out.push_back(slots_[i].file.get_ref());
    slots_[i] = Slot{};
    first_free_ = std::min(first_free_, i);
  }
  return out;
}

std::vector<int> FdTable::numbers() const {
  std::vector<int> out;
  MutexLock l(mu_);
  for (size_t i = 0; i < slots_.size(); i++)
    if (slots_[i].file) out.push_back(static_cast<int>(i));
  return out;
}

int FdTable::size() const {
  MutexLock l(mu_);
  for (size_t i = slots_.size(); i > 0; i--)
    if (slots_[i - 1].file) return static_cast<int>(i);
  return 0;
}

Result<FdReservation> FdReservation::reserve(const Ref<FdTable>& table, uint64_t limit, int at_least) {
  return FdReservation(table, TRY(table->reserve(at_least, limit)));
}

}  // namespace sentry::kernel

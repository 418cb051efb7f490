// SPDX-License-Identifier: Apache-2.0
// An address space: its control memory, its host process, and that process's end.
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <cstring>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {

Result<Control> Control::create() {
  Control c;
  c.fd_ = TRY(sys::memfd_create("stub", MFD_ALLOW_SEALING));
  TRY(sys::ftruncate(c.fd_.get(), STUB_ZONE_SIZE));
  c.base_ = static_cast<std::byte*>(
      TRY(sys::mmap(nullptr, STUB_ZONE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c.fd_.get(), 0)));
  TRY(sys::add_seals(c.fd_.get(), F_SEAL_SHRINK | F_SEAL_GROW));
  return c;
}

Control& Control::operator=(Control&& o) noexcept {
  std::swap(fd_, o.fd_);
  std::swap(base_, o.base_);
  return *this;
}

Control::~Control() {
  if (base_) IGNORE_ERROR(sys::munmap(base_, STUB_ZONE_SIZE), "our own mapping");
}

bool Control::clear() {
  constexpr int64_t kMost = 24 * kPageSize;
  struct stat st;
  if (!fd_.valid() || !sys::fstat(fd_.get(), &st).ok() || st.st_blocks * 512 > kMost) return false;
  for (off_t from = 0; (from = lseek(fd_.get(), from, SEEK_DATA)) >= 0;) {
    off_t to = lseek(fd_.get(), from, SEEK_HOLE);
    if (to < from) return false;
    memset(base_ + from, 0, static_cast<size_t>(to - from));
    from = to;
  }
  return errno == ENXIO;  // no data beyond
}

void Platform::Impl::prepare_control() {
  Control c;
  {
    MutexLock l(mu);
    may_prepare.store(false);
    if (clear_control.fd() >= 0 || spare_controls.empty()) return;
    c = std::move(spare_controls.back());
    spare_controls.pop_back();
  }
  if (!c.clear()) return;
  MutexLock l(mu);
  if (clear_control.fd() < 0) std::swap(clear_control, c);
  else c = retire(std::move(c));
}

Result<Control> Platform::Impl::new_control() {
  Control c;
  {
    MutexLock l(mu);
    if (clear_control.fd() >= 0) {
      may_prepare.store(!spare_controls.empty());
      return std::move(clear_control);
    }
    if (!spare_controls.empty()) {
      c = std::move(spare_controls.back());
      spare_controls.pop_back();
    }
  }
  if (c.fd() >= 0 && c.clear()) return c;
  return Control::create();
}

Control Platform::Impl::retire(Control c) {
  if (c.fd() < 0 || spare_controls.size() >= kMaxSpareControls) return c;
  spare_controls.push_back(std::move(c));
  may_prepare.store(true);
  return {};
}

void Control::prepare_slot(unsigned i) const {
  Slot& s = slot(i);
  uint64_t at = stub::slot_address(i);
  s.header.self = at;
  s.header.stack = at + STUB_STACK_TOP;
  s.header.kicked = 0;
  s.header.polled = 0;
  s.header.sleeping = 0;
  s.header.ready = 0;
  s.header.waits = 0;
  for (uint64_t& a : s.header.answers) __atomic_store_n(&a, 0, __ATOMIC_RELAXED);
  s.header.index = i;
  s.altstack = {at + STUB_ALTSTACK_OFFSET, 0, 0, STUB_ALTSTACK_SIZE};
  __atomic_store_n(&s.header.state, stub::kRequest | static_cast<uint32_t>(RequestKind::ask) << 8, __ATOMIC_RELEASE);
}

Process::Process(Platform::Impl& p, int host_pid, Fd fd, Space* s)
    : platform(p), pid(host_pid), pidfd(std::move(fd)), space(s),
      watch([](void* arg, uint32_t) {
        auto* self = static_cast<Process*>(arg);
        self->platform.process_died(*self);
      }, this) {}

// ---- Space ----

Space::Space() = default;

Space::~Space() {
  impl_->platform.forget(*this);
}

void Space::Impl::signal(int sig) {
  MutexLock l(platform.mu);
  if (process) IGNORE_ERROR(sys::pidfd_send_signal(process->pidfd.get(), sig), "it has just died");
}

void Space::kill() {
  if (impl_->gone.load()) return;
  impl_->platform.counters.processes_killed.fetch_add(1, std::memory_order_relaxed);
  impl_->signal(SIGKILL);
  impl_->mark_gone();
}

void Space::retire() {
  if (impl_->gone.load()) return;
  Platform::Impl& p = impl_->platform;
  bool full = false;
  {
    MutexLock l(p.mu);
    if (impl_->process) p.retired.push_back(impl_->process->pid);
    full = p.retired.size() >= Platform::Impl::kMaxRetired;
    p.retired_count.store(p.retired.size());
  }
  impl_->mark_gone();
  if (full || p.cpus < 2) p.kill_retired(Platform::Impl::Where::away);
  else p.start_watchdog();  // should no worker become idle
}

void Space::Impl::mark_gone() {
  if (gone.exchange(true)) return;
  MutexLock l(platform.poll_mu);
  for (Context* c : slots)
    if (c && c->impl().fiber) c->impl().fiber->wake();
}

bool Space::gone() const { return impl_->gone.load(std::memory_order_acquire); }
int Space::host_pid() const { return impl_->pid.load(std::memory_order_relaxed); }

uint64_t process_cpu_time(int pid) {
  if (pid <= 0) return 0;
  timespec ts{};
  // The clock id of a process: ~pid << 3 | CPUCLOCK_SCHED (include/linux/posix-timers_types.h).
  auto clock = static_cast<clockid_t>(static_cast<unsigned>(~pid) << 3 | 2);
  if (!sys::raw(SYS_clock_gettime, clock, reinterpret_cast<long>(&ts)).ok()) return 0;
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

uint64_t Space::cpu_time() {
  if (!gone()) {
    uint64_t t = process_cpu_time(host_pid());
    if (t > impl_->cpu_at_end) impl_->cpu_at_end = t;
  }
  return impl_->cpu_at_end;
}

int Space::Impl::take_slot() {
  MutexLock l(platform.poll_mu);
  for (unsigned i = 0; i < slots.size(); i++)
    if (!slots[i] && !slot_busy[i]) {
      slot_busy[i] = 1;
      return static_cast<int>(i);
    }
  if (slots.size() >= stub::kMaxSlots) return -1;
  slots.push_back(nullptr);
  slot_busy.push_back(1);
  places.store(static_cast<unsigned>(slots.size()), std::memory_order_relaxed);
  return static_cast<int>(slots.size()) - 1;
}

void Space::Impl::free_slot(unsigned index) {
  MutexLock l(platform.poll_mu);
  if (index < slot_busy.size()) slot_busy[index] = 0;
}

void Space::Impl::put_context(unsigned index, Context* c) {
  MutexLock l(platform.poll_mu);
  while (slots.size() <= index) {
    slots.push_back(nullptr);
    slot_busy.push_back(0);
    places.store(static_cast<unsigned>(slots.size()), std::memory_order_relaxed);
  }
  slots[index] = c;
  slot_busy[index] = 1;
}

// ---- Other processes' memory ----

namespace {
using VmCall = ssize_t (*)(pid_t, const iovec*, unsigned long, const iovec*, unsigned long, unsigned long);

// The pid cannot be somebody else's meanwhile: a dead process is not reaped while remote_users is not zero.
Result<size_t> remote(Space& s, VmCall call, uint64_t addr, void* buf, size_t n) {
  if (n == 0) return size_t{0};
  if (addr >= kAppLimit || n > kAppLimit - addr) return kEFAULT;
  Space::Impl& m = s.impl();
  // A child on its way into the world has no number yet.
  for (sched::Nanos limit = sched::now() + kSecond; s.host_pid() == 0 && !s.gone() && sched::now() < limit;)
    sched::park(sched::now() + kSecond / 10000);
  m.remote_users.fetch_add(1);
  Result<long> r = kESRCH;
  if (!s.gone())
    sched::run_blocking([&] {
      iovec local{buf, n}, far{reinterpret_cast<void*>(addr), n};
      r = sys::from_libc(call(s.host_pid(), &local, 1, &far, 1, 0));
    });
  if (m.remote_users.fetch_sub(1) == 1 && s.gone()) m.platform.start_watchdog();  // it may be waiting to be reaped
  if (!r.ok()) return r.error();
  return static_cast<size_t>(*r);
}
}  // namespace

// move_pages(2) without target nodes only asks. The mappings' sums of /proc, which the sentry has not, would be cheaper.
Result<void> Space::pages_present(std::span<const uint64_t> addresses, std::span<bool> present, ZeroPage zero) {
  CHECK(present.size() == addresses.size());
  std::vector<int> status(addresses.size(), -ENOENT);
  impl_->remote_users.fetch_add(1);
  Result<long> r = kESRCH;
  if (!gone() && host_pid() > 0)
    sched::run_blocking([&] {
      r = sys::raw(SYS_move_pages, host_pid(), static_cast<long>(addresses.size()),
                   reinterpret_cast<long>(addresses.data()), 0, reinterpret_cast<long>(status.data()), 0);
    });
  if (impl_->remote_users.fetch_sub(1) == 1 && gone()) impl_->platform.start_watchdog();
  if (!r.ok()) return r.error();
  for (size_t i = 0; i < status.size(); i++) present[i] = status[i] >= 0 || (zero == ZeroPage::is_there && status[i] == -EFAULT);
  return {};
}

Result<size_t> Space::read_remote(uint64_t addr, void* dst, size_t n) {
  return remote(*this, process_vm_readv, addr, dst, n);
}
Result<size_t> Space::write_remote(uint64_t addr, const void* src, size_t n) {
  return remote(*this, process_vm_writev, addr, const_cast<void*>(src), n);
}

}  // namespace sentry::platform

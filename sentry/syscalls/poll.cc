// SPDX-License-Identifier: Apache-2.0
// poll, ppoll, select, pselect6. Linux: fs/select.c.
#include <poll.h>
#include <sys/select.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/timeout.h"

namespace sentry::syscalls {
namespace {

// Files waited for, with what is asked of each.
struct Watched {
  RefOrNull<vfs::File> file;
  uint32_t mask = 0;
  uint32_t ready = 0;
};

// Fills ready; true when at least one is.
bool look(std::vector<Watched>& list) {
  bool any = false;
  for (Watched& w : list) {
    if (!w.file) {
      any |= w.ready != 0;
      continue;
    }
    w.ready = w.file->poll_events() & w.mask;
    any |= w.ready != 0;
  }
  return any;
}

// Waits for any of the list until the deadline; at the deadline nothing is ready and that is no error, unless a signal is there: it
// comes before the deadline, also before one that has passed. Linux: do_poll(), core_sys_select().
Result<void> wait_for_any(std::vector<Watched>& list, sched::Nanos deadline) {
  auto interrupted = [] { return sched::current()->interrupt_pending.load(std::memory_order_acquire); };
  if (look(list)) return {};
  if (deadline <= sched::now()) {
    if (interrupted()) return kERESTARTNOHAND;
    return {};
  }
  auto entries = std::make_unique<std::unique_ptr<sched::WaitEntry>[]>(list.size());
  for (size_t i = 0; i < list.size(); i++) {
    if (!list[i].file) continue;
    sched::WaitQueue* q = list[i].file->poll_queue();
    if (!q) continue;
    entries[i] = std::make_unique<sched::WaitEntry>(sched::current(), list[i].mask);
    q->add(*entries[i]);
  }
  for (;;) {
    if (look(list)) return {};
    if (interrupted()) return kERESTARTNOHAND;
    if (sched::park(deadline) == sched::Parked::timed_out) {
      if (!look(list) && interrupted()) return kERESTARTNOHAND;
      return {};
    }
  }
}

Result<long> do_poll(Task& task, PollFds fds, unsigned nfds, sched::Nanos deadline) {
  if (nfds > task.rlimit(RLIMIT_NOFILE)) return kEINVAL;
  std::vector<pollfd> list(nfds);
  if (nfds) TRY(task.context().copy_in(list.data(), fds.unchecked_address(), nfds * sizeof(pollfd)));
  std::vector<Watched> watched(nfds);
  auto table = task.files();
  for (unsigned i = 0; i < nfds; i++) {
    if (list[i].fd < 0) continue;
    auto f = table->get(list[i].fd);
    if (!f.ok()) {
      watched[i].ready = POLLNVAL;
      continue;
    }
    watched[i].file = *f;
    watched[i].mask = static_cast<uint16_t>(list[i].events) | EPOLLERR | EPOLLHUP;
  }
  TRY(wait_for_any(watched, deadline));
  long count = 0;
  for (unsigned i = 0; i < nfds; i++) {
    list[i].revents = static_cast<short>(watched[i].ready);
    count += list[i].revents != 0;
  }
  if (nfds) TRY(task.context().copy_out(fds.unchecked_address(), list.data(), nfds * sizeof(pollfd)));
  return count;
}

// fs/select.c: what each of the three sets asks for.
constexpr uint32_t kIn = EPOLLRDNORM | EPOLLRDBAND | EPOLLIN | EPOLLHUP | EPOLLERR;
constexpr uint32_t kOut = EPOLLWRBAND | EPOLLWRNORM | EPOLLOUT | EPOLLERR;
constexpr uint32_t kEx = EPOLLPRI;
constexpr size_t kLeastTable = 64;    // NR_OPEN_DEFAULT: a table never has fewer places
constexpr size_t kMaxSelect = 65536;  // descriptors past the table's size are not looked at

struct Sets {
  std::vector<uint64_t> bits[3];
  size_t words;
};

Result<long> do_select(Task& task, int nfds, const uint64_t (&addrs)[3], sched::Nanos deadline) {
  if (nfds < 0) return kEINVAL;
  auto table = task.files();
  size_t n = std::min({static_cast<size_t>(nfds), std::max(static_cast<size_t>(table->size()), kLeastTable), kMaxSelect});
  // Bits past the table are read for EBADF only within it (Linux: max_select_fd).
  Sets s;
  s.words = (n + 63) / 64;
  for (int k = 0; k < 3; k++) {
    s.bits[k].assign(s.words, 0);
    if (addrs[k] && s.words) TRY(task.context().copy_in(s.bits[k].data(), addrs[k], s.words * 8));
  }
  std::vector<Watched> watched;
  std::vector<int> numbers;
  for (size_t fd = 0; fd < n; fd++) {
    uint32_t mask = 0;
    uint64_t bit = 1ull << (fd % 64);
    if (s.bits[0][fd / 64] & bit) mask |= kIn;
    if (s.bits[1][fd / 64] & bit) mask |= kOut;
    if (s.bits[2][fd / 64] & bit) mask |= kEx;
    if (!mask) continue;
    Watched w;
    w.file = TRY(table->get(static_cast<int>(fd)));
    w.mask = mask;
    watched.push_back(std::move(w));
    numbers.push_back(static_cast<int>(fd));
  }
  TRY(wait_for_any(watched, deadline));
  Sets out;
  for (auto& b : out.bits) b.assign(s.words, 0);
  long count = 0;
  constexpr uint32_t kMasks[3] = {kIn, kOut, kEx};
  for (size_t i = 0; i < watched.size(); i++) {
    size_t word = static_cast<size_t>(numbers[i]) / 64;
    uint64_t bit = 1ull << (numbers[i] % 64);
    for (int k = 0; k < 3; k++)
      if ((s.bits[k][word] & bit) && (watched[i].ready & kMasks[k])) {
        out.bits[k][word] |= bit;
        count++;
      }
  }
  for (int k = 0; k < 3; k++)
    if (addrs[k] && s.words) TRY(task.context().copy_out(addrs[k], out.bits[k].data(), s.words * 8));
  return count;
}

// What is left of a time-out, for the calls that write it back.
timespec time_left(sched::Nanos deadline) {
  sched::Nanos left = deadline - sched::now();
  if (left < 0) left = 0;
  return {left / 1000000000, left % 1000000000};
}

}  // namespace

namespace {

Result<long> poll_until(Task& task, PollFds fds, unsigned nfds, sched::Nanos deadline);
Result<long> restart_poll(Task& task, const kernel::RestartBlock& b) {
  return poll_until(task, PollFds(b.args[0]), static_cast<unsigned>(b.args[1]), b.deadline);
}
// A stop does not lengthen the wait: the call goes on with what was left. (The others write that back for themselves.)
Result<long> poll_until(Task& task, PollFds fds, unsigned nfds, sched::Nanos deadline) {
  auto r = do_poll(task, fds, nfds, deadline);
  if (r.ok() || !(r.error() == kERESTARTNOHAND)) return r;
  kernel::RestartBlock block;
  block.fn = restart_poll;
  block.deadline = deadline;
  block.args[0] = fds.unchecked_address();
  block.args[1] = nfds;
  return task.restart_later(block);
}

}  // namespace

Result<long> sys_poll(Task& task, PollFds fds, unsigned nfds, int timeout_ms) {
  return poll_until(task, fds, nfds, deadline_after_ms(timeout_ms));
}

Result<long> sys_ppoll(Task& task, PollFds fds, unsigned nfds, UserInOut<timespec> timeout,
                       UserIn<uint64_t> sigmask, size_t setsize) {
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) deadline = TRY(deadline_after(TRY(timeout.copy_in(task.context()))));
  TRY(apply_signal_mask(task, sigmask, setsize));
  auto r = do_poll(task, fds, nfds, deadline);
  if (!timeout.is_null() && deadline != sched::kNever) TRY(timeout.copy_out(task.context(), time_left(deadline)));
  return r;
}

Result<long> sys_select(Task& task, int nfds, UserInOut<void> in, UserInOut<void> out, UserInOut<void> ex,
                        UserInOut<timeval> timeout) {
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) {
    auto t = TRY(timeout.copy_in(task.context()));
    if (t.tv_sec < 0 || t.tv_usec < 0) return kEINVAL;
    timespec ts{t.tv_sec + t.tv_usec / 1000000, t.tv_usec % 1000000 * 1000};
    deadline = TRY(deadline_after(ts));
  }
  auto r = do_select(task, nfds, {in.unchecked_address(), out.unchecked_address(), ex.unchecked_address()}, deadline);
  if (!timeout.is_null() && deadline != sched::kNever) {
    timespec left = time_left(deadline);
    TRY(timeout.copy_out(task.context(), timeval{left.tv_sec, left.tv_nsec / 1000}));
  }
  return r;
}

Result<long> sys_pselect6(Task& task, int nfds, UserInOut<void> in, UserInOut<void> out, UserInOut<void> ex,
                          UserInOut<timespec> timeout, UserIn<void> sigmask) {
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) deadline = TRY(deadline_after(TRY(timeout.copy_in(task.context()))));
  if (!sigmask.is_null()) {
    struct {
      uint64_t address;
      size_t size;
    } arg;
    TRY(sigmask.copy_bytes_in(task.context(), &arg, sizeof arg));
    TRY(apply_signal_mask(task, UserIn<uint64_t>(arg.address), arg.size));
  }
  auto r = do_select(task, nfds, {in.unchecked_address(), out.unchecked_address(), ex.unchecked_address()}, deadline);
  if (!timeout.is_null() && deadline != sched::kNever) TRY(timeout.copy_out(task.context(), time_left(deadline)));
  return r;
}

}  // namespace sentry::syscalls

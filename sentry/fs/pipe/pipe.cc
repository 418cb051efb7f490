// SPDX-License-Identifier: Apache-2.0
// A ring of bytes between ends. It starts with one page and grows to its capacity when data asks for it.
#include "sentry/fs/pipe/pipe.h"

#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <memory>

#include "sentry/kernel/task.h"

namespace sentry::fs::pipe {
namespace {

// Bytes in order; not locked.
class Ring {
 public:
  size_t size() const { return size_; }
  void push(const std::byte* p, size_t n) {
    if (size_ + n > room_ || !bytes_) grow(size_ + n);
    size_t tail = (head_ + size_) % room_;
    size_t first = std::min(n, room_ - tail);
    memcpy(bytes_.get() + tail, p, first);
    memcpy(bytes_.get(), p + first, n - first);
    size_ += n;
  }
  void copy(std::byte* p, size_t n) const {
    size_t first = std::min(n, room_ - head_);
    memcpy(p, bytes_.get() + head_, first);
    memcpy(p + first, bytes_.get(), n - first);
  }
  void pop(std::byte* p, size_t n) {
    copy(p, n);
    drop(n);
  }
  void drop(size_t n) {
    size_ -= n;
    head_ = size_ == 0 ? 0 : (head_ + n) % room_;
  }

 private:
  void grow(size_t need) {
    size_t room = std::max<size_t>(4096, std::bit_ceil(need));
    auto bytes = std::make_unique<std::byte[]>(room);
    size_t n = size_;
    if (n) pop(bytes.get(), n);
    bytes_ = std::move(bytes);
    room_ = room;
    head_ = 0;
    size_ = n;
  }
  std::unique_ptr<std::byte[]> bytes_;
  size_t room_ = 1, head_ = 0, size_ = 0;
};

// Held by: the open ends; the FIFO table borrows it.
struct Pipe : RefCounted<Pipe> {
  ~Pipe() = default;
  Mutex mu{LockRank::kFilePrivate};
  Ring ring GUARDED_BY(mu);
  std::deque<size_t> packets GUARDED_BY(mu);  // lengths, for writes made with O_DIRECT
  size_t capacity GUARDED_BY(mu) = kCapacity;
  int readers GUARDED_BY(mu) = 0, writers GUARDED_BY(mu) = 0;
  // Openings so far: a FIFO's open(2) waits for the next of the other side.
  uint64_t reader_count GUARDED_BY(mu) = 0, writer_count GUARDED_BY(mu) = 0;
  sched::WaitQueue queue;
};

// FIFOs that are open somewhere, by inode. An end keeps the inode alive, so the address is not reused.
Guarded<std::map<const vfs::Inode*, Pipe*>>& fifos() {
  static Guarded<std::map<const vfs::Inode*, Pipe*>> table(LockRank::kMountTree);
  return table;
}

class End final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::pipe;

  End(Ref<Pipe> pipe, const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred, bool fifo)
      : File(kKind, path, std::move(inode), flags, std::move(cred)), pipe_(std::move(pipe)), fifo_(fifo) {
    MutexLock l(pipe_->mu);
    if (readable()) pipe_->readers++, pipe_->reader_count++;
    if (writable()) pipe_->writers++, pipe_->writer_count++;
  }
  ~End() override {
    auto leave = [&] {
      MutexLock l(pipe_->mu);
      if (readable()) pipe_->readers--;
      if (writable()) pipe_->writers--;
      return pipe_->readers + pipe_->writers == 0;
    };
    if (fifo_) {
      fifos().with([&](auto& m) {
        if (leave()) m.erase(&inode());
      });
    } else {
      leave();
    }
    pipe_->queue.wake_all();
  }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    if (!readable()) return kEBADF;
    if (dst.empty()) return size_t{0};
    for (;;) {
      bool eof = false;
      size_t n = take(dst, &eof);
      if (n > 0) {
        pipe_->queue.wake_all(EPOLLOUT | EPOLLWRNORM);
        return n;
      }
      if (eof) return size_t{0};
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(pipe_->queue, [&] { return has_input(); }, sched::kNever, sched::Interruptible::yes,
                          EPOLLIN | EPOLLHUP));
    }
  }

  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override {
    if (!writable()) return kEBADF;
    size_t done = 0;
    while (done < src.size() || src.empty()) {
      bool broken = false;
      size_t n = put(src.subspan(done), &broken);
      if (n > 0) pipe_->queue.wake_all(EPOLLIN | EPOLLRDNORM);
      done += n;
      if (broken) {
        if (done > 0) return done;
        if (auto* t = kernel::Task::find_current()) t->send_signal(kernel::SignalInfo::kernel(SIGPIPE, SI_USER));
        return kEPIPE;
      }
      if (done == src.size()) return done;
      if (f.nonblock) {
        if (done > 0) return done;
        return kEAGAIN;
      }
      size_t want = src.size() - done;
      auto r = sched::wait_for(pipe_->queue, [&] { return has_room(want); }, sched::kNever, sched::Interruptible::yes,
                               EPOLLOUT | EPOLLERR);
      if (!r.ok()) {
        if (done > 0) return done;
        return r.error();
      }
    }
    return done;
  }

  uint32_t poll_events() override {
    MutexLock l(pipe_->mu);
    uint32_t e = 0;
    if (readable()) {
      if (pipe_->ring.size() > 0) e |= EPOLLIN | EPOLLRDNORM;
      // A FIFO that never had a writer is not hung up (Linux: pipe_poll, f_version).
      if (pipe_->writers == 0 && pipe_->writer_count > 0) e |= EPOLLHUP;
    }
    if (writable()) {
      if (pipe_->ring.size() < pipe_->capacity) e |= EPOLLOUT | EPOLLWRNORM;
      if (pipe_->readers == 0) e |= EPOLLERR;
    }
    return e;
  }
  sched::WaitQueue* poll_queue() override { return &pipe_->queue; }

  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    if (command != FIONREAD) return kENOTTY;
    int n;
    {
      MutexLock l(pipe_->mu);
      n = static_cast<int>(pipe_->ring.size());
    }
    TRY(c.copy_out(arg, &n, sizeof n));
    return 0L;
  }

  Pipe& pipe() { return *pipe_; }

  Result<size_t> peek(std::span<std::byte> dst, bool nonblock) {
    if (!readable()) return kEBADF;
    for (;;) {
      {
        MutexLock l(pipe_->mu);
        size_t n = std::min(dst.size(), pipe_->packets.empty() ? pipe_->ring.size() : pipe_->packets.front());
        if (n > 0) {
          pipe_->ring.copy(dst.data(), n);
          return n;
        }
        if (pipe_->writers == 0) return size_t{0};
      }
      if (nonblock) return kEAGAIN;
      TRY(sched::wait_for(pipe_->queue, [&] { return has_input(); }, sched::kNever, sched::Interruptible::yes,
                          EPOLLIN | EPOLLHUP));
    }
  }
  void consume(size_t n) {
    {
      MutexLock l(pipe_->mu);
      n = std::min(n, pipe_->ring.size());
      if (n == 0) return;
      if (!pipe_->packets.empty()) {
        n = pipe_->packets.front();
        pipe_->packets.pop_front();
      }
      pipe_->ring.drop(n);
    }
    pipe_->queue.wake_all(EPOLLOUT | EPOLLWRNORM);
  }

 private:
  size_t take(std::span<std::byte> dst, bool* eof) {
    MutexLock l(pipe_->mu);
    size_t n = std::min(dst.size(), pipe_->ring.size());
    if (n == 0) {
      *eof = pipe_->writers == 0;
      return 0;
    }
    if (!pipe_->packets.empty()) {
      size_t packet = pipe_->packets.front();
      n = std::min(dst.size(), packet);
      pipe_->packets.pop_front();
      pipe_->ring.pop(dst.data(), n);
      pipe_->ring.drop(packet - n);  // the rest of a packet is lost (man 2 pipe, O_DIRECT)
      return n;
    }
    pipe_->ring.pop(dst.data(), n);
    return n;
  }

  // Up to PIPE_BUF bytes go whole or not at all.
  size_t put(std::span<const std::byte> src, bool* broken) {
    MutexLock l(pipe_->mu);
    if (pipe_->readers == 0) {
      *broken = true;
      return 0;
    }
    size_t room = pipe_->capacity > pipe_->ring.size() ? pipe_->capacity - pipe_->ring.size() : 0;
    size_t n = std::min(src.size(), room);
    if (src.size() <= kAtomic && n < src.size()) return 0;
    bool packet = flags() & O_DIRECT;
    if (packet) n = std::min(n, kAtomic);
    if (n == 0) return 0;
    pipe_->ring.push(src.data(), n);
    if (packet) pipe_->packets.push_back(n);
    return n;
  }

  bool has_input() {
    MutexLock l(pipe_->mu);
    return pipe_->ring.size() > 0 || pipe_->writers == 0;
  }
  bool has_room(size_t want) {
    MutexLock l(pipe_->mu);
    size_t room = pipe_->capacity > pipe_->ring.size() ? pipe_->capacity - pipe_->ring.size() : 0;
    return pipe_->readers == 0 || room >= (want <= kAtomic ? want : 1);
  }

  Ref<Pipe> pipe_;
  const bool fifo_;
};

// Hangs on the inode of a nameless pipe: /proc/PID/fd/N opens another end of it, at once (Linux: fifo_open(), is_pipe).
class Reopen final : public vfs::Attachment {
 public:
  explicit Reopen(Ref<Pipe> p) : pipe_(std::move(p)) {}
  Result<Ref<vfs::File>> reopen(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    Ref<vfs::File> end = make_ref<End>(pipe_, where, where.inode().get_ref(), flags & (O_ACCMODE | O_NONBLOCK | O_DIRECT), cred, false);
    pipe_->queue.wake_all();
    return end;
  }

 private:
  const Ref<Pipe> pipe_;
};

// Waits until the other side of a FIFO has been opened once more than `seen`.
Result<void> wait_for_partner(Pipe& p, bool for_writer, uint64_t seen) {
  return sched::wait_for(p.queue, [&] {
    MutexLock l(p.mu);
    if (for_writer) return p.writers > 0 || p.writer_count > seen;
    return p.readers > 0 || p.reader_count > seen;
  });
}

}  // namespace

Result<Ends> create(int flags, const Ref<auth::Credentials>& cred) {
  auto pipe = make_ref<Pipe>();
  vfs::Path path = vfs::make_anonymous_path("pipe", S_IFIFO | 0600, *cred);
  auto inode = path.inode().get_ref();
  (void)inode->attach(make_ref<Reopen>(pipe));
  int keep = flags & (O_NONBLOCK | O_DIRECT);
  Ref<vfs::File> r = make_ref<End>(pipe, path, inode, O_RDONLY | keep, cred, false);
  Ref<vfs::File> w = make_ref<End>(pipe, path, inode, O_WRONLY | keep, cred, false);
  return Ends{std::move(r), std::move(w)};
}

Result<Ref<vfs::File>> open_fifo(const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                 const Ref<auth::Credentials>& cred) {
  int access = flags & O_ACCMODE;
  uint64_t seen_readers = 0, seen_writers = 0;
  RefOrNull<Pipe> pipe;
  RefOrNull<vfs::File> end;
  auto opened = fifos().with([&](auto& m) -> Result<void> {
    Pipe*& slot = m[inode.get()];
    if (slot) pipe = Ref<Pipe>(*slot);
    else pipe = make_ref<Pipe>();
    {
      MutexLock l(pipe->mu);
      seen_readers = pipe->reader_count;
      seen_writers = pipe->writer_count;
      if (access == O_WRONLY && (flags & O_NONBLOCK) && pipe->readers == 0) {
        if (!slot) m.erase(inode.get());
        return kENXIO;
      }
    }
    slot = pipe.get();
    end = Ref<vfs::File>(make_ref<End>(pipe.get_ref(), where, inode, flags, cred, true));
    return {};
  });
  TRY(std::move(opened));
  pipe->queue.wake_all();
  if (!(flags & O_NONBLOCK)) {
    if (access == O_RDONLY) TRY(wait_for_partner(*pipe, true, seen_writers));
    if (access == O_WRONLY) TRY(wait_for_partner(*pipe, false, seen_readers));
  }
  return end.get_ref();
}

Result<size_t> peek(vfs::File& file, std::span<std::byte> dst, bool nonblock) {
  End* e = file.as<End>();
  if (!e) return kEBADF;
  return e->peek(dst, nonblock);
}
void consume(vfs::File& file, size_t n) {
  if (End* e = file.as<End>()) e->consume(n);
}

Result<long> capacity(vfs::File& file) {
  End* e = file.as<End>();
  if (!e) return kEBADF;
  MutexLock l(e->pipe().mu);
  return e->pipe().capacity;
}

Result<long> set_capacity(vfs::File& file, size_t bytes) {
  End* e = file.as<End>();
  if (!e) return kEBADF;
  if (bytes > size_t{1} << 31) return kEINVAL;
  size_t want = std::bit_ceil(std::max(bytes, kAtomic));
  if (want > kMaxCapacity) return kEPERM;
  {
    MutexLock l(e->pipe().mu);
    if (want < e->pipe().ring.size()) return kEBUSY;
    e->pipe().capacity = want;
  }
  e->pipe().queue.wake_all(EPOLLOUT);
  return want;
}

}  // namespace sentry::fs::pipe

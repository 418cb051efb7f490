// SPDX-License-Identifier: Apache-2.0
// An epoll keeps an item per (file, fd). A watched file's wait queue calls back: the item goes on the list of candidates, without a
// lock; epoll_wait asks each candidate's file what is true now.
#include "sentry/fs/epoll/epoll.h"

#include <deque>
#include <map>
#include <memory>

namespace sentry::fs::epoll {
namespace {

constexpr uint32_t kPrivateBits = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;
constexpr uint32_t kInBits = EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLPRI | EPOLLRDHUP, kOutBits = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
constexpr int kMaxNests = 4;      // EP_MAX_NESTS
constexpr int kMaxVisits = 4096;  // epolls that one look at the nesting may meet

class Epoll;

struct Item {
  Item(Epoll& e, vfs::File& f, int n, const epoll_event& ev);
  Epoll& epoll;
  vfs::File* file;  // whole while the item is in the epoll's map: a file takes its items out before anything of it goes
  const int fd;
  epoll_event event;
  std::atomic<uint32_t> interest;        // of event, for callbacks
  bool disabled = false;                 // EPOLLONESHOT has fired
  bool listed = false;                   // in ready_
  std::atomic<bool> candidate{false};    // in the stack of candidates
  Item* next_candidate = nullptr;
  bool dead = false;                     // taken out while it was still a candidate
  sched::WaitEntry entry;
};

using Key = std::pair<const vfs::File*, int>;

// Guards which epoll watches which file, against both of them going away.
using Links = std::multimap<const vfs::File*, Epoll*>;
Guarded<Links>& links() {
  static Guarded<Links> map(LockRank::kEpollLinks);
  return map;
}

class Epoll final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::epoll;

  Epoll(const vfs::Path& path, Ref<vfs::Inode> inode, Ref<auth::Credentials> cred)
      : File(kKind, path, std::move(inode), O_RDWR, std::move(cred)) {}
  ~Epoll() override {
    links().with([&](auto& m) {
      MutexLock l(mu_);
      for (auto& [key, item] : items_) {
        unlink(m, *item->file);
        item->entry.detach();
      }
    });
  }

  Result<void> add(int fd, const Ref<vfs::File>& target, const epoll_event& ev) {
    sched::WaitQueue* queue = target->poll_queue();
    if (!queue) return kEPERM;
    // Linux: EPOLLEXCLUSIVE_OK_BITS.
    constexpr uint32_t kWithExclusive = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if ((ev.events & EPOLLEXCLUSIVE) && (target->as<Epoll>() || (ev.events & ~kWithExclusive))) return kEINVAL;
    return links().with([&](auto& m) -> Result<void> {
      if (Epoll* inner = target->as<Epoll>())
        if (!may_nest(m, *inner)) return kELOOP;
      MutexLock l(mu_);
      auto [it, fresh] = items_.try_emplace(Key{target.get(), fd});
      if (!fresh) return kEEXIST;
      it->second = std::make_unique<Item>(*this, *target, fd, ev);
      m.emplace(target.get(), this);
      target->watched.store(true, std::memory_order_release);
      queue->add(it->second->entry);
      consider(*it->second, target->poll_events());
      return {};
    });
  }

  Result<void> modify(int fd, const Ref<vfs::File>& target, const epoll_event& ev) {
    MutexLock l(mu_);
    auto it = items_.find(Key{target.get(), fd});
    if (it == items_.end()) return kENOENT;
    if ((it->second->event.events | ev.events) & EPOLLEXCLUSIVE) return kEINVAL;
    it->second->event = ev;
    it->second->interest.store(ev.events, std::memory_order_release);
    it->second->disabled = false;
    consider(*it->second, target->poll_events());
    return {};
  }

  Result<void> remove(int fd, const vfs::File& target) {
    return links().with([&](auto& m) -> Result<void> {
      MutexLock l(mu_);
      auto it = items_.find(Key{&target, fd});
      if (it == items_.end()) return kENOENT;
      take_out(it);
      unlink(m, target);
      return {};
    });
  }

  // The file is going: forget every item of it. Runs with the links locked.
  void forget(const vfs::File& target) {
    MutexLock l(mu_);
    for (auto it = items_.lower_bound(Key{&target, INT32_MIN}); it != items_.end() && it->first.first == &target;)
      take_out(it++);
  }

  std::vector<epoll_event> collect(size_t max) {
    std::vector<epoll_event> out;
    MutexLock l(mu_);
    adopt_candidates();
    size_t n = ready_.size();
    for (size_t i = 0; i < n && out.size() < max; i++) {
      Item* item = ready_.front();
      ready_.pop_front();
      item->listed = false;
      if (item->disabled) continue;
      uint32_t now = item->file->poll_events() & wanted(*item);
      if (now) {
        out.push_back({now, item->event.data});
        if (item->event.events & EPOLLONESHOT) item->disabled = true;
        else if (!(item->event.events & EPOLLET)) list(*item);  // level: stays until it is no longer true
      }
    }
    return out;
  }

  // True when collect() may find something.
  bool has_candidates() {
    MutexLock l(mu_);
    adopt_candidates();
    for (Item* item : ready_)
      if (!item->disabled && (item->file->poll_events() & wanted(*item))) return true;
    return false;
  }

  uint32_t poll_events() override { return has_candidates() ? EPOLLIN | EPOLLRDNORM : 0; }
  sched::WaitQueue* poll_queue() override { return &waiters_; }

  // Room to write is no edge for who waits to read, nor the other way round, even if there is something to read as well by the time
  // that it is looked at. Linux: ep_poll_callback().
  static bool concerns(const Item& item, uint32_t events) {
    const uint32_t interest = item.interest.load(std::memory_order_acquire);
    if (events == 0 || (events & ~(kInBits | kOutBits))) return true;
    return ((events & kInBits) && (interest & kInBits)) || ((events & kOutBits) && (interest & kOutBits));
  }
  void on_event(Item& item, uint32_t events) {
    if (!concerns(item, events)) return;
    if (!item.candidate.exchange(true, std::memory_order_acq_rel)) {
      Item* head = candidates_.load(std::memory_order_relaxed);
      do item.next_candidate = head;
      while (!candidates_.compare_exchange_weak(head, &item, std::memory_order_release));
    }
    waiters_.wake(EPOLLIN | EPOLLRDNORM, 1);
  }

  static uint32_t wanted(const Item& i) { return (i.event.events & ~kPrivateBits) | EPOLLERR | EPOLLHUP; }

  std::string fdinfo() override {
    std::string out;
    MutexLock l(mu_);
    for (auto& [key, item] : items_)
      out += base::format("tfd: {:8} events: {:8x} data: {:16x}\n", item->fd, uint32_t{item->event.events}, uint64_t{item->event.data.u64});
    return out;
  }

 private:
  // One of the links between them.
  void unlink(Links& m, const vfs::File& file) {
    auto [from, to] = m.equal_range(&file);
    for (auto it = from; it != to; ++it) {
      if (it->second != this) continue;
      m.erase(it);
      return;
    }
  }
  // An event climbs from epoll to epoll, and a look at one goes down: neither may go far, nor in a circle. Linux: ep_loop_check().
  bool may_nest(const Links& links, Epoll& inner) {
    int visits = kMaxVisits;
    return height(links, *this, 0, visits) + 1 + depth(inner, 0, visits) <= kMaxNests;
  }
  // The longest way up from e; more than kMaxNests: too long, or there are too many.
  static int height(const Links& links, const Epoll& e, int level, int& visits) {
    if (level > kMaxNests || --visits < 0) return kMaxNests + 1;
    int most = 0;
    auto [from, to] = links.equal_range(&e);
    for (auto it = from; it != to; ++it) most = std::max(most, 1 + height(links, *it->second, level + 1, visits));
    return most;
  }
  // The longest way down, which must not meet this epoll.
  int depth(Epoll& e, int level, int& visits) {
    if (&e == this || level > kMaxNests || --visits < 0) return kMaxNests + 1;
    std::vector<Epoll*> below;  // they stay while the links are locked
    {
      MutexLock l(e.mu_);
      for (auto& [key, item] : e.items_)
        if (Epoll* b = item->file->as<Epoll>()) below.push_back(b);
    }
    int most = 0;
    for (Epoll* b : below) most = std::max(most, 1 + depth(*b, level + 1, visits));
    return most;
  }

  void list(Item& item) REQUIRES(mu_) {
    if (item.listed) return;
    item.listed = true;
    ready_.push_back(&item);
  }
  void consider(Item& item, uint32_t events) REQUIRES(mu_) {
    if (!(events & wanted(item))) return;
    list(item);
    waiters_.wake(EPOLLIN | EPOLLRDNORM, 1);
  }
  void adopt_candidates() REQUIRES(mu_) {
    Item* head = candidates_.exchange(nullptr, std::memory_order_acquire);
    Item* in_order = nullptr;
    while (head) {
      Item* next = head->next_candidate;
      head->next_candidate = in_order;
      in_order = head;
      head = next;
    }
    while (in_order) {
      Item* next = in_order->next_candidate;
      in_order->candidate.store(false, std::memory_order_release);
      if (!in_order->dead) list(*in_order);
      in_order = next;
    }
    buried_.clear();
  }
  // After detach() no callback runs; an item that is still a candidate is buried until the stack has been adopted.
  void take_out(std::map<Key, std::unique_ptr<Item>>::iterator it) REQUIRES(mu_) {
    std::unique_ptr<Item> item = std::move(it->second);
    items_.erase(it);
    item->entry.detach();
    item->dead = true;
    if (item->listed) std::erase(ready_, item.get());
    if (item->candidate.load(std::memory_order_acquire)) buried_.push_back(std::move(item));
  }

  Mutex mu_{LockRank::kEpollInterest};
  std::map<Key, std::unique_ptr<Item>> items_ GUARDED_BY(mu_);
  std::deque<Item*> ready_ GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Item>> buried_ GUARDED_BY(mu_);
  std::atomic<Item*> candidates_{nullptr};
  sched::WaitQueue waiters_{LockRank::kEpollWait};
};

Item::Item(Epoll& e, vfs::File& f, int n, const epoll_event& ev)
    : epoll(e), file(&f), fd(n), event(ev), interest(ev.events),
      entry([](sched::WaitEntry& w, uint32_t events) {
        auto* item = static_cast<Item*>(w.arg());
        item->epoll.on_event(*item, events);
      }, this, ~0u) {
  entry.exclusive = ev.events & EPOLLEXCLUSIVE;
}

void file_released(const vfs::File& file) {
  links().with([&](auto& m) {
    auto range = m.equal_range(&file);
    for (auto it = range.first; it != range.second; ++it) it->second->forget(file);
    m.erase(range.first, range.second);
  });
}

}  // namespace

Ref<vfs::File> create(const Ref<auth::Credentials>& cred) {
  vfs::File::release_hook.store(&file_released, std::memory_order_release);
  vfs::Path path = vfs::make_anonymous_path("anon_inode:[eventpoll]", 0600, *cred);
  return make_ref<Epoll>(path, path.inode().get_ref(), cred);
}

Result<void> control(vfs::File& file, int op, int fd, const Ref<vfs::File>& target, const epoll_event& event) {
  Epoll* e = file.as<Epoll>();
  if (!e || target.get() == &file) return kEINVAL;
  if (!target->poll_queue()) return kEPERM;
  switch (op) {
    case EPOLL_CTL_ADD: return e->add(fd, target, event);
    case EPOLL_CTL_MOD: return e->modify(fd, target, event);
    case EPOLL_CTL_DEL: return e->remove(fd, *target);
    default: return kEINVAL;
  }
}

Result<std::vector<epoll_event>> wait(vfs::File& file, int max, sched::Nanos deadline) {
  Epoll* e = file.as<Epoll>();
  if (!e || max <= 0) return kEINVAL;
  for (;;) {
    auto events = e->collect(static_cast<size_t>(max));
    if (!events.empty() || deadline <= sched::now()) return events;
    auto r = sched::wait_for(*e->poll_queue(), [&] { return e->has_candidates(); }, deadline);
    if (!r.ok() && r.error() == kETIMEDOUT) return events;
    if (!r.ok()) return kEINTR;
  }
}

}  // namespace sentry::fs::epoll

// SPDX-License-Identifier: Apache-2.0
// Instances, their queues and watches. A watch pins its inode and the name it was found by, never the mount: unmounting ends it.
#include "sentry/fs/inotify/inotify.h"

#include <sys/ioctl.h>

#include <cstring>
#include <deque>
#include <map>

namespace sentry::fs::inotify {
namespace {

constexpr uint32_t kAlways = IN_UNMOUNT;  // watched for without being asked

struct PerUser {
  uint32_t instances = 0, watches = 0;
};
constinit Mutex g_users_mu{LockRank::kFilePrivate};
std::map<uint32_t, PerUser>& users() REQUIRES(g_users_mu) {
  static std::map<uint32_t, PerUser>* u = new std::map<uint32_t, PerUser>;
  return *u;
}
bool take(uint32_t uid, uint32_t PerUser::*what, uint32_t limit) {
  MutexLock l(g_users_mu);
  PerUser& u = users()[uid];
  if (u.*what >= limit) return false;
  (u.*what)++;
  return true;
}
void give_back(uint32_t uid, uint32_t PerUser::*what) {
  MutexLock l(g_users_mu);
  PerUser& u = users()[uid];
  (u.*what)--;
  if (u.instances == 0 && u.watches == 0) users().erase(uid);
}

struct Event {
  int wd;
  uint32_t mask, cookie;
  std::string name;
  size_t padded() const { return name.empty() ? 0 : (name.size() + 1 + 15) & ~size_t{15}; }
  size_t size() const { return sizeof(inotify_event) + padded(); }
};

class Watch;

// What an instance and its watches share; the instance may go first.
struct Queue : RefCounted<Queue> {
  explicit Queue(uint32_t u) : uid(u) {}
  const uint32_t uid;
  Mutex mu{LockRank::kFilePrivate};
  std::deque<Event> events GUARDED_BY(mu);
  size_t bytes GUARDED_BY(mu) = 0;
  std::map<int, Ref<Watch>> watches GUARDED_BY(mu);
  int last_wd GUARDED_BY(mu) = 0;
  bool closed GUARDED_BY(mu) = false;
  sched::WaitQueue queue;

  void push(Event e) {
    {
      MutexLock l(mu);
      if (closed) return;
      if (events.size() >= kMaxQueued) {
        if (!events.empty() && events.back().mask == IN_Q_OVERFLOW) return;
        e = Event{-1, IN_Q_OVERFLOW, 0, {}};
      } else if (!events.empty() && e.mask != IN_IGNORED) {
        const Event& last = events.back();
        if (last.wd == e.wd && last.mask == e.mask && last.name == e.name) return;
      }
      bytes += e.size();
      events.push_back(std::move(e));
    }
    queue.wake_all(EPOLLIN | EPOLLRDNORM);
  }
};

class Watch final : public vfs::FileWatch {
 public:
  Watch(Ref<Queue> q, int wd, Ref<vfs::Inode> inode, Ref<vfs::Dentry> dentry, uint32_t mask)
      : queue_(std::move(q)), wd_(wd), inode_(std::move(inode)), dentry_(std::move(dentry)), mask_(mask) {}
  ~Watch() override { give_back(queue_->uid, &PerUser::watches); }

  void event(uint32_t mask, uint32_t cookie, std::string_view name, bool unlinked) override {
    const uint32_t wanted = mask_.load();
    if (!(mask & wanted & (IN_ALL_EVENTS | IN_UNMOUNT))) return;
    if (unlinked && (wanted & IN_EXCL_UNLINK)) return;
    if ((wanted & IN_ONESHOT) && fired_.exchange(true)) return;
    // Linux: inotify_handle_inode_event() leaves IN_ISDIR out of events on the object itself that end its name.
    if (mask & (IN_DELETE_SELF | IN_MOVE_SELF)) mask &= ~IN_ISDIR;
    queue_->push(Event{wd_, mask, cookie, std::string(name)});
    if (wanted & IN_ONESHOT) drop();
  }
  void ended() override { forget(); }
  // Out of the inode's list, with IN_IGNORED.
  void drop() {
    Ref<Watch> self(*this);
    vfs::remove_watch(*inode_, *this);
    forget();
  }
  vfs::Inode& inode() const { return *inode_; }
  uint32_t mask() const { return mask_.load(); }
  void set_mask(uint32_t m) { mask_.store(m); }
  int wd() const { return wd_; }
  const Queue& queue() const { return *queue_; }

 private:
  void forget() {
    Ref<Watch> self(*this);
    {
      MutexLock l(queue_->mu);
      if (queue_->watches.erase(wd_) == 0) return;
    }
    queue_->push(Event{wd_, IN_IGNORED, 0, {}});
  }

  const Ref<Queue> queue_;
  const int wd_;
  const Ref<vfs::Inode> inode_;
  const Ref<vfs::Dentry> dentry_;
  std::atomic<uint32_t> mask_;
  std::atomic<bool> fired_{false};
};

class InotifyFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::inotify;
  InotifyFile(Ref<Queue> q, const vfs::Path& path, int flags, Ref<auth::Credentials> cred)
      : File(kKind, path, path.inode().get_ref(), O_RDONLY | flags, std::move(cred)), queue_(std::move(q)) {}
  ~InotifyFile() override {
    std::map<int, Ref<Watch>> all;
    {
      MutexLock l(queue_->mu);
      queue_->closed = true;
      all.swap(queue_->watches);
    }
    for (auto& [wd, w] : all) vfs::remove_watch(w->inode(), *w);
    give_back(queue_->uid, &PerUser::instances);
  }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    for (;;) {
      size_t done = 0;
      {
        MutexLock l(queue_->mu);
        while (!queue_->events.empty()) {
          const Event& e = queue_->events.front();
          if (done + e.size() > dst.size()) {
            if (done == 0) return kEINVAL;
            break;
          }
          write_event(dst.data() + done, e);
          done += e.size();
          queue_->bytes -= e.size();
          queue_->events.pop_front();
        }
      }
      if (done > 0) return done;
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(queue_->queue, [&] {
        MutexLock l(queue_->mu);
        return !queue_->events.empty();
      }));
    }
  }
  bool message_oriented() const override { return true; }
  uint32_t poll_events() override {
    MutexLock l(queue_->mu);
    return queue_->events.empty() ? 0u : EPOLLIN | EPOLLRDNORM;
  }
  sched::WaitQueue* poll_queue() override { return &queue_->queue; }
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    if (command != FIONREAD) return kENOTTY;
    int n;
    {
      MutexLock l(queue_->mu);
      n = static_cast<int>(queue_->bytes);
    }
    TRY(c.copy_out(arg, &n, sizeof n));
    return 0L;
  }
  std::string fdinfo() override {
    std::vector<Ref<Watch>> all;
    {
      MutexLock l(queue_->mu);
      for (auto& [wd, w] : queue_->watches) all.push_back(w);
    }
    std::string out;
    for (const Ref<Watch>& w : all) {
      Result<vfs::Attributes> a = w->inode().attributes();
      out += base::format("inotify wd:{:x} ino:{:x} sdev:{:x} mask:{:x} ignored_mask:0 \n", w->wd(), a.ok() ? a->ino : 0,
                          a.ok() ? a->dev : 0, w->mask());
    }
    return out;
  }

  Result<int> add(const vfs::Path& path, uint32_t mask) {
    Ref<vfs::Inode> inode = path.inode().get_ref();
    const uint32_t wanted = (mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK)) | kAlways;
    sched::SleepLock one_at_a_time(adding_);
    for (const Ref<vfs::FileWatch>& w : vfs::watches_of(*inode)) {
      Watch& mine = static_cast<Watch&>(*w);  // inotify's are the only ones there are
      if (&mine.queue() != queue_.get()) continue;
      if (mask & IN_MASK_CREATE) return kEEXIST;
      mine.set_mask(mask & IN_MASK_ADD ? mine.mask() | wanted : wanted);
      return mine.wd();
    }
    if (!take(queue_->uid, &PerUser::watches, kMaxWatches)) return kENOSPC;
    RefOrNull<Watch> fresh;
    {
      MutexLock l(queue_->mu);
      const int wd = ++queue_->last_wd;
      Ref<Watch> made = make_ref<Watch>(queue_, wd, inode, path.dentry.get_ref(), wanted);
      queue_->watches.emplace(wd, made);
      fresh = made;
    }
    vfs::add_watch(*inode, fresh.get_ref());
    return fresh->wd();
  }
  Result<void> remove(int wd) {
    sched::SleepLock one_at_a_time(adding_);  // a watch that is half made has its number already
    RefOrNull<Watch> w;
    {
      MutexLock l(queue_->mu);
      auto it = queue_->watches.find(wd);
      if (it == queue_->watches.end()) return kEINVAL;
      w = it->second;
    }
    w->drop();
    return {};
  }

 private:
  static void write_event(std::byte* to, const Event& e) {
    inotify_event h{e.wd, e.mask, e.cookie, static_cast<uint32_t>(e.padded())};
    memcpy(to, &h, sizeof h);
    memset(to + sizeof h, 0, e.padded());
    memcpy(to + sizeof h, e.name.data(), e.name.size());
  }

  const Ref<Queue> queue_;
  sched::SleepMutex adding_;
};

}  // namespace

Result<Ref<vfs::File>> create(int flags, const Ref<auth::Credentials>& cred) {
  if (!take(cred->uid, &PerUser::instances, kMaxInstances)) return kEMFILE;
  return Ref<vfs::File>(make_ref<InotifyFile>(make_ref<Queue>(cred->uid),
                                              vfs::make_anonymous_path("anon_inode:inotify", 0600, *cred),
                                              flags & O_NONBLOCK, cred));
}

bool is_instance(vfs::File& file) { return file.as<InotifyFile>() != nullptr; }

Result<int> add(vfs::File& instance, const vfs::Path& path, uint32_t mask) {
  InotifyFile* i = instance.as<InotifyFile>();
  if (!i) return kEINVAL;
  return i->add(path, mask);
}

Result<void> remove(vfs::File& instance, int wd) {
  InotifyFile* i = instance.as<InotifyFile>();
  if (!i) return kEINVAL;
  return i->remove(wd);
}

}  // namespace sentry::fs::inotify

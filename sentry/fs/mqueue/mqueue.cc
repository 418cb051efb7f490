// SPDX-License-Identifier: Apache-2.0
// The names of queues: a flat directory, and the calls that go there without a path.
#include "sentry/fs/mqueue/mqueue.h"

#include <unistd.h>

#include "sentry/fs/common/name_table.h"
#include "sentry/fs/mqueue/queue.h"
#include "sentry/vfs/walk.h"

namespace sentry::fs::mqueue {
namespace {

constexpr uint64_t kMagic = 0x19800202;

class QueueDirectory final : public vfs::Inode {
 public:
  QueueDirectory(vfs::FileSystem& fs, std::shared_ptr<kernel::QueueLimits> limits)
      : Inode(fs, S_IFDIR), limits_(std::move(limits)), attributes_(fs.device(), 1, S_IFDIR | 01777, 0, 0) {}
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = attributes_.get();
    a.size = 20 * (names_.size() + 2);
    return a;
  }
  Result<void> set_attributes(const vfs::SetAttributes& s) override {
    attributes_.set(s);
    return {};
  }
  Result<void> check_access(const auth::Credentials& cred, int mask) override { return attributes_.check(cred, mask); }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override { return names_.find(name); }
  Result<Ref<vfs::Inode>> create(std::string_view name, const vfs::CreateRequest& r) override {
    if (!S_ISREG(r.mode)) return kEPERM;
    return create_queue(name, r, std::nullopt);
  }
  Result<Ref<vfs::Inode>> mkdir(std::string_view, const vfs::CreateRequest&) override { return kEPERM; }
  Result<Ref<vfs::Inode>> symlink(std::string_view, std::string_view, const vfs::CreateRequest&) override { return kEPERM; }
  Result<void> link(std::string_view, vfs::Inode&) override { return kEPERM; }
  Result<void> rename(std::string_view, vfs::Inode&, vfs::Inode&, std::string_view, vfs::Inode*, unsigned) override { return kEPERM; }
  Result<void> unlink(std::string_view name, vfs::Inode& victim) override {
    (void)names_.remove(name);
    static_cast<QueueInode&>(victim).holder().add_links(-1);
    attributes_.touch(common::AttributeHolder::kModify | common::AttributeHolder::kChange);
    return {};
  }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    return common::open_name_table(where, Ref<vfs::Inode>(*this), names_, flags, cred);
  }

  // Linux: mqueue_create_attr(), mqueue_get_inode(). By the current task.
  Result<Ref<vfs::Inode>> create_queue(std::string_view name, const vfs::CreateRequest& r, const std::optional<Attributes>& wanted) {
    kernel::QueueLimits& l = *limits_;
    kernel::Task* t = kernel::Task::find_current();
    const bool privileged = !t || t->own_credentials().has_cap(CAP_SYS_RESOURCE);
    int64_t messages = std::min(l.msg_max.load(), l.msg_default.load());
    int64_t size = std::min(l.msgsize_max.load(), l.msgsize_default.load());
    if (wanted) {
      messages = wanted->max_messages;
      size = wanted->message_size;
      if (messages <= 0 || size <= 0) return kEINVAL;
      if (messages > (privileged ? kernel::QueueLimits::kMaxMessages : l.msg_max.load())) return kEINVAL;
      if (size > (privileged ? kernel::QueueLimits::kMaxSize : l.msgsize_max.load())) return kEINVAL;
    }
    const uint64_t cost = QueueInode::cost(messages, size), limit = t ? t->rlimit(RLIMIT_MSGQUEUE) : RLIM64_INFINITY;
    TRY(l.used.with([&](kernel::QueueLimits::Used& u) -> Result<void> {
      if (u.queues >= l.queues_max.load() && !privileged) return kENOSPC;
      uint64_t& mine = u.bytes_of_user[r.uid];
      if (mine + cost > limit || u.bytes + cost > kernel::QueueLimits::kMaxBytes) {
        if (mine == 0) u.bytes_of_user.erase(r.uid);
        return kEMFILE;
      }
      mine += cost;
      u.bytes += cost;
      u.queues++;
      return {};
    }));
    const uint64_t ino = next_ino_.fetch_add(1, std::memory_order_relaxed);
    Ref<vfs::Inode> made = make_ref<QueueInode>(fs(), ino, r, messages, size, limits_);
    names_.set(name, made, ino);
    attributes_.touch(common::AttributeHolder::kModify | common::AttributeHolder::kChange);
    return made;
  }

 private:
  const std::shared_ptr<kernel::QueueLimits> limits_;
  common::AttributeHolder attributes_;
  common::NameTable names_;
  std::atomic<uint64_t> next_ino_{2};
};

class QueueFs final : public vfs::FileSystem {
 public:
  explicit QueueFs(std::shared_ptr<kernel::QueueLimits> limits) : root_(make_ref<QueueDirectory>(*this, std::move(limits))) {}
  Ref<vfs::Inode> root() override { return Ref<vfs::Inode>(root_); }
  vfs::FsStat statfs() override {
    vfs::FsStat s;
    s.type = kMagic;
    return s;
  }
  const char* type_name() const override { return "mqueue"; }
  QueueDirectory& directory() { return *root_; }

 private:
  const Ref<QueueDirectory> root_;
};

// The namespace's file system under a mount of nobody's. Linux: mq_mnt.
struct Place {
  Ref<vfs::FileSystem> fs;
  Ref<vfs::MountNamespace> mounts;
  vfs::Path root;
  explicit Place(kernel::Task& t)
      : fs(file_system(*kernel::ipc_of(t))), mounts(vfs::MountNamespace::create(fs, 0, "mqueue")), root(mounts->root()) {}
  QueueDirectory& directory() { return static_cast<QueueFs&>(*fs).directory(); }
  vfs::WalkContext walk(kernel::Task& t) { return {*mounts, root, root, t.credentials()}; }
};

Result<void> check_name(const std::string& name) {
  if (name.empty()) return kENOENT;
  if (name == "." || name == ".." || name.find('/') != std::string::npos) return kEACCES;
  if (name.size() > 255) return kENAMETOOLONG;
  return {};
}

}  // namespace

Ref<vfs::FileSystem> file_system(kernel::IpcNamespace& ns) {
  if (RefOrNull<vfs::FileSystem> fs = ns.queues()) return fs.get_ref();
  return ns.set_queues(make_ref<QueueFs>(ns.queue_limits()));
}

// Linux: do_mq_open(), prepare_open().
Result<Ref<vfs::File>> open(kernel::Task& t, const std::string& name, int flags, uint32_t mode,
                            const std::optional<Attributes>& wanted) {
  TRY(check_name(name));
  Place place(t);
  constexpr int kKept = O_ACCMODE | O_NONBLOCK;
  for (;;) {
    Ref<vfs::Dentry> d = TRY(place.root.dentry->lookup(name));
    if (!d->is_negative()) {
      if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return kEEXIST;
      if ((flags & O_ACCMODE) == O_ACCMODE) return kEINVAL;
      Result<Ref<vfs::File>> f = vfs::open(place.walk(t), name, flags & kKept, 0, 0);
      if (!f.ok() && f.error() == kENOENT && (flags & O_CREAT)) continue;  // removed meanwhile
      return f;
    }
    if (!(flags & O_CREAT)) return kENOENT;
    RefOrNull<vfs::Inode> made;
    {
      sched::SleepLock l(place.directory().lock());
      d = TRY(place.root.dentry->lookup_locked(name));
      if (!d->is_negative()) continue;  // made meanwhile
      TRY(place.directory().check_access(t.own_credentials(), W_OK | X_OK));
      const auth::Credentials& c = t.own_credentials();
      vfs::CreateRequest r{S_IFREG | (mode & 07777), c.fsuid, c.fsgid, 0};
      made = TRY(place.directory().create_queue(name, r, wanted));
      d->instantiate(made.get_ref());
    }
    // Its maker may use it as asked for, whatever its mode.
    return made->open(vfs::Path{place.root.mount, d}, flags & kKept, t.credentials());
  }
}

Result<void> unlink(kernel::Task& t, const std::string& name) {
  TRY(check_name(name));
  Place place(t);
  return vfs::remove_file(place.walk(t), name);
}

}  // namespace sentry::fs::mqueue

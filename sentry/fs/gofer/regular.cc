// SPDX-License-Identifier: Apache-2.0
// Regular files: the descriptors that the gofer donates, and their sizes. Reading and writing are the sentry's own business
// from then on (regular_file.cc).
#include "sentry/fs/gofer/host_inode.h"

#include <algorithm>

#include "base/sys.h"

namespace sentry::fs::gofer {

Regular::~Regular() { client().idle_fds.release(idle_); }

// ---- Users ----

void Regular::opened() {
  MutexLock l(mu_);
  if (users_++ == 0) client().idle_fds.release(idle_);
}

void Regular::closed(Linger linger) {
  RefOrNull<HostFd> ro, rw;  // close outside the lock
  Budget::Victims victims;
  {
    MutexLock l(mu_);
    CHECK(users_ > 0);
    if (--users_ > 0) return;
    // Others may remove a file of a shared attach point, whose space then waits for this to be closed.
    if ((removed_ && linger == Linger::if_exclusive) || (!gofer().exclusive() && linger == Linger::if_exclusive)) {
      ro = std::move(ro_);
      rw = std::move(rw_);
    } else if (ro_ || rw_) {
      victims = client().idle_fds.keep(idle_, *this, (ro_ ? 1 : 0) + (rw_ ? 1 : 0));
    }
  }
  drop_fds(std::move(victims));
}

void Regular::give_up_fds() {
  RefOrNull<HostFd> ro, rw;
  MutexLock l(mu_);
  if (users_ > 0) return;
  ro = std::move(ro_);
  rw = std::move(rw_);
}

bool Regular::in_use() const {
  MutexLock l(mu_);
  return users_ > 0;
}

void Regular::mapped_for_writing(int n) {
  MutexLock l(mu_);
  writable_maps_ += n;
  was_mapped_for_writing_ = true;
  stale_ = true;  // the host changes mtime whenever pages are written back
}

std::optional<patch::ContentId> Regular::content_id() const {
  if (!gofer().exclusive()) return std::nullopt;
  MutexLock l(mu_);
  if (epoch_ != 0 || was_mapped_for_writing_) return std::nullopt;
  return patch::ContentId{attr_.dev, attr_.ino, static_cast<uint64_t>(attr_.ctime), attr_.size};
}

// ---- Descriptors ----

RefOrNull<HostFd> Regular::find_locked(Need need) const {
  switch (need) {
    case Need::read_only: return ro_;
    case Need::write: return rw_;
    // On a host overlay a read-only descriptor from before the first write shows the old contents.
    case Need::any: break;
  }
  return rw_ ? rw_ : ro_;
}

Result<void> Regular::adopt(const wire::Attr& attr, bool has_read, bool has_write, ReplyFds fds) {
  if (fds.count != size_t{has_read} + size_t{has_write}) return client().bad_reply();
  Result<void> good;
  auto check = [&] {
    if (has_read) good = check_donated(fds.fd[0].get(), Access::read, attr.dev, attr.ino);
    if (has_write && good.ok()) good = check_donated(fds.fd[fds.count - 1].get(), Access::write, attr.dev, attr.ino);
  };
  if (gofer().slow()) sched::run_blocking(check);
  else check();
  if (!good.ok()) {
    LOG(warn, "gofer: a donated descriptor is not the regular file that it should be");
    return kEIO;
  }
  RefOrNull<HostFd> ro, rw, old_ro;
  if (has_read) ro = make_ref<HostFd>(std::move(fds.fd[0]), gofer().slow());
  if (has_write) rw = make_ref<HostFd>(std::move(fds.fd[fds.count - 1]), gofer().slow());
  MutexLock l(mu_);
  if (rw && !rw_) {
    rw_ = std::move(rw);
    old_ro = std::move(ro_);  // see find_locked()
  }
  if (ro && !ro_) ro_ = std::move(ro);
  return {};
}

Result<Ref<HostFd>> Regular::fd(Need need) {
  {
    MutexLock l(mu_);
    if (auto have = find_locked(need)) return have.get_ref();
  }
  wire::OpenRequest q;
  q.flags = need == Need::write ? wire::kWrite : wire::kRead;
  uint64_t e = epoch();
  ReplyFds fds;
  Place at;
  std::optional<wire::OpenReply> ahead;
  if (need != Need::write) ahead = open_with_next(&fds, &at);
  auto r = ahead ? Result<wire::OpenReply>(*ahead) : ask(q, &fds, &at);
  if (!r.ok() && (r.error() == kENFILE || r.error() == kEMFILE)) {
    drop_fds(client().idle_fds.shrink(64));
    r = ask(q, &fds, &at);
  }
  if (!r.ok()) return r.error();
  if (!at.own) {
    at.own = TRY(gofer().node_of(r->node));
    found_at(at);
  } else if (at.own->id() != r->node) {
    return client().bad_reply();
  }
  bool has_write = r->has_write, has_read = r->has_read;
  if (need == Need::write ? !has_write || has_read : has_write || !has_read) return client().bad_reply();
  bool same;
  {
    MutexLock l(mu_);
    same = key_of(attr_) == key_of(r->attr) && (r->attr.mode & S_IFMT) == S_IFREG;
  }
  // A host overlay gives a file another number when it is first opened for writing.
  if (!same && need != Need::write) return kESTALE;
  TRY(adopt(r->attr, has_read, has_write, std::move(fds)));
  if (!same || !gofer().exclusive()) TRY(learn(r->attr, e));
  MutexLock l(mu_);
  auto have = find_locked(need);
  if (!have) return kEIO;
  return have.get_ref();
}

std::optional<wire::OpenReply> Regular::open_with_next(ReplyFds* fds, Place* at) {
  if (!gofer().exclusive()) return std::nullopt;
  Key above;
  std::string name;
  {
    MutexLock l(mu_);
    if (places_.empty() || listed_in_ == Key{}) return std::nullopt;
    above = listed_in_;
    name = places_.front().name;
  }
  auto parent = gofer().find(above, S_IFDIR);
  return parent ? static_cast<Directory&>(*parent).open_ahead(name, fds, at) : std::nullopt;
}

void Regular::opened_ahead(const wire::Attr& attr, Fd fd) {
  ReplyFds one;
  one.fd[0] = std::move(fd);
  one.count = 1;
  opened();
  IGNORE_ERROR(adopt(attr, true, false, std::move(one)), "nobody has asked for it yet");
  closed();
}

bool Regular::has_fd() const {
  MutexLock l(mu_);
  return ro_ || rw_;
}

Result<Ref<HostFd>> Regular::fd_for_reading() { return fd(Need::any); }
Result<Ref<HostFd>> Regular::fd_for_writing() { return fd(Need::write); }
Result<Ref<HostFd>> Regular::read_only_fd() { return fd(Need::read_only); }

void Regular::before_last_name_goes() {
  bool wanted;
  {
    MutexLock l(mu_);
    wanted = users_ > 0 && rw_ && !ro_;
  }
  if (wanted) IGNORE_ERROR(read_only_fd(), "without it private mappings of the removed file are refused");
}

Result<wire::Attr> Regular::attributes_of_descriptor() {
  RefOrNull<HostFd> f;
  wire::Attr a;
  {
    MutexLock l(mu_);
    f = find_locked(Need::any);
    a = attr_;
  }
  if (!f) return kESTALE;
  struct stat st;
  Result<void> r;
  sched::run_blocking([&] { r = sys::fstat(f->get(), &st); });
  TRY(std::move(r));
  auto nanos = [](const timespec& t) { return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec; };
  a.mode = st.st_mode;
  a.uid = st.st_uid;
  a.gid = st.st_gid;
  a.nlink = static_cast<uint32_t>(st.st_nlink);
  a.size = static_cast<uint64_t>(st.st_size);
  a.blocks = static_cast<uint64_t>(st.st_blocks);
  a.atime = nanos(st.st_atim);
  a.mtime = nanos(st.st_mtim);
  a.ctime = nanos(st.st_ctim);
  return a;
}

// ---- Set-user-ID ----

Result<uint32_t> Regular::privileges() {
  auto look = [&]() -> uint32_t {
    MutexLock l(mu_);
    // Linux 6.2 takes set-group-ID also without execution for the group (fs/attr.c setattr_should_drop_sgid).
    return attr_.mode & (S_ISUID | S_ISGID) ? attr_.mode & 07777 : 0;
  };
  uint32_t mode = look();
  if (mode == 0 || gofer().exclusive()) return mode;
  TRY(refresh());  // somebody else may have taken them away
  return look();
}

void Regular::restore_privileges(uint32_t mode) {
  vfs::SetAttributes s;
  s.mask = vfs::SetAttributes::kMode;
  s.mode = mode;
  if (!HostInode::set_attributes(s).ok()) return;  // the bytes are written, and lost privileges harm nobody
  MutexLock l(mu_);
  attr_.mode = (attr_.mode & S_IFMT) | mode;  // who asked between the write and this has seen it without
}

// ---- Size ----

void Regular::written_up_to(uint64_t end) {
  MutexLock l(mu_);
  attr_.size = std::max(attr_.size, end);
  now_stale();
}

void Regular::has_size(uint64_t size) {
  MutexLock l(mu_);
  attr_.size = size;
  now_stale();
}

Result<uint64_t> Regular::size() {
  if (!gofer().exclusive()) TRY(refresh());
  MutexLock l(mu_);
  return attr_.size;
}

Result<void> Regular::resize(uint64_t to) {
  RefOrNull<HostFd> f;
  bool privileged = TRY(privileges()) != 0;  // then the gofer does it, which may keep them
  {
    MutexLock l(mu_);
    if (!privileged) f = rw_;
  }
  if (f) {
    Result<void> r;
    sched::run_blocking([&] { r = sys::ftruncate(f->get(), static_cast<int64_t>(to)); });
    TRY(std::move(r));
  } else {
    wire::SetAttrRequest q;
    q.mask = wire::kSetSize;
    q.size = to;
    uint64_t e = epoch();
    TRY(learn(TRY(ask(q)).attr, e));
  }
  has_size(to);
  return {};
}

Result<void> Regular::set_attributes(const vfs::SetAttributes& s) {
  using S = vfs::SetAttributes;
  if (!(s.mask & S::kSize)) {
    if (!(s.mask & S::kMode)) return HostInode::set_attributes(s);
    sched::SleepLock l(write_);  // a write restores the mode that it found
    return HostInode::set_attributes(s);
  }
  if (gofer().read_only()) return kEROFS;
  if (s.size > INT64_MAX) return kEFBIG;
  {
    sched::SleepLock l(write_);
    TRY(resize(s.size));
  }
  S rest = s;
  rest.mask &= ~uint32_t{S::kSize | S::kMtimeNow};  // the host has set the time
  if (rest.mask == 0) return {};
  sched::SleepLock l(write_);
  return HostInode::set_attributes(rest);
}

Result<Ref<vfs::File>> Regular::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  bool writing = (flags & O_ACCMODE) != O_RDONLY;
  if (writing && gofer().read_only()) return kEROFS;
  opened();
  auto have = writing ? fd_for_writing() : fd_for_reading();
  if (!have.ok()) {
    closed();
    return have.error();
  }
  auto f = make_regular_file(where, Ref<Regular>(*this), flags, cred);
  closed();  // the description counts for itself
  return f;
}

}  // namespace sentry::fs::gofer

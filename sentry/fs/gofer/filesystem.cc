// SPDX-License-Identifier: Apache-2.0
// One attach point as a file system: its inodes by their identity on the host, numbers as applications see them.
#include <algorithm>

#include "sentry/fs/gofer/host_inode.h"

namespace sentry::fs::gofer {

namespace {

timespec time_of(int64_t ns) {
  int64_t s = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) {
    s--;
    rest += 1'000'000'000;
  }
  return {s, rest};
}

// f_type of file systems whose files are somewhere else, or a program's. Linux: include/uapi/linux/magic.h.
bool is_served(uint64_t type) {
  switch (static_cast<uint32_t>(type)) {
    case 0x6969:      // NFS
    case 0x65735546:  // FUSE
    case 0x01021997:  // 9P
    case 0x517b:      // SMB
    case 0xfe534d42:  // SMB2
    case 0xff534d42:  // CIFS
    case 0x00c36400:  // CEPH
    case 0x5346414f:  // AFS
    case 0x73757245:  // CODA
      return true;
    default: return false;
  }
}

// As /proc/mounts calls the host's file system. Programs tell local ones from others by it, and those that they know from the rest.
const char* name_of(uint64_t type) {
  switch (static_cast<uint32_t>(type)) {
    case 0xef53: return "ext4";
    case 0x58465342: return "xfs";
    case 0x9123683e: return "btrfs";
    case 0x2fc12fc1: return "zfs";
    case 0xf2f52010: return "f2fs";
    case 0xca451a4e: return "bcachefs";
    case 0x794c7630: return "overlay";
    case 0x01021994: return "tmpfs";
    case 0x6969: return "nfs";
    case 0x65735546: return "fuse";
    case 0x01021997: return "9p";
    case 0x517b: case 0xfe534d42: case 0xff534d42: return "cifs";
    case 0x00c36400: return "ceph";
    default: return "gofer";
  }
}

constexpr size_t kMaxDevices = 4095;

bool is_known_type(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: case S_IFDIR: case S_IFLNK: case S_IFIFO: case S_IFSOCK: case S_IFCHR: case S_IFBLK: return true;
    default: return false;
  }
}

}  // namespace

GoferFs::GoferFs(Ref<Channel> client, const AttachOptions& options, bool read_only)
    : client_(std::move(client)), exclusive_(options.exclusive), read_only_(read_only) {}

GoferFs::~GoferFs() { drop_listings(client_->listings.release_all(*this)); }

Result<void> GoferFs::start(const wire::AttachReply& r) {
  if (!S_ISDIR(r.attr.mode) && !S_ISREG(r.attr.mode)) return kEIO;
  root_dev_ = r.attr.dev;
  auto node = make_ref<Node>(client_, r.node, Node::Kind::attach_point);
  root_ = TRY(inode_for(r.attr, Place{nullptr, {}, node}));
  auto s = client_->call(wire::StatFsRequest{{r.node, {}}});
  if (s.ok()) {
    slow_ = is_served(s->type);
    type_name_ = name_of(s->type);
    MutexLock l(mu_);
    last_stat_ = *s;
  }
  return {};
}

vfs::FsStat GoferFs::statfs() {
  auto r = root_->ask(wire::StatFsRequest{});
  wire::StatFsReply s;
  {
    MutexLock l(mu_);
    if (r.ok()) last_stat_ = *r;
    s = last_stat_;
  }
  vfs::FsStat out;
  out.type = s.type;
  // The counts are in units of frsize.
  out.bsize = s.bsize ? s.bsize : 4096;
  uint64_t unit = s.frsize ? s.frsize : out.bsize;
  auto blocks = [&](uint64_t n) { return unit >= out.bsize ? n * (unit / out.bsize) : n / (out.bsize / unit); };
  out.blocks = blocks(s.blocks);
  out.bfree = blocks(s.bfree);
  out.bavail = blocks(s.bavail);
  out.files = s.files;
  out.ffree = s.ffree;
  out.namelen = s.namelen;
  out.fsid = s.fsid;
  return out;
}

Result<Ref<Node>> GoferFs::node_of(wire::NodeId id) {
  if (id == 0) return client_->bad_reply();
  return make_ref<Node>(client_, id);
}

RefOrNull<HostInode> GoferFs::find(const Key& key, uint32_t mode) {
  RefOrNull<HostInode> known;
  {
    MutexLock l(mu_);
    auto it = live_.find(key);
    if (it != live_.end()) known = RefOrNull<HostInode>::upgrade(it->second);
  }
  if (known && known->type() != (mode & S_IFMT)) return nullptr;  // the host has given the number to another file
  return known;
}

Result<Ref<HostInode>> GoferFs::inode_for(const wire::Attr& attr, Place p) {
  if (!is_known_type(attr.mode)) return client_->bad_reply();
  RefOrNull<HostInode> known, made;  // let go outside the lock
  {
    MutexLock l(mu_);
    HostInode*& slot = live_[key_of(attr)];
    known = RefOrNull<HostInode>::upgrade(slot);
    if (!known || known->type() != (attr.mode & S_IFMT)) {
      if (S_ISREG(attr.mode)) made = Ref<HostInode>(make_ref<Regular>(*this, attr, std::move(p)));
      else if (S_ISDIR(attr.mode)) made = Ref<HostInode>(make_ref<Directory>(*this, attr, std::move(p)));
      else made = make_ref<HostInode>(*this, attr, std::move(p));
      slot = made.get();
    }
  }
  if (made) return made.get_ref();
  known->found_at(std::move(p));
  return known.get_ref();
}

void GoferFs::forget(const HostInode& inode, const Key& key) {
  MutexLock l(mu_);
  auto it = live_.find(key);
  if (it != live_.end() && it->second == &inode) live_.erase(it);
}

void GoferFs::rekeyed(HostInode& inode, const Key& from, const Key& to) {
  MutexLock l(mu_);
  auto it = live_.find(from);
  if (it == live_.end() || it->second != &inode) return;
  live_.erase(it);
  live_.insert_or_assign(to, &inode);
}

uint64_t GoferFs::ino_of(uint64_t dev, uint64_t ino) {
  if (dev == root_dev_) return ino;
  size_t index;
  {
    MutexLock l(mu_);
    index = static_cast<size_t>(std::find(devices_.begin(), devices_.end(), dev) - devices_.begin());
    if (index == devices_.size() && index < kMaxDevices) devices_.push_back(dev);
  }
  // Host file systems number from below: the top bits are free to tell devices apart. Where they are not, a mixture has
  // to do.
  if (index < kMaxDevices && ino >> 52 == 0) return ino | (index + 1) << 52;
  uint64_t x = (ino ^ (dev * 0x9e3779b97f4a7c15ull)) * 0xbf58476d1ce4e5b9ull;
  return (x ^ (x >> 29)) | 1ull << 63;
}

uint32_t GoferFs::wanted() const {
  const uint32_t now = listings_.load(std::memory_order_relaxed);
  auto soon = [&](const std::atomic<uint32_t>& used) { return now - used.load(std::memory_order_relaxed) <= kSoon; };
  return wire::kDirAttr | (soon(attributes_used_) ? wire::kAllAttr : 0) | (soon(xattrs_used_) ? wire::kXattrs : 0);
}

vfs::Attributes GoferFs::shown(const wire::Attr& a) {
  vfs::Attributes v;
  v.ino = ino_of(a.dev, a.ino);
  v.dev = device();
  v.size = std::min<uint64_t>(a.size, INT64_MAX);
  v.blocks = std::min<uint64_t>(a.blocks, INT64_MAX);
  v.rdev = a.rdev;
  v.mode = a.mode & (S_IFMT | 07777);
  v.nlink = a.nlink;
  v.uid = a.uid;
  v.gid = a.gid;
  v.blksize = a.blksize >= 512 && a.blksize <= 1 << 24 ? a.blksize : 4096;
  v.atime = time_of(a.atime);
  v.mtime = time_of(a.mtime);
  v.ctime = time_of(a.ctime);
  v.btime = a.flags & wire::Attr::kHasBtime ? time_of(a.btime) : timespec{};
  return v;
}

void share(vfs::FileSystem& attached) { static_cast<GoferFs&>(attached).share(); }

Result<Ref<vfs::FileSystem>> attach(const Ref<Client>& client, const AttachOptions& options) {
  Ref<Channel> channel(static_cast<Channel&>(*client));
  auto r = TRY(channel->call(wire::AttachRequest{options.index}));
  auto fs = make_ref<GoferFs>(channel, options, options.read_only || r.read_only);
  TRY(fs->start(r));
  return Ref<vfs::FileSystem>(fs);
}

}  // namespace sentry::fs::gofer

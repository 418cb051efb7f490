// SPDX-License-Identifier: Apache-2.0
// tmpfs instances, their options, and memfds.
#include "sentry/fs/tmpfs/tmpfs.h"

#include <fcntl.h>

#include <charconv>
#include <string>

#include "sentry/fs/tmpfs/inodes.h"

namespace sentry::fs::tmpfs {
namespace {

constexpr uint64_t kPage = common::RegularData::kPage;

bool parse_number(std::string_view s, int base, uint64_t* out) {
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *out, base);
  return error == std::errc() && end == s.data() + s.size() && !s.empty();
}

// "64k", "1g", "50%", "4096". Linux: memparse.
bool parse_size(std::string_view s, uint64_t total, uint64_t* out) {
  if (s.empty()) return false;
  uint64_t n, scale = 1;
  switch (s.back()) {
    case 'k': case 'K': scale = 1ull << 10; break;
    case 'm': case 'M': scale = 1ull << 20; break;
    case 'g': case 'G': scale = 1ull << 30; break;
    case 't': case 'T': scale = 1ull << 40; break;
    case '%':
      if (!parse_number(s.substr(0, s.size() - 1), 10, &n) || n > 1000) return false;
      *out = total / 100 * n;
      return true;
    default: return parse_number(s, 10, out);
  }
  return parse_number(s.substr(0, s.size() - 1), 10, &n) && !__builtin_mul_overflow(n, scale, out);
}

}  // namespace

Result<Options> parse_options(std::string_view data, Options o, uint64_t total_memory) {
  while (!data.empty()) {
    size_t comma = data.find(',');
    std::string_view item = data.substr(0, comma);
    data = comma == std::string_view::npos ? std::string_view() : data.substr(comma + 1);
    if (item.empty()) continue;
    size_t eq = item.find('=');
    std::string_view key = item.substr(0, eq), value = eq == std::string_view::npos ? std::string_view() : item.substr(eq + 1);
    uint64_t n = 0;
    if (key == "size") {
      if (!parse_size(value, total_memory, &n)) return kEINVAL;
      o.size = (n + kPage - 1) / kPage * kPage;
    } else if (key == "nr_blocks") {
      if (!parse_size(value, 0, &n) || n > UINT64_MAX / kPage) return kEINVAL;
      o.size = n * kPage;
    } else if (key == "nr_inodes") {
      if (!parse_size(value, 0, &n)) return kEINVAL;
      o.inodes = n;
    } else if (key == "mode") {
      if (!parse_number(value, 8, &n)) return kEINVAL;
      o.mode = n & 07777;
    } else if (key == "uid" || key == "gid") {
      if (!parse_number(value, 10, &n) || n > UINT32_MAX - 1) return kEINVAL;
      (key == "uid" ? o.uid : o.gid) = static_cast<uint32_t>(n);
    } else if (key != "huge" && key != "mpol" && key != "inode32" && key != "inode64" && key != "noswap") {
      return kEINVAL;
    }
  }
  return o;
}

TmpfsFs::TmpfsFs(const Options& o)
    : limits_(make_ref<Limits>(o.size / kPage, o.inodes ? o.inodes : kDefaultInodes)), backing_(o.backing), mode_(o.mode),
      uid_(o.uid), gid_(o.gid) {}

Ref<vfs::Inode> TmpfsFs::root() {
  MutexLock l(mu_);
  if (!root_) {
    limits_->used_inodes.fetch_add(1);
    root_ = make_ref<Directory>(*this, vfs::CreateRequest{S_IFDIR | (mode_ & 07777), uid_, gid_, 0});
  }
  return root_.get_ref();
}

vfs::FsStat TmpfsFs::statfs() {
  vfs::FsStat s;
  s.type = 0x01021994;  // TMPFS_MAGIC
  uint64_t used = limits_->used_pages.load();
  if (limits_->max_pages) {
    s.blocks = limits_->max_pages;
    s.bfree = s.bavail = used < s.blocks ? s.blocks - used : 0;
  }
  uint64_t inodes = limits_->used_inodes.load();
  s.files = limits_->max_inodes;
  s.ffree = inodes < s.files ? s.files - inodes : 0;
  s.fsid = device();
  return s;
}

std::string TmpfsFs::options() const {
  std::string out;
  auto add = [&](const std::string& s) { out += (out.empty() ? "" : ",") + s; };
  if (limits_->max_pages) add("size=" + std::to_string(limits_->max_pages * (kPage / 1024)) + "k");
  if (limits_->max_inodes != kDefaultInodes) add("nr_inodes=" + std::to_string(limits_->max_inodes));
  if (mode_ != 01777) {
    char buf[16];
    char* end = std::to_chars(buf, buf + sizeof buf, mode_, 8).ptr;
    add("mode=" + std::string(buf, end));
  }
  if (uid_) add("uid=" + std::to_string(uid_));
  if (gid_) add("gid=" + std::to_string(gid_));
  return out;
}

Ref<vfs::FileSystem> create(const Options& options) { return make_ref<TmpfsFs>(options); }

Result<Ref<vfs::File>> create_memfd(std::string_view name, bool allow_sealing, uint32_t mode,
                                    std::shared_ptr<common::BackingSource> backing, const Ref<auth::Credentials>& cred) {
  // Each has an instance of its own, as the backing belongs to a container; the dentry keeps it.
  Options o;
  o.backing = std::move(backing);
  Ref<TmpfsFs> fs = make_ref<TmpfsFs>(o);
  fs->limits()->used_inodes.fetch_add(1);
  vfs::CreateRequest r{S_IFREG | (mode & 07777), cred->fsuid, cred->fsgid, 0};
  Ref<vfs::Inode> inode = make_ref<Regular>(*fs, r, allow_sealing ? 0 : F_SEAL_SEAL);
  vfs::Path where{nullptr, vfs::Dentry::make_anonymous("/memfd:" + std::string(name) + " (deleted)", inode)};
  return inode->open(where, O_RDWR | 0100000, cred);
}

}  // namespace sentry::fs::tmpfs

// SPDX-License-Identifier: Apache-2.0
// Regular files: contents are the lower file's until something writes, then a RegularData of ours.
#include <sys/mount.h>
#include <unistd.h>

#include "sentry/fs/overlay/node.h"

namespace sentry::fs::overlay {
namespace {

// A lower file's memory under the overlay's identity.
class LowerMappable final : public mm::Mappable {
 public:
  LowerMappable(Ref<mm::Mappable> lower, Ref<vfs::File> file, uint64_t dev, uint64_t ino)
      : lower_(std::move(lower)), file_(std::move(file)), dev_(dev), ino_(ino) {}
  Result<mm::MapFd> map_fd(bool writable) override {
    if (writable) return kEACCES;
    return lower_->map_fd(false);
  }
  std::optional<patch::ContentId> content_id() const override { return lower_->content_id(); }
  uint64_t device() const override { return dev_; }
  uint64_t inode_number() const override { return ino_; }
  std::string path() const override { return vfs::path_text_from_top(file_->path()); }

 private:
  const Ref<mm::Mappable> lower_;
  const Ref<vfs::File> file_;
  const uint64_t dev_, ino_;
};

// A description opened for reading before anything wrote to the file. Once something has, it reads what was written, as
// Linux's overlay does.
class LowerFile final : public vfs::File {
 public:
  LowerFile(const vfs::Path& where, Ref<Regular> node, int flags, Ref<auth::Credentials> cred, Ref<vfs::File> lower)
      : File(vfs::FileKind::plain, where, node, flags, std::move(cred)), node_(*node), lower_(std::move(lower)) {}

  bool seekable() const override { return true; }
  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags f) override {
    if (auto data = node_.data()) {
      size_t n = TRY(data->read(dst, static_cast<uint64_t>(*pos)));
      *pos += static_cast<int64_t>(n);
      return n;
    }
    return lower_->read(dst, pos, f);
  }
  Result<size_t> read_directly(platform::Context& c, uint64_t addr, size_t n, int64_t* pos) override {
    auto data = node_.data();
    if (!data) return lower_->read_directly(c, addr, n, pos);
    size_t got = TRY(data->read_directly(c, addr, n, static_cast<uint64_t>(*pos)));
    *pos += static_cast<int64_t>(got);
    return got;
  }
  Result<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
      auto data = node_.data();
      if (data) return position = TRY(data->seek(offset, whence));
    }
    return File::seek(offset, whence);
  }
  Result<Ref<mm::Mappable>> mappable() override {
    if (auto data = node_.data()) return common::make_file_mappable(Ref<vfs::File>(*this), node_, data.get_ref());
    auto lower = TRY(lower_->mappable());
    Ref<mm::Mappable> m = make_ref<LowerMappable>(lower, Ref<vfs::File>(*this), node_.fs().device(), node_.ino());
    return m;
  }
  Result<void> sync(bool) override { return {}; }

 private:
  Regular& node_;  // File::inode() keeps it
  const Ref<vfs::File> lower_;
};

constexpr size_t kCopyChunk = 64 * 1024;

}  // namespace

RefOrNull<common::RegularData> Regular::data() const {
  MutexLock l(mu_);
  return data_;
}

Result<vfs::Attributes> Regular::attributes() {
  vfs::Attributes a = attributes_.get();
  if (auto d = data()) {
    a.size = d->size();
    a.blocks = d->allocated_bytes() / 512;
  } else if (!lower_) {
    a.size = a.blocks = 0;
  }
  return a;
}

Result<Ref<common::RegularData>> Regular::copy_up(Keep keep) {
  if (auto d = data()) return d.get_ref();
  sched::SleepLock lock(copying_);
  if (auto d = data()) return d.get_ref();
  auto fresh = common::RegularData::create(overlay().store(), nullptr);
  if (lower_ && keep == Keep::contents) {
    auto cred = make_ref<auth::Credentials>();
    auto from = TRY(lower_->open(vfs::Path{}, O_RDONLY, cred));
    std::vector<std::byte> chunk(kCopyChunk);
    int64_t pos = 0;
    uint64_t out = 0;
    for (;;) {
      size_t n = TRY(from->read(chunk, &pos, {}));
      if (n == 0) break;
      for (size_t done = 0; done < n;) {
        size_t w = TRY(fresh->write(std::span(chunk).subspan(done, n - done), &out, false));
        done += w;
        out += w;
      }
      sched::yield();
    }
  }
  {
    MutexLock l(mu_);
    data_ = fresh;
  }
  changed();
  return fresh;
}

Result<void> Regular::set_attributes(const vfs::SetAttributes& s) {
  if (s.mask & vfs::SetAttributes::kSize) {
    auto d = TRY(copy_up(s.size == 0 ? Keep::nothing : Keep::contents));
    uint64_t old = d->size();
    TRY(d->truncate(s.size));
    if (old != s.size) data_modified();
  }
  attributes_.set(s);
  changed();
  return {};
}

Result<Ref<vfs::File>> Regular::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  RefOrNull<common::RegularData> d = data();
  if (!d && ((flags & O_ACCMODE) != O_RDONLY || !lower_)) d = TRY(copy_up(Keep::contents));
  if (d) return common::open_data(where, Ref<vfs::Inode>(*this), *this, d.get_ref(), flags, cred);
  auto below = TRY(lower_->open(where, O_RDONLY, cred));
  Ref<vfs::File> f = make_ref<LowerFile>(where, Ref<Regular>(*this), flags, cred, below);
  return f;
}

}  // namespace sentry::fs::overlay

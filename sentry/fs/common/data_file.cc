// SPDX-License-Identifier: Apache-2.0
// Descriptions of regular files in the sandbox.
#include "sentry/fs/common/data_file.h"

#include <sys/mount.h>
#include <unistd.h>

namespace sentry::fs::common {
namespace {

class FileMappable final : public mm::Mappable {
 public:
  FileMappable(Ref<vfs::File> file, DataOwner& owner, Ref<RegularData> data)
      : file_(std::move(file)), owner_(owner), data_(std::move(data)) {
    Result<vfs::Attributes> a = file_->inode().attributes();
    if (a.ok()) {
      device_ = a->dev;
      ino_ = a->ino;
    }
  }
  ~FileMappable() override {
    if (writer_.load()) owner_.writer_unmaps();
  }
  Result<mm::MapFd> map_fd(bool writable) override {
    if (!writable) return data_->map_fd(false);
    if (!file_->writable()) return kEACCES;
    if (!writer_.load()) {
      TRY(owner_.writer_maps());
      if (writer_.exchange(true)) owner_.writer_unmaps();  // counted once
    }
    return data_->map_fd(true);
  }
  std::optional<patch::ContentId> content_id() const override { return data_->content_id(); }
  uint64_t device() const override { return device_; }
  uint64_t inode_number() const override { return ino_; }
  std::string path() const override { return vfs::path_text_from_top(file_->path()); }

 private:
  const Ref<vfs::File> file_;
  DataOwner& owner_;
  const Ref<RegularData> data_;
  uint64_t device_ = 0, ino_ = 0;
  std::atomic<bool> writer_{false};
};

class DataFile final : public vfs::File {
 public:
  DataFile(const vfs::Path& where, Ref<vfs::Inode> inode, DataOwner& owner, Ref<RegularData> data, int flags,
           Ref<auth::Credentials> cred)
      : File(vfs::FileKind::plain, where, std::move(inode), flags, std::move(cred)), owner_(owner), data_(std::move(data)) {}

  bool seekable() const override { return true; }
  bool takes_shared() const override { return true; }

  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags) override {
    size_t n = TRY(data_->read(dst, static_cast<uint64_t>(*pos)));
    return was_read(n, pos);
  }
  Result<size_t> read_directly(platform::Context& c, uint64_t addr, size_t n, int64_t* pos) override {
    return was_read(TRY(data_->read_directly(c, addr, n, static_cast<uint64_t>(*pos))), pos);
  }
  size_t was_read(size_t n, int64_t* pos) {
    *pos += static_cast<int64_t>(n);
    if (n && !(flags() & O_NOATIME) && !(path().mount && (path().mount->flags() & (MS_NOATIME | MS_RDONLY))))
      owner_.data_accessed();
    return n;
  }

  Result<size_t> write(std::span<const std::byte> src, int64_t* pos, vfs::IoFlags io) override {
    auto at = static_cast<uint64_t>(*pos);
    std::optional<sched::SleepLock> unsealed;
    if (sched::SleepMutex* m = owner_.seal_lock()) unsealed.emplace(*m);
    TRY(owner_.may_write(io.append ? UINT64_MAX : at, src.size()));
    size_t n = TRY(data_->write(src, &at, io.append));
    *pos = static_cast<int64_t>(at + n);
    if (n) owner_.data_modified();
    return n;
  }

  Result<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_DATA || whence == SEEK_HOLE) return position = TRY(data_->seek(offset, whence));
    return File::seek(offset, whence);
  }
  Result<Ref<mm::Mappable>> mappable() override { return make_file_mappable(Ref<vfs::File>(*this), owner_, data_); }
  Result<void> sync(bool) override { return {}; }
  Result<void> allocate(int mode, int64_t offset, int64_t length) override {
    if (offset < 0 || length <= 0) return kEINVAL;
    std::optional<sched::SleepLock> unsealed;
    if (sched::SleepMutex* m = owner_.seal_lock()) unsealed.emplace(*m);
    TRY(owner_.may_allocate(mode, static_cast<uint64_t>(offset) + static_cast<uint64_t>(length)));
    TRY(data_->allocate(mode, offset, length));
    owner_.data_modified();
    return {};
  }

 private:
  DataOwner& owner_;  // the inode, which the description keeps
  const Ref<RegularData> data_;
};

}  // namespace

Ref<mm::Mappable> make_file_mappable(Ref<vfs::File> file, DataOwner& owner, Ref<RegularData> data) {
  return make_ref<FileMappable>(std::move(file), owner, std::move(data));
}

Ref<vfs::File> open_data(const vfs::Path& where, Ref<vfs::Inode> inode, DataOwner& owner, Ref<RegularData> data, int flags,
                         const Ref<auth::Credentials>& cred) {
  return make_ref<DataFile>(where, std::move(inode), owner, std::move(data), flags, cred);
}

}  // namespace sentry::fs::common

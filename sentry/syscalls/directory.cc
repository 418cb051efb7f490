// SPDX-License-Identifier: Apache-2.0
// getdents(2) and getdents64(2).
#include <cstring>
#include <vector>

#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/notify.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxBuffer = 64 * 1024;

// Packs entries as the application wants them. Linux: fs/readdir.c filldir64, filldir.
class Packer final : public vfs::DirectorySink {
 public:
  Packer(size_t room, bool old_format) : room_(room), old_(old_format) {}
  bool add(std::string_view name, uint64_t ino, unsigned char type, int64_t next) override {
    size_t header = old_ ? 18 : 19;  // up to d_name
    size_t length = (header + name.size() + (old_ ? 2 : 1) + 7) & ~size_t{7};
    if (length > room_ - bytes_.size()) {
      refused_ = true;
      return false;
    }
    size_t at = bytes_.size();
    bytes_.resize(at + length);  // zeros
    char* p = bytes_.data() + at;
    auto reclen = static_cast<uint16_t>(length);
    memcpy(p, &ino, 8);
    memcpy(p + 8, &next, 8);
    memcpy(p + 16, &reclen, 2);
    if (old_) p[length - 1] = static_cast<char>(type);
    else p[18] = static_cast<char>(type);
    memcpy(p + header, name.data(), name.size());
    return true;
  }
  const std::vector<char>& bytes() const { return bytes_; }
  bool refused() const { return refused_; }

 private:
  const size_t room_;
  const bool old_;
  std::vector<char> bytes_;
  bool refused_ = false;
};

Result<long> read_entries(Task& task, int fd, UserOut<void> buf, unsigned count, bool old_format) {
  Ref<vfs::File> file = TRY(task.file(fd));
  if (!file->inode().is_directory()) return kENOTDIR;
  Packer packer(std::min<size_t>(count, kMaxBuffer), old_format);
  sched::SleepLock l(file->position_lock());
  if (file->path().dentry->is_unlinked()) return kENOENT;
  int64_t pos = file->position;
  TRY(file->read_directory(packer, &pos));
  vfs::tell_file(*file, IN_ACCESS);
  if (packer.bytes().empty()) return packer.refused() ? Result<long>(kEINVAL) : Result<long>(0L);
  TRY(buf.copy_bytes_out(task.context(), packer.bytes().data(), packer.bytes().size()));
  file->position = pos;
  return packer.bytes().size();
}

}  // namespace

Result<long> sys_getdents64(Task& task, int fd, UserOut<void> buf, unsigned count) {
  return read_entries(task, fd, buf, count, false);
}
Result<long> sys_getdents(Task& task, int fd, UserOut<void> buf, unsigned count) {
  return read_entries(task, fd, buf, count, true);
}

}  // namespace sentry::syscalls

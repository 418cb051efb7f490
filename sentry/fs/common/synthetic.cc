// SPDX-License-Identifier: Apache-2.0
// Inodes whose contents the kernel makes up.
#include "sentry/fs/common/synthetic.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace sentry::fs::common {
namespace {

constexpr size_t kMaxStore = 4096;
// All texts that open descriptions keep together. Beyond it they are made again for each read: descriptors are cheap for an
// application, large texts (smaps) are not for us.
constexpr size_t kMaxKept = 64 << 20;
constinit std::atomic<size_t> g_kept{0};

class TextFile final : public vfs::File {
 public:
  TextFile(const vfs::Path& where, Ref<TextInode> inode, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::plain, where, inode, flags, std::move(cred)), text_inode_(*inode) {}

  bool seekable() const override { return true; }
  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags) override {
    sched::SleepLock l(mu_);
    if (!have_ || *pos == 0) {
      drop();
      text_ = TRY(text_inode_.text());
      have_ = g_kept.fetch_add(text_.size()) + text_.size() <= kMaxKept;
      if (!have_) g_kept.fetch_sub(text_.size());
    }
    size_t n = 0;
    if (*pos >= 0 && static_cast<size_t>(*pos) < text_.size()) {
      n = std::min(dst.size(), text_.size() - static_cast<size_t>(*pos));
      memcpy(dst.data(), text_.data() + *pos, n);
      *pos += static_cast<int64_t>(n);
    }
    if (!have_) text_ = std::string();
    return n;
  }
  ~TextFile() override { drop(); }
  Result<size_t> write(std::span<const std::byte> src, int64_t* pos, vfs::IoFlags) override {
    if (src.size() > kMaxStore) return kEINVAL;
    TRY(text_inode_.store(*this, {reinterpret_cast<const char*>(src.data()), src.size()}));
    *pos += static_cast<int64_t>(src.size());
    return src.size();
  }
  bool message_oriented() const override { return false; }
  Result<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_CUR) offset += position;
    else if (whence != SEEK_SET) return kEINVAL;
    if (offset < 0) return kEINVAL;
    return position = offset;
  }
  Result<void> truncate(uint64_t) override { return {}; }

 private:
  void drop() {
    if (have_) g_kept.fetch_sub(text_.size());
    have_ = false;
  }
  TextInode& text_inode_;
  sched::SleepMutex mu_;
  std::string text_;
  bool have_ = false;
};

class ListFile final : public vfs::File {
 public:
  ListFile(const vfs::Path& where, Ref<SyntheticDirectory> dir, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::directory, where, dir, flags, std::move(cred)), dir_(*dir) {}

  bool seekable() const override { return true; }
  Result<size_t> read(std::span<std::byte>, int64_t*, vfs::IoFlags) override { return kEISDIR; }
  // The caller holds position_lock(), which guards the list.
  Result<void> read_directory(vfs::DirectorySink& sink, int64_t* pos) override {
    if (!have_ || *pos == 0) {
      entries_ = TRY(dir_.entries());
      have_ = true;
    }
    if (!add_dots(*this, sink, pos)) return {};
    while (static_cast<uint64_t>(*pos) - 2 < entries_.size()) {
      const SyntheticDirectory::Entry& e = entries_[static_cast<size_t>(*pos) - 2];
      if (!sink.add(e.name, e.ino, directory_type(e.type), *pos + 1)) break;
      ++*pos;
    }
    return {};
  }

 private:
  SyntheticDirectory& dir_;
  std::vector<SyntheticDirectory::Entry> entries_;
  bool have_ = false;
};

class ConstantText final : public TextInode {
 public:
  ConstantText(vfs::FileSystem& fs, uint64_t ino, uint32_t mode, std::string text)
      : TextInode(fs, ino, S_IFREG | mode), text_(std::move(text)) {}
  Result<std::string> text() override { return text_; }

 private:
  const std::string text_;
};

class ConstantSymlink final : public SyntheticSymlink {
 public:
  ConstantSymlink(vfs::FileSystem& fs, uint64_t ino, std::string target)
      : SyntheticSymlink(fs, ino), target_(std::move(target)) {}
  Result<std::string> target() override { return target_; }

 private:
  const std::string target_;
};

}  // namespace

Result<Ref<vfs::File>> TextInode::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  return Ref<vfs::File>(make_ref<TextFile>(where, Ref<TextInode>(*this), flags, cred));
}

Result<void> TextInode::set_attributes(const vfs::SetAttributes& s) {
  using S = vfs::SetAttributes;
  if ((s.mask & S::kSize) && !(s.mask & (S::kMode | S::kUid | S::kGid))) return {};
  return kEPERM;
}

Result<Ref<vfs::File>> SyntheticDirectory::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  return Ref<vfs::File>(make_ref<ListFile>(where, Ref<SyntheticDirectory>(*this), flags, cred));
}

void StaticDirectory::add(std::string_view name, Ref<SyntheticInode> inode) {
  uint64_t number = inode->ino();
  add(name, Ref<vfs::Inode>(std::move(inode)), number);
}
void StaticDirectory::add(std::string_view name, Ref<vfs::Inode> inode, uint64_t ino) {
  if (inode->is_directory()) attributes_.add_links(1);
  names_.set(name, std::move(inode), ino);
}
void StaticDirectory::remove(std::string_view name) {
  RefOrNull<vfs::Inode> gone = names_.remove(name);
  if (gone && gone->is_directory()) attributes_.add_links(-1);
}
Result<Ref<vfs::File>> StaticDirectory::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  return open_name_table(where, Ref<vfs::Inode>(*this), names_, flags, cred);
}

Ref<SyntheticInode> make_constant_text(vfs::FileSystem& fs, uint64_t ino, uint32_t mode, std::string text) {
  return make_ref<ConstantText>(fs, ino, mode, std::move(text));
}
Ref<SyntheticInode> make_constant_symlink(vfs::FileSystem& fs, uint64_t ino, std::string target) {
  return make_ref<ConstantSymlink>(fs, ino, std::move(target));
}

}  // namespace sentry::fs::common

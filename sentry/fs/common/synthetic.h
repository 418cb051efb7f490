// SPDX-License-Identifier: Apache-2.0
// Inodes whose contents the kernel makes up: text files, directories, symlinks (procfs, sysfs, cgroupfs). Derive and say what
// they hold. Linux: fs/seq_file.c, fs/libfs.c.
#pragma once

#include <string>
#include <vector>

#include "sentry/fs/common/attributes.h"
#include "sentry/fs/common/name_table.h"

namespace sentry::fs::common {

// Mode, owner and times. chmod, chown and utimes are refused (EPERM) unless the derived class allows them.
class SyntheticInode : public vfs::Inode {
 public:
  Result<vfs::Attributes> attributes() override { return attributes_.get(); }
  Result<void> check_access(const auth::Credentials& cred, int mask) override { return attributes_.check(cred, mask); }
  uint64_t ino() const { return ino_; }
  // Names are the kernel's: nobody makes or removes one. Linux: directories without these operations.
  Result<Ref<vfs::Inode>> create(std::string_view, const vfs::CreateRequest&) override { return kEACCES; }
  Result<Ref<vfs::Inode>> mkdir(std::string_view, const vfs::CreateRequest&) override { return kEPERM; }
  Result<Ref<vfs::Inode>> symlink(std::string_view, std::string_view, const vfs::CreateRequest&) override { return kEPERM; }
  Result<void> link(std::string_view, vfs::Inode&) override { return kEPERM; }
  Result<void> unlink(std::string_view, vfs::Inode&) override { return kEPERM; }
  Result<void> rmdir(std::string_view, vfs::Inode&) override { return kEPERM; }
  Result<void> rename(std::string_view, vfs::Inode&, vfs::Inode&, std::string_view, vfs::Inode*, unsigned) override {
    return kEPERM;
  }

 protected:
  SyntheticInode(vfs::FileSystem& fs, uint64_t ino, uint32_t mode, uint32_t uid = 0, uint32_t gid = 0, uint64_t rdev = 0)
      : Inode(fs, mode), attributes_(fs.device(), ino, mode, uid, gid, rdev), ino_(ino) {}
  AttributeHolder attributes_;

 private:
  const uint64_t ino_;
};

// Reads give what text() returned when the description was first read (again after seeking to 0). A write(2) gives its bytes, at most
// one page, to store().
class TextInode : public SyntheticInode {
 public:
  virtual Result<std::string> text() = 0;
  // Credentials of the writer's description are in file.
  virtual Result<void> store(vfs::File& /*file*/, std::string_view) { return kEINVAL; }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  // O_TRUNC is no change.
  Result<void> set_attributes(const vfs::SetAttributes& s) override;

 protected:
  using SyntheticInode::SyntheticInode;
};

// A directory that answers lookup() and lists entries(); the list is taken when reading starts.
class SyntheticDirectory : public SyntheticInode {
 public:
  struct Entry {
    std::string name;
    uint64_t ino;
    uint32_t type;  // S_IFMT bits
  };
  virtual Result<std::vector<Entry>> entries() = 0;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;

 protected:
  SyntheticDirectory(vfs::FileSystem& fs, uint64_t ino, uint32_t mode = 0555, uint32_t uid = 0, uint32_t gid = 0)
      : SyntheticInode(fs, ino, S_IFDIR | mode, uid, gid) {}
};

// A directory whose names the kernel puts in. They may change while it is mounted, so dentries of it are asked again.
class StaticDirectory : public SyntheticInode {
 public:
  StaticDirectory(vfs::FileSystem& fs, uint64_t ino, uint32_t mode = 0555, uint32_t uid = 0, uint32_t gid = 0)
      : SyntheticInode(fs, ino, S_IFDIR | mode, uid, gid) {}
  void add(std::string_view name, Ref<SyntheticInode> inode);
  void add(std::string_view name, Ref<vfs::Inode> inode, uint64_t ino);
  void remove(std::string_view name);
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override { return names_.find(name); }
  bool dentries_are_stable() const override { return false; }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;

 private:
  NameTable names_;
};

class SyntheticSymlink : public SyntheticInode {
 public:
  virtual Result<std::string> target() = 0;
  Result<std::string> read_link() override { return target(); }
  Result<Ref<vfs::File>> open(const vfs::Path&, int, const Ref<auth::Credentials>&) override { return kELOOP; }

 protected:
  SyntheticSymlink(vfs::FileSystem& fs, uint64_t ino, uint32_t uid = 0, uint32_t gid = 0)
      : SyntheticInode(fs, ino, S_IFLNK | 0777, uid, gid) {}
};

// Text and links that never change.
Ref<SyntheticInode> make_constant_text(vfs::FileSystem& fs, uint64_t ino, uint32_t mode, std::string text);
Ref<SyntheticInode> make_constant_symlink(vfs::FileSystem& fs, uint64_t ino, std::string target);

}  // namespace sentry::fs::common

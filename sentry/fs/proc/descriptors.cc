// SPDX-License-Identifier: Apache-2.0
// /proc/PID/fd and fdinfo. A link in fd is a jump to what is open there: opening it makes a new description where the file can
// have one (a pipe's other end, a file), ENXIO where not (sockets, anonymous inodes). Linux: fs/proc/fd.c.
#include <charconv>

#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;

// The number in a name as Linux's name_to_int() takes it; -1: none.
int fd_number(std::string_view name) {
  int fd = -1;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), fd);
  if (error != std::errc() || end != name.data() + name.size() || fd < 0) return -1;
  if (name.size() > 1 && name[0] == '0') return -1;
  return fd;
}

Result<Ref<vfs::File>> file_at(Task& t, int fd) {
  RefOrNull<kernel::FdTable> files = kernel::find_files(t);
  if (!files) return kENOENT;
  Result<Ref<vfs::File>> f = files->get_path(fd);
  if (!f.ok()) return kENOENT;
  return f;
}

class FdLink final : public OfTask<common::SyntheticSymlink> {
 public:
  FdLink(const Subject& s, int fd) : OfTask(s, ino_of(s, kFdBase + static_cast<uint64_t>(fd))), fd_(fd) {}
  // r and w as it was opened, x always.
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = TRY(OfTask::attributes());
    a.mode = S_IFLNK;
    a.size = 64;
    Result<Ref<Task>> t = subject_.task();
    if (!t.ok()) return a;
    Result<Ref<vfs::File>> f = file_at(**t, fd_);
    if (!f.ok()) return a;
    if ((*f)->readable()) a.mode |= 0500;
    if ((*f)->writable()) a.mode |= 0300;
    return a;
  }
  Result<vfs::Path> jump() override { return TRY(file())->path(); }
  Result<std::string> target() override { return text_for_reader(TRY(file())->path()); }

 private:
  Result<Ref<vfs::File>> file() {
    Ref<Task> t = TRY(inspected());
    return file_at(*t, fd_);
  }
  const int fd_;
};

class FdInfo final : public OfTask<common::TextInode> {
 public:
  FdInfo(const Subject& s, int fd) : OfTask(s, ino_of(s, kFdInfoBase + static_cast<uint64_t>(fd)), S_IFREG | 0400), fd_(fd) {}
  Result<std::string> text() override {
    Ref<Task> t = TRY(subject_.task());
    RefOrNull<kernel::FdTable> files = kernel::find_files(*t);
    Ref<vfs::File> f = TRY(file_at(*t, fd_));
    int flags = f->flags();
    if (files)
      if (Result<bool> c = files->cloexec(fd_); c.ok() && *c) flags |= O_CLOEXEC;
    std::string out;
    append(out, "pos:\t%lld\nflags:\t0%o\nmnt_id:\t%d\n", static_cast<long long>(__atomic_load_n(&f->position, __ATOMIC_RELAXED)),
           static_cast<unsigned>(flags), f->path().mount ? f->path().mount->id() : 0);
    if (Result<vfs::Attributes> a = f->inode().attributes(); a.ok())
      append(out, "ino:\t%llu\n", static_cast<unsigned long long>(a->ino));
    return out + f->fdinfo();
  }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    (void)TRY(inspected());
    return TextInode::open(where, flags, cred);
  }

 private:
  const int fd_;
};

template <typename One, bool kLinks>
class DescriptorDirectory final : public OfTask<common::SyntheticDirectory> {
 public:
  DescriptorDirectory(const Subject& s, uint64_t ino) : OfTask(s, ino, kLinks ? 0500 : 0555) {}
  bool dentries_are_stable() const override { return false; }
  // Linux: proc_fd_permission(): a process may always look at its own.
  Result<void> check_access(const auth::Credentials& cred, int mask) override {
    Task* me = reader();
    if (kLinks && me && &me->group() == subject_.group.get() && !(mask & W_OK)) return {};
    return OfTask::check_access(cred, mask);
  }
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = TRY(OfTask::attributes());
    if (!kLinks) return a;
    if (Result<Ref<Task>> t = subject_.task(); t.ok())
      if (RefOrNull<kernel::FdTable> files = kernel::find_files(**t)) a.size = files->numbers().size();
    return a;
  }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    int fd = fd_number(name);
    Result<Ref<Task>> t = subject_.task();
    if (fd < 0 || !t.ok() || !file_at(**t, fd).ok()) return kENOENT;
    return RefOrNull<vfs::Inode>(make_ref<One>(subject_, fd));
  }
  Result<std::vector<Entry>> entries() override {
    Result<Ref<Task>> t = subject_.task();
    if (!t.ok()) return kENOENT;
    std::vector<Entry> out;
    RefOrNull<kernel::FdTable> files = kernel::find_files(**t);
    if (!files) return out;
    for (int fd : files->numbers())
      out.push_back({std::to_string(fd), ino_of(subject_, (kLinks ? kFdBase : kFdInfoBase) + static_cast<uint64_t>(fd)),
                     kLinks ? S_IFLNK : S_IFREG});
    return out;
  }
};

}  // namespace

Ref<vfs::Inode> make_fd(const Subject& s, uint64_t ino) { return make_ref<DescriptorDirectory<FdLink, true>>(s, ino); }
Ref<vfs::Inode> make_fdinfo(const Subject& s, uint64_t ino) {
  return make_ref<DescriptorDirectory<FdInfo, false>>(s, ino);
}

}  // namespace sentry::fs::proc

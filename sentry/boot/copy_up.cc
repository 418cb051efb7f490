// SPDX-License-Identifier: Apache-2.0
// Name by name; both sides may be full of surprises, so nothing is followed and everything is bounded.
#include "sentry/boot/copy_up.h"

#include <dirent.h>
#include <sys/stat.h>

#include <vector>

namespace sentry::boot {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxNames = 100000;
constexpr size_t kChunk = 64 << 10;

class Names final : public vfs::DirectorySink {
 public:
  bool add(std::string_view name, uint64_t, unsigned char, int64_t) override {
    if (names.size() > kMaxNames) return false;
    taken++;
    if (name != "." && name != "..") names.emplace_back(name);
    return true;
  }
  std::vector<std::string> names;
  size_t taken = 0;
};

class Copier {
 public:
  Copier(const vfs::WalkContext& from, const vfs::WalkContext& to) : from_(from), to_(to), buffer_(kChunk) {}

  // from: a directory of the source, as from_.start of a walk; to: its copy's path, which is there.
  Result<void> directory(const vfs::Path& from, const std::string& to, int depth) {
    if (depth > kMaxDepth) return kEFBIG;
    vfs::WalkContext here = from_;
    here.start = from;
    auto opened = TRY(vfs::open(here, ".", O_RDONLY | O_DIRECTORY, 0, 0));
    Names list;
    int64_t at = 0;
    size_t before;
    do {
      before = list.taken;
      TRY(opened->read_directory(list, &at));
    } while (list.taken != before);
    if (list.names.size() > kMaxNames) return kEFBIG;
    for (const auto& name : list.names) {
      if (++count_ > kMaxNames) return kEFBIG;
      auto path = TRY(vfs::walk(here, name, 0));
      auto inode = path.inode();
      if (!inode) continue;  // gone meanwhile
      TRY(one(here, name, path, *inode, to + "/" + name, depth));
    }
    return {};
  }

  Result<void> like(vfs::Inode& source, const std::string& to) {
    auto a = TRY(source.attributes());
    vfs::SetAttributes s;
    s.mask = vfs::SetAttributes::kUid | vfs::SetAttributes::kGid;
    s.uid = a.uid;
    s.gid = a.gid;
    auto copy = TRY(vfs::walk(to_, to, 0));
    TRY(vfs::change_attributes(copy, s, *to_.cred));
    if (S_ISLNK(a.mode)) return {};
    s.mask = vfs::SetAttributes::kMode | vfs::SetAttributes::kAtime | vfs::SetAttributes::kMtime;  // after the owner: set-user-ID bits
    s.mode = a.mode & 07777;
    s.atime = a.atime;
    s.mtime = a.mtime;
    return vfs::change_attributes(copy, s, *to_.cred);
  }

 private:
  Result<void> one(const vfs::WalkContext& here, const std::string& name, const vfs::Path& path, vfs::Inode& inode,
                   const std::string& to, int depth) {
    switch (inode.type()) {
      case S_IFDIR:
        TRY(vfs::make_directory(to_, to, 0700));
        TRY(directory(path, to, depth + 1));
        break;
      case S_IFREG: TRY(contents(here, name, to)); break;
      case S_IFLNK: TRY(vfs::make_symlink(to_, TRY(inode.read_link()), to)); break;
      case S_IFIFO: TRY(vfs::make_node(to_, to, S_IFIFO | 0600, 0)); break;
      default: return {};
    }
    return like(inode, to);
  }

  Result<void> contents(const vfs::WalkContext& here, const std::string& name, const std::string& to) {
    auto in = TRY(vfs::open(here, name, O_RDONLY | O_NOFOLLOW, 0, 0));
    auto out = TRY(vfs::open(to_, to, O_WRONLY | O_CREAT | O_EXCL, 0600, 0));
    int64_t read_at = 0, write_at = 0;
    for (;;) {
      size_t n = TRY(in->read(buffer_, &read_at, {}));
      if (n == 0) return {};
      for (size_t done = 0; done < n;) {
        size_t k = TRY(out->write(std::span(buffer_).subspan(done, n - done), &write_at, {}));
        if (k == 0) return kENOSPC;
        done += k;
      }
    }
  }

  const vfs::WalkContext& from_;
  const vfs::WalkContext& to_;
  std::vector<std::byte> buffer_;
  size_t count_ = 0;
};

}  // namespace

Result<void> copy_up(const vfs::WalkContext& from, const vfs::Path& directory, const Ref<vfs::FileSystem>& to, CopyMode mode) {
  auto alone = vfs::MountNamespace::create(to, 0, "tmpfs");
  vfs::WalkContext target{*alone, alone->root(), alone->root(), from.cred};
  Copier copier(from, target);
  TRY(copier.directory(directory, "", 0));
  auto inode = directory.inode();
  if (!inode) return {};
  const vfs::Attributes own = TRY(to->root()->attributes());
  TRY(copier.like(*inode, "/"));
  if (mode == CopyMode::of_all) return {};
  vfs::SetAttributes s;
  s.mask = vfs::SetAttributes::kMode;
  s.mode = own.mode & 07777;
  return vfs::change_attributes(TRY(vfs::walk(target, "/", 0)), s, *target.cred);
}

}  // namespace sentry::boot

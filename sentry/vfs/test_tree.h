// SPDX-License-Identifier: Apache-2.0
// For tests of file systems: one mounted as the root of a namespace, seen by a privileged user, with short ways to its files.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "sentry/vfs/walk.h"

namespace sentry::vfs {

inline Ref<auth::Credentials> make_user(uint32_t id, uint64_t caps) {
  auto c = make_ref<auth::Credentials>();
  c->uid = c->euid = c->suid = c->fsuid = id;
  c->gid = c->egid = c->sgid = c->fsgid = id;
  c->cap_effective = c->cap_permitted = caps;
  return c;
}

// The error of a Result, or 0.
template <typename R>
int error_of(const R& r) {
  return r.ok() ? 0 : r.error().value();
}
template <typename T>
T must(Result<T>&& r) {
  CHECK(r.ok());
  return std::move(r).value();
}

struct TestTree {
  Ref<auth::Credentials> root;
  Ref<MountNamespace> ns;
  Path cwd;
  explicit TestTree(Ref<FileSystem> fs, uint32_t id = 0)
      : root(make_user(id, auth::kAllCaps)), ns(MountNamespace::create(std::move(fs), 0, "none")), cwd(ns->root()) {}

  WalkContext as(const Ref<auth::Credentials>& who) const { return {*ns, ns->root(), cwd, who}; }
  WalkContext ctx() const { return as(root); }

  Result<Path> walk(std::string_view p, unsigned f = kFollow) const { return vfs::walk(ctx(), p, f); }
  Path at(std::string_view p, unsigned f = kFollow) const { return must(walk(p, f)); }
  Ref<Inode> inode(std::string_view p, unsigned f = 0) const { return at(p, f).inode().get_ref(); }
  Attributes stat(std::string_view p, unsigned f = 0) const { return must(inode(p, f)->attributes()); }

  Result<Ref<File>> open(std::string_view p, int flags, uint32_t mode = 0644) const {
    return vfs::open(ctx(), p, flags, mode, 0);
  }
  Ref<File> must_open(std::string_view p, int flags, uint32_t mode = 0644) const { return must(open(p, flags, mode)); }
  void put(std::string_view p, std::string_view text, uint32_t mode = 0644) const {
    CHECK(write(*must_open(p, O_CREAT | O_WRONLY | O_TRUNC, mode), text).ok());
  }
  std::string get(std::string_view p) const { return read(*must_open(p, O_RDONLY), 1 << 20); }

  static Result<size_t> write(File& f, std::string_view text) {
    return f.write({reinterpret_cast<const std::byte*>(text.data()), text.size()}, &f.position,
                   {.append = (f.flags() & O_APPEND) != 0});
  }
  static std::string read(File& f, size_t n) {
    std::string out(n, '\0');
    out.resize(must(f.read({reinterpret_cast<std::byte*>(out.data()), n}, &f.position, {})));
    return out;
  }
};

}  // namespace sentry::vfs

// SPDX-License-Identifier: Apache-2.0
// For tests: a mount namespace over a tmpfs, a privileged and an ordinary user.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/sched/test_scheduler.h"
#include "sentry/vfs/locks.h"
#include "sentry/vfs/walk.h"

namespace sentry::fs::tmpfs {

inline Ref<auth::Credentials> make_user(uint32_t id, uint64_t caps) {
  auto c = make_ref<auth::Credentials>();
  c->uid = c->euid = c->suid = c->fsuid = id;
  c->gid = c->egid = c->sgid = c->fsgid = id;
  c->cap_effective = c->cap_permitted = caps;
  return c;
}

inline Options test_options(uint64_t size = 0) {
  Options o;
  o.size = size;
  o.mode = 0777;
  o.backing = common::memfd_backing();
  return o;
}

struct Tree {
  Ref<auth::Credentials> root = make_user(0, auth::kAllCaps);
  Ref<auth::Credentials> user = make_user(1000, 0);
  Ref<vfs::MountNamespace> ns;
  vfs::Path cwd;
  explicit Tree(Options o = test_options()) : ns(vfs::MountNamespace::create(create(o), 0, "none")), cwd(ns->root()) {}

  vfs::WalkContext as(const Ref<auth::Credentials>& who) const { return {*ns, ns->root(), cwd, who}; }
  vfs::WalkContext ctx() const { return as(root); }

  Result<vfs::Path> walk(std::string_view p, unsigned f = vfs::kFollow) const { return vfs::walk(ctx(), p, f); }
  vfs::Path at(std::string_view p, unsigned f = vfs::kFollow) const {
    auto r = walk(p, f);
    CHECK(r.ok());
    return std::move(r).value();
  }
  Result<Ref<vfs::File>> open(std::string_view p, int flags, uint32_t mode = 0644) const {
    return vfs::open(ctx(), p, flags, mode, 0);
  }
  void mkdir(std::string_view p, uint32_t mode = 0755) const { CHECK(vfs::make_directory(ctx(), p, mode).ok()); }
  void symlink(std::string_view target, std::string_view p) const { CHECK(vfs::make_symlink(ctx(), target, p).ok()); }
  void put(std::string_view p, std::string_view text, uint32_t mode = 0644) const {
    auto f = open(p, O_CREAT | O_WRONLY | O_TRUNC, mode);
    CHECK(f.ok());
    CHECK(write(**f, text).ok());
  }
  std::string get(std::string_view p) const {
    auto f = open(p, O_RDONLY);
    CHECK(f.ok());
    return read(**f, 1 << 20);
  }
  vfs::Attributes stat(std::string_view p, unsigned f = 0) const {
    auto a = at(p, f).inode()->attributes();
    CHECK(a.ok());
    return *a;
  }

  static Result<size_t> write(vfs::File& f, std::string_view text) {
    return f.write({reinterpret_cast<const std::byte*>(text.data()), text.size()}, &f.position,
                   {.append = (f.flags() & O_APPEND) != 0});
  }
  static std::string read(vfs::File& f, size_t n) {
    std::string out(n, '\0');
    auto r = f.read({reinterpret_cast<std::byte*>(out.data()), n}, &f.position, {});
    CHECK(r.ok());
    out.resize(*r);
    return out;
  }
};

// The error of a Result, or 0.
template <typename R>
int error_of(const R& r) {
  return r.ok() ? 0 : r.error().value();
}

template <typename F>
void on_fiber(F body) {
  sched::on_scheduler(1, body);
}

}  // namespace sentry::fs::tmpfs

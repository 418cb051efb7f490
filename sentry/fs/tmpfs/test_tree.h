// SPDX-License-Identifier: Apache-2.0
// For tests: a tree of a tmpfs, and an ordinary user beside the privileged one.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/sched/test_scheduler.h"
#include "sentry/vfs/locks.h"
#include "sentry/vfs/test_tree.h"

namespace sentry::fs::tmpfs {

using vfs::error_of;
using vfs::make_user;

inline Options test_options(uint64_t size = 0) {
  Options o;
  o.size = size;
  o.mode = 0777;
  o.backing = common::memfd_backing();
  return o;
}

struct Tree : vfs::TestTree {
  Ref<auth::Credentials> user = make_user(1000, 0);
  explicit Tree(Options o = test_options()) : TestTree(create(o)) {}

  void mkdir(std::string_view p, uint32_t mode = 0755) const { CHECK(vfs::make_directory(ctx(), p, mode).ok()); }
  void symlink(std::string_view target, std::string_view p) const { CHECK(vfs::make_symlink(ctx(), target, p).ok()); }
};

template <typename F>
void on_fiber(F body) {
  sched::on_scheduler(1, body);
}

}  // namespace sentry::fs::tmpfs

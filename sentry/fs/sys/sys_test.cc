// SPDX-License-Identifier: Apache-2.0
// The table of paths as a tree, and what sysfs shows of the CPUs.
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "sentry/fs/sys/sysfs.h"
#include "sentry/fs/sys/tree.h"

namespace sentry::fs::sys {
namespace {

struct NoCalls : kernel::CallHandler {
  Result<long> handle(kernel::Task&, const platform::Call&) override { return kENOSYS; }
};

struct Sys : testing::Test {
  NoCalls calls;
  kernel::Kernel kernel{calls};
  Ref<kernel::PidNamespace> pids = kernel::PidNamespace::create(nullptr);

  static RefOrNull<vfs::Inode> find(vfs::FileSystem& fs, const std::string& path) {
    RefOrNull<vfs::Inode> at = fs.root();
    std::istringstream in(path);
    for (std::string name; at && std::getline(in, name, '/');) {
      auto r = at->lookup(name);
      if (!r.ok()) return nullptr;
      at = *r;
    }
    return at;
  }
  static std::vector<std::string> list(vfs::FileSystem& fs, const std::string& path) {
    std::vector<std::string> out;
    auto r = static_cast<common::SyntheticDirectory*>(find(fs, path).get())->entries();
    for (const auto& e : *r) out.push_back(e.name);
    return out;
  }
};

TEST_F(Sys, DirectoriesAreMadeOfPaths) {
  constexpr uint32_t kFile = S_IFREG | 0444;
  std::vector<Node> nodes = {{"b/c/two", kFile, "2\n"}, {"b-x", kFile, "x\n"}, {"b/c/one", kFile, "1\n"},
                             {"empty", S_IFDIR | 0555, ""}, {"link", S_IFLNK | 0777, "b/c"}};
  auto fs = make_ref<Tree>(kernel, pids, "test", uint64_t{1}, std::move(nodes));
  EXPECT_EQ(list(*fs, ""), (std::vector<std::string>{"b", "b-x", "empty", "link"}));
  EXPECT_EQ(list(*fs, "b"), (std::vector<std::string>{"c"}));
  EXPECT_EQ(list(*fs, "b/c"), (std::vector<std::string>{"one", "two"}));
  EXPECT_TRUE(list(*fs, "empty").empty());
  EXPECT_FALSE(find(*fs, "b/d"));
  EXPECT_FALSE(find(*fs, "empty/x"));
  EXPECT_EQ(static_cast<common::TextInode*>(find(*fs, "b/c/one").get())->text().value(), "1\n");
  EXPECT_EQ(find(*fs, "link")->read_link().value(), "b/c");
}

TEST_F(Sys, NumbersAreUniqueAndAsListed) {
  std::vector<Node> nodes;
  for (const char* p : {"a/b/c/d", "a/b/e", "a/f", "g/h", "g/i/j"}) nodes.push_back({p, S_IFREG | 0444, ""});
  auto fs = make_ref<Tree>(kernel, pids, "test", uint64_t{1}, std::move(nodes));
  std::set<uint64_t> seen;
  std::vector<std::string> todo{""};
  while (!todo.empty()) {
    std::string at = todo.back();
    todo.pop_back();
    auto dir = find(*fs, at);
    auto r = static_cast<common::SyntheticDirectory*>(dir.get())->entries();
    for (const auto& e : *r) {
      std::string path = at.empty() ? e.name : at + "/" + e.name;
      auto a = find(*fs, path)->attributes();
      ASSERT_TRUE(a.ok());
      EXPECT_EQ(a->ino, e.ino) << path;
      EXPECT_TRUE(seen.insert(e.ino).second) << path;
      if (S_ISDIR(e.type)) {
        todo.push_back(path);
        EXPECT_GE(a->nlink, 2u);
      }
    }
  }
  EXPECT_EQ(seen.size(), 10u);
}

}  // namespace
}  // namespace sentry::fs::sys

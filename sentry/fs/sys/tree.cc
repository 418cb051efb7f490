// SPDX-License-Identifier: Apache-2.0
// Directories and files of a table of paths.
#include "sentry/fs/sys/tree.h"

#include <algorithm>
#include <map>

namespace sentry::fs::sys {
namespace {

// Numbers: files 2…, directories above.
constexpr uint64_t kFirstFile = 2, kFirstDirectory = 1 << 16;

class NodeText final : public common::TextInode {
 public:
  NodeText(Tree& t, const Node& n, uint64_t ino) : TextInode(t, ino, n.mode), tree_(t), node_(n) {}
  Result<std::string> text() override { return node_.make ? node_.make(tree_) : Result<std::string>(node_.text); }
  Result<void> store(vfs::File&, std::string_view) override { return kEPERM; }

 private:
  Tree& tree_;
  const Node& node_;
};

class NodeDirectory final : public common::SyntheticDirectory {
 public:
  // [first, last) of the tree's nodes lie below prefix.
  NodeDirectory(Tree& t, uint64_t ino, std::string prefix, size_t first, size_t last)
      : SyntheticDirectory(t, ino), tree_(t), prefix_(std::move(prefix)), first_(first), last_(last) {}

  // Nothing ever changes, and what was found stays.
  bool dentries_are_stable() const override { return true; }
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = TRY(SyntheticDirectory::attributes());
    for (const Entry& e : TRY(entries())) a.nlink += S_ISDIR(e.type);
    return a;
  }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    auto known = made_.find(name);
    if (known != made_.end()) return RefOrNull<vfs::Inode>(known->second);
    for (size_t i = first_; i < last_; i++) {
      if (first_name(i) != name) continue;
      Ref<vfs::Inode> made = make(i, name);
      made_.emplace(std::string(name), made);
      return RefOrNull<vfs::Inode>(std::move(made));
    }
    return RefOrNull<vfs::Inode>();
  }
  Result<std::vector<Entry>> entries() override {
    std::vector<Entry> out;
    for (size_t i = first_; i < last_; i++) {
      std::string_view name = first_name(i);
      if (name.empty() || (!out.empty() && out.back().name == name)) continue;
      if (is_leaf(i)) out.push_back({std::string(name), kFirstFile + i, tree_.nodes()[i].mode & S_IFMT});
      else out.push_back({std::string(name), directory_ino(i), S_IFDIR});
    }
    return out;
  }

 private:
  std::string_view rest(size_t i) const {
    std::string_view path(tree_.nodes()[i].path);
    return path.size() > prefix_.size() ? path.substr(prefix_.size()) : std::string_view();
  }
  std::string_view first_name(size_t i) const {
    std::string_view r = rest(i);
    return r.substr(0, r.find('/'));
  }
  bool is_leaf(size_t i) const { return rest(i).find('/') == std::string_view::npos && !S_ISDIR(tree_.nodes()[i].mode); }
  uint64_t directory_ino(size_t i) const {
    auto depth = static_cast<uint64_t>(std::count(prefix_.begin(), prefix_.end(), '/'));
    return kFirstDirectory + i * 16 + depth;
  }
  Ref<vfs::Inode> make(size_t i, std::string_view name) {
    const Node& n = tree_.nodes()[i];
    if (!is_leaf(i)) {
      size_t end = i;
      while (end < last_ && first_name(end) == name) end++;
      return make_ref<NodeDirectory>(tree_, directory_ino(i), prefix_ + std::string(name) + "/", i, end);
    }
    if (S_ISLNK(n.mode)) return common::make_constant_symlink(tree_, kFirstFile + i, n.text);
    return make_ref<NodeText>(tree_, n, kFirstFile + i);
  }

  Tree& tree_;
  const std::string prefix_;
  const size_t first_, last_;
  std::map<std::string, Ref<vfs::Inode>, std::less<>> made_;  // guarded by lock()
};

}  // namespace

Tree::Tree(kernel::Kernel& k, Ref<kernel::PidNamespace> p, const char* type, uint64_t magic, std::vector<Node> nodes)
    : kernel(k), pids(std::move(p)), type_(type), magic_(magic), nodes_(std::move(nodes)) {
  // By component, so that what lies below one directory stands together ("a-b" does not part "a" and "a/c").
  std::sort(nodes_.begin(), nodes_.end(), [](const Node& a, const Node& b) {
    return std::lexicographical_compare(a.path.begin(), a.path.end(), b.path.begin(), b.path.end(), [](char x, char y) {
      return (x == '/' ? '\0' : x) < (y == '/' ? '\0' : y);
    });
  });
  root_ = Ref<vfs::Inode>(make_ref<NodeDirectory>(*this, uint64_t{1}, std::string(), size_t{0}, nodes_.size()));
}

Ref<vfs::Inode> Tree::root() { return root_.get_ref(); }
vfs::FsStat Tree::statfs() {
  vfs::FsStat s;
  s.type = magic_;
  return s;
}

RefOrNull<kernel::Container> Tree::container() {
  if (kernel::Task* me = kernel::Task::find_current()) return Ref<kernel::Container>(me->container());
  if (RefOrNull<kernel::ThreadGroup> init = pids->init()) return Ref<kernel::Container>(init->container());
  return nullptr;
}

}  // namespace sentry::fs::sys

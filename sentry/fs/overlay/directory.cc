// SPDX-License-Identifier: Apache-2.0
// Directories: the lower names, with ours over them. Changes come with the directory's lock held (vfs/inode.h).
#include <limits.h>
#include <linux/fs.h>

#include "sentry/fs/overlay/node.h"

namespace sentry::fs::overlay {
namespace {

using common::AttributeHolder;
constexpr unsigned kContentsChanged = AttributeHolder::kModify | AttributeHolder::kChange;

class Collector final : public vfs::DirectorySink {
 public:
  explicit Collector(std::vector<Directory::Entry>& out) : out_(out) {}
  bool add(std::string_view name, uint64_t ino, unsigned char type, int64_t) override {
    if (name != "." && name != "..") out_.push_back({std::string(name), ino, static_cast<uint32_t>(type) << 12});
    return true;
  }

 private:
  std::vector<Directory::Entry>& out_;
};

class DirectoryFile final : public vfs::File {
 public:
  DirectoryFile(const vfs::Path& where, Ref<Directory> dir, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::directory, where, dir, flags, std::move(cred)), dir_(*dir) {}

  bool seekable() const override { return true; }
  Result<void> read_directory(vfs::DirectorySink& sink, int64_t* pos) override {
    if (*pos == 0 || !taken_) {
      entries_ = TRY(dir_.entries());
      taken_ = true;
    }
    if (!common::add_dots(*this, sink, pos)) return {};
    constexpr auto kFirst = static_cast<int64_t>(common::NameTable::kFirst);
    while (*pos - kFirst < static_cast<int64_t>(entries_.size())) {
      const auto& e = entries_[static_cast<size_t>(*pos - kFirst)];
      if (!sink.add(e.name, e.ino, common::directory_type(e.type), *pos + 1)) return {};
      ++*pos;
    }
    return {};
  }
  Result<size_t> read(std::span<std::byte>, int64_t*, vfs::IoFlags) override { return kEISDIR; }
  Result<void> sync(bool) override { return {}; }

 private:
  Directory& dir_;
  std::vector<Directory::Entry> entries_;  // under the position lock
  bool taken_ = false;
};

}  // namespace

Directory::~Directory() {
  // Level by level: trees are as deep as applications like.
  std::vector<RefOrNull<Node>> below;
  auto take = [&below](Directory& d) {
    d.names_.with([&](auto& m) {
      for (auto& [name, node] : m)
        if (node) below.push_back(std::move(node));
      m.clear();
    });
  };
  take(*this);
  while (!below.empty()) {
    RefOrNull<Node> n = std::move(below.back());
    below.pop_back();
    if (n->is_directory() && n->ref_count() == 1) take(static_cast<Directory&>(*n));
  }
}

Result<RefOrNull<vfs::Inode>> Directory::lookup(std::string_view name) {
  bool ours = false;
  auto node = names_.with([&](auto& m) -> RefOrNull<Node> {
    auto it = m.find(name);
    if (it == m.end()) return nullptr;
    ours = true;
    return it->second;
  });
  if (ours || !lower_) return RefOrNull<vfs::Inode>(node ? RefOrNull<vfs::Inode>(node.get_ref()) : nullptr);
  auto below = TRY(lower_->lookup(name));
  if (!below) return RefOrNull<vfs::Inode>();
  return RefOrNull<vfs::Inode>(TRY(overlay().wrap(below.get_ref())));
}

Result<bool> Directory::lower_has(std::string_view name) {
  if (!lower_) return false;
  return static_cast<bool>(TRY(lower_->lookup(name)));
}

Result<void> Directory::put(std::string_view name, Ref<Node> node) {
  names_.with([&](auto& m) { m.insert_or_assign(std::string(name), RefOrNull<Node>(node)); });
  attributes_.touch(kContentsChanged);
  changed();
  return {};
}

Result<void> Directory::drop(std::string_view name) {
  bool hides = TRY(lower_has(name));
  RefOrNull<Node> gone;  // let go outside the lock
  names_.with([&](auto& m) {
    auto it = m.find(name);
    if (it != m.end()) gone = std::move(it->second);
    if (hides) m.insert_or_assign(std::string(name), nullptr);
    else if (it != m.end()) m.erase(it);
  });
  attributes_.touch(kContentsChanged);
  changed();
  return {};
}

Result<Ref<vfs::Inode>> Directory::create(std::string_view name, const vfs::CreateRequest& r) {
  auto node = overlay().make(r);
  TRY(put(name, node));
  return Ref<vfs::Inode>(node);
}

Result<Ref<vfs::Inode>> Directory::mkdir(std::string_view name, const vfs::CreateRequest& r) {
  vfs::CreateRequest dir = r;
  dir.mode = (r.mode & 07777) | S_IFDIR;
  auto node = overlay().make(dir);
  TRY(put(name, node));
  attributes_.add_links(1);
  return Ref<vfs::Inode>(node);
}

Result<Ref<vfs::Inode>> Directory::symlink(std::string_view name, std::string_view target, const vfs::CreateRequest& r) {
  if (target.size() >= PATH_MAX) return kENAMETOOLONG;
  vfs::CreateRequest link = r;
  link.mode = S_IFLNK | 0777;
  auto node = overlay().make(link);
  node->link_target = std::string(target);
  TRY(put(name, node));
  return Ref<vfs::Inode>(node);
}

Result<void> Directory::link(std::string_view name, vfs::Inode& existing) {
  auto& node = static_cast<Node&>(existing);
  auto a = TRY(node.attributes());
  if (a.nlink == 0 && !node.linkable.exchange(false)) return kENOENT;
  TRY(put(name, Ref<Node>(node)));
  node.add_links(1);
  return {};
}

Result<void> Directory::unlink(std::string_view name, vfs::Inode& victim) {
  Ref<Node> node(static_cast<Node&>(victim));
  TRY(drop(name));
  node->add_links(-1);
  return {};
}

Result<void> Directory::rmdir(std::string_view name, vfs::Inode& victim) {
  Ref<Directory> dir(static_cast<Directory&>(victim));
  if (!TRY(dir->empty())) return kENOTEMPTY;
  TRY(drop(name));
  auto links = static_cast<int>(dir->attributes_.get().nlink);
  dir->add_links(-links);
  attributes_.add_links(-1);
  return {};
}

Result<void> Directory::rename(std::string_view name, vfs::Inode& moved, vfs::Inode& new_dir, std::string_view new_name,
                               vfs::Inode* replaced, unsigned flags) {
  auto& to = static_cast<Directory&>(new_dir);
  Ref<Node> node(static_cast<Node&>(moved));
  if (flags & RENAME_EXCHANGE) {
    Ref<Node> other(static_cast<Node&>(*replaced));
    TRY(put(name, other));
    TRY(to.put(new_name, node));
    if (&to != this && node->is_directory() != other->is_directory()) {
      int gained = other->is_directory() ? 1 : -1;
      attributes_.add_links(gained);
      to.attributes_.add_links(-gained);
    }
    other->attributes_.touch(AttributeHolder::kChange);
    node->attributes_.touch(AttributeHolder::kChange);
    return {};
  }
  if (replaced) {
    Ref<Node> victim(static_cast<Node&>(*replaced));
    if (victim->is_directory()) {
      if (!TRY(static_cast<Directory&>(*victim).empty())) return kENOTEMPTY;
      victim->add_links(-static_cast<int>(victim->attributes_.get().nlink));
      to.attributes_.add_links(-1);
    } else {
      victim->add_links(-1);
    }
  }
  node->changed();
  TRY(to.put(new_name, node));
  TRY(drop(name));
  if (flags & RENAME_WHITEOUT) TRY(put(name, overlay().make({S_IFCHR, 0, 0, 0})));
  if (node->is_directory() && &to != this) {
    attributes_.add_links(-1);
    to.attributes_.add_links(1);
  }
  node->attributes_.touch(AttributeHolder::kChange);
  return {};
}

Result<Ref<vfs::Inode>> Directory::create_unnamed(const vfs::CreateRequest& r) {
  auto node = overlay().make(r);
  node->add_links(-1);
  node->linkable = true;
  return Ref<vfs::Inode>(node);
}

Result<std::vector<Directory::Entry>> Directory::entries() {
  std::vector<Entry> lower;
  if (lower_) {
    auto file = TRY(lower_->open(vfs::Path{}, O_RDONLY | O_DIRECTORY, make_ref<auth::Credentials>()));
    Collector sink(lower);
    int64_t pos = 0;
    for (;;) {
      size_t before = lower.size();
      int64_t old = pos;
      TRY(file->read_directory(sink, &pos));
      if (lower.size() == before && pos == old) break;
    }
  }
  return names_.with([&](auto& m) {
    std::erase_if(lower, [&](const Entry& e) { return m.contains(e.name); });
    for (auto& [name, node] : m)
      if (node) lower.push_back({name, node->ino(), node->type()});
    return std::move(lower);
  });
}

Result<bool> Directory::empty() { return TRY(entries()).empty(); }

Result<Ref<vfs::File>> Directory::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  Ref<vfs::File> f = make_ref<DirectoryFile>(where, Ref<Directory>(*this), flags, cred);
  return f;
}

}  // namespace sentry::fs::overlay

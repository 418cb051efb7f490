// SPDX-License-Identifier: Apache-2.0
// Directories: looking names up and listing them.
#include <unistd.h>

#include "sentry/fs/common/name_table.h"
#include "sentry/fs/gofer/host_inode.h"

namespace sentry::fs::gofer {

// ---- Listings ----

void Listing::add(Entry e, std::string link, bool spent) {
  if (!link.empty() && link.size() <= wire::kMaxTarget && link.find('\0') == std::string::npos)
    links_.emplace(entries_.size(), std::move(link));
  entries_.push_back(std::move(e));
  spent_.push_back(spent);
  by_name_.emplace(entries_.back().name, entries_.size() - 1);
}

std::optional<size_t> Listing::find(std::string_view name) const {
  auto it = by_name_.find(name);
  if (it == by_name_.end()) return std::nullopt;
  return it->second;
}

std::string_view Listing::link(size_t i) const {
  auto it = links_.find(i);
  return it == links_.end() ? std::string_view() : it->second;
}

size_t Listing::next_by_name(size_t i) const {
  auto it = by_name_.upper_bound(entries_[i].name);
  return it == by_name_.end() ? size() : it->second;
}

Directory::~Directory() { client().listings.release(kept_listing_); }

bool Directory::dentries_are_stable() const { return gofer().exclusive(); }

void Directory::give_up_listing() {
  RefOrNull<Listing> gone;
  std::vector<Ref<HostInode>> ahead;
  MutexLock l(mu_);
  gone = std::move(listing_);
  ahead.swap(ahead_);
  changed_.clear();
}

void Directory::name_changed(std::string_view name) {
  RefOrNull<Listing> gone;
  std::vector<Ref<HostInode>> ahead;
  bool release = false;
  {
    MutexLock l(mu_);
    changes_++;
    ahead.swap(ahead_);
    auto it = absent_.find(name);
    if (it != absent_.end()) absent_.erase(it);
    if (listing_) {
      changed_.emplace(name);
      if (changed_.size() > kMaxChanged) {
        gone = std::move(listing_);
        changed_.clear();
        release = true;
      }
    }
    too_large_ = false;
  }
  if (release) client().listings.release(kept_listing_);
  changed_on_host();
}

// ---- Its node ----

Result<Ref<Node>> Directory::node() {
  Place at = TRY(where());
  if (at.own) return at.own.get_ref();
  wire::WalkRequest q;
  q.dir = at.dir->id();
  q.names = {at.name};
  auto r = TRY(client().call(q));
  if (r.found.size() > 1) return client().bad_reply();
  if (r.found.empty()) return kESTALE;
  at.own = TRY(gofer().node_of(r.found[0].node));
  {
    MutexLock l(mu_);
    if (key_of(r.found[0].attr) != key_of(attr_)) return kESTALE;
  }
  found_at(at);
  return at.own.get_ref();
}

// ---- Lookup ----

Result<std::optional<RefOrNull<vfs::Inode>>> Directory::remembered(std::string_view name) {
  using Answer = std::optional<RefOrNull<vfs::Inode>>;
  Place at;
  wire::Attr attr;
  Key key;
  std::string link;
  bool old = false;
  {
    MutexLock l(mu_);
    key = key_of(attr_);
    if (removed_) return Answer(RefOrNull<vfs::Inode>());
    if (!gofer().exclusive()) return Answer();
    if (absent_.contains(name)) return Answer(RefOrNull<vfs::Inode>());
    if (!listing_ || changed_.contains(name)) return Answer();
    auto i = listing_->find(name);
    if (!i) return Answer(RefOrNull<vfs::Inode>());
    const Listing::Entry& e = listing_->at(*i);
    if (!e.has_attr || !places_.front().own) return Answer();
    if (!gofer().read_only()) {
      // Once an inode has been made of it, it may have changed since; so it may by another of its names. The inode knows.
      old = listing_->spent(*i) || (!S_ISDIR(e.attr.mode) && e.attr.nlink > 1);
      listing_->spend(*i);
    }
    attr = e.attr;
    at = Place{places_.front().own, std::string(name), nullptr};
    link = listing_->link(*i);
    if (!S_ISDIR(attr.mode)) gofer().attributes_used();
  }
  if (old) {
    auto live = gofer().find(key_of(attr), attr.mode);
    if (!live) return Answer();
    live->found_at(std::move(at));
    live->listed_in(key);
    return Answer(RefOrNull<vfs::Inode>(live.get_ref()));
  }
  auto inode = TRY(gofer().inode_for(attr, std::move(at)));
  inode->listed_in(key);
  if (!link.empty() && inode->is_symlink()) inode->found_link(std::move(link));
  return Answer(RefOrNull<vfs::Inode>(inode));
}

Result<RefOrNull<vfs::Inode>> Directory::walk(std::string_view name) {
  wire::WalkRequest q;
  Place at = TRY(where());
  uint64_t changes, modifications = gofer().modifications();
  {
    MutexLock l(mu_);
    changes = changes_;
  }
  if (at.own) {
    q.dir = at.own->id();
  } else {  // its own node in the same round trip
    q.dir = at.dir->id();
    q.names.push_back(at.name);
  }
  q.names.emplace_back(name);
  auto r = TRY(client().call(q));
  if (r.found.size() > q.names.size() || r.error < 0 || r.error >= 512) return client().bad_reply();
  std::vector<Ref<Node>> nodes;  // all are ours to forget
  for (auto& f : r.found) nodes.push_back(TRY(gofer().node_of(f.node)));
  size_t next = 0;
  if (!at.own) {
    bool same = false;
    if (!nodes.empty()) {
      MutexLock l(mu_);
      same = key_of(r.found[0].attr) == key_of(attr_) && S_ISDIR(r.found[0].attr.mode);
    }
    if (!same) return kESTALE;
    at.own = nodes[0];
    found_at(at);
    next = 1;
  }
  if (r.found.size() == next) {
    if (r.error == 0) return client().bad_reply();
    if (r.error != ENOENT) return Errno(r.error);
    MutexLock l(mu_);
    if (gofer().exclusive() && changes == changes_) {
      if (absent_.size() >= kMaxAbsent) absent_.clear();
      absent_.emplace(name);
    }
    return RefOrNull<vfs::Inode>();
  }
  auto& f = r.found[next];
  auto known = gofer().find(key_of(f.attr), f.attr.mode);
  uint64_t e = known ? known->epoch() : 0;
  bool newest = modifications == gofer().modifications();
  auto inode = TRY(gofer().inode_for(f.attr, Place{at.own, std::string(name), nodes[next]}));
  if (known && known.get() == inode.get() && newest && !gofer().exclusive()) TRY(inode->learn(f.attr, e));
  if (inode->is_symlink() && !f.link.empty() && f.link.size() <= wire::kMaxTarget && f.link.find('\0') == std::string::npos)
    inode->found_link(std::move(f.link));
  return RefOrNull<vfs::Inode>(inode);
}

// Who searches a directory for name after name (programs along PATH, modules, libraries) is better served by all of it. A listing
// costs about as much as one walk per ten names, and a directory's size tells roughly how many there are.
bool Directory::worth_listing() {
  constexpr unsigned kFewest = 3;
  constexpr uint64_t kBytesPerName = 32, kNamesPerWalk = 10;
  constexpr uint64_t kBlock = 4096;  // that a size of one block is made of names is not said
  MutexLock l(mu_);
  if (!gofer().exclusive() || listing_ || too_large_) return false;
  if (++walks_ < kFewest || (attr_.size > kBlock && walks_ * kNamesPerWalk < attr_.size / kBytesPerName)) return false;
  walks_ = 0;
  return true;
}

// The listing knows the name but not what it is, because nobody seemed to ask.
bool Directory::worth_dressing(std::string_view name) {
  constexpr size_t kSmall = 64;
  constexpr unsigned kFewest = 3;
  MutexLock l(mu_);
  if (!listing_ || !gofer().exclusive() || (listing_->want & wire::kAllAttr) || changed_.contains(name)) return false;
  auto i = listing_->find(name);
  if (!i || listing_->at(*i).has_attr) return false;
  gofer().attributes_used();
  return ++listing_->undressed >= kFewest || listing_->size() <= kSmall;
}

bool Directory::has_no_xattrs(std::string_view name, const Key& key) {
  constexpr size_t kFewest = 3, kNamesPerRequest = 10;
  auto looked = [&]() REQUIRES(mu_) {
    return listing_ && (listing_->want & wire::kXattrs) && listing_->modifications == gofer().modifications() && !changed_.contains(name);
  };
  auto has_none = [&]() REQUIRES(mu_) {
    auto i = listing_->find(name);
    return i && listing_->at(*i).has_attr && key_of(listing_->at(*i).attr) == key && (listing_->at(*i).attr.flags & wire::Attr::kNoXattrs);
  };
  {
    MutexLock l(mu_);
    if (!listing_ || !gofer().exclusive()) return false;
    if (looked()) return has_none();
    if (++xattrs_asked_ < std::max(kFewest, listing_->size() / kNamesPerRequest)) return false;
  }
  if (!read_listing(wire::kWantAll).ok()) return false;
  MutexLock l(mu_);
  return looked() && has_none();
}

Result<RefOrNull<vfs::Inode>> Directory::lookup(std::string_view name) {
  if (auto known = TRY(remembered(name))) return std::move(*known);
  if (worth_listing() || worth_dressing(name)) {
    IGNORE_ERROR(read_listing(wire::kWantAll), "the walk below finds the name all the same");
    if (auto known = TRY(remembered(name))) return std::move(*known);
  }
  for (int tries = 0;; tries++) {
    auto r = walk(name);
    if (r.ok() || !(r.error() == kESTALE || r.error() == kENOENT)) return r;
    Place at = TRY(where());
    if (tries >= kMaxPlaces || !lost(at)) return kENOENT;  // the directory itself is no longer there
  }
}

// ---- Reading ----

bool Directory::well_formed(const std::vector<wire::Dirent>& entries) const {
  for (const auto& e : entries)
    if (!wire::valid_name(e.name) || e.type > 15) return false;
  return true;
}

Result<wire::ReadDirReply> Directory::read_some(uint64_t cookie, uint32_t want) {
  auto r = TRY(with_node([&](const Ref<Node>& n) -> Result<wire::ReadDirReply> {
    wire::ReadDirRequest q;
    q.dir = n->id();
    q.cookie = cookie;
    q.want = want;
    return client().call(q);
  }));
  if (!well_formed(r.entries)) return client().bad_reply();
  if (r.entries.empty() && !r.end) return client().bad_reply();  // would go on for ever
  return r;
}

Listing::Entry Directory::entry_of(wire::Dirent e) const {
  Listing::Entry out;
  out.ino = e.has_attr ? gofer().ino_of(e.attr.dev, e.attr.ino) : e.ino;
  out.type = e.has_attr ? common::directory_type(e.attr.mode) : e.type;
  out.name = std::move(e.name);
  out.has_attr = e.has_attr;
  out.attr = e.attr;
  return out;
}

void Directory::add_to(Listing& fresh, std::vector<wire::Dirent> entries) const {
  for (auto& e : entries) {
    std::string link = std::move(e.link);
    auto entry = entry_of(std::move(e));
    // Of an object that we have in hand the gofer may have told older attributes.
    bool spent = !gofer().read_only() && entry.has_attr && gofer().find(key_of(entry.attr), entry.attr.mode);
    fresh.add(std::move(entry), std::move(link), spent);
  }
}

uint64_t Directory::changes() const {
  MutexLock l(mu_);
  return changes_;
}
bool Directory::is_listed(uint32_t want) const {
  MutexLock l(mu_);
  return listing_ && changed_.empty() && (listing_->want & want) == want;
}

void Directory::take_listing(const Ref<Listing>& fresh, uint64_t changes) {
  Budget::Victims victims;
  RefOrNull<Listing> old;
  {
    MutexLock l(mu_);
    if (changes != changes_ || removed_) return;
    old = std::move(listing_);
    listing_ = fresh;
    changed_.clear();
    absent_.clear();
    listed_below_ = 0;
    xattrs_asked_ = 0;
    opening_ = Order::none;
    opened_in_order_ = 0;
    last_opened_ = fresh->size();
    victims = client().listings.keep(kept_listing_, *this, fresh->size() + 4);
  }
  drop_listings(std::move(victims));
}

Result<RefOrNull<Listing>> Directory::listing() {
  gofer().listing_used();
  const uint32_t want = gofer().wanted();
  if (is_listed(want) && gofer().exclusive()) {
    MutexLock l(mu_);
    if (listing_) return listing_;
  }
  return read_listing(want);
}

Result<RefOrNull<Listing>> Directory::read_listing(uint32_t want) {
  if (!gofer().exclusive()) return RefOrNull<Listing>();
  uint64_t changes;
  Key above;
  std::string name;
  {
    MutexLock l(mu_);
    if (too_large_) return RefOrNull<Listing>();
    changes = changes_;
    above = listed_in_;
    if (!places_.empty()) name = places_.front().name;
  }
  uint64_t modifications = gofer().modifications();
  auto fresh = make_ref<Listing>();
  fresh->want = want;
  fresh->modifications = gofer().modifications();
  wire::ReadDirReply r;
  if (auto parent = above != Key{} ? gofer().find(above, S_IFDIR) : nullptr) {
    auto& dir = static_cast<Directory&>(*parent);
    auto ahead = TRY(dir.read_ahead(*this, changes, name, want, gofer().walking(dir.is_listed())));
    if (ahead.whole) return ahead.whole;
    if (ahead.first) r = std::move(*ahead.first);
  } else {
    gofer().walking(false);
  }
  for (;; r = TRY(read_some(r.cookie, want))) {
    add_to(*fresh, std::move(r.entries));
    if (fresh->size() > Listing::kMax) {
      MutexLock l(mu_);
      too_large_ = true;
      return RefOrNull<Listing>();
    }
    if (r.end) break;
    sched::yield();
  }
  fresh->all_spent = modifications != gofer().modifications();
  take_listing(fresh, changes);
  return RefOrNull<Listing>(fresh);
}

namespace {

class DirectoryFile final : public vfs::File {
 public:
  DirectoryFile(const vfs::Path& where, Ref<Directory> dir, int flags, const Ref<auth::Credentials>& cred)
      : File(vfs::FileKind::directory, where, dir, flags, cred), dir_(*dir) {}

  bool seekable() const override { return true; }
  Result<size_t> read(std::span<std::byte>, int64_t*, vfs::IoFlags) override { return kEISDIR; }
  Result<void> sync(bool data_only) override {
    wire::FsyncRequest q;
    q.data_only = data_only;
    auto r = dir_.ask(q);
    if (!r.ok() && !(r.error() == kESTALE || r.error() == kENOENT)) return r.error();
    return {};  // a removed directory has nothing left to write
  }

  // Positions 0 and 1 are "." and "..", the entry of index i is at i + 2.
  Result<void> read_directory(vfs::DirectorySink& sink, int64_t* pos) override {
    if (*pos == 0 || !taken_) {
      all_ = TRY(dir_.listing());
      start_over();
      taken_ = true;
    }
    if (*pos < 2) {
      if (!path().dentry) *pos = 2;  // opened without a place: nobody wants them
      else if (!common::add_dots(*this, sink, pos)) return {};
    }
    return all_ ? read_all(sink, pos) : read_part(sink, pos);
  }

 private:
  Result<void> read_all(vfs::DirectorySink& sink, int64_t* pos) {
    for (; *pos - 2 < static_cast<int64_t>(all_->size()); ++*pos) {
      const auto& e = all_->at(static_cast<size_t>(*pos - 2));
      if (!sink.add(e.name, e.ino, e.type, *pos + 1)) break;
    }
    return {};
  }

  // As the host gives them, a part at a time. Going back means starting again.
  Result<void> read_part(vfs::DirectorySink& sink, int64_t* pos) {
    if (*pos - 2 < first_) start_over();
    for (;;) {
      while (*pos - 2 - first_ < static_cast<int64_t>(part_.size())) {
        const auto& e = part_[static_cast<size_t>(*pos - 2 - first_)];
        if (!sink.add(e.name, e.ino, e.type, *pos + 1)) return {};
        ++*pos;
      }
      if (end_) return {};
      auto r = TRY(dir_.read_some(cookie_, 0));
      first_ += static_cast<int64_t>(part_.size());
      part_.clear();
      for (auto& e : r.entries) part_.push_back(dir_.entry_of(std::move(e)));
      cookie_ = r.cookie;
      end_ = r.end;
    }
  }
  void start_over() {
    part_.clear();
    first_ = 0;
    cookie_ = 0;
    end_ = false;
  }

  Directory& dir_;  // File::inode() keeps it
  // Under the position lock:
  bool taken_ = false;
  RefOrNull<Listing> all_;
  std::vector<Listing::Entry> part_;
  int64_t first_ = 0;  // index of part_[0]
  uint64_t cookie_ = 0;
  bool end_ = false;
};

}  // namespace

Result<Ref<vfs::File>> Directory::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  Ref<vfs::File> f = make_ref<DirectoryFile>(where, Ref<Directory>(*this), flags, cred);
  return f;
}

}  // namespace sentry::fs::gofer

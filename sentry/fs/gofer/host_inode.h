// SPDX-License-Identifier: Apache-2.0
// File systems and inodes of the gofer, for the room's own files. An inode is an object of the host, found under one or more
// names; requests go to the name that was seen last. On an exclusive attach point nothing changes but by us: names and attributes are
// kept until we change them. On a shared one they are good for an instant only.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "sentry/fs/gofer/client.h"
#include "sentry/vfs/file.h"

namespace sentry::fs::gofer {

class GoferFs;

using Key = std::pair<uint64_t, uint64_t>;  // device and inode number on the host
inline Key key_of(const wire::Attr& a) { return {a.dev, a.ino}; }
struct KeyHash {
  size_t operator()(const Key& k) const { return (k.second ^ (k.first << 32)) * 0x9e3779b97f4a7c15ull; }
};

// Where an object was found.
struct Place {
  RefOrNull<Node> dir;  // null for an attach point
  std::string name;
  RefOrNull<Node> own;  // the node of this name; null if nothing needed one yet
};

class HostInode : public vfs::Inode {
 public:
  HostInode(GoferFs& fs, const wire::Attr& attr, Place place);
  ~HostInode() override;

  Result<vfs::Attributes> attributes() override;
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<void> check_access(const auth::Credentials& cred, int mask) override;
  Result<std::string> read_link() override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  Result<std::string> get_xattr(const std::string& name) override;
  Result<void> set_xattr(const std::string& name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> list_xattr() override;
  Result<void> remove_xattr(const std::string& name) override;

  GoferFs& gofer() const;
  Channel& client() const;

  // ---- What the room's other files say to it ----
  // Sends a request about this object: fills in q.at. Names that no longer lead here are dropped.
  // used: by which place it was asked.
  template <typename Q>
  Result<typename Q::Reply> ask(Q q, ReplyFds* fds = nullptr, Place* used = nullptr) {
    for (int tries = 0;; tries++) {
      Place w = TRY(where());
      q.at = w.own ? wire::At{w.own->id(), {}} : wire::At{w.dir->id(), w.name};
      auto r = client().call(q, fds);
      if (used) *used = w;
      if (r.ok() || !(r.error() == kESTALE || r.error() == kENOENT) || tries >= kMaxPlaces || !lost(w)) return r;
    }
  }
  // The number that attributes must not have changed by, for learn() to believe them.
  uint64_t epoch() const EXCLUDES(mu_);
  // Attributes from a reply to a request sent when epoch() was e. ESTALE: this is another kind of object.
  Result<void> learn(const wire::Attr& attr, uint64_t e) EXCLUDES(mu_);
  // Something of ours has changed the object on the host: ask before the next stat(2).
  void changed_on_host() EXCLUDES(mu_);
  void found_at(Place p) EXCLUDES(mu_);
  // It was found in this directory's listing.
  void listed_in(const Key& parent) EXCLUDES(mu_);
  void found_link(std::string target) EXCLUDES(mu_);
  // A name of it is going: which place it is; whether it is the only one known.
  struct Known {
    std::optional<Place> place;
    bool last = false;
  };
  Known place_in(const Node& dir, std::string_view name) const EXCLUDES(mu_);
  void renamed(const Node& dir, std::string_view name, Place to) EXCLUDES(mu_);
  // kept: the node that it can still be asked by.
  void name_removed(const Node& dir, std::string_view name, RefOrNull<Node> kept) EXCLUDES(mu_);
  Result<Place> find_place() const { return where(); }
  void has_no_name(Ref<Node> own) EXCLUDES(mu_);  // yet
  virtual bool in_use() const { return false; }           // an open file, which outlives its name
  virtual void before_last_name_goes() {}                 // the gofer opens only what has a name
  virtual void give_up_fds() {}
  virtual void give_up_listing() {}

 protected:
  static constexpr int kMaxPlaces = 4;
  Result<Place> where() const EXCLUDES(mu_);
  bool lost(const Place& p) EXCLUDES(mu_);
  // What its file says of itself when the gofer knows it no more.
  virtual Result<wire::Attr> attributes_of_descriptor() { return kESTALE; }
  virtual bool attributes_drift() const REQUIRES(mu_) { return false; }  // they change without our doing
  Result<void> refresh();
  bool current() const REQUIRES(mu_);
  void now_stale() REQUIRES(mu_);

  mutable Mutex mu_{LockRank::kFilePrivate};
  wire::Attr attr_ GUARDED_BY(mu_);
  std::vector<Place> places_ GUARDED_BY(mu_);  // last seen first
  bool removed_ GUARDED_BY(mu_) = false;       // all its names are gone
  uint64_t epoch_ GUARDED_BY(mu_) = 0;
  bool stale_ GUARDED_BY(mu_) = false;
  Key listed_in_ GUARDED_BY(mu_){};

 private:
  Result<std::vector<std::string>> xattr_names();
  RefOrNull<Node> kept_ GUARDED_BY(mu_);
  sched::Nanos fetched_ GUARDED_BY(mu_);
  std::optional<std::string> link_ GUARDED_BY(mu_);
  std::optional<std::vector<std::string>> xattrs_ GUARDED_BY(mu_);  // names; on exclusive attach points
};

class Regular final : public HostInode {
 public:
  using HostInode::HostInode;
  ~Regular() override;
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  bool in_use() const override EXCLUDES(mu_);
  void before_last_name_goes() override;
  void give_up_fds() override EXCLUDES(mu_);

  // ---- For its descriptions and mappings ----
  // Counts those who need descriptors: nothing is given up before the last has gone.
  void opened() EXCLUDES(mu_);
  void closed() EXCLUDES(mu_) { closed(Linger::if_exclusive); }
  void closed_after_create() EXCLUDES(mu_) { closed(Linger::yes); }
  Result<Ref<HostFd>> fd_for_reading();   // whichever there is, else a read-only one
  Result<Ref<HostFd>> fd_for_writing();
  Result<Ref<HostFd>> read_only_fd();     // what a stub may get for mappings that must not be written
  // Descriptors of a file just made, or opened in passing. Checked here.
  Result<void> adopt(const wire::Attr& attr, bool has_read, bool has_write, ReplyFds fds) EXCLUDES(mu_);
  void written_up_to(uint64_t end) EXCLUDES(mu_);
  // One that the gofer has opened because a neighbour was: kept for whoever opens the file next.
  void opened_ahead(const wire::Attr& attr, Fd fd) EXCLUDES(mu_);
  bool has_fd() const EXCLUDES(mu_);
  void has_size(uint64_t size) EXCLUDES(mu_);
  Result<uint64_t> size();
  void mapped_for_writing(int n) EXCLUDES(mu_);  // +1, -1
  // See mm::Mappable. None once we have changed the object in any way, and where others may.
  std::optional<patch::ContentId> content_id() const EXCLUDES(mu_);
  sched::SleepMutex& write_lock() { return write_; }
  // The host takes set-user-ID and set-group-ID from what the sentry, which has no CAP_FSETID there, writes to. A writer without
  // the capability has had them taken before; for any other they stay. The mode to restore after writing, mostly 0 for none.
  // Preconditions of both: the write lock.
  Result<uint32_t> privileges() EXCLUDES(mu_);
  void restore_privileges(uint32_t mode) EXCLUDES(mu_);

 private:
  enum class Need : uint8_t { any, read_only, write };
  enum class Linger : uint8_t { if_exclusive, yes };
  void closed(Linger linger) EXCLUDES(mu_);
  Result<Ref<HostFd>> fd(Need need);
  // Together with files that will be opened next, as it seems. Null: nobody goes through the directory, ask for this one alone.
  std::optional<wire::OpenReply> open_with_next(ReplyFds* fds, Place* at);
  RefOrNull<HostFd> find_locked(Need need) const REQUIRES(mu_);
  Result<void> resize(uint64_t size);
  Result<wire::Attr> attributes_of_descriptor() override;
  bool attributes_drift() const override REQUIRES(mu_) { return writable_maps_ > 0; }

  sched::SleepMutex write_;  // writes, and whatever else changes size or position
  RefOrNull<HostFd> ro_ GUARDED_BY(mu_), rw_ GUARDED_BY(mu_);
  int users_ GUARDED_BY(mu_) = 0;
  int writable_maps_ GUARDED_BY(mu_) = 0;
  bool was_mapped_for_writing_ GUARDED_BY(mu_) = false;
  Budget::Entry idle_;
};

// The names of a directory as they were read at once. Complete before others see it. Held by: the directory, descriptions.
class Listing : public RefCounted<Listing> {
 public:
  static constexpr size_t kMax = 8192;
  struct Entry {
    std::string name;
    uint64_t ino = 0;
    uint8_t type = 0;  // DT_*
    bool has_attr = false;
    wire::Attr attr;
  };
  // spent: an inode of it exists already, which knows better.
  void add(Entry e, std::string link, bool spent);
  size_t size() const { return entries_.size(); }
  const Entry& at(size_t i) const { return entries_[i]; }
  std::optional<size_t> find(std::string_view name) const;
  std::string_view link(size_t i) const;  // the target of a symbolic link; empty: not known
  // The entry that follows in the order of names; size() after the last.
  size_t next_by_name(size_t i) const;
  std::vector<uint8_t> read_ahead;  // guarded by the directory: with what (wire::kWantAll) whose own listing has been asked for
  // Guarded by the directory: whose attributes are not to be used, as they may have changed since.
  bool spent(size_t i) const { return all_spent || spent_[i]; }
  void spend(size_t i) { spent_[i] = true; }
  bool all_spent = false;
  uint32_t want = 0;  // what it was read with
  uint64_t modifications = 0;  // GoferFs::modifications() before it was read
  unsigned undressed = 0;  // guarded by the directory: lookups of names that came without attributes

 private:
  friend class RefCounted<Listing>;
  ~Listing() = default;
  std::deque<Entry> entries_;  // stay where they are
  std::vector<bool> spent_;
  std::map<size_t, std::string> links_;
  std::map<std::string_view, size_t> by_name_;  // not hashed: the names are the image's
};

class Directory final : public HostInode {
 public:
  using HostInode::HostInode;
  // Takes a listing that somebody has read for it when changes() was `changes`.
  void take_listing(const Ref<Listing>& fresh, uint64_t changes) EXCLUDES(mu_);
  uint64_t changes() const EXCLUDES(mu_);
  bool is_listed(uint32_t want = 0) const EXCLUDES(mu_);
  ~Directory() override;
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override;
  Result<Ref<vfs::Inode>> create(std::string_view name, const vfs::CreateRequest& r) override;
  Result<Ref<vfs::Inode>> mkdir(std::string_view name, const vfs::CreateRequest& r) override;
  Result<Ref<vfs::Inode>> symlink(std::string_view name, std::string_view target, const vfs::CreateRequest& r) override;
  Result<void> link(std::string_view name, vfs::Inode& existing) override;
  Result<void> unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> rename(std::string_view name, vfs::Inode& moved, vfs::Inode& new_dir, std::string_view new_name,
                      vfs::Inode* replaced, unsigned flags) override;
  Result<Ref<vfs::Inode>> create_unnamed(const vfs::CreateRequest& r) override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  bool dentries_are_stable() const override;
  void give_up_listing() override EXCLUDES(mu_);

  // All names as they are now, if they are few enough and nobody else changes them; else null.
  Result<RefOrNull<Listing>> listing();
  // Entries from `cookie` on, checked, with what is wanted of wire::kWantAll.
  Result<wire::ReadDirReply> read_some(uint64_t cookie, uint32_t want);
  // A name of it has been asked about extended attributes: whether it is known to have none, after no change anywhere. Asks about all
  // names at once if it pays.
  bool has_no_xattrs(std::string_view name, const Key& key) EXCLUDES(mu_);
  Listing::Entry entry_of(wire::Dirent e) const;
  // Opens a file of this directory and some of those that follow it. See Regular::open_with_next().
  std::optional<wire::OpenReply> open_ahead(const std::string& name, ReplyFds* fds, Place* at);

 private:
  // Its own node. Parks when it has none yet.
  Result<Ref<Node>> node();
  // f(node), again with another if that one leads here no more.
  template <typename F>
  auto with_node(F&& f) -> decltype(f(std::declval<const Ref<Node>&>())) {
    for (int tries = 0;; tries++) {
      auto r = f(TRY(node()));
      if (r.ok() || !(r.error() == kESTALE)) return r;
      if (tries >= kMaxPlaces || !lost(TRY(where()))) return kENOENT;  // a removed directory
    }
  }
  Result<Known> leaving(const Ref<Node>& dir, std::string_view name, HostInode& inode, bool* keep);
  Result<RefOrNull<vfs::Inode>> walk(std::string_view name);
  bool worth_listing() EXCLUDES(mu_);
  Result<RefOrNull<Listing>> read_listing(uint32_t want);
  bool worth_dressing(std::string_view name) EXCLUDES(mu_);
  void add_to(Listing& fresh, std::vector<wire::Dirent> entries) const;
  bool well_formed(const std::vector<wire::Dirent>& entries) const;
  // The beginning of the listing of `child`, whose name in here this is and which had changed so many times, together with those of others
  // that a walk of the tree will ask for next. Nothing: it has to be asked for by itself.
  struct Begun {
    std::optional<wire::ReadDirReply> first;
    RefOrNull<Listing> whole;  // when that is all
  };
  Result<Begun> read_ahead(Directory& child, uint64_t changes, std::string_view name, uint32_t want, unsigned walking);
  std::vector<std::string> next_to_list(std::string_view name, uint32_t want, unsigned walking) EXCLUDES(mu_);
  std::vector<std::string> next_to_open(const std::string& name) EXCLUDES(mu_);
  bool is_entry(std::string_view name, const Key& key) EXCLUDES(mu_);
  bool is_listed_as(std::string_view name, const Key& key, uint32_t want) EXCLUDES(mu_);
  void asked_for(std::string_view name, uint32_t want) EXCLUDES(mu_);
  Key key_of_self() const EXCLUDES(mu_);
  // What is known of a name without asking: nothing (nullopt), that it is not there (null), or its inode.
  Result<std::optional<RefOrNull<vfs::Inode>>> remembered(std::string_view name);
  void name_changed(std::string_view name) EXCLUDES(mu_);
  Result<Ref<vfs::Inode>> made(const Ref<Node>& dir, std::string_view name, const wire::NodeReply& r);
  Result<void> remove(std::string_view name, HostInode& victim, bool directory);

  static constexpr size_t kMaxAbsent = 256;
  static constexpr size_t kMaxChanged = 1024;
  uint64_t changes_ GUARDED_BY(mu_) = 0;
  unsigned walks_ GUARDED_BY(mu_) = 0;
  RefOrNull<Listing> listing_ GUARDED_BY(mu_);
  std::set<std::string, std::less<>> changed_ GUARDED_BY(mu_);  // names about which listing_ is not to be believed
  std::set<std::string, std::less<>> absent_ GUARDED_BY(mu_);   // names that were not there
  bool too_large_ GUARDED_BY(mu_) = false;                      // for a listing
  size_t xattrs_asked_ GUARDED_BY(mu_) = 0;                     // since the listing, of its names
  Budget::Entry kept_listing_;
  // Who opens its files one after the other: in which order, how many times so far, and which was the last that is open.
  enum class Order : uint8_t { none, listed, by_name } opening_ GUARDED_BY(mu_) = Order::none;
  unsigned opened_in_order_ GUARDED_BY(mu_) = 0;
  size_t last_opened_ GUARDED_BY(mu_) = 0;
  std::vector<Ref<HostInode>> ahead_ GUARDED_BY(mu_);  // opened ahead the last time
  unsigned listed_below_ GUARDED_BY(mu_) = 0;  // directories of listing_ that have been listed one by one
};

class GoferFs final : public vfs::FileSystem {
 public:
  GoferFs(Ref<Channel> client, const AttachOptions& options, bool read_only);
  ~GoferFs() override;
  Result<void> start(const wire::AttachReply& r);
  Ref<vfs::Inode> root() override { return Ref<vfs::Inode>(root_.get_ref()); }
  vfs::FsStat statfs() override;
  const char* type_name() const override { return type_name_; }

  const Ref<Channel>& client() const { return client_; }
  bool exclusive() const { return exclusive_.load(std::memory_order_relaxed); }
  void share() { exclusive_.store(false, std::memory_order_relaxed); }
  bool read_only() const { return read_only_; }
  bool slow() const { return slow_; }  // files of a server, which may keep us waiting

  // The inode of an object that was found at p; made if it is new. EIO: no such object can be.
  Result<Ref<HostInode>> inode_for(const wire::Attr& attr, Place p) EXCLUDES(mu_);
  // The same, if it is known.
  RefOrNull<HostInode> find(const Key& key, uint32_t mode) EXCLUDES(mu_);
  void forget(const HostInode& inode, const Key& key) EXCLUDES(mu_);
  void rekeyed(HostInode& inode, const Key& from, const Key& to) EXCLUDES(mu_);
  // The inode number that applications see: unique although the tree may span devices of the host.
  uint64_t ino_of(uint64_t dev, uint64_t ino) EXCLUDES(mu_);
  vfs::Attributes shown(const wire::Attr& a) EXCLUDES(mu_);
  Result<Ref<Node>> node_of(wire::NodeId id);  // from a reply
  // Counts our own changes to objects: what was read before one may be older than it.
  void modified() { modifications_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t modifications() const { return modifications_.load(std::memory_order_relaxed); }

  // ---- What the applications do with listings, and so what the next ones are read with ----
  void listing_used() { listings_.fetch_add(1, std::memory_order_relaxed); }
  void attributes_used() { attributes_used_.store(listings_.load(std::memory_order_relaxed), std::memory_order_relaxed); }
  void xattrs_used() { xattrs_used_.store(listings_.load(std::memory_order_relaxed), std::memory_order_relaxed); }
  uint32_t wanted() const;
  // A directory has been asked for; below_listed: it was found in the listing of another. How many of those there were in a row: whether
  // somebody walks a tree.
  unsigned walking(bool below_listed) {
    if (!below_listed) walk_.store(0, std::memory_order_relaxed);
    return below_listed ? walk_.fetch_add(1, std::memory_order_relaxed) + 1 : 0;
  }

 private:
  const Ref<Channel> client_;
  std::atomic<bool> exclusive_;  // never becomes true
  const bool read_only_;
  bool slow_ = false;
  const char* type_name_ = "gofer";
  std::atomic<uint64_t> modifications_{0};
  static constexpr uint32_t kSoon = 4;  // listings
  std::atomic<uint32_t> listings_{kSoon}, attributes_used_{kSoon}, xattrs_used_{0};
  std::atomic<unsigned> walk_{0};
  uint64_t root_dev_ = 0;
  wire::StatFsReply last_stat_ GUARDED_BY(mu_);
  Mutex mu_{LockRank::kFilePages};  // inside inodes' own
  std::unordered_map<Key, HostInode*, KeyHash> live_ GUARDED_BY(mu_);
  std::vector<uint64_t> devices_ GUARDED_BY(mu_);  // other than the root's
  RefOrNull<HostInode> root_;  // goes first: it uses all above
};

// Tell those whom a budget has thrown out.
void drop_fds(Budget::Victims v);
void drop_listings(Budget::Victims v);

Ref<vfs::File> make_regular_file(const vfs::Path& where, Ref<Regular> inode, int flags, const Ref<auth::Credentials>& cred);

}  // namespace sentry::fs::gofer

// SPDX-License-Identifier: Apache-2.0
// What all inodes have: places, attributes, extended attributes.
#include "sentry/fs/gofer/host_inode.h"

#include <algorithm>

#include "sentry/vfs/special.h"

namespace sentry::fs::gofer {

namespace {

// Attributes of a shared attach point are believed for so long: a walk's answer serves the permission check and the stat(2)
// that follow it.
constexpr sched::Nanos kFresh = 1'000'000;

using S = vfs::SetAttributes;
static_assert(S::kMode == wire::kSetMode && S::kUid == wire::kSetUid && S::kGid == wire::kSetGid && S::kSize == wire::kSetSize &&
              S::kAtime == wire::kSetAtime && S::kMtime == wire::kSetMtime && S::kAtimeNow == wire::kSetAtimeNow &&
              S::kMtimeNow == wire::kSetMtimeNow);

int64_t nanos_of(const timespec& t) {
  constexpr int64_t kMaxSeconds = INT64_MAX / 1'000'000'000 - 1;  // the year 2262
  return std::clamp<int64_t>(t.tv_sec, -kMaxSeconds, kMaxSeconds) * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

HostInode::HostInode(GoferFs& fs, const wire::Attr& attr, Place place)
    : Inode(fs, attr.mode), attr_(attr), fetched_(sched::now()) {
  places_.push_back(std::move(place));
  if (gofer().exclusive() && (attr.flags & wire::Attr::kNoXattrs)) xattrs_.emplace();
}

HostInode::~HostInode() { gofer().forget(*this, key_of(attr_)); }

GoferFs& HostInode::gofer() const { return static_cast<GoferFs&>(fs()); }
Channel& HostInode::client() const { return *gofer().client(); }

// ---- Places ----

Result<Place> HostInode::where() const {
  MutexLock l(mu_);
  if (!places_.empty()) return places_.front();
  if (kept_) return Place{nullptr, {}, kept_};
  return kESTALE;
}

bool HostInode::lost(const Place& p) {
  MutexLock l(mu_);
  if (places_.size() < 2) return false;
  std::erase_if(places_, [&](const Place& q) { return q.own.get() == p.own.get() && q.dir.get() == p.dir.get() && q.name == p.name; });
  return !places_.empty();
}

void HostInode::listed_in(const Key& parent) {
  MutexLock l(mu_);
  listed_in_ = parent;
}

void HostInode::found_at(Place p) {
  MutexLock l(mu_);
  auto it = std::find_if(places_.begin(), places_.end(),
                         [&](const Place& q) { return q.dir.get() == p.dir.get() && q.name == p.name; });
  if (it != places_.end()) {
    if (!it->own) it->own = std::move(p.own);
    std::rotate(places_.begin(), it, it + 1);
    return;
  }
  if (!places_.empty() && !places_.back().dir) return;  // an attach point is where it is
  if (is_directory()) places_.clear();
  places_.insert(places_.begin(), std::move(p));
  if (places_.size() > kMaxPlaces) places_.pop_back();
  removed_ = false;
  kept_ = nullptr;
}

HostInode::Known HostInode::place_in(const Node& dir, std::string_view name) const {
  MutexLock l(mu_);
  for (const Place& p : places_)
    if (p.dir.get() == &dir && p.name == name) return {p, places_.size() == 1};
  return {std::nullopt, places_.empty()};
}

void HostInode::renamed(const Node& dir, std::string_view name, Place to) {
  MutexLock l(mu_);
  std::erase_if(places_, [&](const Place& p) { return p.dir.get() == &dir && p.name == name; });
  if (is_directory()) places_.clear();
  places_.insert(places_.begin(), std::move(to));
  now_stale();
}

void HostInode::name_removed(const Node& dir, std::string_view name, RefOrNull<Node> kept) {
  bool last;
  Key key;
  {
    MutexLock l(mu_);
    std::erase_if(places_, [&](const Place& p) { return p.dir.get() == &dir && p.name == name; });
    now_stale();
    attr_.nlink = is_directory() || attr_.nlink == 0 ? 0 : attr_.nlink - 1;
    last = attr_.nlink == 0;
    key = key_of(attr_);
    if (places_.empty()) {
      removed_ = true;
      kept_ = std::move(kept);
    }
  }
  if (last) gofer().forget(*this, key);  // its number may be another file's soon
}

void HostInode::has_no_name(Ref<Node> own) {
  MutexLock l(mu_);
  places_.clear();
  kept_ = std::move(own);
  removed_ = true;
}

// ---- Attributes ----

bool HostInode::current() const {
  if (stale_) return false;
  if (gofer().exclusive()) return !attributes_drift();
  return sched::now() - fetched_ < kFresh;
}

// What we did to the object makes older answers of the gofer wrong.
void HostInode::now_stale() {
  stale_ = true;
  epoch_++;
  gofer().modified();
}

uint64_t HostInode::epoch() const {
  MutexLock l(mu_);
  return epoch_;
}

Result<void> HostInode::learn(const wire::Attr& attr, uint64_t e) {
  if ((attr.mode & S_IFMT) != type()) return kESTALE;
  Key from, to = key_of(attr);
  {
    MutexLock l(mu_);
    from = key_of(attr_);
    if (epoch_ == e) {
      attr_ = attr;
      fetched_ = sched::now();
      stale_ = false;
    } else {
      to = from;
      stale_ = true;  // something else happened meanwhile: this may be older
    }
    epoch_++;
  }
  if (from != to) gofer().rekeyed(*this, from, to);
  return {};
}

void HostInode::changed_on_host() {
  MutexLock l(mu_);
  now_stale();
}

Result<void> HostInode::refresh() {
  uint64_t e = epoch();
  auto r = ask(wire::GetAttrRequest{});
  if (r.ok()) return learn(r->attr, e);
  if (!(r.error() == kESTALE || r.error() == kENOENT)) return r.error();
  auto own = attributes_of_descriptor();
  if (own.ok()) return learn(*own, e);
  // Nobody can say any more: what it was when its last name went.
  MutexLock l(mu_);
  attr_.nlink = 0;
  stale_ = false;
  fetched_ = sched::now();
  return {};
}

Result<vfs::Attributes> HostInode::attributes() {
  wire::Attr a;
  bool known;
  {
    MutexLock l(mu_);
    known = current();
    a = attr_;
  }
  if (!known) {
    TRY(refresh());
    MutexLock l(mu_);
    a = attr_;
  }
  return gofer().shown(a);
}

Result<void> HostInode::check_access(const auth::Credentials& cred, int mask) {
  uint32_t mode, uid, gid;
  bool known;
  auto read = [&] {
    MutexLock l(mu_);
    // Nothing but our chmod and chown changes these on an exclusive attach point, and they tell at once.
    known = gofer().exclusive() || current();
    mode = attr_.mode;
    uid = attr_.uid;
    gid = attr_.gid;
  };
  read();
  if (!known) {
    TRY(refresh());
    read();
  }
  return vfs::check_mode(cred, mask, mode, uid, gid);
}

Result<void> HostInode::set_attributes(const S& s) {
  if (gofer().read_only()) return kEROFS;
  wire::SetAttrRequest q;
  q.mask = s.mask & wire::kSetAll;
  q.mode = s.mode & 07777;
  q.uid = s.uid;
  q.gid = s.gid;
  q.size = s.size;
  q.atime = nanos_of(s.atime);
  q.mtime = nanos_of(s.mtime);
  uint64_t e = epoch();
  auto r = ask(q);
  if (!r.ok()) {
    changed_on_host();  // perhaps a part of it was done
    return r.error();
  }
  gofer().modified();
  return learn(r->attr, e);
}

// ---- Symbolic links, special files ----

void HostInode::found_link(std::string target) {
  MutexLock l(mu_);
  if (!link_) link_ = std::move(target);
}

Result<std::string> HostInode::read_link() {
  if (!is_symlink()) return kEINVAL;
  {
    MutexLock l(mu_);
    if (link_) return *link_;  // an object's target never changes
  }
  auto r = TRY(ask(wire::ReadLinkRequest{}));
  if (r.target.empty() || r.target.size() > wire::kMaxTarget || r.target.find('\0') != std::string::npos) return kEIO;
  found_link(r.target);
  return std::move(r.target);
}

Result<Ref<vfs::File>> HostInode::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  if (is_symlink()) return kELOOP;
  return vfs::open_special(where, *this, flags, cred);
}

// ---- Extended attributes ----

Result<std::vector<std::string>> HostInode::xattr_names() {
  std::vector<std::string> names;
  if (!is_regular() && !is_directory()) return names;
  uint64_t e;
  Key self, above;
  std::string name;
  gofer().xattrs_used();
  {
    MutexLock l(mu_);
    if (xattrs_ && gofer().exclusive()) return *xattrs_;
    if ((attr_.flags & wire::Attr::kNoXattrs) && current()) return names;
    e = epoch_;
    self = key_of(attr_);
    above = listed_in_;
    if (!places_.empty()) name = places_.front().name;
  }
  if (auto parent = gofer().exclusive() && above != Key{} ? gofer().find(above, S_IFDIR) : nullptr) {
    if (static_cast<Directory&>(*parent).has_no_xattrs(name, self)) {
      MutexLock l(mu_);
      if (epoch_ == e) xattrs_ = names;
      return names;
    }
  }
  auto r = ask(wire::ListXattrRequest{});
  if (!r.ok() && !(r.error() == kEOPNOTSUPP)) return r.error();
  if (r.ok()) {
    std::string_view all = r->value;
    while (!all.empty()) {
      size_t n = std::min(all.find('\0'), all.size());
      if (wire::shared_xattr(all.substr(0, n))) names.emplace_back(all.substr(0, n));
      all.remove_prefix(std::min(n + 1, all.size()));
    }
  }
  MutexLock l(mu_);
  if (gofer().exclusive() && epoch_ == e) xattrs_ = names;
  return names;
}

Result<std::vector<std::string>> HostInode::list_xattr() { return xattr_names(); }

Result<std::string> HostInode::get_xattr(const std::string& name) {
  if (!wire::shared_xattr(name)) return name.starts_with("security.") || name.starts_with("trusted.") ? kENODATA : kEOPNOTSUPP;
  if (!is_regular() && !is_directory()) return kENODATA;
  bool none;
  {
    MutexLock l(mu_);
    none = (attr_.flags & wire::Attr::kNoXattrs) && current();
  }
  if (gofer().exclusive() || none) {
    auto names = TRY(xattr_names());
    if (std::find(names.begin(), names.end(), name) == names.end()) return kENODATA;
  }
  wire::GetXattrRequest q;
  q.name = name;
  return TRY(ask(std::move(q))).value;
}

Result<void> HostInode::set_xattr(const std::string& name, std::string_view value, int flags) {
  if (gofer().read_only()) return kEROFS;
  if (!wire::shared_xattr(name)) return name.starts_with("security.") || name.starts_with("trusted.") ? kEPERM : kEOPNOTSUPP;
  // What keeps access lists sets the mode instead when there can be none.
  if (!is_regular() && !is_directory()) return name.starts_with("system.") ? kEOPNOTSUPP : kEPERM;
  if (value.size() > wire::kMaxXattrValue) return kENOSPC;
  wire::SetXattrRequest q;
  q.name = name;
  q.value = value;
  q.flags = static_cast<uint32_t>(flags);
  auto r = ask(std::move(q));
  MutexLock l(mu_);
  xattrs_.reset();
  now_stale();
  if (!r.ok()) return r.error();
  return {};
}

Result<void> HostInode::remove_xattr(const std::string& name) {
  if (gofer().read_only()) return kEROFS;
  if (!wire::shared_xattr(name)) return kENODATA;
  wire::RemoveXattrRequest q;
  q.name = name;
  auto r = ask(std::move(q));
  MutexLock l(mu_);
  xattrs_.reset();
  now_stale();
  if (!r.ok()) return r.error();
  return {};
}

void drop_fds(Budget::Victims v) {
  for (auto& i : v) static_cast<HostInode&>(*i).give_up_fds();
}
void drop_listings(Budget::Victims v) {
  for (auto& i : v) static_cast<HostInode&>(*i).give_up_listing();
}

}  // namespace sentry::fs::gofer

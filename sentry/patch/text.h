// SPDX-License-Identifier: Apache-2.0
// Program text with patched system calls: for one file's contents, copies of the pages that have been patched and the
// trampolines they jump to, in a memfd that every process of the same trust which maps the file can map.
//
// All positions are offsets in the file ("coordinates"): a process adds where it has mapped offset 0. Trampolines lie beyond the
// image in the same coordinates, so that pages and trampolines are the same for all processes. A page that a process may have
// is never changed: a site learned later goes into a new copy, which a process gets when it traps there.
#pragma once

#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "sentry/base.h"
#include "sentry/patch/code.h"

namespace sentry::patch {

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kRoom = 24 << 20;      // kept free behind an image for trampolines
// Traps in a file before all its sure sites are patched (which costs about as much), and of another site before it is tried.
inline constexpr uint32_t kEnoughTraps = 200, kEnoughOfOne = 64;
inline constexpr uint64_t kMaxAllCopies = 64 << 20;  // bytes of copied pages of all texts
inline constexpr uint64_t kMaxText = 256 << 20;  // longer text is left alone

// What a mapping shows of its file, and where the image that it is part of ends; multiples of kPage.
struct Extent {
  uint64_t lo = 0, hi = 0, end = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};

// A range to map: at `at`, from the memfd's offset.
struct Piece {
  uint64_t at = 0, length = 0;
  int64_t offset = 0;
  uint64_t end() const { return at + length; }
  friend bool operator==(const Piece&, const Piece&) = default;
};

// The site that a trampoline belongs to, and the number its mov loads; none for a pun.
struct Origin {
  uint64_t site = 0;
  std::optional<uint32_t> number;
};

struct Counts {
  uint64_t mov = 0, pun = 0, unfit = 0, pages = 0;
};

// Held by: the store, and the address spaces that have it installed.
class Text : public RefCounted<Text> {
 public:
  // slot: the offset from GS of the pointer that trampolines jump through. ENOMEM, EMFILE; EINVAL: not for this extent.
  static Result<Ref<Text>> create(const Extent& extent, uint32_t slot);

  enum class Verdict : uint8_t {
    count,    // not often enough yet
    unfit,    // will always trap
    patched,  // there is a copy with this site patched
  };
  // A thread has trapped at `site` with that number in rax. file: a descriptor of the file's contents, for reading. Parks.
  Verdict trapped(uint64_t site, uint64_t number, int file);

  // What to map for all that is known, or the page that has the site. Nothing: nothing is patched.
  std::vector<Piece> pages() const;
  std::optional<Piece> page_of(uint64_t site) const;
  std::vector<Piece> rooms() const;
  std::optional<Origin> origin(uint64_t at) const;

  const Extent& extent() const { return extent_; }
  int fd() const { return fd_.get(); }
  uint64_t key() const { return key_; }  // of the memfd, as mm::MapFd::key
  Counts counts() const;

 private:
  friend class RefCounted<Text>;
  struct Window {  // of trampolines
    Piece piece;
    std::map<uint64_t, uint64_t> taken;  // start -> end
    uint64_t first_for_mov = 0;
  };
  struct Trampoline {
    uint64_t site;
    Form form;
    uint32_t number;
  };
  struct Site {  // what the file has there
    uint64_t at;
    Form form;  // pun: the mov form was no choice
    uint32_t number;
    std::array<std::byte, kAround> bytes;
  };
  struct Other {  // a site that is not sure
    uint32_t traps = 0;
    bool unfit = false;
  };
  Text(const Extent& extent, uint32_t slot, Fd fd, std::byte* base, uint64_t size, std::array<Window, 2> windows);
  ~Text();

  std::vector<Site> find_sure_sites(int file) const;
  std::optional<Site> look_at(int file, uint64_t at, uint64_t number) const;
  void build(int file, const std::vector<Site>& sites);
  bool patch_locked(const Site& s, std::byte* page, uint64_t page_at) REQUIRES(mu_);
  std::optional<uint64_t> find_place_locked(Window& w, uint64_t lowest, uint64_t highest, size_t n) REQUIRES(mu_);
  uint64_t page_to_patch(const Site& s) const;

  const Extent extent_;
  const uint32_t slot_;
  const Fd fd_;
  std::byte* const base_;   // all of the memfd; written only where nobody can get yet
  const uint64_t size_;
  const uint64_t key_;

  mutable Mutex mu_{LockRank::kMmActive};
  bool built_ GUARDED_BY(mu_) = false, building_ GUARDED_BY(mu_) = false;
  uint32_t traps_ GUARDED_BY(mu_) = 0;
  std::unordered_map<uint64_t, Other> others_ GUARDED_BY(mu_);
  std::unordered_map<uint64_t, uint64_t> patched_ GUARDED_BY(mu_);  // site -> page that was changed for it
  std::map<uint64_t, uint64_t> pages_ GUARDED_BY(mu_);              // page -> offset of its newest copy
  std::map<uint64_t, Trampoline> trampolines_ GUARDED_BY(mu_);      // by address
  std::array<Window, 2> windows_ GUARDED_BY(mu_);
  const uint64_t first_copy_;
  uint64_t next_copy_ GUARDED_BY(mu_);
  Counts counts_ GUARDED_BY(mu_);
};

}  // namespace sentry::patch

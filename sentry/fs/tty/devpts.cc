// SPDX-License-Identifier: Apache-2.0
// devpts: ptmx and one node for every terminal there is. Linux: fs/devpts/inode.c; man 4 pts.
#include "sentry/fs/tty/devpts.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sentry/fs/common/attributes.h"

namespace sentry::fs::tty {
namespace {

constexpr uint64_t kPtmx = 5 << 8 | 2;
constexpr unsigned kSlaveMajor = 136;
constexpr int kMaxPtys = 4096;
constexpr uint64_t kDevptsMagic = 0x1cd1;

class SlaveInode final : public common::SyntheticInode {
 public:
  SlaveInode(vfs::FileSystem& fs, int number, Ref<Terminal> terminal, uint32_t mode, uint32_t uid, uint32_t gid)
      : SyntheticInode(fs, static_cast<uint64_t>(number) + 3, S_IFCHR | mode, uid, gid, terminal->device()),
        terminal_(std::move(terminal)) {}
  Result<void> set_attributes(const vfs::SetAttributes& s) override {
    attributes_.set(s);
    return {};
  }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    if (terminal_->port().locked()) return kEIO;
    auto f = TRY(TerminalFile::open(terminal_, where, Ref<vfs::Inode>(*this), flags, cred));
    terminal_->maybe_adopt(flags);
    return f;
  }

 private:
  const Ref<Terminal> terminal_;
};

class PtmxInode final : public common::SyntheticInode {
 public:
  PtmxInode(vfs::FileSystem& fs, uint32_t mode) : SyntheticInode(fs, 2, S_IFCHR | mode, 0, 0, kPtmx) {}
  Result<void> set_attributes(const vfs::SetAttributes& s) override {
    attributes_.set(s);
    return {};
  }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    return open_ptmx(fs(), where, Ref<vfs::Inode>(*this), flags, cred);
  }
};

}  // namespace

Devpts::Devpts(const DevptsOptions& o) : options_(o), root_(make_ref<common::StaticDirectory>(*this, 1, 0755)) {
  root_->add("ptmx", make_ref<PtmxInode>(*this, o.ptmx_mode));
}
vfs::FsStat Devpts::statfs() { return {.type = kDevptsMagic}; }
std::string Devpts::options() const {
  return base::format("gid={},mode={:o},ptmxmode={:03o}", options_.gid, options_.mode, options_.ptmx_mode);
}

Result<int> Devpts::reserve() {
  int n = numbers_.with([](std::map<int, bool>& used) {
    int i = 0;
    while (used.contains(i)) i++;
    if (i < kMaxPtys) used[i] = true;
    return i;
  });
  if (n >= kMaxPtys) return kENOSPC;
  return n;
}

Ref<Terminal> Devpts::add(int number, Ref<Port> port, const auth::Credentials& owner) {
  auto terminal = make_ref<Terminal>(std::move(port), makedev(kSlaveMajor, static_cast<unsigned>(number)));
  uint32_t gid = options_.gid ? options_.gid : owner.fsgid;
  root_->add(std::to_string(number), make_ref<SlaveInode>(*this, number, terminal, options_.mode, owner.fsuid, gid));
  return terminal;
}

void Devpts::remove(int number) {
  root_->remove(std::to_string(number));
  numbers_.with([&](std::map<int, bool>& used) { used.erase(number); });
}

Result<Ref<vfs::FileSystem>> create_devpts(const DevptsOptions& options) {
  Ref<vfs::FileSystem> fs = make_ref<Devpts>(options);
  return fs;
}

}  // namespace sentry::fs::tty

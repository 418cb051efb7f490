// SPDX-License-Identifier: Apache-2.0
#include "tests/platform/attack.h"

#include <sys/stat.h>

#include <fstream>

#include "sentry/platform/impl.h"

namespace platform_test {

std::optional<int64_t> through(Guest& g, uint64_t ip, uint64_t nr, std::array<uint64_t, 6> a) {
  uint64_t block[8] = {ip, nr, a[0], a[1], a[2], a[3], a[4], a[5]};
  if (!g->copy_out_now(kData, block, sizeof block).ok()) return {};
  g.call(App::gadget, {kData});
  EventKind e = g->resume();
  if (e != EventKind::syscall || g->call().number != kDone) return {};
  return static_cast<int64_t>(g->call().args[0]);
}

std::pair<std::unique_ptr<Guest>, std::unique_ptr<Task>> scrambler(Guest& g, uint64_t at, uint64_t n) {
  auto s = std::make_unique<Guest>(g.thread());
  s->call(App::scramble, {at, n, 12345, kData + 0x9000}, kStack + 0x20000);
  auto t = std::make_unique<Task>([s = s.get()] {
    (*s)->set_fiber(sched::current());
    while ((*s)->resume() != EventKind::gone) (*s)->set_result(0);
  });
  return {std::move(s), std::move(t)};
}

uint64_t slot_of(Context& c) { return platform::stub::slot_address(c.impl().index); }

std::vector<Mapped> mapped(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/maps");
  std::vector<Mapped> out;
  std::string line;
  while (std::getline(in, line)) {
    unsigned long from = 0, to = 0, inode = 0;
    char perms[8] = {};
    if (sscanf(line.c_str(), "%lx-%lx %7s %*s %*s %lu", &from, &to, perms, &inode) == 4) out.push_back({from, to, inode, perms});
  }
  return out;
}

uint64_t inode_of(int fd) {
  struct stat st;
  CHECK(fstat(fd, &st) == 0);
  return st.st_ino;
}

std::set<uint64_t> control_inodes(int pid) {
  std::set<uint64_t> r;
  for (auto& m : mapped(pid))
    if (m.from >= kStubZone && m.from < kStubZoneEnd) r.insert(m.inode);
  return r;
}

}  // namespace platform_test

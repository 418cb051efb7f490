// SPDX-License-Identifier: Apache-2.0
// Contents: heap and host file, holes, limits, seals, mappings; options of mount(2).
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "base/sys.h"
#include "sentry/fs/common/regular_data.h"
#include "sentry/fs/tmpfs/test_tree.h"

namespace sentry::fs::tmpfs {
namespace {

constexpr uint64_t kHeap = common::RegularData::kHeapMax;

std::string pattern(size_t n, unsigned seed) {
  std::string s(n, '\0');
  for (auto& c : s) c = static_cast<char>('a' + (seed = seed * 1103515245 + 12345) / 65536 % 26);
  return s;
}

Result<size_t> write_at(vfs::File& f, std::string_view text, int64_t pos) {
  return f.write({reinterpret_cast<const std::byte*>(text.data()), text.size()}, &pos, {});
}
std::string read_at(vfs::File& f, size_t n, int64_t pos) {
  std::string out(n, '?');
  auto r = f.read({reinterpret_cast<std::byte*>(out.data()), n}, &pos, {});
  CHECK(r.ok());
  out.resize(*r);
  return out;
}

// The same random operations on the file and on a string.
TEST(Data, AgreesWithAModel) {
  on_fiber([] {
    Tree t;
    auto f = t.open("/f", O_CREAT | O_RDWR);
    ASSERT_TRUE(f.ok());
    std::string model;
    unsigned rnd = 7;
    auto next = [&](unsigned n) { return (rnd = rnd * 1664525 + 1013904223) / 1024 % n; };
    for (int step = 0; step < 800; step++) {
      unsigned reach = step < 400 ? 60000 : 300000;  // first in the heap, then in a host file
      switch (next(5)) {
        case 0:
        case 1: {
          size_t at = next(reach), n = 1 + next(9000);
          if (step < 400) n = std::min<size_t>(n, kHeap - at);
          std::string s = pattern(n, rnd);
          ASSERT_EQ(write_at(**f, s, static_cast<int64_t>(at)).value(), n);
          if (model.size() < at + n) model.resize(at + n);
          model.replace(at, n, s);
          break;
        }
        case 2: {
          size_t to = next(reach);
          ASSERT_TRUE((*f)->truncate(to).ok());
          model.resize(to);
          break;
        }
        case 3: {
          size_t at = next(reach), n = 1 + next(20000);
          ASSERT_TRUE((*f)->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<int64_t>(at), static_cast<int64_t>(n)).ok());
          for (size_t i = at; i < std::min(model.size(), at + n); i++) model[i] = '\0';
          break;
        }
        default: {
          size_t at = next(reach), n = 1 + next(30000);
          ASSERT_EQ(read_at(**f, n, static_cast<int64_t>(at)), at < model.size() ? model.substr(at, n) : "") << step;
        }
      }
      ASSERT_EQ(t.stat("/f").size, model.size());
    }
    EXPECT_EQ(read_at(**f, 1 << 20, 0), model);
  });
}

TEST(Data, LimitCutsWritesAndIsGivenBack) {
  on_fiber([] {
    Tree t(test_options(100 * 4096));
    auto f = t.open("/f", O_CREAT | O_RDWR);
    ASSERT_TRUE(f.ok());
    std::string big(60 * 4096, 'x');
    EXPECT_EQ(write_at(**f, big, 0).value(), big.size());
    EXPECT_EQ(write_at(**f, big, static_cast<int64_t>(big.size())).value(), 40u * 4096) << "what fits";
    EXPECT_EQ(error_of(write_at(**f, big, 100 * 4096)), ENOSPC);
    EXPECT_EQ(write_at(**f, big, 0).value(), big.size()) << "overwriting needs no room";
    auto g = t.open("/g", O_CREAT | O_RDWR);
    EXPECT_EQ(error_of(write_at(**g, "y", 0)), ENOSPC);
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 0u);
    ASSERT_TRUE((*f)->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10 * 4096).ok());
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 10u);
    EXPECT_EQ(write_at(**g, "y", 0).value(), 1u);
    ASSERT_TRUE((*f)->truncate(1).ok());
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 99u);
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/g").ok());
    g = kEBADF;
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 100u) << "contents go with the last description";
    EXPECT_EQ(error_of((*f)->allocate(0, 0, 101 * 4096)), ENOSPC);
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 100u);
  });
}

TEST(Data, SparseFilesAndSeek) {
  on_fiber([] {
    Tree t(test_options(64 * 4096));
    auto f = t.open("/f", O_CREAT | O_RDWR);
    ASSERT_TRUE((*f)->truncate(10ull << 30).ok()) << "a hole costs nothing";
    EXPECT_EQ(t.stat("/f").blocks, 0u);
    EXPECT_EQ(error_of((*f)->seek(0, SEEK_DATA)), ENXIO);
    EXPECT_EQ((*f)->seek(5, SEEK_HOLE).value(), 5);
    EXPECT_TRUE(write_at(**f, "data", (1 << 30) + 100).ok());
    EXPECT_EQ((*f)->seek(0, SEEK_DATA).value(), 1 << 30);
    EXPECT_EQ((*f)->seek(1 << 30, SEEK_HOLE).value(), (1 << 30) + 4096);
    EXPECT_EQ((*f)->seek((1 << 30) + 7, SEEK_DATA).value(), (1 << 30) + 7);
    EXPECT_EQ(read_at(**f, 4, (1 << 30) + 100), "data");
    EXPECT_EQ(read_at(**f, 4, (1 << 30) + 104), std::string(4, '\0'));
    EXPECT_EQ(t.stat("/f").blocks, 8u);
    // Mapped, it would be charged at full size.
    auto m = (*f)->mappable();
    ASSERT_TRUE(m.ok());
    EXPECT_EQ(error_of((*m)->map_fd(false)), ENOMEM);
    ASSERT_TRUE((*f)->truncate(8 * 4096).ok());
    ASSERT_TRUE((*m)->map_fd(false).ok());
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 56u);
    EXPECT_EQ(error_of((*f)->truncate(65 * 4096)), ENOSPC) << "growing a mapped file is charged as well";
    ASSERT_TRUE((*f)->truncate(9 * 4096).ok());
    EXPECT_EQ(t.at("/").mount->fs()->statfs().bfree, 55u);
  });
}

TEST(Data, MappingsSeeWritesAndKeepToTheirAccess) {
  on_fiber([] {
    Tree t;
    t.put("/f", "in the heap");
    auto rw = t.open("/f", O_RDWR);
    auto ro = t.open("/f", O_RDONLY);
    auto m = (*rw)->mappable();
    auto m_ro = (*ro)->mappable();
    EXPECT_EQ(error_of((*m_ro)->map_fd(true)), EACCES);
    auto fd_ro = (*m)->map_fd(false);
    auto fd_rw = (*m)->map_fd(true);
    ASSERT_TRUE(fd_ro.ok() && fd_rw.ok());
    EXPECT_NE(fd_ro->key, fd_rw->key);
    EXPECT_EQ(fcntl(fd_ro->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    auto* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd_rw->fd, 0));
    ASSERT_NE(p, MAP_FAILED);
    EXPECT_EQ(std::string(p), "in the heap");
    memcpy(p, "OUT", 3);
    EXPECT_EQ(t.get("/f"), "OUTthe heap");
    EXPECT_TRUE(write_at(**rw, "NEW", 0).ok());
    EXPECT_EQ(memcmp(p, "NEW", 3), 0);
    munmap(p, 4096);
    EXPECT_EQ((*m)->path(), "/f");
    EXPECT_EQ((*m)->inode_number(), t.stat("/f").ino);
  });
}

TEST(Data, AppendGoesToTheEnd) {
  on_fiber([] {
    Tree t;
    t.put("/f", "start");
    auto f = t.open("/f", O_WRONLY | O_APPEND);
    (*f)->position = 0;
    EXPECT_TRUE(Tree::write(**f, "+end").ok());
    EXPECT_EQ((*f)->position, 9);
    EXPECT_EQ(t.get("/f"), "start+end");
  });
}

TEST(Memfd, Seals) {
  on_fiber([] {
    Tree t;
    auto f = create_memfd("name", true, 0777, common::memfd_backing(), t.root);
    ASSERT_TRUE(f.ok());
    EXPECT_EQ(vfs::path_text(*t.ns, (*f)->path(), t.ns->root()), "/memfd:name (deleted)");
    vfs::Inode& inode = (*f)->inode();
    EXPECT_EQ(inode.seals().value(), 0);
    EXPECT_TRUE(Tree::write(**f, "12345678").ok());
    ASSERT_TRUE(inode.add_seals(F_SEAL_GROW | F_SEAL_SHRINK).ok());
    EXPECT_EQ(error_of((*f)->truncate(4)), EPERM);
    EXPECT_EQ(error_of((*f)->truncate(40)), EPERM);
    EXPECT_EQ(error_of(write_at(**f, "x", 8)), EPERM);
    EXPECT_EQ(error_of(write_at(**f, "x", 7)), 0);
    {
      auto m = (*f)->mappable();
      ASSERT_TRUE((*m)->map_fd(true).ok());
      EXPECT_EQ(error_of(inode.add_seals(F_SEAL_WRITE)), EBUSY);
    }
    ASSERT_TRUE(inode.add_seals(F_SEAL_WRITE | F_SEAL_SEAL).ok());
    EXPECT_EQ(error_of(write_at(**f, "x", 0)), EPERM);
    auto sealed = (*f)->mappable();
    EXPECT_EQ(error_of((*sealed)->map_fd(true)), EPERM);
    EXPECT_EQ(error_of(inode.add_seals(F_SEAL_GROW)), EPERM);
    auto plain = create_memfd("p", false, 0777, common::memfd_backing(), t.root);
    EXPECT_EQ((*plain)->inode().seals().value(), F_SEAL_SEAL);
    t.put("/file", "");
    EXPECT_EQ(t.at("/file").inode()->seals().value(), F_SEAL_SEAL);
  });
}

TEST(Xattrs, SetGetListRemove) {
  on_fiber([] {
    Tree t;
    t.put("/f", "");
    auto i = t.at("/f").inode();
    EXPECT_EQ(error_of(i->get_xattr("user.a")), ENODATA);
    EXPECT_EQ(error_of(i->set_xattr("user.a", "1", XATTR_REPLACE)), ENODATA);
    EXPECT_EQ(error_of(i->set_xattr("user.a", "1", XATTR_CREATE)), 0);
    EXPECT_EQ(error_of(i->set_xattr("user.a", "2", XATTR_CREATE)), EEXIST);
    EXPECT_EQ(error_of(i->set_xattr("system.posix_acl_access", "", 0)), EOPNOTSUPP);
    EXPECT_EQ(i->get_xattr("user.a").value(), "1");
    EXPECT_EQ(i->list_xattr().value().size(), 1u);
    EXPECT_EQ(error_of(i->remove_xattr("user.a")), 0);
    for (int n = 0; n < 2; n++) EXPECT_TRUE(i->set_xattr("user.b" + std::to_string(n), std::string(60000, 'v'), 0).ok());
    EXPECT_EQ(error_of(i->set_xattr("user.b2", std::string(60000, 'v'), 0)), ENOSPC);
  });
}

TEST(Inodes, AreLimited) {
  on_fiber([] {
    Options o = test_options();
    o.inodes = 4;
    Tree t(o);
    for (const char* n : {"/a", "/b", "/c"}) t.put(n, "");
    EXPECT_EQ(error_of(t.open("/d", O_CREAT | O_WRONLY)), ENOSPC);
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/a").ok());
    EXPECT_EQ(error_of(t.open("/d", O_CREAT | O_WRONLY)), 0);
  });
}

TEST(Options, Parse) {
  Options d = test_options();
  Options o = parse_options("size=64k,nr_inodes=1k,mode=755,uid=3,gid=4", d, 1 << 30).value();
  EXPECT_EQ(o.size, 65536u);
  EXPECT_EQ(o.inodes, 1024u);
  EXPECT_EQ(o.mode, 0755u);
  EXPECT_EQ(o.uid, 3u);
  EXPECT_EQ(o.gid, 4u);
  EXPECT_EQ(parse_options("size=50%", d, 1 << 30)->size, (1u << 30) / 100 * 50 / 4096 * 4096 + 4096);
  EXPECT_EQ(parse_options("size=1", d, 0)->size, 4096u);
  EXPECT_EQ(parse_options("", d, 0)->mode, 0777u);
  for (const char* bad : {"size=", "size=x", "mode=9", "what=1", "uid=-1", "size=99999999999999t"})
    EXPECT_EQ(error_of(parse_options(bad, d, 1 << 30)), EINVAL) << bad;
  on_fiber([] {
    Options p = test_options(65536);
    p.mode = 0755;
    EXPECT_EQ(create(p)->options(), "size=64k,mode=755");
  });
}

}  // namespace
}  // namespace sentry::fs::tmpfs

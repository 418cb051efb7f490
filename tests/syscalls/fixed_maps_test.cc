// SPDX-License-Identifier: Apache-2.0
// Shared mappings at places that the program chose: rings mapped twice side by side, heaps with several views, and private
// mappings of files high up. Passes on Linux first.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace {

constexpr size_t kPage = 4096;
constexpr int kRw = PROT_READ | PROT_WRITE;

struct File {
  int fd;
  explicit File(size_t size, const char* name = "ring") : fd(memfd_create(name, MFD_CLOEXEC)) {
    EXPECT_GE(fd, 0);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size)), 0);
  }
  explicit File(int f) : fd(f) {}
  ~File() { close(fd); }
};

char* map(void* at, size_t n, int prot, int flags, int fd, off_t offset = 0) {
  return static_cast<char*>(mmap(at, n, prot, flags, fd, offset));
}

// Exit status of f in a child; 1000 + signal if one ended it.
template <typename F>
int in_child(F f) {
  pid_t pid = fork();
  if (pid == 0) _exit(f());
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

// "rw-s" of the mapping that holds p; without /proc what is to be expected.
std::string rights_of(const void* p, const char* expected = "rw-s") {
  std::ifstream in("/proc/self/maps");
  if (!in) return expected;
  for (std::string line; std::getline(in, line);) {
    unsigned long from = 0, to = 0;
    char rights[8] = {};
    if (sscanf(line.c_str(), "%lx-%lx %7s", &from, &to, rights) == 3 && reinterpret_cast<unsigned long>(p) >= from &&
        reinterpret_cast<unsigned long>(p) < to)
      return rights;
  }
  return "";
}

// A place where private memory is: low in the sandbox as well.
char* reserve(size_t n) {
  char* p = map(nullptr, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  EXPECT_NE(p, MAP_FAILED);
  return p;
}

// One file of n bytes twice, side by side, over a private reservation.
char* make_ring(int fd, size_t n) {
  char* p = reserve(2 * n);
  EXPECT_EQ(map(p, n, kRw, MAP_SHARED | MAP_FIXED, fd), p) << strerror(errno);
  EXPECT_EQ(map(p + n, n, kRw, MAP_SHARED | MAP_FIXED, fd), p + n) << strerror(errno);
  return p;
}

TEST(FixedMaps, ARingIsOneFileTwice) {
  const size_t n = 16 * kPage;
  File f(n);
  char* ring = make_ring(f.fd, n);
  strcpy(ring + n - 6, "across the seam");
  EXPECT_STREQ(ring + n - 6, "across the seam");
  EXPECT_STREQ(ring, " the seam") << "the second half is the first";
  EXPECT_EQ(memcmp(ring + n, ring, n), 0);
  ring[n + 100] = 'x';
  EXPECT_EQ(ring[100], 'x');
  char c = 0;
  EXPECT_EQ(pread(f.fd, &c, 1, 100), 1);
  EXPECT_EQ(c, 'x');
  EXPECT_EQ(pwrite(f.fd, "y", 1, 101), 1);
  EXPECT_EQ(ring[n + 101], 'y');
  EXPECT_EQ(rights_of(ring), "rw-s");
  EXPECT_EQ(rights_of(ring + n), "rw-s");
  // What lies around is as it was.
  EXPECT_EQ(munmap(ring, n), 0);
  EXPECT_EQ(ring[n + 100], 'x');
  EXPECT_EQ(in_child([&] { return ring[100]; }), 1000 + SIGSEGV);
  EXPECT_EQ(munmap(ring + n, n), 0);
}

TEST(FixedMaps, ARingIsSharedAcrossForkBothWays) {
  const size_t n = 4 * kPage;
  File f(n);
  char* ring = make_ring(f.fd, n);
  ring[1] = 'p';
  EXPECT_EQ(in_child([&] {
    if (ring[n + 1] != 'p') return 1;
    ring[n + 2] = 'c';
    // And the child maps it once more, at a place of its own.
    char* again = make_ring(f.fd, n);
    if (again[2] != 'c') return 2;
    again[n + 3] = 'd';
    return again == ring ? 3 : 0;
  }), 0);
  EXPECT_EQ(ring[2], 'c');
  EXPECT_EQ(ring[3], 'd');
  pid_t pid = fork();
  if (pid == 0) {
    while (__atomic_load_n(&ring[n + 10], __ATOMIC_ACQUIRE) == 0) usleep(100);
    __atomic_store_n(&ring[11], 1, __ATOMIC_RELEASE);
    _exit(0);
  }
  __atomic_store_n(&ring[10], 1, __ATOMIC_RELEASE);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ring[n + 11], 1);
  EXPECT_EQ(munmap(ring, 2 * n), 0);
}

TEST(FixedMaps, ThreeViewsOfOneHeap) {
  const size_t n = 64 * kPage;
  File f(n, "heap");
  char* views[3];
  for (unsigned i = 0; i < 3; i++) {
    auto* at = reinterpret_cast<char*>((4ul + 4 * i) << 40);
    ASSERT_EQ(map(at, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1), at);
    views[i] = map(at, n, kRw, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, f.fd);
    ASSERT_EQ(views[i], at) << strerror(errno);
  }
  for (size_t i = 0; i < n; i += kPage) views[i / kPage % 3][i] = static_cast<char>(i / kPage + 1);
  for (size_t i = 0; i < n; i += kPage)
    for (char* v : views) ASSERT_EQ(v[i], static_cast<char>(i / kPage + 1));
  // A page of one view goes back to the reservation, and comes again.
  EXPECT_EQ(map(views[1], kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1), views[1]);
  EXPECT_EQ(in_child([&] { return views[1][0]; }), 1000 + SIGSEGV);
  EXPECT_EQ(map(views[1], kPage, kRw, MAP_SHARED | MAP_FIXED, f.fd), views[1]);
  EXPECT_EQ(views[1][0], 1);
  for (char* v : views) EXPECT_EQ(munmap(v, n), 0);
}

TEST(FixedMaps, RightsAreChangedAndKept) {
  const size_t n = 2 * kPage;
  File f(n);
  char* ring = make_ring(f.fd, n);
  EXPECT_EQ(mprotect(ring, n, PROT_READ), 0);
  EXPECT_EQ(in_child([&] { ring[0] = 1; return 0; }), 1000 + SIGSEGV);
  ring[n] = 7;
  EXPECT_EQ(ring[0], 7);
  EXPECT_EQ(mprotect(ring, 2 * n, kRw), 0);
  ring[0] = 8;
  EXPECT_EQ(ring[n], 8);
  EXPECT_EQ(munmap(ring, 2 * n), 0);

  // A descriptor that cannot be written gives no mapping that can, now or later.
  char name[] = "/tmp/fixed_maps.XXXXXX";
  int rw = mkstemp(name);
  ASSERT_GE(rw, 0);
  ASSERT_EQ(write(rw, "old", 3), 3);
  File file(rw), ro(open(name, O_RDONLY));
  char* at = reserve(kPage);
  EXPECT_EQ(map(at, kPage, kRw, MAP_SHARED | MAP_FIXED, ro.fd), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  ASSERT_EQ(map(at, kPage, PROT_READ, MAP_SHARED | MAP_FIXED, ro.fd), at) << strerror(errno);
  EXPECT_EQ(memcmp(at, "old", 3), 0);
  EXPECT_EQ(mprotect(at, kPage, kRw), -1);
  EXPECT_EQ(errno, EACCES);
  ASSERT_EQ(pwrite(rw, "new", 3, 0), 3);
  EXPECT_EQ(memcmp(at, "new", 3), 0);
  ASSERT_EQ(map(at, kPage, PROT_READ, MAP_SHARED | MAP_FIXED, rw), at);
  EXPECT_EQ(mprotect(at, kPage, kRw), 0);
  at[0] = 'N';
  char c = 0;
  EXPECT_EQ(pread(ro.fd, &c, 1, 0), 1);
  EXPECT_EQ(c, 'N');
  EXPECT_EQ(munmap(at, kPage), 0);
  unlink(name);
}

TEST(FixedMaps, SharedMappingsMoveAndMultiply) {
  const size_t n = 2 * kPage;
  File f(n);
  char* ring = make_ring(f.fd, n);
  strcpy(ring, "moves");
  char* to = reserve(n);
  ASSERT_EQ(mremap(ring, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, to), to) << strerror(errno);
  EXPECT_STREQ(to, "moves");
  EXPECT_STREQ(ring + n, "moves");
  char* second = reserve(n);
  ASSERT_EQ(mremap(to, 0, n, MREMAP_MAYMOVE | MREMAP_FIXED, second), second) << strerror(errno);
  second[0] = 'M';
  EXPECT_STREQ(to, "Moves");
  EXPECT_EQ(munmap(second, n), 0);
  EXPECT_EQ(munmap(to, n), 0);
  EXPECT_EQ(munmap(ring + n, n), 0);
}

TEST(FixedMaps, AnonymousSharedMemoryAnywhere) {
  char* at = reserve(4 * kPage);
  ASSERT_EQ(map(at + kPage, 2 * kPage, kRw, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1), at + kPage) << strerror(errno);
  EXPECT_EQ(in_child([&] { at[kPage + 5] = 'z'; return 0; }), 0);
  EXPECT_EQ(at[kPage + 5], 'z');
  EXPECT_EQ(map(at + kPage, kPage, kRw, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1), MAP_FAILED);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(munmap(at, 4 * kPage), 0);
  // Without MAP_FIXED the place is a wish, and granted where it is free.
  char* wish = map(at, kPage, kRw, MAP_SHARED | MAP_ANONYMOUS, -1);
  EXPECT_EQ(wish, at);
  EXPECT_EQ(in_child([&] { wish[0] = 3; return 0; }), 0);
  EXPECT_EQ(wish[0], 3);
  EXPECT_EQ(munmap(wish, kPage), 0);
}

// Where the stack and the libraries of some programs are, and some map files themselves.
TEST(FixedMaps, PrivateMappingsOfFilesHighUp) {
  File f(8 * kPage);
  ASSERT_EQ(pwrite(f.fd, "file", 4, 0), 4);
  auto* at = reinterpret_cast<char*>(0x7f0012340000);
  while (map(at, 8 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1) != at) at += 1 << 20;
  ASSERT_EQ(map(at, 8 * kPage, kRw, MAP_PRIVATE | MAP_FIXED, f.fd), at) << strerror(errno);
  EXPECT_EQ(memcmp(at, "file", 4), 0);
  memcpy(at, "mine", 4);
  char buf[4];
  EXPECT_EQ(pread(f.fd, buf, 4, 0), 4);
  EXPECT_EQ(memcmp(buf, "file", 4), 0);
  EXPECT_EQ(mprotect(at, kPage, PROT_READ), 0);
  EXPECT_EQ(in_child([&] { at[0] = 1; return 0; }), 1000 + SIGSEGV);
  EXPECT_EQ(mprotect(at, kPage, kRw), 0);
  at[0] = 'M';
  EXPECT_EQ(in_child([&] { return at[0]; }), 'M');
  EXPECT_EQ(munmap(at, 8 * kPage), 0);
}

// A mapping may begin in one of the sandbox's zones and end in the other.
TEST(FixedMaps, AcrossAnyBoundary) {
  const size_t n = 64 * kPage;
  File f(n);
  auto* at = reinterpret_cast<char*>(0x7f0000000000) - n / 2;
  for (int kind : {MAP_SHARED, MAP_PRIVATE}) {
    char* p = map(at, n, kRw, kind | MAP_FIXED_NOREPLACE, f.fd);
    if (p == MAP_FAILED && errno == EEXIST) GTEST_SKIP() << "something lies there";
    ASSERT_EQ(p, at) << strerror(errno);
    memset(p, kind, n);
    EXPECT_EQ(mprotect(p, n, PROT_READ), 0);
    EXPECT_EQ(in_child([&] { p[n / 2] = 1; return 0; }), 1000 + SIGSEGV);
    EXPECT_EQ(mprotect(p, n, kRw), 0);
    p[n / 2] = static_cast<char>(kind + 8);
    char c = 0;
    EXPECT_EQ(pread(f.fd, &c, 1, static_cast<off_t>(n / 2)), 1);
    EXPECT_EQ(c, MAP_SHARED + 8) << "the private one wrote a copy";
    EXPECT_EQ(in_child([&] { return p[n / 2]; }), kind + 8);
    EXPECT_EQ(munmap(p, n), 0);
  }
}

}  // namespace

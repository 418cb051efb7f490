// SPDX-License-Identifier: Apache-2.0
// mseal(2), mlock(2) and its family, mincore(2): what holds memory where it is, and whether it is there. Passes on Linux first.
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/checks.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

namespace {

constexpr size_t kPage = 4096;
constexpr int kRw = PROT_READ | PROT_WRITE;

long mseal(void* p, size_t n, unsigned long flags = 0) { return syscall(462, p, n, flags); }

char* map(size_t pages, int prot = kRw, int flags = MAP_PRIVATE | MAP_ANONYMOUS) {
  void* p = mmap(nullptr, pages * kPage, prot, flags, -1, 0);
  EXPECT_NE(p, MAP_FAILED) << strerror(errno);
  return static_cast<char*>(p);
}

std::string there(char* p, size_t pages) {
  std::vector<unsigned char> v(pages);
  EXPECT_EQ(mincore(p, pages * kPage, v.data()), 0) << strerror(errno);
  std::string out;
  for (unsigned char c : v) out += c & 1 ? '1' : '0';
  return out;
}

// Linux has it since 6.10. What is sealed stays until the process ends, so every test has memory of its own.
class Seal : public testing::Test {
 protected:
  void SetUp() override {
    if (mseal(nullptr, 0) == -1 && errno == ENOSYS) GTEST_SKIP() << "Linux 6.10 and later";
  }
};

TEST_F(Seal, Arguments) {
  char* p = map(4);
  EXPECT_ERRNO(mseal(p, kPage, 1), EINVAL);
  EXPECT_ERRNO(mseal(p, kPage, 1ul << 63), EINVAL);
  EXPECT_ERRNO(mseal(p + 1, kPage), EINVAL);
  EXPECT_ERRNO(mseal(p, ~0ul), EINVAL);
  EXPECT_ERRNO(mseal(p, ~0ul - 2 * kPage), EINVAL);
  EXPECT_EQ(mseal(p, 0), 0);
  ASSERT_EQ(munmap(p + kPage, kPage), 0);
  EXPECT_ERRNO(mseal(p, 4 * kPage), ENOMEM);
  EXPECT_ERRNO(mseal(p + kPage, kPage), ENOMEM);
  EXPECT_ERRNO(mseal(reinterpret_cast<void*>(1ul << 62), kPage), ENOMEM);
  EXPECT_EQ(munmap(p, 4 * kPage), 0) << "what failed has sealed nothing";
}

TEST_F(Seal, TheLengthIsRoundedUp) {
  char* p = map(3);
  ASSERT_EQ(mseal(p, 1), 0);
  ASSERT_EQ(mseal(p, 1), 0) << "again";
  EXPECT_ERRNO(munmap(p, kPage), EPERM);
  EXPECT_EQ(munmap(p + kPage, 2 * kPage), 0);
}

TEST_F(Seal, NoUnmapping) {
  char* p = map(5);
  memset(p, 7, 5 * kPage);
  ASSERT_EQ(mseal(p + 2 * kPage, kPage), 0);
  EXPECT_ERRNO(munmap(p, 5 * kPage), EPERM);
  EXPECT_ERRNO(munmap(p + kPage, 2 * kPage), EPERM);
  EXPECT_ERRNO(munmap(p + 2 * kPage, 2 * kPage), EPERM);
  for (size_t i = 0; i < 5; i++) EXPECT_EQ(p[i * kPage], 7) << "nothing of it is gone";
  EXPECT_EQ(munmap(p, 2 * kPage), 0);
  EXPECT_EQ(munmap(p + 3 * kPage, 2 * kPage), 0);
}

TEST_F(Seal, NoOtherMappingInItsPlace) {
  char* p = map(3);
  p[kPage] = 5;
  ASSERT_EQ(mseal(p + kPage, kPage), 0);
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
  EXPECT_ERRNO(mmap(p, 3 * kPage, kRw, kFlags | MAP_FIXED, -1, 0), EPERM);  // all of it
  EXPECT_ERRNO(mmap(p + kPage, kPage, PROT_NONE, kFlags | MAP_FIXED, -1, 0), EPERM);
  EXPECT_ERRNO(mmap(p + kPage, kPage, kRw, kFlags | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
  void* q = mmap(p + kPage, kPage, kRw, kFlags, -1, 0);  // a hint only
  EXPECT_NE(q, MAP_FAILED);
  EXPECT_NE(q, p + kPage);
  EXPECT_EQ(p[kPage], 5);
  EXPECT_EQ(mmap(p, kPage, kRw, kFlags | MAP_FIXED, -1, 0), p) << "beside it";
}

TEST_F(Seal, NoOtherProtection) {
  char* p = map(4, PROT_READ);
  ASSERT_EQ(mseal(p + 2 * kPage, kPage), 0);
  EXPECT_ERRNO(mprotect(p + 2 * kPage, kPage, kRw), EPERM);
  EXPECT_ERRNO(mprotect(p + 2 * kPage, kPage, PROT_READ), EPERM);  // the same it has
  EXPECT_ERRNO(mprotect(p + kPage, 3 * kPage, kRw), EPERM);
  p[kPage] = 1;  // what lies below it has changed
  EXPECT_EQ(mprotect(p + 3 * kPage, kPage, kRw), 0);
  p[3 * kPage] = 1;
}

TEST_F(Seal, NoMovingNorResizing) {
  char* p = map(4);
  char* other = map(8);
  ASSERT_EQ(mseal(p, 2 * kPage), 0);
  EXPECT_ERRNO(mremap(p, 2 * kPage, kPage, 0), EPERM);
  EXPECT_ERRNO(mremap(p, 2 * kPage, 8 * kPage, MREMAP_MAYMOVE), EPERM);
  EXPECT_ERRNO(mremap(p, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, other), EPERM);
  EXPECT_ERRNO(mremap(p, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr), EPERM);
  EXPECT_ERRNO(mremap(other, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, p), EPERM);  // onto it
  EXPECT_EQ(mremap(p + 2 * kPage, 2 * kPage, kPage, 0), p + 2 * kPage) << "beside it";
}

// Only what may be written may be thrown away.
TEST_F(Seal, ContentsOfReadOnlyMemoryStay) {
  char* p = map(3);
  memset(p, 9, 3 * kPage);
  ASSERT_EQ(mprotect(p, kPage, PROT_READ), 0);
  ASSERT_EQ(mseal(p, 3 * kPage), 0);
  for (int advice : {MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_WIPEONFORK, MADV_DONTNEED_LOCKED})
    EXPECT_ERRNO(madvise(p, kPage, advice), EPERM);
  for (int advice : {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTDUMP, MADV_DODUMP, MADV_DOFORK})
    EXPECT_EQ(madvise(p, kPage, advice), 0) << advice;
  EXPECT_EQ(p[0], 9);
  EXPECT_EQ(madvise(p + kPage, kPage, MADV_DONTNEED), 0);
  EXPECT_EQ(p[kPage], 0);
  EXPECT_EQ(p[2 * kPage], 9);
}

TEST_F(Seal, SharedMemory) {
  char* p = map(2, PROT_READ, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(mseal(p, 2 * kPage), 0);
  EXPECT_EQ(madvise(p, kPage, MADV_DONTNEED), 0) << "what is shared stays with its file";
  EXPECT_ERRNO(munmap(p, kPage), EPERM);
  EXPECT_ERRNO(mprotect(p, kPage, kRw), EPERM);
}

// Locking is no change.
TEST_F(Seal, MayBeLocked) {
  char* p = map(2);
  ASSERT_EQ(mseal(p, 2 * kPage), 0);
  EXPECT_EQ(mlock(p, kPage), 0);
  EXPECT_EQ(munlock(p, kPage), 0);
  EXPECT_EQ(msync(p, kPage, MS_SYNC), 0);
}

TEST_F(Seal, ChildrenHaveItTooAndProgramsNot) {
  char* p = map(2);
  ASSERT_EQ(mseal(p, 2 * kPage), 0);
  EXPECT_EQ(in_child([&] {
    EXPECT_ERRNO(munmap(p, 2 * kPage), EPERM);
    p[0] = 3;
  }), 0);
  EXPECT_EQ(p[0], 0);
}

TEST_F(Seal, TheHeapDoesNotShrink) {
  EXPECT_EQ(in_child([] {
    char* end = static_cast<char*>(sbrk(0));
    char* start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(end) + kPage - 1) & ~(kPage - 1));
    ASSERT_EQ(brk(start + 4 * kPage), 0);
    ASSERT_EQ(mseal(start + 2 * kPage, kPage), 0) << strerror(errno);
    EXPECT_EQ(syscall(SYS_brk, start + 3 * kPage), reinterpret_cast<long>(start + 3 * kPage)) << "above it";
    EXPECT_EQ(syscall(SYS_brk, start + kPage), reinterpret_cast<long>(start + 3 * kPage));
    start[2 * kPage] = 1;
    EXPECT_EQ(syscall(SYS_brk, start + 6 * kPage), reinterpret_cast<long>(start + 6 * kPage));
  }), 0);
}

// Threads that seal, unmap and protect the same pages: each is either sealed with its contents, or gone.
TEST_F(Seal, AgainstOtherThreads) {
  for (int round = 0; round < 200; round++) {
    char* p = map(2);
    p[0] = 1;
    std::atomic<int> ready{0};
    long sealed = 1, gone = 1;
    std::thread a([&] {
      for (ready++; ready < 2;) continue;
      sealed = mseal(p, 2 * kPage) == 0 ? 0 : errno;
    });
    std::thread b([&] {
      for (ready++; ready < 2;) continue;
      gone = munmap(p, 2 * kPage) == 0 ? 0 : errno;
    });
    a.join();
    b.join();
    if (sealed == 0) {
      ASSERT_EQ(gone, EPERM);
      ASSERT_EQ(p[0], 1);
    } else {
      ASSERT_EQ(sealed, ENOMEM);
      ASSERT_EQ(gone, 0);
    }
  }
}

// ---- mincore ----

TEST(Mincore, PagesOfItsOwn) {
  char* p = map(4);
  EXPECT_EQ(there(p, 4), "0000");
  p[kPage] = 1;
  EXPECT_EQ(there(p, 4), "0100");
  EXPECT_EQ(static_cast<volatile char*>(p)[3 * kPage], 0);  // the page of zeros
  EXPECT_EQ(there(p, 4), "0101");
  EXPECT_EQ(madvise(p, 4 * kPage, MADV_DONTNEED), 0);
  EXPECT_EQ(there(p, 4), "0000");
  ASSERT_EQ(mprotect(p, 4 * kPage, PROT_NONE), 0);
  EXPECT_EQ(there(p, 4), "0000");
}

TEST(Mincore, WhatHasJustBeenChanged) {
  char* p = map(4);
  memset(p, 1, 4 * kPage);
  ASSERT_EQ(munmap(p + kPage, kPage), 0);
  unsigned char v[4] = {};
  EXPECT_ERRNO(mincore(p, 4 * kPage, v), ENOMEM);
  ASSERT_EQ(mmap(p + kPage, kPage, kRw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), p + kPage);
  EXPECT_EQ(there(p, 4), "1011");
}

TEST(Mincore, Arguments) {
  char* p = map(2);
  unsigned char v[2];
  EXPECT_ERRNO(mincore(p + 1, kPage, v), EINVAL);
  EXPECT_EQ(mincore(p, 0, v), 0);
  EXPECT_EQ(mincore(p, 0, nullptr), 0);
  p[0] = 1;
  EXPECT_ERRNO(mincore(p, kPage, nullptr), EFAULT);
  EXPECT_ERRNO(mincore(p, ~0ul & ~(kPage - 1), v), ENOMEM);
}

// ---- mlock and its family ----

TEST(Mlock, FillsThePages) {
  char* p = map(4);
  ASSERT_EQ(mlock(p + kPage, 2 * kPage), 0);
  EXPECT_EQ(there(p, 4), "0110");
  EXPECT_EQ(p[kPage], 0);
  ASSERT_EQ(munlock(p, 4 * kPage), 0);
  EXPECT_EQ(there(p, 4), "0110");
}

// From the page that the address lies in to the one that the last byte lies in.
TEST(Mlock, RoundsBothWays) {
  char* p = map(4);
  ASSERT_EQ(mlock(p + 2 * kPage - 1, 2), 0);
  EXPECT_EQ(there(p, 4), "0110");
  EXPECT_ERRNO(madvise(p + kPage, kPage, MADV_DONTNEED), EINVAL);  // it is locked
  EXPECT_EQ(madvise(p, kPage, MADV_DONTNEED), 0);
}

TEST(Mlock, OnFault) {
  char* p = map(4);
  EXPECT_ERRNO(static_cast<int>(syscall(SYS_mlock2, p, kPage, 2)), EINVAL);
  ASSERT_EQ(syscall(SYS_mlock2, p, 2 * kPage, MLOCK_ONFAULT), 0);
  EXPECT_EQ(there(p, 4), "0000");
  p[0] = 1;
  EXPECT_EQ(there(p, 4), "1000");
  ASSERT_EQ(syscall(SYS_mlock2, p, 2 * kPage, 0), 0);
  EXPECT_EQ(there(p, 4), "1100");
}

TEST(Mlock, WhatCannotBeFilled) {
  char* p = map(4);
  ASSERT_EQ(mprotect(p + kPage, kPage, PROT_NONE), 0);
  EXPECT_ERRNO(mlock(p, 4 * kPage), ENOMEM);
  EXPECT_EQ(there(p, 1), "1") << "what lies below it is done";
  ASSERT_EQ(munmap(p + kPage, kPage), 0);
  EXPECT_ERRNO(mlock(p, 4 * kPage), ENOMEM);
  EXPECT_ERRNO(munlock(p, 4 * kPage), ENOMEM);
  EXPECT_ERRNO(mlock(p, ~0ul - kPage), EINVAL);
  EXPECT_EQ(mlock(p, 0), 0);
}

TEST(Mlock, TheLimitCountsEachPageOnce) {
  EXPECT_EQ(in_child([] {
    char* p = map(8);
    const rlimit few{4 * kPage, 4 * kPage};
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &few), 0);
    if (geteuid() == 0) {
      ASSERT_EQ(setresuid(12345, 12345, 12345), 0);
    }
    EXPECT_ERRNO(mlock(p, 5 * kPage), ENOMEM);
    EXPECT_EQ(mlock(p, 3 * kPage), 0);
    EXPECT_EQ(mlock(p, 3 * kPage), 0) << "again";
    EXPECT_EQ(mlock(p + 2 * kPage, 2 * kPage), 0);
    EXPECT_ERRNO(mlock(p + 6 * kPage, kPage), ENOMEM);
    EXPECT_ERRNO(mmap(nullptr, kPage, kRw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0), EAGAIN);
    EXPECT_ERRNO(mremap(p, 4 * kPage, 16 * kPage, MREMAP_MAYMOVE), EAGAIN);
    EXPECT_EQ(munlock(p, kPage), 0);
    EXPECT_EQ(mlock(p + 6 * kPage, kPage), 0);
    const rlimit none{0, 4 * kPage};
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    EXPECT_ERRNO(mlock(p, kPage), EPERM);
    EXPECT_ERRNO(mlockall(MCL_FUTURE), EPERM);
    EXPECT_EQ(munlock(p, 8 * kPage), 0) << "letting go is always allowed";
  }), 0);
}

TEST(Mlock, AllThatIsThere) {
  EXPECT_EQ(in_child([] {
    char* p = map(4);
    char* none = map(1, PROT_NONE);
    EXPECT_ERRNO(mlockall(0), EINVAL);
    EXPECT_ERRNO(mlockall(MCL_ONFAULT), EINVAL);
    EXPECT_ERRNO(mlockall(8), EINVAL);
    if (geteuid() != 0) return;  // all of it may be more than the limit
    ASSERT_EQ(mlockall(MCL_CURRENT), 0);
    EXPECT_EQ(there(p, 4), "1111");
    EXPECT_EQ(there(none, 1), "0") << "what nobody may touch is left out";
    EXPECT_EQ(there(map(1), 1), "0") << "what comes later is not meant";
    EXPECT_ERRNO(madvise(p, kPage, MADV_DONTNEED), EINVAL);
    ASSERT_EQ(munlockall(), 0);
    EXPECT_EQ(madvise(p, kPage, MADV_DONTNEED), 0);
  }), 0);
}

TEST(Mlock, AllThatComes) {
  EXPECT_EQ(in_child([] {
    if (geteuid() != 0) return;
    char* before = map(2);
    ASSERT_EQ(mlockall(MCL_FUTURE), 0);
    EXPECT_EQ(there(before, 2), "00");
    char* p = map(4);
    EXPECT_EQ(there(p, 4), "1111");
    EXPECT_EQ(there(map(2, kRw, MAP_SHARED | MAP_ANONYMOUS), 2), "11");
    EXPECT_EQ(there(map(2, PROT_NONE), 2), "00");
    char* grown = static_cast<char*>(mremap(p, 4 * kPage, 64 * kPage, MREMAP_MAYMOVE));
    ASSERT_NE(grown, MAP_FAILED);
    EXPECT_EQ(there(grown, 64), std::string(64, '1'));
    char* end = static_cast<char*>(sbrk(0));
    char* start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(end) + kPage - 1) & ~(kPage - 1));
    ASSERT_EQ(brk(start + 3 * kPage), 0);
    EXPECT_EQ(there(start, 3), "111");
    // On fault from now on.
    ASSERT_EQ(mlockall(MCL_FUTURE | MCL_ONFAULT), 0);
    char* later = map(2);
    EXPECT_EQ(there(later, 2), "00");
    EXPECT_ERRNO(madvise(later, kPage, MADV_DONTNEED), EINVAL);  // locked all the same
    ASSERT_EQ(munlockall(), 0);
    char* free = map(2);
    EXPECT_EQ(there(free, 2), "00");
    EXPECT_EQ(madvise(free, kPage, MADV_DONTNEED), 0);
  }), 0);
}

TEST(Mlock, ChildrenHaveNoLocks) {
  char* p = map(2);
  ASSERT_EQ(mlock(p, 2 * kPage), 0);
  EXPECT_EQ(in_child([&] { EXPECT_EQ(madvise(p, kPage, MADV_DONTNEED), 0); }), 0);
  EXPECT_ERRNO(madvise(p, kPage, MADV_DONTNEED), EINVAL);
  EXPECT_EQ(in_child([] {
    if (geteuid() != 0) return;
    ASSERT_EQ(mlockall(MCL_FUTURE), 0);
    EXPECT_EQ(in_child([] { EXPECT_EQ(there(map(2), 2), "00"); }), 0);
  }), 0);
}

TEST(Mlock, MapLockedAndPopulate) {
  char* locked = map(4, kRw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
  EXPECT_EQ(there(locked, 4), "1111");
  EXPECT_ERRNO(madvise(locked, kPage, MADV_DONTNEED), EINVAL);
  EXPECT_EQ(madvise(locked, kPage, MADV_DONTNEED_LOCKED), 0);
  EXPECT_EQ(there(locked, 4), "0111");
  char* full = map(4, kRw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
  EXPECT_EQ(there(full, 4), "1111");
  EXPECT_EQ(madvise(full, kPage, MADV_DONTNEED), 0);
  EXPECT_EQ(there(map(4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE), 4), "0000");
  EXPECT_EQ(there(map(4, kRw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_NONBLOCK), 4), "0000");
}

// A signal that comes while much is being filled.
TEST(Mlock, SignalsWhileItFills) {
  static std::atomic<int> seen;
  struct sigaction act = {};
  act.sa_handler = [](int) { seen++; };
  ASSERT_EQ(sigaction(SIGUSR1, &act, nullptr), 0);
  std::atomic<bool> stop{false};
  const pid_t me = gettid();
  std::thread t([&] {
    while (!stop) {
      syscall(SYS_tgkill, getpid(), me, SIGUSR1);
      usleep(500);
    }
  });
  for (int i = 0; i < 20; i++) {
    char* p = map(2048, kRw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
    EXPECT_EQ(there(p, 2048), std::string(2048, '1'));
    ASSERT_EQ(munmap(p, 2048 * kPage), 0);
  }
  stop = true;
  t.join();
  EXPECT_GT(seen, 0);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// read, write and their relatives; sizes; mappings of files; copying between files.
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernel/guest.h"

#define FAILS(call, e) do { errno = 0; EXPECT_EQ(call, -1); EXPECT_EQ(errno, e); } while (0)

static char g_big[1 << 20], g_back[1 << 20];

static void fill() {
  unsigned x = 1;
  for (auto& c : g_big) c = static_cast<char>((x = x * 1103515245 + 12345) >> 16);
}

CASE(write_and_read_back) {
  fill();
  int fd = open("f", O_CREAT | O_RDWR, 0644);
  EXPECT_EQ(write(fd, g_big, sizeof g_big), sizeof g_big);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), sizeof g_big);
  EXPECT_EQ(read(fd, g_back, 10), 0);
  EXPECT_EQ(pread(fd, g_back, sizeof g_back, 0), sizeof g_back);
  EXPECT_EQ(memcmp(g_big, g_back, sizeof g_big), 0);
  EXPECT_EQ(pwrite(fd, "hello", 5, 70001), 5);
  EXPECT_EQ(pread(fd, g_back, 7, 70000), 7);
  EXPECT_EQ(memcmp(g_back + 1, "hello", 5), 0);
  EXPECT_EQ(g_back[0], g_big[70000]);
  EXPECT_EQ(lseek(fd, -3, SEEK_END), static_cast<long>(sizeof g_big) - 3);
  EXPECT_EQ(read(fd, g_back, 100), 3);
  FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
  FAILS(lseek(fd, 0, 99), EINVAL);
  FAILS(pread(fd, g_back, 1, -1), EINVAL);
  EXPECT_EQ(read(fd, g_back, 0), 0);
  EXPECT_EQ(pread(fd, g_back, 5, 1 << 30), 0);
}

// The same file again and again in large pieces, as those do who read through it.
CASE(large_reads_again_and_again) {
  fill();
  int fd = open("f", O_CREAT | O_RDWR, 0644), other = open("g", O_CREAT | O_RDWR, 0644);
  EXPECT_EQ(write(fd, g_big, sizeof g_big), sizeof g_big);
  EXPECT_EQ(write(other, g_big, 50000), 50000);  // small enough to be kept otherwise
  for (int round = 0; round < 6; round++) {
    memset(g_back, 0, sizeof g_back);
    EXPECT_EQ(pread(fd, g_back, sizeof g_back, 0), sizeof g_back);
    EXPECT_EQ(memcmp(g_big, g_back, sizeof g_big), 0);
    memset(g_back, 0, sizeof g_back);
    EXPECT_EQ(lseek(fd, 1000, SEEK_SET), 1000);
    for (size_t done = 1000; done < sizeof g_big;) {
      ssize_t n = read(fd, g_back + done, 100000);
      if (n <= 0) {
        EXPECT_EQ(n, 1);
        break;
      }
      done += static_cast<size_t>(n);
      EXPECT_EQ(lseek(fd, 0, SEEK_CUR), static_cast<long>(done));
    }
    EXPECT_EQ(memcmp(g_big + 1000, g_back + 1000, sizeof g_big - 1000), 0);
    EXPECT_EQ(read(fd, g_back, 100000), 0);
    struct iovec v[2] = {{g_back, 200000}, {g_back + 300000, 17}};
    EXPECT_EQ(preadv(fd, v, 2, 5), 200017);
    EXPECT_EQ(memcmp(g_big + 5, g_back, 200000), 0);
    EXPECT_EQ(memcmp(g_big + 200005, g_back + 300000, 17), 0);
    EXPECT_EQ(pread(other, g_back, sizeof g_back, 100), 49900);
    EXPECT_EQ(memcmp(g_big + 100, g_back, 49900), 0);
    // What is written is what is read, and the end is where it was put.
    g_big[70000] = static_cast<char>(round);
    EXPECT_EQ(pwrite(fd, g_big + 70000, 1, 70000), 1);
    EXPECT_EQ(pwrite(other, "x", 1, 30000 + round), 1);
    EXPECT_EQ(pread(other, g_back, 40000, 30000), 20000);
    EXPECT_EQ(g_back[round], 'x');
    g_big[30000 + round] = 'x';
    EXPECT_EQ(pwrite(fd, "x", 1, 30000 + round), 1);
  }
  EXPECT_EQ(ftruncate(other, 20000), 0);
  EXPECT_EQ(pread(other, g_back, 100000, 0), 20000);
  EXPECT_EQ(pread(other, g_back, 100000, 20000), 0);
  EXPECT_EQ(ftruncate(other, 60000), 0);
  EXPECT_EQ(pread(other, g_back, 100000, 10000), 50000);
  EXPECT_EQ(g_back[9999], g_big[19999]);
  for (int i = 10000; i < 50000; i++)
    if (g_back[i] != 0) {
      EXPECT_EQ(i, 0);
      break;
    }
  // Into memory that is not there, or not all of it.
  char* page = static_cast<char*>(mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(page + 32768, 32768);
  FAILS(pread(fd, page + 32768, 20000, 0), EFAULT);
  FAILS(pread(fd, reinterpret_cast<void*>(0x7fff10001000), 20000, 0), EFAULT);
  EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
  FAILS(read(fd, page + 32768, 20000), EFAULT);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
  ssize_t part = pread(fd, page + 16384, 20000, 0);
  EXPECT_EQ(part, 16384);
  EXPECT_EQ(memcmp(page + 16384, g_big, 16384), 0);
  mprotect(page, 32768, PROT_READ);
  FAILS(pread(fd, page, 20000, 0), EFAULT);
  // Who has only the name of a file, or only may write it, reads nothing.
  int wr = open("f", O_WRONLY);
  for (int i = 0; i < 5; i++) FAILS(pread(wr, g_back, 20000, 0), EBADF);
}

CASE(bad_addresses) {
  int fd = open("f", O_CREAT | O_RDWR, 0644);
  char* page = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(page + 4096, 4096);
  memset(page, 'p', 4096);
  FAILS(write(fd, reinterpret_cast<void*>(16), 10), EFAULT);
  FAILS(write(fd, page + 4096, 10), EFAULT);
  EXPECT_EQ(write(fd, page + 4090, 6), 6);
  FAILS(pread(fd, reinterpret_cast<void*>(16), 6, 0), EFAULT);
  struct iovec v[2] = {{page, 3}, {reinterpret_cast<void*>(16), 3}};
  EXPECT_EQ(pwritev(fd, v, 2, 0), 3);
  FAILS(readv(fd, reinterpret_cast<struct iovec*>(16), 1), EFAULT);
  FAILS(readv(fd, v, -1), EINVAL);
  v[0].iov_len = static_cast<size_t>(-1);
  FAILS(readv(fd, v, 1), EINVAL);
  FAILS(readv(fd, v, 1025), EINVAL);
}

CASE(vectors) {
  int fd = open("f", O_CREAT | O_RDWR, 0644);
  struct iovec w[3] = {{const_cast<char*>("abc"), 3}, {const_cast<char*>(""), 0}, {const_cast<char*>("defgh"), 5}};
  EXPECT_EQ(writev(fd, w, 3), 8);
  char a[2], b[100];
  struct iovec r[2] = {{a, 2}, {b, 100}};
  EXPECT_EQ(preadv(fd, r, 2, 1), 7);
  EXPECT_EQ(memcmp(a, "bc", 2), 0);
  EXPECT_EQ(memcmp(b, "defgh", 5), 0);
  EXPECT_EQ(preadv2(fd, r, 2, 0, 0), 8);
  FAILS(preadv2(fd, r, 2, 0, 1 << 20), EOPNOTSUPP);
  EXPECT_EQ(pwritev2(fd, w, 1, 0, RWF_APPEND), 3);
  struct stat st;
  fstat(fd, &st);
  EXPECT_EQ(st.st_size, 11);
  // Large vectors go in pieces.
  fill();
  struct iovec big[3] = {{g_big, 100000}, {g_big + 100000, 200001}, {g_big + 300001, 5}};
  EXPECT_EQ(pwritev(fd, big, 3, 0), 300006);
  struct iovec back[3] = {{g_back, 7}, {g_back + 7, 250000}, {g_back + 250007, 49999}};
  EXPECT_EQ(preadv(fd, back, 3, 0), 300006);
  EXPECT_EQ(memcmp(g_big, g_back, 300006), 0);
}

// Vectors of every shape: few and many pieces, short ones and long ones, pieces that are not there.
CASE(vectors_of_every_shape) {
  fill();
  int fd = open("f", O_CREAT | O_RDWR, 0644), p[2];
  EXPECT_EQ(pipe(p), 0);
  const size_t lengths[] = {1, 0, 7, 1000, 4096, 4097, 3, 5000};
  for (unsigned first = 0; first < 8; first++) {
    for (unsigned count = 1; count <= 8; count++) {
      struct iovec v[8];
      size_t total = 0;
      for (unsigned i = 0; i < count; i++) {
        size_t n = lengths[(first + i) % 8];
        v[i] = {g_big + 2 * total, n};  // not next to each other
        total += n;
      }
      EXPECT_EQ(pwritev(fd, v, static_cast<int>(count), 0), static_cast<long>(total));
      EXPECT_EQ(writev(p[1], v, static_cast<int>(count)), static_cast<long>(total));
      for (int way = 0; way < (total ? 2 : 1); way++) {
        memset(g_back, 0, total);
        EXPECT_EQ(way ? read(p[0], g_back, sizeof g_back) : pread(fd, g_back, total, 0), static_cast<long>(total));
        for (size_t i = 0, at = 0; i < count; at += v[i++].iov_len) EXPECT_EQ(memcmp(g_back + at, v[i].iov_base, v[i].iov_len), 0);
      }
    }
  }
  char* page = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(page + 4096, 4096);
  memset(page, 'p', 4096);
  for (unsigned bad = 0; bad < 6; bad++) {
    struct iovec v[6];
    for (unsigned i = 0; i < 6; i++) v[i] = {i == bad ? page + 4093 : g_big, 10};
    EXPECT_EQ(pwritev(fd, v, 6, 0), bad * 10 + 3);
    v[bad].iov_base = nullptr;
    if (bad == 0) FAILS(pwritev(fd, v, 6, 0), EFAULT);
    else EXPECT_EQ(pwritev(fd, v, 6, 0), bad * 10);
  }
  // The list itself ends with the memory.
  auto* edge = reinterpret_cast<struct iovec*>(page + 4096 - 2 * sizeof(struct iovec));
  edge[0] = {g_big, 5};
  edge[1] = {g_big + 5, 5};
  EXPECT_EQ(pwritev(fd, edge, 2, 0), 10);
  FAILS(pwritev(fd, edge, 3, 0), EFAULT);
  FAILS(preadv(fd, edge, 3, 0), EFAULT);
  EXPECT_EQ(preadv(fd, edge, 2, 0), 10);
}

CASE(append_and_modes) {
  int a = open("f", O_CREAT | O_WRONLY | O_APPEND, 0644), b = open("f", O_RDWR);
  write(a, "one", 3);
  write(b, "TWOTWO", 6);
  write(a, "end", 3);
  char buf[20];
  EXPECT_EQ(pread(b, buf, 20, 0), 9);
  EXPECT_EQ(memcmp(buf, "TWOTWOend", 9), 0);
  FAILS(read(a, buf, 1), EBADF);
  int r = open("f", O_RDONLY);
  FAILS(write(r, buf, 1), EBADF);
  int d = open(".", O_RDONLY);
  FAILS(read(d, buf, 1), EISDIR);
  FAILS(write(d, buf, 1), EBADF);
  int p[2];
  pipe(p);
  FAILS(lseek(p[0], 0, SEEK_SET), ESPIPE);
  FAILS(pread(p[0], buf, 1, 0), ESPIPE);
}

CASE(truncate_and_holes) {
  int fd = open("f", O_CREAT | O_RDWR, 0644);
  write(fd, "0123456789", 10);
  EXPECT_EQ(ftruncate(fd, 4), 0);
  EXPECT_EQ(truncate("f", 100000), 0);
  char buf[20];
  EXPECT_EQ(pread(fd, buf, 10, 0), 10);
  EXPECT_EQ(memcmp(buf, "0123\0\0\0\0\0\0", 10), 0);
  FAILS(truncate("f", -1), EINVAL);
  FAILS(truncate(".", 0), EISDIR);
  FAILS(truncate("none", 0), ENOENT);
  FAILS(ftruncate(open("f", O_RDONLY), 0), EINVAL);
  EXPECT_EQ(ftruncate(fd, 1 << 20), 0);
  EXPECT_EQ(pwrite(fd, "x", 1, 512 * 1024), 1);
  long data = lseek(fd, 4096, SEEK_DATA);
  EXPECT(data > 4096 && data <= 512 * 1024);
  EXPECT_EQ(lseek(fd, 512 * 1024, SEEK_HOLE), 516 * 1024);
  FAILS(lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
  EXPECT_EQ(fallocate(fd, 0, 0, 2 << 20), 0);
  struct stat st;
  fstat(fd, &st);
  EXPECT_EQ(st.st_size, 2 << 20);
  EXPECT(st.st_blocks >= 4096);
  EXPECT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512 * 1024, 4096), 0);
  EXPECT_EQ(pread(fd, buf, 1, 512 * 1024), 1);
  EXPECT_EQ(buf[0], 0);
  FAILS(fallocate(fd, 0, 0, 0), EINVAL);
  FAILS(fallocate(fd, 0, -1, 10), EINVAL);
  FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
  EXPECT_EQ(fsync(fd), 0);
  EXPECT_EQ(fdatasync(fd), 0);
  EXPECT_EQ(syncfs(fd), 0);
  sync();
  EXPECT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
  EXPECT_EQ(posix_fadvise(fd, 0, 0, 77), EINVAL);
}

CASE(file_size_limit) {
  struct rlimit l = {1000, 1000};
  setrlimit(RLIMIT_FSIZE, &l);
  static volatile int signals = 0;
  signal(SIGXFSZ, [](int) { signals = signals + 1; });
  int fd = open("f", O_CREAT | O_RDWR, 0644);
  EXPECT_EQ(write(fd, g_big, 1500), 1000);
  EXPECT_EQ(signals, 0);
  FAILS(write(fd, "x", 1), EFBIG);
  EXPECT_EQ(signals, 1);
  FAILS(ftruncate(fd, 1001), EFBIG);
  EXPECT_EQ(signals, 2);
  EXPECT_EQ(pwrite(fd, "x", 1, 999), 1);
}

CASE(set_id_bits_go_with_a_write) {
  if (getuid() != 0) return;
  int fd = open("f", O_CREAT | O_RDWR, 0666);
  fchown(fd, 1000, 1000);
  fchmod(fd, 06777);
  struct stat st;
  fstat(fd, &st);
  EXPECT_EQ(st.st_mode & 07777, 06777);
  chmod(".", 0777);
  pid_t pid = fork();
  if (pid == 0) {
    setgid(1000);
    setuid(1000);
    _exit(write(fd, "x", 1) == 1 ? 0 : 1);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  fstat(fd, &st);
  EXPECT_EQ(st.st_mode & 07777, 0777);
}

CASE(shared_mappings_are_the_file) {
  int fd = open("f", O_CREAT | O_RDWR, 0644);
  EXPECT_EQ(ftruncate(fd, 8192), 0);
  char* m = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  EXPECT(m != MAP_FAILED);
  EXPECT_EQ(pwrite(fd, "by write", 8, 4096), 8);
  EXPECT_EQ(memcmp(m + 4096, "by write", 8), 0);
  strcpy(m, "by store");
  char buf[20];
  EXPECT_EQ(pread(fd, buf, 9, 0), 9);
  EXPECT_EQ(strcmp(buf, "by store"), 0);
  char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  p[0] = 'X';
  EXPECT_EQ(m[0], 'b');
  pid_t pid = fork();
  if (pid == 0) {
    strcpy(m, "by child");
    _exit(0);
  }
  waitpid(pid, nullptr, 0);
  EXPECT_EQ(strcmp(m, "by child"), 0);
  int ro = open("f", O_RDONLY);
  errno = 0;
  EXPECT(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  char* r = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, ro, 0));
  EXPECT(r != MAP_FAILED);
  FAILS(mprotect(r, 4096, PROT_READ | PROT_WRITE), EACCES);
  // The mapping stays when the name and the descriptors go.
  close(fd);
  close(ro);
  unlink("f");
  EXPECT_EQ(strcmp(r, "by child"), 0);
}

CASE(sendfile_and_copy_file_range) {
  fill();
  int a = open("a", O_CREAT | O_RDWR, 0644), b = open("b", O_CREAT | O_RDWR, 0644);
  write(a, g_big, 300000);
  off_t at = 1000;
  EXPECT_EQ(sendfile(b, a, &at, 200000), 200000);
  EXPECT_EQ(at, 201000);
  EXPECT_EQ(lseek(b, 0, SEEK_CUR), 200000);
  EXPECT_EQ(pread(b, g_back, 200000, 0), 200000);
  EXPECT_EQ(memcmp(g_back, g_big + 1000, 200000), 0);
  lseek(a, 299990, SEEK_SET);
  EXPECT_EQ(sendfile(b, a, nullptr, 100), 10);
  EXPECT_EQ(sendfile(b, a, nullptr, 100), 0);
  long from = 5, to = 7;
  EXPECT_EQ(syscall(SYS_copy_file_range, a, &from, b, &to, 50000, 0), 50000);
  EXPECT_EQ(from, 50005);
  EXPECT_EQ(to, 50007);
  EXPECT_EQ(pread(b, g_back, 50000, 7), 50000);
  EXPECT_EQ(memcmp(g_back, g_big + 5, 50000), 0);
  FAILS(syscall(SYS_copy_file_range, a, &from, a, &from, 10, 0), EINVAL);
  FAILS(syscall(SYS_copy_file_range, a, nullptr, b, nullptr, 10, 1), EINVAL);
  FAILS(sendfile(a, open("b", O_WRONLY), nullptr, 10), EBADF);
}

CASE(splice_and_tee) {
  int p[2], q[2];
  EXPECT_EQ(pipe(p), 0);
  EXPECT_EQ(pipe(q), 0);
  int f = open("f", O_CREAT | O_RDWR, 0644);
  write(f, "0123456789", 10);
  loff_t off = 2;
  EXPECT_EQ(splice(f, &off, p[1], nullptr, 5, 0), 5);
  EXPECT_EQ(off, 7);
  EXPECT_EQ(tee(p[0], q[1], 100, 0), 5);
  char buf[20];
  EXPECT_EQ(read(p[0], buf, 20), 5);
  EXPECT_EQ(memcmp(buf, "23456", 5), 0);
  EXPECT_EQ(splice(q[0], nullptr, f, nullptr, 100, SPLICE_F_NONBLOCK), 5);
  EXPECT_EQ(pread(f, buf, 20, 0), 15);
  EXPECT_EQ(memcmp(buf, "012345678923456", 15), 0);
  FAILS(splice(f, nullptr, f, nullptr, 5, 0), EINVAL);
  FAILS(splice(f, nullptr, p[1], &off, 5, 0), ESPIPE);
  FAILS(splice(p[0], nullptr, f, nullptr, 5, SPLICE_F_NONBLOCK), EAGAIN);
  struct iovec v = {const_cast<char*>("vm"), 2};
  EXPECT_EQ(vmsplice(p[1], &v, 1, 0), 2);
  EXPECT_EQ(read(p[0], buf, 20), 2);
  // Nothing is lost when the other side is full.
  fcntl(q[1], F_SETFL, O_NONBLOCK);
  while (write(q[1], g_big, 4096) > 0) {}
  EXPECT_EQ(write(p[1], "precious", 8), 8);
  FAILS(splice(p[0], nullptr, q[1], nullptr, 8, SPLICE_F_NONBLOCK), EAGAIN);
  EXPECT_EQ(read(p[0], buf, 20), 8);
  EXPECT_EQ(memcmp(buf, "precious", 8), 0);
}

CASE(large_pipe_transfers) {
  fill();
  int p[2];
  pipe(p);
  pid_t pid = fork();
  if (pid == 0) {
    close(p[0]);
    _exit(write(p[1], g_big, sizeof g_big) == static_cast<long>(sizeof g_big) ? 0 : 1);
  }
  close(p[1]);
  size_t got = 0;
  for (;;) {
    long n = read(p[0], g_back + got, sizeof g_back - got);
    EXPECT(n >= 0);
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  EXPECT_EQ(got, sizeof g_big);
  EXPECT_EQ(memcmp(g_big, g_back, sizeof g_big), 0);
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

CASE(memfd_seals) {
  int fd = memfd_create("name", MFD_ALLOW_SEALING);
  if (fd < 0 && errno == ENOSYS) return;  // the test's container has no store
  EXPECT_EQ(write(fd, "x", 1), 1);
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_GROW);
  FAILS(ftruncate(fd, 100), EPERM);
}

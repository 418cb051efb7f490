// SPDX-License-Identifier: Apache-2.0
// What programs do with files of the root file system: names, small and large contents, mappings, whole trees. Everything is made in one
// directory, /caisson-bench-files, and taken away as it goes.
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "bench/inside/measure.h"

namespace bench {

namespace {

#define HERE "/caisson-bench-files"
constexpr size_t kPage = 4096, kChunk = 128 << 10, kLarge = 8 << 20;
constexpr int kDirectories = 20, kFilesEach = 15;
char chunk[kChunk];
int large = -1, random_at = 0;

void prepare_here() { need(mkdir(HERE, 0755) == 0 || errno == EEXIST, HERE); }
int open_here(const char* path, int flags) {
  int fd = open(path, flags, 0644);
  need(fd >= 0, path);
  return fd;
}
void fill(const char* path, size_t n) {
  int fd = open_here(path, O_WRONLY | O_CREAT | O_TRUNC);
  for (size_t left = n; left > 0;) {
    ssize_t w = write(fd, chunk, left < kChunk ? left : kChunk);
    if (w <= 0) close(fd);
    need(w > 0, path);
    left -= static_cast<size_t>(w);
  }
  close(fd);
}
void prepare_small() {
  prepare_here();
  memset(chunk, 'c', sizeof chunk);
  fill(HERE "/small", kPage);
}
void prepare_large() {
  prepare_small();
  if (large >= 0) return;
  fill(HERE "/large", kLarge);
  large = open_here(HERE "/large", O_RDWR);
}

void create_unlink() {
  close(open_here(HERE "/new", O_WRONLY | O_CREAT | O_EXCL));
  need(unlink(HERE "/new") == 0, "unlink");
}
void mkdir_rmdir() { need(mkdir(HERE "/d", 0755) == 0 && rmdir(HERE "/d") == 0, "mkdir"); }
void rename_call() { need(rename(HERE "/small", HERE "/other") == 0 && rename(HERE "/other", HERE "/small") == 0, "rename"); }
void symlink_call() {
  char to[64];
  need(symlink("small", HERE "/link") == 0, "symlink");
  need(readlink(HERE "/link", to, sizeof to) == 5 && unlink(HERE "/link") == 0, "readlink");
}
void chmod_call() { need(chmod(HERE "/small", 0640) == 0 && chmod(HERE "/small", 0644) == 0, "chmod"); }
void write_small() { fill(HERE "/written", kPage); }
void read_small() {
  int fd = open_here(HERE "/small", O_RDONLY);
  ssize_t n = read(fd, chunk, kPage);
  close(fd);
  need(n == kPage, "read");
}
void write_sync() {
  int fd = open_here(HERE "/synced", O_WRONLY | O_CREAT);
  bool ok = pwrite(fd, chunk, kPage, 0) == kPage && fsync(fd) == 0;
  close(fd);
  need(ok, "fsync");
}
void read_random() {
  random_at = (random_at * 1103515 + 12345) & 0x7ff;
  need(pread(large, chunk, kPage, random_at * static_cast<off_t>(kPage)) == kPage, "pread");
}
void read_large() {
  for (size_t at = 0; at < kLarge; at += kChunk) need(pread(large, chunk, kChunk, static_cast<off_t>(at)) == kChunk, "pread");
}
void write_large() { fill(HERE "/large2", kLarge); }
void copy_large() {
  int to = open_here(HERE "/copy", O_WRONLY | O_CREAT | O_TRUNC);
  off_t at = 0;
  ssize_t n = 1;
  while (n > 0 && static_cast<size_t>(at) < kLarge) n = sendfile(to, large, &at, kLarge - static_cast<size_t>(at));
  close(to);
  need(static_cast<size_t>(at) == kLarge, "sendfile");
}
void map_large(int prot, int flags) {
  void* m = mmap(nullptr, kLarge, prot, flags, large, 0);
  need(m != MAP_FAILED, "mmap");
  volatile char* p = static_cast<char*>(m);
  for (size_t i = 0; i < kLarge; i += kPage) {
    if (prot & PROT_WRITE) p[i] = 'm';
    else (void)p[i];
  }
  need(munmap(m, kLarge) == 0, "munmap");
}
void map_read() { map_large(PROT_READ, MAP_PRIVATE); }
void map_write() { map_large(PROT_READ | PROT_WRITE, MAP_SHARED); }

std::string directory(const char* top, int d) { return std::string(top) + "/dir-" + std::to_string(d); }
void make_tree(const char* top) {
  need(mkdir(top, 0755) == 0, top);
  for (int d = 0; d < kDirectories; d++) {
    std::string dir = directory(top, d);
    need(mkdir(dir.c_str(), 0755) == 0, "mkdir");
    for (int f = 0; f < kFilesEach; f++) {
      std::string path = dir + "/file-" + std::to_string(f);
      fill(path.c_str(), static_cast<size_t>(500 * (f + 1)));
      timespec times[2] = {{1700000000, 0}, {1700000000, 0}};
      need(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0, "utimensat");
    }
  }
}
int walk_down(const std::string& top, bool remove) {
  int seen = 0;
  DIR* d = opendir(top.c_str());
  need(d, top.c_str());
  while (dirent* e = readdir(d)) {
    if (e->d_name[0] == '.') continue;
    std::string path = top + "/" + e->d_name;
    struct stat st;
    need(lstat(path.c_str(), &st) == 0, "lstat");
    seen++;
    if (S_ISDIR(st.st_mode)) seen += walk_down(path, remove);
    else if (remove) need(unlink(path.c_str()) == 0, "unlink");
  }
  closedir(d);
  if (remove) need(rmdir(top.c_str()) == 0, "rmdir");
  return seen;
}
void prepare_tree() {
  prepare_small();
  if (access(HERE "/tree", F_OK) != 0) make_tree(HERE "/tree");
}
void walk_tree() { need(walk_down(HERE "/tree", false) == kDirectories * (kFilesEach + 1), "walk"); }
void unpack() {
  make_tree(HERE "/unpacked");
  walk_down(HERE "/unpacked", true);
}

}  // namespace

void add_file_operations(std::vector<Operation>& all) {
  const Operation list[] = {
      {"file", "names", "create_unlink", "create + unlink", create_unlink, prepare_here},
      {"file", "names", "mkdir_rmdir", "mkdir + rmdir", mkdir_rmdir, prepare_here},
      {"file", "names", "rename", "rename, twice", rename_call, prepare_small},
      {"file", "names", "symlink", "symlink + readlink + unlink", symlink_call, prepare_here},
      {"file", "names", "chmod", "chmod, twice", chmod_call, prepare_small},
      {"file", "small", "read_small", "open + read 4 KiB + close", read_small, prepare_small},
      {"file", "small", "write_small", "open + write 4 KiB + close", write_small, prepare_small},
      {"file", "small", "write_sync", "write 4 KiB + fsync", write_sync, prepare_small},
      {"file", "large", "read_random", "pread 4 KiB somewhere in 8 MiB", read_random, prepare_large},
      {"file", "large", "read_large", "read 8 MiB, 128 KiB each", read_large, prepare_large},
      {"file", "large", "write_large", "write 8 MiB, 128 KiB each", write_large, prepare_large},
      {"file", "large", "copy_large", "sendfile 8 MiB", copy_large, prepare_large},
      {"file", "mmap", "map_read", "map 8 MiB, read every page", map_read, prepare_large},
      {"file", "mmap", "map_write", "map 8 MiB shared, write every page", map_write, prepare_large},
      {"file", "trees", "walk_tree", "walk 320 files: readdir + lstat", walk_tree, prepare_tree},
      {"file", "trees", "unpack", "make 300 files + remove them", unpack, prepare_here},
  };
  all.insert(all.end(), std::begin(list), std::end(list));
}

}  // namespace bench

// SPDX-License-Identifier: Apache-2.0
// Mounts, binds, moves, unmounts and changes of type by chance, in a few mount namespaces; after each step what mountinfo says. What it prints on
// Linux it prints in the sandbox, for the same seed: propagation_walk SEED STEPS.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr const char* kTop = "/tmp/propagation_walk";
constexpr size_t kMostMounts = 150;

struct Line {
  std::string place, source;
  std::vector<std::string> fields;
};

// The mounts below kTop by who lies on whom: at one place of one mount there is one other.
struct Tree {
  std::map<int, std::map<std::string, int>> children;
  std::map<int, Line> lines;
  std::map<std::string, size_t> groups;

  Tree() {
    std::ifstream f("/proc/self/mountinfo");
    for (std::string text; std::getline(f, text);) {
      std::istringstream in(text);
      int id = 0, parent = 0;
      std::string word;
      Line l;
      in >> id >> parent >> word >> word >> l.place;
      if (l.place.compare(0, strlen(kTop), kTop) != 0) continue;
      for (in >> word; in >> word && word != "-";) l.fields.push_back(word);
      in >> word >> l.source;
      children[parent][l.place] = id;
      lines[id] = l;
    }
  }
  void print(int id) {
    const Line& l = lines[id];
    printf("  %s %s", l.place.c_str() + strlen(kTop), l.source.c_str());
    for (auto& field : l.fields) {
      const size_t colon = field.find(':');
      printf(" %s", field.substr(0, colon).c_str());
      if (colon != std::string::npos) printf(":%zu", groups.emplace(field.substr(colon + 1), groups.size() + 1).first->second);
    }
    printf("\n");
    for (auto& [place, child] : children[id]) print(child);
  }
  void print() {
    std::vector<int> tops;
    for (auto& [parent, all] : children)
      if (!lines.count(parent))
        for (auto& [place, id] : all) tops.push_back(id);
    for (int id : tops) print(id);
  }
};

void must(bool ok, const char* what) {
  if (ok) return;
  perror(what);
  exit(1);
}

void fill(const std::string& top) {
  for (const char* d : {"/x", "/y"}) mkdir((top + d).c_str(), 0755);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::mt19937 random(static_cast<unsigned>(atoi(argv[1])));
  auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  auto path = [&] {
    std::string p = std::string(kTop) + "/" + "abc"[below(3)];
    for (unsigned i = below(3); i > 0; i--) p += below(2) ? "/x" : "/y";
    return p;
  };
  mkdir(kTop, 0755);
  must(unshare(CLONE_NEWNS) == 0, "unshare");
  must(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private");
  must(mount("top", kTop, "tmpfs", 0, nullptr) == 0, "tmpfs");
  for (const char* d : {"/a", "/b", "/c"}) {
    const std::string p = std::string(kTop) + d;
    mkdir(p.c_str(), 0755);
    fill(p);
  }
  std::vector<int> spaces{open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)};
  constexpr unsigned long kTypes[] = {MS_SHARED, MS_SHARED, MS_SHARED, MS_SLAVE, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE};
  // A copied namespace keeps what is unbindable on some kernels and not on others, so a walk has the one or the other.
  const bool copies = atoi(argv[1]) % 2;
  for (int step = 0; step < atoi(argv[2]); step++) {
    const std::string a = path(), b = path();
    const unsigned what = below(100), recursive = below(2), kind = below(7), which = below(4);
    const bool many = Tree().lines.size() > kMostMounts;
    int result = 0;
    std::string said;
    errno = 0;
    if (what < 22 && !many) {
      said = "mount " + a;
      result = mount(("m" + std::to_string(step)).c_str(), a.c_str(), "tmpfs", 0, nullptr);
      if (result == 0) fill(a);
    } else if (what < 42 && !many) {
      said = (recursive ? "rbind " : "bind ") + a + " " + b;
      result = mount(a.c_str(), b.c_str(), nullptr, MS_BIND | (recursive ? MS_REC : 0), nullptr);
    } else if (what < 68) {
      const unsigned long type = kTypes[copies ? kind % 6 : kind];
      said = "type " + std::to_string(type) + (recursive ? " all " : " ") + a;
      result = mount("none", a.c_str(), nullptr, type | (recursive ? MS_REC : 0), nullptr);
    } else if (what < 78) {
      said = "move " + a + " " + b;
      result = mount(a.c_str(), b.c_str(), nullptr, MS_MOVE, nullptr);
    } else if (what < 94) {
      said = (recursive ? "detach " : "umount ") + a;
      result = umount2(a.c_str(), recursive ? MNT_DETACH : 0);
    } else if (which < spaces.size()) {
      said = "enter " + std::to_string(which);
      result = setns(spaces[which], CLONE_NEWNS);
    } else if (copies) {
      said = "copy";
      result = unshare(CLONE_NEWNS);
      spaces.push_back(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
    }
    printf("%d %s: %s\n", step, said.c_str(), result ? strerrorname_np(errno) : "done");
    Tree().print();
  }
  return 0;
}

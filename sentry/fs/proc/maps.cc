// SPDX-License-Identifier: Apache-2.0
// /proc/PID/{maps,smaps,smaps_rollup,numa_maps}. Which pages are resident the host is asked; what is not written to, is
// told by a mapping's kind. Linux: fs/proc/task_mmu.c.
#include <sys/sysmacros.h>

#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {

using kernel::Task;

namespace {

constexpr size_t kNameColumn = 73;

unsigned long long ull(uint64_t v) { return v; }

std::string name_of(const mm::Vma& v) {
  if (!v.file) return v.name;
  std::string path = v.file->path();
  return path.empty() ? v.name : path;
}

struct Pages {
  uint64_t size = 0, rss = 0, pss = 0, pss_dirty = 0, shared_clean = 0, shared_dirty = 0, private_clean = 0, private_dirty = 0,
           anonymous = 0, locked = 0, pss_anon = 0, pss_file = 0, pss_shmem = 0;
  void add(const Pages& p) {
    size += p.size;
    rss += p.rss;
    pss += p.pss;
    pss_dirty += p.pss_dirty;
    shared_clean += p.shared_clean;
    shared_dirty += p.shared_dirty;
    private_clean += p.private_clean;
    private_dirty += p.private_dirty;
    anonymous += p.anonymous;
    locked += p.locked;
    pss_anon += p.pss_anon;
    pss_file += p.pss_file;
    pss_shmem += p.pss_shmem;
  }
};

Pages pages_of(const mm::Vma& v, uint64_t resident) {
  Pages p;
  p.size = v.length();
  p.rss = p.pss = resident;
  const bool writable = v.prot & PROT_WRITE;
  if (v.file && v.file->is_anonymous()) {
    p.shared_dirty = p.pss_dirty = p.pss_shmem = p.rss;
  } else if (v.file && v.shared) {
    p.shared_clean = p.pss_file = p.rss;
  } else if (v.file && !writable) {
    p.private_clean = p.pss_file = p.rss;
  } else {
    p.private_dirty = p.pss_dirty = p.anonymous = p.pss_anon = p.rss;
  }
  if (v.locked) p.locked = p.pss;
  return p;
}

void kb(std::string& out, const char* name, uint64_t bytes) {
  append(out, "%-15s %8llu kB\n", name, ull(bytes / 1024));
}

void append_pages(std::string& out, const Pages& p, bool rollup) {
  kb(out, "Rss:", p.rss);
  kb(out, "Pss:", p.pss);
  kb(out, "Pss_Dirty:", p.pss_dirty);
  if (rollup) {
    kb(out, "Pss_Anon:", p.pss_anon);
    kb(out, "Pss_File:", p.pss_file);
    kb(out, "Pss_Shmem:", p.pss_shmem);
  }
  kb(out, "Shared_Clean:", p.shared_clean);
  kb(out, "Shared_Dirty:", p.shared_dirty);
  kb(out, "Private_Clean:", p.private_clean);
  kb(out, "Private_Dirty:", p.private_dirty);
  kb(out, "Referenced:", p.rss);
  kb(out, "Anonymous:", p.anonymous);
  for (const char* zero : {"KSM:", "LazyFree:", "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:", "Shared_Hugetlb:",
                           "Private_Hugetlb:", "Swap:", "SwapPss:"})
    kb(out, zero, 0);
  kb(out, "Locked:", p.locked);
}

std::string vm_flags(const mm::Vma& v) {
  std::string out = "VmFlags:";
  auto flag = [&](bool on, const char* two) {
    if (on) (out += ' ') += two;
  };
  flag(v.prot & PROT_READ, "rd");
  flag(v.prot & PROT_WRITE, "wr");
  flag(v.prot & PROT_EXEC, "ex");
  flag(v.shared, "sh");
  flag(v.max_prot & PROT_READ, "mr");
  flag(v.max_prot & PROT_WRITE, "mw");
  flag(v.max_prot & PROT_EXEC, "me");
  flag(v.shared && (v.max_prot & PROT_WRITE), "ms");
  flag(v.grows_down, "gd");
  flag(v.locked, "lo");
  flag(v.dont_fork, "dc");
  flag(!v.shared && (v.prot & PROT_WRITE) && !v.noreserve, "ac");
  flag(v.noreserve, "nr");
  flag(v.wipe_on_fork, "wf");
  flag(v.dont_dump, "dd");
  flag(v.sealed, "sl");
  return out + " \n";
}

}  // namespace

std::string maps_line(const mm::Vma& v, std::string_view name) {
  const uint64_t device = v.file ? v.file->device() : 0;
  std::string out;
  append(out, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ", ull(v.start), ull(v.end), v.prot & PROT_READ ? 'r' : '-',
         v.prot & PROT_WRITE ? 'w' : '-', v.prot & PROT_EXEC ? 'x' : '-', v.shared ? 's' : 'p',
         ull(v.file ? static_cast<uint64_t>(v.offset) : 0), major(device), minor(device),
         ull(v.file ? v.file->inode_number() : 0));
  if (!name.empty()) {
    if (out.size() < kNameColumn) out.resize(kNameColumn, ' ');
    for (char c : name) {
      if (c == '\n') out += "\\012";
      else out += c;
    }
  }
  return out += '\n';
}

Result<std::string> maps_text(const Subject& s, Task&) {
  std::string out;
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return out;
  Breather b;
  for (const mm::Vma& v : m->list()) {
    out += maps_line(v, name_of(v));
    b.step();
  }
  return out;
}

Result<std::string> smaps_text(const Subject& s, Task&) {
  std::string out;
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return out;
  Breather b;
  const std::vector<mm::Vma> list = m->list();
  const std::vector<uint64_t> resident = kernel::resident_of(*m, list);
  for (const mm::Vma& v : list) {
    b.step();
    out += maps_line(v, name_of(v));
    kb(out, "Size:", v.length());
    kb(out, "KernelPageSize:", 4096);
    kb(out, "MMUPageSize:", 4096);
    append_pages(out, pages_of(v, resident[static_cast<size_t>(&v - list.data())]), false);
    out += "THPeligible:           0\n";
    out += vm_flags(v);
  }
  return out;
}

Result<std::string> smaps_rollup_text(const Subject& s, Task&) {
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return kESRCH;
  Pages sum;
  mm::Vma all;
  const std::vector<mm::Vma> list = m->list();
  const std::vector<uint64_t> resident = kernel::resident_of(*m, list);
  for (const mm::Vma& v : list) {
    if (all.end == 0) all.start = v.start;
    all.end = v.end;
    sum.add(pages_of(v, resident[static_cast<size_t>(&v - list.data())]));
  }
  std::string out = maps_line(all, "[rollup]");
  append_pages(out, sum, true);
  return out;
}

Result<std::string> numa_maps_text(const Subject& s, Task&) {
  std::string out;
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return out;
  Breather b;
  const std::vector<mm::Vma> list = m->list();
  const std::vector<uint64_t> resident = kernel::resident_of(*m, list);
  for (const mm::Vma& v : list) {
    b.step();
    append(out, "%08llx default", ull(v.start));
    if (v.file) append(out, " file=%s", name_of(v).c_str());
    else if (v.name == "[heap]") out += " heap";
    else if (v.name == "[stack]") out += " stack";
    if (uint64_t pages = resident[static_cast<size_t>(&v - list.data())] / 4096) {
      if (!v.file || (v.prot & PROT_WRITE)) append(out, " anon=%llu dirty=%llu", ull(pages), ull(pages));
      else append(out, " mapped=%llu", ull(pages));
      append(out, " N0=%llu kernelpagesize_kB=4", ull(pages));
    }
    out += '\n';
  }
  return out;
}

}  // namespace sentry::fs::proc

// SPDX-License-Identifier: Apache-2.0
// The list of an application's mappings and its rules: placement, limits, what may be done with them. Pages are the
// host's business (platform). Linux: mm/mmap.c.
//
// Order of truth (decision 0001, architecture 3.1): take away: host first, then the list; give: list first, then host; a range
// is reusable only after the thread's completion stamp. A range with a call in flight is locked: whoever overlaps waits.
#pragma once

#include <sys/mman.h>
#include <sys/resource.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sentry/patch/store.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/wait.h"

namespace sentry::mm {

// A host descriptor for mapping, borrowed from the Mappable that gave it.
struct MapFd {
  int fd;
  uint64_t key;          // identifies (file, access mode); never reused for another file. 0 = do not cache
  int64_t host_offset = 0;  // added to the mapping's offset
};

// A new MapFd::key.
uint64_t new_map_key();

// What a file gives to be mapped. Implemented by file systems. Held by: VMAs and the file's inode.
class Mappable : public RefCounted<Mappable> {
 public:
  // The descriptor in the given access: never a writable one unless writable (architecture 3.1). May park. ENODEV, EACCES.
  virtual Result<MapFd> map_fd(bool writable) = 0;
  // For /proc/PID/maps and sharing keys (futex): device, inode, current path ("" = anonymous).
  virtual uint64_t device() const = 0;
  virtual uint64_t inode_number() const = 0;
  virtual std::string path() const = 0;
  virtual bool is_anonymous() const { return false; }
  // What tells these contents from all others, and from what they were and will be; none when they may change unseen.
  virtual std::optional<patch::ContentId> content_id() const { return std::nullopt; }
  // MADV_REMOVE: a hole in the file; offset as in map_fd. Parks.
  virtual Result<void> punch_hole(int64_t /*offset*/, uint64_t /*length*/) { return kEOPNOTSUPP; }
  // MS_SYNC: what was written through shared mappings reaches the disk. Parks.
  virtual Result<void> sync_range(int64_t /*offset*/, uint64_t /*length*/) { return {}; }

 protected:
  friend class RefCounted<Mappable>;
  virtual ~Mappable() = default;
};

struct Vma {
  uint64_t start = 0, end = 0;
  int prot = 0;           // PROT_*
  int max_prot = PROT_READ | PROT_WRITE | PROT_EXEC;  // what mprotect may add (a read-only shared file cannot become writable)
  bool shared = false;
  bool grows_down = false;
  bool locked = false, lock_on_fault = false;
  bool sealed = false;    // mseal(2)
  bool dont_fork = false, wipe_on_fork = false, noreserve = false, dont_dump = false;
  bool patch_room = false;   // patch::kRoom after it stays free, for code that patched call sites jump to
  bool written = false;      // private text that was writable at some time: what it holds is not the file's
  RefOrNull<Mappable> file{};  // null: private anonymous memory
  int64_t offset = 0;
  std::string name{};     // "[heap]", "[stack]", "[vdso]", …
  uint64_t length() const { return end - start; }
};

// At most this many mappings (vm.max_map_count).
inline constexpr size_t kMaxMapCount = 65530;

struct Limits {  // RLIMIT_* soft values in bytes; RLIM_INFINITY = none
  uint64_t as = RLIM_INFINITY, data = RLIM_INFINITY, stack = 8 << 20, memlock = 8 << 20;
};

struct MapRequest {
  uint64_t address = 0;
  uint64_t length = 0;
  int prot = 0;
  int flags = 0;          // MAP_* as the application gave them (MAP_FIXED, …)
  RefOrNull<Mappable> file;
  bool file_writable = false;  // the description is open for writing: MAP_SHARED may become PROT_WRITE
  bool file_noexec = false;    // on a MS_NOEXEC mount: mprotect may not add PROT_EXEC
  bool patch_room = false;     // see Vma
  bool may_lock = false;       // CAP_IPC_LOCK: MAP_LOCKED without a limit
  int64_t offset = 0;
  std::string name;
};

// What identifies a futex word for processes that share it.
struct FutexKey {
  uint64_t a, b, c;       // (space, address, 0) private; (device, inode, offset) shared
  bool is_private;
  friend bool operator==(const FutexKey&, const FutexKey&) = default;
};

// Held by: tasks (CLONE_VM shares it), procfs readers.
class AddressSpace : public RefCounted<AddressSpace> {
 public:
  // An empty list over a fresh stub.
  static Ref<AddressSpace> create(platform::Space& space);

  // Where mappings without an address go: private ones down from private_top, shared ones down from shared_top.
  struct Layout {
    uint64_t private_top, shared_top;
  };
  void set_layout(const Layout& layout);
  // Shows [vvar] and [vdso] (they lie in every stub, above the application).
  void set_vdso(uint64_t vvar_address, uint64_t vdso_address, uint64_t vdso_end);
  // The stack is mapped in full at once but shown as far as it was used: down from here, or from any stack pointer noted.
  void note_stack_pointer(uint64_t sp);

  // Each call is made by `by`, a thread of this space, on its fiber. Errors as in the man pages.
  Result<uint64_t> map(platform::Context& by, const MapRequest& r);
  Result<void> unmap(platform::Context& by, uint64_t addr, uint64_t len);
  Result<void> protect(platform::Context& by, uint64_t addr, uint64_t len, int prot);
  Result<uint64_t> remap(platform::Context& by, uint64_t old_addr, uint64_t old_len, uint64_t new_len, int flags,
                         uint64_t new_addr);
  Result<void> advise(platform::Context& by, uint64_t addr, uint64_t len, int advice);
  Result<uint64_t> brk(platform::Context& by, uint64_t new_end);  // answers the resulting end, never an error
  // mlock(2), munlock(2); mlockall(2): flags MCL_*, 0 = munlockall. may_lock: the caller has CAP_IPC_LOCK, no limit counts.
  enum class Lock : uint8_t { off, now, on_fault };
  Result<void> lock_range(platform::Context& by, uint64_t addr, uint64_t len, Lock how, bool may_lock = false);
  Result<void> lock_all(platform::Context& by, int flags, bool may_lock = false);
  Result<void> seal(platform::Context& by, uint64_t addr, uint64_t len);  // mseal(2)
  Result<void> sync(platform::Context& by, uint64_t addr, uint64_t len, int flags);  // msync
  Result<std::vector<unsigned char>> mincore(platform::Context& by, uint64_t addr, uint64_t len);

  // A queued call of `by` has failed on the host (Context::memory_call_error() after resume()): repairs the list. Returns what the
  // application's call answers (usually -error). Called by the task loop, before anything else is done with `by`.
  int64_t on_memory_call_failed(platform::Context& by, int error);
  // Before a thread with calls queued stops for an unknown time (group stop, ptrace): has them done now. Parks.
  void settle(platform::Context& by);
  // `by` will never run again: calls it has queued and not made are forgotten.
  void context_gone(platform::Context& by);

  // A copy for a fork made by `parent`: waits for calls in flight, keeps new ones out, forks the stub, copies the list.
  struct Forked {
    Ref<AddressSpace> space;
    Ref<platform::Context> context;
  };
  Result<Forked> fork(platform::Context& parent, platform::Birthday when);

  void set_brk_start(uint64_t addr);
  void set_limits(const Limits& limits);
  // Facts for /proc and the loader.
  uint64_t brk_start() const;
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0, stack_start = 0, code_start = 0, code_end = 0;
  std::vector<uint64_t> auxv;
  RefOrNull<Mappable> executable;  // /proc/PID/exe is the kernel's; this one is for maps

  // Where private memory of this size could go: at hint if that is free (0: anywhere). Nothing is reserved: for the loader, which
  // is alone in its space. ENOMEM.
  Result<uint64_t> find_free(platform::Context& by, uint64_t hint, uint64_t length, uint64_t align, bool patch_room);
  bool is_mapped(uint64_t addr, uint64_t len, int prot) const;  // every byte, with at least these rights
  std::optional<Vma> find(uint64_t addr) const;                 // a copy of the VMA that holds addr
  std::vector<Vma> list() const;
  uint64_t total_bytes() const;
  Result<FutexKey> futex_key(uint64_t addr, bool private_flag) const;
  // A fault at addr that stack growth or a lazily made mapping explains. True: retry the instruction.
  bool handle_fault(platform::Context& by, const platform::Fault& fault);

  // ---- Patched system calls (sentry/patch) ----
  // A thread has made the current call by a trap: learns, and gives it the patched page when there is one. Parks.
  void note_trap(platform::Context& by, const patch::Domain& domain);
  // After an exec has mapped everything: patches the texts that are known, and from now on those that are mapped. Parks.
  void use_patches(platform::Context& by, const patch::Domain& domain);
  // The thread has come out by itself. If it was in a trampoline, it is put back to the call it was about to make, as if
  // nothing had been patched. What the event then means: `retry`: nothing, the thread goes on.
  enum class Left : uint8_t { no, moved, retry };
  Left leave_trampoline(platform::Context& by, const platform::Fault* fault);
  // Takes all patches out, and makes no more: for tracers, who must see the program's own text.
  void stop_patching(platform::Context& by);
  platform::Space& space() const;
  // Reads memory of this space from another task (ptrace, /proc/PID/mem): bounded by the list. Parks.
  Result<size_t> read_remote(uint64_t addr, void* dst, size_t n);
  Result<size_t> write_remote(uint64_t addr, const void* src, size_t n);

 private:
  friend class RefCounted<AddressSpace>;
  AddressSpace();
  ~AddressSpace();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Memory shared by anonymous MAP_SHARED mappings, shmem and /dev/zero: a memfd of fixed size.
Result<Ref<Mappable>> create_shared_memory(uint64_t bytes, const char* name);

}  // namespace sentry::mm

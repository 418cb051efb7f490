// SPDX-License-Identifier: Apache-2.0
// Open file descriptions. Linux: struct file. A file system derives from File; everything has a default that answers what
// Linux answers for a file that cannot do it.
#pragma once

#include <fcntl.h>
#include <sys/epoll.h>

#include <cstddef>
#include <span>
#include <string>

#include "sentry/vfs/dentry.h"

struct iovec;

namespace sentry::vfs {

// Receives directory entries. False: full, stop; the entry was not taken.
class DirectorySink {
 public:
  // next: what lseek must be set to, to go on after this entry. type: DT_*.
  virtual bool add(std::string_view name, uint64_t ino, unsigned char type, int64_t next) = 0;

 protected:
  ~DirectorySink() = default;
};

// How one read or write is to be done.
struct IoFlags {
  bool nonblock = false;   // O_NONBLOCK of the description, or RWF_NOWAIT, MSG_DONTWAIT
  bool append = false;
  bool sync = false;
};

// The kinds that other code asks for by File::as<>().
enum class FileKind : uint8_t { plain, directory, path_only, pipe, socket, epoll, eventfd, timerfd, signalfd, tty, pidfd, inotify, memfd, host, mqueue, nsfs, fscontext };

// Held by: fd tables, mappings, in-flight messages, the call that uses it.
class File : public RefCounted<File> {
 public:
  const Path& path() const { return path_; }
  // The inode it was opened on; stays although the name may go. Never null after construction.
  Inode& inode() const { return *inode_; }
  FileKind kind() const { return kind_; }
  const Ref<auth::Credentials>& credentials() const { return cred_; }
  // O_ACCMODE, O_APPEND, O_NONBLOCK, O_DIRECT, O_PATH … (not O_CLOEXEC, O_CREAT, O_TRUNC).
  int flags() const { return flags_.load(std::memory_order_relaxed); }
  void set_flags(int f) { flags_.store(f, std::memory_order_relaxed); }
  bool readable() const { return (flags() & O_ACCMODE) != O_WRONLY && !(flags() & O_PATH); }
  bool writable() const { return (flags() & O_ACCMODE) != O_RDONLY && !(flags() & O_PATH); }
  // F_SETFL has changed O_NONBLOCK, O_APPEND, O_DIRECT, O_ASYNC or O_NOATIME.
  virtual Result<void> flags_changing(int /*new_flags*/) { return {}; }

  // Seekable files get *pos (and advance it); streams ignore it. dst may be memory that a stub sees: write only, never read it
  // back. A short count is normal; 0 is end of file. kEAGAIN when nonblock and nothing is there. Parks.
  virtual Result<size_t> read(std::span<std::byte> /*dst*/, int64_t* /*pos*/, IoFlags) { return kEINVAL; }
  // The same for large reads, by the application's own thread: the bytes go from the host's file to addr without passing through the
  // sentry (Context::read_host). EOPNOTSUPP, EAGAIN: use read(), which also says what is wrong with addr.
  virtual Result<size_t> read_directly(platform::Context&, uint64_t /*addr*/, size_t /*n*/, int64_t* /*pos*/) { return kEOPNOTSUPP; }
  // Large reads so far, up to a few: a file that is read once is not worth a descriptor in the application's process.
  std::atomic<uint8_t> large_reads{0};
  // src is private memory of the sentry; or, where takes_shared(), memory that a stub changes meanwhile: it is only handed on.
  virtual Result<size_t> write(std::span<const std::byte> /*src*/, int64_t* /*pos*/, IoFlags) { return kEINVAL; }
  virtual bool takes_shared() const { return false; }
  // Whether read and write use a position (pread works); streams answer ESPIPE.
  virtual bool seekable() const { return false; }
  virtual Result<int64_t> seek(int64_t offset, int whence);   // default: SET, CUR, END, DATA, HOLE over attributes().size
  // Whole messages: a read or write must not be cut into 64 KiB pieces (datagrams, seqpackets, O_DIRECT pipes).
  virtual bool message_oriented() const { return false; }

  virtual Result<void> read_directory(DirectorySink&, int64_t* /*pos*/) { return kENOTDIR; }

  // EPOLL* bits that are true now. poll_queue() is woken when they may have changed; null: always ready (EPERM for epoll).
  virtual uint32_t poll_events() { return EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM; }
  virtual sched::WaitQueue* poll_queue() { return nullptr; }

  virtual Result<long> ioctl(platform::Context&, uint32_t /*command*/, uint64_t /*arg*/) { return kENOTTY; }
  virtual Result<Ref<mm::Mappable>> mappable() { return kENODEV; }
  virtual Result<void> sync(bool /*data_only*/) { return kEINVAL; }
  virtual Result<void> allocate(int /*mode*/, int64_t /*offset*/, int64_t /*length*/) { return kENODEV; }
  virtual Result<void> truncate(uint64_t size);               // ftruncate; default through the inode
  // close(2) of one descriptor (flush), and the last reference going (release) is the destructor.
  virtual Result<void> flush() { return {}; }
  // Lines for /proc/PID/fdinfo beyond pos, flags and mnt_id.
  virtual std::string fdinfo() { return {}; }

  // The position shared by all descriptors of this description; its lock is held during read(2), write(2), lseek(2), getdents(2).
  sched::SleepMutex& position_lock() { return position_lock_; }
  int64_t position = 0;

  // Checked downcast: T has `static constexpr FileKind kKind`. Null when it is another kind.
  template <typename T>
  T* as() { return kind_ == T::kKind ? static_cast<T*>(this) : nullptr; }

  // The last reference going: watchers are told before anything of the file is gone.
  void unref() const;
  // Set once an epoll watches this file (fs/epoll); the hook takes it out of all of them. Linux: eventpoll_release.
  std::atomic<bool> watched{false};
  using ReleaseHook = void (*)(const File&);
  static std::atomic<ReleaseHook> release_hook;

  // F_SETOWN, F_SETSIG of fcntl(2).
  std::atomic<int> owner_pid{0};
  std::atomic<int> owner_signal{0};
  // Takes note that the inode's write access was got for it; given back when it goes. By vfs::open().
  void holds_write_access() { write_access_ = true; }

 protected:
  File(FileKind kind, const Path& path, Ref<Inode> inode, int flags, Ref<auth::Credentials> cred);
  friend class RefCounted<File>;
  virtual ~File();

 private:
  const FileKind kind_;
  Path path_;
  Ref<Inode> inode_;
  std::atomic<int> flags_;
  Ref<auth::Credentials> cred_;
  sched::SleepMutex position_lock_;
  bool write_access_ = false;
};

// An O_PATH description.
// tree: the detached tree of mounts that it is the top of; what of it hangs nowhere goes with the description.
Ref<File> make_path_file(const Path& path, int flags, Ref<auth::Credentials> cred, RefOrNull<MountNamespace> tree = nullptr);

// An inode without a name for pipes, sockets, eventfds …: attributes are kept here. Linux: anon_inode, pipefs, sockfs.
// kind_name: "pipe" becomes "pipe:[INODE]" for readlink of /proc/PID/fd; one with a ':' stays as it is ("anon_inode:[eventpoll]",
// "/memfd:name (deleted)"). mode with type bits.
Path make_anonymous_path(std::string_view kind_name, uint32_t mode, const auth::Credentials& owner);

}  // namespace sentry::vfs

// SPDX-License-Identifier: Apache-2.0
// What passes between a socket call and a socket: addresses, ancillary data, one send, one receive.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "sentry/kernel/task.h"

namespace sentry::net {

// A socket address as bytes. Linux: struct sockaddr_storage and its length.
struct Address {
  std::array<std::byte, 128> bytes{};
  uint32_t size = 0;

  uint16_t family() const {
    uint16_t f = 0;
    if (size >= sizeof f) memcpy(&f, bytes.data(), sizeof f);
    return f;
  }
  template <typename T>
  static Address of(const T& v, size_t n = sizeof(T)) {
    static_assert(sizeof(T) <= 128);
    Address a;
    memcpy(a.bytes.data(), &v, n);
    a.size = static_cast<uint32_t>(n);
    return a;
  }
  // Zeros past the end of a short address.
  template <typename T>
  T as() const {
    T v;
    memcpy(&v, bytes.data(), sizeof v);
    return v;
  }
  friend bool operator==(const Address& a, const Address& b) {
    return a.size == b.size && memcmp(a.bytes.data(), b.bytes.data(), a.size) == 0;
  }
};

// Who sent a message or sits at the other end. Linux: struct scm_creds, sk_peer_pid and sk_peer_cred.
struct Identity {
  RefOrNull<kernel::ThreadGroup> group;
  RefOrNull<auth::Credentials> cred;  // of a peer; messages carry only the two ids
  uint32_t uid = ~0u, gid = ~0u;

  // Of the calling task; nobody outside of one.
  static Identity current();
  // As the calling task sees it.
  struct ucred for_caller() const;
  friend bool operator==(const Identity& a, const Identity& b) {
    return a.group.get() == b.group.get() && a.uid == b.uid && a.gid == b.gid;
  }
};

// Who sent a message, when that is told.
class Sender {
 public:
  Sender() = default;
  Sender(Identity i) : known_(true), id_(std::move(i)) {}
  explicit operator bool() const { return known_; }
  const Identity& operator*() const { return id_; }
  const Identity* operator->() const { return &id_; }
  // For a receiver with SO_PASSCRED: who sent without telling is nobody (the overflow ids).
  Identity or_nobody() const { return known_ ? id_ : Identity{nullptr, nullptr, 65534, 65534}; }
  friend bool operator==(const Sender& a, const Sender& b) { return a.known_ == b.known_ && a.id_ == b.id_; }

 private:
  bool known_ = false;
  Identity id_;
};

// Descriptors on their way in a message (SCM_RIGHTS). Counted while they are (in_flight.h); whoever drops one closes the
// files. Not copyable.
class InFlight {
 public:
  InFlight() = default;
  // ETOOMANYREFS: this user has more on the way than RLIMIT_NOFILE allows.
  static Result<InFlight> create(std::vector<Ref<vfs::File>> files, const auth::Credentials& cred, uint64_t limit);
  InFlight(InFlight&& o) noexcept : files_(std::move(o.files_)), uid_(o.uid_) { o.files_.clear(); }
  InFlight& operator=(InFlight&& o) noexcept {
    std::swap(files_, o.files_);
    std::swap(uid_, o.uid_);
    return *this;
  }
  ~InFlight() { drop(); }
  bool empty() const { return files_.empty(); }
  const std::vector<Ref<vfs::File>>& files() const { return files_; }
  // They have arrived: no longer counted. Preconditions: no lock held.
  std::vector<Ref<vfs::File>> take();

 private:
  void drop();
  std::vector<Ref<vfs::File>> files_;
  uint32_t uid_ = 0;
};

struct Control {
  Sender sender;  // given by SCM_CREDENTIALS
  InFlight files;
  std::vector<std::byte> network;  // whole control messages of levels other than SOL_SOCKET, each padded; not checked further
};

struct SendRequest {
  std::span<const std::byte> data;  // private memory of the sentry
  int flags = 0;                    // MSG_*; MSG_DONTWAIT when the description is O_NONBLOCK
  const Address* to = nullptr;
  Control control;                  // taken by the message
  bool nonblock() const { return flags & MSG_DONTWAIT; }
};

struct ReceiveRequest {
  std::span<std::byte> data;        // written only
  int flags = 0;
  bool nonblock() const { return flags & MSG_DONTWAIT; }
};

struct Received {
  size_t size = 0;         // bytes stored
  size_t full_size = 0;    // of the message (MSG_TRUNC)
  int flags = 0;           // msg_flags
  Address from;            // size 0: none to tell
  Sender sender;
  std::vector<Ref<vfs::File>> files;
  std::vector<std::byte> network;  // whole control messages of the host's, each padded
};

// Files dropped one after the other, however deep sockets lie in the queues of sockets. Preconditions: no lock held.
void release_files(std::vector<Ref<vfs::File>> files);

}  // namespace sentry::net

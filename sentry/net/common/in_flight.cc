// SPDX-License-Identifier: Apache-2.0
// A socket is garbage when every reference to it lies in the queue of garbage. Candidates are those with no reference but
// in flight; a candidate referred to from a queue that is not a candidate's is alive, and so is everything in its queues.
//
// The table's lock is held for the whole search. A receiver that has taken files out of a queue must pass this lock before
// it may use them (InFlight::take, settle_with_collector), so what the search saw stays true until it ends.
#include "sentry/net/common/in_flight.h"

#include <algorithm>
#include <map>

#include "sentry/net/common/socket_file.h"

namespace sentry::net {
namespace {

struct Flights {
  std::map<vfs::File*, uint32_t> sockets;  // how often each is in flight
  std::map<uint32_t, uint64_t> users;      // descriptors by sender's uid
};
Guarded<Flights>& flights() {
  static auto* f = new Guarded<Flights>(LockRank::kFilePrivate);
  return *f;
}

// Only sockets of this family carry descriptors.
SocketFile* carrier(vfs::File& f) {
  auto* s = f.as<SocketFile>();
  return s && s->sock().family == AF_UNIX ? s : nullptr;
}

void leave(const std::vector<Ref<vfs::File>>& files, uint32_t uid) {
  flights().with([&](Flights& t) {
    for (const auto& f : files) {
      auto it = t.sockets.find(f.get());
      if (it != t.sockets.end() && --it->second == 0) t.sockets.erase(it);
    }
    auto u = t.users.find(uid);
    if (u != t.users.end() && (u->second -= files.size()) == 0) t.users.erase(u);
  });
}

// How many sockets in flight make a search worth while: twice what the last one left.
std::atomic<size_t> enough{64};
std::atomic<bool> scheduled{false};

void schedule_collection() {
  if (scheduled.exchange(true)) return;
  auto f = sched::spawn([] {
    sched::park(sched::now() + 1000000);
    scheduled = false;
    collect_garbage();
  });
  if (!f.ok()) scheduled = false;  // the next close tries again
}

using Lists = std::map<sched::Fiber*, std::vector<Ref<vfs::File>>*>;
Guarded<Lists>& drains() {
  static auto* d = new Guarded<Lists>(LockRank::kFilePrivate);
  return *d;
}

}  // namespace

Result<InFlight> InFlight::create(std::vector<Ref<vfs::File>> files, const auth::Credentials& cred, uint64_t limit) {
  bool exempt = cred.has_cap(CAP_SYS_RESOURCE) || cred.has_cap(CAP_SYS_ADMIN);
  bool crowded = false;
  auto enter = [&] {
    return flights().with([&](Flights& t) {
      uint64_t& n = t.users[cred.uid];
      if (n > limit && !exempt) return false;
      n += files.size();
      for (const auto& f : files)
        if (carrier(*f)) t.sockets[f.get()]++;
      crowded = t.sockets.size() > enough.load(std::memory_order_relaxed);
      return true;
    });
  };
  if (!enter()) {
    collect_garbage();  // what nobody can reach does not count
    if (!enter()) return Errno(ETOOMANYREFS);
  }
  if (crowded) schedule_collection();
  InFlight r;
  r.files_ = std::move(files);
  r.uid_ = cred.uid;
  return r;
}

std::vector<Ref<vfs::File>> InFlight::take() {
  if (files_.empty()) return {};
  leave(files_, uid_);
  return std::exchange(files_, {});
}

void InFlight::drop() {
  if (files_.empty()) return;
  release_files(take());
}

void release_files(std::vector<Ref<vfs::File>> files) {
  if (files.empty()) return;
  sched::Fiber* self = sched::current();
  bool nested = drains().with([&](Lists& l) {
    auto it = l.find(self);
    if (it == l.end()) {
      l[self] = &files;
      return false;
    }
    for (auto& f : files) it->second->push_back(std::move(f));
    return true;
  });
  if (nested) {
    files.clear();  // moved from: nothing to drop
    return;
  }
  for (;;) {
    RefOrNull<vfs::File> next;
    drains().with([&](Lists& l) {
      if (files.empty()) {
        l.erase(self);
        return;
      }
      next = std::move(files.back());
      files.pop_back();
    });
    if (!next) return;
  }
}

void closing(vfs::File& file) {
  if (flights().with([&](Flights& t) { return t.sockets.contains(&file); })) schedule_collection();
}

void settle_with_collector() {
  flights().with([](Flights&) {});
}

size_t sockets_in_flight() {
  return flights().with([](Flights& t) { return t.sockets.size(); });
}

void collect_garbage() {
  struct Candidate {
    uint32_t unexplained;  // references not yet found in a candidate's queue
    bool alive = false;
    std::vector<Candidate*> children;
  };
  PacketQueue garbage;
  flights().with([&](Flights& t) {
    std::map<vfs::File*, Candidate> found;
    for (auto [file, n] : t.sockets)
      if (file->ref_count() == n) found[file] = Candidate{n, false, {}};
    if (found.empty()) return;
    std::vector<vfs::File*> queued;
    for (auto& [file, c] : found) {
      queued.clear();
      static_cast<SocketFile*>(file)->sock().list_queued_files(queued);
      for (vfs::File* q : queued) {
        auto it = found.find(q);
        if (it == found.end()) continue;
        c.children.push_back(&it->second);
        if (it->second.unexplained > 0) it->second.unexplained--;
      }
    }
    std::vector<Candidate*> work;
    for (auto& [file, c] : found)
      if (c.unexplained > 0) {
        c.alive = true;
        work.push_back(&c);
      }
    while (!work.empty()) {
      Candidate* c = work.back();
      work.pop_back();
      for (Candidate* child : c->children) {
        if (child->alive) continue;
        child->alive = true;
        work.push_back(child);
      }
    }
    for (auto& [file, c] : found)
      if (!c.alive) static_cast<SocketFile*>(file)->sock().take_queued_packets(garbage);
  });
  enough = std::max<size_t>(64, 2 * sockets_in_flight());
  garbage.clear();  // drops the files, and so closes the sockets
}

}  // namespace sentry::net

// SPDX-License-Identifier: Apache-2.0
// Sets of semaphores: operations happen all at once or wait, in order of arrival.
#include "sentry/kernel/ipc_sem.h"

#include <algorithm>

#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

constexpr int kMaxPerSet = 32000, kMaxSets = 32000, kMaxOps = 500, kMaxValue = 32767;  // SEMMSL, SEMMNI, SEMOPM, SEMVMX
constexpr int kMaxAll = 1024000000;                                                    // SEMMNS

// struct semid64_ds of amd64.
struct SemidAbi {
  IpcPermAbi perm;
  int64_t otime;
  uint64_t unused1;
  int64_t ctime;
  uint64_t unused2;
  uint64_t nsems, unused3, unused4;
};
static_assert(sizeof(SemidAbi) == sizeof(semid_ds));

struct Semaphore {
  uint16_t value = 0;
  int pid = 0;
};

// A semop that waits; on its fiber's stack.
struct Sleeper {
  Task* task;
  const std::vector<sembuf>* ops;
  size_t blocking = 0;   // the operation it waits for
};

struct Set : RefCounted<Set> {
  explicit Set(size_t n) : sems(n), resets(n) {}
  IpcOwner owner;
  bool removed = false;
  std::vector<Semaphore> sems;
  std::list<Sleeper*> sleepers;
  // SETVAL and SETALL void what undo lists hold: they remember the count of the value they belong to.
  std::vector<uint32_t> resets;
  void forget_undo(size_t k) { resets[k]++; }
  int64_t otime = 0, ctime = ipc_now();
};

enum class Attempt : uint8_t { done, waits, failed };

std::vector<SemUndo::Adjust>& valid_adjust(std::vector<SemUndo::Adjust>& v, const Set& s) {
  if (v.size() < s.sems.size()) v.resize(s.sems.size());
  for (size_t k = 0; k < s.sems.size(); k++)
    if (v[k].resets != s.resets[k]) v[k] = {0, s.resets[k]};
  return v;
}

}  // namespace

struct SemTable::Impl {
  Mutex mu{LockRank::kFilePrivate};
  IpcIds<Set> ids GUARDED_BY(mu);
  int total GUARDED_BY(mu) = 0;

  // All or nothing. undo: null without SEM_UNDO; ENOSPC and the like are told by *error.
  Attempt attempt_locked(Set& s, Task& t, const std::vector<sembuf>& ops, std::vector<SemUndo::Adjust>* undo, Errno* error,
                         size_t* blocking) REQUIRES(mu) {
    std::vector<std::pair<size_t, uint16_t>> old;
    auto roll_back = [&] {
      for (auto it = old.rbegin(); it != old.rend(); ++it) s.sems[it->first].value = it->second;
    };
    for (size_t i = 0; i < ops.size(); i++) {
      const sembuf& op = ops[i];
      Semaphore& sem = s.sems[op.sem_num];
      int next = sem.value + op.sem_op;
      const bool blocks = op.sem_op == 0 ? sem.value != 0 : next < 0;
      if (blocks) {
        roll_back();
        *blocking = i;
        *error = kEAGAIN;
        return op.sem_flg & IPC_NOWAIT ? Attempt::failed : Attempt::waits;
      }
      if (next > kMaxValue) {
        roll_back();
        *error = kERANGE;
        return Attempt::failed;
      }
      if ((op.sem_flg & SEM_UNDO) && undo) {
        int adjusted = (*undo)[op.sem_num].value - op.sem_op;
        if (adjusted < -kMaxValue - 1 || adjusted > kMaxValue) {
          roll_back();
          *error = kERANGE;
          return Attempt::failed;
        }
      }
      old.emplace_back(op.sem_num, sem.value);
      sem.value = static_cast<uint16_t>(next);
    }
    for (const sembuf& op : ops) {
      s.sems[op.sem_num].pid = t.group().pid();
      if ((op.sem_flg & SEM_UNDO) && undo)
        (*undo)[op.sem_num].value = static_cast<int16_t>((*undo)[op.sem_num].value - op.sem_op);
    }
    s.otime = ipc_now();
    return Attempt::done;
  }
  // Values have changed: who can go on, goes on.
  void wake_locked(Set& s) REQUIRES(mu);
  void remove_locked(Set& s) REQUIRES(mu) {
    s.removed = true;
    total -= static_cast<int>(s.sems.size());
    for (Sleeper* w : s.sleepers) w->task->fiber().wake();
    s.sleepers.clear();
    ids.remove(s.owner.id);
  }
};

SemTable::SemTable() : impl_(std::make_unique<Impl>()) {}
SemTable::~SemTable() = default;

// A sleeper makes its attempt anew by itself: it has its undo list.
void SemTable::Impl::wake_locked(Set& s) {
  for (Sleeper* w : s.sleepers) w->task->fiber().wake();
}

Result<long> SemTable::get(Task& t, int32_t key, int count, int flags) {
  if (count < 0 || count > kMaxPerSet) return kEINVAL;
  Impl& i = *impl_;
  MutexLock l(i.mu);
  auto fits = [&](Set& s) { return static_cast<size_t>(count) > s.sems.size() ? Result<void>(kEINVAL) : Result<void>(); };
  auto make = [&]() NO_THREAD_SAFETY_ANALYSIS -> Result<Ref<Set>> {  // called under the lock
    if (count == 0) return kEINVAL;
    if (i.total + count > kMaxAll) return kENOSPC;
    return make_ref<Set>(static_cast<size_t>(count));
  };
  const size_t before = i.ids.size();
  int id = TRY(i.ids.get(key, flags, t.own_credentials(), kMaxSets, fits, make));
  if (i.ids.size() != before) i.total += count;
  return long{id};
}

Result<long> SemTable::operate(Task& t, int id, const std::vector<sembuf>& ops, sched::Nanos deadline) {
  if (id < 0 || ops.empty()) return kEINVAL;
  if (ops.size() > kMaxOps) return kE2BIG;
  bool alters = false, undoes = false;
  for (const sembuf& op : ops) {
    alters |= op.sem_op != 0;
    undoes |= (op.sem_flg & SEM_UNDO) && op.sem_op != 0;
  }
  RefOrNull<SemUndo> undo;
  if (undoes) undo = undo_of(t);
  Impl& i = *impl_;
  RefOrNull<Set> set;
  {
    MutexLock l(i.mu);
    set = TRY(i.ids.find(id));
    for (const sembuf& op : ops)
      if (op.sem_num >= set->sems.size()) return kEFBIG;
    if (!set->owner.permits(t.own_credentials(), alters ? 0222 : 0444)) return kEACCES;
  }
  Errno error = kEINTR;
  Attempt a = Attempt::waits;
  Sleeper self{&t, &ops};
  bool queued = false;
  auto attempt = [&] {
    MutexLock l(i.mu);
    if (set->removed) {
      error = kEIDRM;
      a = Attempt::failed;
      return true;
    }
    if (undo) {
      a = i.attempt_locked(*set, t, ops, &valid_adjust(undo->adjust[id], *set), &error, &self.blocking);
    } else {
      a = i.attempt_locked(*set, t, ops, nullptr, &error, &self.blocking);
    }
    if (a == Attempt::waits && !queued) {
      set->sleepers.push_back(&self);
      queued = true;
    }
    if (a != Attempt::waits && queued) {
      set->sleepers.remove(&self);
      queued = false;
    }
    if (a == Attempt::done && alters) i.wake_locked(*set);
    return a != Attempt::waits;
  };
  sched::WaitQueue nothing;
  Result<void> r = sched::wait_for(nothing, attempt, deadline);
  if (!r.ok()) {
    MutexLock l(i.mu);
    if (queued) set->sleepers.remove(&self);
    return r.error() == kETIMEDOUT ? kEAGAIN : kEINTR;  // never restarted: man 7 signal
  }
  if (a == Attempt::failed) return error;
  return 0L;
}

Result<long> SemTable::control(Task& t, int id, int num, int command, uint64_t arg) {
  const auth::Credentials& c = t.own_credentials();
  Impl& i = *impl_;
  constexpr int kStatAny = 20;
  switch (command) {
    case IPC_INFO:
    case SEM_INFO: {
      seminfo info{};
      info.semmni = kMaxSets;
      info.semmns = kMaxAll;
      info.semmsl = kMaxPerSet;
      info.semopm = info.semume = kMaxOps;
      info.semvmx = info.semaem = kMaxValue;
      info.semmnu = kMaxAll;
      info.semmap = kMaxAll;
      info.semusz = 20;
      long highest;
      {
        MutexLock l(i.mu);
        highest = i.ids.highest();
        if (command == SEM_INFO) {
          info.semusz = static_cast<int>(i.ids.size());
          info.semaem = i.total;
        }
      }
      TRY(mm::UserOut<seminfo>(arg).copy_out(t.context(), info));
      return highest;
    }
    case IPC_STAT:
    case SEM_STAT:
    case kStatAny: {
      SemidAbi a{};
      long result = 0;
      {
        MutexLock l(i.mu);
        Ref<Set> s = command == IPC_STAT ? TRY(i.ids.find(id)) : TRY(i.ids.find_index(id));
        if (command != kStatAny && !s->owner.permits(c, 0444)) return kEACCES;
        a.perm = s->owner.abi(c);
        a.otime = s->otime;
        a.ctime = s->ctime;
        a.nsems = s->sems.size();
        if (command != IPC_STAT) result = s->owner.id;
      }
      TRY(mm::UserOut<SemidAbi>(arg).copy_out(t.context(), a));
      return result;
    }
    case IPC_SET:
    case IPC_RMID: {
      SemidAbi a{};
      if (command == IPC_SET) a = TRY(mm::UserIn<SemidAbi>(arg).copy_in(t.context()));
      RefOrNull<Set> s;
      MutexLock l(i.mu);
      s = TRY(i.ids.find(id));
      if (!s->owner.owned_by(c)) return kEPERM;
      if (command == IPC_SET) {
        TRY(s->owner.set(a.perm, c));
        s->ctime = ipc_now();
      } else {
        i.remove_locked(*s);
      }
      return 0L;
    }
    case GETALL:
    case SETALL: {
      size_t n;
      {
        MutexLock l(i.mu);
        Ref<Set> s = TRY(i.ids.find(id));
        n = s->sems.size();
        if (!s->owner.permits(c, command == GETALL ? 0444 : 0222)) return kEACCES;
      }
      std::vector<uint16_t> values(n);
      if (command == SETALL) {
        values = TRY(mm::UserIn<uint16_t>(arg).copy_in_array(t.context(), n));
        for (uint16_t v : values)
          if (v > kMaxValue) return kERANGE;
      }
      {
        MutexLock l(i.mu);
        Ref<Set> s = TRY(i.ids.find(id));
        if (s->sems.size() != n) return kEIDRM;
        for (size_t k = 0; k < n; k++) {
          if (command == GETALL) values[k] = s->sems[k].value;
          else s->sems[k] = Semaphore{values[k], t.group().pid()};
        }
        if (command == SETALL) {
          s->ctime = ipc_now();
          for (size_t k = 0; k < n; k++) s->forget_undo(k);
          i.wake_locked(*s);
        }
      }
      if (command == GETALL) TRY(mm::UserOut<void>(arg).copy_bytes_out(t.context(), values.data(), n * sizeof values[0]));
      return 0L;
    }
    case GETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT:
    case SETVAL: {
      const int value = static_cast<int>(arg);
      if (command == SETVAL && (value < 0 || value > kMaxValue)) return kERANGE;
      MutexLock l(i.mu);
      Ref<Set> s = TRY(i.ids.find(id));
      if (!s->owner.permits(c, command == SETVAL ? 0222 : 0444)) return kEACCES;
      if (num < 0 || static_cast<size_t>(num) >= s->sems.size()) return kEINVAL;
      Semaphore& sem = s->sems[static_cast<size_t>(num)];
      switch (command) {
        case GETVAL: return long{sem.value};
        case GETPID: return long{sem.pid};
        case SETVAL:
          sem = Semaphore{static_cast<uint16_t>(value), t.group().pid()};
          s->ctime = ipc_now();
          s->forget_undo(static_cast<size_t>(num));
          i.wake_locked(*s);
          return 0L;
        default: break;
      }
      long count = 0;
      for (Sleeper* w : s->sleepers) {
        const sembuf& op = (*w->ops)[w->blocking];
        if (op.sem_num == num && (op.sem_op == 0) == (command == GETZCNT)) count++;
      }
      return count;
    }
    default:
      return kEINVAL;
  }
}

void SemTable::undo(SemUndo& list, int pid) {
  Impl& i = *impl_;
  MutexLock l(i.mu);
  std::map<int, std::vector<SemUndo::Adjust>> adjust;
  adjust.swap(list.adjust);
  for (auto& [id, values] : adjust) {
    Result<Ref<Set>> s = i.ids.find(id);
    if (!s.ok()) continue;
    for (size_t k = 0; k < std::min(values.size(), (*s)->sems.size()); k++) {
      if (values[k].value == 0 || values[k].resets != (*s)->resets[k]) continue;
      Semaphore& sem = (*s)->sems[k];
      sem.value = static_cast<uint16_t>(std::clamp(sem.value + values[k].value, 0, kMaxValue));
      sem.pid = pid;
    }
    (*s)->otime = ipc_now();
    i.wake_locked(**s);
  }
}

std::string SemTable::proc_text() {
  std::string out = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  MutexLock l(impl_->mu);
  for (const Ref<Set>& s : impl_->ids.all()) {
    char line[160];
    snprintf(line, sizeof line, "%10d %10d  %4o %10zu %5u %5u %5u %5u %10lld %10lld\n", s->owner.key, s->owner.id, s->owner.mode,
             s->sems.size(), s->owner.uid, s->owner.gid, s->owner.cuid, s->owner.cgid, static_cast<long long>(s->otime),
             static_cast<long long>(s->ctime));
    out += line;
  }
  return out;
}

Ref<SemUndo> undo_of(Task& t) {
  MutexLock l(t.impl().mu);
  if (!t.impl().sem_undo) t.impl().sem_undo = make_ref<SemUndo>();
  return t.impl().sem_undo.get_ref();
}

void leave_undo(Task& t) {
  static constinit Mutex leaving{LockRank::kFsContext};
  RefOrNull<SemUndo> list;
  RefOrNull<IpcNamespace> ns;
  {
    MutexLock l(t.impl().mu);
    std::swap(list, t.impl().sem_undo);
    ns = t.impl().ipc;
  }
  if (!list) return;
  {
    // Threads that leave together, one after the other: exactly one of them is the last.
    MutexLock l(leaving);
    if (list->ref_count() > 1) list = nullptr;
  }
  if (list && ns) ns->sem().undo(*list, t.group().pid());
}

}  // namespace sentry::kernel

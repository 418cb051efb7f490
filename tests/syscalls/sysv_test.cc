// SPDX-License-Identifier: Apache-2.0
// System V IPC: shared memory, semaphores, messages. Passes on Linux first, then in the sandbox.
#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/checks.h"

namespace {

key_t fresh_key() {
  static int n = 0;
  return static_cast<key_t>(0x5eed0000 + (getpid() % 256) * 256 + n++);
}
void nothing(int) {}
void no_restart_handler() {
  struct sigaction a{};
  a.sa_handler = nothing;
  a.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &a, nullptr);
}

// ---- Shared memory ----

struct Shm {
  int id;
  explicit Shm(size_t size = 8192, int flags = IPC_CREAT | 0600) : id(shmget(IPC_PRIVATE, size, flags)) { EXPECT_GE(id, 0); }
  ~Shm() { shmctl(id, IPC_RMID, nullptr); }
  shmid_ds stat() const {
    shmid_ds d{};
    EXPECT_EQ(shmctl(id, IPC_STAT, &d), 0);
    return d;
  }
};

TEST(Shm, IsSharedByAllAttachments) {
  Shm s;
  char* a = static_cast<char*>(shmat(s.id, nullptr, 0));
  char* b = static_cast<char*>(shmat(s.id, nullptr, 0));
  ASSERT_NE(a, reinterpret_cast<char*>(-1));
  EXPECT_NE(a, b);
  strcpy(a, "hello");
  EXPECT_STREQ(b, "hello");
  EXPECT_EQ(s.stat().shm_nattch, 2u);
  pid_t p = child([&] {
    EXPECT_STREQ(a, "hello");
    strcpy(b, "child");
  });
  EXPECT_EQ(status_of(p), 0);
  EXPECT_STREQ(a, "child");
  EXPECT_EQ(shmdt(a), 0);
  EXPECT_EQ(s.stat().shm_nattch, 1u);
  EXPECT_ERRNO(shmdt(a), EINVAL);
  EXPECT_EQ(shmdt(b), 0);
  EXPECT_EQ(s.stat().shm_nattch, 0u);
}

TEST(Shm, Facts) {
  time_t now = time(nullptr);
  Shm s(5000, IPC_CREAT | 0640);
  shmid_ds d = s.stat();
  EXPECT_EQ(d.shm_segsz, 5000u);
  EXPECT_EQ(d.shm_perm.mode & 0777, 0640);
  EXPECT_EQ(d.shm_perm.uid, geteuid());
  EXPECT_EQ(d.shm_perm.cgid, getegid());
  EXPECT_EQ(d.shm_cpid, getpid());
  EXPECT_EQ(d.shm_lpid, 0);
  EXPECT_EQ(d.shm_atime, 0);
  EXPECT_NEAR(static_cast<double>(d.shm_ctime), static_cast<double>(now), 3);
  void* a = shmat(s.id, nullptr, SHM_RDONLY);
  EXPECT_EQ(s.stat().shm_lpid, getpid());
  EXPECT_NE(s.stat().shm_atime, 0);
  shmdt(a);
  EXPECT_NE(s.stat().shm_dtime, 0);
}

TEST(Shm, Keys) {
  key_t k = fresh_key();
  EXPECT_ERRNO(shmget(k, 4096, 0600), ENOENT);
  int id = shmget(k, 4096, IPC_CREAT | IPC_EXCL | 0600);
  ASSERT_GE(id, 0);
  EXPECT_EQ(shmget(k, 4096, IPC_CREAT | 0600), id);
  EXPECT_EQ(shmget(k, 0, 0), id);
  EXPECT_ERRNO(shmget(k, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EXPECT_ERRNO(shmget(k, 8192, 0600), EINVAL);
  EXPECT_EQ(shmctl(id, IPC_RMID, nullptr), 0);
  EXPECT_ERRNO(shmget(k, 4096, 0600), ENOENT);
  EXPECT_ERRNO(shmctl(id, IPC_RMID, nullptr), EINVAL);
  EXPECT_ERRNO(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
}

TEST(Shm, RemovedLivesUntilTheLastDetach) {
  int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  char* a = static_cast<char*>(shmat(id, nullptr, 0));
  EXPECT_EQ(shmctl(id, IPC_RMID, nullptr), 0);
  strcpy(a, "still there");
  shmid_ds d{};
  EXPECT_EQ(shmctl(id, IPC_STAT, &d), 0);
  EXPECT_TRUE(d.shm_perm.mode & 01000);
  void* b = shmat(id, nullptr, 0);  // Linux allows it
  EXPECT_NE(b, reinterpret_cast<void*>(-1));
  shmdt(b);
  EXPECT_STREQ(a, "still there");
  shmdt(a);
  EXPECT_ERRNO(shmctl(id, IPC_STAT, &d), EINVAL);
}

TEST(Shm, ForkAndExitCount) {
  Shm s;
  void* a = shmat(s.id, nullptr, 0);
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  pid_t p = child([&] {
    char c;
    EXPECT_EQ(read(go[0], &c, 1), 1);
  });
  EXPECT_EQ(s.stat().shm_nattch, 2u);
  EXPECT_EQ(write(go[1], "x", 1), 1);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(s.stat().shm_nattch, 1u);
  shmdt(a);
}

TEST(Shm, Addresses) {
  Shm s(8192);
  void* place = mmap(nullptr, 1 << 20, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  munmap(place, 1 << 20);
  char* at = static_cast<char*>(place);
  EXPECT_EQ(shmat(s.id, at, 0), at);
  EXPECT_ERRNO(shmat(s.id, at, 0), EINVAL);                   // taken
  EXPECT_EQ(shmat(s.id, at, SHM_REMAP), at);
  EXPECT_ERRNO(shmat(s.id, at + 100, 0), EINVAL);
  EXPECT_EQ(shmat(s.id, at + 65536 + 100, SHM_RND), at + 65536);
  EXPECT_ERRNO(shmat(s.id, nullptr, SHM_REMAP), EINVAL);
  EXPECT_EQ(shmdt(at), 0);
  EXPECT_EQ(shmdt(at + 65536), 0);
  EXPECT_ERRNO(shmdt(at + 1), EINVAL);
  EXPECT_ERRNO(shmat(-1, nullptr, 0), EINVAL);
  EXPECT_ERRNO(shmat(s.id + 1000000, nullptr, 0), EINVAL);
}

TEST(Shm, ReadOnlyFaults) {
  Shm s;
  char* a = static_cast<char*>(shmat(s.id, nullptr, SHM_RDONLY));
  EXPECT_EQ(a[0], 0);
  pid_t p = child([&] { *const_cast<volatile char*>(a) = 1; });
  EXPECT_EQ(WTERMSIG(status_of(p)), SIGSEGV);
  shmdt(a);
}

TEST(Shm, AfterPartsWereUnmapped) {
  Shm s(4 * 4096);
  char* a = static_cast<char*>(shmat(s.id, nullptr, 0));
  EXPECT_EQ(munmap(a + 4096, 4096), 0);
  EXPECT_EQ(shmdt(a), 0);
  unsigned char v;
  EXPECT_ERRNO(mincore(a + 8192, 4096, &v), ENOMEM);
  EXPECT_EQ(s.stat().shm_nattch, 0u);
}

TEST(Shm, SetAndPermissions) {
  Shm s(4096, IPC_CREAT | 0600);
  shmid_ds d = s.stat();
  d.shm_perm.mode = 0400;
  EXPECT_EQ(shmctl(s.id, IPC_SET, &d), 0);
  EXPECT_EQ(s.stat().shm_perm.mode & 0777, 0400);
  if (geteuid() != 0) GTEST_SKIP();
  pid_t p = child([&] {
    EXPECT_EQ(setresuid(1000, 1000, 1000), 0);
    EXPECT_ERRNO(shmat(s.id, nullptr, 0), EACCES);
    EXPECT_ERRNO(shmctl(s.id, IPC_STAT, &d), EACCES);
    EXPECT_ERRNO(shmctl(s.id, IPC_RMID, nullptr), EPERM);
    EXPECT_ERRNO(shmctl(s.id, IPC_SET, &d), EPERM);
  });
  EXPECT_EQ(status_of(p), 0);
}

TEST(Shm, Lists) {
  Shm s(4096);
  shminfo info{};
  int highest = shmctl(0, IPC_INFO, reinterpret_cast<shmid_ds*>(&info));
  EXPECT_GE(highest, 0);
  EXPECT_EQ(info.shmmin, 1u);
  EXPECT_EQ(info.shmmni, 4096u);
  bool found = false;
  for (int i = 0; i <= highest; i++) {
    shmid_ds d{};
    int id = shmctl(i, SHM_STAT, &d);
    if (id == s.id) found = true;
  }
  EXPECT_TRUE(found);
  struct shm_info used{};
  EXPECT_GE(shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&used)), 0);
  EXPECT_GE(used.used_ids, 1);
  EXPECT_EQ(shmctl(s.id, SHM_LOCK, nullptr), 0);
  EXPECT_TRUE(s.stat().shm_perm.mode & 02000);
  EXPECT_EQ(shmctl(s.id, SHM_UNLOCK, nullptr), 0);
  EXPECT_ERRNO(shmctl(s.id, 77, nullptr), EINVAL);
  EXPECT_ERRNO(shmctl(s.id, IPC_STAT, reinterpret_cast<shmid_ds*>(8)), EFAULT);
}

// ---- Semaphores ----

union semun {
  int val;
  semid_ds* buf;
  unsigned short* array;
  seminfo* info;
};
struct Sem {
  int id;
  explicit Sem(int n = 1) : id(semget(IPC_PRIVATE, n, IPC_CREAT | 0600)) { EXPECT_GE(id, 0); }
  ~Sem() { semctl(id, 0, IPC_RMID); }
  int value(int n = 0) { return semctl(id, n, GETVAL); }
  void set(int v, int n = 0) {
    semun u;
    u.val = v;
    EXPECT_EQ(semctl(id, n, SETVAL, u), 0);
  }
  int op(short d, short flags = 0, unsigned short n = 0) {
    sembuf b{n, d, flags};
    return semop(id, &b, 1);
  }
};

TEST(Sem, Counts) {
  Sem s(3);
  EXPECT_EQ(s.value(), 0);
  EXPECT_EQ(s.op(3), 0);
  EXPECT_EQ(s.op(-1), 0);
  EXPECT_EQ(s.value(), 2);
  EXPECT_EQ(semctl(s.id, 0, GETPID), getpid());
  EXPECT_ERRNO(s.op(-5, IPC_NOWAIT), EAGAIN);
  EXPECT_ERRNO(s.op(0, IPC_NOWAIT), EAGAIN);
  EXPECT_EQ(s.op(0, IPC_NOWAIT, 1), 0);
  EXPECT_ERRNO(s.op(1, 0, 3), EFBIG);
  s.set(32767);
  EXPECT_ERRNO(s.op(1), ERANGE);
  semun u;
  u.val = 32768;
  EXPECT_ERRNO(semctl(s.id, 0, SETVAL, u), ERANGE);
  EXPECT_ERRNO(semctl(s.id, 5, GETVAL), EINVAL);
}

TEST(Sem, AllOrNothing) {
  Sem s(2);
  s.set(5);
  sembuf ops[2] = {{0, -3, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
  EXPECT_ERRNO(semop(s.id, ops, 2), EAGAIN);
  EXPECT_EQ(s.value(), 5);
  s.set(1, 1);
  EXPECT_EQ(semop(s.id, ops, 2), 0);
  EXPECT_EQ(s.value(), 2);
  EXPECT_EQ(s.value(1), 0);
}

TEST(Sem, WaitsForAnother) {
  Sem s;
  pid_t p = child([&] { EXPECT_EQ(s.op(-2), 0); });
  for (int i = 0; i < 1000 && semctl(s.id, 0, GETNCNT) != 1; i++) usleep(1000);
  EXPECT_EQ(semctl(s.id, 0, GETNCNT), 1);
  EXPECT_EQ(semctl(s.id, 0, GETZCNT), 0);
  EXPECT_EQ(s.op(1), 0);
  usleep(20000);
  EXPECT_EQ(s.op(1), 0);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(s.value(), 0);
}

TEST(Sem, WaitsForZero) {
  Sem s;
  s.set(2);
  pid_t p = child([&] { EXPECT_EQ(s.op(0), 0); });
  for (int i = 0; i < 1000 && semctl(s.id, 0, GETZCNT) != 1; i++) usleep(1000);
  EXPECT_EQ(semctl(s.id, 0, GETZCNT), 1);
  EXPECT_EQ(s.op(-2), 0);
  EXPECT_EQ(status_of(p), 0);
}

TEST(Sem, UndoAtExit) {
  Sem s;
  s.set(1);
  pid_t p = child([&] {
    EXPECT_EQ(s.op(-1, SEM_UNDO), 0);
    EXPECT_EQ(s.op(4), 0);  // without undo
    _exit(0);
  });
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(s.value(), 5);
}

TEST(Sem, UndoOfAKilledOneWakes) {
  Sem s;
  s.set(1);
  pid_t p = child([&] {
    EXPECT_EQ(s.op(-1, SEM_UNDO), 0);
    for (;;) pause();
  });
  while (s.value() != 0) usleep(1000);
  std::thread killer([&] {
    usleep(50000);
    kill(p, SIGKILL);
  });
  EXPECT_EQ(s.op(-1), 0);
  killer.join();
  status_of(p);
  EXPECT_EQ(s.value(), 0);
}

TEST(Sem, SetvalForgetsUndo) {
  Sem s;
  s.set(5);
  int go[2], back[2];
  ASSERT_EQ(pipe(go), 0);
  ASSERT_EQ(pipe(back), 0);
  pid_t p = child([&] {
    char c;
    EXPECT_EQ(s.op(-2, SEM_UNDO), 0);
    EXPECT_EQ(write(back[1], "x", 1), 1);
    EXPECT_EQ(read(go[0], &c, 1), 1);
  });
  char c;
  EXPECT_EQ(read(back[0], &c, 1), 1);
  s.set(7);
  EXPECT_EQ(write(go[1], "x", 1), 1);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(s.value(), 7);
}

TEST(Sem, ThreadsShareTheUndoList) {
  Sem s;
  s.set(3);
  pid_t p = child([&] {
    std::thread([&] { EXPECT_EQ(s.op(-1, SEM_UNDO), 0); }).join();
    EXPECT_EQ(s.value(), 2);  // the thread's end undoes nothing
  });
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(s.value(), 3);
}

TEST(Sem, TimeOutAndSignals) {
  Sem s;
  sembuf b{0, -1, 0};
  timespec t{0, 30000000};
  EXPECT_ERRNO(semtimedop(s.id, &b, 1, &t), EAGAIN);
  t.tv_nsec = 2000000000;
  EXPECT_ERRNO(semtimedop(s.id, &b, 1, &t), EINVAL);
  no_restart_handler();
  ualarm(30000, 0);
  EXPECT_ERRNO(semop(s.id, &b, 1), EINTR);  // SA_RESTART or not
}

TEST(Sem, RemovedWhileSomebodyWaits) {
  int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  pid_t p = child([&] {
    sembuf b{0, -1, 0};
    EXPECT_ERRNO(semop(id, &b, 1), EIDRM);
  });
  for (int i = 0; i < 1000 && semctl(id, 0, GETNCNT) != 1; i++) usleep(1000);
  EXPECT_EQ(semctl(id, 0, IPC_RMID), 0);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_ERRNO(semctl(id, 0, GETVAL), EINVAL);
}

TEST(Sem, AllAtOnce) {
  Sem s(4);
  unsigned short in[4] = {1, 2, 3, 4}, out[4] = {};
  semun u;
  u.array = in;
  EXPECT_EQ(semctl(s.id, 0, SETALL, u), 0);
  u.array = out;
  EXPECT_EQ(semctl(s.id, 0, GETALL, u), 0);
  EXPECT_EQ(memcmp(in, out, sizeof in), 0);
  in[2] = 40000;
  u.array = in;
  EXPECT_ERRNO(semctl(s.id, 0, SETALL, u), ERANGE);
  semid_ds d{};
  u.buf = &d;
  EXPECT_EQ(semctl(s.id, 0, IPC_STAT, u), 0);
  EXPECT_EQ(d.sem_nsems, 4u);
  EXPECT_EQ(d.sem_perm.mode & 0777, 0600);
  seminfo info{};
  u.info = &info;
  EXPECT_GE(semctl(0, 0, IPC_INFO, u), 0);
  EXPECT_EQ(info.semvmx, 32767);
  EXPECT_EQ(info.semopm, 500);
}

TEST(Sem, GetErrors) {
  EXPECT_ERRNO(semget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  EXPECT_ERRNO(semget(IPC_PRIVATE, -1, IPC_CREAT | 0600), EINVAL);
  EXPECT_ERRNO(semget(IPC_PRIVATE, 100000, IPC_CREAT | 0600), EINVAL);
  key_t k = fresh_key();
  EXPECT_ERRNO(semget(k, 1, 0), ENOENT);
  int id = semget(k, 2, IPC_CREAT | 0600);
  EXPECT_EQ(semget(k, 0, 0), id);
  EXPECT_ERRNO(semget(k, 3, 0), EINVAL);
  EXPECT_EQ(semctl(id, 0, IPC_RMID), 0);
  sembuf b{0, 1, 0};
  EXPECT_ERRNO(semop(-1, &b, 1), EINVAL);
  Sem s;
  EXPECT_ERRNO(semop(s.id, &b, 0), EINVAL);
  EXPECT_ERRNO(semop(s.id, &b, 501), E2BIG);
  EXPECT_ERRNO(semop(s.id, reinterpret_cast<sembuf*>(8), 1), EFAULT);
}

TEST(Sem, Mutex) {
  Sem s;
  s.set(1);
  auto* counter = static_cast<volatile int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t p[3];
  for (pid_t& x : p)
    x = child([&] {
      for (int i = 0; i < 200; i++) {
        EXPECT_EQ(s.op(-1, SEM_UNDO), 0);
        *counter = *counter + 1;
        EXPECT_EQ(s.op(1, SEM_UNDO), 0);
      }
    });
  for (pid_t x : p) EXPECT_EQ(status_of(x), 0);
  EXPECT_EQ(*counter, 600);
  EXPECT_EQ(s.value(), 1);
}

// ---- Messages ----

struct Text {
  long type;
  char text[128];
};
struct Queue {
  int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  ~Queue() { msgctl(id, IPC_RMID, nullptr); }
  int send(long type, const char* t, int flags = 0) {
    Text m{type, {}};
    strcpy(m.text, t);
    return msgsnd(id, &m, strlen(t) + 1, flags);
  }
  std::string receive(long type, int flags = IPC_NOWAIT, long* got = nullptr) {
    Text m{};
    ssize_t n = msgrcv(id, &m, sizeof m.text, type, flags);
    if (n < 0) return std::string("error ") + std::to_string(errno);
    if (got) *got = m.type;
    return m.text;
  }
};

TEST(Msg, Types) {
  Queue q;
  for (auto [type, text] : {std::pair{3l, "three"}, {1l, "one"}, {2l, "two"}, {1l, "one again"}}) EXPECT_EQ(q.send(type, text), 0);
  EXPECT_EQ(q.receive(2), "two");
  EXPECT_EQ(q.receive(-2), "one");
  long type = 0;
  EXPECT_EQ(q.receive(0, IPC_NOWAIT, &type), "three");
  EXPECT_EQ(type, 3);
  EXPECT_EQ(q.send(5, "five"), 0);
  EXPECT_EQ(q.receive(1, IPC_NOWAIT | MSG_EXCEPT), "five");
  EXPECT_EQ(q.receive(0), "one again");
  Text m;
  EXPECT_ERRNO(msgrcv(q.id, &m, 10, 0, IPC_NOWAIT), ENOMSG);
}

TEST(Msg, Sizes) {
  Queue q;
  Text m{1, {}};
  EXPECT_EQ(q.send(1, "0123456789"), 0);
  EXPECT_ERRNO(msgrcv(q.id, &m, 4, 0, 0), E2BIG);
  EXPECT_EQ(msgrcv(q.id, &m, 4, 0, MSG_NOERROR), 4);
  EXPECT_EQ(memcmp(m.text, "0123", 4), 0);
  EXPECT_EQ(msgsnd(q.id, &m, 0, 0), 0);
  EXPECT_EQ(msgrcv(q.id, &m, 4, 0, 0), 0);
  EXPECT_ERRNO(msgsnd(q.id, &m, 8193, 0), EINVAL);
  m.type = 0;
  EXPECT_ERRNO(msgsnd(q.id, &m, 1, 0), EINVAL);
  EXPECT_ERRNO(msgsnd(q.id, reinterpret_cast<void*>(8), 1, 0), EFAULT);
  EXPECT_ERRNO(msgsnd(-1, &m, 1, 0), EINVAL);
}

TEST(Msg, AFullQueueWaits) {
  Queue q;
  static char big[8 + 8192];
  *reinterpret_cast<long*>(big) = 1;
  EXPECT_EQ(msgsnd(q.id, big, 8192, IPC_NOWAIT), 0);
  EXPECT_EQ(msgsnd(q.id, big, 8192, IPC_NOWAIT), 0);
  EXPECT_ERRNO(msgsnd(q.id, big, 1, IPC_NOWAIT), EAGAIN);
  msqid_ds d{};
  EXPECT_EQ(msgctl(q.id, IPC_STAT, &d), 0);
  EXPECT_EQ(d.msg_qnum, 2u);
  EXPECT_EQ(d.msg_qbytes, 16384u);
  EXPECT_EQ(d.msg_lspid, getpid());
  pid_t p = child([&] { EXPECT_EQ(msgsnd(q.id, big, 8192, 0), 0); });
  usleep(50000);
  EXPECT_EQ(msgrcv(q.id, big, 8192, 0, 0), 8192);
  EXPECT_EQ(status_of(p), 0);
}

TEST(Msg, AReceiverWaitsForItsType) {
  Queue q;
  pid_t p = child([&] { EXPECT_EQ(q.receive(7, 0), "seven"); });
  usleep(50000);
  EXPECT_EQ(q.send(6, "six"), 0);
  EXPECT_EQ(q.send(7, "seven"), 0);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(q.receive(0), "six");
}

TEST(Msg, RemovalAndSignals) {
  Queue q;
  pid_t p = child([&] {
    Text m;
    EXPECT_ERRNO(msgrcv(q.id, &m, 10, 0, 0), EIDRM);
  });
  usleep(50000);
  EXPECT_EQ(msgctl(q.id, IPC_RMID, nullptr), 0);
  EXPECT_EQ(status_of(p), 0);
  Queue r;
  no_restart_handler();
  ualarm(30000, 0);
  Text m;
  EXPECT_ERRNO(msgrcv(r.id, &m, 10, 0, 0), EINTR);
}

TEST(Msg, SetAndLists) {
  Queue q;
  msqid_ds d{};
  EXPECT_EQ(msgctl(q.id, IPC_STAT, &d), 0);
  d.msg_perm.mode = 0644;
  d.msg_qbytes = 100;
  EXPECT_EQ(msgctl(q.id, IPC_SET, &d), 0);
  EXPECT_EQ(msgctl(q.id, IPC_STAT, &d), 0);
  EXPECT_EQ(d.msg_perm.mode & 0777, 0644);
  EXPECT_EQ(d.msg_qbytes, 100u);
  char big[8 + 101] = {1};
  EXPECT_ERRNO(msgsnd(q.id, big, 101, IPC_NOWAIT), EAGAIN);
  msginfo info{};
  EXPECT_GE(msgctl(0, IPC_INFO, reinterpret_cast<msqid_ds*>(&info)), 0);
  EXPECT_EQ(info.msgmax, 8192);
  EXPECT_EQ(info.msgmnb, 16384);
}

TEST(IpcNamespace, Unshare) {
  if (geteuid() != 0) GTEST_SKIP();
  key_t k = fresh_key();
  int id = shmget(k, 4096, IPC_CREAT | 0600);
  pid_t p = child([&] {
    if (unshare(CLONE_NEWIPC) != 0) return;
    EXPECT_ERRNO(shmget(k, 4096, 0), ENOENT);
    EXPECT_GE(shmget(k, 4096, IPC_CREAT | 0600), 0);
  });
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(shmctl(id, IPC_RMID, nullptr), 0);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// The zygote's start: from a freshly executed program to a stub without anything but the blob. Descriptor 3 is a
// socket to the sentry. Runs without a filter until zygote_finish() installs it; sees no hostile input before.
#include "sentry/platform/stub/stub.h"

namespace sentry::platform::stub {
namespace {

constexpr long kMmap = 9, kMunmap = 11, kMremap = 25, kMincore = 27, kMadvise = 28, kYield = 24,
               kSendmsg = 46, kRecvmsg = 47, kPrctl = 157, kSigaltstack = 131, kFutex = 202, kSeccomp = 317, kCloseRange = 436,
               kMseal = 462, kExitGroup = 231;
constexpr long kSocket = 3;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kUserEnd = 0x7ffffffff000;

// What steps of the start leave for the next, in the data area of slot 0.
struct Start {
  ZygoteAnswer answer;
  uint64_t token;
  uint32_t listener;    // descriptor + 1, once it is there
  uint32_t helper_tid;  // cleared by the kernel when the helper has gone
};

struct Message {
  void* name;
  uint64_t name_length;
  struct Part {
    void* base;
    uint64_t length;
  }* parts;
  uint64_t part_count;
  void* control;
  uint64_t control_length;
  uint64_t flags;
};
struct alignas(8) Rights {  // cmsghdr and two descriptors
  uint64_t length;
  int32_t level, type;
  int32_t fds[2];
};

bool failed(long r) { return static_cast<unsigned long>(r) > -4096ul; }
template <typename T>
long word(T* p) {
  return reinterpret_cast<long>(p);
}

void send_answer(ZygoteAnswer& a, int fd) {
  Message::Part part{&a, sizeof a};
  Rights rights{16 + 4, 1, 1, {fd, 0}};
  Message m{nullptr, 0, &part, 1, fd >= 0 ? &rights : nullptr, fd >= 0 ? sizeof rights : 0, 0};
  stub_start_call(kSendmsg, kSocket, word(&m), 0);
}

[[noreturn]] void give_up(int step, long r) {
  ZygoteAnswer a{kZygoteMagic, step << 16 | -r, 0, 0, 0};
  send_answer(a, -1);
  for (;;) stub_start_call(kExitGroup, 1);
}
#define STEP(n, call)                     \
  do {                                    \
    long step_result = (call);            \
    if (failed(step_result)) give_up(n, step_result); \
  } while (0)

// End of the vDSO by its program headers.
uint64_t vdso_end(uint64_t base) {
  auto* e = reinterpret_cast<const unsigned char*>(base);
  uint64_t phoff = *reinterpret_cast<const uint64_t*>(e + 32), end = 0;
  unsigned size = *reinterpret_cast<const uint16_t*>(e + 54), count = *reinterpret_cast<const uint16_t*>(e + 56);
  for (unsigned i = 0; i < count; i++) {
    auto* p = e + phoff + i * size;
    if (*reinterpret_cast<const uint32_t*>(p) != 1) continue;  // PT_LOAD
    uint64_t to = *reinterpret_cast<const uint64_t*>(p + 16) + *reinterpret_cast<const uint64_t*>(p + 40);
    if (to > end) end = to;
  }
  return base + ((end + kPage - 1) & ~(kPage - 1));
}

// Moves [vvar], [vvar_vclock] and [vdso], whose sizes the kernel does not tell: such a mapping moves whole or not at
// all, so try lengths from one page on.
void move_vdso(uint64_t vdso, ZygoteAnswer& a) {
  if (vdso == 0) return;
  uint64_t end = vdso_end(vdso), low = vdso;
  unsigned char resident;
  for (int i = 0; i < 64 && stub_start_call(kMincore, static_cast<long>(low - kPage), kPage, word(&resident)) == 0; i++)
    low -= kPage;
  for (uint64_t from = low; from < end;) {
    uint64_t length = kPage;
    for (;; length += kPage) {
      if (from + length > end) give_up(20, -22);
      long r = stub_start_call(kMremap, static_cast<long>(from), static_cast<long>(length), static_cast<long>(length), 3,
                         static_cast<long>(STUB_VDSO_AREA + (from - low)));
      if (!failed(r)) break;
    }
    from += length;
  }
  a.vvar = STUB_VDSO_AREA;
  a.vdso = STUB_VDSO_AREA + (vdso - low);
  a.vdso_end = STUB_VDSO_AREA + (end - low);
}

void map_shared(int step, uint64_t at, uint64_t length, int prot, int fd, uint64_t offset) {
  STEP(step, stub_start_call(kMmap, static_cast<long>(at), static_cast<long>(length), prot, 0x100001, fd,
                       static_cast<long>(offset)));
}

void seal(uint64_t from, uint64_t to) {
  if (zygote_page().have_mseal) STEP(30, stub_start_call(kMseal, static_cast<long>(from), static_cast<long>(to - from), 0));
}

extern "C" const char stub_image_end[];

}  // namespace

extern "C" {

void zygote_start(const uint64_t* stack) {
  ZygoteHello hello{};
  Message::Part part{&hello, sizeof hello};
  Rights rights{};
  Message m{nullptr, 0, &part, 1, &rights, sizeof rights, 0};
  STEP(1, stub_start_call(kRecvmsg, kSocket, word(&m), 0));
  if (hello.magic != kZygoteMagic || rights.length != 16 + 8) give_up(2, -71);
  map_shared(3, STUB_ZYGOTE_PAGE, kZygotePageSize, 1, rights.fds[1], 0);
  map_shared(4, STUB_ZONE, kPage, 1, rights.fds[0], 0);
  map_shared(5, STUB_ZONE + kPage, STUB_ZONE_SIZE - kPage, 3, rights.fds[0], kPage);
  STEP(6, stub_start_call(kMadvise, STUB_ZONE, STUB_ZONE_SIZE, 10));  // DONTFORK
  Slot* s = reinterpret_cast<Slot*>(slot_address(0));
  auto* start = reinterpret_cast<Start*>(s->data);
  start->answer = {kZygoteMagic, 0, 0, 0, 0};
  start->token = hello.token;

  const uint64_t* p = stack + 1 + stack[0] + 1;
  while (*p != 0) p++;
  uint64_t vdso = 0;
  for (p++; p[0] != 0; p += 2)
    if (p[0] == 33) vdso = p[1];  // AT_SYSINFO_EHDR
  move_vdso(vdso, start->answer);

  asm volatile("wrgsbase %0" : : "r"(s));
  STEP(7, stub_start_call(kSigaltstack, word(&s->altstack), 0));
  STEP(8, install_handlers());
  stub_switch(s->header.stack, start);
}

void zygote_finish(void* arg) {
  auto* start = static_cast<Start*>(arg);
  uint64_t text_end = (reinterpret_cast<uint64_t>(stub_image_end) + kPage - 1) & ~(kPage - 1);
  STEP(9, stub_start_call(kMunmap, 0, STUB_TEXT));
  STEP(10, stub_start_call(kMunmap, static_cast<long>(text_end), static_cast<long>(STUB_ZYGOTE_PAGE - text_end)));
  constexpr uint64_t zone_end = uint64_t{STUB_ZONE} + STUB_ZONE_SIZE;
  STEP(11, stub_start_call(kMunmap, static_cast<long>(zone_end), static_cast<long>(kUserEnd - zone_end)));
  seal(STUB_TEXT, text_end);
  seal(STUB_ZYGOTE_PAGE, STUB_ZYGOTE_PAGE + kZygotePageSize);
  seal(STUB_ZONE, zone_end);
  if (start->answer.vdso != 0) seal(start->answer.vvar, start->answer.vdso_end);

  // A listener can only be sent by a thread that the filter does not bind.
  constexpr uint64_t thread = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000;  // + CHILD_CLEARTID
  start->helper_tid = 1;
  STEP(12, stub_spawn(thread, slot_address(1) + STUB_STACK_TOP, &start->helper_tid, start));
  STEP(13, stub_start_call(kPrctl, 38, 1, 0, 0, 0));  // PR_SET_NO_NEW_PRIVS
  struct {
    uint16_t length;
    const uint64_t* filter;
  } program{static_cast<uint16_t>(zygote_page().filter_length), zygote_page().filter};
  long fd = stub_start_call(kSeccomp, 1, 8 | 32, word(&program));  // NEW_LISTENER, WAIT_KILLABLE_RECV
  if (failed(fd)) give_up(14, fd);
  __atomic_store_n(&start->listener, static_cast<uint32_t>(fd) + 1, __ATOMIC_SEQ_CST);
  while (uint32_t tid = __atomic_load_n(&start->helper_tid, __ATOMIC_ACQUIRE))
    stub_wait_call(kFutex, word(&start->helper_tid), 0, tid, 0, 0, 0);
  stub_ask_call(STUB_KNOCK, static_cast<long>(start->token));
  stub_born();
}

void zygote_helper(void* arg) {
  auto* start = static_cast<Start*>(arg);
  uint32_t fd;
  while ((fd = __atomic_load_n(&start->listener, __ATOMIC_ACQUIRE)) == 0) stub_start_call(kYield);
  send_answer(start->answer, static_cast<int>(fd) - 1);
  stub_start_call(kCloseRange, 0, 0xffffffff, 0);
  stub_exit();
}

}  // extern "C"

}  // namespace sentry::platform::stub

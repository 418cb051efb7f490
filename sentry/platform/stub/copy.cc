// SPDX-License-Identifier: Apache-2.0
// What the stub copies in by itself when a call is made, so that most calls need one exchange.
#include "sentry/platform/stub/stub.h"

namespace sentry::platform::stub {
namespace {

enum Kind : uint8_t { kNone, kString, kFixed, kSized, kIovec };
constexpr uint32_t kMaxString = 4096;
// Arguments that are left out are null: nobody has memory there, and asking the processor costs a fault of 3 us.
constexpr uint64_t kLowest = 4096;
struct Iovec {
  uint64_t base, length;
};

// Of a vector that is to be written, its first pieces come too, as long as all of each fits into this.
constexpr uint64_t kMaxInPieces = 4096;

uint32_t bounded(uint64_t n, uint32_t room) { return n < room ? static_cast<uint32_t>(n) : room; }

uint32_t copy_range(Slot* s, uint64_t from, uint32_t offset, uint64_t n, uint32_t room) {
  uint32_t want = bounded(n, room);
  if (want == 0 || from < kLowest || !in_application(from, want)) return 0;
  return want - static_cast<uint32_t>(stub_copy(reinterpret_cast<char*>(s) + offset,
                                                reinterpret_cast<const void*>(from), want));
}

// From where on there is room again.
uint32_t copy_pieces(Slot* s, const CopiedIn& vector, uint32_t offset) {
  auto* const v = reinterpret_cast<const Iovec*>(reinterpret_cast<const char*>(s) + vector.offset);
  const uint64_t count = vector.length / sizeof(Iovec);
  uint64_t left = kMaxInPieces;
  for (unsigned i = 0; i < kMaxPieces; i++) {
    CopiedIn& out = s->header.pieces[i];
    out.length = 0;
    if (i >= count || v[i].length > left) {
      left = 0;
      continue;
    }
    const uint64_t from = v[i].base;
    const uint32_t n = copy_range(s, from, offset, v[i].length, STUB_DATA_OFFSET + STUB_DATA_SIZE - offset);
    out.address = from;
    out.offset = offset;
    out.length = n;
    left -= n;
    offset += n;
  }
  return (offset + 63) & ~63u;
}

}  // namespace

void copy_arguments(Slot* s, const PackedCall& call) {
  uint32_t offset = STUB_DATA_OFFSET;
  for (int i = 0; i < 2; i++) {
    const PackedIn& d = call.in[i];
    CopiedIn& out = s->header.in[i];
    uint32_t room = STUB_DATA_OFFSET + STUB_DATA_SIZE - offset;
    uint64_t from = d.arg < 6 ? s->header.args[d.arg] : 0;
    uint64_t count = d.size_arg < 6 ? s->header.args[d.size_arg] : 0;
    uint32_t n = 0;
    switch (d.kind) {
      case kString: {
        uint32_t limit = bounded(kMaxString, room);
        if (from >= kLowest && from < STUB_APP_LIMIT - kMaxString) {
          long r = stub_copy_string(reinterpret_cast<char*>(s) + offset, reinterpret_cast<const void*>(from), limit);
          if (r >= 0) n = static_cast<uint32_t>(r) + 1;
        }
        break;
      }
      case kFixed:
        n = copy_range(s, from, offset, d.size, room);
        break;
      case kSized:
        n = copy_range(s, from, offset, count > STUB_DATA_SIZE ? STUB_DATA_SIZE : count * d.size, room);
        break;
      case kIovec:
        n = copy_range(s, from, offset, count > 1024 ? 1024 * sizeof(Iovec) : count * sizeof(Iovec), room);
        break;
      default:
        break;
    }
    out.address = from;
    out.offset = offset;
    out.length = n;
    offset = (offset + n + 63) & ~63u;
    if (d.kind == kIovec && d.size != 0) offset = copy_pieces(s, out, offset);
  }
}

}  // namespace sentry::platform::stub

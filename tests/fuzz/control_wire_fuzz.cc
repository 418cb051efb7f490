// SPDX-License-Identifier: Apache-2.0
// libFuzzer: the decoder of the control protocol between runtime and sentry. The first byte chooses a message. What decodes is
// encoded to something that decodes again, to the same bytes.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/wire/control.h"

namespace {

using namespace base::wire;

template <typename T>
void round_trip(std::span<const std::byte> in) {
  auto v = decode<T>(in);
  if (!v.ok()) return;
  auto bytes = encode(*v);
  auto again = decode<T>(bytes);
  CHECK(again.ok());
  CHECK(encode(*again) == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  auto in = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0] % 16) {
    case 0: round_trip<Boot>(in); break;
    case 1: round_trip<ContainerSpec>(in); break;
    case 2: round_trip<ExecRequest>(in); break;
    case 3: round_trip<RequestHeader>(in); break;
    case 4: round_trip<ReplyHeader>(in); break;
    case 5: round_trip<IdRequest>(in); break;
    case 6: round_trip<SignalRequest>(in); break;
    case 7: round_trip<WaitRequest>(in); break;
    case 8: round_trip<WaitReply>(in); break;
    case 9: round_trip<ResizeRequest>(in); break;
    case 10: round_trip<StateReply>(in); break;
    case 11: round_trip<ProcessesReply>(in); break;
    case 12: round_trip<StatsReply>(in); break;
    case 13: round_trip<UpdateRequest>(in); break;
    case 14: round_trip<PidReply>(in); break;
    default: round_trip<Process>(in); break;
  }
  return 0;
}

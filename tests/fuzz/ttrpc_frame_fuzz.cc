// SPDX-License-Identifier: Apache-2.0
// libFuzzer: the decoder of ttrpc's frames. The first byte says how the rest is cut: the same frames come out, whatever the cut,
// and each that is whole is encoded to what it came from.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "shim/rpc/frame.h"

namespace {

std::vector<shim::rpc::Frame> frames_of(std::string_view in, size_t step) {
  shim::rpc::FrameReader r;
  std::vector<shim::rpc::Frame> out;
  for (size_t at = 0; at < in.size(); at += step) {
    r.feed(in.substr(at, step));
    while (auto f = r.next()) out.push_back(std::move(*f));
  }
  CHECK(r.waiting() <= in.size());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view in(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto whole = frames_of(in, in.size() + 1);
  auto cut = frames_of(in, size_t{data[0]} + 1);
  CHECK(whole.size() == cut.size());
  size_t at = 0;
  for (size_t i = 0; i < whole.size(); i++) {
    auto& f = whole[i];
    CHECK(f.body == cut[i].body && f.stream == cut[i].stream && f.type == cut[i].type && f.flags == cut[i].flags &&
          f.too_long == cut[i].too_long);
    if (f.too_long) return 0;
    auto bytes = shim::rpc::encode_frame(f.stream, static_cast<shim::rpc::FrameType>(f.type), f.body);
    bytes[9] = static_cast<char>(f.flags);
    CHECK(in.substr(at, bytes.size()) == bytes);
    at += bytes.size();
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Frames of ttrpc: ten bytes of header (length and stream, big endian; type; flags), then at most 4 MiB. What comes in
// is believed in nothing: memory is taken as bytes arrive, not as a header promises.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace shim::rpc {

inline constexpr size_t kFrameHeader = 10;
inline constexpr size_t kMaxBody = 4 << 20;

enum class FrameType : uint8_t { request = 1, response = 2, data = 3 };

struct Frame {
  uint32_t stream = 0;
  uint8_t type = 0, flags = 0;
  bool too_long = false;  // the body was longer than kMaxBody and is thrown away
  std::string body;
};

// body: at most kMaxBody bytes.
std::string encode_frame(uint32_t stream, FrameType type, std::string_view body);

// Cuts a stream of bytes into frames.
class FrameReader {
 public:
  void feed(std::string_view bytes) { pending_.append(bytes); }
  // The next whole frame. A body that is too long is passed over as it comes in, and told of when it has passed.
  std::optional<Frame> next();
  // Bytes that wait for the rest of their frame.
  size_t waiting() const { return pending_.size() - used_; }

 private:
  void compact();

  std::string pending_;
  size_t used_ = 0;
  uint64_t skip_ = 0;  // bytes of an overlong body that are still to come
  Frame skipped_;
};

}  // namespace shim::rpc

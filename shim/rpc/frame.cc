// SPDX-License-Identifier: Apache-2.0
#include "shim/rpc/frame.h"

#include <algorithm>

#include "base/check.h"

namespace shim::rpc {

namespace {

uint32_t big_endian(const char* p) {
  auto b = [&](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(p[i])); };
  return b(0) << 24 | b(1) << 16 | b(2) << 8 | b(3);
}

void append_big_endian(std::string& out, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift & 0xff);
}

}  // namespace

std::string encode_frame(uint32_t stream, FrameType type, std::string_view body) {
  CHECK(body.size() <= kMaxBody);
  std::string out;
  out.reserve(kFrameHeader + body.size());
  append_big_endian(out, static_cast<uint32_t>(body.size()));
  append_big_endian(out, stream);
  out += static_cast<char>(type);
  out += '\0';
  out += body;
  return out;
}

std::optional<Frame> FrameReader::next() {
  if (skip_ > 0) {
    auto n = static_cast<size_t>(std::min<uint64_t>(skip_, waiting()));
    used_ += n;
    skip_ -= n;
    compact();
    if (skip_ > 0) return std::nullopt;
    return std::move(skipped_);
  }
  if (waiting() < kFrameHeader) return std::nullopt;
  const char* h = pending_.data() + used_;
  uint32_t length = big_endian(h);
  Frame f;
  f.stream = big_endian(h + 4);
  f.type = static_cast<uint8_t>(h[8]);
  f.flags = static_cast<uint8_t>(h[9]);
  if (length > kMaxBody) {
    f.too_long = true;
    skipped_ = std::move(f);
    skip_ = length;
    used_ += kFrameHeader;
    return next();
  }
  if (waiting() - kFrameHeader < length) return std::nullopt;
  f.body.assign(pending_, used_ + kFrameHeader, length);
  used_ += kFrameHeader + length;
  compact();
  return f;
}

void FrameReader::compact() {
  if (used_ == pending_.size()) {
    pending_.clear();
    if (pending_.capacity() > 65536) pending_.shrink_to_fit();
    used_ = 0;
  } else if (used_ > 65536) {
    pending_.erase(0, used_);
    used_ = 0;
  }
}

}  // namespace shim::rpc

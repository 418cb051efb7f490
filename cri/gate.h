// SPDX-License-Identifier: Apache-2.0
// Gate: what the proxy asks about the calls that pass through it. The proxy knows nothing of the CRI; a gate may look at the
// messages of the methods it names, and everything else goes by unread.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace cri {

enum class Interest {
  pass,    // bytes go by; only the end is told
  watch,   // first request and first answer are shown
  judge,   // the first request waits for a verdict before anything is sent on
  refuse,  // never sent on: refusal() has the reason
};

// What belongs to one call, kept for the gate. The proxy fills in the first group.
struct CallNotes {
  std::string method;
  std::chrono::steady_clock::time_point start;
  std::chrono::system_clock::time_point deadline;  // max() without one

  std::string pod, container, handler;  // the gate's own
  bool handler_known = false;
};

struct Verdict {
  grpc::Status refusal;                      // not OK: the call ends with it
  std::optional<grpc::ByteBuffer> request;  // sent in place of the client's
};

class Gate {
 public:
  virtual ~Gate() = default;
  // Of any method that a client may name: hostile text.
  virtual Interest interest(std::string_view method) = 0;
  virtual grpc::Status refusal(std::string_view method) = 0;
  // On a thread where waiting is allowed; of several calls at once.
  virtual Verdict judge(CallNotes& call, const grpc::ByteBuffer& request) = 0;
  // On the proxy's thread: short.
  virtual void asked(CallNotes& call, const grpc::ByteBuffer& request) = 0;
  virtual void answered(CallNotes& call, const grpc::ByteBuffer& answer) = 0;
  virtual void ended(CallNotes& call, const grpc::Status& status) = 0;
};

}  // namespace cri

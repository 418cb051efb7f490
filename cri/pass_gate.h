// SPDX-License-Identifier: Apache-2.0
// PassGate: a gate that lets everything by. For --no-policy.
#pragma once

#include "cri/gate.h"

namespace cri {

class PassGate final : public Gate {
 public:
  Interest interest(std::string_view) override { return Interest::pass; }
  grpc::Status refusal(std::string_view) override { return grpc::Status::OK; }
  Verdict judge(CallNotes&, const grpc::ByteBuffer&) override { return {}; }
  void asked(CallNotes&, const grpc::ByteBuffer&) override {}
  void answered(CallNotes&, const grpc::ByteBuffer&) override {}
  void ended(CallNotes&, const grpc::Status&) override {}
};

}  // namespace cri

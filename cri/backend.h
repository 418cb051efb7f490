// SPDX-License-Identifier: Apache-2.0
// Backend: questions of our own to containerd, one at a time, with a bound on the time each may take.
#pragma once

#include <google/protobuf/message_lite.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <string>

namespace cri {

class Backend {
 public:
  explicit Backend(const std::string& address);
  // method: "/runtime.v1.RuntimeService/Status". An answer that cannot be read is INTERNAL. Any thread.
  grpc::Status ask(const std::string& method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* answer,
                   std::chrono::system_clock::time_point deadline);

 private:
  grpc::GenericStub stub_;
};

// Messages to bytes and back; copies no slice that is alone.
bool decode(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite* out);
grpc::ByteBuffer encode(const google::protobuf::MessageLite& m);

}  // namespace cri

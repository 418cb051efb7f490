// SPDX-License-Identifier: Apache-2.0
#include "cri/backend.h"

#include <vector>

#include "cri/proxy.h"

namespace cri {

Backend::Backend(const std::string& address) : stub_(backend_channel(address)) {}

grpc::Status Backend::ask(const std::string& method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* answer,
                          std::chrono::system_clock::time_point deadline) {
  grpc::ClientContext context;
  context.set_deadline(deadline);
  grpc::CompletionQueue queue;
  grpc::ByteBuffer in;
  grpc::Status status;
  auto call = stub_.PrepareUnaryCall(&context, method, encode(request), &queue);
  call->StartCall();
  call->Finish(&in, &status, &queue);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  if (status.ok() && !decode(in, answer)) return {grpc::StatusCode::INTERNAL, "the answer to " + method + " cannot be read"};
  return status;
}

bool decode(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite* out) {
  grpc::Slice one;
  if (bytes.TrySingleSlice(&one).ok()) return out->ParseFromArray(one.begin(), static_cast<int>(one.size()));
  std::vector<grpc::Slice> slices;
  if (!bytes.Dump(&slices).ok()) return bytes.Length() == 0 && out->ParseFromArray("", 0);
  std::string all;
  for (auto& s : slices) all.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return out->ParseFromString(all);
}

grpc::ByteBuffer encode(const google::protobuf::MessageLite& m) {
  grpc::Slice slice(m.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace cri

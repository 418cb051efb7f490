// SPDX-License-Identifier: Apache-2.0
// A CRI client for tests: `cri_call unix:///SOCKET` reads lines "Method {request as JSON}" and answers each with a line "ok {…}" or
// "error CODE text". The messages are those of cri.proto.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <iostream>
#include <memory>
#include <string>

#include "tests/shim/cri.pb.h"

namespace {

namespace pb = google::protobuf;

std::unique_ptr<pb::Message> make(const std::string& name) {
  auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName("runtime.v1." + name);
  if (!d) return nullptr;
  return std::unique_ptr<pb::Message>(pb::MessageFactory::generated_factory()->GetPrototype(d)->New());
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

std::string call(grpc::GenericStub& stub, const std::string& method, const std::string& json) {
  auto request = make(method + "Request"), response = make(method + "Response");
  if (!request) return "error -1 no such method in cri.proto: " + method;
  auto parsed = pb::util::JsonStringToMessage(json, request.get());
  if (!parsed.ok()) return "error -1 " + one_line(parsed.ToString());
  std::string bytes = request->SerializeAsString();
  grpc::Slice slice(bytes);
  grpc::ByteBuffer out(&slice, 1), in;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  grpc::CompletionQueue queue;
  auto pending = stub.PrepareUnaryCall(&context, "/runtime.v1.RuntimeService/" + method, out, &queue);
  grpc::Status status;
  pending->StartCall();
  pending->Finish(&in, &status, &queue);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  if (!status.ok()) return "error " + std::to_string(status.error_code()) + " " + one_line(status.error_message());
  std::vector<grpc::Slice> slices;
  if (!in.Dump(&slices).ok()) return "error -1 the answer cannot be read";
  std::string body;
  for (auto& s : slices) body.append(reinterpret_cast<const char*>(s.begin()), s.size());
  if (!response->ParseFromString(body)) return "error -1 the answer cannot be decoded";
  std::string text;
  pb::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  if (!pb::util::MessageToJsonString(*response, &text, options).ok()) return "error -1 the answer is no JSON";
  return "ok " + text;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  grpc::GenericStub stub(grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), arguments));
  for (std::string line; std::getline(std::cin, line);) {
    size_t space = line.find(' ');
    std::cout << call(stub, line.substr(0, space), space == std::string::npos ? "{}" : line.substr(space + 1)) << std::endl;
  }
  return 0;
}

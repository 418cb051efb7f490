// SPDX-License-Identifier: Apache-2.0
// What a call through caisson-cri costs: `cri_bench SOCKET...` asks each socket for /runtime.v1.RuntimeService/Version, in turns, and
// prints the median and the 99th percentile in microseconds.
//   cri_bench [-n CALLS] /run/containerd/containerd.sock /run/caisson/cri.sock
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace {

double one(grpc::GenericStub& stub) {
  auto start = std::chrono::steady_clock::now();
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::Slice slice("\x0a\x02v1", 4);  // VersionRequest{version: "v1"}
  grpc::ByteBuffer out(&slice, 1), in;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, "/runtime.v1.RuntimeService/Version", out, &queue);
  call->StartCall();
  call->Finish(&in, &status, &queue);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  if (!status.ok()) {
    fprintf(stderr, "cri_bench: %s\n", status.error_message().c_str());
    exit(1);
  }
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  int calls = 2000;
  std::vector<std::string> sockets;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "-n") && i + 1 < argc) calls = atoi(argv[++i]);
    else sockets.push_back(argv[i]);
  }
  if (sockets.empty() || calls < 1) {
    fprintf(stderr, "cri_bench [-n CALLS] SOCKET...\n");
    return 2;
  }
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  for (auto& s : sockets)
    stubs.push_back(std::make_unique<grpc::GenericStub>(grpc::CreateChannel("unix:" + s, grpc::InsecureChannelCredentials())));
  std::vector<std::vector<double>> times(sockets.size());
  for (int i = 0; i < calls + 100; i++) {
    for (size_t s = 0; s < stubs.size(); s++) {
      double t = one(*stubs[s]);
      if (i >= 100) times[s].push_back(t);  // the first ones connect and warm up
    }
  }
  for (size_t s = 0; s < stubs.size(); s++) {
    auto& t = times[s];
    std::sort(t.begin(), t.end());
    printf("%-50s p50 %7.1f us   p99 %7.1f us\n", sockets[s].c_str(), t[t.size() / 2], t[t.size() * 99 / 100]);
  }
  return 0;
}

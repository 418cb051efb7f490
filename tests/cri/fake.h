// SPDX-License-Identifier: Apache-2.0
// A backend for tests of the proxy: a gRPC server on a unix socket that does, for any service, what the method's name says.
//   Echo      sends every message back; headers with x-want-* come back as headers, x-end-* at the end
//   Count     one request N (in text): N answers of its own
//   Fail      refuses with code 9, a text, and details
//   FailLate  one answer, then as Fail
//   Hang      nothing until the call is cancelled
//   Show      one answer: headers and time left, as text
//   Last      one answer when the client has closed its side: the number and size of its messages
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>

namespace cri_test {

class Fake {
 public:
  explicit Fake(std::string path) : path_(std::move(path)) { start(); }
  ~Fake() { stop(); }
  void start();
  void stop();
  std::string address() const { return "unix:" + path_; }

  std::atomic<int> hanging{0}, cancelled{0}, calls{0};

 private:
  std::string path_;
  std::unique_ptr<grpc::CallbackGenericService> service_;  // one for each life of the server
  std::unique_ptr<grpc::Server> server_;
};

grpc::ByteBuffer bytes(std::string_view s);
std::string text(const grpc::ByteBuffer& b);
// A folder that goes with this.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace cri_test

// SPDX-License-Identifier: Apache-2.0
// Proxy: passes every call of a gRPC server on to another server on a unix socket: messages as the bytes they are, any number of
// them in both directions, metadata, deadline, cancellation, and the status with its details. One thread does it all, since both
// sides of all calls are events of one queue; verdicts that need waiting are made by a few others.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <deque>
#include <memory>
#include <semaphore>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "cri/gate.h"

namespace cri {

class Call;

// A channel to the backend with the limits that the proxy's own has.
std::shared_ptr<grpc::Channel> backend_channel(const std::string& address);

// Largest message that a client may send, and that the backend may.
inline constexpr int kMaxRequest = 32 << 20;
inline constexpr int kMaxAnswer = 256 << 20;

class Proxy {
 public:
  // address: "unix:/run/containerd/containerd.sock". The gate outlives the proxy.
  Proxy(std::string address, Gate& gate);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  // Listens on "unix:PATH" and serves until stop().
  base::ResultX<void> start(const std::string& listen);
  // No new calls; those that still run after `grace` are cancelled. Returns when all have ended.
  void stop(std::chrono::milliseconds grace);
  size_t calls_in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

 private:
  friend class Call;
  static constexpr int kJudges = 4;
  static constexpr size_t kMaxWaiting = 1024;

  void accept_one();
  void serve();
  void judge();
  // False: too many wait already.
  bool submit(Call* call);

  std::string address_;
  Gate& gate_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::unordered_map<Call*, std::unique_ptr<Call>> calls_;  // of the serving thread
  std::atomic<size_t> in_flight_{0};
  base::Guarded<std::deque<Call*>> waiting_{base::LockRank::kIo};
  std::counting_semaphore<> waiting_count_{0};
  std::atomic<bool> stopping_{false};
  std::binary_semaphore drained_{0};  // no call is left and none will come
  std::thread server_thread_;
  std::vector<std::thread> judges_;
};

}  // namespace cri

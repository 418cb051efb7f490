// SPDX-License-Identifier: Apache-2.0
#include "cri/proxy.h"

#include "cri/call.h"

namespace cri {
namespace {

constexpr int kMaxHeaders = 1 << 20;  // an error's text is a header, and containerd's can be long
constexpr int kMaxStreams = 4096;

}  // namespace

std::shared_ptr<grpc::Channel> backend_channel(const std::string& address) {
  grpc::ChannelArguments a;
  a.SetMaxReceiveMessageSize(kMaxAnswer);
  a.SetMaxSendMessageSize(-1);
  a.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxHeaders);
  // A containerd that has come back is found within a second.
  a.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  a.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);  // what one attempt may take, in truth
  a.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  a.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  a.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  a.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), a);
}

Proxy::Proxy(std::string address, Gate& gate)
    : address_(std::move(address)), gate_(gate), channel_(backend_channel(address_)), stub_(channel_) {}

Proxy::~Proxy() {
  if (server_) stop(std::chrono::milliseconds(0));
}

base::ResultX<void> Proxy::start(const std::string& listen) {
  grpc::ServerBuilder b;
  int port = 0;
  b.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  b.RegisterAsyncGenericService(&service_);
  b.SetMaxReceiveMessageSize(kMaxRequest);
  b.SetMaxSendMessageSize(-1);
  b.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxHeaders);
  b.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  b.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Whoever may connect at all may ask as often as it likes whether the connection lives.
  b.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  b.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  queue_ = b.AddCompletionQueue();
  server_ = b.BuildAndStart();
  if (!server_ || port == 0) {
    server_.reset();
    queue_->Shutdown();
    void* tag;
    bool ok;
    while (queue_->Next(&tag, &ok)) {}
    return base::error(base::kEADDRNOTAVAIL, "cannot listen on {}: the library's log says more; its directory must exist, and the "
                       "path may have 107 characters", listen);
  }
  server_thread_ = std::thread([this] { serve(); });
  for (int i = 0; i < kJudges; i++) judges_.emplace_back([this] { judge(); });
  return {};
}

void Proxy::stop(std::chrono::milliseconds grace) {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  drained_.acquire();
  queue_->Shutdown();
  server_thread_.join();
  stopping_ = true;
  waiting_count_.release(kJudges);
  for (auto& t : judges_) t.join();
  judges_.clear();
  server_.reset();
}

void Proxy::accept_one() {
  auto call = std::make_unique<Call>(*this);
  Call* c = call.get();
  calls_[c] = std::move(call);
  c->listen();
}

void Proxy::serve() {
  accept_one();
  void* tag;
  bool ok;
  while (queue_->Next(&tag, &ok)) {
    auto* op = static_cast<Call::Op*>(tag);
    Call* call = op->call;
    if (call->happened(*op, ok)) calls_.erase(call);
    // There is always one that waits for a client, until the server takes no more.
    if (calls_.empty()) drained_.release();
  }
}

bool Proxy::submit(Call* call) {
  bool taken = waiting_.with([&](auto& q) {
    if (q.size() >= kMaxWaiting) return false;
    q.push_back(call);
    return true;
  });
  if (taken) waiting_count_.release();
  return taken;
}

void Proxy::judge() {
  for (;;) {
    waiting_count_.acquire();
    Call* call = waiting_.with([](auto& q) -> Call* {
      if (q.empty()) return nullptr;
      Call* c = q.front();
      q.pop_front();
      return c;
    });
    if (call) call->judge();
    else if (stopping_) return;
  }
}

}  // namespace cri

// SPDX-License-Identifier: Apache-2.0
#include "tests/cri/fake.h"

#include <stdlib.h>

#include <filesystem>
#include <mutex>
#include <vector>

namespace cri_test {
namespace {

constexpr int kMax = 256 << 20;

class Reactor final : public grpc::ServerGenericBidiReactor {
 public:
  Reactor(Fake& fake, grpc::GenericCallbackServerContext* context) : fake_(fake), context_(context) {
    fake_.calls++;
    method_ = context->method().substr(context->method().rfind('/') + 1);
    for (auto& [k, v] : context->client_metadata()) {
      std::string key(k.data(), k.size()), value(v.data(), v.size());
      if (key.starts_with("x-want-")) context->AddInitialMetadata(key, value);
      if (key.starts_with("x-end-")) context->AddTrailingMetadata(key, value);
      seen_ += key + "=" + value + "\n";
    }
    if (method_ == "Hang") fake_.hanging++;
    if (method_ == "Echo") StartSendInitialMetadata();
    if (method_ == "Fail") fail();  // no headers, no message
    else StartRead(&in_);
  }

  void OnReadDone(bool ok) override {
    std::lock_guard l(mu_);
    if (method_ == "Hang") return;
    if (!ok) {
      if (method_ == "Last") {
        out_ = bytes(std::to_string(count_) + " " + std::to_string(size_));
        StartWriteAndFinish(&out_, {}, grpc::Status::OK);
      } else if (method_ == "Echo") {
        closed_ = true;
        if (!writing_) Finish(grpc::Status::OK);
      }
      return;
    }
    count_++;
    size_ += in_.Length();
    if (method_ == "Count") {
      left_ = atoi(text(in_).c_str());
      return next();
    }
    if (method_ == "Show") {
      auto left = std::chrono::duration_cast<std::chrono::seconds>(context_->deadline() - std::chrono::system_clock::now()).count();
      seen_ += "left=" + std::to_string(left < 1000000 ? left : -1) + "\n";
      out_ = bytes(seen_);
      return StartWriteAndFinish(&out_, {}, grpc::Status::OK);
    }
    if (method_ == "Echo" || method_ == "FailLate") {
      out_ = in_;
      writing_ = true;
      return StartWrite(&out_);
    }
    StartRead(&in_);
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard l(mu_);
    writing_ = false;
    if (!ok) return Finish(grpc::Status::CANCELLED);
    if (method_ == "Count") return next();
    if (method_ == "FailLate") return fail();
    if (closed_) return Finish(grpc::Status::OK);
    StartRead(&in_);
  }

  void OnCancel() override {
    std::lock_guard l(mu_);
    if (method_ != "Hang") return;
    fake_.hanging--;
    fake_.cancelled++;
    Finish(grpc::Status::CANCELLED);
  }

  void OnDone() override { std::unique_ptr<Reactor> own(this); }

 private:
  void next() {
    if (left_-- <= 0) return Finish(grpc::Status::OK);
    out_ = bytes(std::to_string(left_));
    StartWrite(&out_);
  }
  void fail() { Finish({grpc::StatusCode::FAILED_PRECONDITION, "not today: \xc3\xa9 100%\n", std::string("de\0tails\xff", 9)}); }

  Fake& fake_;
  grpc::GenericCallbackServerContext* context_;
  std::mutex mu_;
  std::string method_, seen_;
  grpc::ByteBuffer in_, out_;
  int left_ = 0;
  size_t count_ = 0, size_ = 0;
  bool writing_ = false, closed_ = false;
};

class Service final : public grpc::CallbackGenericService {
 public:
  explicit Service(Fake& fake) : fake_(fake) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return std::make_unique<Reactor>(fake_, context).release();
  }

 private:
  Fake& fake_;
};

}  // namespace

void Fake::start() {
  grpc::ServerBuilder b;
  b.AddListeningPort(address(), grpc::InsecureServerCredentials());
  service_ = std::make_unique<Service>(*this);
  b.RegisterCallbackGenericService(service_.get());
  b.SetMaxReceiveMessageSize(kMax);
  b.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 1 << 20);
  server_ = b.BuildAndStart();
}

void Fake::stop() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

grpc::ByteBuffer bytes(std::string_view s) {
  grpc::Slice slice(s.data(), s.size());
  return grpc::ByteBuffer(&slice, 1);
}

std::string text(const grpc::ByteBuffer& b) {
  std::vector<grpc::Slice> slices;
  std::string out;
  if (!b.Dump(&slices).ok()) return "(unreadable)";
  for (auto& s : slices) out.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return out;
}

TempDir::TempDir() {
  char name[] = "/tmp/caisson-cri.XXXXXX";
  path_ = ::mkdtemp(name) ? name : "";
}

TempDir::~TempDir() { std::filesystem::remove_all(path_); }

}  // namespace cri_test

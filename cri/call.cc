// SPDX-License-Identifier: Apache-2.0
#include "cri/call.h"

namespace cri {
namespace {

// Headers that belong to one connection, or that the library makes itself.
bool own_header(std::string_view key) {
  static constexpr std::string_view kOwn[] = {"te",           "content-type",  "user-agent",           "host",
                                              "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status",
                                              "grpc-message", "grpc-status-details-bin"};
  if (key.empty() || key[0] == ':') return true;
  for (auto own : kOwn) {
    if (key == own) return true;
  }
  return key.starts_with("grpc-internal-");
}

std::string text(const grpc::string_ref& s) { return {s.data(), s.size()}; }

}  // namespace

Call::Call(Proxy& proxy) : proxy_(proxy), front_(&front_context_) {}

void Call::listen() {
  front_context_.AsyncNotifyWhenDone(&gone_op_);
  proxy_.service_.RequestCall(&front_context_, &front_, proxy_.queue_.get(), proxy_.queue_.get(), begin(accepted_));
}

bool Call::happened(Op& op, bool ok) {
  under_way_--;
  (this->*op.done)(ok);
  return under_way_ == 0;
}

void Call::on_accepted(bool ok) {
  if (!ok) return;  // the server stops; gone_op_ never comes
  under_way_++;     // gone_op_
  proxy_.in_flight_.fetch_add(1, std::memory_order_relaxed);
  proxy_.accept_one();
  notes_.method = front_context_.method();
  notes_.start = std::chrono::steady_clock::now();
  notes_.deadline = front_context_.deadline();
  interest_ = proxy_.gate_.interest(notes_.method);
  if (interest_ == Interest::refuse) return finish(proxy_.gate_.refusal(notes_.method));
  if (interest_ != Interest::judge) connect();
  read_request();
}

void Call::on_gone(bool) {
  if (!front_context_.IsCancelled()) return;
  gone_ = true;
  if (back_) back_context_.TryCancel();
}

void Call::copy_request_headers() {
  for (auto& [key, value] : front_context_.client_metadata()) {
    if (!own_header({key.data(), key.size()})) back_context_.AddMetadata(text(key), text(value));
  }
  back_context_.set_deadline(front_context_.raw_deadline());
}

void Call::connect() {
  copy_request_headers();
  back_ = proxy_.stub_.PrepareCall(&back_context_, notes_.method, proxy_.queue_.get());
  back_->StartCall(begin(connect_));
  if (gone_) back_context_.TryCancel();
}

void Call::read_request() { front_.Read(&request_, begin(request_op_)); }

void Call::on_request(bool ok) {
  if (finishing_) return;
  if (!ok) {
    client_closed_ = true;
    if (!back_) return finish({grpc::StatusCode::INVALID_ARGUMENT, notes_.method + " needs a request, and none came"});
    if (connected_) back_->WritesDone(begin(close_));
    return;
  }
  have_request_ = true;
  if (first_request_) {
    first_request_ = false;
    if (interest_ == Interest::watch) proxy_.gate_.asked(notes_, request_);
    if (interest_ == Interest::judge) {
      begin(judged_);
      if (proxy_.submit(this)) return;
      under_way_--;
      return finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many pods and containers wait to be looked at; try again"});
    }
  }
  if (connected_) send_request();
}

void Call::judge() {
  verdict_ = proxy_.gate_.judge(notes_, request_);
  alarm_.Set(proxy_.queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), &judged_);
}

void Call::on_judged(bool) {
  if (gone_) return finish({grpc::StatusCode::CANCELLED, "cancelled by the client"});
  if (!verdict_.refusal.ok()) return finish(verdict_.refusal);
  if (verdict_.request) request_ = *verdict_.request;
  connect();
}

void Call::on_connected(bool ok) {
  if (!ok) return back_->Finish(&status_, begin(status_op_));
  connected_ = true;
  back_->ReadInitialMetadata(begin(headers_));
  if (have_request_) return send_request();
  if (client_closed_) back_->WritesDone(begin(close_));
}

void Call::send_request() {
  have_request_ = false;
  back_->Write(request_, begin(send_));
}

void Call::on_sent(bool ok) {
  request_.Clear();
  if (ok && !finishing_) read_request();  // otherwise the backend has ended the call, and its status tells why
}

void Call::on_closed(bool) {}

void Call::on_headers(bool ok) {
  if (!ok) return back_->Finish(&status_, begin(status_op_));
  for (auto& [key, value] : back_context_.GetServerInitialMetadata()) {
    if (!own_header({key.data(), key.size()})) front_context_.AddInitialMetadata(text(key), text(value));
  }
  front_.SendInitialMetadata(begin(headers_sent_));
  back_->Read(&answer_, begin(answer_op_));
}

void Call::on_headers_sent(bool) {}

void Call::on_answer(bool ok) {
  if (!ok) return back_->Finish(&status_, begin(status_op_));
  if (first_answer_) {
    first_answer_ = false;
    if (interest_ != Interest::pass) proxy_.gate_.answered(notes_, answer_);
  }
  front_.Write(answer_, begin(answered_));
}

void Call::on_answered(bool ok) {
  answer_.Clear();
  if (!ok) back_context_.TryCancel();  // the client is gone
  back_->Read(&answer_, begin(answer_op_));
}

void Call::on_status(bool) {
  for (auto& [key, value] : back_context_.GetServerTrailingMetadata()) {
    if (!own_header({key.data(), key.size()})) front_context_.AddTrailingMetadata(text(key), text(value));
  }
  finish(status_);
}

void Call::finish(const grpc::Status& status) {
  finishing_ = true;
  proxy_.gate_.ended(notes_, status);
  front_.Finish(status, begin(finish_));
}

void Call::on_finished(bool) { proxy_.in_flight_.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace cri

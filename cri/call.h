// SPDX-License-Identifier: Apache-2.0
// Call: one call on its way through the proxy. Two pumps, one for each direction, each with one message in hand: a side that
// reads slowly slows the other down. All functions run on the proxy's thread, as events of its queue, but for judged().
#pragma once

#include <grpcpp/alarm.h>

#include "cri/proxy.h"

namespace cri {

class Call {
 public:
  explicit Call(Proxy& proxy);
  // An operation that is under way; its address is the tag.
  struct Op {
    Call* call;
    void (Call::*done)(bool ok);
  };
  void listen();
  // Runs what `op` waited for. True: nothing is under way any more and the call can go.
  bool happened(Op& op, bool ok);

  // The judges' side: between submit() and the event judged_ no other thread touches notes_ and request_.
  void judge();

 private:
  void on_accepted(bool ok);
  void on_gone(bool ok);
  void on_request(bool ok);
  void on_judged(bool ok);
  void on_connected(bool ok);
  void on_sent(bool ok);
  void on_closed(bool ok);
  void on_headers(bool ok);
  void on_headers_sent(bool ok);
  void on_answer(bool ok);
  void on_answered(bool ok);
  void on_status(bool ok);
  void on_finished(bool ok);

  void* begin(Op& op) {
    under_way_++;
    return &op;
  }
  void connect();
  void read_request();
  void send_request();
  void copy_request_headers();
  void finish(const grpc::Status& status);

  Proxy& proxy_;
  grpc::GenericServerContext front_context_;
  grpc::GenericServerAsyncReaderWriter front_;
  grpc::ClientContext back_context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> back_;
  grpc::ByteBuffer request_, answer_;
  grpc::Status status_;
  grpc::Alarm alarm_;
  Verdict verdict_;
  CallNotes notes_;
  Interest interest_ = Interest::pass;
  int under_way_ = 0;
  bool first_request_ = true, first_answer_ = true;
  bool connected_ = false;     // the backend's side may be written to
  bool have_request_ = false;  // read, not sent yet
  bool client_closed_ = false;
  bool gone_ = false;          // the client cancelled, or its deadline passed
  bool finishing_ = false;
  Op accepted_{this, &Call::on_accepted}, gone_op_{this, &Call::on_gone}, request_op_{this, &Call::on_request},
      judged_{this, &Call::on_judged}, connect_{this, &Call::on_connected}, send_{this, &Call::on_sent}, close_{this, &Call::on_closed},
      headers_{this, &Call::on_headers}, headers_sent_{this, &Call::on_headers_sent}, answer_op_{this, &Call::on_answer},
      answered_{this, &Call::on_answered}, status_op_{this, &Call::on_status}, finish_{this, &Call::on_finished};
};

}  // namespace cri

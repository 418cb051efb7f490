// SPDX-License-Identifier: Apache-2.0
// A ttrpc client of one server: connects when there is something to say, and again after a failure.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/error.h"
#include "shim/rpc/frame.h"
#include "shim/rpc/loop.h"

namespace shim::rpc {

class Client {
 public:
  using Answer = std::function<void(base::ResultX<std::string>)>;

  Client(Loop& loop, std::string socket_path) : loop_(loop), path_(std::move(socket_path)) {}
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // answer is called once: with the payload, with the server's error, or with ETIMEDOUT, EPIPE, ECONNREFUSED … It may be called
  // before this returns.
  void call(const std::string& service, const std::string& method, std::string payload, const std::string& space,
            int timeout_ms, Answer answer);

 private:
  struct Waiting {
    Answer answer;
    uint64_t timer = 0;
  };
  base::ResultX<void> connect();
  void on_event(uint32_t events);
  void flush();
  void take(const Frame& frame);
  void finish(uint32_t stream, base::ResultX<std::string> result);
  void fail_all(const base::Error& e);
  void close();

  Loop& loop_;
  const std::string path_;
  base::Fd socket_;
  uint64_t watch_ = 0;
  uint32_t next_stream_ = 1;
  FrameReader reader_;
  std::string out_;
  std::map<uint32_t, Waiting> waiting_;
};

// A connected, non-blocking socket. The path may be too long for an address: ENAMETOOLONG.
base::ResultX<base::Fd> connect_unix(const std::string& path);

}  // namespace shim::rpc

// SPDX-License-Identifier: Apache-2.0
// HttpServer: answers GET requests for health and metrics, one at a time, on a unix socket or a TCP address. Small on purpose:
// no keep-alive, no body, a request of at most 8 KiB that must be there within two seconds.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "cri/endpoint.h"

namespace cri {

struct HttpAnswer {
  int code = 200;
  std::string body, type = "text/plain; charset=utf-8";
};

class HttpServer {
 public:
  using Handler = std::function<HttpAnswer(const std::string& path)>;
  // address: "/run/x.sock", "unix:///run/x.sock", "127.0.0.1:9469", "[::1]:9469".
  static base::ResultX<std::unique_ptr<HttpServer>> start(const std::string& address, mode_t mode, Handler handler);
  ~HttpServer();
  int port() const { return port_; }

 private:
  explicit HttpServer(Handler handler) : handler_(std::move(handler)) {}
  void serve();
  void answer(int fd);

  Handler handler_;
  base::Fd listener_, wake_;
  std::optional<Endpoint> endpoint_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace cri

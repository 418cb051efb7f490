// SPDX-License-Identifier: Apache-2.0
#include "cri/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>

#include "base/sys.h"

namespace cri {
namespace {

constexpr size_t kMaxRequest = 8192;
constexpr int kPatienceMs = 2000;

struct Address {
  sockaddr_storage a{};
  socklen_t size = 0;
  std::string path;  // of a unix socket
};

base::ResultX<Address> parse_address(const std::string& text) {
  Address out;
  if (text.starts_with('/') || text.starts_with("unix:")) {
    out.path = TRY(socket_path(text));
    auto* u = reinterpret_cast<sockaddr_un*>(&out.a);
    u->sun_family = AF_UNIX;
    memcpy(u->sun_path, out.path.data(), out.path.size());
    out.size = sizeof *u;
    return out;
  }
  size_t colon = text.rfind(':');
  std::string host = colon == text.npos ? "" : text.substr(0, colon), port = colon == text.npos ? "" : text.substr(colon + 1);
  bool digits = !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == port.npos;
  int number = digits ? atoi(port.c_str()) : -1;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.a);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.a);
  if (number >= 0 && number < 65536 && ::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(number));
    out.size = sizeof *v4;
    return out;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (number >= 0 && number < 65536 && ::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(number));
    out.size = sizeof *v6;
    return out;
  }
  return base::error(base::kEINVAL, "--metrics {}: needed is the path of a socket, or an address and a port, such as 127.0.0.1:9469 or [::1]:9469", text);
}

const char* reason(int code) {
  return code == 200 ? "OK" : code == 404 ? "Not Found" : code == 405 ? "Method Not Allowed" : code == 503 ? "Service Unavailable" : "Bad Request";
}

}  // namespace

base::ResultX<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& address, mode_t mode, Handler handler) {
  Address a = TRY(parse_address(address));
  std::unique_ptr<HttpServer> s(new HttpServer(std::move(handler)));
  if (!a.path.empty()) s->endpoint_ = TRY(Endpoint::claim(a.path));
  s->listener_ = base::Fd(::socket(a.a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int on = 1;
  if (a.path.empty()) ::setsockopt(s->listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  mode_t before = ::umask(0177);
  auto bound = base::sys::from_libc(::bind(s->listener_.get(), reinterpret_cast<sockaddr*>(&a.a), a.size));
  ::umask(before);
  TRY_MSG(std::move(bound), "bind --metrics {}", address);
  TRY_MSG(base::sys::from_libc(::listen(s->listener_.get(), 16)), "listen at --metrics {}", address);
  if (s->endpoint_) TRY(s->endpoint_->open_to(mode, uid_t(-1), gid_t(-1)));
  sockaddr_in6 got{};
  socklen_t n = sizeof got;
  if (a.path.empty() && ::getsockname(s->listener_.get(), reinterpret_cast<sockaddr*>(&got), &n) == 0) s->port_ = ntohs(got.sin6_port);
  s->wake_ = TRY_MSG(base::sys::eventfd(0), "eventfd");
  s->thread_ = std::thread([p = s.get()] { p->serve(); });
  return s;
}

HttpServer::~HttpServer() {
  if (thread_.joinable()) {
    uint64_t one = 1;
    IGNORE_ERROR(base::sys::write(wake_.get(), &one, sizeof one), "it cannot be full");
    thread_.join();
  }
  if (endpoint_) ::unlink(endpoint_->path().c_str());
}

void HttpServer::serve() {
  for (;;) {
    pollfd p[2] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(p, 2, -1) < 0 && errno != EINTR) return;
    if (p[1].revents) return;
    base::Fd c(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (c.valid()) answer(c.get());
    else if (errno == EMFILE || errno == ENFILE) ::poll(&p[1], 1, 100);  // the listener stays ready meanwhile
  }
}

void HttpServer::answer(int fd) {
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  auto ready = [&](short what) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    pollfd p[2] = {{fd, what, 0}, {wake_.get(), POLLIN, 0}};
    return left > 0 && ::poll(p, 2, static_cast<int>(left)) > 0 && !p[1].revents;
  };
  std::string in;
  while (in.find("\r\n\r\n") == in.npos && in.find("\n\n") == in.npos) {
    char buf[2048];
    if (in.size() > kMaxRequest || !ready(POLLIN)) return;
    ssize_t n = ::recv(fd, buf, sizeof buf, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return;
    if (n > 0) in.append(buf, static_cast<size_t>(n));
  }
  std::string line = in.substr(0, in.find_first_of("\r\n"));
  size_t first = line.find(' '), second = line.find(' ', first + 1);
  HttpAnswer a;
  bool head = line.starts_with("HEAD ");
  if (first == line.npos || second == line.npos || line.compare(second + 1, 5, "HTTP/") != 0) a = {400, "this is no HTTP\n"};
  else if (!head && !line.starts_with("GET ")) a = {405, "only GET and HEAD\n"};
  else a = handler_(line.substr(first + 1, second - first - 1));
  std::string out = base::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", a.code, reason(a.code), a.type, a.body.size());
  if (!head) out += a.body;
  end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  for (size_t done = 0; done < out.size();) {
    if (!ready(POLLOUT)) return;
    ssize_t n = ::send(fd, out.data() + done, out.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return;
    if (n > 0) done += static_cast<size_t>(n);
  }
  ::shutdown(fd, SHUT_WR);
}

}  // namespace cri

// SPDX-License-Identifier: Apache-2.0
#include "cri/http.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace cri {
namespace {

HttpServer::Handler echo() {
  return [](const std::string& path) { return HttpAnswer{200, "<" + path + ">"}; };
}

std::string talk(int port, const std::string& request) {
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
  if (::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return "(not sent)";
  std::string out;
  char buf[4096];
  for (ssize_t n; (n = ::recv(fd.get(), buf, sizeof buf, 0)) > 0;) out.append(buf, size_t(n));
  return out;
}

TEST(Http, AnswersAndRefuses) {
  auto s = HttpServer::start("127.0.0.1:0", 0600, echo());
  ASSERT_TRUE(s.ok()) << s.error().text();
  int port = s.value()->port();
  EXPECT_TRUE(talk(port, "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("\r\n\r\n</a?b>"));
  EXPECT_TRUE(talk(port, "HEAD /a HTTP/1.0\r\n\r\n").ends_with("Content-Length: 4\r\nConnection: close\r\n\r\n"));
  EXPECT_TRUE(talk(port, "DELETE / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
  for (auto bad : {"nonsense\r\n\r\n", "\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / GOPHER\r\n\r\n"})
    EXPECT_TRUE(talk(port, bad).starts_with("HTTP/1.1 400 ")) << bad;
  EXPECT_TRUE(talk(port, "GET / HTTP/1.1\r\n" + std::string(20000, 'a')).empty());
  EXPECT_TRUE(talk(port, "GET / HTTP/1.1\r\n").empty()) << "one that never ends is let go";
  EXPECT_TRUE(talk(port, "GET /again HTTP/1.1\r\n\r\n").ends_with("</again>"));
}

TEST(Http, AddressesAreChecked) {
  for (auto bad : {"", "x", "localhost:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "1.2.3:1", "[::1]", "unix:x"})
    EXPECT_FALSE(HttpServer::start(bad, 0600, echo()).ok()) << bad;
}

}  // namespace
}  // namespace cri

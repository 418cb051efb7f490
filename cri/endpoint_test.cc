// SPDX-License-Identifier: Apache-2.0
#include "cri/endpoint.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>

namespace cri {
namespace {

struct Dir {
  Dir() {
    char name[] = "/tmp/caisson-cri.XXXXXX";
    path = ::mkdtemp(name) ? name : "";
  }
  ~Dir() { std::filesystem::remove_all(path); }
  std::string path;
};

base::Fd listen_at(const std::string& path) {
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  path.copy(a.sun_path, sizeof a.sun_path - 1);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
  EXPECT_EQ(::listen(fd.get(), 1), 0);
  return fd;
}

TEST(SocketPath, TakesPathsAndUnixAddressesOnly) {
  for (auto t : {"/run/x", "unix:/run/x", "unix:///run/x"}) EXPECT_EQ(socket_path(t).value_or(""), "/run/x") << t;
  for (auto t : {"", "x", "unix:x", "unix://", "tcp://1.2.3.4:5", "unix://host/x"}) EXPECT_FALSE(socket_path(t).ok()) << t;
  EXPECT_TRUE(socket_path("/" + std::string(106, 'a')).ok());
  EXPECT_FALSE(socket_path("/" + std::string(107, 'a')).ok());
}

TEST(Endpoint, AStaleSocketIsReplacedAndALiveOneIsNot) {
  Dir d;
  std::string path = d.path + "/s";
  auto fd = listen_at(path);
  auto r = Endpoint::claim(path);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code(), base::kEADDRINUSE);
  EXPECT_NE(r.error().text().find("another process listens"), std::string::npos) << r.error().text();
  EXPECT_TRUE(std::filesystem::exists(path));
  fd.reset();
  EXPECT_TRUE(Endpoint::claim(path).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Endpoint, TwoDoNotHoldOnePath) {
  Dir d;
  auto one = Endpoint::claim(d.path + "/s");
  ASSERT_TRUE(one.ok());
  auto two = Endpoint::claim(d.path + "/s");
  ASSERT_FALSE(two.ok());
  EXPECT_EQ(two.error().code(), base::kEADDRINUSE);
  EXPECT_TRUE(Endpoint::claim(d.path + "/t").ok());
}

TEST(Endpoint, AFileIsNeverRemoved) {
  Dir d;
  std::ofstream(d.path + "/s") << "precious";
  auto r = Endpoint::claim(d.path + "/s");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code(), base::kEEXIST);
  EXPECT_TRUE(std::filesystem::exists(d.path + "/s"));
}

TEST(Endpoint, ModeAndOwner) {
  Dir d;
  auto e = Endpoint::claim(d.path + "/s");
  ASSERT_TRUE(e.ok());
  auto fd = listen_at(d.path + "/s");
  EXPECT_TRUE(e->open_to(0640, ::getuid(), ::getgid()).ok());
  struct stat st;
  ASSERT_EQ(::stat((d.path + "/s").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
}

}  // namespace
}  // namespace cri

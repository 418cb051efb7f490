// SPDX-License-Identifier: Apache-2.0
// Keyrings. Passes on Linux first, then in the sandbox.
#include <linux/keyctl.h>
#include <sys/syscall.h>

#include <string>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

long add_key(const char* type, const char* name, const void* payload, size_t n, int ring) {
  return syscall(SYS_add_key, type, name, payload, n, ring);
}
long request_key(const char* type, const char* name, const char* callout, int ring) {
  return syscall(SYS_request_key, type, name, callout, ring);
}
template <typename... A>
long keyctl(int op, A... a) {
  return syscall(SYS_keyctl, op, a...);
}
long add(const char* name, const std::string& text, long ring = KEY_SPEC_PROCESS_KEYRING) {
  return add_key("user", name, text.data(), text.size(), static_cast<int>(ring));
}
std::string read_key(long key) {
  char buf[4096];
  long n = keyctl(KEYCTL_READ, key, buf, sizeof buf);
  return n < 0 ? std::string("error ") + strerror(errno) : std::string(buf, static_cast<size_t>(n));
}
std::string describe(long key) {
  char buf[4096];
  long n = keyctl(KEYCTL_DESCRIBE, key, buf, sizeof buf);
  return n < 0 ? std::string("error ") + strerror(errno) : std::string(buf);
}
std::vector<int> links(long ring) {
  std::string s = read_key(ring);
  std::vector<int> v(s.size() / 4);
  memcpy(v.data(), s.data(), v.size() * 4);
  return v;
}

// Each in a process with a session of its own.
template <typename F>
void alone(F f) {
  EXPECT_EQ(in_child([&] {
    if (keyctl(KEYCTL_JOIN_SESSION_KEYRING, nullptr) < 0 && (errno == ENOSYS || errno == EPERM)) return;  // a host that refuses
    f();
  }), 0);
}

TEST(Keys, AddReadDescribe) {
  alone([] {
    long k = add("a:b", "secret");
    ASSERT_GT(k, 0) << strerror(errno);
    EXPECT_EQ(read_key(k), "secret");
    EXPECT_EQ(describe(k), "user;" + std::to_string(geteuid()) + ";" + std::to_string(getegid()) + ";3f010000;a:b");
    EXPECT_EQ(keyctl(KEYCTL_READ, k, nullptr, 0), 6);
    EXPECT_EQ(keyctl(KEYCTL_DESCRIBE, k, nullptr, 0), static_cast<long>(describe(k).size() + 1));
    EXPECT_EQ(add("a:b", "other"), k);  // a second one of the name changes the first
    EXPECT_EQ(read_key(k), "other");
    EXPECT_EQ(keyctl(KEYCTL_UPDATE, k, "third", 5), 0);
    EXPECT_EQ(read_key(k), "third");
  });
}

TEST(Keys, BadArguments) {
  alone([] {
    EXPECT_ERRNO(add_key("nonsense", "x", "x", 1, KEY_SPEC_PROCESS_KEYRING), ENODEV);
    EXPECT_ERRNO(add_key(".hidden", "x", "x", 1, KEY_SPEC_PROCESS_KEYRING), EPERM);
    EXPECT_ERRNO(add_key("user", "x", "", 0, KEY_SPEC_PROCESS_KEYRING), EINVAL);
    EXPECT_ERRNO(add_key("keyring", "x", "x", 1, KEY_SPEC_PROCESS_KEYRING), EINVAL);
    EXPECT_ERRNO(add_key("logon", "nocolon", "x", 1, KEY_SPEC_PROCESS_KEYRING), EINVAL);
    EXPECT_ERRNO(add_key("user", "x", "x", 2 << 20, KEY_SPEC_PROCESS_KEYRING), EINVAL);
    EXPECT_ERRNO(add("x", "x", 987654321), ENOKEY);
    long k = add("x", "x");
    EXPECT_ERRNO(add("y", "y", k), ENOTDIR);
    EXPECT_ERRNO(keyctl(KEYCTL_READ, 987654321, nullptr, 0), ENOKEY);
    EXPECT_ERRNO(keyctl(12345), EOPNOTSUPP);
    EXPECT_ERRNO(keyctl(KEYCTL_SETPERM, k, 0xffffffff), EINVAL);
  });
}

TEST(Keys, SpecialRings) {
  alone([] {
    EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0), ENOKEY);
    EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0), ENOKEY);
    EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_GROUP_KEYRING, 0), EINVAL);
    long t = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1);
    long p = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1);
    EXPECT_GT(t, 0);
    EXPECT_GT(p, 0);
    EXPECT_NE(t, p);
    EXPECT_EQ(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0), p);
    EXPECT_NE(describe(p).find(";_pid"), std::string::npos);
    long u = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0);
    EXPECT_GT(u, 0);
    EXPECT_NE(describe(u).find("keyring;"), std::string::npos);
    EXPECT_NE(describe(u).find(";_uid."), std::string::npos);
    long s = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
    EXPECT_GT(s, 0);
    EXPECT_NE(describe(s).find(";_ses"), std::string::npos);
    // The session is the children's, the process's ring is not.
    EXPECT_EQ(in_child([&] {
      EXPECT_EQ(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), s);
      EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0), ENOKEY);
    }), 0);
  });
}

TEST(Keys, SearchAndRequest) {
  alone([] {
    EXPECT_ERRNO(request_key("user", "caisson:none", nullptr, 0), ENOKEY);
    long k = add("caisson:k", "v", KEY_SPEC_SESSION_KEYRING);
    ASSERT_GT(k, 0);
    EXPECT_EQ(request_key("user", "caisson:k", nullptr, 0), k);
    EXPECT_EQ(request_key("user", "caisson:k", nullptr, KEY_SPEC_PROCESS_KEYRING), k);
    EXPECT_EQ(links(KEY_SPEC_PROCESS_KEYRING), std::vector<int>{static_cast<int>(k)});
    EXPECT_EQ(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", "caisson:k", 0), k);
    EXPECT_ERRNO(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", "caisson:x", 0), ENOKEY);
    EXPECT_ERRNO(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "logon", "caisson:k", 0), ENOKEY);
  });
}

TEST(Keys, LinksAndRings) {
  alone([] {
    long ring = add_key("keyring", "r", nullptr, 0, KEY_SPEC_SESSION_KEYRING);
    ASSERT_GT(ring, 0) << strerror(errno);
    long k = add("in it", "v", ring);
    EXPECT_EQ(links(ring), std::vector<int>{static_cast<int>(k)});
    EXPECT_EQ(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", "in it", 0), k);
    EXPECT_ERRNO(keyctl(KEYCTL_LINK, ring, ring), EDEADLK);
    EXPECT_EQ(keyctl(KEYCTL_UNLINK, k, ring), 0);
    EXPECT_TRUE(links(ring).empty());
    EXPECT_EQ(read_key(k).substr(0, 5), "error");  // the last link is gone, and the key with it
    add("x", "1", ring);
    EXPECT_EQ(keyctl(KEYCTL_CLEAR, ring), 0);
    EXPECT_TRUE(links(ring).empty());
    EXPECT_ERRNO(keyctl(KEYCTL_UPDATE, ring, "x", 1), EOPNOTSUPP);
  });
}

TEST(Keys, RevokeInvalidateExpire) {
  alone([] {
    long k = add("a", "v");
    EXPECT_EQ(keyctl(KEYCTL_REVOKE, k), 0);
    EXPECT_EQ(read_key(k), std::string("error ") + strerror(EKEYREVOKED));
    long m = add("b", "v");
    EXPECT_EQ(keyctl(KEYCTL_SET_TIMEOUT, m, 1), 0);
    EXPECT_EQ(read_key(m), "v");
    sleep(2);
    std::string r = read_key(m);
    EXPECT_TRUE(r == std::string("error ") + strerror(EKEYEXPIRED) || r == std::string("error ") + strerror(ENOKEY)) << r;
  });
}

TEST(Keys, LogonCannotBeRead) {
  alone([] {
    long k = add_key("logon", "a:b", "v", 1, KEY_SPEC_PROCESS_KEYRING);
    ASSERT_GT(k, 0);
    EXPECT_LT(keyctl(KEYCTL_READ, k, nullptr, 0), 0);
    EXPECT_NE(describe(k).find(";3d010000;"), std::string::npos) << describe(k);
  });
}

TEST(Keys, RightsOfOthers) {
  if (geteuid() != 0) GTEST_SKIP();
  alone([] {
    long k = add("a", "v", KEY_SPEC_PROCESS_KEYRING);
    // Neither possession nor ownership: its number alone is no right.
    EXPECT_EQ(in_child([&] {
      keyctl(KEYCTL_JOIN_SESSION_KEYRING, nullptr);
      ASSERT_EQ(setresgid(3456, 3456, 3456), 0);
      ASSERT_EQ(setresuid(3456, 3456, 3456), 0);
      EXPECT_ERRNO(keyctl(KEYCTL_READ, k, nullptr, 0), EACCES);
      EXPECT_ERRNO(keyctl(KEYCTL_DESCRIBE, k, nullptr, 0), EACCES);
      EXPECT_ERRNO(keyctl(KEYCTL_REVOKE, k), EACCES);
      EXPECT_ERRNO(keyctl(KEYCTL_SETPERM, k, 0x3f3f3f3f), EACCES);
    }), 0);
    EXPECT_EQ(keyctl(KEYCTL_SETPERM, k, 0x3f3f0003), 0);
    EXPECT_EQ(in_child([&] {
      ASSERT_EQ(setresgid(3456, 3456, 3456), 0);
      ASSERT_EQ(setresuid(3456, 3456, 3456), 0);
      EXPECT_EQ(read_key(k), "v");
    }), 0);
  });
}

TEST(Keys, NamedSession) {
  alone([] {
    std::string name = "caisson-" + std::to_string(getpid());
    long s = keyctl(KEYCTL_JOIN_SESSION_KEYRING, name.c_str());
    EXPECT_GT(s, 0);
    EXPECT_NE(describe(KEY_SPEC_SESSION_KEYRING).find(";" + name), std::string::npos);
    EXPECT_EQ(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), s);
  });
}

TEST(Keys, Capabilities) {
  unsigned char caps[4] = {};
  long n = keyctl(31, caps, sizeof caps);
  if (n < 0) GTEST_SKIP();
  EXPECT_GE(n, 1);
  EXPECT_TRUE(caps[0] & 1);
}

}  // namespace

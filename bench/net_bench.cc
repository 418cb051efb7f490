// SPDX-License-Identifier: Apache-2.0
// TCP between two programs: net_bench server PORT, or net_bench client ADDRESS PORT SECONDS, which prints lines "NAME VALUE UNIT" for requests
// of one byte and their answers, for bytes in both directions, and for connections.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace {

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

constexpr size_t kBuffer = 128 * 1024;

// The first byte says what is wanted: 'e' echo, 's' swallow, 'g' give.
void* serve(void* p) {
  int fd = static_cast<int>(reinterpret_cast<long>(p));
  static thread_local char b[kBuffer];
  char what = 0;
  if (recv(fd, &what, 1, 0) == 1) {
    for (;;) {
      ssize_t n = what == 'g' ? static_cast<ssize_t>(kBuffer) : recv(fd, b, sizeof b, 0);
      if (n <= 0) break;
      if (what != 's' && send(fd, b, static_cast<size_t>(n), MSG_NOSIGNAL) < 0) break;
    }
  }
  close(fd);
  return nullptr;
}

int server(int port) {
  int l = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(port));
  if (bind(l, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || listen(l, 128) != 0) return perror("listen"), 1;
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    int c = accept(l, nullptr, nullptr);
    if (c < 0) return perror("accept"), 1;
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pthread_t t;
    if (pthread_create(&t, nullptr, serve, reinterpret_cast<void*>(static_cast<long>(c))) == 0) pthread_detach(t);
  }
}

int connection(const sockaddr_in& a, char what) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) {
    perror("connect");
    exit(1);
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (send(fd, &what, 1, 0) != 1) exit(1);
  return fd;
}

int client(const char* address, int port, double seconds) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address, &a.sin_addr);
  static char b[kBuffer];
  {
    int fd = connection(a, 'e');
    std::vector<double> times;
    for (double end = now() + seconds; now() < end;) {
      double t = now();
      if (send(fd, b, 1, 0) != 1 || recv(fd, b, 1, 0) != 1) return 1;
      times.push_back(now() - t);
    }
    close(fd);
    std::sort(times.begin(), times.end());
    printf("request_p50 %.1f us\nrequest_p99 %.1f us\n", times[times.size() / 2] * 1e6, times[times.size() * 99 / 100] * 1e6);
  }
  for (char what : {'s', 'g'}) {
    int fd = connection(a, what);
    double start = now(), bytes = 0;
    while (now() < start + seconds) {
      ssize_t n = what == 's' ? send(fd, b, sizeof b, 0) : recv(fd, b, sizeof b, 0);
      if (n <= 0) return 1;
      bytes += static_cast<double>(n);
    }
    printf("%s %.2f Gbit/s\n", what == 's' ? "send" : "receive", bytes * 8 / (now() - start) / 1e9);
    close(fd);
  }
  int n = 0;
  double start = now();
  while (now() < start + seconds) {
    close(connection(a, 'e'));
    n++;
  }
  printf("connections %.0f /s\n", n / (now() - start));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "server") == 0) return server(atoi(argv[2]));
  if (argc == 5 && strcmp(argv[1], "client") == 0) return client(argv[2], atoi(argv[3]), atof(argv[4]));
  fprintf(stderr, "net_bench server PORT | client ADDRESS PORT SECONDS\n");
  return 64;
}

// SPDX-License-Identifier: Apache-2.0
// Stand-in for caisson-zygote: tells what it sees of its jail, then waits to be killed with the sentry.
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "runtime/testing/world.h"

int main(int argc, char** argv) {
  std::string out = describe_world(argc, argv);
  if (::send(3, out.data(), out.size(), 0) < 0) return 5;
  for (;;) ::pause();
}

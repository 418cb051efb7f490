// SPDX-License-Identifier: Apache-2.0
#include "shim/task/logger.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/host/spawn.h"

namespace shim::task {

using base::Fd;
using base::ResultX;
namespace host = runtime::host;
namespace sys = base::sys;

namespace {

constexpr std::string_view kScheme = "binary://";
constexpr int kReadyMs = 10000;

ResultX<std::string> decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '+') {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      std::string hex(text.substr(i + 1, 2));
      char* end = nullptr;
      long c = strtol(hex.c_str(), &end, 16);
      if (hex.size() != 2 || *end || c == 0) return base::error(base::kEINVAL, "'{}' is no part of a URI", text);
      out += static_cast<char>(c);
      i += 2;
    }
  }
  return out;
}

[[noreturn]] void become_logger(const LoggerCommand& c, const std::string& id, const std::string& space, int out, int err, int ready) {
  Fd null = sys::open("/dev/null", O_RDWR).value_or(Fd());
  auto placed = host::place_descriptors({{null.get(), 0}, {null.get(), 1}, {null.get(), 2}, {out, 3}, {err, 4}, {ready, 5}}, null.get(),
                                        host::Others::close_at_exec);
  if (!placed.ok()) ::_exit(127);
  host::reset_signals();
  std::vector<std::string> words{c.path}, variables{"CONTAINER_ID=" + id, "CONTAINER_NAMESPACE=" + space};
  words.insert(words.end(), c.args.begin(), c.args.end());
  std::vector<char*> argv, envp;
  for (auto& w : words) argv.push_back(w.data());
  for (auto& v : variables) envp.push_back(v.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  ::execve(c.path.c_str(), argv.data(), envp.data());
  // The word that it did not come to run.
  IGNORE_ERROR(sys::write(5, "x", 1), "then the time runs out");
  ::_exit(127);
}

}  // namespace

bool is_logger(const std::string& stream) { return stream.rfind(kScheme, 0) == 0; }

ResultX<LoggerCommand> parse_logger(const std::string& uri) {
  if (!is_logger(uri)) return base::error(base::kEINVAL, "{} names no program", uri);
  std::string_view rest = std::string_view(uri).substr(kScheme.size());
  size_t question = rest.find('?');
  LoggerCommand c;
  c.path = TRY(decode(rest.substr(0, question)));
  if (c.path.empty() || c.path[0] != '/') return base::error(base::kEINVAL, "{}: the path of a program must be absolute", uri);
  std::string_view query = question == std::string_view::npos ? "" : rest.substr(question + 1);
  while (!query.empty()) {
    size_t end = query.find('&');
    std::string_view one = query.substr(0, end);
    query = end == std::string_view::npos ? "" : query.substr(end + 1);
    if (one.empty()) continue;
    size_t eq = one.find('=');
    c.args.push_back(TRY(decode(one.substr(0, eq))));
    std::string value = eq == std::string_view::npos ? "" : TRY(decode(one.substr(eq + 1)));
    if (!value.empty()) c.args.push_back(std::move(value));
  }
  return c;
}

ResultX<void> start_logger(const std::string& uri, const std::string& id, const std::string& space, int out, int err) {
  LoggerCommand c = TRY(parse_logger(uri));
  int p[2];
  TRY_MSG(sys::from_libc(::pipe2(p, O_CLOEXEC)), "make a pipe");
  Fd ready(p[0]), told(p[1]);
  pid_t pid = ::fork();
  if (pid == 0) become_logger(c, id, space, out, err, told.get());
  if (pid < 0) return base::wrap(sys::from_libc(-1).error(), "start the logger " + c.path);
  told.reset();
  pollfd wait{ready.get(), POLLIN, 0};
  if (::poll(&wait, 1, kReadyMs) <= 0) {
    ::kill(pid, SIGKILL);
    return base::error(base::kETIMEDOUT, "the logger {} was not ready within {} ms", c.path, kReadyMs);
  }
  char word;
  auto n = sys::read(ready.get(), &word, 1);
  if (n.ok() && *n == 1 && word == 'x') return base::error(base::kENOENT, "the logger {} cannot be run", c.path);
  return {};
}

}  // namespace shim::task

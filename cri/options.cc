// SPDX-License-Identifier: Apache-2.0
#include "cri/options.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>

#include <CLI/CLI.hpp>

#include "cri/endpoint.h"

namespace cri {
namespace {

base::ResultX<unsigned> number_or(const std::string& word, const char* what, std::optional<unsigned> (*by_name)(const char*)) {
  if (auto id = by_name(word.c_str())) return *id;
  char* end = nullptr;
  errno = 0;
  unsigned long n = strtoul(word.c_str(), &end, 10);
  if (word.empty() || !isdigit(word[0]) || *end || errno || n >= 0xffffffffu)
    return base::error(base::kEINVAL, "--socket-owner: there is no {} '{}'", what, word);
  return unsigned(n);
}

std::optional<unsigned> user_id(const char* name) {
  auto* p = getpwnam(name);
  return p ? std::optional<unsigned>(p->pw_uid) : std::nullopt;
}

std::optional<unsigned> group_id(const char* name) {
  auto* g = getgrnam(name);
  return g ? std::optional<unsigned>(g->gr_gid) : std::nullopt;
}

}  // namespace

base::ResultX<std::optional<Options>> parse_options(int argc, char** argv) {
  Options o;
  std::string mode = "0660", owner, log_format = "text";
  bool no_policy = false, version = false;
  CLI::App app("A CRI endpoint in front of containerd's: every call goes through, and a policy chooses the runtime handler of pods.",
               "caisson-cri");
  app.footer("SIGHUP reads the policy again; SIGTERM lets running calls end. Told in full: docs/cri.md");
  app.add_option("--listen", o.listen, "unix socket for kubelet (default: " + o.listen + ")");
  app.add_option("--backend", o.backend, "unix socket of containerd (default: " + o.backend + ")");
  app.add_option("--policy", o.policy, "policy file, TOML");
  app.add_flag("--no-policy", no_policy, "pass everything");
  app.add_option("--check", o.check, "only check this policy file");
  app.add_option("--socket-mode", mode, "mode of the socket, octal (default: 0660)");
  app.add_option("--socket-owner", owner, "USER:GROUP of the socket, names or numbers");
  app.add_option("--metrics", o.metrics, "where /metrics, /healthz and /livez are served: a socket's path, or 127.0.0.1:9469");
  app.add_option("--grace", o.grace, "seconds for running calls when stopping (default: 20)")->check(CLI::Range(0, 3600));
  app.add_option("--log-level", o.log_level, "debug, info, warn or error (default: info)")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  app.add_option("--log-format", log_format, "text or json")->check(CLI::IsMember({"text", "json"}));
  app.add_flag("-v,--version", version, "print the version");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::string help = app.help();
    fwrite(help.data(), 1, help.size(), stdout);
    return std::optional<Options>();
  } catch (const CLI::ParseError& e) {
    return base::error(base::kEINVAL, "{} (caisson-cri --help tells the flags)", e.what());
  }
  if (version) {
    printf("caisson-cri version %s\n", kVersion);
    return std::optional<Options>();
  }
  o.json_log = log_format == "json";
  if (!o.check.empty()) return std::optional<Options>(std::move(o));
  if (o.policy.empty() == !no_policy)
    return base::error(base::kEINVAL, "one of --policy FILE and --no-policy is needed: without a policy every pod runs as it asks");
  o.listen = TRY_MSG(socket_path(o.listen), "--listen");
  o.backend = TRY_MSG(socket_path(o.backend), "--backend");
  if (o.listen == o.backend) return base::error(base::kEINVAL, "--listen and --backend both name {}", o.listen);
  char* end = nullptr;
  o.mode = mode_t(strtoul(mode.c_str(), &end, 8));
  if (mode.empty() || !isdigit(mode[0]) || *end || o.mode > 0777) return base::error(base::kEINVAL, "--socket-mode {}: an octal number up to 0777 is needed", mode);
  if (!owner.empty()) {
    size_t colon = owner.find(':');
    std::string user = owner.substr(0, colon), group = colon == owner.npos ? "" : owner.substr(colon + 1);
    if (!user.empty()) o.owner = TRY(number_or(user, "user", user_id));
    if (!group.empty()) o.group = TRY(number_or(group, "group", group_id));
  }
  return std::optional<Options>(std::move(o));
}

}  // namespace cri

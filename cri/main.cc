// SPDX-License-Identifier: Apache-2.0
// caisson-cri: kubelet's CRI endpoint in front of containerd's. docs/cri.md.
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "cri/endpoint.h"
#include "cri/http.h"
#include "cri/notify.h"
#include "cri/options.h"
#include "cri/policy_gate.h"
#include "cri/proxy.h"

namespace {

base::LogLevel level_of(const std::string& name) {
  if (name == "debug") return base::LogLevel::debug;
  if (name == "warn") return base::LogLevel::warn;
  return name == "error" ? base::LogLevel::error : base::LogLevel::info;
}

// A file that is wrong changes nothing.
void reload(const cri::Options& o, cri::PolicyGate& gate, cri::Metrics& metrics) {
  if (o.policy.empty()) {
    LOG(info, "SIGHUP: there is no policy to read again (--no-policy)");
    return;
  }
  cri::notify_manager("RELOADING=1");
  auto fresh = cri::Policy::load(o.policy);
  metrics.policy_loaded(fresh.ok());
  if (fresh.ok()) {
    LOG(info, "policy {} read again: {} rules", o.policy, fresh->rules().size());
    gate.set_policy(std::make_shared<const cri::Policy>(std::move(fresh).value()));
  } else {
    LOG(error, "the policy in force is kept, since the new one is wrong: {}", fresh.error().text());
  }
  cri::notify_manager("READY=1");
}

cri::HttpAnswer answer_http(const std::string& path, cri::PolicyGate& gate, cri::Metrics& metrics) {
  if (path == "/metrics") {
    cri::Inventory i;
    bool known = gate.inventory(&i).ok();
    return {200, metrics.text(known ? &i : nullptr), "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (path == "/livez") return {200, "ok\n"};
  if (path != "/healthz") return {404, "here are /metrics, /healthz and /livez\n"};
  auto s = gate.health();
  return s.ok() ? cri::HttpAnswer{200, "ok\n"} : cri::HttpAnswer{503, s.error_message() + "\n"};
}

base::ResultX<void> serve(const cri::Options& o) {
  // Waited for below; blocked before any thread starts, so that none takes them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  auto endpoint = TRY(cri::Endpoint::claim(o.listen));
  cri::Metrics metrics;
  std::shared_ptr<const cri::Policy> policy;
  if (!o.policy.empty()) {
    policy = std::make_shared<const cri::Policy>(TRY(cri::Policy::load(o.policy)));
    metrics.policy_loaded(true);
  }
  cri::Backend backend("unix:" + o.backend);
  cri::PolicyGate gate(backend, metrics, policy);
  cri::Proxy proxy("unix:" + o.backend, gate);
  mode_t before = ::umask(0177);
  auto started = proxy.start("unix:" + o.listen);
  ::umask(before);
  TRY(std::move(started));
  TRY(endpoint.open_to(o.mode, o.owner, o.group));
  std::unique_ptr<cri::HttpServer> http;
  if (!o.metrics.empty()) http = TRY(cri::HttpServer::start(o.metrics, o.mode, [&](const std::string& path) { return answer_http(path, gate, metrics); }));
  LOG(info, "serving {} for {}, {}", o.listen, o.backend, policy ? base::format("{} rules of {}", policy->rules().size(), o.policy) : "without a policy");
  cri::notify_manager("READY=1");
  for (;;) {
    int s = 0;
    sigwait(&signals, &s);
    if (s != SIGHUP) break;
    reload(o, gate, metrics);
  }
  cri::notify_manager("STOPPING=1");
  LOG(info, "stopping: {} calls have {} s to end", proxy.calls_in_flight(), o.grace);
  proxy.stop(std::chrono::seconds(o.grace));
  return {};
}

int fail(const base::Error& e) {
  std::string line = "caisson-cri: " + e.text() + "\n";
  IGNORE_ERROR(base::sys::write_all(2, line.data(), line.size()), "nobody reads");
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  auto o = cri::parse_options(argc, argv);
  if (!o.ok()) return fail(o.error());
  if (!o.value()) return 0;
  if (auto& check = o.value()->check; !check.empty()) {
    auto p = cri::Policy::load(check);
    if (!p.ok()) return fail(p.error());
    printf("%s: %zu rules, no fault found\n", check.c_str(), p->rules().size());
    return 0;
  }
  base::log_init("caisson-cri", 2, level_of(o.value()->log_level), o.value()->json_log ? base::LogFormat::json : base::LogFormat::text);
  auto r = serve(*o.value());
  return r.ok() ? 0 : fail(r.error());
}

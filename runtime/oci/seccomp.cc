// SPDX-License-Identifier: Apache-2.0
#include "runtime/oci/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>

#include <algorithm>

namespace runtime::oci {
namespace {

constexpr size_t kMaxRules = 4096, kMaxNames = 1024;
constexpr uint32_t kDefaultErrno = EPERM;

// SCMP_ACT_*, with the errno that goes with it.
uint32_t read_action(const View& v, const View& errno_ret) {
  static constexpr struct {
    std::string_view name;
    uint32_t action;
  } kActions[] = {{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},       {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
                  {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS}, {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
                  {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},            {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
                  {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},            {"SCMP_ACT_LOG", SECCOMP_RET_LOG}};
  const std::string name = v.text();
  for (auto& a : kActions) {
    if (a.name != name) continue;
    const bool has_errno = a.action == SECCOMP_RET_ERRNO || a.action == SECCOMP_RET_TRACE;
    if (!has_errno) {
      if (errno_ret.present()) errno_ret.fail("goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
      return a.action;
    }
    return a.action | static_cast<uint32_t>(errno_ret.natural(4095).value_or(kDefaultErrno));
  }
  if (name == "SCMP_ACT_NOTIFY") v.fail("is SCMP_ACT_NOTIFY, which is not supported: no agent outside can answer for the sandbox");
  else v.fail(base::format("is '{}': it must be an action such as SCMP_ACT_ALLOW or SCMP_ACT_ERRNO", name));
  return SECCOMP_RET_KILL_PROCESS;
}

base::wire::SeccompArg read_arg(const View& v) {
  static constexpr std::string_view kOps[] = {"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE",       "SCMP_CMP_EQ",
                                              "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};
  v.only({"index", "value", "valueTwo", "op"});
  base::wire::SeccompArg a;
  a.index = static_cast<uint32_t>(v["index"].natural(5).value_or(0));
  a.value = v["value"].natural().value_or(0);
  a.value_two = v["valueTwo"].natural().value_or(0);
  const std::string op = v["op"].text();
  const auto* at = std::find(std::begin(kOps), std::end(kOps), op);
  if (at == std::end(kOps)) v["op"].fail(base::format("is '{}': it must be a comparison such as SCMP_CMP_EQ", op));
  a.op = static_cast<uint32_t>(at - std::begin(kOps)) + 1;
  return a;
}

}  // namespace

base::wire::Seccomp read_seccomp(const View& v) {
  base::wire::Seccomp s;
  if (v.empty()) return s;
  v.only({"defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata", "syscalls"});
  s.given = true;
  s.default_action = read_action(v["defaultAction"], v["defaultErrnoRet"]);
  if (!v["listenerPath"].text().empty()) v["listenerPath"].fail("names an agent, which is not supported: remove it");
  for (const View& e : v["syscalls"].list()) {
    e.only({"names", "action", "errnoRet", "args", "comment", "includes", "excludes"});
    base::wire::SeccompRule r;
    r.names = e["names"].texts();
    if (r.names.empty()) e["names"].fail("is empty: it must name the calls that the rule is about");
    r.action = read_action(e["action"], e["errnoRet"]);
    for (const View& a : e["args"].list()) r.args.push_back(read_arg(a));
    if (r.names.size() > kMaxNames) e["names"].fail("is too long");
    s.rules.push_back(std::move(r));
    if (s.rules.size() > kMaxRules) {
      v["syscalls"].fail("has too many rules");
      break;
    }
  }
  return s;
}

}  // namespace runtime::oci

// SPDX-License-Identifier: Apache-2.0
// The table of keys.
#include "runtime/config/config.h"

namespace runtime::config {

const std::vector<Key>& keys() {
  using C = Config;
  using V = Value;
  static const std::vector<Key> all = {
      {"", "root", Kind::path, {}, "/run/caisson",
       "directory for the state of containers that root makes with `caisson`; --root comes first, an ordinary user has one of its own",
       [](C& c, const V& v) { c.root = v.text; }},
      {"", "debug", Kind::on_off, {}, "false", "tell more, as --debug does", [](C& c, const V& v) { c.debug = v.on; }},

      {"sandbox", "overlay", Kind::choice, {"auto", "self", "none"}, "auto",
       "where writes to the root go: self = a layer of the sandbox, gone with it; none = through to the root; auto = through for "
       "engines that keep and show the root (podman, Docker, nerdctl), else the layer",
       [](C& c, const V& v) { c.sandbox.overlay = v.text; }, &SandboxOptions::overlay, true},
      {"sandbox", "memory_mode", Kind::choice, {"direct", "strict"}, "direct",
       "direct = programs ask the host for their own memory; strict = each such call is checked first",
       [](C& c, const V& v) { c.sandbox.memory_mode = v.text; }, &SandboxOptions::memory_mode, true},
      {"sandbox", "patch_calls", Kind::on_off, {}, "true",
       "on = programs' often used system calls are patched in memory so that they need no trap; off = each one traps",
       [](C& c, const V& v) { c.sandbox.patch_calls = v.text; }, &SandboxOptions::patch_calls, true},
      {"sandbox", "network", Kind::choice, {"auto", "host", "none"}, "auto",
       "auto = sockets of the host in the spec's network namespace, none in a new one; host = in a new one too; none = loopback only",
       [](C& c, const V& v) { c.sandbox.network = v.text; }, &SandboxOptions::network, true},
      {"sandbox", "strace", Kind::on_off, {}, "false", "log every system call of the container (to --debug-log)",
       [](C& c, const V& v) { c.sandbox.strace = v.text; }, &SandboxOptions::strace, true},
      {"sandbox", "debug_log", Kind::path, {}, "none",
       "file to which the sandbox's own programs log; %ID% in it becomes the container's id",
       [](C& c, const V& v) { c.sandbox.debug_log = v.text; }, &SandboxOptions::debug_log},

      {"limits", "memory", Kind::size, {}, "none", "memory of a container whose spec names no limit (bytes, or 512m, 2GiB)",
       [](C& c, const V& v) { c.memory = v.number; }},
      {"limits", "pids", Kind::count, {}, "none", "processes and threads of a container whose spec names no limit",
       [](C& c, const V& v) { c.pids = v.number; }},

      {"annotations", "allow", Kind::names, {}, "[]",
       "which annotations may change the keys of [sandbox] for one container or pod, by their names (dev.caisson.network), or "
       "dev.caisson.* for all that there are. One that is not named here is an error of the container that carries it",
       [](C& c, const V& v) { c.allowed = v.names; }},

      {"shim", "root", Kind::path, {}, "/run/containerd/caisson",
       "directory for the state of containers that containerd makes, one directory per namespace of containerd's in it",
       [](C& c, const V& v) { c.shim_root = v.text; }},
      {"shim", "version", Kind::choice, {"2", "3"}, "2",
       "version of the task service that is offered to containerd 2.0 to 2.2; others say themselves what they know",
       [](C& c, const V& v) { c.shim_version = v.text[0] - '0'; }},
  };
  return all;
}

}  // namespace runtime::config

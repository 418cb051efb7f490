// SPDX-License-Identifier: Apache-2.0
// Making a container: everything from a bundle to a sentry that holds an init process not yet started.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/container/client.h"
#include "runtime/container/pod.h"
#include "runtime/container/state.h"
#include "runtime/oci/spec.h"

namespace runtime::container {

// by_spec: sockets of the host in the network namespace that the spec names, or in the caller's when it names none; a loopback of the
// sandbox's own when it asks for a new one (unless hooks may fill that). host: sockets of the host in any case. none: never.
enum class Network { by_spec, host, none };

struct CreateOptions {
  std::string root, id, bundle;
  std::string console_socket, pid_file;
  int preserve_fds = 0;   // listen_fds among them
  int listen_fds = 0;     // sockets of systemd's protocol: the program is told of them
  std::optional<base::wire::OverlayMode> overlay;  // none: choose_root_writes() decides
  base::wire::MemoryMode memory_mode = base::wire::MemoryMode::direct;
  bool patch_calls = true;
  Network network = Network::by_spec;
  bool strace = false;
  bool debug = false;
  bool systemd_cgroup = false;
  std::string debug_log;
  // The caller relays the terminal, so it may be made without a console socket.
  bool foreground = false;
  // The caller starts it at once: the state says so from the beginning (the sentry knows better).
  bool starts = false;
  // For `do`: a spec of our own making in place of the bundle's; the root is the host's.
  const oci::Spec* spec = nullptr;
  // Called with the spec that was read, its place in a pod, and these options: what a configuration makes of them.
  std::function<base::ResultX<void>(oci::Spec& spec, Role role, CreateOptions& options)> adjust;
};

struct Created {
  State state;
  Directory directory;
  Client client;             // the connection that booted the sentry
  base::Fd terminal;         // master side, if the caller relays it
  base::Fd sentry_pidfd;
  base::Fd sentry_words;     // what sentry and gofer write to standard error; non-blocking
  Root root;
};

// On failure nothing is left behind.
base::ResultX<Created> create_container(const CreateOptions& options);

// Of the container's directory: state.json's companion, used for hooks and exec.
base::ResultX<oci::Spec> load_saved_spec(const Directory& d);

}  // namespace runtime::container

// SPDX-License-Identifier: Apache-2.0
// The command lines by which containerd calls the shim, and what they share.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/config/config.h"

namespace shim {

inline constexpr const char* kVersion = "0.1.0";
// In the bundle: the root that `start` chose, for `delete`, which is told nothing of options.
inline constexpr const char* kRootFile = "caisson-root";
inline constexpr const char* kName = "io.containerd.caisson.v1";

struct Arguments {
  std::string space, address, publish_binary, id, bundle, socket, action;  // space: -namespace
  std::string root, config;                                         // said to ourselves: the state of all namespaces; the configuration
  bool debug = false, version = false, info = false;
  int protocol = 2;  // the version of the task service that start offers
};
// As Go's flags are written: -name value, -name=value, --name …
base::ResultX<Arguments> parse_arguments(const std::vector<std::string>& words);

// What containerd says beside the flags of `start`: its words on standard input, its environment. Words that are something else (the
// options of a runtime, for older versions) are passed over.
void add_bootstrap(Arguments& a, const std::string& words);
// The path of the configuration that the options on standard input name.
std::string options_path(const std::string& words);
base::ResultX<void> check_names(const Arguments& a);

// The directory of the state of all namespaces: CAISSON_SHIM_ROOT, [shim] root of the configuration, or /run/containerd/caisson.
std::string choose_root(const runtime::config::Config& c);
// The one of this namespace's containers.
std::string state_root(const Arguments& a);

// The pod a container belongs to, by the annotations of containerd's and of CRI-O's CRI; else the container itself.
std::string group_of(const std::string& config_json, const std::string& id);
std::string group_of_annotations(const std::map<std::string, std::string>& annotations, const std::string& id);
// unix://… of the socket of a group's shim.
std::string address_of(const Arguments& a, const std::string& group);
// Without "unix://".
std::string socket_path(const std::string& address);

// Starts the group's shim, or finds it running; prints its address.
base::ResultX<void> start(const Arguments& a);
// What is left of a container whose shim has gone; prints a DeleteResponse.
base::ResultX<void> clean_up(const Arguments& a);
base::ResultX<void> print_info();
// The shim itself. It is given a listening socket, and the end of a pipe out of which comes a byte once its address has been told; the end
// of the pipe without it is the end of the shim: whoever started it has been killed, and nobody will ever call. Returns when it has nothing more to do.
constexpr int kListenerFd = 3, kKnownFd = 4;
base::ResultX<void> serve(const Arguments& a);

}  // namespace shim

// SPDX-License-Identifier: Apache-2.0
// What can be done with a container that exists: ask, start, signal, delete.
#pragma once

#include <string>

#include "base/error.h"
#include "runtime/container/client.h"
#include "runtime/container/state.h"

namespace runtime::container {

enum class Status { creating, created, running, paused, stopped };
const char* status_name(Status s);

// What is true now: a dead sentry is a stopped container, whatever was written down.
Status find_status(const Directory& d, const State& s);

// A connection to the container's sentry whose calls also end when a process of the container is stopped.
base::ResultX<Client> connect_to(const Directory& d, const State& s);

// The state of the OCI spec with runc's additions (rootfs, created, owner), as one JSON object.
std::string state_json(const State& s, Status status);

// The spec's start. EINVAL unless created. Runs the poststart hooks. With `client`, its maker's connection.
base::ResultX<void> start_container(Directory& d, State& s, Client* client = nullptr);

// signo to init, or to every process. ESRCH when the container does not run. A sentry that does not answer is killed
// itself when signo is SIGKILL.
base::ResultX<void> signal_container(const Directory& d, const State& s, int signo, bool all);

// Kills what is left and takes everything away. Bounded: no step waits longer than a few seconds.
base::ResultX<void> destroy_container(const Root& root, Directory& d, const State& s);
// The verb: refuses a running container unless forced, runs poststop hooks.
base::ResultX<void> delete_container(const Root& root, const std::string& id, bool force);

// The sentry is told: it waits for the container's silent processes with patience, and looks anew at what may be changed from outside
// meanwhile.
base::ResultX<void> freeze_container(const Directory& d, const State& s, bool frozen);

}  // namespace runtime::container

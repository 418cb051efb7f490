// SPDX-License-Identifier: Apache-2.0
// A container's place in its pod: which sandbox it starts or joins, and which namespaces of that sandbox's kernel it is in.
#pragma once

#include <map>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/container/state.h"
#include "runtime/oci/spec.h"

namespace runtime::container {

// sandbox: starts a sentry that others may join; member: joins it; alone: has one for itself.
enum class Role { alone, sandbox, member };
struct Place {
  Role role = Role::alone;
  std::string sandbox;  // of a member: the id of the sandbox container
};
// From the annotations of containerd's or CRI-O's CRI. EINVAL: they say half a thing.
base::ResultX<Place> find_place(const std::string& id, const std::map<std::string, std::string>& annotations);

// Whether other containers may come to live with the sentry of the container with these annotations. EINVAL: as find_place().
base::ResultX<bool> may_have_members(const std::string& id, const std::map<std::string, std::string>& annotations);

// What a member needs to know of its pod.
struct Pod {
  State sandbox;
  base::Fd sentry;         // pidfd
  base::wire::Joins joins;
};
// EINVAL: there is no such sandbox container, or it does not run, or a namespace path leads out of the pod.
base::ResultX<Pod> find_pod(const Root& root, const Place& place, const oci::Spec& spec);

// Without root: enters the user namespace that the maker of the sandbox made.
base::ResultX<void> enter_user_namespace_of(const Pod& pod);

}  // namespace runtime::container

// SPDX-License-Identifier: Apache-2.0
// A program that takes a container's output: standard streams named binary:///PATH?KEY=VALUE. It finds standard output and error
// at its descriptors 3 and 4, and closes 5 when it is ready.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace shim::task {

bool is_logger(const std::string& stream);

struct LoggerCommand {
  std::string path;
  std::vector<std::string> args;  // key, value, key, value …
};
base::ResultX<LoggerCommand> parse_logger(const std::string& uri);

// Runs it with the reading ends of two pipes, and waits until it is ready. Blocks: for a worker.
base::ResultX<void> start_logger(const std::string& uri, const std::string& id, const std::string& space, int out, int err);

}  // namespace shim::task

// SPDX-License-Identifier: Apache-2.0
// For the stand-in programs of the life cycle tests: what a process can see of its jail, by system calls alone (there
// is no /proc inside).
#pragma once

#include <string>

// "key=value" lines.
std::string describe_world(int argc, char** argv);

// SPDX-License-Identifier: Apache-2.0
// profile-compile: turns a profile into a header of the build.
//   profile-compile --name NAME [--variant V] [--ip-symbols FILE] (--header OUT | --listing) PROFILE.json
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "seccomp-profiles/compiler/generate.h"

namespace {

using seccomp_profiles::compiler::ProfileError;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw ProfileError(path + ": cannot be read");
  return text.str();
}

int run(int argc, char** argv) {
  seccomp_profiles::compiler::ParseOptions options;
  std::string header, profile;
  bool listing = false;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    auto value = [&]() -> std::string {
      if (i + 1 >= argc) throw ProfileError(arg + " needs a value");
      return argv[++i];
    };
    if (arg == "--name") options.name = value();
    else if (arg == "--variant") options.variant = value();
    else if (arg == "--ip-symbols") options.ip_symbols = read_file(value());
    else if (arg == "--header") header = value();
    else if (arg == "--listing") listing = true;
    else if (!arg.empty() && arg[0] != '-' && profile.empty()) profile = arg;
    else throw ProfileError("unknown argument " + arg);
  }
  if (profile.empty() || options.name.empty() || header.empty() == !listing) {
    throw ProfileError("usage: profile-compile --name NAME [--variant V] [--ip-symbols FILE]"
                       " (--header OUT | --listing) PROFILE.json");
  }
  const std::string::size_type slash = profile.rfind('/');
  options.path = "seccomp-profiles/" + profile.substr(slash == std::string::npos ? 0 : slash + 1);
  const auto parsed = seccomp_profiles::compiler::parse_profile(read_file(profile), options);
  const auto compiled = seccomp_profiles::compiler::compile(parsed);
  if (listing) {
    std::fputs(listing_text(parsed, compiled).c_str(), stdout);
    return 0;
  }
  std::ofstream out(header, std::ios::binary);
  out << header_text(parsed, compiled, options.path);
  out.close();
  if (!out) throw ProfileError(header + ": cannot be written");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "profile-compile: error: %s\n", e.what());
    return 1;
  }
}

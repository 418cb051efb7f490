// SPDX-License-Identifier: Apache-2.0
// The version, where `caisson doctor` finds it in the file of every program.
extern "C" [[gnu::used, gnu::retain]] const char caisson_version_mark[] = "caisson-version:" CAISSON_VERSION;

// SPDX-License-Identifier: Apache-2.0
// The machine code of patched call sites (architecture 3.5): pure functions of bytes.
//
// A site is a `syscall` instruction. Two forms of patch leave every instruction's start where it was:
//   mov   `mov $nr,%eax; syscall`: the five bytes of the mov become `jmp rel32` to a trampoline anywhere within 2 GiB. The
//         `syscall` stays, so that a jump straight to it still traps and makes the right call.
//   pun   any other: only the two bytes of `syscall` become `e9 XX`, a jump whose other three bytes of displacement are
//         the next instruction's own (instruction punning). One of 256 targets, all in the same place, can be chosen.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace sentry::patch {

enum class Form : uint8_t { none, mov, pun };

inline constexpr size_t kSyscallLength = 2, kMovLength = 5;
inline constexpr size_t kTrampolineMax = 20;
inline constexpr size_t trampoline_length(Form f) { return f == Form::mov ? 20 : 15; }

// The bytes around a site: [0, 6) before, [6, 8) the instruction, [8, 11) after.
inline constexpr size_t kBefore = 6, kAfter = 3, kAround = kBefore + kSyscallLength + kAfter;

// Whether the bytes are a `mov $number,%eax; syscall` that may be patched. Never rt_sigreturn: debuggers and unwinders know a
// signal's restorer by its bytes.
bool is_mov_site(std::span<const std::byte, kAround> bytes, uint64_t number);
// The lowest of the 256 targets of a pun, relative to the site; none when the bytes are no `syscall`, would jump backwards, or
// may be patched themselves.
std::optional<uint64_t> pun_reach(std::span<const std::byte, kAround> bytes);

// The same without a thread that has trapped there: only sequences so long that chance does not make them. Compilers and C
// libraries write nearly all their calls so: a small number is loaded right before, or the result is compared with -4096 or
// -4095 right after.
enum class Sure : uint8_t { no, mov, pun };
inline constexpr size_t kAroundSure = kBefore + kSyscallLength + 6;
Sure sure_site(std::span<const std::byte, kAroundSure> bytes);
inline constexpr uint32_t kMaxNumber = 512;

// Five bytes for the mov at `site` - 5, or two for the site. Preconditions: the target is in reach.
std::array<std::byte, kMovLength> mov_patch(uint64_t site, uint64_t trampoline);
std::array<std::byte, kSyscallLength> pun_patch(uint64_t reach, uint64_t site, uint64_t trampoline);
// Loads the number (mov) and the return address, and goes through the pointer at %gs:`slot`. The length is trampoline_length().
std::array<std::byte, kTrampolineMax> trampoline(Form form, uint64_t at, uint64_t site, uint32_t number, uint32_t slot);

}  // namespace sentry::patch

// SPDX-License-Identifier: Apache-2.0
// The functions of the application code that the platform tests run in stubs (app.cc), by their place in its table.
#pragma once

#define APP_FUNCTIONS(F) \
  F(null_calls)          \
  F(call_once)           \
  F(touch)               \
  F(spin)                \
  F(vector_check)        \
  F(vector_spin)         \
  F(futex_wait)          \
  F(store_loop)          \
  F(raw_call)            \
  F(handler)             \
  F(count_calls)         \
  F(block_signals)       \
  F(trap)                \
  F(jump)                \
  F(gadget)              \
  F(scramble)            \
  F(int80)               \
  F(rogue_clone)         \
  F(direct_calls)        \
  F(mmap_cost)           \
  F(forge)               \
  F(gadget2)             \
  F(clone_loop)          \
  F(own_clone)

enum class App : unsigned {
#define F(name) name,
  APP_FUNCTIONS(F)
#undef F
};

// SPDX-License-Identifier: Apache-2.0
// fork of an address space: calls in flight are drained, new ones kept out, the host copies, then the list is copied.
// Linux: dup_mmap().
#include "sentry/mm/impl.h"

namespace sentry::mm {

Result<AddressSpace::Forked> AddressSpace::fork(platform::Context& parent, platform::Birthday when) {
  Impl& m = *impl_;
  settle(parent);
  Impl::Patience patience(m);
  for (;;) {
    std::vector<Flight> done;
    {
      MutexLock l(m.mu);
      m.note_completed_locked(parent, done);
      bool open = m.exclusive != nullptr;
      for (const Flight& f : m.flights) open = open || !f.complete;
      if (!open) {
        m.exclusive = &parent;
        break;
      }
    }
    done.clear();
    TRY(patience.wait());
  }
  auto forked = parent.fork(when);
  if (!forked.ok()) {
    MutexLock l(m.mu);
    m.exclusive = nullptr;
    return forked.error();
  }
  Ref<platform::Context> context = std::move(forked).value();
  Ref<AddressSpace> child = create(context->space());
  Impl& c = *child->impl_;
  std::vector<platform::MemoryCall> calls;
  {
    MutexLock2 l(m.mu, c.mu);
    for (auto& [start, v] : m.vmas.map()) {
      platform::MemoryCall call{};
      call.address = v.start;
      call.length = v.length();
      if (v.dont_fork) {
        call.op = platform::MemoryOp::unmap;
        calls.push_back(call);
        continue;
      }
      if (v.wipe_on_fork) {
        call.op = platform::MemoryOp::map_anonymous;
        call.prot = v.prot;
        call.flags = MAP_PRIVATE | MAP_FIXED;
        calls.push_back(call);
      }
      Vma copy = v;
      copy.locked = copy.lock_on_fault = false;  // man 2 mlock: not inherited
      c.vmas.insert(std::move(copy));
    }
    c.limits = m.limits;
    c.layout = m.layout;
    c.brk_start = m.brk_start;
    c.brk_end = m.brk_end;
    c.stack_low = m.stack_low;
    c.patches = m.patches;
    c.left_patches = m.left_patches;
    c.patched.store(m.patched.load(std::memory_order_relaxed), std::memory_order_relaxed);
    c.domain = m.domain;
    c.may_patch = m.may_patch;
    m.exclusive = nullptr;
  }
  c.vvar = m.vvar;
  c.vdso = m.vdso;
  c.vdso_end = m.vdso_end;
  child->arg_start = arg_start;
  child->arg_end = arg_end;
  child->env_start = env_start;
  child->env_end = env_end;
  child->stack_start = stack_start;
  child->code_start = code_start;
  child->code_end = code_end;
  child->auxv = auxv;
  child->executable = executable;
  for (const platform::MemoryCall& call : calls) {
    uint64_t stamp = 0;
    auto r = context->queue_memory_call(call, &stamp);  // done before the child's first instruction
    if (!r.ok()) {
      context->space().kill();
      return r.error();
    }
  }
  return Forked{std::move(child), std::move(context)};
}

}  // namespace sentry::mm

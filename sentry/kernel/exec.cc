// SPDX-License-Identifier: Apache-2.0
// execve. The new program is loaded completely into a fresh stub before anything of the old one is given up, so that every
// error is an errno; then the other threads end, and the task moves over.
#include "sentry/kernel/exec.h"

#include <sys/mount.h>

#include "sentry/kernel/futex.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/keys.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/trace.h"
#include "sentry/vfs/locks.h"

namespace sentry::kernel {
namespace {

constexpr uint32_t kAddrNoRandomize = 0x0040000;

// See NewImage.
struct Gained {
  bool ids_changed = false, dumpable = true;
  RefOrNull<auth::UserNamespace> user_ns;
};

// Credentials of the new program. Linux: bprm_fill_uid(), cap_bprm_creds_from_file().
Result<Ref<auth::Credentials>> program_credentials(vfs::File& program, const auth::Credentials& old, bool may_gain,
                                                   const vfs::MountNamespace* mounts, Gained* image) {
  Ref<auth::Credentials> cred = old.copy();
  std::optional<auth::Credentials::FileCaps> caps;
  const RefOrNull<vfs::Mount>& mount = program.path().mount;  // none: a memfd, whose bits and capabilities do not count
  const auth::UserNamespace* own = old.user_ns.get();
  const bool may_suid = mount && !(mount->flags() & MS_NOSUID) && !old.no_new_privs && may_gain && (!mounts || mounts->holds(*mount)) &&
                        auth::lies_in(own, mount->fs()->user_ns().get());
  vfs::Attributes a = TRY(program.inode().attributes());
  const bool named = auth::uid_in(own, a.uid) != auth::kNoId && auth::gid_in(own, a.gid) != auth::kNoId;
  if (may_suid) {
    if (named && (a.mode & S_ISUID)) cred->euid = a.uid;
    if (named && (a.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) cred->egid = a.gid;
    Result<std::string> x = program.inode().get_xattr("security.capability");
    if (x.ok()) {
      Result<auth::Credentials::FileCaps> parsed = auth::Credentials::parse_file_caps(*x);
      if (parsed.ok() && cred->counts(*parsed)) caps = parsed.value();
    }
  }
  TRY(cred->apply_exec(caps ? &*caps : nullptr));
  const bool setid = cred->euid != cred->uid || cred->egid != cred->gid;
  image->ids_changed = setid || (cred->uid != cred->root_uid() && (cred->cap_permitted & ~cred->cap_ambient) != 0);
  const bool unreadable = !vfs::may_access(program.path(), R_OK, old).ok();
  image->dumpable = !image->ids_changed && cred->euid == old.euid && cred->egid == old.egid && !unreadable;
  // Linux: would_dump(). Root of a namespace that does not know the file's owner does not get to see the file.
  image->user_ns = old.user_ns;
  if (unreadable) {
    while (image->user_ns && (auth::uid_in(image->user_ns.get(), a.uid) == auth::kNoId ||
                              auth::gid_in(image->user_ns.get(), a.gid) == auth::kNoId))
      image->user_ns = RefOrNull<auth::UserNamespace>(image->user_ns->parent);
  }
  return cred;
}

// Whether the program will be in a time namespace whose clocks the vDSO does not know.
bool has_other_clocks(Task& t) {
  RefOrNull<TimeNamespace> ns;
  MutexLock l(t.impl().mu);
  ns = t.impl().child_time;
  return ns && (ns->monotonic_ns.load() != 0 || ns->boottime_ns.load() != 0);
}

// Ends all other threads of the process and makes this one its leader. EAGAIN: this thread must end instead.
Result<void> become_only_thread(Task& t) {
  ThreadGroup& g = t.group();
  ThreadGroup::Impl& i = g.impl();
  {
    MutexLock l(i.mu);
    if (must_exit_locked(i, t)) return kEAGAIN;
    i.exec_task = &t;
    for (const Ref<Task>& other : i.tasks)
      if (other.get() != &t) wake_task_locked(i, *other);
  }
  auto alone = [&] {
    MutexLock l(i.mu);
    return i.tasks.size() == 1 || i.exiting;
  };
  IGNORE_ERROR(sched::wait_for(i.stop_queue, alone, sched::kNever, sched::Interruptible::no), "no deadline");
  RefOrNull<Task> old_leader;
  MutexLock l(task_set_lock);
  MutexLock m(i.mu);
  i.exec_task = nullptr;
  if (i.exiting) return kEAGAIN;
  old_leader = i.leader;
  if (old_leader.get() == &t) return {};
  // This thread takes over the number of the process; its own becomes free.
  unlink_task_locked(t);
  t.impl().ids = i.ids;
  t.impl().tid = i.pid.load();
  for (const PidLink& link : i.ids) link.ns->impl().entries[link.number].task = Ref<Task>(t);
  i.leader = Ref<Task>(t);
  // The old leader goes without a word to its tracer: its number lives on.
  if (Task* tracer = old_leader ? old_leader->impl().trace.tracer : nullptr) {
    tracer->group().impl().tracees.remove_if([&](const Ref<Task>& x) { return x.get() == old_leader.get(); });
    old_leader->impl().trace.tracer = nullptr;
    old_leader->impl().trace.mode = 0;
  }
  return {};
}

void leave_old_memory(Task& t) {
  walk_robust_list(t);
  uint64_t clear_tid = clear_child_tid(t);
  cpu_leave(t.group(), t.context().space());
  bool mine = true;
  release_vfork(t, &mine);
  drop_mm(t, clear_tid, mine);
}

void enter_new_memory(Task& t, NewImage& image) {
  Ref<SharedMm> mm = make_ref<SharedMm>(image.space);
  if (image.program->inode().deny_write_access().ok()) mm->program = make_ref<RunningProgram>(image.program);
  mm->dumpable = image.dumpable;
  mm->user_ns = image.user_ns;
  {
    MutexLock l(t.impl().mu);
    t.impl().mm = std::move(mm);
  }
  cpu_enter(t.group(), 0);
  MutexLock l(t.group().impl().mu);
  TaskAccess::context(t) = image.context;
  t.impl().lending = false;
}

void reset_signals(Task& t) {
  ThreadGroup& g = t.group();
  Ref<SignalHandlers> handlers = g.handlers();
  handlers = handlers->copy();  // another process may share the table
  handlers->reset_for_exec();
  Task::Impl& i = t.impl();
  i.altstack_sp = i.altstack_size = 0;
  i.altstack_flags = SS_DISABLE;
  i.robust_list = i.clear_child_tid = 0;
  i.restart = RestartBlock{};
  i.fault_signal = 0;
  RefOrNull<SignalHandlers> old(std::move(handlers));
  MutexLock l(g.impl().mu);
  std::swap(g.impl().handlers, old);
  i.forced_default = 0;
}

void close_on_exec(Task& t) {
  Ref<FdTable> files = t.files();
  if (files->ref_count() > 2) {  // shared with another task
    files = files->copy();
    t.set_files(files);
  }
  for (const Ref<vfs::File>& f : files->remove_cloexec())
    IGNORE_ERROR(vfs::close_descriptor(*f, files.get()), "execve has succeeded");
}

std::string base_name(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

Result<ExecRequest> open_request(Task& t, WalkOpener& opener, ExecArgs& args) {
  unsigned flags = vfs::kFollow;
  if (args.flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) return kEINVAL;
  if (args.flags & AT_SYMLINK_NOFOLLOW) flags = 0;
  if (args.path.empty() && !(args.flags & AT_EMPTY_PATH)) return kENOENT;
  if (args.path.empty()) flags |= vfs::kAllowEmpty;
  Ref<vfs::File> f = TRY(opener.open_flags(args.path, flags));
  ExecRequest r{std::move(f), args.path, std::move(args.args), std::move(args.env), false};
  if (args.dirfd != AT_FDCWD && (args.path.empty() || args.path[0] != '/')) {
    r.filename = base::format("/dev/fd/{}", args.dirfd);
    if (!args.path.empty()) r.filename += "/" + args.path;
    Result<bool> cloexec = t.files()->cloexec(args.dirfd);
    r.path_inaccessible = cloexec.ok() && *cloexec;
  }
  return r;
}

}  // namespace

// Linux: do_open_execat().
Result<Ref<vfs::File>> WalkOpener::open_flags(std::string_view path, unsigned walk_flags) {
  vfs::Path p = TRY(vfs::walk(context_, path, walk_flags));
  RefOrNull<vfs::Inode> inode = p.inode();
  if (!inode) return kENOENT;
  if (inode->is_symlink()) return kELOOP;
  if (!inode->is_regular()) return kEACCES;
  if (p.mount && (p.mount->flags() & MS_NOEXEC)) return kEACCES;
  TRY(vfs::may_access(p, X_OK, *context_.cred));
  return inode->open(p, O_RDONLY, context_.cred);
}

arch::Registers first_registers(const LoadedProgram& p) {
  arch::Registers r;
  r.rip = p.entry;
  r.rsp = p.stack_pointer;
  return r;
}

patch::Domain patch_domain(const Container& c, const auth::Credentials& cred) {
  if (cred.user_ns || cred.uid != cred.euid || cred.uid != cred.suid || cred.uid != cred.fsuid) return {};
  return {c.number(), cred.uid, cred.cap_permitted};
}

Result<NewImage> build_image(Container& container, ProgramOpener& opener, ExecRequest request,
                             const Ref<auth::Credentials>& old, const std::array<rlimit64, RLIM_NLIMITS>& limits,
                             bool randomize, bool may_gain, const vfs::MountNamespace* mounts, bool host_clocks) {
  ResolvedProgram program = TRY(resolve_program(std::move(request), opener));
  Gained gained;
  Ref<auth::Credentials> cred = TRY(program_credentials(*program.file, *old, may_gain, mounts, &gained));
  Ref<platform::Zygote> zygote = container.zygote();
  Ref<platform::Context> context = TRY(zygote->new_process());
  context->set_fiber(sched::current());
  Ref<mm::AddressSpace> space = mm::AddressSpace::create(context->space());
  LoadParameters p{.credentials = *cred, .secure = gained.ids_changed, .limits = {}, .random = {}, .randomize = randomize,
                   .vvar_address = zygote->vvar_address(), .vdso_address = host_clocks ? zygote->vdso_address() : 0,
                   .vdso_length = zygote->vdso_length()};
  p.limits = mm::Limits{limits[RLIMIT_AS].rlim_cur, limits[RLIMIT_DATA].rlim_cur, limits[RLIMIT_STACK].rlim_cur,
                        limits[RLIMIT_MEMLOCK].rlim_cur};
  fill_random(p.random.data(), sizeof p.random);
  Result<LoadedProgram> loaded = load_program(*context, *space, program, opener, p);
  if (!loaded.ok()) {
    space->context_gone(*context);
    context->space().kill();
    return loaded.error();
  }
  space->use_patches(*context, patch_domain(container, *cred));
  return NewImage{context, space, program.file, cred, program.filename, loaded.value(), gained.ids_changed, gained.dumpable, gained.user_ns};
}

Result<void> exec_task(Task& t, ExecArgs args) {
  // A path relative to a descriptor, or the descriptor itself.
  vfs::WalkContext walk = TRY(args.path.empty() && args.dirfd != AT_FDCWD ? t.walk_context_at(args.dirfd, "")
                                                                          : t.walk_context_at(args.dirfd, args.path));
  WalkOpener opener(std::move(walk));
  ExecRequest request = TRY(open_request(t, opener, args));
  std::array<rlimit64, RLIM_NLIMITS> limits;
  {
    MutexLock l(t.group().impl().mu);
    limits = t.group().impl().limits;
  }
  // Interpreters are found from the task's cwd, whatever directory the program was named by.
  WalkOpener interpreters(t.walk_context());
  NewImage image = TRY(build_image(t.container(), interpreters, std::move(request), t.credentials(), limits,
                                   !(t.impl().personality.load() & kAddrNoRandomize), tracer_is_capable(t), t.fs()->mounts().get(), !has_other_clocks(t)));
  const int old_tid = traced(t) ? tid_for_tracer(t, t) : 0;
  Result<void> alone = become_only_thread(t);
  if (!alone.ok()) {
    image.space->context_gone(*image.context);
    image.context->space().kill();
    return alone;
  }

  // From here on there is no way back.
  leave_old_memory(t);
  enter_new_memory(t, image);
  t.group().impl().timers->clear_created();
  reset_signals(t);
  close_on_exec(t);
  enter_time_for_children(t);
  drop_keyrings_for_exec(t);
  if (image.ids_changed) t.impl().pdeath_signal = 0;
  t.set_credentials(image.credentials);
  t.set_name(base_name(image.filename));
  {
    vfs::Path exe = image.program->path();
    MutexLock l(t.group().impl().mu);
    std::swap(t.group().impl().exe, exe);
    recalculate_pending_locked(t.group().impl(), t);
  }
  {
    MutexLock l(task_set_lock);
    t.group().impl().did_exec = true;
    if (t.group().impl().exit_signal != 0) t.group().impl().exit_signal = SIGCHLD;
  }
  t.context().set_registers(first_registers(image.start), true);
  t.impl().keep_registers = true;
  if (__builtin_expect(traced(t), 0)) trace_exec(t, old_tid);
  return {};
}

}  // namespace sentry::kernel

// SPDX-License-Identifier: Apache-2.0
// The ioctls of terminals and the rules of job control. man 2 ioctl_tty.
#include <asm/ioctls.h>
#include <signal.h>

#include "sentry/fs/tty/core.h"
#include "sentry/mm/user.h"

namespace sentry::fs::tty {
namespace {

using kernel::Task;
using mm::UserIn;
using mm::UserOut;

// struct termios2 of asm/termbits.h begins with termios; speeds follow.
termios2 with_speeds(const termios& t) {
  termios2 out{};
  out.c_iflag = t.c_iflag;
  out.c_oflag = t.c_oflag;
  out.c_cflag = t.c_cflag;
  out.c_lflag = t.c_lflag;
  out.c_line = t.c_line;
  for (int i = 0; i < NCCS; i++) out.c_cc[i] = t.c_cc[i];
  out.c_ispeed = out.c_ospeed = 38400;
  return out;
}
termios without_speeds(const termios2& t) {
  termios out{};
  out.c_iflag = t.c_iflag;
  out.c_oflag = t.c_oflag;
  out.c_cflag = t.c_cflag;
  out.c_lflag = t.c_lflag;
  out.c_line = t.c_line;
  for (int i = 0; i < NCCS; i++) out.c_cc[i] = t.c_cc[i];
  return out;
}

bool signal_is_ignored_or_blocked(Task& task, int signo) {
  if (task.blocked() & kernel::signal_bit(signo)) return true;
  return task.group().handlers()->get(signo).handler == reinterpret_cast<uint64_t>(SIG_IGN);
}

}  // namespace

// Linux: __tty_check_change(): a background group that reads or changes the terminal is stopped.
Result<void> Terminal::check_change(int signo) {
  Task* task = Task::find_current();
  if (!task) return {};
  auto session = task->group().session();
  auto tty = session->tty();
  if (tty.get() != this) return {};
  auto group = task->group().process_group();
  auto foreground = session->foreground();
  if (!foreground || foreground.get() == group.get()) return {};
  if (signal_is_ignored_or_blocked(*task, signo)) {
    if (signo == SIGTTIN) return kEIO;
    return {};
  }
  if (group->is_orphaned()) return kEIO;
  group->send_signal(kernel::SignalInfo::kernel(signo));
  return kERESTARTSYS;
}

Result<void> Terminal::drain() {
  return sched::wait_for(queue_, [&] {
    MutexLock l(mu_);
    return hung_up_ || echo_.empty();
  });
}

Result<long> Terminal::set_termios(platform::Context& c, uint32_t command, uint64_t arg) {
  termios t;
  bool two = command == TCSETS2 || command == TCSETSW2 || command == TCSETSF2;
  if (two) t = without_speeds(TRY(UserIn<termios2>(arg).copy_in(c)));
  else t = TRY(UserIn<termios>(arg).copy_in(c));
  TRY(check_change(SIGTTOU));
  bool flush = command == TCSETSF || command == TCSETSF2;
  if (command != TCSETS && command != TCSETS2) TRY(drain());
  unsigned packet = 0;
  {
    MutexLock l(mu_);
    termios old = t_;
    t_ = t;
    if (flush) discard_input();
    mode_changed(old);
    bool was = is(old.c_iflag, IXON) && old.c_cc[VSTOP] == 19 && old.c_cc[VSTART] == 17;
    bool now = is(t.c_iflag, IXON) && t.c_cc[VSTOP] == 19 && t.c_cc[VSTART] == 17;
    if (was != now) packet = now ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP;
    if (is(old.c_lflag, EXTPROC) || is(t.c_lflag, EXTPROC)) packet |= TIOCPKT_IOCTL;
  }
  port_->notify(packet);
  queue_.wake_all();
  input_changed();
  return 0L;
}

Result<long> Terminal::make_controlling(bool steal) {
  Task& task = Task::current();
  auto session = task.group().session();
  bool leader = session->id_in(task.group().pid_namespace()) == task.group().pid();
  auto current = session->tty();
  if (leader && current.get() == this) return 0L;
  if (!leader || current) return kEPERM;
  RefOrNull<kernel::Session> robbed;
  {
    MutexLock l(mu_);
    if (session_ref_) {
      if (!steal || !task.credentials()->has_cap(CAP_SYS_ADMIN)) return kEPERM;
      robbed = std::move(session_ref_);
    }
    session_ = session.get();
    session_ref_ = session;
  }
  if (robbed) {
    robbed->set_tty(nullptr);
    robbed->set_foreground(nullptr);
  }
  session->set_tty(RefOrNull<kernel::TtyLink>(Ref<kernel::TtyLink>(*this)));
  session->set_foreground(task.group().process_group());
  return 0L;
}

void Terminal::maybe_adopt(int open_flags) {
  Task* task = Task::find_current();
  if (!task || (open_flags & (O_NOCTTY | O_PATH)) || (open_flags & O_ACCMODE) == O_WRONLY) return;
  {
    MutexLock l(mu_);
    if (session_ref_) return;
  }
  IGNORE_ERROR(make_controlling(false), "a process that leads no session opens it like any file");
}

Result<long> Terminal::ids_for_master(platform::Context& c, uint32_t command, uint64_t arg) {
  RefOrNull<kernel::Session> session;
  {
    MutexLock l(mu_);
    session = session_ref_;
  }
  auto& pids = Task::current().group().pid_namespace();
  if (command == TIOCGSID) {
    if (!session) return kENOTTY;
    TRY(UserOut<int>(arg).copy_out(c, session->id_in(pids)));
    return 0L;
  }
  auto foreground = session ? session->foreground() : RefOrNull<kernel::ProcessGroup>();
  TRY(UserOut<int>(arg).copy_out(c, foreground ? foreground->id_in(pids) : 0));
  return 0L;
}

Result<long> Terminal::job_ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  Task& task = Task::current();
  auto session = task.group().session();
  auto& pids = task.group().pid_namespace();
  bool ours = session->tty().get() == this;
  switch (command) {
    case TIOCSCTTY: return make_controlling(arg == 1);
    case TIOCNOTTY:
      if (!ours) return kENOTTY;
      if (session->id_in(pids) == task.group().pid()) {
        leave_session(*session, false);
      } else {
        // Differs from Linux: the terminal belongs to all of its session, so one member cannot give it up alone.
        return kENOTTY;
      }
      return 0L;
    case TIOCGPGRP: {
      if (!ours) return kENOTTY;
      auto fg = session->foreground();
      int id = fg ? fg->id_in(pids) : 0;
      TRY(UserOut<int>(arg).copy_out(c, id));
      return 0L;
    }
    case TIOCGSID: {
      if (!ours) return kENOTTY;
      TRY(UserOut<int>(arg).copy_out(c, session->id_in(pids)));
      return 0L;
    }
    default: {  // TIOCSPGRP
      int id = TRY(UserIn<int>(arg).copy_in(c));
      TRY(check_change(SIGTTOU));
      if (!ours) return kENOTTY;
      if (id < 0) return kEINVAL;
      auto group = pids.find_process_group(id);
      if (!group) return kESRCH;
      if (&group->session() != session.get()) return kEPERM;
      session->set_foreground(group);
      return 0L;
    }
  }
}

Result<long> Terminal::ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  switch (command) {
    case TCGETS: TRY(UserOut<termios>(arg).copy_out(c, settings())); return 0L;
    case TCGETS2: TRY(UserOut<termios2>(arg).copy_out(c, with_speeds(settings()))); return 0L;
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2: return set_termios(c, command, arg);
    case TIOCGWINSZ: TRY(UserOut<WindowSize>(arg).copy_out(c, size())); return 0L;
    case TIOCSWINSZ: set_size(TRY(UserIn<WindowSize>(arg).copy_in(c))); return 0L;
    case TIOCSCTTY:
    case TIOCNOTTY:
    case TIOCGPGRP:
    case TIOCSPGRP:
    case TIOCGSID: return job_ioctl(c, command, arg);
    case FIONREAD: {
      int n;
      {
        MutexLock l(mu_);
        n = static_cast<int>(is(t_.c_lflag, ICANON) && lines_.empty() ? 0 : readable_bytes());
        if (is(t_.c_lflag, ICANON) && !lines_.empty()) n = static_cast<int>(lines_.front().size());
      }
      TRY(UserOut<int>(arg).copy_out(c, n));
      return 0L;
    }
    case TIOCOUTQ: TRY(UserOut<int>(arg).copy_out(c, 0)); return 0L;
    case TCSBRK:
    case TCSBRKP: TRY(check_change(SIGTTOU)); TRY(drain()); return 0L;
    case TCXONC: {
      TRY(check_change(SIGTTOU));
      if (arg > 3) return kEINVAL;
      if (arg <= 1) {  // TCOOFF, TCOON
        MutexLock l(mu_);
        stopped_ = arg == 0;
      }
      port_->notify(arg == 0 ? TIOCPKT_STOP : arg == 1 ? TIOCPKT_START : 0);
      room_again();
      return 0L;
    }
    case TCFLSH: {
      TRY(check_change(SIGTTOU));
      if (arg > 2) return kEINVAL;
      {
        MutexLock l(mu_);
        if (arg != 1) discard_input();
        if (arg != 0) echo_.clear();
      }
      if (arg != 0) port_->discard_output();
      port_->notify((arg != 1 ? TIOCPKT_FLUSHREAD : 0u) | (arg != 0 ? TIOCPKT_FLUSHWRITE : 0u));
      input_changed();
      return 0L;
    }
    case TIOCSTI: return kEIO;  // Linux with dev.tty.legacy_tiocsti = 0
    case TIOCGETD: TRY(UserOut<int>(arg).copy_out(c, 0)); return 0L;
    case TIOCSETD: return TRY(UserIn<int>(arg).copy_in(c)) == 0 ? Result<long>(0L) : Result<long>(kEINVAL);
    default: return kENOTTY;
  }
}

}  // namespace sentry::fs::tty

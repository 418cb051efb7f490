# SPDX-License-Identifier: Apache-2.0
"""For tests that count what is left: the test runs again in PID, mount, network and IPC namespaces of its own, so that whatever it
sees there is its own; and processes are stopped or killed at the n-th system call they make of the host."""
import ctypes, errno, os, shutil, signal, subprocess, sys, tempfile, time

MARK = 'CAISSON_TEST_ALONE'
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x8000000, 0x40000000, 0x20000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
PTRACE_TRACEME, PTRACE_DETACH, PTRACE_SYSCALL, PTRACE_SETOPTIONS = 0, 17, 24, 0x4200
PTRACE_O_TRACESYSGOOD = 1


def enter():
    """Call first in a test's main: comes back in the namespaces. Process 1 of them is here too, and reaps what others leave."""
    if MARK in os.environ:
        return
    if libc.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID) != 0:
        sys.exit('this test makes namespaces and needs root: ' + os.strerror(ctypes.get_errno()))
    init = os.fork()
    if init:
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, lambda *_: os.kill(init, signal.SIGKILL))
        _, status = os.waitpid(init, 0)
        sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
    subprocess.run(['mount', '--make-rprivate', '/'], check=True)
    subprocess.run(['mount', '-t', 'proc', 'proc', '/proc'], check=True)
    os.makedirs('/var/lib/caisson', exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', '/var/lib/caisson'], check=True)
    # Ids of containers and groups must not meet those of another test on the host: pids are no help in here.
    os.environ[MARK] = os.path.basename(tempfile.mkdtemp(prefix='alone'))
    os.rmdir(os.path.join(tempfile.gettempdir(), os.environ[MARK]))
    test = os.fork()
    if test:
        while True:
            pid, status = os.wait()
            if pid == test:
                os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def processes():
    """pid -> (name, state) of everything that is not a zombie, but this process and process 1."""
    out = {}
    for p in os.listdir('/proc'):
        if not p.isdigit() or int(p) in (1, os.getpid()):
            continue
        try:
            with open('/proc/%s/stat' % p) as f:
                text = f.read()
        except OSError:
            continue
        name, state = text[text.index('(') + 1:text.rindex(')')], text[text.rindex(')') + 2]
        if state not in 'ZX':
            out[int(p)] = (name, state)
    return out


def more(before, after):
    """What is in after that was not in before, by kind."""
    out = {}
    for kind, now in after.items():
        then = before[kind]
        extra = sorted(set(now) - set(then)) if isinstance(now, list) else now - then
        if extra if isinstance(now, list) else extra > 0:
            out[kind] = extra
    return out


def count(state_directory):
    """Everything that a container may leave, by kind."""
    left = {'processes': sorted('%d %s' % (p, n) for p, (n, _) in processes().items())}
    with open('/proc/self/mountinfo') as f:
        left['mounts'] = sorted(line.split(' - ')[0] for line in f)
    left['cgroups'] = sorted(os.path.join(top, d) for top, dirs, _ in os.walk('/sys/fs/cgroup') for d in dirs if os.environ[MARK] in d)
    with open('/proc/net/unix') as f:
        left['sockets'] = len(f.readlines()) - 1
    spaces = set()
    for p in list(processes()) + [os.getpid()]:
        try:
            spaces |= {os.readlink('/proc/%d/ns/%s' % (p, n)) for n in os.listdir('/proc/%d/ns' % p)}
        except OSError:
            pass
    left['namespaces'] = len(spaces)
    left['files'] = sorted(os.path.join(top, n) for where in (state_directory, '/var/lib/caisson') for top, dirs, files in os.walk(where)
                           for n in dirs + files if n not in ('.ids', 'store'))
    left['descriptors'] = len(os.listdir('/proc/self/fd'))
    return left


def wait_fair(condition, patience):
    """Polls until the condition holds (True), or this process itself has run for `patience` seconds meanwhile: a test that is frozen
    or crowded out with everything else has not waited. Also tells how long it was."""
    waited, last = 0.0, time.monotonic()
    while True:
        if condition():
            return True, waited
        if waited > patience:
            return False, waited
        time.sleep(0.002)
        now = time.monotonic()
        waited += min(now - last, 0.1)
        last = now


class Stepped:
    """A program that is our child and is stopped at the n-th entry to or return from a system call."""

    def __init__(self, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        self.calls, self.code, self.deliver, self.executed, self.blocked = 0, None, 0, False, False
        self.pid = os.fork()
        if self.pid == 0:
            try:
                null = os.open('/dev/null', os.O_RDWR)
                os.dup2(null, 0)
                for n, to in ((1, stdout), (2, stderr)):
                    os.dup2(null if to == subprocess.DEVNULL else to.fileno(), n)
                libc.ptrace(PTRACE_TRACEME, 0, None, None)
                os.kill(os.getpid(), signal.SIGSTOP)
                os.execv(command[0], command)
            finally:
                os._exit(127)
        os.waitpid(self.pid, 0)
        libc.ptrace(PTRACE_SETOPTIONS, self.pid, None, PTRACE_O_TRACESYSGOOD)

    def run_to(self, calls, idle=0.5):
        """Lets it run to its calls-th entry or return, or until one call has taken it `idle` seconds; False if it ended before."""
        self.blocked = False
        while self.calls < calls:
            libc.ptrace(PTRACE_SYSCALL, self.pid, None, self.deliver)
            end = time.monotonic() + idle
            while True:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > end:
                    self.blocked = True
                    return True
                time.sleep(0.0002)
            if not os.WIFSTOPPED(status):
                self.code = os.waitstatus_to_exitcode(status)
                return False
            self.deliver = 0
            if os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
                self.calls += self.executed
            elif os.WSTOPSIG(status) == signal.SIGTRAP and not self.executed:
                self.executed = True
            else:
                self.deliver = os.WSTOPSIG(status)
        return True

    def let_go(self, signo):
        """Sends it a signal, and does not trace it any more."""
        if self.code is not None:
            return
        os.kill(self.pid, signo)
        if signo == signal.SIGKILL:
            return
        if self.blocked:
            os.waitpid(self.pid, 0)
        libc.ptrace(PTRACE_DETACH, self.pid, None, signo if self.blocked else 0)
        while signo == signal.SIGSTOP and processes().get(self.pid, ('', 'T'))[1] != 'T':
            time.sleep(0.0005)

    def ended(self, patience):
        """Its exit code (-n after signal n), or None if it does not end."""
        def look():
            if self.code is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.code = os.waitstatus_to_exitcode(status)
            return self.code is not None
        wait_fair(look, patience)
        return self.code

    def signal(self, signo):
        if self.code is None:
            os.kill(self.pid, signo)

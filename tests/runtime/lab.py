# SPDX-License-Identifier: Apache-2.0
"""What the tests of the runtime share: bundles, runtimes, terminals, and a look at what is left behind."""
import array, fcntl, json, os, pty, re, select, shutil, signal, socket, struct, subprocess, sys, tempfile, termios, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import spec

CAISSON = os.environ.get('CAISSON', 'caisson')
ROOTFS = os.environ.get('CAISSON_ROOTFS', '')
# Under an emulated or loaded machine everything takes longer; no test measures time from above by less than this.
PATIENCE = float(os.environ.get('CAISSON_PATIENCE', '30'))
CAPS = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FSETID', 'CAP_FOWNER', 'CAP_MKNOD', 'CAP_SETGID', 'CAP_SETUID', 'CAP_KILL']


def config(args, terminal=False, **changes):
    """A usual config; changes: members of the top level, merged into it one level deep."""
    c = {
        'ociVersion': '1.0.2',
        'process': {'terminal': terminal, 'user': {'uid': 0, 'gid': 0}, 'cwd': '/', 'args': args,
                    'env': [spec.PATH, 'HOME=/root', 'TERM=xterm', 'LC_ALL=C.UTF-8'],
                    'capabilities': {k: CAPS for k in ('bounding', 'effective', 'permitted')}},
        'root': {'path': ROOTFS, 'readonly': True},
        'hostname': 'box',
        'mounts': spec.mounts(),
        'linux': {'namespaces': [{'type': t} for t in ('pid', 'ipc', 'uts', 'mount', 'network')]},
    }
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(c.get(key), dict):
            c[key].update(value)
        else:
            c[key] = value
    return c


def wait_until(condition, what, patience=None):
    left, then = patience or PATIENCE, time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        if left <= 0:
            raise AssertionError('waited %.0f s in vain for %s' % (patience or PATIENCE, what))
        time.sleep(0.02)
        now = time.monotonic()
        left -= min(now - then, 5)  # a machine that stood still has not been waited for
        then = now


class Box:
    """A scratch directory with a state directory, and one runtime."""

    def __init__(self, runtime, flags=()):
        if not ROOTFS:
            sys.exit('no root file system: set CAISSON_ROOTFS (tests/rootfs.sh prints one)')
        self.runtime = runtime
        self.top = tempfile.mkdtemp(prefix='caisson-runtime.')
        self.state = os.path.join(self.top, 'state')
        self.command = ['runc' if runtime == 'runc' else CAISSON, '--root', self.state] + list(flags)
        self.ids = set()
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            left = os.listdir(self.state)
        except OSError:
            left = []
        for name in left:
            if not name.startswith('.'):
                self.call('delete', '--force', name)
        shutil.rmtree(self.top, ignore_errors=True)

    def bundle(self, c, text=None):
        self.count += 1
        d = os.path.join(self.top, 'b%d' % self.count)
        os.mkdir(d)
        with open(os.path.join(d, 'config.json'), 'w') as f:
            f.write(json.dumps(c) if text is None else text)
        return d

    def name(self):
        self.count += 1
        return 'rt-%s-%d-%d' % (self.runtime, os.getpid(), self.count)

    def call(self, *args, input=None, timeout=200, flags=(), **more):
        """Runs a verb to its end: (exit code, stdout, stderr)."""
        p = subprocess.run(self.command + list(flags) + list(args), input=input, capture_output=True, timeout=timeout,
                           **({'stdin': subprocess.DEVNULL} if input is None else {}), **more)
        return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')

    def create(self, bundle, id, *flags):
        """Exit code alone: the container keeps the standard streams."""
        return subprocess.run(self.command + ['create', *flags, '--bundle', bundle, id], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=200).returncode

    def run(self, c, *flags, **more):
        """A container from config to end."""
        return self.call('run', *flags, '--bundle', self.bundle(c), self.name(), **more)

    def start(self, c, *flags):
        """A container that runs in the background, with its standard streams closed; its id."""
        id = self.name()
        with open(os.path.join(self.top, id + '.out'), 'w') as out:
            p = subprocess.run(self.command + ['run', '--detach', '--bundle', self.bundle(c)] + list(flags) + [id],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=200)
        if p.returncode:
            raise AssertionError('%s run -d: exit %d: %s' % (self.runtime, p.returncode, self.output(id)))
        return id

    def output(self, id):
        with open(os.path.join(self.top, id + '.out')) as f:
            return f.read()

    def status(self, id):
        code, out, _ = self.call('state', id)
        return json.loads(out)['status'] if code == 0 else None

    def pid(self, id):
        return json.loads(self.call('state', id)[1])['pid']

    def on_terminal(self, *args, rows=24, cols=80):
        return Terminal.of_command(self.command + list(args), rows, cols)


class Terminal:
    """The outer side of a terminal: types, and waits for what is shown."""

    def __init__(self, fd, pid=None):
        self.fd, self.pid, self.seen, self.all = fd, pid, '', ''

    @staticmethod
    def of_command(command, rows, cols):
        pid, fd = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', rows, cols, 0, 0))
            try:
                os.execvp(command[0], command)
            finally:
                os._exit(127)
        return Terminal(fd, pid)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, cols, 0, 0))

    def type(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.fd, data):]

    def more(self, seconds):
        """Reads what comes; False at the end of the terminal."""
        r, _, _ = select.select([self.fd], [], [], seconds)
        if not r:
            return True
        try:
            b = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += b.decode(errors='replace')
        self.all += b.decode(errors='replace')
        return bool(b)

    def expect(self, pattern, patience=None):
        """Waits for the pattern; what came before it and itself is used up. Returns the match."""
        end = time.monotonic() + (patience or PATIENCE)
        while True:
            m = re.search(pattern, self.seen, re.S)
            if m:
                self.seen = self.seen[m.end():]
                return m
            if time.monotonic() > end or not self.more(0.2):
                m = re.search(pattern, self.seen, re.S)
                if m:
                    self.seen = self.seen[m.end():]
                    return m
                raise AssertionError('no %r on the terminal, but:\n%s' % (pattern, self.all[-3000:]))

    def finish(self, patience=None):
        """Reads to the end; the exit code of the command."""
        end = time.monotonic() + (patience or PATIENCE)
        while self.more(0.2):
            if time.monotonic() > end:
                self.kill()
                raise AssertionError('the command did not end:\n%s' % self.all[-3000:])
        code = None
        if self.pid:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.pid = None
        os.close(self.fd)
        self.fd = -1
        return code

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class ConsoleSocket:
    """What an engine listens on for a container's terminal."""

    def __init__(self, box):
        box.count += 1
        self.path = os.path.join(box.top, 'tty%d.sock' % box.count)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(1)
        self.socket.settimeout(PATIENCE)

    def take(self):
        c, _ = self.socket.accept()
        c.settimeout(PATIENCE)
        fds = array.array('i')
        _, ancillary, _, _ = c.recvmsg(4096, socket.CMSG_LEN(4))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:4])
        c.close()
        self.socket.close()
        return Terminal(fds[0])


def cgroup_dirs():
    """Every cgroup of this machine."""
    found = set()
    for top, dirs, _ in os.walk('/sys/fs/cgroup'):
        found.update(os.path.join(top, d) for d in dirs)
    return found

# SPDX-License-Identifier: Apache-2.0
"""A containerd of the test's own: its state, its sockets, an image made on the spot, and a look at what is left behind."""
import glob, hashlib, json, os, shutil, signal, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'runtime'))
from engines import make_root_tar, need
from lab import CAISSON, PATIENCE, Terminal, wait_until

SHIM = os.environ.get('CAISSON_SHIM', os.path.join(os.path.dirname(CAISSON), 'containerd-shim-caisson-v1'))
# Another containerd than Debian's: the directory of its programs.
BIN = os.environ.get('CONTAINERD_BIN', '')
SOCKETS = '/run/containerd/s'
IMAGE = 'localhost/caisson-test:latest'
CONFIG = '''version = 2
root = "%(top)s/root"
state = "%(top)s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile"]
[grpc]
  address = "%(top)s/c.sock"
[ttrpc]
  address = "%(top)s/c.sock.ttrpc"
'''

# With the CRI, whose pods get addresses of a bridge in a network namespace of the test's own.
CRI_CONFIG = '''version = 2
root = "%(top)s/root"
state = "%(top)s/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.blockfile"]
[grpc]
  address = "%(top)s/c.sock"
[ttrpc]
  address = "%(top)s/c.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/caisson-pause:latest"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%(top)s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.caisson]
      runtime_type = "io.containerd.caisson.v1"
'''
CNI = '''{"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.87.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "%(top)s/ipam"}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}'''


def read(path):
    with open(path) as f:
        return f.read()


def shims(top, id=None):
    """Pids of the shims that this containerd started, or of those of one container or pod."""
    found = []
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            words = read(path).split('\0')
        except OSError:
            continue
        if 'containerd-shim' in words[0] and top + '/c.sock' in words and (id is None or id in words):
            found.append(int(path.split('/')[2]))
    return found


class Daemon:
    def __init__(self, config=CONFIG, bin=BIN):
        self.bin = bin
        need('containerd', 'ctr', 'runc', 'podman')
        self.top = tempfile.mkdtemp(prefix='ctd.', dir='/run')  # sockets below it have short paths
        self.environment = dict(os.environ, CAISSON_SHIM_ROOT=self.top + '/caisson')
        self.prefix, self.space, self.group = [], 'default', os.path.basename(self.top)
        self.write('config.toml', config % {'top': self.top})
        if config is CRI_CONFIG:
            need('ip', 'nsenter', 'iptables', '/usr/lib/cni/bridge')
            self.space = 'k8s.io'
            self.netns = os.path.basename(self.top)
            subprocess.run(['ip', 'netns', 'add', self.netns], check=True)
            self.prefix = ['nsenter', '--net=/run/netns/' + self.netns]
            subprocess.run(self.prefix + ['ip', 'link', 'set', 'lo', 'up'], check=True)
            os.mkdir(self.top + '/cni')
            self.write('cni/10-test.conflist', CNI % {'top': self.top})
        self.log = open(self.top + '/log', 'w')
        self.start()
        tar = make_root_tar(self.top)
        self.image(tar, IMAGE)
        if config is CRI_CONFIG:
            self.image(tar, 'localhost/caisson-pause:latest', 'ENTRYPOINT ["/bin/sleep", "1000000"]')

    def cgroups(self):
        """The group of this containerd's pods, in every hierarchy."""
        return [d for d in glob.glob('/sys/fs/cgroup/*/' + self.group) + glob.glob('/sys/fs/cgroup/' + self.group) if os.path.isdir(d)]

    def write(self, name, text):
        with open(os.path.join(self.top, name), 'w') as f:
            f.write(text)

    def image(self, tar, name, *changes):
        podman = ['podman', '--root', self.top + '/p', '--runroot', self.top + '/pr', '--storage-driver', 'vfs']
        change = [w for c in changes for w in ('--change', c)]
        subprocess.run(podman + ['import', *change, tar, name], check=True, capture_output=True)
        if os.path.exists(self.top + '/image.tar'):
            os.unlink(self.top + '/image.tar')
        subprocess.run(podman + ['save', '-q', '-o', self.top + '/image.tar', name], check=True, capture_output=True)
        code, _, err = self.ctr('images', 'import', self.top + '/image.tar')
        if code:
            raise AssertionError(err)

    def network(self, *command):
        """What a command prints in the network namespace of this containerd."""
        return subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True).stdout

    def start(self):
        self.environment['PATH'] = ':'.join(p for p in (self.bin, os.path.dirname(SHIM), os.environ['PATH']) if p)
        self.process = subprocess.Popen([*self.prefix, os.path.join(self.bin, 'containerd'), '-c', self.top + '/config.toml'], stdout=self.log, stderr=self.log,
                                        env=self.environment, start_new_session=True)
        wait_until(lambda: self.ctr('version')[0] == 0, 'containerd to answer')

    def sockets_left(self, ids):
        """Of the shims of these containers and pods: their names are hashes."""
        name = lambda id: hashlib.sha256(('%s/c.sock/%s/%s' % (self.top, self.space, id)).encode()).hexdigest()
        there = set(os.listdir(SOCKETS)) if os.path.isdir(SOCKETS) else set()
        return [id for id in ids if name(id) in there]

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def stop(self):
        for id in self.ctr('containers', 'ls', '-q')[1].split():
            self.ctr('tasks', 'rm', '--force', id)
            self.ctr('containers', 'rm', id)
        try:
            wait_until(lambda: not shims(self.top), 'the shims to end')
            left = [l for l in read('/proc/mounts').splitlines() if self.top in l]
            if left:
                raise AssertionError('mounts are left: %s' % left)
        finally:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.log.close()
            for d in self.cgroups():
                for top, _, _ in os.walk(d, topdown=False):
                    os.rmdir(top)
            if self.prefix:
                subprocess.run(['ip', 'netns', 'del', self.netns])
            shutil.rmtree(self.top, ignore_errors=True)

    def command(self, *args):
        return [os.path.join(self.bin, 'ctr'), '-a', self.top + '/c.sock', '-n', self.space, *args]

    def ctr(self, *args, input=None):
        more = {'stdin': subprocess.DEVNULL} if input is None else {'input': input.encode()}
        p = subprocess.run(self.command(*args), capture_output=True, timeout=PATIENCE * 3, **more)
        return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')


class Events:
    """What `ctr events` tells of tasks, as (topic, fields) in order."""

    def __init__(self, daemon):
        self.list = []
        self.process = subprocess.Popen(daemon.command('events'), stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()
        # It says nothing when it listens: make something happen until it is heard.
        def heard():
            daemon.ctr('containers', 'label', 'nobody', 'a=b')
            daemon.ctr('images', 'label', IMAGE, 'seen=%d' % time.monotonic_ns())
            return self.list
        wait_until(heard, 'an event')

    def read(self):
        for line in self.process.stdout:
            words = line.split(None, 6)
            if len(words) == 7:
                self.list.append((words[5], json.loads(words[6])))

    def of(self, id):
        return [t[len('/tasks/'):] for t, e in self.list if t.startswith('/tasks/') and e.get('container_id') == id]

    def last(self, id, topic):
        return [e for t, e in self.list if t == '/tasks/' + topic and e.get('container_id') == id][-1]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Cri:
    """Calls of the CRI; a refusal is an Exception with its code and text."""

    def __init__(self, daemon):
        self.process = subprocess.Popen([os.path.join(os.path.dirname(SHIM), 'cri_call'), 'unix://' + daemon.top + '/c.sock'],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, method, **request):
        self.process.stdin.write('%s %s\n' % (method, json.dumps(request)))
        self.process.stdin.flush()
        word, rest = self.process.stdout.readline().split(None, 1)
        if word != 'ok':
            raise CriError('%s: %s' % (method, rest.strip()))
        return json.loads(rest)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class CriError(Exception):
    pass

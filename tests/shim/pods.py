# SPDX-License-Identifier: Apache-2.0
"""What the tests of pods share: a containerd with its CRI, pods made through it, and a look at what is left behind."""
import base64, glob, os, re, time

from daemon import CRI_CONFIG, IMAGE, Cri, CriError, Daemon, read, shims, wait_until
from stream import Stream


# Debian's programs for a container that has only busybox: mounts of the test root file system.
ROOTFS = os.environ.get('CAISSON_ROOTFS', '')
DEBIAN = [{'container_path': '/' + d, 'host_path': os.path.join(ROOTFS, 'usr', d), 'readonly': True} for d in ('lib', 'lib64')]
DEBIAN.append({'container_path': '/usr', 'host_path': os.path.join(ROOTFS, 'usr'), 'readonly': True})
OWN_PIDS = {'namespace_options': {'pid': 'CONTAINER'}}


class Left:
    """What pods have on the host: taken before and after, nothing may have come to it."""

    def __init__(self, daemon):
        self.top, self.now = daemon.top, {}
        self.now['mounts'] = {l.split()[1] for l in read('/proc/mounts').splitlines() if daemon.top in l}
        self.now['netns'] = set(glob.glob(daemon.top + '/state/*/netns/*'))
        self.now['cgroups'] = {top for d in daemon.cgroups() for top, _, _ in os.walk(d) if top != d}
        # Their names are hashes: of every id that this containerd has ever spoken of.
        self.now['sockets'] = set(daemon.sockets_left(set(re.findall('[0-9a-f]{64}', read(daemon.top + '/log')))))
        self.now['state'] = set(glob.glob(daemon.top + '/caisson/*/*')) | set(glob.glob(daemon.top + '/state/io.containerd.runtime.v2.task/*/*'))
        self.now['fifos'] = set(glob.glob(daemon.top + '/state/io.containerd.grpc.v1.cri/containers/*')) | set(glob.glob('/run/containerd/fifo/*'))
        self.now['processes'] = {'%s %s' % (p, words[0]) for p, words in processes() if self.of(p, words)}
        self.now['devices'] = {l.split(':')[1].strip() for l in daemon.network('ip', '-o', 'link').splitlines() if 'veth' in l}

    def of(self, pid, words):
        try:
            return os.path.basename(self.top) in read('/proc/%d/cgroup' % pid) or 'shim' in words[0] and self.top + '/c.sock' in words
        except OSError:
            return False

    def more_than(self, before):
        return {k: v - before.now[k] for k, v in self.now.items() if v - before.now[k]}


def processes():
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            words = read(path).split('\0')
            if not words[0]:  # of those that have given up the memory that it was in
                words = [read(os.path.dirname(path) + '/comm').strip()]
        except OSError:
            continue
        yield int(path.split('/')[2]), words


class PodCase:
    handler = ''

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(CRI_CONFIG)
        cls.cri = Cri(cls.daemon)
        cls.ids = []
        wait_until(lambda: all(c['status'] for c in cls.cri.call('Status')['status']['conditions']), 'the CRI to be ready')

    @classmethod
    def tearDownClass(cls):
        for p in cls.cri.call('ListPodSandbox')['items']:
            cls.cri.call('StopPodSandbox', pod_sandbox_id=p['id'])
            cls.cri.call('RemovePodSandbox', pod_sandbox_id=p['id'])
        cls.cri.close()
        cls.daemon.stop()

    def pod(self, changes={}, **linux):
        name = 'p%d' % time.monotonic_ns()
        os.mkdir(os.path.join(self.daemon.top, name))
        linux.setdefault('cgroup_parent', '/' + self.daemon.group)
        config = {'metadata': {'name': name, 'uid': name, 'namespace': 'tests'}, 'hostname': name,
                  'log_directory': os.path.join(self.daemon.top, name), 'linux': linux, **changes}
        id = self.cri.call('RunPodSandbox', config=config, runtime_handler=self.handler)['pod_sandbox_id']
        self.ids.append(id)
        return id, config

    def add(self, pod, name, *command, start=True, **more):
        config = {'metadata': {'name': name}, 'image': {'image': IMAGE}, 'command': command, 'log_path': name + '.log', 'linux': {}, **more}
        id = self.cri.call('CreateContainer', pod_sandbox_id=pod[0], config=config, sandbox_config=pod[1])['container_id']
        if start:
            self.cri.call('StartContainer', container_id=id)
        return id

    def status(self, id):
        return self.cri.call('ContainerStatus', container_id=id)['status']

    def open(self, method, query='', **request):
        """A stream: Exec, Attach or PortForward."""
        return Stream('/run/netns/' + self.daemon.netns, self.cri.call(method, **request)['url'], query)

    def wait(self, id):
        try:
            wait_until(lambda: self.status(id)['state'] == 'CONTAINER_EXITED', 'the container to end')
        except AssertionError as e:
            raise AssertionError('%s: %s' % (e, self.status(id)))
        return self.status(id)

    def run_in(self, id, *cmd, timeout=0):
        r = self.cri.call('ExecSync', container_id=id, cmd=cmd, timeout=timeout)
        return r['exit_code'], base64.b64decode(r['stdout']).decode(), base64.b64decode(r['stderr']).decode()

    def sh(self, id, script):
        """Standard output of a script that must end well."""
        code, out, err = self.run_in(id, '/bin/sh', '-c', script)
        self.assertEqual((code, err), (0, ''), out)
        return out

    def log(self, pod, name):
        try:
            return [l.split(' ', 3)[1::2] for l in read(os.path.join(pod[1]['log_directory'], name + '.log')).splitlines()]
        except FileNotFoundError:
            return []

    def groups(self, id):
        """Pids of a container's processes on the host, with the names of their programs."""
        found = {}
        for d in self.daemon.cgroups():
            path = os.path.join(d, id, 'cgroup.procs')
            if not os.path.exists(path):
                continue
            for pid in read(path).split():
                try:
                    found[int(pid)] = read('/proc/%s/comm' % pid).strip()
                except OSError:
                    pass
        return found

    def remove(self, pod):
        self.cri.call('StopPodSandbox', pod_sandbox_id=pod[0])
        self.assertEqual(self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']['state'], 'SANDBOX_NOTREADY')
        self.cri.call('RemovePodSandbox', pod_sandbox_id=pod[0])

    def ready(self):
        try:
            return all(c['status'] for c in self.cri.call('Status')['status']['conditions'])
        except CriError:
            return False

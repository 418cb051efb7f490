#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pods: several containers in one sentry, put together by the annotations of containerd and CRI-O. What runc can do with the same
specs (joining namespaces by path, volumes) it must answer alike."""
import array, errno, json, os, signal, socket, struct, subprocess, sys, time, unittest

from lab import PATIENCE, Box, cgroup_dirs, config, wait_until
from limits_test import group_file

CONTAINERD = ('io.kubernetes.cri.container-type', 'io.kubernetes.cri.sandbox-id')
CRIO = ('io.kubernetes.cri-o.ContainerType', 'io.kubernetes.cri-o.SandboxID')
SHARED = ('network', 'ipc', 'uts')
LONG = bool(os.environ.get('CAISSON_LONG'))


def sh(script):
    return ['/bin/sh', '-c', script]


def stat_of(pid):
    with open('/proc/%d/stat' % pid) as f:
        return f.read().rpartition(')')[2].split()


def alive(pid):
    try:
        return stat_of(pid)[0] != 'Z'
    except OSError:
        return False


def innermost_pid(pid):
    """Its number in its own PID namespace. In a sandbox's first seconds those are in the order of birth, where the host's wrap around
    and the start times of /proc/PID/stat are 10 ms coarse."""
    with open('/proc/%d/status' % pid) as f:
        return int(next(line for line in f if line.startswith('NSpid:')).split()[-1])


class PodBox(Box):
    """A sandbox container and what joins it."""

    def pod(self, keys=CONTAINERD, args=None, **changes):
        self.keys = keys
        self.sandbox = self.name()
        c = config(args or ['/bin/sleep', '1000'], hostname='pod', **changes)
        c['annotations'] = {keys[0]: 'sandbox', keys[1]: self.sandbox}
        self.add(self.sandbox, c)
        return self.sandbox

    def member_config(self, args, shared=SHARED, **changes):
        c = config(args, **changes)
        c.pop('hostname')
        c['annotations'] = {self.keys[0]: 'container', self.keys[1]: self.sandbox}
        pid = self.pid(self.sandbox)
        files = {'network': 'net'}
        for n in c['linux']['namespaces']:
            if n['type'] in shared:
                n['path'] = '/proc/%d/ns/%s' % (pid, files.get(n['type'], n['type']))
        return c

    def add(self, id, c, *flags):
        with open(os.path.join(self.top, id + '.out'), 'w') as out:
            p = subprocess.run(self.command + ['run', '--detach', '--bundle', self.bundle(c)] + list(flags) + [id],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60)
        if p.returncode:
            raise AssertionError('%s run -d: exit %d: %s' % (self.runtime, p.returncode, self.output(id)))
        return id

    def member(self, args, shared=SHARED, **changes):
        return self.add(self.name(), self.member_config(args, shared, **changes))

    def exec(self, id, script):
        return self.call('exec', id, '/bin/sh', '-c', script)

    def out(self, id, script):
        code, out, err = self.exec(id, script)
        if code:
            raise AssertionError('exec in %s: exit %d: %s%s' % (id, code, out, err))
        return out

    def stopped(self, *ids):
        wait_until(lambda: all(self.status(i) == 'stopped' for i in ids), 'the end of ' + ' '.join(ids))


class Pod:
    """The same with runc and with Caisson."""
    runtime = ''

    def setUp(self):
        self.box = PodBox(self.runtime)
        self.addCleanup(self.box.__exit__)

    def test_namespaces_are_shared_as_the_paths_say(self):
        b = self.box
        b.pod()
        one, two = b.member(['/bin/sleep', '1000']), b.member(['/bin/sleep', '1000'], shared=('network',))
        ns = lambda id: b.out(id, 'cd /proc/self/ns; for n in net ipc uts mnt; do readlink $n; done').split()
        sandbox, shared, own = ns(b.sandbox), ns(one), ns(two)
        self.assertEqual([a == b for a, b in zip(sandbox, shared)], [True, True, True, False])
        self.assertEqual([a == b for a, b in zip(sandbox, own)], [True, False, False, False])
        self.assertEqual(b.out(one, 'hostname'), 'pod\n')
        self.assertNotEqual(b.out(two, 'hostname'), 'pod\n')

    def test_a_member_has_its_own_processes_or_the_pods(self):
        b = self.box
        b.pod()
        own, shared = b.member(['/bin/sleep', '777']), b.member(['/bin/sleep', '888'], shared=SHARED + ('pid',))
        self.assertEqual(b.out(own, 'cat /proc/1/cmdline | tr "\\0" " "'), '/bin/sleep 777 ')
        self.assertEqual(b.out(shared, 'cat /proc/1/cmdline | tr "\\0" " "'), '/bin/sleep 1000 ')
        seen = b.out(b.sandbox, 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done')
        self.assertIn('/bin/sleep 888', seen)
        self.assertNotIn('777', seen)

    def test_a_third_joins_the_processes_of_the_second(self):
        b = self.box
        b.pod()
        two = b.member(['/bin/sleep', '555'])
        c = b.member_config(['/bin/sleep', '666'])
        for n in c['linux']['namespaces']:
            if n['type'] == 'pid':
                n['path'] = '/proc/%d/ns/pid' % b.pid(two)
        three = b.add(b.name(), c)
        self.assertEqual(b.out(three, 'cat /proc/1/cmdline | tr "\\0" " "'), '/bin/sleep 555 ')

    def test_loopback_and_abstract_sockets_are_the_pods(self):
        b = self.box
        b.pod()
        one = b.member(['/usr/bin/python3', '-c', '''
import socket
t = socket.socket(); t.bind(("127.0.0.1", 4242)); t.listen(5)
u = socket.socket(socket.AF_UNIX); u.bind("\\0pod"); u.listen(5)
for s in (t, u):
    c, _ = s.accept(); c.sendall(b"hello"); c.close()
'''])
        two = b.member(['/bin/sleep', '1000'])
        client = '''
import socket, time
for family, address in ((socket.AF_INET, ("127.0.0.1", 4242)), (socket.AF_UNIX, "\\0pod")):
    for i in range(200):
        s = socket.socket(family)
        try: s.connect(address); break
        except ConnectionRefusedError: time.sleep(0.05)
    print(s.recv(10).decode())
'''
        code, out, err = b.call('exec', two, '/usr/bin/python3', '-c', client)
        self.assertEqual((code, out), (0, 'hello\nhello\n'), err)

    def test_users_capabilities_and_limits_are_each_members_own(self):
        b = self.box
        b.pod()
        c = b.member_config(['/bin/sleep', '1000'])
        c['process']['user'] = {'uid': 1000, 'gid': 1001, 'additionalGids': [1002]}
        c['process']['rlimits'] = [{'type': 'RLIMIT_NOFILE', 'soft': 77, 'hard': 99}]
        c['process']['capabilities'] = {k: ['CAP_KILL'] for k in ('bounding', 'effective', 'permitted')}
        one, two = b.add(b.name(), c), b.member(['/bin/sleep', '1000'])
        look = 'id -u; id -g; id -G; ulimit -Hn; grep CapBnd /proc/self/status'
        self.assertEqual(b.out(one, look).split()[:5], ['1000', '1001', '1001', '1002', '99'])
        self.assertEqual(b.out(one, look).split()[-1], '%016x' % (1 << 5))
        self.assertEqual(b.out(two, 'id -u; grep CapBnd /proc/self/status').split()[0], '0')
        self.assertNotEqual(b.out(two, look).split()[-1], '%016x' % (1 << 5))

    def test_a_volume_shows_the_others_writes(self):
        b = self.box
        d = os.path.join(b.top, 'volume')
        os.mkdir(d)
        os.chmod(d, 0o777)
        mounts = lambda c: c['mounts'].append({'destination': '/volume', 'type': 'bind', 'source': d, 'options': ['rbind', 'rw']})
        b.pod()
        ids = []
        for _ in range(2):
            c = b.member_config(['/bin/sleep', '1000'])
            mounts(c)
            ids.append(b.add(b.name(), c))
        one, two = ids
        self.assertEqual(b.out(two, 'ls /volume'), '')
        b.out(one, 'echo first > /volume/a')
        self.assertEqual(b.out(two, 'cat /volume/a; echo more >> /volume/a; mkdir /volume/d'), 'first\n')
        self.assertEqual(b.out(one, 'cat /volume/a; ls /volume'), 'first\nmore\na\nd\n')
        b.out(two, 'mv /volume/a /volume/b; rmdir /volume/d')
        self.assertEqual(b.out(one, 'ls /volume; cat /volume/a 2>&1 | grep -c "No such"'), 'b\n1\n')

    def memory_volume(self, *path):
        d = os.path.join(self.box.top, *path)
        os.makedirs(d)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m,mode=1777', 'tmpfs', d], check=True)
        self.addCleanup(subprocess.run, ['umount', d])
        return d

    def with_mount(self, c, source, destination):
        c['mounts'] = [m for m in c['mounts'] if m['destination'] != destination]
        c['mounts'].append({'destination': destination, 'type': 'bind', 'source': source, 'options': ['rbind', 'rw']})
        return c

    def test_a_volume_in_memory_shows_the_others_writes(self):
        b = self.box
        d = self.memory_volume('kubernetes.io~empty-dir', 'cache')
        os.mkdir(d + '/sub')
        os.mkdir(os.path.join(b.top, 'subpath'))
        subprocess.run(['mount', '--bind', d + '/sub', os.path.join(b.top, 'subpath')], check=True)
        self.addCleanup(subprocess.run, ['umount', os.path.join(b.top, 'subpath')])
        b.pod()
        sleep = ['/bin/sleep', '1000']
        one = b.add(b.name(), self.with_mount(b.member_config(sleep), d, '/cache'))
        two = b.add(b.name(), self.with_mount(b.member_config(sleep), d, '/elsewhere'))
        three = b.add(b.name(), self.with_mount(b.member_config(sleep), os.path.join(b.top, 'subpath'), '/cache'))
        b.out(one, 'echo first > /cache/a; echo deep > /cache/sub/b; chmod 700 /cache/a; mkfifo /cache/fifo')
        self.assertEqual(b.out(two, 'cat /elsewhere/a /elsewhere/sub/b; stat -c %a /elsewhere/a'), 'first\ndeep\n700\n')
        self.assertEqual(b.out(three, 'ls /cache; cat /cache/b; echo more >> /cache/b'), 'b\ndeep\n')
        self.assertEqual(b.out(one, 'cat /cache/sub/b; stat -c %a /cache; stat -f -c "%b %S" /cache'), 'deep\nmore\n1777\n2048 4096\n')
        self.assertNotEqual(b.exec(one, 'dd if=/dev/zero of=/cache/big bs=1M count=20')[0], 0)
        b.out(two, 'rm /elsewhere/big')
        reader = subprocess.Popen(b.command + ['exec', one, '/bin/cat', '/cache/fifo'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        b.out(two, 'echo through > /elsewhere/fifo')
        self.assertEqual(reader.communicate(timeout=30)[0], b'through\n')
        # It outlives those who have it.
        b.call('delete', '--force', one)
        b.call('delete', '--force', two)
        again = b.add(b.name(), self.with_mount(b.member_config(sleep), d, '/cache'))
        self.assertEqual(b.out(again, 'cat /cache/a'), 'first\n')

    def test_shared_memory_is_the_pods(self):
        b = self.box
        d = self.memory_volume('shm')
        c = config(['/bin/sleep', '1000'], hostname='pod')
        b.pod(mounts=self.with_mount(c, d, '/dev/shm')['mounts'])
        python = lambda body: ['/usr/bin/python3', '-c', '''
import ctypes, mmap, os, time
libc = ctypes.CDLL("libc.so.6", use_errno=True)
libc.sem_open.restype = ctypes.c_void_p
def semaphore(name):
    return ctypes.c_void_p(libc.sem_open(name, os.O_CREAT, 0o600, 0))
ping, pong = semaphore(b"/ping"), semaphore(b"/pong")
fd = os.open("/dev/shm/data", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
m = mmap.mmap(fd, 4096)
''' + body]
        one = b.add(b.name(), self.with_mount(b.member_config(python('''
for i in range(20):
    m[0] = i; libc.sem_post(ping); libc.sem_wait(pong)
    assert m[1] == i
print("done", flush=True); time.sleep(1000)
''')), d, '/dev/shm'))
        two = b.add(b.name(), self.with_mount(b.member_config(python('''
for i in range(20):
    libc.sem_wait(ping); m[1] = m[0]; libc.sem_post(pong)
print("done", flush=True); time.sleep(1000)
''')), d, '/dev/shm'))
        wait_until(lambda: b.output(one) == b.output(two) == 'done\n', 'the two to talk: ' + b.output(one) + b.output(two))
        self.assertIn('data', b.out(b.sandbox, 'ls /dev/shm'))

    def test_system_v_ipc_is_the_pods_or_its_own(self):
        b = self.box
        b.pod()
        sleep = ['/bin/sleep', '1000']
        one, two, own = b.member(sleep), b.member(sleep), b.member(sleep, ('network',))
        b.out(one, 'ipcmk -M 4096 > /dev/null; ipcmk -Q > /dev/null')
        count = 'ipcs -m -q | grep -c ^0x'
        self.assertEqual([b.exec(i, count)[1] for i in (one, two, b.sandbox, own)], ['2\n', '2\n', '2\n', '0\n'])
        member = b.member(sh('ipcs -m -q | grep -c ^0x; sleep 1000'))
        wait_until(lambda: b.output(member) == '2\n', 'the program of a new member to see it')

    def test_ends_are_each_members_own(self):
        b = self.box
        b.pod()
        one, two = b.member(sh('exit 5')), b.member(['/bin/sleep', '1000'])
        b.stopped(one)
        self.assertEqual(b.status(two), 'running')
        self.assertEqual(b.call('kill', two, 'KILL')[0], 0)
        b.stopped(two)
        self.assertEqual(b.status(b.sandbox), 'running')
        for id in (one, two):
            self.assertEqual(b.call('delete', id)[0], 0)
        self.assertEqual(b.out(b.sandbox, 'echo fine'), 'fine\n')

    def test_foreground_members_tell_their_exit_codes(self):
        b = self.box
        b.pod()
        for script, code in (('exit 7', 7), ('kill -TERM $$', 143), ('echo out; exit 0', 0)):
            c = b.member_config(sh(script), shared=SHARED + ('pid',))
            self.assertEqual(b.call('run', '--bundle', b.bundle(c), b.name())[0], code, script)


class RuncPod(Pod, unittest.TestCase):
    runtime = 'runc'


def leaf(pid, controller, v1, v2):
    path = group_file(pid, controller, v1, v2)
    return path and os.path.dirname(path)


def pids_in(group):
    with open(group + '/cgroup.procs') as f:
        return {int(x) for x in f.read().split()}


class CaissonPod(Pod, unittest.TestCase):
    runtime = 'caisson'

    def state(self, id):
        with open(os.path.join(self.box.state, id, 'state.json')) as f:
            return json.load(f)

    def sentry(self):
        return self.state(self.box.sandbox)['sentry']['pid']

    def memory_group(self, id):
        return leaf(self.box.pid(id), 'memory', 'memory.limit_in_bytes', 'memory.max')

    def test_crio_names_it_differently(self):
        b = self.box
        b.pod(CRIO)
        one = b.member(['/bin/sleep', '1000'])
        self.assertEqual(b.out(one, 'hostname'), 'pod\n')
        self.assertEqual(self.state(one)['sentry'], self.state(b.sandbox)['sentry'])

    def test_a_member_is_in_the_sandboxs_sentry_with_a_gofer_and_a_zygote_in_its_own_group(self):
        b = self.box
        b.pod()
        one = b.member(sh('sleep 1000 & sleep 1000 & wait'))
        state = self.state(one)
        self.assertEqual(state['sentry']['pid'], self.sentry())
        self.assertEqual(b.pid(one), state['gofer']['pid'])
        wait_until(lambda: len(json.loads(b.call('ps', '-f', 'json', one)[1])) == 3, 'three processes')
        names = {}
        for pid in pids_in(self.memory_group(one)):
            with open('/proc/%d/comm' % pid) as f:
                names.setdefault(f.read().strip(), []).append(pid)
        self.assertNotIn('caisson-sentry', names)
        self.assertEqual(names.pop('caisson-gofer'), [b.pid(one)])
        self.assertGreaterEqual(sum(map(len, names.values())), 4)  # zygote, sh, two sleeps
        uids = set()
        for pid in sum(names.values(), []):
            with open('/proc/%d/status' % pid) as f:
                uids.add([l.split()[1] for l in f if l.startswith('Uid:')][0])
        with open('/proc/%d/status' % self.sentry()) as f:
            self.assertEqual(uids, {[l.split()[1] for l in f if l.startswith('Uid:')][0]})
        self.assertNotIn(self.sentry(), pids_in(self.memory_group(one)))

    def test_annotations_that_say_half_a_thing_are_refused(self):
        b = self.box
        alone = b.start(config(['/bin/sleep', '1000']))
        b.pod()
        for annotations, words in (({CONTAINERD[0]: 'container'}, 'of which pod'),
                                   ({CONTAINERD[0]: 'both'}, 'sandbox or container'),
                                   ({CONTAINERD[0]: 'container', CONTAINERD[1]: 'nobody'}, 'does not exist'),
                                   ({CONTAINERD[0]: 'container', CONTAINERD[1]: '../x'}, 'invalid'),
                                   ({CONTAINERD[0]: 'container', CONTAINERD[1]: alone}, 'no sandbox of a pod')):
            c = b.member_config(['/bin/true'])
            c['annotations'] = annotations
            code, _, err = b.call('run', '--bundle', b.bundle(c), b.name())
            self.assertEqual(code, 1)
            self.assertIn(words, err)
        for change, words in (({'type': 'network'}, "container's own"), ({'type': 'ipc', 'path': '/proc/%d/ns/ipc' % os.getpid()}, 'no container of the pod')):
            c = b.member_config(['/bin/true'])
            c['linux']['namespaces'] = [n for n in c['linux']['namespaces'] if n['type'] != change['type']] + [change]
            code, _, err = b.call('run', '--bundle', b.bundle(c), b.name())
            self.assertEqual(code, 1)
            self.assertIn(words, err)
        self.assertEqual(os.listdir(b.state).count(b.sandbox), 1)
        self.assertEqual(b.out(b.sandbox, 'echo fine'), 'fine\n')

    def test_what_asks_for_a_container_is_checked(self):
        b = self.box
        b.pod()
        one = b.member(['/bin/sleep', '1000'])
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.chdir(os.path.join(b.state, b.sandbox))
        s.connect('control.sock')
        self.addCleanup(s.close)
        os.chdir('/')
        s.settimeout(20)
        text = lambda t: struct.pack('<I', len(t)) + t.encode()
        def spec(id, joins=('', '', ''), preserve=0, member=1):
            process = struct.pack('<II', 0, 0) + text('/') + struct.pack('<IIIIBBHH5QIi5I', 0, 0, 0, 0, 0, 0, 0, 0, *[0] * 5, 0, 0, *[0] * 5)
            return (text(id) + text('') + text('') + process + struct.pack('<BQBIII3Q', 0, 0, 1, 0, 0, 0, 0, 0, 0) + text('') +
                    struct.pack('<qIBIBIIIB', 0, preserve, 0, 0, 0, 0, 0, 0, 0) + b''.join(map(text, joins)) + bytes([member]) + struct.pack('<BIIIII', 0, 0, 0, 0, 0, 0))
        def ask(body, fds=(), op=1):
            record = struct.pack('<HQ', op, 7) + body
            s.sendmsg([record], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else [])
            tag, error, length = struct.unpack('<QiI', s.recv(65536)[:16])
            return error
        null = os.open('/dev/null', os.O_RDWR)
        self.addCleanup(os.close, null)
        whole = spec('x')
        for cut in (0, 1, 4, 20, len(whole) - 1):
            self.assertEqual(ask(whole[:cut]), errno.EBADMSG, cut)
        self.assertEqual(ask(whole + b'x'), errno.EBADMSG)
        self.assertEqual(ask(os.urandom(1000)), errno.EBADMSG)
        self.assertEqual(ask(spec('')), errno.EINVAL)
        self.assertEqual(ask(spec('y' * 256)), errno.EINVAL)
        self.assertEqual(ask(spec(one)), errno.EEXIST)
        self.assertEqual(ask(spec('x', ('nobody', '', ''))), errno.ENOENT)
        self.assertEqual(ask(whole), errno.EINVAL)                # no descriptors
        self.assertEqual(ask(whole, [null] * 6), errno.EINVAL)    # one too many
        self.assertEqual(ask(spec('x', preserve=0xffffffff), [null] * 5), errno.EINVAL)
        self.assertEqual(ask(spec('x', preserve=0xfffffffb)), errno.EINVAL)
        self.assertNotEqual(ask(whole, [null] * 5), 0)            # nobody at the other end
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pair[1].close()
        self.addCleanup(pair[0].close)
        self.assertNotEqual(ask(whole, [pair[0].fileno()] * 2 + [null] * 3), 0)
        self.assertEqual(ask(text('x'), op=3), errno.EBADMSG)
        self.assertEqual(ask(text('x'), op=6), errno.ENOENT)
        self.assertEqual(b.out(one, 'echo fine'), 'fine\n')
        self.assertEqual(b.out(b.member(['/bin/sleep', '1000']), 'echo fine'), 'fine\n')

    def test_the_pods_group_goes_with_whoever_goes_last(self):
        b = self.box
        for sandbox_first in (True, False):
            group = '/%s-pod' % b.name()
            b.pod(linux={'cgroupsPath': group + '/sandbox'})
            id = b.add(b.name(), b.member_config(['/bin/sleep', '1000'], linux={'cgroupsPath': group + '/member'}))
            made = lambda: {d for d in cgroup_dirs() if d.endswith(group)}
            for each in (b.sandbox, id) if sandbox_first else (id, b.sandbox):
                self.assertTrue(made())
                self.assertEqual(b.call('delete', '--force', each)[0], 0)
            self.assertEqual(made(), set())

    def test_the_end_of_the_sandbox_container_is_the_end_of_all(self):
        for shared in (SHARED, SHARED + ('pid',)):
            b = self.box
            b.pod()
            ids = [b.member(['/bin/sleep', '1000'], shared) for _ in range(2)]
            pids, sentry = [b.pid(i) for i in ids], self.sentry()
            waiting = subprocess.Popen(b.command + ['run', '--bundle', b.bundle(b.member_config(['/bin/sleep', '1000'])), b.name()],
                                       stdin=subprocess.DEVNULL)
            wait_until(lambda: sum(s['status'] == 'running' for s in json.loads(b.call('list', '-f', 'json')[1])) == 4, 'the third')
            time.sleep(0.2)  # it waits now
            self.assertEqual(b.call('kill', b.sandbox, 'KILL')[0], 0)
            b.stopped(b.sandbox, *ids)
            wait_until(lambda: not any(map(alive, pids + [sentry])), 'the processes of the pod', 5)
            self.assertEqual(waiting.wait(PATIENCE), 137)
            for id in ids + [b.sandbox]:
                self.assertEqual(b.call('delete', id)[0], 0)

    def test_the_end_of_the_sentry_is_the_end_of_all(self):
        b = self.box
        b.pod()
        ids = [b.member(['/bin/sleep', '1000']) for _ in range(2)]
        pids, groups = [b.pid(i) for i in ids], [self.memory_group(i) for i in ids]
        os.kill(self.sentry(), signal.SIGKILL)
        b.stopped(b.sandbox, *ids)
        wait_until(lambda: not any(map(alive, pids)) and not any(map(pids_in, groups)), 'the processes of the pod')
        for id in [b.sandbox] + ids:
            self.assertEqual(b.call('delete', id)[0], 0)
        self.assertFalse(any(map(os.path.exists, groups)))

    def test_the_end_of_a_gofer_or_zygote_is_the_end_of_one(self):
        b = self.box
        b.pod()
        for victim in ('gofer', 'zygote'):
            one, two = b.member(['/bin/sleep', '1000']), b.member(['/bin/sleep', '1000'])
            group = self.memory_group(one)
            if victim == 'gofer':
                pid = b.pid(one)
            else:
                # The sentry's children of this group are the zygote and its stubs; the zygote is the eldest.
                pid = min((p for p in pids_in(group) if stat_of(p)[1] == str(self.sentry())), key=innermost_pid)
            waiting = subprocess.Popen(b.command + ['exec', one, '/bin/sleep', '1000'], stdin=subprocess.DEVNULL)
            wait_until(lambda: len(json.loads(b.call('ps', '-f', 'json', one)[1])) == 2, 'the exec')
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(waiting.wait(PATIENCE), 137, victim)
            b.stopped(one)
            wait_until(lambda: not pids_in(group), 'its processes')
            self.assertEqual(b.out(two, 'ls /bin/sh; sh -c "echo fine"'), '/bin/sh\nfine\n')
            self.assertEqual(b.call('delete', one)[0], 0)
            self.assertEqual(b.status(b.sandbox), 'running')

    def test_signals_ps_exec_and_wait_are_of_one_member(self):
        b = self.box
        b.pod()
        loop = sh('trap "echo usr1; exit 3" USR1; while :; do sleep 0.05; done')
        one, two = [b.member(loop, SHARED + ('pid',)) for _ in range(2)]
        pids = [set(json.loads(b.call('ps', '-f', 'json', i)[1])) for i in (b.sandbox, one, two)]
        self.assertFalse(pids[0] & pids[1] or pids[1] & pids[2])
        pid, waiter = b.pid(one), None
        self.assertEqual(b.call('kill', one, 'USR1')[0], 0)
        b.stopped(one)
        self.assertEqual(b.output(one), 'usr1\n')
        self.assertEqual(b.status(two), 'running')
        self.assertEqual(b.call('kill', '--all', two, 'KILL')[0], 0)
        b.stopped(two)
        self.assertEqual(b.status(b.sandbox), 'running')
        self.assertEqual(b.call('exec', b.sandbox, '/bin/true')[0], 0)

    def test_what_a_member_leaves_in_shared_pids_ends_with_it(self):
        b = self.box
        b.pod()
        one = b.member(sh('sleep 1234 & exit 4'), SHARED + ('pid',))
        b.stopped(one)
        wait_until(lambda: '1234' not in b.out(b.sandbox, 'cat /proc/[0-9]*/cmdline | tr "\\0" " "'), 'its child')

    def test_a_pause_is_of_one_member_and_may_be_long(self):
        b = self.box
        b.pod()
        count = sh('i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.02; done')
        one, two = b.member(count), b.member(count)
        value = lambda id: int(b.out(id, 'cat /tmp/n') or 0)
        wait_until(lambda: value(one) > 2 and value(two) > 2, 'the counters')
        before = value(one)
        self.assertEqual(b.call('pause', one)[0], 0)
        self.assertEqual((b.status(one), b.status(two)), ('paused', 'running'))
        self.assertEqual(b.call('exec', one, '/bin/true')[0], 255)
        moved = value(two)
        b.call('kill', one, 'TERM')  # a kick that nobody answers
        time.sleep(25 if LONG else 1.5)
        self.assertGreater(value(two), moved)
        self.assertEqual(b.call('resume', one)[0], 0)
        wait_until(lambda: b.status(one) == 'running', 'it to run')
        self.assertEqual(b.call('pause', one)[0], 0)
        self.assertEqual(b.call('delete', '--force', one)[0], 0)
        self.assertEqual(b.status(two), 'running')

    def test_a_pause_of_the_sandbox_container_holds_its_program_alone(self):
        b = self.box
        b.pod(args=sh('trap "exit 5" USR1; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done'))
        one = b.member(['/bin/sleep', '1000'])
        for _ in range(3):
            wait_until(lambda: b.output(b.sandbox), 'its program')
            self.assertEqual(b.call('pause', b.sandbox)[0], 0)
            self.assertEqual((b.status(b.sandbox), b.status(one)), ('paused', 'running'))
            said = b.output(b.sandbox)
            self.assertEqual(b.out(one, 'sleep 0.2; echo here'), 'here\n')
            # What was being written is.
            self.assertLessEqual(b.output(b.sandbox).count('\n'), said.count('\n') + 1)
            said = b.output(b.sandbox)
            self.assertEqual(b.call('exec', b.sandbox, '/bin/true')[0], 255)
            self.assertEqual(b.call('resume', b.sandbox)[0], 0)
            wait_until(lambda: b.output(b.sandbox) != said, 'it to go on')
        self.assertEqual(b.call('pause', b.sandbox)[0], 0)
        self.assertEqual(b.call('delete', '--force', b.sandbox)[0], 0)

    def test_a_pause_of_the_container_that_holds_a_pod_of_podman_holds_it_alone(self):
        """podman's annotations do not say of it that there will be others."""
        b = self.box
        b.keys, b.sandbox = CRIO, b.name()
        count = sh('i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.02; done')
        b.add(b.sandbox, config(count, annotations={'io.container.manager': 'libpod'}))
        one = b.member(count)
        value = lambda id: int(b.out(id, 'cat /tmp/n') or 0)
        wait_until(lambda: value(one) > 2 and value(b.sandbox) > 2, 'the counters')
        self.assertEqual(b.call('pause', b.sandbox)[0], 0)
        self.assertEqual((b.status(b.sandbox), b.status(one)), ('paused', 'running'))
        before = value(one)
        wait_until(lambda: value(one) > before, 'the other to go on')
        self.assertEqual(b.call('resume', b.sandbox)[0], 0)
        before = value(b.sandbox)
        wait_until(lambda: value(b.sandbox) > before, 'it to go on')

    def test_memory_is_charged_to_the_member_that_uses_it(self):
        b = self.box
        b.pod()
        one = b.member(['/usr/bin/python3', '-c', 'import time; x = bytearray(100 << 20); print("up", flush=True); time.sleep(1000)'])
        two = b.member(['/bin/sleep', '1000'])
        wait_until(lambda: b.output(one) == 'up\n', 'the hog')
        usage = lambda id: json.loads(b.call('events', '--stats', id)[1])['data']['memory']['usage']['usage']
        self.assertGreater(usage(one), 100 << 20)
        self.assertLess(usage(two), 60 << 20)
        self.assertLess(usage(b.sandbox), 90 << 20)

    def test_the_host_kills_the_guilty_process_of_the_guilty_member(self):
        b = self.box
        b.pod()
        hog = 'import time; time.sleep(%s); x = bytearray(300 << 20); time.sleep(1000)'
        limits = {'resources': {'memory': {'limit': 96 << 20}}}
        def limited(args):
            c = b.member_config(args)
            c['linux']['resources'] = {'memory': {'limit': 96 << 20}}
            return c
        two = b.add(b.name(), limited(['/bin/sleep', '1000']))
        code, out, err = b.call('exec', two, '/usr/bin/python3', '-c', hog % 0)
        self.assertEqual(code, 137, err)
        self.assertEqual(b.status(two), 'running')
        one = b.name()
        p = subprocess.Popen(b.command + ['run', '--keep', '--bundle', b.bundle(limited(['/usr/bin/python3', '-c', hog % 1.5])), one],
                             stdin=subprocess.DEVNULL)
        wait_until(lambda: b.status(one) == 'running', 'the hog')
        events = subprocess.Popen(b.command + ['events', '--interval', '100s', one], stdout=subprocess.PIPE, text=True)
        self.assertEqual(p.wait(30), 137)
        self.assertEqual(json.loads(events.communicate(timeout=30)[0].splitlines()[0])['type'], 'oom')
        b.stopped(one)
        self.assertEqual((b.status(two), b.status(b.sandbox)), ('running', 'running'))

    def test_limits_change_for_one_member(self):
        b = self.box
        b.pod()
        one, two = b.member(['/bin/sleep', '1000']), b.member(['/bin/sleep', '1000'])
        self.assertEqual(b.call('update', '--memory', '128m', '--pids-limit', '20', one)[0], 0)
        with open(self.memory_group(one) + '/memory.limit_in_bytes' if os.path.exists(
                self.memory_group(one) + '/memory.limit_in_bytes') else self.memory_group(one) + '/memory.max') as f:
            self.assertEqual(int(f.read()), 128 << 20)
        self.assertIn('131072 kB', b.out(one, 'grep MemTotal /proc/meminfo'))
        self.assertNotIn('131072 kB', b.out(two, 'grep MemTotal /proc/meminfo'))

    def test_many_members_come_and_go_and_nothing_is_left(self):
        b = self.box
        b.pod()
        count = 200 if LONG else 25
        def footprint():
            time.sleep(0.3)  # the last stubs are being reaped
            sentry = self.sentry()
            with open('/proc/%d/status' % sentry) as f:
                fields = dict(l.split(':', 1) for l in f)
            # Patched program text is kept for later, 128 of them at most.
            with open('/proc/%d/maps' % sentry) as f:
                maps = sum(1 for line in f if 'memfd:text' not in line)
            fds = 0
            for fd in os.listdir('/proc/%d/fd' % sentry):
                fds += 'memfd:text' not in os.readlink('/proc/%d/fd/%s' % (sentry, fd))
            children = sum(1 for p in os.listdir('/proc') if p.isdigit() and alive(int(p)) and stat_of(int(p))[1] == str(sentry))
            return {'kB': int(fields['RssAnon'].split()[0]), 'fds': fds, 'maps': maps,
                    'children': children, 'threads': int(fields['Threads'])}
        def one(i):
            c = b.member_config(sh('sleep 1000 & echo x > /tmp/f; ls /proc > /dev/null; exec sleep 1000') if i % 3 else ['/bin/true'],
                                SHARED + (('pid',) if i % 2 else ()))
            id = b.add(b.name(), c)
            if i % 4 == 0:
                b.call('kill', id, 'KILL')
                b.stopped(id)
            code, _, err = b.call('delete', '--force', id)
            self.assertEqual(code, 0, err)
        groups = cgroup_dirs()
        for i in range(12):
            one(i)
        before = footprint()
        for i in range(count):
            one(i)
        after = footprint()
        print(before, after, file=sys.stderr)
        for what, room in (('fds', 4), ('maps', 12), ('children', 0), ('threads', 2), ('kB', 2500 if LONG else 1500)):
            self.assertLessEqual(after[what], before[what] + room, (what, before, after))
        self.assertEqual([i for i in os.listdir(b.state) if not i.startswith('.')], [b.sandbox])
        own = 'rt-caisson-%d-' % os.getpid()  # other tests run beside this one
        self.assertEqual({g for g in cgroup_dirs() - groups if own in g}, set())


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shim as each version of containerd calls it: start, delete, -info and -v, without a containerd."""
import json, os, shutil, signal, socket, struct, subprocess, tempfile, unittest

from daemon import PATIENCE, read, shims, wait_until
import daemon

SHIM = os.path.abspath(daemon.SHIM)


def field(number, data):
    """A string or message field of a protobuf message."""
    return bytes([number << 3 | 2, len(data)]) + data


def fields(data):
    """(number, value) of a message that has strings, messages and numbers."""
    found, at = [], 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            b = data[at]
            at += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value
    while at < len(data):
        tag = number()
        if tag & 7 == 2:
            n = number()
            found.append((tag >> 3, data[at:at + n]))
            at += n
        else:
            found.append((tag >> 3, number()))
    return found


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.mkdtemp(prefix='shim.', dir='/run')
        self.addCleanup(shutil.rmtree, self.top)
        self.bundle = self.top + '/bundle'
        os.mkdir(self.bundle)
        self.config({})
        self.addCleanup(self.end)
        self.sockets = []

    def config(self, annotations):
        with open(self.bundle + '/config.json', 'w') as f:
            json.dump({'ociVersion': '1.0.2', 'annotations': annotations}, f)

    def end(self):
        def listens(pid):  # to signals: before that one ends it where it stands
            blocked, = [l.split()[1] for l in read('/proc/%d/status' % pid).splitlines() if l.startswith('SigBlk:')]
            return int(blocked, 16) >> (signal.SIGTERM - 1) & 1
        for pid in shims(self.top):
            wait_until(lambda: listens(pid), 'the shim to be up')
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not shims(self.top), 'the shims to end')
        # They take their sockets with them.
        self.assertEqual([s for s in self.sockets if os.path.exists(s)], [])
        notes = self.top + '/state/.shims'
        self.assertEqual(os.listdir(notes) if os.path.isdir(notes) else [], [])

    def call(self, *words, id='c', input=b'', code=0, **environment):
        e = dict(os.environ, CAISSON_SHIM_ROOT=self.top + '/state', TTRPC_ADDRESS=self.top + '/c.sock.ttrpc', GOMAXPROCS='2', **environment)
        p = subprocess.run([SHIM, '-namespace', 'ns', '-address', self.top + '/c.sock', '-publish-binary', '/usr/bin/containerd', '-id', id, *words],
                           cwd=self.bundle, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=e, timeout=PATIENCE)
        self.assertEqual(p.returncode, code, p.stdout)
        return p.stdout

    def address(self, text):
        address = text if isinstance(text, str) else text.decode()
        self.assertRegex(address, '^unix:///run/containerd/s/[0-9a-f]{64}$')
        self.sockets.append(address[len('unix://'):])
        return address

    def test_start_of_1_6(self):
        address = self.address(self.call('start'))
        self.assertEqual(read(self.bundle + '/address'), address)
        self.assertEqual(self.address(self.call('-debug', 'start')), address)  # it runs already
        self.assertEqual(len(shims(self.top)), 1)
        self.assertNotEqual(self.address(self.call('start', id='d')), address)

    def test_start_of_1_7_and_of_2_0(self):
        """They name the latest version that they know, and take a plain address for the second."""
        more = {'GRPC_ADDRESS': self.top + '/c.sock', 'NAMESPACE': 'ns'}
        a = self.address(self.call('start', MAX_SHIM_VERSION='2', **more))
        self.assertEqual(self.address(self.call('start', **more)), a)

    def test_start_of_version_3(self):
        for how, more, words in (('later', {'MAX_SHIM_VERSION': '3'}, b''), ('asked for', {'MAX_SHIM_VERSION': '2', 'CAISSON_SHIM_VERSION': '3'}, b''),
                                 ('bootstrap', {}, None)):
            with self.subTest(how):
                if words is None:
                    words = field(1, b'c') + field(2, b'ns') + field(4, b'2.3.0')
                got = self.call('start', input=words, **more)
                if how == 'bootstrap' and not got.startswith(b'{'):
                    self.fail('%r' % got)
                told = json.loads(got)
                self.assertEqual((told['version'], told['protocol']), (3, 'ttrpc'))
                self.address(told['address'])

    def test_containers_of_a_pod_share_one(self):
        address = self.address(self.call('start', id='pod'))
        self.config({'io.kubernetes.cri.sandbox-id': 'pod', 'io.kubernetes.cri.container-type': 'container'})
        self.assertEqual(self.address(self.call('start', id='member')), address)
        self.assertEqual(len(shims(self.top)), 1)

    def test_delete_tells_how_it_ended_and_removes_the_socket_of_a_killed_one(self):
        for words in (('-bundle', self.bundle), ('-bundle', self.bundle, '-debug')):  # 1.6; later ones
            address = self.address(self.call('start'))
            pid, = shims(self.top)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not shims(self.top), 'the shim to end')
            self.assertTrue(os.path.exists(address[len('unix://'):]))
            got = dict(fields(self.call(*words, 'delete')))
            self.assertEqual(got[2], 137)
            self.assertIn(3, got)
            self.assertFalse(os.path.exists(address[len('unix://'):]))

    def test_the_next_one_removes_what_a_killed_one_left(self):
        dead = self.address(self.call('start', id='dead'))
        pid, = shims(self.top)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not shims(self.top), 'the shim to end')
        self.address(self.call('start', id='next'))
        self.assertFalse(os.path.exists(dead[len('unix://'):]))

    def ask(self, address, method, id):
        """One ttrpc call on a connection that stays open; the connection and the answer."""
        c = socket.socket(socket.AF_UNIX)
        self.addCleanup(c.close)
        c.settimeout(PATIENCE)
        c.connect(address[len('unix://'):])
        request = field(1, b'containerd.task.v2.Task') + field(2, method) + field(3, field(1, id))
        c.sendall(struct.pack('>IIBB', len(request), 1, 1, 0) + request)
        answer = c.recv(65536)
        return c, fields(answer[10:])

    def test_one_without_a_container_ends_when_somebody_asks_for_it(self):
        """The containerd that started it was killed before its first call, or before its last; the next only knows the name."""
        orphan, other = self.address(self.call('start')), self.address(self.call('start', id='d'))
        self.assertEqual(len(shims(self.top)), 2)
        c = socket.socket(socket.AF_UNIX)
        self.addCleanup(c.close)
        c.connect(other[len('unix://'):])  # it waits for its first call
        pid, = shims(self.top, 'c')
        kept, answer = self.ask(orphan, b'Connect', b'c')
        self.assertEqual([number for number, _ in answer], [2], 'an answer, and no error')
        wait_until(lambda: not shims(self.top, 'c'), 'it to end')
        self.assertFalse(os.path.exists(orphan[len('unix://'):]))
        self.assertEqual(len(shims(self.top, 'd')), 1)

    def test_one_whose_start_was_killed_ends(self):
        """Nobody has heard its address: containerd takes the pod for not made, and never calls."""
        heard, said = os.pipe()
        os.close(heard)
        p = subprocess.run([SHIM, '-namespace', 'ns', '-address', self.top + '/c.sock', '-id', 'c', 'start'], cwd=self.bundle, stdin=subprocess.DEVNULL,
                           stdout=said, stderr=subprocess.PIPE, env=dict(os.environ, CAISSON_SHIM_ROOT=self.top + '/state'), timeout=PATIENCE)
        os.close(said)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b'print the address', p.stderr)
        wait_until(lambda: not shims(self.top), 'the shim to end')
        self.assertFalse(os.path.exists(read(self.bundle + '/address')[len('unix://'):]))

    def test_info_and_version(self):
        p = subprocess.run([SHIM, '-info'], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True)
        got = dict(fields(p.stdout))
        self.assertEqual(got[1], b'io.containerd.caisson.v1')
        self.assertEqual(dict(fields(got[2]))[1], b'0.1.0')
        p = subprocess.run([SHIM, '-v'], capture_output=True, text=True, timeout=PATIENCE, check=True)
        self.assertEqual(p.stdout, 'containerd-shim-caisson-v1:\n  Version: 0.1.0\n')

    def test_what_is_wrong_is_told(self):
        for words, id, text in ((['start'], '../x', b"-id '../x'"), (['stop'], 'c', b"'stop'"), (['-what', 'start'], 'c', b'-what'),
                                (['-namespace', 'a/b', 'start'], 'c', b"'a/b'")):
            self.assertIn(text, self.call(*words, id=id, code=1))
        os.unlink(self.bundle + '/config.json')
        self.assertIn(b'config.json', self.call('start', code=1))
        self.assertEqual(shims(self.top), [])


if __name__ == '__main__':
    unittest.main()

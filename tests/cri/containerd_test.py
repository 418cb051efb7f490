#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""caisson-cri in front of a real containerd: pods through it, its socket, restarts of both sides."""
import os, signal, socket, stat, subprocess, sys, time, unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'shim'))
from daemon import CRI_CONFIG, IMAGE, SHIM, Cri, CriError, Daemon, read, wait_until

PROGRAM = os.environ.get('CAISSON_CRI', os.path.join(os.path.dirname(SHIM), 'caisson-cri'))
CLIENT = os.path.join(os.path.dirname(PROGRAM), 'cri_call')


class Client(Cri):
    """The CRI at any socket."""

    def __init__(self, path):
        self.process = subprocess.Popen([CLIENT, 'unix://' + path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Server:
    """A caisson-cri of the test's own, in front of this containerd."""

    def __init__(self, daemon, *flags):
        self.top, self.flags = daemon.top, flags
        self.socket = daemon.top + '/cri.sock'
        self.log_path = daemon.top + '/cri.log'
        self.start()

    def command(self, *flags):
        return [PROGRAM, '--listen', self.socket, '--backend', self.top + '/c.sock', *self.flags, *flags]

    def start(self):
        with open(self.log_path, 'a') as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_until(lambda: self.answers() or self.process.poll() is not None, 'caisson-cri to listen')
        if self.process.poll() is not None:
            raise AssertionError(self.log())

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def log(self):
        return read(self.log_path)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def setUpModule():
    global daemon
    daemon = Daemon(CRI_CONFIG)


def tearDownModule():
    cri = Client(daemon.top + '/c.sock')
    for p in cri.call('ListPodSandbox')['items']:
        cri.call('StopPodSandbox', pod_sandbox_id=p['id'])
        cri.call('RemovePodSandbox', pod_sandbox_id=p['id'])
    cri.close()
    daemon.stop()


class Case(unittest.TestCase):
    flags = ('--no-policy',)

    def setUp(self):
        self.server = Server(daemon, *self.flags)
        self.cri = Client(self.server.socket)
        wait_until(self.ready, 'the CRI to be ready')

    def tearDown(self):
        self.cri.close()
        if self.server.process.poll() is None:
            self.assertEqual(self.server.stop(), 0, self.server.log())

    def ready(self):
        try:
            return all(c['status'] for c in self.cri.call('Status')['status']['conditions'])
        except CriError:
            return False

    def config(self, **more):
        name = 'p%d' % time.monotonic_ns()
        os.mkdir(os.path.join(daemon.top, name))
        return {'metadata': {'name': name, 'uid': name, 'namespace': 'tests'}, 'hostname': name,
                'log_directory': os.path.join(daemon.top, name), **more}

    def pod(self, handler='', **more):
        config = self.config(**more)
        return self.cri.call('RunPodSandbox', config=config, runtime_handler=handler)['pod_sandbox_id'], config

    def add(self, pod, *command, start=True, **more):
        config = {'metadata': {'name': 'c%d' % time.monotonic_ns()}, 'image': {'image': IMAGE}, 'command': command or ['/bin/sleep', '1000'],
                  'log_path': 'c.log', **more}
        id = self.cri.call('CreateContainer', pod_sandbox_id=pod[0], config=config, sandbox_config=pod[1])['container_id']
        if start:
            self.cri.call('StartContainer', container_id=id)
        return id

    def handler(self, id):
        return self.cri.call('PodSandboxStatus', pod_sandbox_id=id)['status']['runtime_handler']

    def remove(self, pod):
        self.cri.call('StopPodSandbox', pod_sandbox_id=pod[0])
        self.cri.call('RemovePodSandbox', pod_sandbox_id=pod[0])


class PassingThrough(Case):
    def test_a_pod_lives_and_dies_as_without_it(self):
        direct = Client(daemon.top + '/c.sock')
        self.addCleanup(direct.close)
        self.assertEqual(self.cri.call('Version', version='v1'), direct.call('Version', version='v1'))
        for handler in ('runc', 'caisson'):
            pod = self.pod(handler)
            c = self.add(pod)
            self.assertEqual(self.cri.call('ExecSync', container_id=c, cmd=['/bin/sh', '-c', 'exit 7'], timeout=30)['exit_code'], 7)
            for method, request in (('PodSandboxStatus', {'pod_sandbox_id': pod[0]}), ('ContainerStatus', {'container_id': c}),
                                    ('ListContainers', {})):
                self.assertEqual(self.cri.call(method, **request), direct.call(method, **request))
            self.assertEqual(self.handler(pod[0]), handler)
            self.remove(pod)

    def test_errors_are_containerds_own(self):
        direct = Client(daemon.top + '/c.sock')
        self.addCleanup(direct.close)
        for method, request in (('ContainerStatus', {'container_id': 'nobody'}), ('RunPodSandbox', {'config': self.config(), 'runtime_handler': 'nothing'}),
                                ('CreateContainer', {'pod_sandbox_id': 'nobody'})):
            texts = []
            for cri in (self.cri, direct):
                with self.assertRaises(CriError) as e:
                    cri.call(method, **request)
                texts.append(str(e.exception))
            self.assertEqual(texts[0], texts[1])

    def test_containerd_restarts(self):
        pod = self.pod('runc')
        c = self.add(pod)
        daemon.kill()
        with self.assertRaises(CriError) as e:
            self.cri.call('Version', version='v1')
        self.assertIn('Version: 14 ', str(e.exception))
        daemon.start()
        wait_until(self.ready, 'the CRI to be ready again')
        self.assertEqual(self.cri.call('ContainerStatus', container_id=c)['status']['state'], 'CONTAINER_RUNNING')
        self.remove(pod)

    def test_it_restarts_itself_and_kubelet_stays_connected(self):
        pod = self.pod('runc')
        self.assertEqual(self.server.stop(), 0)
        self.assertFalse(os.path.exists(self.server.socket))
        self.server.start()
        wait_until(self.ready, 'the client to find it again')
        self.remove(pod)

    def test_after_kill_its_socket_is_replaced(self):
        self.server.process.kill()
        self.server.process.wait()
        self.assertTrue(os.path.exists(self.server.socket))
        self.server.start()
        wait_until(self.ready, 'the client to find it again')


class Socket(Case):
    flags = ('--no-policy', '--socket-mode', '0640', '--socket-owner', 'root:nogroup')

    def test_mode_and_owner(self):
        st = os.stat(self.server.socket)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid), (0o640, 0))
        self.assertEqual(st.st_gid, __import__('grp').getgrnam('nogroup').gr_gid)

    def test_a_live_socket_is_not_taken_over(self):
        p = subprocess.run(self.server.command(), capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 1)
        self.assertIn('another caisson-cri serves ' + self.server.socket, p.stderr)
        # Nor one of another program.
        p = subprocess.run([PROGRAM, '--no-policy', '--listen', daemon.top + '/c.sock', '--backend', daemon.top + '/x.sock'],
                           capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 1)
        self.assertIn('another process listens on', p.stderr)
        self.assertTrue(self.ready())


class CommandLine(unittest.TestCase):
    def run_it(self, *args):
        p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)
        return p.returncode, p.stdout, p.stderr

    def test_help_and_version(self):
        code, out, _ = self.run_it('--help')
        self.assertEqual(code, 0)
        for word in ('--listen', '--backend', '--policy', '--check', 'SIGHUP'):
            self.assertIn(word, out)
        self.assertEqual(self.run_it('--version')[:2], (0, 'caisson-cri version 0.1.0\n'))

    def test_what_is_wrong_is_told(self):
        for args, text in (((), 'one of --policy FILE and --no-policy is needed'), (('--no-policy', '--listen', 'x'), "'x' names no socket"),
                           (('--no-policy', '--socket-mode', '9'), '--socket-mode 9'), (('--nonsense',), 'nonsense'),
                           (('--no-policy', '--socket-owner', 'nobody-such'), "no user 'nobody-such'"),
                           (('--no-policy', '--listen', '/nowhere/x.sock'), 'open /nowhere/x.sock.lock: No such file or directory')):
            code, out, err = self.run_it(*args)
            self.assertEqual((code, out), (1, ''))
            self.assertIn(text, err)


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's containerd with its stock runc shim, BinaryName set to runc and to Caisson: the same answers."""
import os, shutil, signal, subprocess, tempfile, time, unittest

from engines import make_root_tar, need
from lab import CAISSON, PATIENCE, Terminal, wait_until

IMAGE = 'localhost/caisson-test:latest'
CONFIG = '''version = 2
root = "%(top)s/root"
state = "%(top)s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "%(top)s/c.sock"
[ttrpc]
  address = "%(top)s/c.sock.ttrpc"
'''


class Containerd:
    runtime = ''

    @classmethod
    def setUpClass(cls):
        need('containerd', 'ctr', 'runc', 'podman')
        cls.top = tempfile.mkdtemp(prefix='ctd.', dir='/run')  # sockets below it have short paths
        with open(cls.top + '/config.toml', 'w') as f:
            f.write(CONFIG % {'top': cls.top})
        cls.log = open(cls.top + '/log', 'w')
        cls.daemon = subprocess.Popen(['containerd', '-c', cls.top + '/config.toml'], stdout=cls.log, stderr=cls.log,
                                      start_new_session=True)
        wait_until(lambda: cls.ctr(cls, 'version')[0] == 0, 'containerd to answer')
        podman = ['podman', '--root', cls.top + '/p', '--runroot', cls.top + '/pr', '--storage-driver', 'vfs']
        subprocess.run(podman + ['import', make_root_tar(cls.top), IMAGE], check=True, capture_output=True)
        subprocess.run(podman + ['save', '-q', '-o', cls.top + '/image.tar', IMAGE], check=True, capture_output=True)
        code, _, err = cls.ctr(cls, 'images', 'import', '--snapshotter', 'native', cls.top + '/image.tar')
        if code:
            raise AssertionError(err)

    @classmethod
    def tearDownClass(cls):
        for id in cls.ctr(cls, 'containers', 'ls', '-q')[1].split():
            cls.ctr(cls, 'tasks', 'rm', '--force', id)
            cls.ctr(cls, 'containers', 'rm', id)
        cls.daemon.send_signal(signal.SIGTERM)
        cls.daemon.wait(PATIENCE)
        cls.log.close()
        shutil.rmtree(cls.top, ignore_errors=True)

    def ctr(self, *args):
        p = subprocess.run(['ctr', '-a', self.top + '/c.sock', *args], stdin=subprocess.DEVNULL, capture_output=True,
                           timeout=PATIENCE * 3)
        return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')

    def status(self, id):
        # containerd leaves out a task whose shim does not answer in two seconds.
        return wait_until(lambda: [l.split()[2] for l in self.ctr('tasks', 'ls')[1].splitlines() if id in l], 'the list of tasks')[0]

    def run_flags(self, *flags):
        return ['run', '--runc-binary', shutil.which(self.runtime), '--snapshotter', 'native', *flags, IMAGE,
                'c%d' % time.monotonic_ns()]

    def run_once(self, *program, flags=()):
        return self.ctr(*self.run_flags('--rm', *flags), *program)

    def background(self, *program, flags=()):
        words = self.run_flags('--detach', *flags)
        code, _, err = self.ctr(*words, *program)
        self.assertEqual(code, 0, err)
        return words[-1]

    def test_run_tells_output_and_exit_code(self):
        code, out, err = self.run_once('/bin/sh', '-c', 'echo out; exit 6')
        self.assertEqual((code, out), (6, 'out\n'), err)
        code, out, err = self.run_once('/bin/sh', '-c', 'echo $A; pwd', flags=['--env', 'A=b', '--cwd', '/tmp'])
        self.assertEqual((code, out), (0, 'b\n/tmp\n'), err)

    def test_a_missing_program_is_told(self):
        code, _, err = self.run_once('/bin/nothing')
        self.assertEqual(code, 1)
        self.assertIn('no such file', err)

    def test_exec_list_kill_and_remove(self):
        id = self.background('/bin/sh', '-c', 'trap "exit 3" TERM; while :; do sleep 0.1; done')
        self.assertEqual(self.status(id), 'RUNNING')
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'e1', id, '/bin/sh', '-c', 'echo in; exit 5')[:2], (5, 'in\n'))
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'e2', id, '/bin/echo', 'again')[:2], (0, 'again\n'))
        self.assertEqual(self.ctr('tasks', 'ps', id)[0], 0)
        self.assertEqual(self.ctr('tasks', 'metrics', id)[0], 0)
        self.assertEqual(self.ctr('tasks', 'kill', '-s', 'SIGTERM', id)[0], 0)
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.assertIn('exit code 3', ''.join(self.ctr('tasks', 'rm', id)[1:]))
        self.assertEqual(self.ctr('containers', 'rm', id)[0], 0)

    def test_pause_and_resume(self):
        id = self.background('/bin/sleep', '1000')
        self.assertEqual(self.ctr('tasks', 'pause', id)[0], 0)
        self.assertEqual(self.status(id), 'PAUSED')
        self.assertEqual(self.ctr('tasks', 'resume', id)[0], 0)
        self.assertEqual(self.status(id), 'RUNNING')
        self.assertEqual(self.ctr('tasks', 'kill', '-s', 'SIGKILL', id)[0], 0)
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.assertIn('exit code 137', ''.join(self.ctr('tasks', 'rm', id)[1:]))

    def test_a_terminal(self):
        t = Terminal.of_command(['ctr', '-a', self.top + '/c.sock', *self.run_flags('--rm', '-t'), '/bin/sh', '-c',
                                 'tty; stty size; read x; echo got $x; exit 2'], 25, 91)
        t.expect('/dev/pts/0')
        t.type('word\n')
        t.expect('got word')
        self.assertEqual(t.finish(), 2)


class ContainerdWithRunc(Containerd, unittest.TestCase):
    runtime = 'runc'


class ContainerdWithCaisson(Containerd, unittest.TestCase):
    runtime = CAISSON


if __name__ == '__main__':
    unittest.main()

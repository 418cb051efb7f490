#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""containerd is replaced by newer ones (Debian 12's 1.6, then 1.7 and 2.1 from packages of later releases) while pods run, stopped or killed: what
the programs do meanwhile is not lost. CAISSON_LONG=1 tries every way. What cannot be fetched (tests/shim/containerd.sh) is skipped."""
import os, signal, subprocess, time, unittest

from daemon import CriError, shims, wait_until
from pods import Left, PodCase
from stream import STDIN, STDOUT

LONG = bool(os.environ.get('CAISSON_LONG'))
HERE = os.path.dirname(os.path.abspath(__file__))
# What was tried; a later one may need newer libraries than there are.
NEWER = {'trixie': ' 1.7.', 'sid': ' 2.1.'}
WAYS = [[('trixie', signal.SIGTERM), ('sid', signal.SIGKILL)]]
if LONG:
    WAYS += [[('trixie', signal.SIGKILL), ('sid', signal.SIGTERM)], [('sid', signal.SIGTERM)], [('sid', signal.SIGKILL)]]
# Says one line for every file that somebody makes, in order.
TALKER = 'i=0; while :; do if [ -e /shared/say$i ]; then echo line $i; i=$((i+1)); fi; sleep 0.02; done'
ENDS = 'until [ -e /shared/end%d ]; do sleep 0.02; done; exit %d'
# Run in a container whose containerd goes: says so, waits for a file, writes to a client that is gone, makes another file.
ERRAND = 'echo up; until [ -e /shared/go%d ]; do sleep 0.02; done; echo to nobody; echo to nobody >&2; echo done > /shared/went%d'
READER = 'while read l; do echo "got $l"; done'


def programs(suite):
    """The folder of a newer containerd's programs, or None."""
    got = subprocess.run([os.path.join(HERE, 'containerd.sh'), suite], capture_output=True, text=True)
    if got.returncode:
        print(got.stderr.strip(), flush=True)
        return None
    folder = got.stdout.strip()
    told = subprocess.run([folder + '/containerd', '--version'], capture_output=True, text=True).stdout
    return folder if NEWER[suite] in told else None


class Upgrades(PodCase):
    leaves_nothing = True

    def touch(self, name):
        open(os.path.join(self.shared, name), 'w').close()

    def say(self, count):
        for _ in range(count):
            self.touch('say%d' % self.said)
            self.said += 1

    def lines_are_whole(self):
        wait_until(lambda: len(self.log(self.pods[0], 'talker')) == self.said, 'the log')
        self.assertEqual(self.log(self.pods[0], 'talker'), [['stdout', 'line %d' % i] for i in range(self.said)])

    def ended(self, stream):
        """Its containerd has closed it, or the kernel for it."""
        try:
            stream.finish()
        except ConnectionError:
            stream.close()

    def commands(self, id):
        return self.run_in(id, '/bin/sh', '-c', 'cat /proc/[0-9]*/cmdline')[1]

    def ask(self, id, word):
        s = self.open('Attach', container_id=id, stdin=True, stdout=True)
        s.send(STDIN, word.encode() + b'\n')
        s.expect(STDOUT, b'got ' + word.encode())
        s.close()

    def test_pods_live_on_under_newer_ones(self):
        for way in WAYS:
            folders = [(programs(suite), how) for suite, how in way]
            if not all(f for f, _ in folders):
                self.skipTest('a newer containerd is not to be had')
            with self.subTest(way=way):
                self.through(folders)
            if way != WAYS[-1]:  # an older one cannot read what a newer one has written: begin anew
                type(self).tearDownClass()
                type(self).setUpClass()

    def through(self, folders):
        before, self.said = Left(self.daemon), 0
        self.shared = os.path.join(self.daemon.top, 'shared%d' % time.monotonic_ns())
        os.mkdir(self.shared)
        mounts = [{'container_path': '/shared', 'host_path': self.shared}]
        self.pods = [self.pod(), self.pod()]
        talker = self.add(self.pods[0], 'talker', '/bin/sh', '-c', TALKER, mounts=mounts)
        reader = self.add(self.pods[1], 'reader', '/bin/sh', '-c', READER, stdin=True)
        self.say(3)
        self.lines_are_whole()
        self.ask(reader, 'first')
        started = self.status(talker)['started_at']
        for n, (folder, how) in enumerate(folders):
            ends = self.add(self.pods[0], 'ends%d' % n, '/bin/sh', '-c', ENDS % (n, 7 + n), mounts=mounts)
            pods = self.shims()
            # A client of each kind is there when it goes.
            errand = self.open('Exec', container_id=talker, cmd=['/bin/sh', '-c', ERRAND % (n, n)], stdout=True, stderr=True)
            errand.expect(STDOUT, b'up')
            attached = self.open('Attach', container_id=reader, stdin=True, stdout=True)
            attached.send(STDIN, b'before%d\n' % n)
            attached.expect(STDOUT, b'got before%d' % n)
            self.daemon.kill(how)
            self.say(4)
            self.touch('end%d' % n)
            self.daemon.bin = folder
            self.daemon.start()
            wait_until(self.ready, 'the CRI to be ready')
            self.assertEqual(self.shims(), pods)
            for stream in (errand, attached):
                self.ended(stream)
            # What was run goes on without its client, and ends by itself.
            self.touch('go%d' % n)
            wait_until(lambda: os.path.exists(os.path.join(self.shared, 'went%d' % n)), 'the program that was run')
            wait_until(lambda: '/shared/go%d' % n not in self.commands(talker), 'its end')
            self.lines_are_whole()
            self.assertEqual(self.status(talker)['state'], 'CONTAINER_RUNNING')
            self.assertEqual(self.status(talker)['started_at'], started)
            # containerd removes unread what ended while it was away, under any runtime, and says 255.
            self.assertIn(self.wait(ends)['exit_code'], (7 + n, 255))
            for p in self.pods:
                s = self.cri.call('PodSandboxStatus', pod_sandbox_id=p[0])['status']
                self.assertEqual((s['state'], s['network']['ip'][:6]), ('SANDBOX_READY', '10.87.'))
            self.say(2)
            self.lines_are_whole()
            for word in ('one', 'two'):
                self.ask(reader, word + str(n))
            self.assertEqual(self.run_in(talker, '/bin/sh', '-c', 'echo here; exit 5'), (5, 'here\n', ''))
            with self.assertRaises(CriError):
                self.run_in(talker, '/bin/sleep', '1000', timeout=1)
            # A container of the new one in a pod of the old one, and a pod of its own.
            more = self.add(self.pods[0], 'more%d' % n, '/bin/echo', 'more')
            self.assertEqual(self.wait(more)['exit_code'], 0)
            self.assertGreater(int(self.cri.call('ContainerStats', container_id=talker)['stats']['memory']['working_set_bytes']['value']), 0)
            self.pods.append(self.pod())
            self.assertEqual(self.run_in(self.add(self.pods[-1], 'c', '/bin/sleep', '1000'), '/bin/true')[0], 0)
        self.cri.call('StopContainer', container_id=talker, timeout=0)
        self.assertEqual(self.status(talker)['exit_code'], 137)
        for p in self.pods:
            self.remove(p)
        if self.leaves_nothing:
            wait_until(lambda: not Left(self.daemon).more_than(before), 'nothing to be left')

    def shims(self):
        return sorted(shims(self.daemon.top))


@unittest.skipUnless(LONG, 'the control: CAISSON_LONG=1')
class WithRunc(Upgrades, unittest.TestCase):
    handler = 'runc'
    leaves_nothing = False


class WithCaisson(Upgrades, unittest.TestCase):
    handler = 'caisson'


if __name__ == '__main__':
    unittest.main()

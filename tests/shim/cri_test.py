#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pods through containerd's CRI, with runc's handler and with Caisson's: the same answers."""
import os, signal, unittest

from daemon import CriError, read, shims, wait_until
from pods import PodCase


class Pods(PodCase):
    def test_a_pod_has_an_address_and_runs_a_container(self):
        pod = self.pod()
        s = self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']
        self.assertEqual(s['state'], 'SANDBOX_READY')
        self.assertTrue(s['network']['ip'].startswith('10.87.'), s)
        c = self.add(pod, 'c', '/bin/sh', '-c', 'echo to out; echo to err >&2; exit 3')
        s = self.wait(c)
        self.assertEqual((s['exit_code'], s['reason']), (3, 'Error'))
        wait_until(lambda: len(self.log(pod, 'c')) == 2, 'the log')
        self.assertEqual(sorted(self.log(pod, 'c')), sorted([['stdout', 'to out'], ['stderr', 'to err']]))
        self.remove(pod)

    def test_exec_probes_and_their_time_limit(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sleep', '1000')
        self.assertEqual(self.run_in(c, '/bin/sh', '-c', 'echo a; echo b >&2; exit 4'), (4, 'a\n', 'b\n'))
        for i in range(10):
            self.assertEqual(self.run_in(c, '/bin/true'), (0, '', ''))
        with self.assertRaises(CriError) as e:
            self.run_in(c, '/bin/sleep', '1000', timeout=1)
        self.assertIn('timeout', str(e.exception))
        with self.assertRaises(CriError):
            self.run_in(c, '/bin/nothing')
        self.remove(pod)

    def test_three_containers_share_the_pod(self):
        pod = self.pod()
        shared = self.daemon.top + '/' + pod[1]['hostname']
        mounts = [{'container_path': '/shared', 'host_path': shared}]
        ids = [self.add(pod, n, '/bin/sleep', '1000', mounts=mounts) for n in 'abc']
        self.assertEqual(self.run_in(ids[0], '/bin/sh', '-c', 'echo word > /shared/f')[0], 0)
        for id in ids[1:]:
            self.assertEqual(self.run_in(id, '/bin/cat', '/shared/f'), (0, 'word\n', ''))
        self.cri.call('StopContainer', container_id=ids[1], timeout=0)
        self.assertEqual(self.status(ids[1])['exit_code'], 137)
        self.assertEqual([self.status(i)['state'] for i in ids], ['CONTAINER_RUNNING', 'CONTAINER_EXITED', 'CONTAINER_RUNNING'])
        self.cri.call('RemoveContainer', container_id=ids[1])
        self.assertEqual(self.run_in(ids[2], '/bin/true')[0], 0)
        again = self.add(pod, 'b2', '/bin/sleep', '1000')
        self.assertEqual(self.run_in(again, '/bin/true')[0], 0)
        self.remove(pod)

    def test_stop_asks_first(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sh', '-c', 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.1; done')
        wait_until(lambda: self.log(pod, 'c'), 'the program to run')
        self.cri.call('StopContainer', container_id=c, timeout=20)
        self.assertEqual((self.status(c)['exit_code'], self.status(c)['reason']), (0, 'Completed'))
        self.remove(pod)

    def test_limits_stats_and_updates(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sleep', '1000', linux={'resources': {'memory_limit_in_bytes': 128 << 20, 'cpu_quota': 50000, 'cpu_period': 100000}})
        s = self.cri.call('ContainerStats', container_id=c)['stats']
        self.assertGreater(int(s['memory']['working_set_bytes']['value']), 10000)
        self.assertGreater(int(s['cpu']['usage_core_nano_seconds']['value']), 1000)
        self.cri.call('UpdateContainerResources', container_id=c, linux={'memory_limit_in_bytes': 256 << 20})
        self.assertEqual(self.run_in(c, '/bin/true')[0], 0)
        self.remove(pod)

    def test_out_of_memory(self):
        pod = self.pod()
        other = self.add(pod, 'other', '/bin/sleep', '1000')
        c = self.add(pod, 'c', '/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=300M', 'count=1',
                     linux={'resources': {'memory_limit_in_bytes': 128 << 20}})
        s = self.wait(c)
        self.assertEqual(s['exit_code'], 137)
        wait_until(lambda: self.status(c)['reason'] == 'OOMKilled', 'the reason')
        self.assertEqual(self.run_in(other, '/bin/true')[0], 0)
        self.remove(pod)

    def test_a_sandbox_that_is_killed_is_told_and_removed(self):
        pod = self.pod()
        self.add(pod, 'c', '/bin/sleep', '1000')
        pid = int([l.split()[1] for l in self.daemon.ctr('tasks', 'ls')[1].splitlines() if l.startswith(pod[0])][0])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']['state'] == 'SANDBOX_NOTREADY', 'NotReady')
        self.remove(pod)

    def test_a_shim_that_is_killed_is_told_and_all_is_removed(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sleep', '1000')
        mine = [p for p in shims(self.daemon.top) if pod[0] in read('/proc/%d/cmdline' % p).split('\0')]
        self.assertEqual(len(mine), 1)
        os.kill(mine[0], signal.SIGKILL)
        wait_until(lambda: self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']['state'] == 'SANDBOX_NOTREADY', 'NotReady')
        wait_until(lambda: self.status(c)['state'] == 'CONTAINER_EXITED', 'the container to be gone')
        self.remove(pod)

    def test_containerd_restarts_and_the_pod_goes_on(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sh', '-c', 'while :; do echo tick; sleep 0.2; done')
        self.daemon.kill()
        self.daemon.start()
        wait_until(lambda: self.ready(), 'the CRI to be ready')
        self.assertEqual(self.status(c)['state'], 'CONTAINER_RUNNING')
        self.assertEqual(self.run_in(c, '/bin/echo', 'here'), (0, 'here\n', ''))
        n = len(self.log(pod, 'c'))
        wait_until(lambda: len(self.log(pod, 'c')) > n, 'the log to go on')
        self.remove(pod)


class WithRunc(Pods, unittest.TestCase):
    handler = 'runc'


class WithCaisson(Pods, unittest.TestCase):
    handler = 'caisson'

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if cls.daemon.sockets_left(cls.ids):
            raise AssertionError('sockets are left of %s' % cls.daemon.sockets_left(cls.ids))

    def test_one_shim_serves_a_pod(self):
        pod = self.pod()
        for n in 'abc':
            self.add(pod, n, '/bin/sleep', '1000')
        mine = [p for p in shims(self.daemon.top) if pod[0] in read('/proc/%d/cmdline' % p).split('\0')]
        self.assertEqual(len(mine), 1)
        self.assertEqual(len(shims(self.daemon.top)), 1)
        self.remove(pod)
        wait_until(lambda: not shims(self.daemon.top), 'the shim to end')


if __name__ == '__main__':
    unittest.main()

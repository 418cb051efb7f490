#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whoever is killed, at whatever moment: the pod is told not to be ready, it can be removed, and nothing is left of it. With
CAISSON_LONG=1 many moments more; what happened to happen at one is never asked for, only how it ends."""
import os, random, signal, subprocess, threading, time, unittest

from daemon import Cri, CriError, read, shims, wait_until
from pods import Left, PodCase

LONG = bool(os.environ.get('CAISSON_LONG'))
SLEEP = ['/bin/sleep', '100000']


class Background:
    """A call of the CRI on a connection of its own; its outcome, whatever it is."""

    def __init__(self, daemon, f):
        self.cri, self.error, self.answer = Cri(daemon), None, None

        def run():
            try:
                self.answer = f(self.cri)
            except (CriError, ValueError, BrokenPipeError) as e:
                self.error = e
        self.thread = threading.Thread(target=run)
        self.thread.start()

    def join(self):
        self.thread.join(120)
        if self.thread.is_alive():
            raise AssertionError('a call does not end')
        self.cri.close()


class Kills(PodCase):
    roles = ()
    leaves_nothing = True

    def setUp(self):
        self.before = Left(self.daemon)

    def victims(self, pod, container):
        """Pids of a pod, by what they are."""
        found = {'shim': shims(self.daemon.top, pod)}
        for whose, id in (('pod', pod), ('container', container)):
            for pid, name in self.groups(id).items() if id else ():
                found.setdefault('%s %s' % (whose, name), []).append(pid)
        return found

    def kill(self, pids):
        for p in pids:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def not_ready(self, pod):
        wait_until(lambda: self.cri.call('PodSandboxStatus', pod_sandbox_id=pod)['status']['state'] == 'SANDBOX_NOTREADY', 'NotReady')

    def clean(self, but=(), networks=True):
        """Everything is removed, as a kubelet does, and nothing is left."""
        def left():
            more = {k: {name for name in v if networks or '/netns/' not in name} for k, v in Left(self.daemon).more_than(self.before).items()}
            return {k: v for k, v in more.items() if v and k not in but}
        def removed():
            try:
                for c in self.cri.call('ListContainers')['containers']:
                    self.cri.call('StopContainer', container_id=c['id'], timeout=0)
                    self.cri.call('RemoveContainer', container_id=c['id'])
                for p in self.cri.call('ListPodSandbox')['items']:
                    self.cri.call('StopPodSandbox', pod_sandbox_id=p['id'])
                    self.cri.call('RemovePodSandbox', pod_sandbox_id=p['id'])
                return not self.cri.call('ListPodSandbox')['items']
            except CriError as e:  # a kubelet tries again
                self.last = e
                return False
        self.last = None
        try:
            wait_until(removed, 'removal', 90)
            if self.leaves_nothing:
                wait_until(lambda: not left(), 'nothing to be left')
        except AssertionError as e:
            raise AssertionError('%s: %s; left: %s' % (e, self.last, left()))

    def test_each_of_a_pods_processes_while_it_is_idle(self):
        for role in self.roles:
            with self.subTest(role=role):
                pod = self.pod()
                a = self.add(pod, 'a', *SLEEP)
                b = self.add(pod, 'b', *SLEEP)
                self.kill(self.victims(pod[0], a)[role])
                wait_until(lambda: self.status(a)['state'] == 'CONTAINER_EXITED', 'the container to have ended')
                if role.startswith('container'):
                    self.assertEqual(self.status(a)['exit_code'], 137)
                    self.assertEqual(self.run_in(b, '/bin/echo', 'on'), (0, 'on\n', ''))
                    self.cri.call('RemoveContainer', container_id=a)
                    again = self.add(pod, 'again', '/bin/echo', 'well')
                    self.assertEqual(self.wait(again)['exit_code'], 0)
                elif role in self.deadly:
                    self.not_ready(pod[0])
                    wait_until(lambda: self.status(b)['state'] == 'CONTAINER_EXITED', 'the container to have ended')
                self.clean()

    def test_while_a_program_is_run_in_it(self):
        for role in self.roles if LONG else self.roles[:2]:
            with self.subTest(role=role):
                pod = self.pod()
                a = self.add(pod, 'a', *SLEEP)
                calls = [Background(self.daemon, lambda cri: cri.call('ExecSync', container_id=a, cmd=SLEEP, timeout=0)),
                         Background(self.daemon, lambda cri: cri.call('ExecSync', container_id=a, cmd=['/bin/sh', '-c', 'while :; do /bin/true; done'], timeout=0))]
                wait_until(lambda: self.run_in(a, '/bin/sh', '-c', 'cat /proc/[0-9]*/cmdline')[1].count('100000') >= 3, 'the program to run')
                self.kill(self.victims(pod[0], a)[role])
                for c in calls:
                    c.join()
                    self.assertTrue(c.error or c.answer['exit_code'] == 137, c.answer)
                self.clean()

    def test_while_it_is_made(self):
        for role in self.roles if LONG else self.roles[:2]:
            for n in range(20 if LONG else 2):
                with self.subTest(role=role, n=n):
                    self.before = Left(self.daemon)
                    call = Background(self.daemon, self.make)
                    # The moment comes when there is somebody to kill, or the making is over.
                    while call.thread.is_alive():
                        victims = self.of_role(role)
                        if victims:
                            time.sleep(random.random() * 0.3 if LONG else 0.05 * n)
                            self.kill(victims)
                            break
                        time.sleep(0.001)
                    call.join()
                    # containerd says nothing of a shim that died before it was called for the first time: the next one removes its socket.
                    self.clean(but=('sockets',) if role == 'shim' else ())
                    if role == 'shim' and not (LONG and n % 5):
                        self.remove(self.pod())
                        self.clean()

    def make(self, cri):
        """A pod with a container, whatever comes of it."""
        name = 'p%d' % time.monotonic_ns()
        os.mkdir(os.path.join(self.daemon.top, name))
        config = {'metadata': {'name': name, 'uid': name, 'namespace': 'tests'}, 'hostname': name, 'log_directory': os.path.join(self.daemon.top, name),
                  'linux': {'cgroup_parent': '/' + self.daemon.group}}
        id = cri.call('RunPodSandbox', config=config, runtime_handler=self.handler)['pod_sandbox_id']
        c = {'metadata': {'name': 'c'}, 'image': {'image': 'localhost/caisson-test:latest'}, 'command': SLEEP, 'linux': {}}
        c = cri.call('CreateContainer', pod_sandbox_id=id, config=c, sandbox_config=config)['container_id']
        cri.call('StartContainer', container_id=c)

    def of_role(self, role):
        """Pids of that kind in whatever there is now."""
        if role == 'shim':
            return shims(self.daemon.top)
        found = []
        for d in self.daemon.cgroups():
            for top, _, _ in os.walk(d):
                try:
                    for pid in read(top + '/cgroup.procs').split():
                        if read('/proc/%s/comm' % pid).strip() == role.split()[1] and int(pid) not in found:
                            found.append(int(pid))
                except OSError:
                    pass
        return found[:1]

    def test_containerd_while_pods_are_made_and_removed(self):
        for n in range(15 if LONG else 2):
            with self.subTest(n=n):
                call = Background(self.daemon, self.make)
                time.sleep(random.random() if LONG else 0.15 + 0.2 * n)
                self.daemon.kill()
                call.join()
                self.daemon.start()
                wait_until(self.ready, 'the CRI to be ready')
                for p in self.cri.call('ListPodSandbox')['items']:
                    stop = Background(self.daemon, lambda cri: cri.call('StopPodSandbox', pod_sandbox_id=p['id']))
                    time.sleep(random.random() * 0.3 if LONG else 0.05)
                    self.daemon.kill()
                    stop.join()
                    self.daemon.start()
                    wait_until(self.ready, 'the CRI to be ready')
                # containerd 1.6 makes a pod's network before it writes down that there is a pod: killed in between, it forgets the network.
                self.clean(networks=False)
                for path in Left(self.daemon).more_than(self.before).get('netns', ()):
                    subprocess.run(['umount', path])
                    os.unlink(path)

    def test_a_frozen_shim_is_killed_in_the_end(self):
        """A shim that hangs holds nobody else up; killed, its pod is removed."""
        pod, other = self.pod(), self.pod()
        self.add(pod, 'a', *SLEEP)
        b = self.add(other, 'b', *SLEEP)
        shim = self.victims(pod[0], None)['shim']
        os.kill(shim[0], signal.SIGSTOP)
        self.assertEqual(self.run_in(b, '/bin/echo', 'on'), (0, 'on\n', ''))
        os.kill(shim[0], signal.SIGKILL)
        self.clean()


class WithRunc(Kills, unittest.TestCase):
    # Its shim leaves its socket, cgroups and mounts when it is killed, and lives on when containerd is while it makes a pod.
    handler = 'runc'
    roles = ('shim', 'container sleep')
    test_while_it_is_made = test_containerd_while_pods_are_made_and_removed = None
    deadly = ('shim',)
    leaves_nothing = False


class WithCaisson(Kills, unittest.TestCase):
    handler = 'caisson'
    roles = ('shim', 'pod caisson-sentry', 'pod caisson-gofer', 'pod caisson-zygote', 'container caisson-gofer', 'container caisson-zygote')
    deadly = roles[:4]


if __name__ == '__main__':
    unittest.main()

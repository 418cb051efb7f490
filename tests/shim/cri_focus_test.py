#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rest of what Kubernetes' critest looks at (other tests here have its bigger part), with runc's handler and with Caisson's: the same answers, but
where a sandbox must not do what runc does. By hand: CAISSON_LONG=1."""
import os, subprocess, unittest

from daemon import CriError, wait_until
from pods import OWN_PIDS, PodCase

SLEEP = ['/bin/sleep', '100000']
if not os.environ.get('CAISSON_LONG'):
    print('run by hand, with CAISSON_LONG=1')
    raise SystemExit(0)


class Focus(PodCase):
    def one(self, pod=None, security={}, **more):
        """A pod with one container that sleeps."""
        p = pod or self.pod()
        return p, self.add(p, 'c', *SLEEP, linux={'security_context': security}, **more)

    def test_what_is_stopped_and_removed_again_is_no_error(self):
        pod, c = self.one()
        for method, request in ((('StopContainer', {'container_id': c, 'timeout': 0}), ) * 2 + (('RemoveContainer', {'container_id': c}),) * 2 +
                                (('StopPodSandbox', {'pod_sandbox_id': pod[0]}),) * 2 + (('RemovePodSandbox', {'pod_sandbox_id': pod[0]}),) * 2):
            self.cri.call(method, **request)
        self.assertNotIn(pod[0], [p['id'] for p in self.cri.call('ListPodSandbox')['items']])
        with self.assertRaises(CriError):
            self.status(c)

    def test_a_pod_is_removed_with_its_running_containers(self):
        pod, c = self.one()
        self.remove(pod)
        with self.assertRaises(CriError):
            self.status(c)

    def test_words_and_place(self):
        pod, c = self.one(envs=[{'key': 'A', 'value': 'b c'}, {'key': 'E', 'value': ''}], working_dir='/tmp')
        self.assertEqual(self.sh(c, 'echo $A ${E-unset}; pwd'), 'b c\n/tmp\n')
        d = self.add(pod, 'd', '/bin/echo', args=['one', '$(A)', 'three'])
        self.assertEqual(self.wait(d)['exit_code'], 0)
        wait_until(lambda: self.log(pod, 'd') == [['stdout', 'one $(A) three']], 'the log')
        self.remove(pod)

    def test_a_volume_of_the_image(self):
        self.daemon.image(self.daemon.top + '/root.tar', 'localhost/caisson-volume:latest', 'VOLUME ["/vol"]')
        pod, c = self.one(image={'image': 'localhost/caisson-volume:latest'})
        self.assertEqual(self.sh(c, 'echo word > /vol/f; cat /vol/f; grep -c " /vol " /proc/mounts'), 'word\n1\n')
        self.remove(pod)

    def test_seccomp_profiles(self):
        pod, c = self.one(security={'seccomp': {'profile_type': 'Unconfined'}})
        self.assertIn('Seccomp:\t0\n', self.sh(c, 'cat /proc/self/status'))
        with self.assertRaises(CriError) as e:
            self.add(pod, 'd', *SLEEP, linux={'security_context': {'seccomp': {'profile_type': 'Localhost', 'localhost_ref': '/nothing.json'}}})
        self.assertIn('/nothing.json', str(e.exception))
        self.remove(pod)

    def test_privileges_are_given_and_taken(self):
        pod = self.pod(security_context={'privileged': True})
        c = self.add(pod, 'p', *SLEEP, linux={'security_context': {'privileged': True}})
        eff = int(self.sh(c, 'sed -n "s/CapEff:.//p" /proc/self/status'), 16)
        self.assertTrue(eff >> 21 & 1)  # CAP_SYS_ADMIN
        self.assertEqual(self.sh(c, 'busybox mount -t tmpfs x /tmp && echo mounted'), 'mounted\n')
        d = self.add(pod, 'u', *SLEEP)
        self.assertFalse(int(self.sh(d, 'sed -n "s/CapEff:.//p" /proc/self/status'), 16) >> 21 & 1)
        self.assertIn('permitted', self.run_in(d, '/bin/sh', '-c', 'busybox mount -t tmpfs x /tmp')[2].replace('permission denied', 'permitted'))
        self.remove(pod)

    def test_gains_of_privilege_are_allowed_unless_forbidden(self):
        pod, c = self.one(security={'run_as_user': {'value': 1000}})
        self.assertIn('NoNewPrivs:\t0\n', self.sh(c, 'cat /proc/self/status'))
        self.remove(pod)

    def test_processes_of_one_container_are_another_ones_target(self):
        pod = self.pod()
        a = self.add(pod, 'a', '/bin/sleep', '4711', linux={'security_context': OWN_PIDS})
        b = self.add(pod, 'b', '/bin/sleep', '4712', linux={'security_context': {'namespace_options': {'pid': 'TARGET', 'target_id': a}}})
        seen = self.sh(b, 'cat /proc/1/cmdline | tr "\\0" " "; cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " "')
        self.assertTrue(seen.startswith('/bin/sleep 4711'), seen)
        self.assertIn('/bin/sleep 4712', seen)
        self.remove(pod)

    def test_devices(self):
        pod, c = self.one(devices=[{'container_path': '/dev/mynull', 'host_path': '/dev/null', 'permissions': 'rwm'}])
        self.assertEqual(self.sh(c, 'test -c /dev/mynull && echo x > /dev/mynull && cat /dev/mynull && echo ok'), 'ok\n')
        self.remove(pod)

    def propagated(self, kind):
        """What the container sees of a mount that the host makes below a volume later."""
        privilege = {'privileged': kind == 'PROPAGATION_BIDIRECTIONAL'}
        pod = self.pod(security_context=privilege)
        volume = os.path.join(pod[1]['log_directory'], 'volume')
        os.mkdir(volume)
        subprocess.run(['mount', '--bind', volume, volume], check=True)
        try:
            subprocess.run(['mount', '--make-rshared', volume], check=True)
            os.mkdir(volume + '/sub')
            c = self.add(pod, 'c', *SLEEP, mounts=[{'container_path': '/m', 'host_path': volume, 'propagation': kind}],
                         linux={'security_context': privilege})
            subprocess.run(['mount', '-t', 'tmpfs', 't', volume + '/sub'], check=True)
            open(volume + '/sub/file', 'w').close()
            return self.sh(c, 'ls /m/sub')
        finally:
            self.remove(pod)
            subprocess.run(['umount', '-R', '-l', volume], check=True)

    def test_mounts_that_come_later(self):
        self.assertEqual(self.propagated('PROPAGATION_PRIVATE'), '')
        self.assertEqual(self.propagated('PROPAGATION_HOST_TO_CONTAINER'), 'file\n')
        if self.sees_the_node:
            self.assertEqual(self.propagated('PROPAGATION_BIDIRECTIONAL'), 'file\n')
        else:
            with self.assertRaises(CriError) as e:
                self.propagated('PROPAGATION_BIDIRECTIONAL')
            self.assertIn('never reaches the host', str(e.exception))

    def test_namespaces_of_the_node(self):
        for kind in ('pid', 'ipc'):
            options = {'namespace_options': {kind: 'NODE'}}
            pod = self.pod(security_context=options)
            c = self.add(pod, 'c', *SLEEP, linux={'security_context': options})
            self.assertEqual('containerd' in self.sh(c, 'cat /proc/[0-9]*/comm'), kind == 'pid' and self.sees_the_node)
            self.remove(pod)

    def test_the_network_of_the_node(self):
        """A pod has it when it asks for it, and else has not: a server on the node's loopback tells."""
        server = subprocess.Popen([*self.daemon.prefix, 'python3', '-m', 'http.server', '8088', '--bind', '127.0.0.1', '--directory', self.daemon.top],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        wait_until(lambda: '127.0.0.1:8088' in self.daemon.network('ss', '-ltn'), 'the server')
        for kind, code in (('POD', 1), ('NODE', 0)):  # the first makes the node's bridge
            options = {'namespace_options': {'network': kind}}
            pod = self.pod({'hostname': ''} if kind == 'NODE' else {}, security_context=options)
            c = self.add(pod, 'c', *SLEEP, linux={'security_context': options})
            self.assertEqual(self.run_in(c, '/bin/sh', '-c', 'busybox wget -q -O /dev/null http://127.0.0.1:8088/config.toml')[0], code)
            self.assertEqual('cni0' in self.sh(c, 'busybox ip link'), kind == 'NODE')
            self.remove(pod)


class WithRunc(Focus, unittest.TestCase):
    handler = 'runc'
    sees_the_node = True


class WithCaisson(Focus, unittest.TestCase):
    handler = 'caisson'
    sees_the_node = False


if __name__ == '__main__':
    unittest.main()

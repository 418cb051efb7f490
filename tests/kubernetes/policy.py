# SPDX-License-Identifier: Apache-2.0
"""Kubelet through caisson-cri: pods of some namespaces run under Caisson without saying so, what would reach around it is refused, and nothing
of theirs runs without it."""
import os

from cluster import TOP, call, read, wait_until, write
from kube_case import Case, container
import pods

SOCKET = '/run/caisson/cri.sock'
# The one that the package brings, and a rule after its own.
POLICY = read(os.path.join(TOP, 'deploy', 'cri.toml')) + '''
[[rule]]
name = "tenants"
namespaces = ["tenant-*"]
handler = "caisson"
'''


def setUpModule():
    node = Case.cluster
    os.makedirs('/run/caisson', exist_ok=True)
    write('/run/caisson/cri.toml', POLICY, 0o600)
    node.service('caisson-cri', os.path.join(node.build, 'bin', 'caisson-cri'), '--policy', '/run/caisson/cri.toml', '--listen', SOCKET,
                 '--backend', '/run/containerd/containerd.sock', '--metrics', '127.0.0.1:9155')
    wait_until(lambda: os.path.exists(SOCKET), node.services['caisson-cri'].tail)
    call('kubectl', 'create', 'namespace', 'tenant-a')
    wait_until(lambda: node.get('serviceaccount', 'default', 'tenant-a'), 'the service account of the namespace')


def tearDownModule():
    node = Case.cluster
    call('kubectl', 'delete', 'namespace', 'tenant-a', '--timeout=180s')
    node.move_kubelet('/run/containerd/containerd.sock')
    node.services['caisson-cri'].stop()


class Tenants(Case):
    """In order of their names. Pods here never name a class."""
    namespace = 'tenant-a'

    def refused(self, name, word):
        def events():
            return self.kubectl('get', 'events', '--field-selector=involvedObject.name=' + name, '-o', 'jsonpath={.items[*].message}')[1]
        wait_until(lambda: word in events(), lambda: '%r among the events: %s' % (word, events()), pause=0.5)
        self.assertFalse(any('running' in s.get('state', {}) for s in self.get(name)['status'].get('containerStatuses', [])))

    def test_1_kubelet_moves_over_and_pods_go_on(self):
        self.namespace = 'default'
        names = []
        for self.handler in ('runc', 'caisson'):
            names.append(self.pod())
        since = [self.get(n)['status']['containerStatuses'] for n in names]
        self.cluster.move_kubelet(SOCKET)
        for name, before in zip(names, since):
            self.assertEqual(self.said(name, 'echo here'), 'here\n')
            self.assertEqual(self.status(name)['restartCount'], 0)
            self.assertEqual(self.status(name)['containerID'], before[0]['containerID'])
        wait_until(lambda: self.cluster.condition('node', 'node1', 'Ready'), 'the node')

    def test_2_the_namespace_decides(self):
        name = self.pod()
        self.assertEqual(self.runtime(name), 'io.containerd.caisson.v1')
        self.assertNotIn('runtimeClassName', self.get(name)['spec'])
        self.assertEqual(self.said(name, 'hostname'), name + '\n')
        self.namespace = 'default'
        other = self.pod()
        self.assertEqual(self.runtime(other), 'io.containerd.runc.v2')
        self.remove(other)
        self.namespace = 'tenant-a'
        metrics = call('curl', '-sf', 'http://127.0.0.1:9155/metrics')[1]
        self.assertRegex(metrics, r'caisson_cri_pods\{handler="caisson",state="ready"\} [1-9]')

    def test_3_what_reaches_around_the_sandbox_is_refused(self):
        cases = {'privileged': ([container(securityContext={'privileged': True})], {}),
                 'host-path': ([container(volumeMounts=[{'name': 'v', 'mountPath': '/v'}])], {'volumes': [{'name': 'v', 'hostPath': {'path': '/etc'}}]}),
                 'host-network': ([container()], {'hostNetwork': True}), 'host-pid': ([container()], {'hostPID': True}),
                 'host-ipc': ([container()], {'hostIPC': True})}
        names = {word: self.pod(*c, ready=False, **more) for word, (c, more) in cases.items()}
        for word, name in names.items():
            with self.subTest(word):
                self.refused(name, word)
                self.remove(name)

    def test_4_it_fails_closed(self):
        self.assertEqual(call('/opt/caisson/bin/caisson', 'uninstall', '--force', '--then', 'systemctl restart containerd', check=False)[0], 0)
        try:
            wait_until(lambda: call('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:9155/healthz', check=False)[1] == '503', 'healthz to say so')
            name = self.pod(ready=False)
            self.refused(name, 'caisson')
            self.assertEqual(call('ctr', '-n', 'k8s.io', 'containers', 'ls', '-q', 'labels."io.kubernetes.pod.name"==' + name)[1], '')
            self.namespace = 'default'
            self.pod()  # others are not held up
        finally:
            self.namespace = 'tenant-a'
            call('/opt/caisson/bin/caisson', 'install', '--shim', '/opt/caisson/bin/containerd-shim-caisson-v1', '--then', 'systemctl restart containerd')
        self.ready(name)
        self.assertEqual(self.runtime(name), 'io.containerd.caisson.v1')

    def test_5_nobody_decides_while_it_is_away(self):
        node = self.cluster.services['caisson-cri']
        running = self.pod()
        node.stop()
        name = self.pod(ready=False)
        wait_until(lambda: 'caisson/cri.sock' in node_log(self.cluster), 'kubelet to miss it')
        self.assertFalse(self.get(name)['status'].get('containerStatuses', [{}])[0].get('containerID'))
        node.__init__(node.name, node.command, os.path.dirname(node.log))
        self.ready(name)
        self.assertEqual(self.runtime(name), 'io.containerd.caisson.v1')
        self.assertEqual(self.status(running)['restartCount'], 0)


def node_log(cluster):
    return '\n'.join(read(cluster.services['kubelet'].log).splitlines()[-200:])


class ThroughThePolicy(pods.Kubectl, Case):
    """All that kubectl does with pods, in a namespace that the policy sends into the sandbox."""
    handler = 'caisson'
    namespace = 'tenant-a'

    def spec(self, *containers, **more):
        spec = super().spec(*containers, **more)
        spec.pop('runtimeClassName', None)
        return spec

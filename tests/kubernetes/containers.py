# SPDX-License-Identifier: Apache-2.0
"""What kubelet does with containers: probes, restarts, limits, identities, hooks, ends."""
import time

from cluster import wait_until
from kube_case import Case, both, container
from pods import SERVER


@both
class Containers:
    def test_probes_hold_back_readiness_and_restart(self):
        probes = {'exec': {'exec': {'command': ['test', '-e', '/tmp/ok']}}, 'http': {'httpGet': {'path': '/index.html', 'port': 8080}},
                  'tcp': {'tcpSocket': {'port': 8080}}}
        # The server is not the first process, which nothing from inside ends: when it is gone only a probe can tell.
        script = 'while ! [ -e /tmp/ok ]; do sleep 0.1; done; (%s) & echo $! > /tmp/server; while :; do sleep 0.1; done' % SERVER
        names = {}
        for kind, probe in probes.items():
            probe = {**probe, 'periodSeconds': 1, 'timeoutSeconds': 10}
            names[kind] = self.pod(container(script, readinessProbe=probe, livenessProbe={**probe, 'initialDelaySeconds': 0, 'failureThreshold': 2},
                                             startupProbe={**probe, 'failureThreshold': 1000}), ready=False)
        for kind, name in names.items():
            with self.subTest(probe=kind):
                self.wait(name, lambda p: 'running' in self.status(p).get('state', {}), 'the start')
                self.assertFalse(self.status(name)['ready'])
                self.said(name, 'touch /tmp/ok')
                self.ready(name)
        for kind, name in names.items():
            with self.subTest(probe=kind):
                # In the container that is started again the file is not there.
                self.said(name, 'rm /tmp/ok' if kind == 'exec' else 'rm -r /tmp/www' if kind == 'http' else 'kill $(cat /tmp/server)')
                self.wait(name, lambda p: self.status(p)['restartCount'] == 1 and not self.status(p)['ready'], 'the restart')

    def test_restart_policies(self):
        cases = {('Never', 0): ('Succeeded', 0), ('Never', 4): ('Failed', 0), ('OnFailure', 0): ('Succeeded', 0)}
        names = {k: self.pod(container('exit %d' % k[1]), restartPolicy=k[0], ready=False) for k in cases}
        again = {p: self.pod(container('exit 4'), restartPolicy=p, ready=False) for p in ('OnFailure', 'Always')}
        for k, (phase, restarts) in cases.items():
            with self.subTest(policy=k):
                pod = self.wait(names[k], lambda p: p['status']['phase'] in ('Succeeded', 'Failed'), 'the end')
                self.assertEqual((pod['status']['phase'], self.status(pod)['restartCount']), (phase, restarts))
                self.assertEqual(self.status(pod)['state']['terminated']['exitCode'], k[1])
        for policy, name in again.items():
            with self.subTest(policy=policy):
                pod = self.wait(name, lambda p: self.status(p).get('restartCount', 0) >= 1, 'the restart')
                self.assertEqual(pod['status']['phase'], 'Running')

    def test_limits(self):
        name = self.pod(container('exec sleep 1000000', resources={'limits': {'cpu': '1', 'memory': '64Mi'}, 'requests': {'cpu': '100m', 'memory': '32Mi'}}))
        look = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max'
        words = self.said(name, look).split()
        self.assertEqual((int(words[0]), int(words[1])), (64 << 20, 100000))
        pod = self.get(name)
        if self.handler != 'runc':
            self.assertEqual(pod['spec']['overhead'], self.cluster.get('runtimeclass', 'caisson')['overhead']['podFixed'])

    def test_too_much_memory(self):
        hungry = 'dd if=/dev/zero of=/dev/null bs=200M count=1'
        name = self.pod(container(hungry, resources={'limits': {'memory': '32Mi'}}), container(name='other'), restartPolicy='Never', ready=False)
        end = self.ended(name)
        self.assertEqual(end['exitCode'], 137)
        # Caisson's shim tells it before the end; runc's may do so too late for containerd's answer to kubelet.
        self.assertIn(end['reason'], ('OOMKilled', 'Error') if self.handler == 'runc' else ('OOMKilled',))
        self.assertEqual(self.said(name, 'echo goes on', '-c', 'other'), 'goes on\n')

    def test_environment(self):
        config = self.make('ConfigMap', data={'COLOUR': 'blue', 'shape': 'round'})
        secret = self.make('Secret', stringData={'WORD': 'sesame'})
        name = self.pod(container(
            'exec sleep 1000000', args=['$(A)'], envFrom=[{'configMapRef': {'name': config}}, {'secretRef': {'name': secret}, 'prefix': 'S_'}],
            env=[{'name': 'A', 'value': 'a b'}, {'name': 'B', 'value': '<$(A)>'},
                 {'name': 'SHAPE', 'valueFrom': {'configMapKeyRef': {'name': config, 'key': 'shape'}}},
                 {'name': 'NAME', 'valueFrom': {'fieldRef': {'fieldPath': 'metadata.name'}}},
                 {'name': 'ADDRESS', 'valueFrom': {'fieldRef': {'fieldPath': 'status.podIP'}}},
                 {'name': 'LIMIT', 'valueFrom': {'resourceFieldRef': {'resource': 'limits.memory'}}}],
            resources={'limits': {'memory': '48Mi'}}))
        out = self.said(name, 'echo "$COLOUR|$S_WORD|$A|$B|$SHAPE|$NAME|$ADDRESS|$LIMIT"')
        self.assertEqual(out, 'blue|sesame|a b|<a b>|round|%s|%s|%d\n' % (name, self.get(name)['status']['podIP'], 48 << 20))

    def test_identities(self):
        name = self.pod(
            container(securityContext={'runAsUser': 1000, 'runAsGroup': 2000, 'readOnlyRootFilesystem': True, 'allowPrivilegeEscalation': False,
                                       'capabilities': {'drop': ['ALL']}, 'seccompProfile': {'type': 'RuntimeDefault'}},
                      volumeMounts=[{'name': 'v', 'mountPath': '/v'}]),
            container(name='other', securityContext={'capabilities': {'add': ['NET_ADMIN'], 'drop': ['CHOWN']}}),
            volumes=[{'name': 'v', 'emptyDir': {}}], securityContext={'fsGroup': 3000, 'supplementalGroups': [4000]})
        self.assertEqual(self.said(name, 'id -u; id -g; id -G', '-c', 'main').split('\n')[:3], ['1000', '2000', '2000 3000 4000'])
        status = dict(l.split(':\t', 1) for l in self.said(name, 'cat /proc/self/status', '-c', 'main').splitlines() if ':\t' in l)
        self.assertEqual((status['CapEff'], status['CapBnd'], status['NoNewPrivs']), ('0' * 16, '0' * 16, '1'))
        self.assertEqual(status['Seccomp'], '2')
        self.assertIn('Read-only file system', self.said(name, 'touch /file 2>&1 || :', '-c', 'main'))
        self.assertEqual(self.said(name, 'touch /v/file && stat -c "%u %g" /v/file', '-c', 'main'), '1000 3000\n')
        caps = int(self.said(name, 'grep CapEff /proc/self/status', '-c', 'other').split()[1], 16)
        self.assertEqual((caps >> 12 & 1, caps & 1), (1, 0))

    def test_a_root_user_is_refused_when_none_may_be(self):
        name = self.pod(container(securityContext={'runAsNonRoot': True}), ready=False)
        pod = self.wait(name, lambda p: self.status(p).get('state', {}).get('waiting', {}).get('reason') == 'CreateContainerConfigError', 'the refusal')
        self.assertIn('root', self.status(pod)['state']['waiting']['message'])

    def test_sysctls(self):
        name = self.pod(securityContext={'sysctls': [{'name': 'net.ipv4.ip_local_port_range', 'value': '30000 31000'}, {'name': 'kernel.shm_rmid_forced', 'value': '1'},
                                                     {'name': 'net.core.somaxconn', 'value': '321'}]})
        out = self.said(name, 'cd /proc/sys; cat net/ipv4/ip_local_port_range kernel/shm_rmid_forced net/core/somaxconn')
        self.assertEqual(out.split(), ['30000', '31000', '1', '321'])

    def test_init_containers(self):
        v = {'volumeMounts': [{'name': 'v', 'mountPath': '/v'}]}
        name = self.pod(container('cat /v/a; exec sleep 1000000', **v), volumes=[{'name': 'v', 'emptyDir': {}}], initContainers=[
            container('echo first > /v/a', 'first', **v), container('cat /v/a; echo second >> /v/a', 'second', **v)])
        wait_until(lambda: self.logs(name) == 'first\nsecond\n', 'the log')
        self.assertEqual(self.kubectl('logs', name, '-c', 'second')[1], 'first\n')
        bad = self.pod(container('echo never'), initContainers=[container('exit 9', 'first')], restartPolicy='Never', ready=False)
        pod = self.wait(bad, lambda p: p['status']['phase'] == 'Failed', 'the failure')
        self.assertEqual(self.status(pod, 'first', 'initContainerStatuses')['state']['terminated']['exitCode'], 9)

    def test_messages_at_the_end(self):
        name = self.pod(container('echo from the file > /dev/termination-log; exit 1'),
                        container('echo from the log; exit 2', 'logged', terminationMessagePolicy='FallbackToLogsOnError'),
                        container('echo elsewhere > /tmp/end; exit 0', 'other', terminationMessagePath='/tmp/end'), restartPolicy='Never', ready=False)
        for container_name, code, message in (('main', 1, 'from the file\n'), ('logged', 2, 'from the log\n'), ('other', 0, 'elsewhere\n')):
            end = self.ended(name, container_name)
            self.assertEqual((end['exitCode'], end.get('message')), (code, message))

    def test_hooks_and_time_to_end(self):
        v = {'volumeMounts': [{'name': 'v', 'mountPath': '/v'}]}
        hooks = {'postStart': {'exec': {'command': ['sh', '-c', 'echo post >> /v/log']}}, 'preStop': {'exec': {'command': ['sh', '-c', 'echo pre >> /v/log; sleep 1']}}}
        log = '/var/lib/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/v/log'
        polite = self.pod(container('trap "echo term >> /v/log; while ! [ -e /v/go ]; do sleep 0.1; done; exit 0" TERM; touch /v/on; while :; do sleep 0.1; done',
                                    lifecycle=hooks, **v), volumes=[{'name': 'v', 'emptyDir': {}}], terminationGracePeriodSeconds=600)
        path = log % self.get(polite)['metadata']['uid']
        wait_until(lambda: 'yes' in self.said(polite, '[ -e /v/on ] && echo yes || :'), 'the trap')
        self.kubectl('delete', 'pod', polite, '--wait=false')
        wait_until(lambda: open(path).read() == 'post\npre\nterm\n', lambda: open(path).read())
        self.said(polite, 'touch /v/go')
        wait_until(lambda: self.get(polite) is None, 'the end')
        stubborn = self.pod(container('trap "" TERM; touch /tmp/on; while :; do sleep 0.1; done'), terminationGracePeriodSeconds=2)
        wait_until(lambda: 'yes' in self.said(stubborn, '[ -e /tmp/on ] && echo yes || :'), 'the trap')
        started = time.monotonic()
        self.remove(stubborn)
        self.assertGreater(time.monotonic() - started, 2)

    def test_shared_processes(self):
        name = self.pod(container('exec sleep 1234567'), container(name='other'), shareProcessNamespace=True)
        self.assertIn('sleep 1234567', self.said(name, 'ps', '-c', 'other'))
        apart = self.pod(container('exec sleep 1234567'), container(name='other'))
        self.assertNotIn('sleep 1234567', self.said(apart, 'ps', '-c', 'other'))

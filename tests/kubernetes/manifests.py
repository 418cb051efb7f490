# SPDX-License-Identifier: Apache-2.0
"""The manifests of deploy/kubernetes, as docs/kubernetes.md says that they are used; the DaemonSet installs what all other parts need."""
import os, unittest

import yaml

from cluster import NODE, TOP, call, read, wait_until
from kube_case import Case

DIRECTORY = os.path.join(TOP, 'deploy', 'kubernetes')
# Since which version the API server serves what the manifests have; and what has no effect on an older one, without a word of its.
SINCE = {'ValidatingAdmissionPolicy': 30, 'ValidatingAdmissionPolicyBinding': 30}
SILENT = {'pod-security.kubernetes.io': 23}


def documents(name):
    with open(os.path.join(DIRECTORY, name)) as f:
        return list(yaml.safe_load_all(f))


class Manifests(Case):
    """In order of their names: each stands on those before."""

    def minor(self):
        return int(self.cluster.version.split('.')[1])

    def test_1_each_is_taken_by_the_api_server(self):
        call('kubectl', 'apply', '-f', os.path.join(DIRECTORY, 'namespace.yaml'))
        self.addCleanup(call, 'kubectl', 'delete', 'namespace', 'untrusted', '--ignore-not-found')
        call('kubectl', 'create', 'namespace', 'untrusted')
        wait_until(lambda: self.cluster.get('serviceaccount', 'default', 'untrusted'), 'its service account')
        call('kubectl', 'apply', '-f', os.path.join(DIRECTORY, 'runtimeclass.yaml'))
        tried = 0
        for name in sorted(os.listdir(DIRECTORY)):
            if not name.endswith('.yaml') or name == 'kustomization.yaml':
                continue
            for d in documents(name):
                with self.subTest(file=name, kind=d['kind']):
                    code, out, err = call('kubectl', 'apply', '--dry-run=server', '--validate=true', '-f', '-', input=yaml.safe_dump(d), check=False)
                    since = SINCE.get(d['kind'], 0)
                    if self.minor() >= since:
                        self.assertEqual(code, 0, err)
                        tried += 1
                    else:
                        self.assertIn('no matches for kind "%s"' % d['kind'], err)
                        self.say('   NOT TRIED: %s of %s needs Kubernetes 1.%d; this is %s, which says: %s'
                                 % (d['kind'], name, since, self.cluster.version, err.strip()))
                for label, since in SILENT.items():
                    if self.minor() < since and any(l.startswith(label) for l in d['metadata'].get('labels', {})):
                        self.say('   NO EFFECT: the labels %s/* of %s need Kubernetes 1.%d; %s takes them as any label'
                                 % (label, name, since, self.cluster.version))
        self.assertGreaterEqual(tried, 5)

    def test_2_the_kustomization_is_applied(self):
        wanted = [d['kind'] for n in documents('kustomization.yaml')[0]['resources'] for d in documents(n)]
        rendered = [d['kind'] for d in yaml.safe_load_all(call('kubectl', 'kustomize', DIRECTORY)[1])]
        self.assertEqual(sorted(rendered), sorted(wanted))
        unknown = [k for k in wanted if SINCE.get(k, 0) > self.minor()]
        code, out, err = call('kubectl', 'apply', '-k', DIRECTORY, check=False)
        self.assertEqual(code != 0, bool(unknown), err)
        for k in unknown:
            self.assertIn('no matches for kind "%s"' % k, err)
        self.assertEqual(len(out.splitlines()), len(wanted) - len(unknown), out + err)
        for kind, name in (('runtimeclass', 'caisson'), ('daemonset', 'caisson-install')):
            self.assertTrue(self.cluster.get(kind, name, 'caisson-system'))

    def installer(self):
        pods = self.cluster.get('pods', namespace='caisson-system')
        return pods[0] if pods else None

    def test_3_the_daemonset_installs_on_a_node_with_the_label(self):
        def status():
            return self.cluster.get('daemonset', 'caisson-install', 'caisson-system')['status']
        wait_until(lambda: status().get('observedGeneration'), 'the DaemonSet to be looked at')
        self.assertEqual(status()['desiredNumberScheduled'], 0)
        self.assertNotIn('caisson', read('/etc/containerd/config.toml'))
        before = read('/run/pid.containerd')
        call('kubectl', 'label', 'node', NODE, 'caisson.dev/install=true')
        wait_until(lambda: status().get('numberReady') == 1,
                   lambda: call('kubectl', '-n', 'caisson-system', 'describe', 'pods')[1][-6000:] + self.of('install') + self.of('doctor'))
        self.assertIn('runtime_path = "/opt/caisson/bin/containerd-shim-caisson-v1"', read('/etc/containerd/config.toml'))
        self.assertNotEqual(read('/run/pid.containerd'), before, 'containerd was not restarted')
        self.assertIn('copied', self.of('install'))
        self.assertIn('this host can run sandboxes', self.of('doctor'))
        self.assertIn('a program ran in a sandbox', self.of('doctor'))
        for p in ('caisson', 'containerd-shim-caisson-v1', 'caisson-sentry', 'caisson-gofer', 'caisson-zygote'):
            self.assertTrue(os.access('/opt/caisson/bin/' + p, os.X_OK), p)

    def of(self, container):
        pod = self.installer()
        return call('kubectl', '-n', 'caisson-system', 'logs', pod['metadata']['name'], '-c', container, check=False)[1] if pod else ''

    def test_4_a_second_installer_changes_nothing(self):
        pid, text, name = read('/run/pid.containerd'), read('/etc/containerd/config.toml'), self.installer()['metadata']['name']
        call('kubectl', '-n', 'caisson-system', 'rollout', 'restart', 'daemonset/caisson-install')
        call('kubectl', '-n', 'caisson-system', 'rollout', 'status', 'daemonset/caisson-install', '--timeout=180s')
        self.assertNotEqual(self.installer()['metadata']['name'], name)
        self.assertEqual((read('/run/pid.containerd'), read('/etc/containerd/config.toml')), (pid, text))
        self.assertIn('nothing to change', self.of('install'))

    def test_5_the_example_runs_on_nodes_with_the_other_label(self):
        self.namespace, self.handler = 'untrusted', 'caisson'
        path = os.path.join(DIRECTORY, 'example-untrusted.yaml')
        with self.leaving_nothing():
            def applied():  # a pod cannot be made before the namespace has its service account
                return call('kubectl', 'apply', '-f', path, check=False)[0] == 0
            wait_until(applied, 'the example to be taken')
            pod = self.wait('untrusted', lambda p: any(c.get('reason') == 'Unschedulable' for c in p['status'].get('conditions', [])), 'the refusal')
            overhead = documents('runtimeclass.yaml')[0]['overhead']['podFixed']
            self.assertEqual(pod['spec']['overhead'], overhead)
            self.assertEqual(pod['spec']['nodeSelector'], {'caisson.dev/installed': 'true'})
            call('kubectl', 'label', 'node', NODE, 'caisson.dev/installed=true')
            pod = self.ready('untrusted')
            self.assertEqual(self.runtime('untrusted'), 'io.containerd.caisson.v1')
            log = wait_until(lambda: (lambda t: t if 'uid=' in t else None)(self.logs('untrusted')), lambda: self.logs('untrusted'))
            self.assertIn('Linux untrusted', log)
            self.assertIn('uid=1000', log)
            self.assertNotEqual(self.kubectl('exec', 'untrusted', '--', 'cat', '/proc/version')[1], read('/proc/version'))
            self.kubectl('delete', 'pod', 'untrusted', '--grace-period=1', '--timeout=180s')
            call('kubectl', 'delete', 'namespace', 'untrusted', '--timeout=180s')

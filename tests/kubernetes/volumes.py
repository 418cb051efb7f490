# SPDX-License-Identifier: Apache-2.0
"""Volumes: emptyDir, configMap, secret, projected tokens, the downward API, parts of volumes, the host's; and changes while the pod runs."""
import base64, json, os, tempfile

from cluster import call, wait_until
from kube_case import Case, both, container

V = [{'name': 'v', 'mountPath': '/v'}]


@both
class Volumes:
    def test_empty_directories(self):
        with self.leaving_nothing():
            name = self.pod(container(volumeMounts=[{'name': 'disk', 'mountPath': '/disk'}, {'name': 'memory', 'mountPath': '/memory'}]),
                            container(name='other', volumeMounts=[{'name': 'disk', 'mountPath': '/d'}, {'name': 'memory', 'mountPath': '/m'}]),
                            volumes=[{'name': 'disk', 'emptyDir': {}}, {'name': 'memory', 'emptyDir': {'medium': 'Memory', 'sizeLimit': '16Mi'}}])
            self.assertEqual(self.said(name, 'grep " /memory " /proc/mounts | cut -d" " -f3', '-c', 'main'), 'tmpfs\n')
            for there, here in (('/disk', '/d'), ('/memory', '/m')):
                self.said(name, 'echo text > %s/file; mkdir %s/d; ln -s file %s/d/link' % (there, there, there), '-c', 'main')
                self.assertEqual(self.said(name, 'cat %s/file; readlink %s/d/link; rm %s/file; ls %s' % ((here,) * 4), '-c', 'other'), 'text\nfile\nd\n')
                self.assertEqual(self.said(name, 'ls ' + there, '-c', 'main'), 'd\n')
            # What one container maps, the other sees.
            self.said(name, 'dd if=/dev/zero of=/memory/big bs=1M count=4 2>/dev/null', '-c', 'main')
            self.assertEqual(self.said(name, 'stat -c %s /m/big', '-c', 'other'), '%d\n' % (4 << 20))
            self.remove(name)

    def test_volumes_outlive_their_containers(self):
        name = self.pod(container('date >> /v/starts; exec sleep 1000000', volumeMounts=V), volumes=[{'name': 'v', 'emptyDir': {}}])
        self.assertEqual(self.said(name, 'wc -l < /v/starts').strip(), '1')
        end = self.kubectl('exec', name, '--', 'sh', '-c', 'kill -9 -1; kill -INT 1', check=False)
        if self.status(name)['restartCount'] == 0:  # the first process takes no signal from inside that it has no handler for
            self.remove_container(name)
        self.wait(name, lambda p: self.status(p)['restartCount'] == 1 and self.status(p)['ready'], 'the restart')
        self.assertEqual(self.said(name, 'wc -l < /v/starts').strip(), '2', end)

    def remove_container(self, name):
        call('ctr', '-n', 'k8s.io', 'tasks', 'kill', '-s', 'SIGKILL', self.ids(name)[0])

    def test_config_maps_and_secrets_change_while_they_are_looked_at(self):
        config = self.make('ConfigMap', data={'a': 'one\n', 'gone': 'x'})
        secret = self.make('Secret', stringData={'word': 'sesame'})
        name = self.pod(container(volumeMounts=[{'name': 'config', 'mountPath': '/config'}, {'name': 'secret', 'mountPath': '/secret'},
                                                {'name': 'config', 'mountPath': '/part/a', 'subPath': 'a'}]),
                        volumes=[{'name': 'config', 'configMap': {'name': config}},
                                 {'name': 'secret', 'secret': {'secretName': secret, 'defaultMode': 0o400, 'items': [{'key': 'word', 'path': 'deep/word'}]}}])
        self.assertEqual(self.said(name, 'cat /config/a /secret/deep/word'), 'one\nsesame')
        self.assertEqual(self.said(name, 'stat -L -c %a /secret/deep/word'), '400\n')
        self.assertIn('Read-only file system', self.said(name, 'touch /config/new 2>&1 || :'))
        self.apply({'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': config}, 'data': {'a': 'two\n', 'b': 'new\n'}},
                   {'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': secret}, 'stringData': {'word': 'changed'}})
        look = 'cat /config/a /secret/deep/word; ls /config'
        wait_until(lambda: self.said(name, look) == 'two\nchangeda\nb\n', lambda: self.said(name, look), pause=1)
        # A part of a volume is the file that it was.
        self.assertEqual(self.said(name, 'cat /part/a'), 'one\n')

    def test_projected_tokens(self):
        account = self.make('ServiceAccount')
        sources = [{'serviceAccountToken': {'path': 'token', 'audience': 'https://kubernetes.default.svc', 'expirationSeconds': 600}},
                   {'configMap': {'name': 'kube-root-ca.crt', 'items': [{'key': 'ca.crt', 'path': 'ca.crt'}]}},
                   {'downwardAPI': {'items': [{'path': 'namespace', 'fieldRef': {'fieldPath': 'metadata.namespace'}}]}}]
        name = self.pod(container(volumeMounts=V, securityContext={'runAsUser': 1000}), serviceAccountName=account, securityContext={'fsGroup': 2000},
                        volumes=[{'name': 'v', 'projected': {'sources': sources}}])
        token, = self.said(name, 'cat /v/token').split()
        part = token.split('.')[1]
        claims = json.loads(base64.urlsafe_b64decode(part + '=' * (-len(part) % 4)))
        self.assertEqual(claims['sub'], 'system:serviceaccount:default:' + account)
        self.assertEqual(claims['kubernetes.io']['pod']['name'], name)
        self.assertEqual(self.said(name, 'head -n 1 /v/ca.crt; cat /v/namespace'), '-----BEGIN CERTIFICATE-----\ndefault')
        # The classic one, that is mounted without being asked for.
        plain = self.pod(container(), serviceAccountName=account, automountServiceAccountToken=True)
        self.assertEqual(self.said(plain, 'cd /var/run/secrets/kubernetes.io/serviceaccount; ls; cat namespace'), 'ca.crt\nnamespace\ntoken\ndefault')

    def test_the_downward_api_follows_the_pod(self):
        items = [{'path': 'labels', 'fieldRef': {'fieldPath': 'metadata.labels'}}, {'path': 'name', 'fieldRef': {'fieldPath': 'metadata.name'}},
                 {'path': 'cpu', 'resourceFieldRef': {'containerName': 'main', 'resource': 'limits.cpu', 'divisor': '1m'}}]
        name = self.pod(container(volumeMounts=V, resources={'limits': {'cpu': '250m'}}), metadata={'labels': {'colour': 'blue'}},
                        volumes=[{'name': 'v', 'downwardAPI': {'items': items}}])
        self.assertEqual(self.said(name, 'cat /v/name; echo; cat /v/cpu; echo; cat /v/labels'), '%s\n250\ncolour="blue"' % name)
        self.kubectl('label', 'pod', name, 'colour=green', '--overwrite')
        wait_until(lambda: self.said(name, 'cat /v/labels') == 'colour="green"', lambda: self.said(name, 'cat /v/labels'), pause=1)

    def test_parts_of_volumes(self):
        name = self.pod(container(volumeMounts=V),
                        container(name='other', volumeMounts=[{'name': 'v', 'mountPath': '/part', 'subPath': 'a/b'},
                                                              {'name': 'v', 'mountPath': '/named', 'subPathExpr': 'of-$(NAME)', 'readOnly': True}],
                                  env=[{'name': 'NAME', 'valueFrom': {'fieldRef': {'fieldPath': 'metadata.name'}}}]),
                        volumes=[{'name': 'v', 'emptyDir': {}}])
        self.said(name, 'echo text > /part/file', '-c', 'other')
        self.assertEqual(self.said(name, 'cat /v/a/b/file; ls /v', '-c', 'main'), 'text\na\nof-%s\n' % name)
        self.assertIn('Read-only file system', self.said(name, 'touch /named/file 2>&1 || :', '-c', 'other'))

    def test_the_hosts_directories(self):
        with tempfile.TemporaryDirectory(dir='/var') as d:
            os.mkdir(d + '/in')
            with open(d + '/in/file', 'w') as f:
                f.write('of the host\n')
            name = self.pod(container(volumeMounts=V), container(name='other', volumeMounts=[{**V[0], 'readOnly': True}]),
                            volumes=[{'name': 'v', 'hostPath': {'path': d + '/in', 'type': 'Directory'}}])
            self.assertEqual(self.said(name, 'cat /v/file; echo back > /v/new', '-c', 'main'), 'of the host\n')
            with open(d + '/in/new') as f:
                self.assertEqual(f.read(), 'back\n')
            with open(d + '/in/later', 'w') as f:
                f.write('later\n')
            self.assertEqual(self.said(name, 'cat /v/later; touch /v/x 2>/dev/null || echo refused', '-c', 'other'), 'later\nrefused\n')
            self.remove(name)

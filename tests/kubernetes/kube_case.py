# SPDX-License-Identifier: Apache-2.0
"""What the tests on the node share: pods made with kubectl, what they say, and what is left of them."""
import contextlib, itertools, json, os, pty, select, subprocess, sys, time, unittest

import cluster
from cluster import PATIENCE, call, wait_until
from images import TEST

numbers = itertools.count(1)
BROKEN = ('ErrImageNeverPull', 'CreateContainerError', 'CreateContainerConfigError', 'RunContainerError', 'InvalidImageName')


def container(script='exec sleep 1000000', name='main', **more):
    return {'name': name, 'image': TEST, 'imagePullPolicy': 'Never', 'command': ['sh', '-c', script], **more}


def both(case):
    """The tests of this class, once with runc and once with Caisson."""
    space = sys.modules[case.__module__].__dict__
    for name, handler in (('Runc', 'runc'), ('Caisson', 'caisson')):
        space[name + case.__name__] = type(name + case.__name__, (case, Case), {'handler': handler, '__module__': case.__module__})
    return case


class Case(unittest.TestCase):
    cluster = None
    say = print
    handler = 'runc'
    namespace = 'default'
    maxDiff = None

    def command(self, *args):
        return ['kubectl', '-n', self.namespace, *args]

    def kubectl(self, *args, **more):
        return call(*self.command(*args), **more)

    def apply(self, *objects):
        text = json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': objects})
        return self.kubectl('apply', '-f', '-', input=text)[1]

    def make(self, kind, name=None, **more):
        """Some object of version 1, gone after the test; its name."""
        name = name or '%s-%d' % (kind.lower(), next(numbers))
        self.apply({'apiVersion': 'v1', 'kind': kind, 'metadata': {'name': name}, **more})
        self.addCleanup(self.kubectl, 'delete', kind.lower(), name, '--ignore-not-found')
        return name

    def spec(self, *containers, **more):
        spec = {'containers': list(containers) or [container()], 'automountServiceAccountToken': False, 'enableServiceLinks': False,
                'terminationGracePeriodSeconds': 1, **more}
        if self.handler != 'runc':
            spec.setdefault('runtimeClassName', self.handler)
        return spec

    def pod(self, *containers, metadata={}, ready=True, **spec):
        """A pod, Ready unless told otherwise; its name."""
        name = 'pod-%d' % next(numbers)
        self.apply({'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, **metadata}, 'spec': self.spec(*containers, **spec)})
        self.addCleanup(self.remove, name)
        if ready:
            self.ready(name)
        return name

    def remove(self, *names):
        self.kubectl('delete', 'pod', *names, '--ignore-not-found', '--timeout=%ds' % PATIENCE)

    def get(self, name, kind='pod'):
        return self.cluster.get(kind, name, self.namespace)

    def told(self, name):
        return self.kubectl('describe', 'pod', name, check=False)[1]

    def wait(self, name, condition, what):
        """The pod, once this is true of it."""
        def look():
            pod = self.get(name)
            return pod if pod and condition(pod) else None
        return wait_until(look, lambda: '%s of %s:\n%s' % (what, name, self.told(name)), pause=0.3)

    def ready(self, name):
        def condition(pod):
            for s in pod['status'].get('containerStatuses', []) + pod['status'].get('initContainerStatuses', []):
                if s['state'].get('waiting', {}).get('reason') in BROKEN:
                    raise AssertionError(self.told(name))
            if pod['status']['phase'] == 'Failed':
                raise AssertionError(self.told(name))
            return any(c['type'] == 'Ready' and c['status'] == 'True' for c in pod['status'].get('conditions', []))
        return self.wait(name, condition, 'readiness')

    def status(self, pod, name='main', kind='containerStatuses'):
        if isinstance(pod, str):
            pod = self.get(pod)
        return next((s for s in pod['status'].get(kind, []) if s['name'] == name), {})

    def ended(self, name, container='main'):
        """How a container that is not started again has ended."""
        pod = self.wait(name, lambda p: 'terminated' in self.status(p, container).get('state', {}), 'the end')
        return self.status(pod, container)['state']['terminated']

    def logs(self, name, *args):
        return self.kubectl('logs', name, *args)[1]

    def said(self, name, script, *args, **more):
        """What a script says in the pod, which must end well."""
        return self.kubectl('exec', name, *args, '--', 'sh', '-c', script, **more)[1]

    def ids(self, name):
        """Ids of the pod's running containers."""
        return [s['containerID'].split('//')[1] for s in self.get(name)['status']['containerStatuses'] if s.get('containerID')]

    def runtime(self, name):
        return json.loads(call('ctr', '-n', 'k8s.io', 'containers', 'info', self.ids(name)[0])[1])['Runtime']['Name']

    @contextlib.contextmanager
    def leaving_nothing(self):
        group = self.cluster.group
        before = cluster.left(group)
        yield
        def more():
            now = cluster.left(group)
            if self.handler == 'runc':  # it makes the pod's group of version 2 beside version 1's; kubelet 1.20 knows nothing of it, and neither removes it
                now['groups'] = {g for g in now['groups'] if not g.startswith('/sys/fs/cgroup/unified/')}
            return {k: sorted(v - before[k]) for k, v in now.items() if v - before[k]}
        try:
            wait_until(lambda: not more(), 'the pod to leave nothing', pause=0.5)
        except AssertionError as e:
            self.fail('%s: %s' % (e, more()))


class Talk:
    """A program on a terminal."""

    def __init__(self, *args):
        main, other = pty.openpty()
        self.fd = main
        self.process = subprocess.Popen(args, stdin=other, stdout=other, stderr=other, start_new_session=True)
        os.close(other)
        self.seen = ''

    def until(self, word):
        end = time.monotonic() + PATIENCE
        while word not in self.seen:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError('waited in vain for %r; seen: %r' % (word, self.seen))
            try:
                self.seen += os.read(self.fd, 4096).decode(errors='replace')
            except OSError:
                raise AssertionError('it ended before %r; seen: %r' % (word, self.seen))
        before, self.seen = self.seen.split(word, 1)
        return before

    def say(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.fd)

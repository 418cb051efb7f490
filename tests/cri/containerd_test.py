#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""caisson-cri in front of a real containerd: pods through it, its socket, restarts of both sides."""
import os, re, signal, socket, stat, subprocess, sys, time, unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'shim'))
from daemon import CRI_CONFIG, IMAGE, SHIM, Cri, CriError, Daemon, read, wait_until

PROGRAM = os.environ.get('CAISSON_CRI', os.path.join(os.path.dirname(SHIM), 'caisson-cri'))
CLIENT = os.path.join(os.path.dirname(PROGRAM), 'cri_call')


class Client(Cri):
    """The CRI at any socket."""

    def __init__(self, path):
        self.process = subprocess.Popen([CLIENT, 'unix://' + path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Server:
    """A caisson-cri of the test's own, in front of this containerd."""

    def __init__(self, daemon, *flags):
        self.top, self.flags = daemon.top, flags
        self.socket = daemon.top + '/cri.sock'
        self.log_path = daemon.top + '/cri.log'
        self.start()

    def command(self, *flags):
        return [PROGRAM, '--listen', self.socket, '--backend', self.top + '/c.sock', *self.flags, *flags]

    def start(self):
        with open(self.log_path, 'a') as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_until(lambda: self.answers() or self.process.poll() is not None, 'caisson-cri to listen')
        if self.process.poll() is not None:
            raise AssertionError(self.log())

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def log(self):
        return read(self.log_path)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def setUpModule():
    global daemon
    daemon = Daemon(CRI_CONFIG)


def tearDownModule():
    cri = Client(daemon.top + '/c.sock')
    for p in cri.call('ListPodSandbox')['items']:
        cri.call('StopPodSandbox', pod_sandbox_id=p['id'])
        cri.call('RemovePodSandbox', pod_sandbox_id=p['id'])
    cri.close()
    daemon.stop()


class Case(unittest.TestCase):
    flags = ('--no-policy',)

    def setUp(self):
        self.server = Server(daemon, *self.flags)
        self.cri = Client(self.server.socket)
        wait_until(self.ready, 'the CRI to be ready')

    def tearDown(self):
        self.cri.close()
        if self.server.process.poll() is None:
            self.assertEqual(self.server.stop(), 0, self.server.log())

    def ready(self):
        try:
            return all(c['status'] for c in self.cri.call('Status')['status']['conditions'])
        except CriError:
            return False

    def config(self, **more):
        name = 'p%d' % time.monotonic_ns()
        os.mkdir(os.path.join(daemon.top, name))
        return {'metadata': {'name': name, 'uid': name, 'namespace': 'tests'}, 'hostname': name,
                'log_directory': os.path.join(daemon.top, name), **more}

    def pod(self, handler='', **more):
        config = self.config(**more)
        return self.cri.call('RunPodSandbox', config=config, runtime_handler=handler)['pod_sandbox_id'], config

    def add(self, pod, *command, start=True, **more):
        config = {'metadata': {'name': 'c%d' % time.monotonic_ns()}, 'image': {'image': IMAGE}, 'command': command or ['/bin/sleep', '1000'],
                  'log_path': 'c.log', **more}
        id = self.cri.call('CreateContainer', pod_sandbox_id=pod[0], config=config, sandbox_config=pod[1])['container_id']
        if start:
            self.cri.call('StartContainer', container_id=id)
        return id

    def handler(self, id):
        return self.cri.call('PodSandboxStatus', pod_sandbox_id=id)['status']['runtime_handler']

    def remove(self, pod):
        self.cri.call('StopPodSandbox', pod_sandbox_id=pod[0])
        self.cri.call('RemovePodSandbox', pod_sandbox_id=pod[0])


class PassingThrough(Case):
    def test_a_pod_lives_and_dies_as_without_it(self):
        direct = Client(daemon.top + '/c.sock')
        self.addCleanup(direct.close)
        self.assertEqual(self.cri.call('Version', version='v1'), direct.call('Version', version='v1'))
        for handler in ('runc', 'caisson'):
            pod = self.pod(handler)
            c = self.add(pod)
            self.assertEqual(self.cri.call('ExecSync', container_id=c, cmd=['/bin/sh', '-c', 'exit 7'], timeout=30)['exit_code'], 7)
            for method, request in (('PodSandboxStatus', {'pod_sandbox_id': pod[0]}), ('ContainerStatus', {'container_id': c}),
                                    ('ListContainers', {})):
                self.assertEqual(self.cri.call(method, **request), direct.call(method, **request))
            self.assertEqual(self.handler(pod[0]), handler)
            self.remove(pod)

    def test_errors_are_containerds_own(self):
        direct = Client(daemon.top + '/c.sock')
        self.addCleanup(direct.close)
        for method, request in (('ContainerStatus', {'container_id': 'nobody'}), ('RunPodSandbox', {'config': self.config(), 'runtime_handler': 'nothing'}),
                                ('CreateContainer', {'pod_sandbox_id': 'nobody'})):
            texts = []
            for cri in (self.cri, direct):
                with self.assertRaises(CriError) as e:
                    cri.call(method, **request)
                texts.append(re.sub('[0-9a-f]{64}', 'ID', str(e.exception)))
            self.assertEqual(texts[0], texts[1])

    def test_containerd_restarts(self):
        pod = self.pod('runc')
        c = self.add(pod)
        daemon.kill()
        with self.assertRaises(CriError) as e:
            self.cri.call('Version', version='v1')
        self.assertIn('Version: 14 ', str(e.exception))
        daemon.start()
        wait_until(self.ready, 'the CRI to be ready again')
        self.assertEqual(self.cri.call('ContainerStatus', container_id=c)['status']['state'], 'CONTAINER_RUNNING')
        self.remove(pod)

    def test_it_restarts_itself_and_kubelet_stays_connected(self):
        pod = self.pod('runc')
        self.assertEqual(self.server.stop(), 0)
        self.assertFalse(os.path.exists(self.server.socket))
        self.server.start()
        wait_until(self.ready, 'the client to find it again')
        self.remove(pod)

    def test_after_kill_its_socket_is_replaced(self):
        self.server.process.kill()
        self.server.process.wait()
        self.assertTrue(os.path.exists(self.server.socket))
        self.server.start()
        wait_until(self.ready, 'the client to find it again')


class Socket(Case):
    flags = ('--no-policy', '--socket-mode', '0640', '--socket-owner', 'root:nogroup')

    def test_mode_and_owner(self):
        st = os.stat(self.server.socket)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid), (0o640, 0))
        self.assertEqual(st.st_gid, __import__('grp').getgrnam('nogroup').gr_gid)

    def test_a_live_socket_is_not_taken_over(self):
        p = subprocess.run(self.server.command(), capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 1)
        self.assertIn('another caisson-cri serves ' + self.server.socket, p.stderr)
        # Nor one of another program.
        p = subprocess.run([PROGRAM, '--no-policy', '--listen', daemon.top + '/c.sock', '--backend', daemon.top + '/x.sock'],
                           capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 1)
        self.assertIn('another process listens on', p.stderr)
        self.assertTrue(self.ready())


POLICY = '''
default_handler = "runc"
[sandbox]
handlers = ["caisson"]
runtime_type = "io.containerd.caisson.v1"
host_paths = ["%(top)s/shared"]
[[rule]]
name = "untrusted"
annotations = { "io.kubernetes.cri.untrusted-workload" = "true" }
handler = "caisson"
[[rule]]
name = "tenants"
namespaces = ["tenant-*"]
handler = "caisson"
[[rule]]
name = "nowhere"
namespaces = ["nowhere"]
handler = "nothing"
[[rule]]
name = "foreign images"
images = ["localhost/caisson-test:*"]
labels = { origin = "foreign" }
handler = "caisson"
'''
UNTRUSTED = {'io.kubernetes.cri.untrusted-workload': 'true'}


class WithAPolicy(Case):
    def setUp(self):
        self.policy = daemon.top + '/policy.toml'
        self.write(POLICY)
        self.flags = ('--policy', self.policy)
        super().setUp()

    def write(self, text):
        with open(self.policy, 'w') as f:
            f.write(text % {'top': daemon.top})

    def refused(self, code, text, call, *args, **more):
        with self.assertRaises(CriError) as e:
            call(*args, **more)
        self.assertIn(': %d caisson-cri: ' % code, str(e.exception))
        self.assertIn(text, str(e.exception))

    def pods(self):
        return len(self.cri.call('ListPodSandbox')['items'])

    def test_the_policy_chooses_the_handler(self):
        for more, handler in (({}, 'runc'), ({'annotations': UNTRUSTED}, 'caisson'), ({'annotations': {'a': 'b'}, 'labels': {'c': 'd'}}, 'runc')):
            pod = self.pod(**more)
            self.assertEqual(self.handler(pod[0]), handler)
            c = self.add(pod)
            self.assertEqual(self.cri.call('ExecSync', container_id=c, cmd=['/bin/true'], timeout=30)['exit_code'], 0)
            # What the policy does not look at is there too.
            s = self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']
            self.assertEqual(s['metadata']['uid'], pod[1]['metadata']['uid'])
            self.remove(pod)
        self.assertIn("runs under handler caisson, rule 'untrusted'", self.server.log())

    def test_what_defeats_a_sandbox_is_refused_and_nothing_is_started(self):
        before = self.pods()
        for linux, word in (({'security_context': {'privileged': True}}, 'privileged'),
                            ({'security_context': {'namespace_options': {'network': 'NODE'}}}, 'host-network'),
                            ({'security_context': {'namespace_options': {'pid': 'NODE'}}}, 'host-pid'),
                            ({'security_context': {'namespace_options': {'ipc': 'NODE'}}}, 'host-ipc')):
            self.refused(7, word + ': handler caisson is a sandbox', self.pod, annotations=UNTRUSTED, linux=linux)
        self.refused(7, 'asks for handler runc', self.pod, 'runc', annotations=UNTRUSTED)
        self.assertEqual(self.pods(), before)

    def test_containers_of_a_sandbox(self):
        os.makedirs(daemon.top + '/shared/ok', exist_ok=True)
        link = daemon.top + '/shared/link'
        if not os.path.islink(link):
            os.symlink('/etc', link)
        pod = self.pod(annotations=UNTRUSTED)
        mount = lambda p: [{'container_path': '/m', 'host_path': p}]
        for path in ('/etc', daemon.top + '/shared/../root', link, link + '/passwd'):
            self.refused(7, 'host-path: ', self.add, pod, mounts=mount(path))
        self.refused(7, 'privileged: ', self.add, pod, linux={'security_context': {'privileged': True}})
        self.add(pod, mounts=mount(daemon.top + '/shared/ok'))
        self.remove(pod)
        # A trusted pod may.
        pod = self.pod()
        self.add(pod, mounts=mount('/etc'))
        self.remove(pod)

    def test_an_image_that_needs_a_sandbox(self):
        pod = self.pod(labels={'origin': 'foreign'})
        self.assertEqual(self.handler(pod[0]), 'runc')
        self.refused(7, "rule 'foreign images' wants this container under handler caisson, and its pod runs under runc", self.add, pod)
        # Also when it is named by its digest, as kubelet does.
        id = daemon.ctr('images', 'ls', '-q')[1].split()
        digest = [i for i in id if i.startswith('sha256:')]
        for d in digest:
            config = {'metadata': {'name': 'd'}, 'image': {'image': d}, 'command': ['/bin/true'], 'log_path': 'd.log'}
            try:
                self.cri.call('CreateContainer', pod_sandbox_id=pod[0], config=config, sandbox_config=pod[1])
            except CriError as e:
                self.assertIn('foreign images', str(e))
                break
        else:
            self.fail('no digest was refused: %s' % id)
        self.remove(pod)
        pod = self.pod('caisson', labels={'origin': 'foreign'})
        self.add(pod)
        self.remove(pod)

    def test_a_handler_that_is_missing_or_of_another_type_starts_nothing(self):
        before = self.pods()
        with self.assertRaises(CriError) as e:
            self.pod(**{'metadata': {'name': 'x', 'uid': 'x', 'namespace': 'nowhere'}})
        self.assertIn('nothing', str(e.exception))  # containerd's own words: no sandbox by the policy's account
        for change in (('handlers = ["caisson"]', 'handlers = ["caisson", "nothing"]'),):
            self.write(POLICY.replace(*change))
            self.reload('read again')
            self.refused(9, "containerd has no runtime handler 'nothing' (it has caisson, runc)", self.pod,
                         **{'metadata': {'name': 'x', 'uid': 'x', 'namespace': 'nowhere'}})
        self.write(POLICY.replace('handler = "caisson"', 'handler = "runc"').replace('handlers = ["caisson"]', 'handlers = ["runc"]'))
        self.reload('read again')
        self.refused(9, "'runc' is of type 'io.containerd.runc.v2', and the policy wants 'io.containerd.caisson.v1'", self.pod, annotations=UNTRUSTED)
        self.assertEqual(self.pods(), before)

    def reload(self, word):
        n = self.server.log().count(word)
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.server.log().count(word) > n, word)

    def test_reload_checks_first(self):
        self.write(POLICY.replace('"untrusted"', '"untrusted"\nnamespace = ["x"]'))
        self.reload('the policy in force is kept')
        self.assertIn('did you mean namespaces?', self.server.log())
        pod = self.pod(annotations=UNTRUSTED)
        self.assertEqual(self.handler(pod[0]), 'caisson')
        self.remove(pod)
        self.write('default_handler = "runc"')
        self.reload('read again')
        pod = self.pod(annotations=UNTRUSTED)
        self.assertEqual(self.handler(pod[0]), 'runc')
        self.remove(pod)

    def test_without_containerd_an_untrusted_pod_does_not_start(self):
        daemon.kill()
        self.refused(14, 'it is not started without', self.pod, annotations=UNTRUSTED)
        daemon.start()
        wait_until(self.ready, 'the CRI to be ready again')

    def test_a_bad_file_is_not_started_with(self):
        self.write('defaul_handler = "runc"')
        for flags in (('--check', self.policy), self.command_again()):
            p = subprocess.run([PROGRAM, *flags], capture_output=True, text=True, timeout=60)
            self.assertEqual(p.returncode, 1)
            self.assertIn('policy.toml:1: defaul_handler: there is no such key; did you mean default_handler?', p.stderr)
        self.write(POLICY)
        p = subprocess.run([PROGRAM, '--check', self.policy], capture_output=True, text=True, timeout=60)
        self.assertEqual((p.returncode, p.stdout), (0, self.policy + ': 4 rules, no fault found\n'))
        os.chmod(self.policy, 0o666)
        p = subprocess.run([PROGRAM, '--check', self.policy], capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 1)
        self.assertIn('may be written by others', p.stderr)
        os.chmod(self.policy, 0o644)

    def command_again(self):
        return ('--listen', daemon.top + '/other.sock', '--backend', daemon.top + '/c.sock', '--policy', self.policy)


class Metrics(Case):
    def setUp(self):
        self.policy, self.http = daemon.top + '/policy.toml', daemon.top + '/metrics.sock'
        with open(self.policy, 'w') as f:
            f.write(POLICY % {'top': daemon.top})
        self.flags = ('--policy', self.policy, '--metrics', self.http)
        super().setUp()

    def get(self, path, method='GET'):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(self.http)
            s.sendall(('%s %s HTTP/1.1\r\nHost: x\r\n\r\n' % (method, path)).encode())
            data = b''.join(iter(lambda: s.recv(65536), b''))
        head, body = data.decode().split('\r\n\r\n', 1)
        return int(head.split()[1]), body

    def values(self):
        code, body = self.get('/metrics')
        self.assertEqual(code, 200)
        out = {}
        for line in body.splitlines():
            if not line.startswith('#'):
                name, value = line.rsplit(' ', 1)
                name, _, labels = name.partition('{')
                out[name, tuple(sorted(labels.rstrip('}').split(',')))] = float(value)
        return lambda name, *labels: out.get((name, tuple(sorted(labels)) or ('',)))

    def test_what_is_counted(self):
        parent = '/' + os.path.basename(daemon.top) + '.pod'
        pod = self.pod(annotations=UNTRUSTED, linux={'cgroup_parent': parent})
        c = self.add(pod)
        self.cri.call('ExecSync', container_id=c, cmd=['/bin/true'], timeout=30)
        with self.assertRaises(CriError):
            self.pod(annotations=UNTRUSTED, linux={'security_context': {'privileged': True}})
        with self.assertRaises(CriError):
            self.add(pod, mounts=[{'container_path': '/m', 'host_path': '/etc'}])
        v = self.values()
        caisson = 'handler="caisson"'
        self.assertEqual(v('caisson_cri_decisions_total', caisson, 'kind="pod"', 'outcome="allowed"', 'rule="untrusted"'), 1)
        self.assertEqual(v('caisson_cri_decisions_total', 'handler="none"', 'kind="pod"', 'outcome="refused"', 'rule="untrusted"'), 1)
        self.assertEqual(v('caisson_cri_refusals_total', 'kind="pod"', 'reason="privileged"'), 1)
        self.assertEqual(v('caisson_cri_refusals_total', 'kind="container"', 'reason="host-path"'), 1)
        self.assertEqual(v('caisson_cri_requests_total', 'method="RunPodSandbox"', 'code="OK"'), 1)
        self.assertEqual(v('caisson_cri_requests_total', 'method="RunPodSandbox"', 'code="PermissionDenied"'), 1)
        for name in ('pod_start', 'container_create', 'container_start', 'exec'):
            self.assertEqual(v('caisson_cri_%s_duration_seconds_count' % name, caisson), 1, name)
        self.assertEqual(v('caisson_cri_pods', caisson, 'state="ready"'), 1)
        self.assertEqual(v('caisson_cri_containers', caisson, 'state="running"'), 1)
        self.assertEqual(v('caisson_cri_backend_up'), 1)
        self.assertEqual(v('caisson_cri_policy_loads_total', 'result="success"'), 1)
        self.assertEqual(v('caisson_cri_sandbox_memory_measured_pods', caisson), 1)
        self.assertGreater(v('caisson_cri_sandbox_memory_overhead_bytes', caisson), 0)
        self.remove(pod)
        v = self.values()
        self.assertEqual(v('caisson_cri_pods', caisson, 'state="ready"'), 0)

    def test_pods_that_were_there_before_are_known(self):
        pod = self.pod('runc')
        c = self.add(pod)
        self.assertEqual(self.server.stop(), 0)
        self.server.start()
        wait_until(self.ready, 'the client to find it again')
        self.assertEqual(self.values()('caisson_cri_pods', 'handler="runc"', 'state="ready"'), 1)
        self.cri.call('ExecSync', container_id=c, cmd=['/bin/true'], timeout=30)
        self.assertEqual(self.values()('caisson_cri_exec_duration_seconds_count', 'handler="runc"'), 1)
        self.remove(pod)

    def test_hostile_words_make_no_labels(self):
        for handler in ('hostile"} 1\n', 'y' * 200):
            with self.assertRaises(CriError):
                self.pod(handler)
        body = self.get('/metrics')[1]
        self.assertNotIn('yyy', body)
        self.assertNotIn('hostile', body)

    def test_health(self):
        self.assertEqual(self.get('/healthz'), (200, 'ok\n'))
        self.assertEqual(self.get('/livez'), (200, 'ok\n'))
        self.assertEqual(self.get('/nothing')[0], 404)
        self.assertEqual(self.get('/metrics', 'POST')[0], 405)
        self.assertEqual(self.get('/livez', 'HEAD'), (200, ''))
        with open(self.policy, 'w') as f:
            f.write('[sandbox]\nhandlers = ["nothing"]')
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.get('/healthz')[0] == 503, 'the health to change')
        self.assertIn("no runtime handler 'nothing'", self.get('/healthz')[1])

    def test_without_containerd_it_says_so(self):
        daemon.kill()
        v = self.values()
        self.assertEqual(v('caisson_cri_backend_up'), 0)
        self.assertIsNone(v('caisson_cri_pods', 'handler="runc"', 'state="ready"'))
        self.assertEqual(self.get('/healthz')[0], 503)
        self.assertEqual(self.get('/livez')[0], 200)
        daemon.start()
        wait_until(lambda: self.get('/healthz')[0] == 200, 'containerd to be found again')
        wait_until(self.ready, 'the CRI to be ready again')


class CommandLine(unittest.TestCase):
    def run_it(self, *args):
        p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)
        return p.returncode, p.stdout, p.stderr

    def test_help_and_version(self):
        code, out, _ = self.run_it('--help')
        self.assertEqual(code, 0)
        for word in ('--listen', '--backend', '--policy', '--check', 'SIGHUP'):
            self.assertIn(word, out)
        self.assertEqual(self.run_it('--version')[:2], (0, 'caisson-cri version 0.1.0\n'))

    def test_what_is_wrong_is_told(self):
        for args, text in (((), 'one of --policy FILE and --no-policy is needed'), (('--no-policy', '--listen', 'x'), "'x' names no socket"),
                           (('--no-policy', '--socket-mode', '9'), '--socket-mode 9'), (('--nonsense',), 'nonsense'),
                           (('--no-policy', '--socket-owner', 'nobody-such'), "no user 'nobody-such'"),
                           (('--no-policy', '--listen', '/nowhere/x.sock'), 'open /nowhere/x.sock.lock: No such file or directory')):
            code, out, err = self.run_it(*args)
            self.assertEqual((code, out), (1, ''))
            self.assertIn(text, err)


if __name__ == '__main__':
    unittest.main()

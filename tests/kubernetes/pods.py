# SPDX-License-Identifier: Apache-2.0
"""What kubectl does with pods: logs, exec, attach, cp, port-forward, hostPort, delete."""
import http.client, os, subprocess, tempfile

from cluster import ADDRESS, PATIENCE, read, wait_until
from kube_case import Case, Talk, both, container

SERVER = 'mkdir /tmp/www; echo "served by $(hostname)" > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www'


def fetch(address, port, path='/'):
    """A page, or None while nobody is there."""
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        connection.request('GET', path)
        return connection.getresponse().read().decode()
    except OSError:
        return None
    finally:
        connection.close()


@both
class Kubectl:
    def test_a_pod_becomes_ready_and_leaves_nothing(self):
        with self.leaving_nothing():
            name = self.pod(container(), container(name='second'), volumes=[{'name': 'v', 'emptyDir': {'medium': 'Memory'}}])
            self.assertEqual(self.runtime(name), 'io.containerd.%s' % ('runc.v2' if self.handler == 'runc' else 'caisson.v1'))
            self.assertEqual(self.said(name, 'hostname').strip(), name)
            self.assertEqual(self.said(name, 'cat /proc/version') == read('/proc/version'), self.handler == 'runc')
            self.remove(name)

    def test_logs(self):
        name = self.pod(container('echo one; echo two >&2; while ! [ -e /tmp/go ]; do sleep 0.1; done; echo three; exit 3'),
                        container('echo of another; exec sleep 1000000', 'other'))
        wait_until(lambda: self.logs(name, '-c', 'main') == 'one\ntwo\n', lambda: self.logs(name, '-c', 'main'))
        wait_until(lambda: self.logs(name, '-c', 'other') == 'of another\n', 'the other container')
        self.assertRegex(self.logs(name, '-c', 'main', '--timestamps', '--tail=1'), r'^\d{4}-\d\d-\d\dT\S+ two\n$')
        follow = subprocess.Popen(self.command('logs', '-f', name, '-c', 'main'), stdout=subprocess.PIPE, text=True)
        self.addCleanup(follow.stdout.close)
        self.assertEqual([follow.stdout.readline() for _ in range(2)], ['one\n', 'two\n'])
        self.said(name, 'touch /tmp/go', '-c', 'main')
        self.assertEqual(follow.communicate(timeout=PATIENCE)[0], 'three\n')
        pod = self.wait(name, lambda p: self.status(p)['restartCount'] == 1, 'the restart')
        self.assertEqual(self.status(pod)['lastState']['terminated']['exitCode'], 3)
        self.assertEqual(self.logs(name, '-c', 'main', '--previous'), 'one\ntwo\nthree\n')

    def test_exec(self):
        name = self.pod()
        code, out, err = self.kubectl('exec', name, '--', 'sh', '-c', 'echo out; echo err >&2; exit 7', check=False)
        self.assertEqual((code, out), (7, 'out\n'))
        self.assertIn('err\n', err)
        text = ''.join('line %d\n' % i for i in range(20000))
        self.assertEqual(self.kubectl('exec', '-i', name, '--', 'cat', input=text)[1], text)
        code, _, err = self.kubectl('exec', name, '--', '/no/such', check=False)
        self.assertNotEqual(code, 0)
        self.assertIn('no such file', err)

    def test_exec_on_a_terminal(self):
        name = self.pod()
        talk = Talk(*self.command('exec', '-it', name), '--', 'sh', '-c', 'tty; stty -echo; echo ready; read word; echo "got $word"; exit 5')
        self.addCleanup(talk.close)
        self.assertIn('/dev/pts/', talk.until('ready'))
        talk.say('hello\r')
        talk.until('got hello')
        self.assertEqual(talk.process.wait(PATIENCE), 5)
        talk = Talk(*self.command('exec', '-it', name), '--', 'sh', '-c', 'echo ready; exec sleep 1000000')
        self.addCleanup(talk.close)
        talk.until('ready')
        talk.say('\3')
        self.assertEqual(talk.process.wait(PATIENCE), 130)

    def test_attach(self):
        name = self.pod(container('while read word; do echo "heard $word"; done', stdin=True))
        attached = subprocess.Popen(self.command('attach', '-i', name), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        attached.stdin.write('one\n')
        attached.stdin.flush()
        self.assertEqual(attached.stdout.readline(), 'heard one\n')
        attached.kill()
        attached.communicate()
        wait_until(lambda: self.logs(name) == 'heard one\n', 'the log')
        again = subprocess.run(self.command('attach', '-i', name), input='', capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(again.stdout, '')

    def test_attach_to_a_terminal(self):
        name = self.pod(container('stty -echo; while read word; do echo "heard $word"; done', stdin=True, tty=True))
        talk = Talk(*self.command('attach', '-it', name))
        self.addCleanup(talk.close)
        talk.until('prompt')  # "If you don't see a command prompt, try pressing enter."
        talk.say('word\r')
        talk.until('heard word')

    def test_cp(self):
        name = self.pod()
        with tempfile.TemporaryDirectory() as d:
            os.makedirs(d + '/in/deeper')
            data = os.urandom(3 << 20)
            for path, what in (('in/data', data), ('in/deeper/text', b'text\n')):
                with open(os.path.join(d, path), 'wb') as f:
                    f.write(what)
            self.kubectl('cp', 'in', name + ':/tmp/in', cwd=d)
            self.assertEqual(self.said(name, 'cat /tmp/in/deeper/text; stat -c %s /tmp/in/data'), 'text\n%d\n' % len(data))
            self.kubectl('cp', name + ':/tmp/in', 'back', cwd=d)
            with open(d + '/back/data', 'rb') as f:
                self.assertEqual(f.read(), data)

    def test_port_forward(self):
        name = self.pod(container(SERVER, readinessProbe={'httpGet': {'path': '/', 'port': 8080}, 'periodSeconds': 1}))
        forward = subprocess.Popen(self.command('port-forward', 'pod/' + name, ':8080'), stdout=subprocess.PIPE, text=True)
        self.addCleanup(forward.stdout.close)
        self.addCleanup(forward.wait)
        self.addCleanup(forward.kill)
        port = int(forward.stdout.readline().split(' -> ')[0].rsplit(':', 1)[1])
        for _ in range(5):
            self.assertEqual(fetch('127.0.0.1', port), 'served by %s\n' % name)

    def test_reached_by_its_address_and_by_a_port_of_the_host(self):
        server = container(SERVER, ports=[{'containerPort': 8080, 'hostPort': 18080}], readinessProbe={'tcpSocket': {'port': 8080}, 'periodSeconds': 1})
        name = self.pod(server)
        page = 'served by %s\n' % name
        self.assertEqual(fetch(self.get(name)['status']['podIP'], 8080), page)
        self.assertEqual(fetch(ADDRESS, 18080), page)
        other = self.pod()
        self.assertEqual(self.said(other, 'wget -q -O - http://%s:8080/' % self.get(name)['status']['podIP']), page)
        self.assertEqual(self.said(other, 'wget -q -O - http://%s:18080/' % ADDRESS), page)

    def test_a_pod_that_is_forced_away_leaves_nothing(self):
        with self.leaving_nothing():
            name = self.pod(container('trap "" TERM; while :; do sleep 1; done'), terminationGracePeriodSeconds=5)
            self.kubectl('delete', 'pod', name, '--force', '--grace-period=0')

    def test_ephemeral_containers(self):
        name = self.pod()
        self.kubectl('debug', name, '--image=localhost/caisson-test:latest', '--image-pull-policy=Never', '-c', 'looker', '--', 'sh', '-c',
                     'hostname; exec sleep 1000000')
        self.wait(name, lambda p: 'running' in self.status(p, 'looker', 'ephemeralContainerStatuses').get('state', {}), 'the container')
        wait_until(lambda: self.logs(name, '-c', 'looker') == name + '\n', 'its log')
        self.assertEqual(self.said(name, 'echo here', '-c', 'looker'), 'here\n')

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every panel of the dashboard and every alert of deploy/prometheus, asked of a real Prometheus (Debian's) that reads a caisson-cri with pods
behind it: each query has an answer, with the labels that its legend names, and the values that are known are those. Grafana itself is in no
release of Debian."""
import json, math, os, re, signal, socket, subprocess, time, unittest, urllib.parse, urllib.request

import containerd_test as with_containerd
from containerd_test import UNTRUSTED, Case, CriError, wait_until

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = os.path.join(TOP, 'deploy', 'prometheus')
POLICY = '''
default_handler = "runc"
[sandbox]
handlers = ["caisson"]
[[rule]]
name = "untrusted"
annotations = { "io.kubernetes.cri.untrusted-workload" = "true" }
handler = "caisson"
'''
RATE_INTERVAL = '15s'  # what Grafana makes of a scrape interval of a second is 4 s; a busy machine is late
CONFIG = '''global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ['%(rules)s']
scrape_configs: [{job_name: caisson-cri, static_configs: [{targets: ['%(target)s']}]}]
'''


def setUpModule():
    global prometheus
    p = subprocess.run([os.path.join(TOP, 'tests', 'lib', 'unpacked.sh'), 'prometheus', 'bookworm', 'prometheus', 'usr/bin/prometheus'], capture_output=True, text=True)
    if p.returncode:
        raise unittest.SkipTest('no prometheus: ' + p.stderr.strip())
    prometheus = os.path.join(p.stdout.strip(), 'prometheus')
    with_containerd.setUpModule()


def tearDownModule():
    with_containerd.tearDownModule()


def free_address():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return '127.0.0.1:%d' % s.getsockname()[1]


def dashboard():
    with open(os.path.join(FILES, 'caisson-cri.dashboard.json')) as f:
        return json.load(f)


class Live(Case):
    def setUp(self):
        top = with_containerd.daemon.top
        self.policy, self.metrics, self.address = top + '/policy.toml', free_address(), free_address()
        with open(self.policy, 'w') as f:
            f.write(POLICY)
        self.flags = ('--policy', self.policy, '--metrics', self.metrics)
        super().setUp()
        with open(top + '/prometheus.yml', 'w') as f:
            f.write(CONFIG % {'rules': os.path.join(FILES, 'caisson-cri.rules.yml'), 'target': self.metrics})
        self.log = open(top + '/prometheus.log', 'w')
        self.prometheus = subprocess.Popen([prometheus, '--config.file=' + top + '/prometheus.yml', '--storage.tsdb.path=' + top + '/tsdb',
                                            '--web.listen-address=' + self.address], stdout=self.log, stderr=self.log)
        wait_until(self.listens, 'Prometheus to have read its target')

    def tearDown(self):
        self.prometheus.send_signal(signal.SIGTERM)
        self.prometheus.wait(60)
        self.log.close()
        super().tearDown()

    def listens(self):
        try:
            return self.query('up == 1')
        except OSError:
            return False

    def get(self, path, **parameters):
        with urllib.request.urlopen('http://%s/api/v1/%s?%s' % (self.address, path, urllib.parse.urlencode(parameters)), timeout=60) as r:
            answer = json.load(r)
        self.assertEqual(answer['status'], 'success', answer)
        return answer['data']

    def query(self, text):
        """As (labels, value), without those that have no value now."""
        found = [(r['metric'], float(r['value'][1])) for r in self.get('query', query=text)['result']]
        return [(labels, v) for labels, v in found if not math.isnan(v)]

    def something_of_everything(self):
        """Pods of both handlers that start, run a program and go; refusals; calls that fail."""
        for more in ({'annotations': UNTRUSTED}, {}):
            pod = self.pod(linux={'cgroup_parent': '/' + os.path.basename(with_containerd.daemon.top) + '.p%d' % time.monotonic_ns()}, **more)
            c = self.add(pod)
            self.cri.call('ExecSync', container_id=c, cmd=['/bin/true'], timeout=30)
            self.remove(pod)
        for method, request in (('RunPodSandbox', {'config': self.config(annotations=UNTRUSTED, linux={'security_context': {'privileged': True}})}),
                                ('ContainerStatus', {'container_id': 'nobody'})):
            with self.assertRaises(CriError):
                self.cri.call(method, **request)

    def test_every_panel_and_every_alert(self):
        kept = self.pod(annotations=UNTRUSTED, linux={'cgroup_parent': '/' + os.path.basename(with_containerd.daemon.top) + '.kept'})
        self.add(kept)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.something_of_everything()
        d = dashboard()
        instance, = (v for v in d['templating']['list'] if v['name'] == 'instance')
        metric, label = re.fullmatch(r'label_values\((\w+), (\w+)\)', instance['query']['query']).groups()
        nodes = {m[label] for m in self.get('series', **{'match[]': metric})}
        self.assertEqual(nodes, {self.metrics})
        answers = {}
        for p in d['panels']:
            for t in p['targets']:
                with self.subTest(panel=p['title'], legend=t['legendFormat']):
                    text = t['expr'].replace('$__rate_interval', RATE_INTERVAL).replace('$instance', '|'.join(nodes))
                    self.assertNotIn('$', text)
                    # Not at once: containerd tells no pods' figures while one of them is on its way out.
                    answer = answers[p['title'], t['legendFormat']] = wait_until(lambda: self.query(text), text)
                    for labels, value in answer:
                        self.assertEqual(set(labels), set(re.findall(r'{{(\w+)}}', t['legendFormat'])), text)
                        self.assertGreaterEqual(value, 0)
        of = lambda title, legend: {tuple(v for _, v in sorted(labels.items())): value for labels, value in answers[title, legend]}
        self.assertEqual(of('containerd answers', 'up'), {(): 1})
        self.assertEqual(of('pods in sandboxes', 'pods'), {(): 1})
        self.assertGreater(of('refusals, last hour', 'refusals')[()], 0)
        self.assertLess(abs(of('policy read', 'oldest')[()] / 1000 - time.time()), 600)
        for title in ('Pod start', 'Container start', 'Container creation', 'Exec (with the command)'):
            for handler in ('runc', 'caisson'):
                p50, p99 = (of(title, '{{handler}} p%d' % n)[handler,] for n in (50, 99))
                self.assertTrue(0 < p50 <= p99 < 60, (title, handler, p50, p99))
        self.assertIn(('pod', 'privileged'), of('Refusals by reason', '{{kind}}: {{reason}}'))
        self.assertTrue(1 << 20 < of('Memory of a sandbox beyond its containers', '{{handler}}')['caisson',] < 64 << 20)
        self.assertIn(('NotFound', 'ContainerStatus'), of('Calls that failed, by method and code', '{{method}} {{code}}'))
        rules = self.get('rules')['groups'][0]['rules']
        self.assertGreater(len(rules), 5)
        for r in rules:
            self.assertEqual((r['health'], r.get('lastError', '')), ('ok', ''), r['name'])
            self.assertNotEqual(r['state'], 'firing', r['name'])
        # One of those that fire at once: there is no such handler any more.
        with open(self.policy, 'w') as f:
            f.write(POLICY.replace('"caisson"', '"nothing"'))
        self.server.process.send_signal(signal.SIGHUP)
        def refused_for_it():
            try:
                self.remove(self.pod(annotations=UNTRUSTED))
            except CriError as e:
                return "'nothing'" in str(e)
        wait_until(refused_for_it, 'the policy to be read')
        wait_until(lambda: self.query('ALERTS{alertname="CaissonSandboxHandlerUnusable", alertstate="firing"}'), 'the alert to fire')
        self.remove(kept)


if __name__ == '__main__':
    unittest.main()

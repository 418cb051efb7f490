#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The files of deploy/ that belong to caisson-cri: alerts and dashboard by promtool, the metrics' names, the unit, the example policy."""
import json, os, re, shutil, signal, socket, subprocess, sys, tempfile, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'runtime'))
from lab import wait_until

TOP = os.path.dirname(os.path.dirname(HERE))
DEPLOY = os.path.join(TOP, 'deploy')
RULES = os.path.join(DEPLOY, 'prometheus', 'caisson-cri.rules.yml')
DASHBOARD = os.path.join(DEPLOY, 'prometheus', 'caisson-cri.dashboard.json')
PROGRAM = os.environ.get('CAISSON_CRI', os.path.join(TOP, 'build', 'bin', 'caisson-cri'))
METRIC = re.compile(r'\bcaisson_cri_\w+')


def run(*args, **more):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more)
    return p.returncode, p.stdout


def read(path):
    with open(path) as f:
        return f.read()


def answers(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


def promtool():
    """Prometheus' own checker: the installed one, or that of Debian's package."""
    if shutil.which('promtool'):
        return 'promtool'
    p = subprocess.run([os.path.join(TOP, 'tests', 'lib', 'unpacked.sh'), 'promtool', 'bookworm', 'prometheus', 'usr/bin/promtool'], capture_output=True, text=True)
    if p.returncode:
        raise unittest.SkipTest('no promtool: ' + p.stderr.strip())
    return os.path.join(p.stdout.strip(), 'promtool')


def queries():
    d = json.loads(read(DASHBOARD))
    return [(p['title'], t['expr']) for p in d['panels'] for t in p['targets']]


class Alerts(unittest.TestCase):
    def test_they_are_well_formed_and_fire_when_they_should(self):
        tool = promtool()
        code, out = run(tool, 'check', 'rules', RULES)
        self.assertEqual(code, 0, out)
        with tempfile.TemporaryDirectory() as d:
            with open(d + '/t.yml', 'w') as f:
                f.write(read(os.path.join(HERE, 'rules_test.yml')).replace('RULES', RULES))
            code, out = run(tool, 'test', 'rules', d + '/t.yml')
            self.assertEqual(code, 0, out)

    def test_every_alert_is_tested(self):
        tested = read(os.path.join(HERE, 'rules_test.yml'))
        for name in re.findall(r'alert: (\w+)', read(RULES)):
            self.assertIn(name, tested)


class Dashboard(unittest.TestCase):
    def test_its_queries_are_well_formed(self):
        tool = promtool()
        with tempfile.TemporaryDirectory() as d:
            rules = [{'record': 'q%d' % i, 'expr': e.replace('$__rate_interval', '5m').replace('$instance', '.*')} for i, (_, e) in enumerate(queries())]
            with open(d + '/r.yml', 'w') as f:
                json.dump({'groups': [{'name': 'dashboard', 'rules': rules}]}, f)
            code, out = run(tool, 'check', 'rules', d + '/r.yml')
            self.assertEqual(code, 0, out)

    def test_panels_do_not_overlap_and_have_their_own_ids(self):
        panels = json.loads(read(DASHBOARD))['panels']
        self.assertEqual(len({p['id'] for p in panels}), len(panels))
        cells = set()
        for p in panels:
            g = p['gridPos']
            mine = {(x, y) for x in range(g['x'], g['x'] + g['w']) for y in range(g['y'], g['y'] + g['h'])}
            self.assertFalse(cells & mine, p['title'])
            self.assertLessEqual(g['x'] + g['w'], 24)
            cells |= mine


class Names(unittest.TestCase):
    def test_every_metric_that_is_used_exists(self):
        known = set(re.findall(r'"(caisson_cri_\w+)"', read(os.path.join(TOP, 'cri', 'metrics.cc'))))
        self.assertGreater(len(known), 10)
        docs = read(os.path.join(TOP, 'docs', 'cri.md'))
        used = set(METRIC.findall(read(RULES))) | {m for _, e in queries() for m in METRIC.findall(e)} | set(METRIC.findall(docs))
        for m in used:
            self.assertIn(re.sub(r'_(bucket|sum|count)$', '', m), known)
        for m in known:
            self.assertIn(m, docs)

    def test_they_follow_the_conventions(self):
        tool = promtool()
        with tempfile.TemporaryDirectory() as d:
            p = subprocess.Popen([PROGRAM, '--no-policy', '--listen', d + '/l', '--backend', d + '/b', '--metrics', d + '/m'], stderr=subprocess.DEVNULL)
            try:
                wait_until(lambda: answers(d + '/m'), 'the metrics')
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(d + '/m')
                    s.sendall(b'GET /metrics HTTP/1.1\r\n\r\n')
                    text = b''.join(iter(lambda: s.recv(65536), b'')).decode().split('\r\n\r\n', 1)[1]
            finally:
                p.terminate()
                p.wait(60)
        self.assertIn('caisson_cri_refusals_total', text)
        # The families that come with pods.
        source = read(os.path.join(TOP, 'cri', 'metrics.cc'))
        for kind, name in re.findall(r'Build(Gauge|Counter|Histogram)\(\), "(\w+)"', source):
            if '# TYPE ' + name not in text:
                text += '# HELP %s x\n# TYPE %s %s\n' % (name, name, kind.lower())
                text += '%s_bucket{le="+Inf"} 1\n%s_sum 1\n%s_count 1\n' % (name, name, name) if kind == 'Histogram' else name + ' 1\n'
        code, out = run(tool, 'check', 'metrics', input=text)
        self.assertEqual((code, out), (0, ''))


class Files(unittest.TestCase):
    def test_the_unit(self):
        code, _ = run('sh', '-c', 'command -v systemd-analyze')
        if code:
            raise unittest.SkipTest('no systemd-analyze')
        with tempfile.TemporaryDirectory() as d:
            unit = read(os.path.join(DEPLOY, 'caisson-cri.service')).replace('/usr/bin/caisson-cri', PROGRAM)
            with open(d + '/caisson-cri.service', 'w') as f:
                f.write(unit)
            code, out = run('systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', d + '/caisson-cri.service')
            self.assertEqual((code, out), (0, ''))

    def settings(self):
        """Of the unit's [Service]; a name that comes again adds to its list."""
        found = {}
        for line in read(os.path.join(DEPLOY, 'caisson-cri.service')).replace('\\\n', '').split('[Service]')[1].split('[Install]')[0].splitlines():
            name, is_one, value = line.partition('=')
            if is_one and not line.startswith('#'):
                found.setdefault(name, []).append(value)
        return found

    def allowed_calls(self, group):
        """Names of the system calls in one of systemd's groups."""
        groups = {}
        for line in run('systemd-analyze', 'syscall-filter')[1].splitlines():
            if line.startswith('@'):
                members = groups.setdefault(line.strip(), set())
            elif line.startswith('    ') and not line.strip().startswith('#'):
                members.add(line.strip())
        def all_of(name):
            return {c for m in groups[name] for c in (all_of(m) if m.startswith('@') else {m})}
        return all_of(group)

    def test_what_the_unit_takes_away_is_not_missed(self):
        """Without a systemd: the program with the capabilities that the unit leaves it, and all that it asks of the kernel held against the rest."""
        missing = [p for p in ('strace', 'setpriv', 'systemd-analyze') if not shutil.which(p)]
        if missing:
            raise unittest.SkipTest('not here: ' + ' '.join(missing))
        unit = self.settings()
        left = ','.join('+' + c.lower().removeprefix('cap_') for c in unit['CapabilityBoundingSet'][0].split())
        with tempfile.TemporaryDirectory() as d:
            shutil.copy(os.path.join(DEPLOY, 'cri.toml'), d + '/cri.toml')
            os.chmod(d + '/cri.toml', 0o644)
            flags = ['--policy', d + '/cri.toml', '--listen', d + '/cri.sock', '--backend', d + '/nobody.sock', '--metrics', '127.0.0.1:0']
            confined = ['setpriv', '--no-new-privs', '--bounding-set', '-all,' + left, '--inh-caps', '-all']
            with open(d + '/log', 'w') as log:
                p = subprocess.Popen([*confined, 'strace', '-f', '-qq', '-o', d + '/trace', PROGRAM, *flags], stdout=log, stderr=log)
            self.addCleanup(p.wait)
            self.addCleanup(p.kill)
            wait_until(lambda: answers(d + '/cri.sock'), 'the socket')
            inside = int(read('/proc/%d/task/%d/children' % (p.pid, p.pid)).split()[0])
            client = subprocess.run([os.path.join(os.path.dirname(PROGRAM), 'cri_call'), 'unix://' + d + '/cri.sock'], input='Version {"version": "v1"}\n',
                                    capture_output=True, text=True, timeout=60)
            self.assertRegex(client.stdout, '14 .*nobody.sock')
            os.kill(inside, signal.SIGHUP)
            wait_until(lambda: 'read again' in read(d + '/log'), 'the policy to be read again')
            os.kill(inside, signal.SIGTERM)
            self.assertEqual(p.wait(60), 0, read(d + '/log'))
            trace = read(d + '/trace')
        calls = set(re.findall(r'^\d+ +(\w+)\(', trace, re.M))
        self.assertIn('accept4', calls)
        self.assertEqual(calls - self.allowed_calls(unit['SystemCallFilter'][0]), set())
        families = set(re.findall(r'\bsocket(?:pair)?\((\w+)', trace))
        self.assertLessEqual(families, set(unit['RestrictAddressFamilies'][0].split()))
        executable = [l for l in trace.splitlines() if re.search(r'\bmmap\(.*PROT_WRITE\|PROT_EXEC|\b(pkey_)?mprotect\(.*PROT_EXEC', l)]
        self.assertEqual(executable, [])

    def test_the_example_policy(self):
        code, out = run(PROGRAM, '--check', os.path.join(DEPLOY, 'cri.toml'))
        self.assertEqual(code, 0, out)

    def test_the_policy_in_the_docs(self):
        text = read(os.path.join(TOP, 'docs', 'cri.md'))
        blocks = re.findall(r'```toml\n(.*?)```', text, re.S)
        self.assertTrue(blocks)
        for b in blocks:
            with tempfile.NamedTemporaryFile('w', suffix='.toml') as f:
                f.write(b)
                f.flush()
                code, out = run(PROGRAM, '--check', f.name)
                self.assertEqual(code, 0, out)


if __name__ == '__main__':
    unittest.main()

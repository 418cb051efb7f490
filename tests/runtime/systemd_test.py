#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--systemd-cgroup: a scope is asked for over D-Bus, filled, changed and taken away; without systemd there is one clear line. What
answers is fake_systemd.py, on a bus of the test's own."""
import glob, json, os, signal, subprocess, unittest

import alone
from lab import Box, config, wait_until

BUS = '''<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>'''


class Systemd(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson', ['--systemd-cgroup'])
        self.slice = os.environ[alone.MARK].replace('_', 'u') + '.slice'
        os.environ[alone.MARK] = self.slice[:-6]
        self.log = self.box.top + '/calls'
        self.started = []
        self.number = 0

    def tearDown(self):
        self.box.__exit__()
        for p in self.started:
            p.terminate()
            p.wait()
        if os.path.ismount('/run/systemd'):
            subprocess.run(['umount', '/run/systemd'], check=True)
        self.assertEqual(alone.count('/nonexistent')['cgroups'], [])

    def start_systemd(self, bus=True):
        os.makedirs('/run/systemd', exist_ok=True)
        subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', '/run/systemd'], check=True)
        os.mkdir('/run/systemd/system')
        address = self.box.top + '/bus'
        os.environ['DBUS_SYSTEM_BUS_ADDRESS'] = 'unix:path=' + address
        if not bus:
            return
        with open(self.box.top + '/bus.conf', 'w') as f:
            f.write(BUS % address)
        self.started.append(subprocess.Popen(['dbus-daemon', '--nofork', '--config-file', self.box.top + '/bus.conf']))
        wait_until(lambda: os.path.exists(address), 'the bus')
        # What systemd makes groups in: all of version 2, or its own hierarchy and a few controllers.
        tops = [d for d in ('/sys/fs/cgroup/systemd', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/unified') if os.path.isdir(d)]
        fake = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fake_systemd.py')
        p = subprocess.Popen(['/usr/bin/python3', fake, self.log] + (tops or ['/sys/fs/cgroup']), stdout=subprocess.PIPE)
        self.started.append(p)
        self.assertEqual(p.stdout.readline(), b'ready\n')
        p.stdout.close()

    def calls(self, method):
        try:
            with open(self.log) as f:
                return [c[1:] for c in map(json.loads, f) if c[0] == method]
        except FileNotFoundError:
            return []

    def config(self, name, *args, **resources):
        c = config(list(args) or ['/bin/true'])
        c['linux']['cgroupsPath'] = '%s:test:%s' % (self.slice, name)
        c['linux']['resources'] = resources
        return c

    def test_a_scope_from_beginning_to_end(self):
        self.start_systemd()
        before = alone.count(self.box.state)
        id = self.slice[:-6] + '-1'
        bundle = self.box.bundle(self.config('one', '/bin/sleep', '1000', memory={'limit': 128 << 20}, pids={'limit': 50},
                                             cpu={'quota': 50000, 'period': 100000, 'shares': 512}))
        self.assertEqual(self.box.create(bundle, id), 0)
        (unit, mode, p), = self.calls('StartTransientUnit')
        self.assertEqual((unit, p['Slice'], p['Delegate'], p['DefaultDependencies']), ('test-one.scope', self.slice, True, False))
        v2 = not os.path.isdir('/sys/fs/cgroup/systemd')
        self.assertEqual(p['MemoryMax' if v2 else 'MemoryLimit'], 128 << 20)
        self.assertEqual((p['TasksMax'], p['CPUQuotaPerSecUSec']), (178, 500000))
        path = '/%s/test-one.scope' % self.slice
        with open('/proc/%d/cgroup' % self.box.pid(id)) as f:
            for line in f:
                self.assertTrue(line.strip().endswith(path), line)
        files = glob.glob('/sys/fs/cgroup/*' + path + '/pids.max') + glob.glob('/sys/fs/cgroup' + path + '/pids.max')
        with open(files[0]) as f:
            self.assertEqual(f.read(), '178\n')
        self.assertEqual(self.box.call('start', id)[0], 0)
        self.assertEqual(self.box.call('update', '--pids-limit', '60', id)[0], 0)
        self.assertEqual(self.calls('SetUnitProperties'), [['test-one.scope', True, {'TasksMax': 188}]])
        # The same group for another container: refused, and the first lives.
        code, _, err = self.box.call('run', '--bundle', bundle, id + 'b')
        self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
        self.assertEqual(self.box.status(id), 'running')
        self.assertEqual(self.box.call('delete', '--force', id), (0, '', ''))
        self.assertEqual(self.calls('StopUnit'), [['test-one.scope']])
        self.assertEqual(alone.more(before, alone.count(self.box.state)), {})
        self.assertEqual(self.box.run(self.config('one', '/bin/echo', 'again')), (0, 'again\n', ''))

    def test_a_systemd_that_does_nothing(self):
        self.start_systemd()
        code, _, err = self.box.run(self.config('lazy'))
        self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
        self.assertIn('test-lazy.scope', err)
        if not os.environ.get('CAISSON_LONG'):
            return  # the other way of not answering takes as long
        self.started[1].send_signal(signal.SIGSTOP)
        try:
            code, _, err = self.box.run(self.config('deaf'))
        finally:
            self.started[1].send_signal(signal.SIGCONT)
        self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
        self.assertIn('test-deaf.scope', err)

    def test_no_systemd_and_no_bus(self):
        code, _, err = self.box.run(self.config('x'))
        self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
        self.assertIn('no systemd runs', err)
        self.assertIn('cgroupfs', err)
        self.start_systemd(bus=False)
        code, _, err = self.box.run(self.config('x'))
        self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
        self.assertIn('test-x.scope', err)

    def test_names(self):
        for path in ('/a/b', 'a.slice:b', 'a:b:c', 'a.slice:b:c:d', 'a.slice:b:../c', 'a--b.slice:c:d', '.slice:c:d', 'a.slice:b:'):
            c = config(['/bin/true'])
            c['linux']['cgroupsPath'] = path
            code, _, err = self.box.run(c)
            self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
            self.assertIn('slice:prefix:name', err)


if __name__ == '__main__':
    alone.enter()
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""pause and resume: in every layout of cgroups that this host can show, under a load that never lets the stubs rest. While it is paused
nothing moves, verbs that need it say so, and after resume nothing was lost."""
import json, os, subprocess, sys, time, unittest

import alone
from lab import Box, config, wait_until

ROUNDS = int(os.environ.get('CAISSON_ROUNDS', '12'))
# Pairs of processes that hand a byte to and fro, one that forks, one that sleeps by timers: until they are told to stop, and each must
# have done all of its work.
LOAD = r'''
$| = 1; my @kids; $SIG{TERM} = sub { exit 9 };
sub child { my $f = shift; my $p = fork; if (!$p) { $f->(); exit 0 } push @kids, $p }
sub on { return !-e '/count/stop' }
for my $n (1 .. 3) {
  pipe(my $a, my $b); pipe(my $c, my $d);
  child(sub { my $i = 0; while (++$i % 50 or on) { syswrite $b, "x"; sysread($c, my $t, 1) == 1 or exit 3 } syswrite $b, "." });
  child(sub { while (1) { sysread($a, my $t, 1) == 1 or exit 4; exit 0 if $t eq '.'; syswrite $d, "y" } });
}
child(sub { while (on) { my $p = fork; exit 7 if !$p; waitpid $p, 0; $? == 7 << 8 or exit 5 } });
child(sub { while (on) { select undef, undef, undef, 0.002 } });
child(sub { my $i; while (on) { open my $f, '>', '/count/n'; print $f $i++; close $f } });
my $bad = 0; for (@kids) { waitpid $_, 0; $bad ||= $? } print "done $bad\n"; exit($bad ? 1 : 0);
'''


def layouts():
    """name -> commands that make it of the hybrid layout, in our own mount namespace."""
    v1 = [d for d in os.listdir('/sys/fs/cgroup') if d != 'unified' and os.path.ismount('/sys/fs/cgroup/' + d)]
    if not v1 or not os.path.ismount('/sys/fs/cgroup/unified'):
        return {'as it is': ''}
    return {'hybrid': '', 'version 1 alone': 'umount /sys/fs/cgroup/unified',
            'version 2 alone': 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup'}


class Pause(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson')
        os.mkdir(self.box.top + '/count')

    def tearDown(self):
        self.box.__exit__()

    def ok(self, *args):
        self.assertEqual(self.box.call(*args)[::2], (0, ''), args)

    def refused(self, *args, code=1):
        got, _, err = self.box.call(*args)
        self.assertEqual((got, len(err.strip().splitlines())), (code, 1), err)
        self.assertIn('paused', err)

    def load(self, name):
        c = config(['/usr/bin/perl', '-e', LOAD])
        for file in ('n', 'stop'):
            if os.path.exists(self.box.top + '/count/' + file):
                os.unlink(self.box.top + '/count/' + file)
        c['mounts'].append({'destination': '/count', 'type': 'bind', 'source': self.box.top + '/count', 'options': ['rbind', 'rw']})
        id = '%s-%s' % (os.environ[alone.MARK], name)
        with open(self.box.top + '/out', 'w') as out:
            p = subprocess.Popen(self.box.command + ['run', '--bundle', self.box.bundle(c), id], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(lambda: self.box.status(id) == 'running' and os.path.exists(self.box.top + '/count/n'), 'the load')
        return p, id

    def mark(self):
        return os.stat(self.box.top + '/count/n').st_mtime_ns

    def test_nothing_moves_and_nothing_is_lost(self):
        p, id = self.load('all')
        slowest = 0
        for n in range(ROUNDS):
            start = time.monotonic()
            self.ok('pause', id)
            slowest = max(slowest, time.monotonic() - start)
            before = self.mark()
            self.assertEqual(self.box.status(id), 'paused')
            if n % 4 == 0:
                self.refused('exec', id, '/bin/true', code=255)
                self.refused('pause', id)
                self.refused('ps', id)
                self.refused('start', id)
                self.refused('delete', id)
                time.sleep(0.05)
                self.assertEqual(self.box.call('list')[0], 0)
            self.assertEqual(self.mark(), before)
            self.ok('resume', id)
            code, _, err = self.box.call('resume', id)
            self.assertEqual(code, 1)
            time.sleep(0.02 * (n % 3))
        print('%d pauses, the slowest took %.0f ms' % (ROUNDS, slowest * 1e3), file=sys.stderr)
        open(self.box.top + '/count/stop', 'w').close()
        self.assertEqual(p.wait(120), 0)
        with open(self.box.top + '/out') as f:
            self.assertEqual(f.read(), 'done 0\n')

    def test_signals_reach_a_paused_container(self):
        p, id = self.load('term')
        self.ok('pause', id)
        self.ok('kill', id, 'TERM')  # delivered when it runs again, as by runc
        self.assertEqual(self.box.status(id), 'paused')
        time.sleep(0.1)
        self.assertIsNone(p.poll())
        self.ok('resume', id)
        self.assertEqual(p.wait(30), 9)
        p, id = self.load('kill')
        self.ok('pause', id)
        self.ok('kill', id, 'KILL')
        self.assertEqual(p.wait(30), 137)

    def test_layouts(self):
        for name, change in layouts().items():
            self.box.count += 10  # names of what the child makes
            with self.subTest(name):
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        self.in_layout(change)
                        code = 0
                    except BaseException as e:
                        print('%s: %r' % (name, e), file=sys.stderr)
                    finally:
                        os._exit(code)
                self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def has(self, controller):
        if os.path.isdir('/sys/fs/cgroup/' + controller):
            return True
        if not os.path.exists('/sys/fs/cgroup/cgroup.controllers'):
            return False
        with open('/sys/fs/cgroup/cgroup.controllers') as f:
            return controller in f.read().split()

    def in_layout(self, change):
        alone.libc.unshare(alone.CLONE_NEWNS)
        if change:
            subprocess.run(change, shell=True, check=True)
        before = alone.count(self.box.state)
        p, id = self.load(self.box.count)
        with open('/proc/%d/cgroup' % self.box.pid(id)) as f:
            groups = f.read()
        self.assertIn(id, groups)
        for _ in range(3):
            self.ok('pause', id)
            self.assertEqual(self.box.status(id), 'paused')
            mark = self.mark()
            time.sleep(0.1)
            self.assertEqual(self.mark(), mark)
            self.ok('resume', id)
            wait_until(lambda: self.mark() != mark, 'it to go on')
        self.ok('exec', id, '/bin/true')
        self.assertEqual(json.loads(self.box.call('events', '--stats', id)[1])['type'], 'stats')
        # Nor is an update that nothing here can carry out.
        code, _, err = self.box.call('update', '--cpuset-cpus', '0', id)
        self.assertEqual((code, 'cpuset' in err), (0, False) if self.has('cpuset') else (1, True), err)
        self.ok('pause', id)
        self.ok('delete', '--force', id)
        self.assertNotEqual(p.wait(30), 0)
        # A limit that nothing here can hold is told.
        c = config(['/bin/true'])
        c['linux']['resources'] = {'pids': {'limit': 100}}
        code, _, err = self.box.run(c)
        can = self.has('pids')
        self.assertEqual(code, 0 if can else 1, err)
        self.assertIn('' if can else 'pids', err)
        left = alone.more(before, alone.count(self.box.state))
        left.pop('files', None)  # .ids and the like are made once
        self.assertEqual(left, {})


if __name__ == '__main__':
    alone.enter()
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many containers one after another, and many at once: nothing is left, and the last takes no more processor time than the first.
CAISSON_SOAK=1000 CAISSON_AT_ONCE=50 is the long form."""
import os, resource, subprocess, sys, time, unittest

import alone
from lab import Box, config

ROW = int(os.environ.get('CAISSON_SOAK', '12'))
AT_ONCE = int(os.environ.get('CAISSON_AT_ONCE', '8'))


def host_figures():
    """What grows when the kernel keeps things that nobody can name any more."""
    with open('/proc/meminfo') as f:
        memory = {line.split(':')[0]: int(line.split()[1]) for line in f}
    with open('/proc/cgroups') as f:
        groups = max(int(line.split()[2]) for line in f if not line.startswith('#'))
    return {'slab KB': memory['Slab'], 'kernel stacks KB': memory['KernelStack'], 'cgroups': groups}


class Soak(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson')
        os.makedirs(self.box.state + '/.ids')
        self.bundle = self.box.bundle(config(['/bin/sleep', '1000']))
        self.cycle('first')  # what is made once: directories, this test's own files
        self.before = alone.count(self.box.state)

    def tearDown(self):
        self.box.__exit__()

    def id(self, n):
        return '%s-%s' % (os.environ[alone.MARK], n)

    def cycle(self, n):
        start = self.cpu_time()
        self.assertEqual(self.box.create(self.bundle, self.id(n)), 0)
        self.assertEqual(self.box.call('start', self.id(n)), (0, '', ''))
        self.assertEqual(self.box.call('delete', '--force', self.id(n)), (0, '', ''))
        return self.cpu_time() - start

    def cpu_time(self):
        """Of the commands: how long they take says more about who else is at work."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def nothing_left(self):
        alone.wait_fair(lambda: not alone.more(self.before, alone.count(self.box.state)), 5)
        self.assertEqual(alone.more(self.before, alone.count(self.box.state)), {})

    def test_in_a_row(self):
        figures = host_figures()
        start = time.monotonic()
        times = [self.cycle(n) for n in range(ROW)]
        took = time.monotonic() - start
        self.nothing_left()
        tenth = max(ROW // 10, 4)
        first, last = sorted(times[:tenth])[tenth // 2], sorted(times[-tenth:])[tenth // 2]
        print('%d in a row in %.0f s: processor time, median of the first %d %.1f ms, of the last %.1f ms; before %s, after %s'
              % (ROW, took, tenth, first * 1e3, last * 1e3, figures, host_figures()), file=sys.stderr)
        if ROW >= 100:
            self.assertLess(last, 2 * first)

    def test_at_once(self):
        start = time.monotonic()
        def all(*verb):
            ps = [subprocess.Popen(self.box.command + [*verb, self.id(n)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL) for n in range(AT_ONCE)]
            self.assertEqual([p.wait(120) for p in ps], [0] * AT_ONCE)
            return time.monotonic() - start
        made = all('create', '--bundle', self.bundle)
        started = all('start')
        self.assertEqual(self.box.call('list', '-q')[1].split(), sorted(self.id(n) for n in range(AT_ONCE)))
        for n in range(0, AT_ONCE, 7):
            self.assertEqual(self.box.call('exec', self.id(n), '/bin/echo', str(n)), (0, '%d\n' % n, ''))
        deleted = all('delete', '--force')
        self.nothing_left()
        print('%d at once: created in %.2f s, started by %.2f s, deleted by %.2f s' % (AT_ONCE, made, started, deleted), file=sys.stderr)


if __name__ == '__main__':
    alone.enter()
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits that bite, on whatever layout of cgroups this machine has, and what the inside and `events` tell of them."""
import json, os, subprocess, time, unittest

from lab import PATIENCE, Box, config

MB = 1 << 20
HOG = 'import sys; x = bytearray(%d << 20); print("had it")'


def group_file(pid, controller, v1, v2):
    """The file of a process's group, by the layout that the controller has here."""
    with open('/proc/%d/cgroup' % pid) as f:
        for line in f:
            _, names, path = line.rstrip('\n').split(':', 2)
            if controller in names.split(','):
                for top in ('/sys/fs/cgroup/' + names, '/sys/fs/cgroup/' + controller):
                    if os.path.exists(top + path + '/' + v1):
                        return top + path + '/' + v1
            if names == '':
                for top in ('/sys/fs/cgroup', '/sys/fs/cgroup/unified'):
                    if os.path.exists(top + path + '/' + v2):
                        return top + path + '/' + v2
    return None


def read(path):
    with open(path) as f:
        return f.read()


class Limits(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson')

    def tearDown(self):
        self.box.__exit__()

    def limited(self, args, **resources):
        c = config(args)
        c['linux']['resources'] = resources
        return c

    def idle(self, **resources):
        """A container that sleeps; its id."""
        return self.box.start(self.limited(['/bin/sleep', '1000'], **resources))

    def inside(self, id, *args):
        return self.box.call('exec', id, *args)

    def test_a_program_that_takes_too_much_memory_dies_and_the_sandbox_lives(self):
        script = 'python3 -c \'%s\'; echo "code $?"; python3 -c \'%s\'; echo "code $?"; echo alive' % (HOG % 300, HOG % 8)
        code, out, err = self.box.run(self.limited(['/bin/sh', '-c', script], memory={'limit': 96 * MB}))
        self.assertIn('code 137', out, err)
        self.assertIn('had it\ncode 0\nalive', out, err)
        self.assertEqual(code, 0)

    def test_a_program_that_dies_while_the_kernel_fills_its_memory_is_gone(self):
        # One read of 200 MB: the host kills the process in the middle of the call.
        code, _, err = self.box.run(self.limited(['/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=200M', 'count=1'], memory={'limit': 64 * MB}))
        self.assertEqual(code, 137, err)

    def test_the_limit_of_memory_is_told_inside_and_changes_live(self):
        id = self.idle(memory={'limit': 96 * MB})
        limit = group_file(self.box.pid(id), 'memory', 'memory.limit_in_bytes', 'memory.max')
        self.assertEqual(int(read(limit)), 96 * MB)
        self.assertIn('MemTotal:          98304 kB', self.inside(id, '/bin/cat', '/proc/meminfo')[1])
        self.assertEqual(self.inside(id, '/usr/bin/python3', '-c', HOG % 200)[0], 137)
        code, _, err = self.box.call('update', '--memory', '384m', id)
        self.assertEqual(code, 0, err)
        self.assertEqual(int(read(limit)), 384 * MB)
        self.assertIn('MemTotal:         393216 kB', self.inside(id, '/bin/cat', '/proc/meminfo')[1])
        self.assertEqual(self.inside(id, '/usr/bin/python3', '-c', HOG % 200)[0], 0)
        # A limit that is not named stays.
        self.assertEqual(self.box.call('update', '--pids-limit', '30', id)[0], 0)
        self.assertIn('MemTotal:         393216 kB', self.inside(id, '/bin/cat', '/proc/meminfo')[1])

    def test_events_tell_of_a_program_that_was_killed(self):
        id = self.idle(memory={'limit': 96 * MB})
        p = subprocess.Popen(self.box.command + ['events', '--interval', '100ms', id], stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.kill)
        until = lambda kind: next(e for e in map(json.loads, p.stdout) if e['type'] == kind)
        first = until('stats')
        self.assertEqual(first['id'], id)
        self.inside(id, '/usr/bin/python3', '-c', HOG % 300)
        self.assertEqual(until('oom'), {'type': 'oom', 'id': id})
        later = until('stats')
        self.assertGreaterEqual(later['data']['cpu']['usage']['total'], first['data']['cpu']['usage']['total'])
        # Its end is theirs, and that of a container that was killed and deleted at once too.
        self.box.call('delete', '--force', id)
        p.communicate(timeout=PATIENCE)
        self.assertEqual(p.returncode, 0)

    def test_events_end_with_the_container(self):
        id = self.box.start(self.limited(['/bin/sh', '-c', 'trap "exit 0" USR1; while :; do sleep 0.1; done']))
        watchers = [subprocess.Popen(self.box.command + ['events', '--interval', interval, id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    for interval in ('50ms', '1000s')]
        self.assertEqual(json.loads(watchers[0].stdout.readline())['type'], 'stats')
        self.assertEqual(self.box.call('kill', id, 'USR1')[0], 0)
        for w in watchers:
            _, err = w.communicate(timeout=PATIENCE)
            self.assertEqual((w.returncode, err), (0, ''))
        for flags in (['--stats'], []):
            code, _, err = self.box.call('events', *flags, id)
            self.assertEqual((code, len(err.splitlines())), (1, 1), err)
            self.assertIn('stopped', err)

    def test_stats_are_runcs(self):
        """Every figure that runc tells is told, by the same name and as the same kind of value."""
        def shape(v, at=''):
            if isinstance(v, dict):
                return {k for name, member in v.items() for k in shape(member, at + '/' + name)} or {at + ' {}'}
            if isinstance(v, list):
                return {at + '[]'}  # whether there is anything in it is chance
            return {'%s %s' % (at, 'number' if isinstance(v, int) else type(v).__name__)}
        shapes = {}
        for name in ('runc', 'caisson'):
            with Box(name) as box:
                id = box.start(self.limited(['/bin/sleep', '1000'], memory={'limit': 96 * MB}, pids={'limit': 77}, cpu={'quota': 50000, 'period': 100000}))
                p = subprocess.Popen(box.command + ['events', '--interval', '100ms', id], stdout=subprocess.PIPE, text=True)
                e = next(e for e in map(json.loads, p.stdout) if e['type'] == 'stats')
                p.kill()
                p.communicate()
                once = json.loads(box.call('events', '--stats', id)[1])
                self.assertEqual((e['id'], once['id']), (id, id))
                shapes[name] = shape(e) | shape(once)
        # Objects that runc leaves empty have members here where the host has something to tell.
        missing = {s for s in shapes['runc'] - shapes['caisson'] if not s.endswith(' {}')}
        self.assertEqual(missing, set())

    def test_forks_beyond_the_limit_fail_with_eagain(self):
        program = '''
import os, errno, signal
children = []
try:
    while len(children) < 200:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except OSError as e:
    print("forks", len(children), errno.errorcode[e.errno])
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
'''
        id = self.idle(pids={'limit': 20})
        code, out, err = self.inside(id, '/usr/bin/python3', '-c', program)
        self.assertIn('forks 18 EAGAIN', out, err)  # init and the program itself
        self.assertEqual(self.box.call('update', '--pids-limit', '50', id)[0], 0)
        self.assertIn('forks 48 EAGAIN', self.inside(id, '/usr/bin/python3', '-c', program)[1])
        self.assertEqual(self.box.status(id), 'running')

    def test_a_quota_of_processor_time_holds(self):
        id = self.idle(cpu={'quota': 20000, 'period': 100000})
        pid = self.box.pid(id)
        used = group_file(pid, 'cpuacct', 'cpuacct.usage', 'cpu.stat')

        def cpu_seconds():
            text = read(used)
            return int(text) / 1e9 if text.strip().isdigit() else int(text.split()[1]) / 1e6
        before, start = cpu_seconds(), time.monotonic()
        self.inside(id, '/bin/sh', '-c', 'timeout 2 sh -c "while :; do :; done"')
        share = (cpu_seconds() - before) / (time.monotonic() - start)
        self.assertLess(share, 0.35)
        stats = json.loads(self.box.call('events', '--stats', id)[1])['data']
        self.assertGreater(stats['cpu']['throttling']['throttledPeriods'], 3)
        quota = group_file(pid, 'cpu', 'cpu.cfs_quota_us', 'cpu.max')
        self.assertEqual(self.box.call('update', '--cpu-quota', '50000', '--cpu-period', '100000', id)[0], 0)
        self.assertEqual(read(quota).split()[0], '50000')

    def test_a_cpuset_is_what_the_inside_counts(self):
        code, out, err = self.box.run(self.limited(['/usr/bin/nproc'], cpu={'cpus': '0'}))
        self.assertEqual((code, out.strip()), (0, '1'), err)

    def test_stats_have_the_shape_that_engines_read(self):
        id = self.idle(memory={'limit': 128 * MB}, pids={'limit': 77})
        s = json.loads(self.box.call('events', '--stats', id)[1])
        limit = group_file(self.box.pid(id), 'pids', 'pids.max', 'pids.max')
        with open(limit, 'w') as f:
            f.write('100')  # somebody else's, less than what Caisson adds for its own processes
        self.assertEqual(json.loads(self.box.call('events', '--stats', id)[1])['data']['pids']['limit'], 100)
        self.assertEqual((s['type'], s['id']), ('stats', id))
        d = s['data']
        self.assertGreater(d['cpu']['usage']['total'], 0)
        self.assertEqual(d['memory']['usage']['limit'], 128 * MB)
        self.assertGreater(d['memory']['usage']['usage'], 100000)
        self.assertEqual(d['pids'], {'current': 1, 'limit': 77})

    def test_limits_are_written_to_the_host_as_runc_does(self):
        disk = next((d for d in sorted(os.listdir('/sys/block')) if os.path.exists('/sys/block/%s/device' % d)), None)
        device = {}
        if disk:
            major, minor = map(int, read('/sys/block/%s/dev' % disk).split(':'))
            device = {'major': major, 'minor': minor}
        resources = {
            'memory': {'limit': 128 * MB, 'reservation': 64 * MB, 'swap': 256 * MB, 'swappiness': 30, 'kernel': -1, 'useHierarchy': True},
            'cpu': {'shares': 512, 'quota': 70000, 'period': 50000, 'cpus': '0', 'mems': '0'},
            'pids': {'limit': 77},
            'blockIO': {'throttleReadBpsDevice': [{**device, 'rate': 10 * MB}], 'throttleWriteBpsDevice': [{**device, 'rate': 20 * MB}],
                        'throttleReadIOPSDevice': [{**device, 'rate': 1000}], 'throttleWriteIOPSDevice': [{**device, 'rate': 2000}]} if disk else {},
        }
        files = [('memory', 'memory.limit_in_bytes', 'memory.max'), ('memory', 'memory.soft_limit_in_bytes', 'memory.low'),
                 ('memory', 'memory.memsw.limit_in_bytes', 'memory.swap.max'), ('memory', 'memory.swappiness', ''),
                 ('cpu', 'cpu.shares', 'cpu.weight'), ('cpu', 'cpu.cfs_quota_us', 'cpu.max'), ('cpu', 'cpu.cfs_period_us', 'cpu.max'),
                 ('cpuset', 'cpuset.cpus', 'cpuset.cpus'), ('cpuset', 'cpuset.mems', 'cpuset.mems'),
                 ('blkio', 'blkio.throttle.read_bps_device', 'io.max'), ('blkio', 'blkio.throttle.write_bps_device', 'io.max'),
                 ('blkio', 'blkio.throttle.read_iops_device', 'io.max'), ('blkio', 'blkio.throttle.write_iops_device', 'io.max')]
        seen = {}
        for name in ('runc', 'caisson'):
            with Box(name) as box:
                id = box.start(self.limited(['/bin/sleep', '1000'], **resources))
                paths = {f[1]: group_file(box.pid(id), *f) for f in files}
                seen[name] = {f: p and read(p) for f, p in paths.items()}
                # More, live, and what is not named stays.
                code, _, err = box.call('update', '--memory', '192m', '--memory-swap', '300m', '--cpu-share', '300', '--cpu-quota', '90000', '--cpu-period',
                                        '100000', '--memory-reservation', '32m', id)
                self.assertEqual(code, 0, err)
                seen[name]['updated'] = {f: p and read(p) for f, p in paths.items()}
        self.assertEqual(seen['caisson'], seen['runc'])

    def test_bursts_and_idle_programs(self):
        id = self.idle(cpu={'quota': 50000, 'period': 100000, 'burst': 20000})
        pid = self.box.pid(id)
        burst = group_file(pid, 'cpu', 'cpu.cfs_burst_us', 'cpu.max.burst')
        self.assertEqual(read(burst), '20000\n')
        id = self.idle(cpu={'idle': 1})
        self.assertEqual(read(group_file(self.box.pid(id), 'cpu', 'cpu.idle', 'cpu.idle')), '1\n')

    def test_swappiness_and_hugepages_are_taken_and_nonsense_is_not(self):
        id = self.idle(memory={'limit': 128 * MB, 'swappiness': 11}, hugepageLimits=[{'pageSize': '2MB', 'limit': 4 * MB}])
        swappiness = group_file(self.box.pid(id), 'memory', 'memory.swappiness', 'memory.none')
        if swappiness:
            self.assertEqual(read(swappiness).strip(), '11')
        huge = group_file(self.box.pid(id), 'hugetlb', 'hugetlb.2MB.limit_in_bytes', 'hugetlb.2MB.max')
        if huge:
            self.assertEqual(read(huge).strip(), str(4 * MB))
        for bad in ({'memory': {'swappiness': 101}}, {'hugepageLimits': [{'pageSize': '../x', 'limit': 1}]},
                    {'blockIO': {'weight': 5}}, {'memory': {'limit': 'much'}}, {'unified': {'../memory.max': '1'}}):
            code, _, err = self.box.run(self.limited(['/bin/true'], **bad))
            self.assertEqual(code, 1, bad)
            self.assertEqual(len(err.strip().splitlines()), 1, err)


if __name__ == '__main__':
    unittest.main()

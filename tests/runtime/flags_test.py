#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Flags of the command line, under runc and under Caisson: what the program sees, what is printed, how it ends."""
import json, os, subprocess, unittest

from lab import Box, config

# Flags of exec, and a script that shows what they did.
EXEC = {
    'nothing': ([], 'pwd; id -u; id -G; grep -e NoNewPrivs -e ^Cap /proc/self/status; env | sort'),
    'environment': (['-e', 'A=b', '-e', 'C=d e', '-e', 'HOME=/x', '-e', 'EMPTY='], 'env | sort'),
    'cwd': (['--cwd', '/usr/lib'], 'pwd; echo $PWD'),
    'user': (['-u', '1000'], 'id -u; id -g; id -G; grep ^Cap /proc/self/status; echo $HOME'),
    'user and group': (['--user', '1000:1001'], 'id -u; id -g; id -G'),
    'more groups': (['-u', '1000:1001', '-g', '5', '-g', '7'], 'id -G'),
    'a capability more': (['--cap', 'CAP_SYS_TIME', '--cap', 'CAP_NET_RAW'], 'grep ^Cap /proc/self/status'),
    'a capability of a user': (['-u', '1000', '--cap', 'CAP_CHOWN'], 'grep ^Cap /proc/self/status'),
    'no new privileges': (['--no-new-privs'], 'grep NoNewPrivs /proc/self/status'),
    'though it may be paused': (['--ignore-paused'], 'echo here'),
    'exit code': ([], 'exit 42'),
    'death by a signal': ([], 'kill -KILL $$'),
}
# Words of exec before and after the id that cannot be.
WRONG_EXEC = {
    'no such user': (['-u', 'nobody-of-that-name'], ['/bin/true']), 'a cwd that is no directory': (['--cwd', '/etc/passwd'], ['/bin/true']),
    'no such program': ([], ['/no/such']), 'no such file of a process': (['-p', '/no/such'], []), 'no program': ([], []),
    'no such flag': (['--no-such-flag'], ['/bin/true']),
}


class Flags(unittest.TestCase):
    def setUp(self):
        self.maxDiff = None
        self.boxes = [Box('runc'), Box('caisson')]
        for b in self.boxes:
            self.addCleanup(b.__exit__)

    def same(self, f):
        """What f says of runc it says of Caisson; that."""
        want, got = map(f, self.boxes)
        self.assertEqual(got, want)
        return got

    def test_exec(self):
        ids = {b: b.start(config(['/bin/sleep', '1000'])) for b in self.boxes}
        for what, (flags, script) in EXEC.items():
            with self.subTest(what):
                self.same(lambda b: b.call('exec', *flags, ids[b], '/bin/sh', '-c', script)[:2])
        for what, (before, after) in WRONG_EXEC.items():
            with self.subTest(what):
                def fails(b):
                    code, _, err = b.call('exec', *before, ids[b], *after)
                    return code != 0, bool(err)
                self.assertEqual(self.same(fails), (True, True))
        # The container is none the worse.
        self.same(lambda b: b.call('exec', ids[b], '/bin/echo', 'alive'))

    def test_a_detached_exec_tells_its_pid(self):
        for b in self.boxes:
            with self.subTest(b.runtime):
                id = b.start(config(['/bin/sleep', '1000']))
                path = os.path.join(b.top, 'pid')
                p = subprocess.run(b.command + ['exec', '-d', '--pid-file', path, id, '/bin/sleep', '1000'], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=200)  # it keeps the streams
                self.assertEqual(p.returncode, 0)
                with open(path) as f:
                    os.kill(int(f.read()), 0)

    def test_flags_of_create_and_run(self):
        for flags in (['--no-pivot'], ['--no-new-keyring'], ['--no-subreaper'], ['--no-pivot', '--no-new-keyring']):
            with self.subTest(flags):
                got = self.same(lambda b: b.run(config(['/bin/sh', '-c', 'ls /; exit 3']), *flags)[:2])
                self.assertEqual(got[0], 3)

    def test_debug_says_more_and_only_in_the_log(self):
        def run(b):
            log = os.path.join(b.top, 'log')
            code, out, _ = b.call('run', '--bundle', b.bundle(config(['/bin/echo', 'hello'])), b.name(),
                                  flags=['--debug', '--log', log, '--log-format', 'json'])
            with open(log) as f:
                lines = [json.loads(line) for line in f]
            self.assertTrue(all({'level', 'msg', 'time'} <= set(line) for line in lines))
            return code, out, 'debug' in [line['level'] for line in lines]
        self.assertEqual(self.same(run), (0, 'hello\n', True))

    def test_list_and_state_in_json(self):
        def run(b):
            ids = [b.start(config(['/bin/sleep', '1000'], annotations={'a': 'b'})) for _ in range(2)]
            quiet = b.call('list', '--quiet')[1].split()
            self.assertEqual(sorted(quiet), sorted(ids))
            self.assertEqual(sorted(b.call('list', '-q', '--format', 'json')[1].split()), sorted(ids))
            told = json.loads(b.call('list', '--format', 'json')[1])
            self.assertEqual(sorted(c['id'] for c in told), sorted(ids))
            state = json.loads(b.call('state', ids[0])[1])
            table = b.call('list')[1].splitlines()
            for c in told:
                self.assertTrue(any(line.split()[:3] == [c['id'], str(c['pid']), 'running'] for line in table), table)
            kinds = lambda d: {k: type(v).__name__ for k, v in d.items()}
            return table[0].split(), kinds(told[0]), kinds(state), state['annotations']
        self.same(run)

    def test_limits_from_a_file_and_from_standard_input(self):
        def run(b):
            id = b.start(config(['/bin/sleep', '1000']))
            path = os.path.join(b.top, 'resources.json')
            with open(path, 'w') as f:
                json.dump({'memory': {'limit': 96 << 20}, 'cpu': {'shares': 400, 'quota': 60000, 'period': 100000}}, f)
            first = b.call('update', '--resources', path, id)[:2]
            limit = lambda: json.loads(b.call('events', '--stats', id)[1])['data']['memory']['usage']['limit']
            after_first = limit()
            second = b.call('update', '-r', '-', id, input=b'{"memory": {"limit": 134217728}}')[:2]
            return first, after_first, second, limit()
        self.assertEqual(self.same(run), ((0, ''), 96 << 20, (0, ''), 128 << 20))

    def test_a_file_of_limits_that_is_none(self):
        for text in ('', '{', '[]', '{"memory": 5}'):
            with self.subTest(text):
                def run(b):
                    id = b.start(config(['/bin/sleep', '1000']))
                    code, out, err = b.call('update', '-r', '-', id, input=text.encode())
                    return code != 0, out, bool(err)
                self.assertEqual(self.same(run), (True, '', True))

    def test_what_is_written_to_start_from_runs(self):
        for b in self.boxes:
            with self.subTest(b.runtime):
                d = os.path.join(b.top, 'new')
                os.mkdir(d)
                self.assertEqual(b.call('spec', '--bundle', d)[0], 0)
                self.assertNotEqual(b.call('spec', '-b', d)[0], 0)  # it is there
                with open(d + '/config.json') as f:
                    c = json.load(f)
                c['process'].update(terminal=False, args=['/bin/sh', '-c', 'id -u; hostname'])
                c['root']['path'] = config([])['root']['path']
                with open(d + '/config.json', 'w') as f:
                    json.dump(c, f)
                code, out, err = b.call('run', '--bundle', d, b.name())
                self.assertEqual((code, out), (0, '0\n%s\n' % c['hostname']), err)

    def test_no_checkpoints(self):
        b = self.boxes[1]
        id = b.start(config(['/bin/sleep', '1000']))
        for verb in (['checkpoint'], ['checkpoint', '--image-path', b.top, '--leave-running'], ['restore', '--image-path', b.top, '--bundle', b.top]):
            with self.subTest(verb):
                code, out, err = b.call(*verb, id)
                self.assertEqual((code, out, len(err.splitlines())), (1, '', 1), err)
                self.assertIn('not support', err)
        self.assertEqual(b.status(id), 'running')


if __name__ == '__main__':
    unittest.main()

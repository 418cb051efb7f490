#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sixteen processes call create, start, kill, state, exec and delete on a few ids at random: every answer is one that is allowed,
nothing hangs, nothing is left, and a container nobody touches serves all along."""
import multiprocessing, os, random, subprocess, sys, time, unittest

from lab import Box, config, wait_until

ROUNDS = int(os.environ.get('CAISSON_ROUNDS', '60'))
IDS = ['rt-caisson-%d-shared%d' % (os.getpid(), i) for i in range(4)]


STEADY = 'rt-caisson-%d-steady' % os.getpid()


def worker(seed, command, bundle, out):
    r = random.Random(seed)
    wrong = []
    for _ in range(ROUNDS):
        id = r.choice(IDS)
        verb = r.choice([['create', '--bundle', bundle, id], ['start', id], ['kill', id, 'KILL'], ['state', id], ['delete', id],
                         ['delete', '--force', id], ['exec', id, '/bin/true'], ['list'], ['kill', id, 'TERM'], ['ps', id],
                         ['exec', STEADY, '/bin/true'], ['ps', STEADY], ['state', STEADY]])
        start = time.monotonic()
        try:
            p = subprocess.run(command + verb, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if verb[0] != 'create' else subprocess.DEVNULL,
                               stderr=subprocess.PIPE if verb[0] != 'create' else subprocess.DEVNULL, timeout=90)
        except subprocess.TimeoutExpired:
            wrong.append('%s hung' % verb)
            continue
        err = (p.stderr or b'').decode(errors='replace').strip()
        # An exec's own program may be killed in the middle: 137.
        allowed = (0, 1) if verb[0] != 'exec' else (0, 1, 255, 137)
        if STEADY in verb or verb[0] == 'list':
            allowed = (0,)
        if p.returncode not in allowed:
            wrong.append('%s: exit %d: %s' % (verb, p.returncode, err))
        if p.returncode == 1 and verb[0] != 'create' and len(err.splitlines()) != 1:
            wrong.append('%s: %r' % (verb, err))
        if time.monotonic() - start > 60:
            wrong.append('%s took %.0f s' % (verb, time.monotonic() - start))
    out.put(wrong)


class Concurrency(unittest.TestCase):
    def test_sixteen_at_random(self):
        with Box('caisson') as box:
            bundle = box.bundle(config(['/bin/sleep', '1000']))
            seed = int(os.environ.get('CAISSON_SEED', str(time.time_ns() & 0xffffff)))
            print('seed', seed, file=sys.stderr)
            self.assertEqual(box.create(bundle, STEADY), 0)
            self.assertEqual(box.call('start', STEADY)[0], 0)
            out = multiprocessing.Queue()
            all = [multiprocessing.Process(target=worker, args=(seed + i, box.command, bundle, out)) for i in range(16)]
            for p in all:
                p.start()
            results = [out.get(timeout=600) for _ in all]
            for p in all:
                p.join()
            self.assertEqual([w for wrong in results for w in wrong], [])
            # Whatever state the ids were left in, each can be taken away and lives a whole life again.
            for id in IDS:
                self.assertEqual(box.call('delete', '--force', id)[0], 0)
                self.assertEqual(box.create(bundle, id), 0)
                for verb in (['start', id], ['exec', id, '/bin/true'], ['kill', id, 'KILL']):
                    code, _, err = box.call(*verb)
                    self.assertEqual(code, 0, '%s: %s' % (verb, err))
            for id in IDS + [STEADY]:
                code, _, err = box.call('delete', '--force', id)
                self.assertEqual(code, 0, err)
            self.assertEqual([n for n in os.listdir(box.state) if n != '.ids'], [])
            self.assertEqual(os.listdir(os.path.join(box.state, '.ids')), [])
            def groups():
                return [d for _, dirs, _ in os.walk('/sys/fs/cgroup') for d in dirs if 'rt-caisson-%d-' % os.getpid() in d]
            wait_until(lambda: not groups(), 'the cgroups to go')


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL and SIGSTOP of every program of a container at points of every verb: the command ends, the state tells the truth, and
`delete --force` takes everything away, each within five seconds (the usual form, which shares the machine, gives them more).

A point is a number of host calls that the command has made: it is stopped there, the victim gets its signal, and the command goes on.
CAISSON_KILL_POINTS=N makes the long form: N points for every verb, signal and victim (10 take ten minutes); the usual form takes the
same few of two verbs every time, or those of CAISSON_SEED."""
import json, os, random, signal, subprocess, sys, time, unittest

import alone
from lab import Box, config, wait_until

POINTS = int(os.environ.get('CAISSON_KILL_POINTS', '0'))
LIMIT = 5.0 if POINTS else 30.0
SAMPLE = 14
VERBS = ('create', 'start', 'run', 'exec', 'delete', 'delete --force')
VICTIMS = ('cli', 'sentry', 'gofer', 'zygote', 'stub')
SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
WAIT = ['/bin/sh', '-c', 'while :; do sleep 1000; done']


def pids_of(kind):
    """Pids of the only container's programs, oldest first: the zygote is the first of its name, the others are its stubs."""
    program = 'caisson-zygote' if kind == 'stub' else 'caisson-' + kind
    found = sorted(pid for pid, (name, _) in alone.processes().items() if name == program)
    return found[:1] if kind == 'zygote' else found[1:] if kind == 'stub' else found


class Matrix(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson')
        self.number = 0
        self.wrong, self.hit, self.slowest = [], {}, {}
        os.makedirs(self.box.state + '/.ids', exist_ok=True)
        self.bundle = self.box.bundle(config(WAIT))

    def tearDown(self):
        self.box.__exit__()

    def name(self):
        self.number += 1
        return '%s-%d' % (os.environ[alone.MARK], self.number)

    def command(self, verb, id):
        words = verb.split() + (['--bundle', self.bundle] if verb in ('create', 'run') else [])
        return self.box.command + words + [id] + (WAIT if verb == 'exec' else [])

    def prepare(self, verb, id):
        if verb in ('create', 'run'):
            return
        self.assertEqual(self.box.create(self.bundle, id), 0)
        if verb == 'start':
            return
        self.assertEqual(self.box.call('start', id)[0], 0)
        if verb == 'delete':
            self.assertEqual(self.box.call('kill', id, 'KILL')[0], 0)

    def calls_of(self, verb):
        """For each victim the points between which it is there: how many stops the command has until it ends, or waits for its
        program."""
        id = self.name()
        self.prepare(verb, id)
        p = alone.Stepped(self.command(verb, id))
        first = {}
        while not p.blocked and p.code is None:
            for v in VICTIMS:
                if v == 'cli' or v not in first and pids_of(v):
                    first.setdefault(v, p.calls)
            p.run_to(p.calls + 10, idle=1)
        p.let_go(signal.SIGCONT)
        self.box.call('delete', '--force', id)
        self.assertIsNotNone(p.ended(LIMIT))
        return {v: (n, p.calls) for v, n in first.items()}

    def verb(self, *args):
        """A verb that must end in time: (exit code, output, errors)."""
        with open(self.box.top + '/verb', 'w+') as out, open(self.box.top + '/error', 'w+') as err:
            p = subprocess.Popen(self.box.command + list(args), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            done, took = alone.wait_fair(lambda: p.poll() is not None, 2 * LIMIT)
            if not done:
                p.kill()
                p.wait()
            self.slowest[args[0]] = max(self.slowest.get(args[0], 0), took)
            self.expect(took < LIMIT, ' '.join(args), 'took %.1f s' % took)
            out.seek(0)
            err.seek(0)
            return p.returncode, out.read(), err.read()

    def expect(self, condition, *words):
        if not condition:
            self.wrong.append('%s: %s' % (self.what, ' '.join(str(w) for w in words)))

    def status(self, id):
        code, out, err = self.verb('state', id)
        self.expect(code == 0 or 'does not exist' in err or 'only being made' in err, 'state:', err)
        return json.loads(out)['status'] if code == 0 else None

    def case(self, verb, victim, signo, point):
        id = self.name()
        self.what = '%s of %s at call %d of %s (%s)' % (signal.Signals(signo).name, victim, point, verb, id)
        self.prepare(verb, id)
        victims = None if victim == 'cli' else pids_of(victim)
        p = alone.Stepped(self.command(verb, id))
        if not p.run_to(point):
            victim = 'nobody'
        if victim == 'cli':
            p.let_go(signo)
        elif victim != 'nobody':
            victims = pids_of(victim)
            p.let_go(signal.SIGSTOP)
            victims = pids_of(victim)
            # A stub: the one of the exec, if it has one, else that of the container's program.
            target = victims[-1 if verb == 'exec' else 0] if victims else None
            if target:
                os.kill(target, signo)
                self.hit[verb, victim, signo] = self.hit.get((verb, victim, signo), 0) + 1
            p.signal(signal.SIGCONT)
        if victim == 'cli' and signo == signal.SIGKILL:
            self.expect(p.ended(LIMIT) == -9, 'the command outlived its death')
        waits = verb in ('run', 'exec')
        if victim not in ('cli', 'nobody') and not waits:
            self.expect(p.ended(LIMIT) is not None, 'the command hangs')
        self.status(id)
        if signo == signal.SIGKILL and victim in ('sentry', 'gofer', 'zygote') and target:
            # Its end may need a moment to be seen, as that of any process does.
            over, _ = alone.wait_fair(lambda: self.status(id) in (None, 'stopped'), LIMIT)
            self.expect(over, 'it is', self.status(id))
            self.expect(p.ended(LIMIT) is not None, 'the command hangs though all is over')
        self.expect(self.verb('list')[0] == 0, 'list fails')
        code, _, err = self.verb('delete', '--force', id)
        self.expect(code == 0, 'delete --force:', err)
        p.signal(signal.SIGCONT)
        if victim == 'cli' and waits and p.ended(0.5) is None:
            self.verb('delete', '--force', id)  # it had been stopped before it made it
        if p.ended(LIMIT) is None:
            self.expect(False, 'the command outlives its container; state', alone.processes())
            p.signal(signal.SIGKILL)
            p.ended(LIMIT)
        code, _, err = self.verb('delete', '--force', id)  # a command that had been stopped early may have made it after that
        self.expect(code == 0, 'delete --force, the second:', err)
        alone.wait_fair(lambda: not alone.more(self.before, alone.count(self.box.state)), LIMIT)
        left = alone.more(self.before, alone.count(self.box.state))
        self.expect(not left, 'left:', left)
        if left:
            for pid in alone.processes():
                os.kill(pid, signal.SIGKILL)
            self.before = alone.count(self.box.state)

    def text(self, path):
        with open(path) as f:
            return f.read()

    def busiest(self):
        """The stub that has used most of the processor in a while."""
        def used():
            out = {}
            for pid in pids_of('stub'):
                with open('/proc/%d/stat' % pid) as f:
                    fields = f.read().rpartition(')')[2].split()
                out[pid] = int(fields[11]) + int(fields[12])
            return out
        before, end = used(), time.monotonic() + 30
        while time.monotonic() < end:
            time.sleep(0.05)
            now = used()
            growth = {pid: n - before.get(pid, 0) for pid, n in now.items()}
            if growth and max(growth.values()) >= 10:
                return max(growth, key=growth.get)
        raise AssertionError('no stub works')

    def test_a_killed_stub_is_one_killed_program(self):
        busy = 'while :; do :; done'
        log = os.path.join(self.box.top, 'out')
        id = self.name()
        bundle = self.box.bundle(config(['/bin/sh', '-c', '(%s) & wait $!; echo code $?; exec sleep 1000' % busy]))
        with open(log, 'w') as out:
            subprocess.run(self.box.command + ['run', '-d', '--bundle', bundle, id], stdin=subprocess.DEVNULL, stdout=out, check=True)
        os.kill(self.busiest(), signal.SIGKILL)
        wait_until(lambda: self.text(log) == 'code 137\n', 'the shell to see its child killed')
        p = subprocess.Popen(self.box.command + ['exec', id, '/bin/sh', '-c', busy], stderr=subprocess.DEVNULL)
        os.kill(self.busiest(), signal.SIGKILL)
        self.assertEqual(p.wait(LIMIT), 137)
        self.assertEqual(self.box.status(id), 'running')
        self.assertEqual(self.box.call('exec', id, '/bin/echo', 'alive'), (0, 'alive\n', ''))
        self.box.call('delete', '--force', id)
        p = subprocess.Popen(self.box.command + ['run', '--bundle', self.box.bundle(config(['/bin/sh', '-c', busy])), self.name()])
        os.kill(self.busiest(), signal.SIGKILL)
        self.assertEqual(p.wait(LIMIT), 137)

    def test_matrix(self):
        self.what = 'a quiet run'
        seed = int(os.environ.get('CAISSON_SEED', str(time.time_ns() & 0xffffff) if POINTS else '3'))
        r = random.Random(seed)
        verbs = VERBS if POINTS else r.sample(VERBS, 2)
        steps = {v: self.calls_of(v) for v in verbs}
        self.before = alone.count(self.box.state)
        print('seed', seed, 'calls', {v: s['cli'][1] for v, s in steps.items()}, file=sys.stderr)
        cases = []
        for verb in verbs:
            for victim in VICTIMS:
                for signo in SIGNALS:
                    n = POINTS or 2
                    first, last = steps[verb].get(victim, (0, 0))
                    for i in range(n if last else 0):
                        cases.append((verb, victim, signo, 1 + first + int((last - first) * (i + r.random()) / n)))
        if not POINTS:
            cases = r.sample(cases, SAMPLE)
        only = os.environ.get('CAISSON_KILL_ONLY', '')
        for c in cases:
            if only in '%s,%s,%s' % (c[0], c[1], c[2].name):
                self.case(*c)
        print('hit', len(cases), 'cases; slowest', {k: round(v, 2) for k, v in self.slowest.items()}, file=sys.stderr)
        if POINTS:
            print('\n'.join('%s %s %s: %d' % (v, w, s.name, n) for (v, w, s), n in sorted(self.hit.items())), file=sys.stderr)
        self.assertEqual(self.wrong, [], '\n'.join(self.wrong))


if __name__ == '__main__':
    alone.enter()
    unittest.main()

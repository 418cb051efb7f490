#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the runtime specification about a container's life (runtime.md), one by one, under runc and under Caisson."""
import json, os, resource, subprocess, unittest

from lab import Box, config, wait_until

KINDS = ('prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop')
SLEEPS = ['/bin/sleep', '1000']


def script(text, **more):
    return {'path': '/bin/sh', 'args': ['sh', '-c', text], 'env': ['PATH=/usr/bin:/bin'], **more}


class Life:
    runtime = ''

    def setUp(self):
        self.box = Box(self.runtime)
        self.addCleanup(self.box.__exit__)

    def made(self, c=None):
        """A container that is created; its id."""
        id = self.box.name()
        self.assertEqual(self.box.create(self.box.bundle(c or config(SLEEPS)), id), 0)
        return id

    def fails(self, *args):
        code, out, err = self.box.call(*args)
        self.assertNotEqual(code, 0, (args, out))
        self.assertNotEqual(err, '', args)

    def stop(self, id):
        self.assertEqual(self.box.call('kill', id, 'KILL')[0], 0)
        wait_until(lambda: self.box.status(id) == 'stopped', 'the end of the container')

    def text(self, name):
        try:
            with open(os.path.join(self.box.top, name)) as f:
                return f.read()
        except FileNotFoundError:
            return ''

    # State
    def test_the_state_has_what_it_must_have(self):
        c = config(SLEEPS, annotations={'a.b': 'c'})
        bundle, id = self.box.bundle(c), self.box.name()
        # A relative path of the bundle is told as an absolute one.
        self.assertEqual(self.box.create(os.path.relpath(bundle), id), 0)
        for verb, status in ((None, 'created'), ('start', 'running')):
            if verb:
                self.assertEqual(self.box.call(verb, id), (0, '', ''))
            s = json.loads(self.box.call('state', id)[1])
            self.assertEqual((s['id'], s['status'], s['bundle'], s['annotations']), (id, status, bundle, {'a.b': 'c'}))
            self.assertRegex(s['ociVersion'], r'^1\.\d+\.\d+')
            os.kill(s['pid'], 0)  # is somebody's
        self.stop(id)
        s = json.loads(self.box.call('state', id)[1])
        self.assertEqual((s['id'], s['status'], s['pid'], s['bundle']), (id, 'stopped', 0, bundle))

    def test_a_state_needs_an_id_of_a_container(self):
        self.fails('state')
        self.fails('state', 'nobody')

    # Create
    def test_create_needs_a_bundle_and_an_id_that_is_free(self):
        self.fails('create')
        self.fails('create', '--bundle', self.box.top + '/none', 'x')
        id = self.made()
        before = self.box.call('state', id)[1]
        self.fails('create', '--bundle', self.box.bundle(config(['/bin/true'])), id)
        self.assertEqual(self.box.call('state', id)[1], before)
        self.assertEqual(self.box.call('start', id)[0], 0)
        self.fails('create', '--bundle', self.box.bundle(config(['/bin/true'])), id)
        self.stop(id)
        self.fails('create', '--bundle', self.box.bundle(config(['/bin/true'])), id)

    def test_what_cannot_be_made_is_an_error_and_leaves_nothing(self):
        for c in (config(['/bin/true'], root={'path': '/no/such'}), config(['/no/such']), config(['/bin/true'], mounts=[
                {'destination': '/x', 'type': 'bind', 'source': '/no/such', 'options': ['bind']}])):
            id = self.box.name()
            self.assertEqual(self.box.create(self.box.bundle(c), id), 1)
            self.assertIsNone(self.box.status(id))
        self.assertEqual(self.box.call('list', '-q')[1], '')

    def test_the_program_waits_for_start_and_the_config_is_read_once(self):
        volume = os.path.join(self.box.top, 'v')
        os.mkdir(volume)
        c = config(['/bin/sh', '-c', 'echo ran > /tmp/v/ran; sleep 1000'])
        c['mounts'].append({'destination': '/tmp/v', 'type': 'bind', 'source': volume, 'options': ['rbind']})
        bundle, id = self.box.bundle(c), self.box.name()
        self.assertEqual(self.box.create(bundle, id), 0)
        self.assertEqual(os.listdir(volume), [])
        with open(bundle + '/config.json', 'w') as f:
            f.write('{}')
        self.assertEqual(self.box.call('start', id)[0], 0)
        wait_until(lambda: self.text('v/ran') == 'ran\n', 'the program')
        if self.runtime != 'runc':  # whose exec reads the bundle's config again
            self.assertEqual(self.box.call('exec', id, '/bin/cat', '/tmp/v/ran')[1], 'ran\n')
        self.stop(id)
        self.assertEqual(self.box.call('delete', id), (0, '', ''))
        # What is not the container's own stays.
        self.assertEqual(os.listdir(volume), ['ran'])
        self.assertTrue(os.path.exists(bundle + '/config.json'))

    # Start
    def test_start_is_for_what_is_created_alone(self):
        self.fails('start')
        self.fails('start', 'nobody')
        id = self.made()
        self.assertEqual(self.box.call('start', id), (0, '', ''))
        pid = self.box.pid(id)
        self.fails('start', id)
        self.assertEqual((self.box.status(id), self.box.pid(id)), ('running', pid))
        self.stop(id)
        self.fails('start', id)
        self.assertEqual(self.box.status(id), 'stopped')

    # Kill
    def test_kill_is_for_what_is_created_or_runs(self):
        self.fails('kill')
        self.fails('kill', 'nobody', 'KILL')
        id = self.made()
        self.stop(id)
        for signal in ('KILL', 'TERM'):
            self.fails('kill', id, signal)
        self.assertEqual(self.box.status(id), 'stopped')
        id = self.box.start(config(['/bin/sh', '-c', 'trap "echo heard; exit 0" USR1; echo ready; while :; do sleep 0.1; done']))
        wait_until(lambda: 'ready' in self.box.output(id), 'the trap')
        self.fails('kill', id, 'NONSENSE')
        self.assertEqual(self.box.call('kill', id, 'USR1'), (0, '', ''))
        wait_until(lambda: self.box.status(id) == 'stopped', 'the end of the container')
        self.assertEqual(self.box.output(id), 'ready\nheard\n')

    # Delete
    def test_delete_is_for_what_does_not_run(self):
        self.fails('delete')
        self.fails('delete', 'nobody')
        id = self.box.start(config(SLEEPS))
        self.fails('delete', id)
        self.assertEqual(self.box.status(id), 'running')
        self.stop(id)
        self.assertEqual(self.box.call('delete', id), (0, '', ''))
        self.fails('state', id)
        self.fails('delete', id)
        # The id is free.
        self.assertEqual(self.box.create(self.box.bundle(config(SLEEPS)), id), 0)
        self.assertEqual(self.box.call('delete', '--force', id), (0, '', ''))

    # Hooks
    def test_each_kind_runs_in_its_order_with_the_state(self):
        log = self.box.top + '/log'
        told = 'read -r line; state=$line$(cat)' if self.runtime == 'runc' else 'state=$(cat)'
        c = config(['/bin/true'])
        c['hooks'] = {k: [script('%s; echo "%s %d $(echo "$state" | tr -d "\\n ")" >> %s' % (told, k, i, log)) for i in (1, 2)]
                      for k in KINDS if k != 'startContainer'}
        bundle, id = self.box.bundle(c), self.box.name()
        code, _, err = self.box.call('run', '--bundle', bundle, id)
        self.assertEqual(code, 0, err)
        lines = [line.split(' ', 2) for line in self.text('log').splitlines()]
        self.assertEqual([(k, n) for k, n, _ in lines], [(k, n) for k in KINDS if k != 'startContainer' for n in '12'])
        for kind, _, state in lines:
            s = json.loads(state)
            self.assertEqual((s['id'], s['bundle']), (id, bundle))
            self.assertRegex(s['ociVersion'], r'^1\.')
            if kind != 'poststart':  # runc says created, although the program runs
                self.assertEqual(s['status'], 'stopped' if kind == 'poststop' else 'creating', kind)
            elif self.runtime != 'runc':
                self.assertEqual(s['status'], 'running')
            if kind != 'poststop':
                self.assertGreater(s['pid'], 0)

    def test_a_hook_that_fails_ends_the_container_and_says_why(self):
        for kind in KINDS[:-1]:
            with self.subTest(kind):
                c = config(SLEEPS)
                second = self.box.top + '/second'
                c['hooks'] = {kind: [script('echo output; echo no such luck >&2; exit 7'), script('echo > ' + second)],
                              'poststop': [script('cat > /dev/null; echo poststop >> %s/log' % self.box.top)]}
                id = self.box.name()
                code, _, err = self.box.call('run', '--bundle', self.box.bundle(c), id)
                self.assertEqual(code, 1, err)
                self.assertIn('no such luck', err)
                self.assertRegex(err, r'(exit status|exit code) 7')
                if kind != 'startContainer':  # which writes inside
                    self.assertFalse(os.path.exists(second))
                self.assertIsNone(self.box.status(id))
                self.assertEqual(self.text('log'), 'poststop\n')
                os.unlink(self.box.top + '/log')

    def test_a_hook_that_fails_after_the_end_is_only_told(self):
        c = config(['/bin/true'])
        c['hooks'] = {'poststop': [script('echo too late >&2; exit 1')]}
        id = self.box.name()
        code, _, err = self.box.call('run', '--bundle', self.box.bundle(c), id)
        self.assertEqual(code, 0, err)
        self.assertIn('too late', err)
        self.assertIsNone(self.box.status(id))

    def test_a_hook_has_its_timeout(self):
        for kind in ('prestart', 'createRuntime', 'createContainer', 'poststart'):
            with self.subTest(kind):
                c = config(SLEEPS)
                c['hooks'] = {kind: [script('echo $$ > %s/pid; exec sleep 1000' % self.box.top, timeout=1)]}
                id = self.box.name()
                code, _, err = self.box.call('run', '--bundle', self.box.bundle(c), id)
                self.assertEqual(code, 1)
                self.assertIn('timeout', err)
                self.assertIsNone(self.box.status(id))
                if (self.runtime, kind) != ('runc', 'createContainer'):  # which has another number inside
                    self.assertFalse(os.path.exists('/proc/%s/comm' % self.text('pid').strip()))

    def test_what_a_hook_leaves_behind_holds_nobody_up(self):
        c = config(['/bin/true'])
        c['hooks'] = {'createRuntime': [script('sleep 1000 & echo $! > %s/pid' % self.box.top, timeout=100)]}
        if self.runtime == 'runc':
            self.skipTest('runc waits for the last who holds the output of a hook')
        self.addCleanup(lambda: os.kill(int(self.text('pid')), 9))
        self.assertEqual(self.box.run(c), (0, '', ''))


class LifeWithRunc(Life, unittest.TestCase):
    runtime = 'runc'


class LifeWithCaisson(Life, unittest.TestCase):
    runtime = 'caisson'

    def test_a_hook_that_talks_without_end_fills_nothing(self):
        """More than a file of this command may be long; of all of it the end is told."""
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, resource.RLIM_INFINITY))
        for kind in ('prestart', 'startContainer', 'poststart'):
            for to, code in (('1', 0), ('2', 7)):
                with self.subTest(kind, to=to):
                    c = config(['/bin/true'])
                    c['hooks'] = {kind: [script('yes "what it says" | head -c 40000000 >&%s; echo the end >&%s; exit %d' % (to, to, code))]}
                    got = self.box.call('run', '--bundle', self.box.bundle(c), self.box.name(), preexec_fn=limit)
                    self.assertEqual(got[:2], (1 if code else 0, ''), got[2])
                    self.assertEqual(got[2].endswith('the end\n'), bool(code), got[2])
                    self.assertLess(len(got[2]), 2000)

    def test_a_hook_cannot_change_its_state_for_the_next(self):
        c = config(['/bin/true'])
        c['hooks'] = {'createRuntime': [script('echo x 2>&1 >&0; test $? != 0')]}
        self.assertEqual(self.box.run(c), (0, '', ''))

    def test_the_name_of_the_host_may_be_as_long_as_a_name_can(self):
        c = config(['/bin/hostname'])
        del c['hostname']
        name = 'n' * 64
        p = subprocess.run(['unshare', '--uts', '/bin/sh', '-c', 'hostname %s && exec "$@"' % name, 'sh', *self.box.command, 'run', '--bundle', self.box.bundle(c),
                            self.box.name()], capture_output=True, text=True, timeout=60)
        self.assertEqual((p.returncode, p.stdout), (0, name + '\n'), p.stderr)

    def test_all_hooks_after_the_end_run(self):
        c = config(['/bin/true'])
        c['hooks'] = {'poststop': [{'path': '/bin/false'}, script('echo > %s/second' % self.box.top)]}
        code, _, err = self.box.run(c)
        self.assertEqual((code, len(err.splitlines())), (0, 1), err)
        self.assertTrue(os.path.exists(self.box.top + '/second'))


if __name__ == '__main__':
    unittest.main()

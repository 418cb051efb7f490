#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The configuration file as `caisson` reads it: what it says is done, flags and allowed annotations come first, mistakes are told."""
import os, stat, unittest

from lab import Box, config

READ_ONLY = {'path': os.environ.get('CAISSON_ROOTFS', ''), 'readonly': True}


class Config(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson')
        self.addCleanup(self.box.__exit__)
        self.file = os.path.join(self.box.top, 'config.toml')

    def write(self, text, mode=0o644):
        with open(self.file, 'w') as f:
            f.write(text)
        os.chmod(self.file, mode)

    def run_it(self, *args, flags=(), **changes):
        return self.box.run(config(list(args), **changes), flags=['--config', self.file, *flags])

    def test_limits_are_for_containers_that_have_none(self):
        self.write('[limits]\npids = 7\nmemory = "96m"\n')
        show = ('/bin/sh', '-c', 'grep MemTotal /proc/meminfo')
        self.assertEqual(self.run_it(*show)[1].split()[1], str(96 << 10))
        own = {'namespaces': [{'type': t} for t in ('pid', 'ipc', 'uts', 'mount', 'network')], 'resources': {'memory': {'limit': 200 << 20}}}
        self.assertEqual(self.run_it(*show, linux=own)[1].split()[1], str(200 << 10))
        code, _, err = self.run_it('/bin/sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all; kill $(jobs -p)')
        self.assertNotEqual(code, 0)
        self.assertIn('ork', err)  # "Cannot fork", in some shell's words

    def test_strace_and_log_with_the_container_in_its_name(self):
        self.write('[sandbox]\nstrace = true\ndebug_log = "%s/%%ID%%.log"\n' % self.box.top)
        id = self.box.name()
        bundle = self.box.bundle(config(['/bin/true']))
        self.assertEqual(self.box.call('run', '-b', bundle, id, flags=['--config', self.file])[0], 0)
        with open(os.path.join(self.box.top, id + '.log')) as f:
            self.assertIn('exit_group(', f.read())

    def overlay_of(self, changes, *flags):
        """Whether a write to the root went through to it."""
        root = os.path.join(self.box.top, 'root')
        if not os.path.exists(root):
            os.makedirs(root + '/bin')
            os.makedirs(root + '/proc')
            with open('/bin/busybox', 'rb') as f, open(root + '/bin/busybox', 'wb') as out:
                out.write(f.read())
            os.chmod(root + '/bin/busybox', 0o755)
        c = config(['/bin/busybox', 'touch', '/mark'], root={'path': root, 'readonly': False}, mounts=[], **changes)
        c['process']['capabilities']['effective'] = []
        os.chmod(root, 0o777)
        code, _, err = self.box.run(c, flags=['--config', self.file, *flags])
        self.assertEqual(code, 0, err)
        there = os.path.exists(root + '/mark')
        if there:
            os.unlink(root + '/mark')
        return 'none' if there else 'self'

    def test_flags_then_annotations_then_the_file(self):
        self.write('[sandbox]\noverlay = "none"\n[annotations]\nallow = ["dev.caisson.overlay"]\n')
        asked = {'annotations': {'dev.caisson.overlay': 'self'}}
        self.assertEqual(self.overlay_of({}), 'none')
        self.assertEqual(self.overlay_of({}, '--overlay=self'), 'self')
        self.assertEqual(self.overlay_of(asked), 'self')
        self.assertEqual(self.overlay_of(asked, '--overlay=none'), 'none')
        self.assertEqual(self.overlay_of({'annotations': {'dev.caisson.overlay': 'auto'}}), 'self')

    def refused(self, *words, **changes):
        code, out, err = self.run_it('/bin/true', **changes)
        self.assertEqual((code, out), (1, ''), err)
        for w in words:
            self.assertIn(w, err)
        self.assertEqual([n for n in os.listdir(self.box.state) if not n.startswith('.')] if os.path.isdir(self.box.state) else [], [])

    def test_mistakes_are_told_and_nothing_runs(self):
        self.write('[sandbox]\nnetwrk = "none"\n')
        self.refused(self.file + ':2', 'network?')
        self.write('', 0o666)
        self.refused('0666', 'chmod')
        os.unlink(self.file)
        self.refused(self.file, 'No such file')
        self.write('')
        self.refused('dev.caisson.network', 'is not allowed', annotations={'dev.caisson.network': 'none'})
        self.refused('did you mean dev.caisson.network?', annotations={'dev.caisson.netwrok': 'none'})
        self.write('[annotations]\nallow = ["dev.caisson.*"]\n')
        self.refused("'some'", annotations={'dev.caisson.network': 'some'})
        self.refused('dev.caisson.debug-log', annotations={'dev.caisson.debug-log': '/etc/passwd'})

    def test_a_broken_file_does_not_keep_a_container_from_being_removed(self):
        self.write('')
        id = self.box.start(config(['/bin/sleep', '1000']))
        self.write('nonsense')
        self.assertEqual(self.box.call('state', id, flags=['--config', self.file])[0], 0)
        code, _, err = self.box.call('delete', '--force', id, flags=['--config', self.file])
        self.assertEqual(code, 0, err)
        # Without --root nobody knows where to look.
        self.box.command = self.box.command[:1]
        code, _, err = self.box.call('list', flags=['--config', self.file])
        self.assertEqual(code, 1)
        self.assertIn(self.file, err)

    def test_the_file_names_the_place_of_the_state(self):
        top = os.path.join(self.box.top, 'elsewhere')
        self.write('root = "%s"\n' % top)
        root_flag = self.box.command
        self.box.command = self.box.command[:1]
        bundle = self.box.bundle(config(['/bin/true']))
        flags = ['--config', self.file]
        self.assertEqual(self.box.call('run', '--keep', '-b', bundle, 'x', flags=flags)[0], 0)
        self.assertIn('x', os.listdir(top))
        self.assertEqual(self.box.call('list', '-q', flags=flags)[1], 'x\n')
        code, _, err = self.box.call('delete', 'x', flags=flags)
        self.assertEqual(code, 0, err)
        self.box.command = root_flag

    def test_do_discards_what_it_writes_whatever_the_file_says(self):
        self.write('[sandbox]\noverlay = "none"\n')
        mark = os.path.join(self.box.top, 'mark')
        code, _, err = self.box.call('do', '/bin/sh', '-c', 'echo x > ' + mark, flags=['--config', self.file])
        self.assertEqual(code, 0, err)
        self.assertFalse(os.path.exists(mark))


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where writes to the root go: through for engines that keep and show it, to a layer for others (docs/decisions/0005)."""
import os, time, unittest

import lab
from engines import make_root_tar, need
from lab import Box, config, wait_until

SCRIPT = 'cat /data/file; ls /data/new; echo made > /data/made; rm /bin/dd; echo ready; while :; do sleep 0.1; done'


class RootWrites(unittest.TestCase):
    def setUp(self):
        need()
        lab.ROOTFS = lab.ROOTFS or '/'  # ours is made here
        self.box = Box('caisson')
        self.addCleanup(self.box.__exit__)
        make_root_tar(self.box.top)
        self.root = os.path.join(self.box.top, 'image')

    def start(self, *flags, annotations=None):
        c = config(['/bin/sh', '-c', SCRIPT], annotations=annotations or {})
        c['root'] = {'path': self.root, 'readonly': False}
        id = self.box.start(c, *flags)
        wait_until(lambda: 'ready' in self.box.output(id), 'the writes')
        return id

    def given(self, name, text):
        with open(os.path.join(self.root, name), 'w') as f:
            f.write(text)

    def reads(self, id, name):
        return self.box.call('exec', id, '/bin/cat', '/' + name)[1]

    def assert_layer(self):
        self.assertFalse(os.path.exists(self.root + '/data/made'))
        self.assertTrue(os.path.lexists(self.root + '/bin/dd'))

    def assert_through(self):
        self.assertTrue(os.path.exists(self.root + '/data/made'))
        self.assertFalse(os.path.lexists(self.root + '/bin/dd'))

    def test_a_layer_for_whoever_says_nothing(self):
        self.start()
        self.assert_layer()

    def test_annotations_and_flags(self):
        self.start(annotations={'caisson.overlay': 'self', 'io.container.manager': 'libpod'})
        self.assert_layer()
        self.start('--overlay', 'self', annotations={'caisson.overlay': 'none'})
        self.assert_layer()
        self.start(annotations={'caisson.overlay': 'none'})
        self.assert_through()
        c = config(['/bin/true'], annotations={'caisson.overlay': 'both'})
        code, _, err = self.box.run(c)
        self.assertEqual(code, 1)
        self.assertIn('caisson.overlay', err)

    def test_podman_changes_the_root_of_a_paused_container(self):
        id = self.start(annotations={'io.container.manager': 'libpod'})
        self.assert_through()
        self.assertEqual(self.reads(id, 'data/new'), '')
        self.assertEqual(self.box.call('pause', id)[0], 0)
        self.given('data/new', 'new\n')
        self.given('data/file', 'other\n')
        self.assertEqual(self.box.call('resume', id)[0], 0)
        self.assertEqual(self.reads(id, 'data/new'), 'new\n')
        self.assertEqual(self.reads(id, 'data/file'), 'other\n')

    def test_nerdctl(self):
        self.start(annotations={'nerdctl/name': 'x', 'a': 'b'})
        self.assert_through()

    def test_docker_changes_the_root_at_any_time(self):
        self.box.state = os.path.join(self.box.top, 'runtime-caisson', 'moby')
        self.box.command[self.box.command.index('--root') + 1] = self.box.state
        id = self.start()
        self.assert_through()
        self.given('data/new', 'new\n')
        self.given('data/file', 'other\n')
        wait_until(lambda: (self.reads(id, 'data/new'), self.reads(id, 'data/file')) == ('new\n', 'other\n'), 'what was copied in', 5)


if __name__ == '__main__':
    unittest.main()

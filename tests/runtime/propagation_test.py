#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mounts that the host makes and takes away below a bind mount while a container runs, under runc and under Caisson."""
import os, subprocess, unittest

import alone
from lab import Box, config, wait_until

SLEEPS = ['/bin/sleep', '1000']


def sh(*command):
    subprocess.run(command, check=True)


class Propagation:
    runtime = ''

    def setUp(self):
        self.box = Box(self.runtime)
        self.source = self.box.top + '/source'
        os.mkdir(self.source)
        sh('mount', '-t', 'tmpfs', 'tmpfs', self.source)
        self.addCleanup(self.box.__exit__)
        self.addCleanup(subprocess.run, ['umount', '-R', self.source])
        sh('mount', '--make-shared', self.source)
        os.mkdir(self.source + '/sub')

    def start(self, *options):
        c = config(SLEEPS)
        c['mounts'].append({'destination': '/mnt', 'type': 'bind', 'source': self.source, 'options': ['rbind', *options]})
        id = '%s-%s' % (os.environ[alone.MARK], self.box.name())
        self.assertEqual(self.box.create(self.box.bundle(c), id), 0)
        self.assertEqual(self.box.call('start', id)[0], 0)
        return id

    def inside(self, id, script):
        code, out, err = self.box.call('exec', id, '/bin/sh', '-c', script)
        self.assertEqual((code, err), (0, ''), script)
        return out

    def mount(self, text):
        sh('mount', '-t', 'tmpfs', 'tmpfs', self.source + '/sub')
        with open(self.source + '/sub/f', 'w') as f:
            f.write(text)

    def unmount(self):
        # What a program had open is closed a moment after its end.
        wait_until(lambda: subprocess.run(['umount', self.source + '/sub'], stderr=subprocess.DEVNULL).returncode == 0, 'nobody to hold it')

    def test_a_slave_sees_what_comes_and_goes(self):
        for options in (['rslave'], ['slave'], ['rslave', 'ro'], []):
            with self.subTest(options):
                id = self.start(*options)
                self.assertEqual(self.inside(id, 'ls /mnt/sub'), '')
                for text in ('one\n', 'two\n'):
                    self.mount(text)
                    self.assertEqual(self.inside(id, 'cat /mnt/sub/f'), text)
                    self.assertEqual(self.inside(id, 'cd /mnt/sub; ls -a; stat -c %s f'), '.\n..\nf\n4\n')
                    # What programs have looked at and left does not hold it.
                    self.unmount()
                    self.assertEqual(self.inside(id, 'ls /mnt/sub'), '')
                self.box.call('delete', '--force', id)

    def test_what_is_private_sees_none_of_it(self):
        for options in (['rprivate'], ['rslave', 'rprivate'], ['rprivate', 'rslave'], ['unbindable']):
            with self.subTest(options):
                id = self.start(*options)
                self.mount('one\n')
                self.assertEqual(self.inside(id, 'ls /mnt/sub'), '')
                self.unmount()
                self.box.call('delete', '--force', id)

    def test_nothing_of_the_container_reaches_the_host(self):
        with open('/proc/self/mountinfo') as f:
            before = f.read()
        id = self.start('rslave')
        with open('/proc/self/mountinfo') as f:
            self.assertEqual(f.read(), before)
        self.box.call('delete', '--force', id)


class PropagationWithRunc(Propagation, unittest.TestCase):
    runtime = 'runc'


class PropagationWithCaisson(Propagation, unittest.TestCase):
    runtime = 'caisson'

    def test_what_comes_below_a_read_only_mount_is_read_only(self):
        id = self.start('rslave', 'ro')
        self.mount('one\n')
        self.assertEqual(self.inside(id, 'touch /mnt/sub/g 2>/dev/null; echo $?; echo x 2>/dev/null > /mnt/sub/f || echo no; cat /mnt/sub/f'), '1\nno\none\n')
        self.assertEqual(os.listdir(self.source + '/sub'), ['f'])


if __name__ == '__main__':
    alone.enter()
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mounts that the host makes and takes away below a bind mount while a container runs, and what mountinfo says of them inside, under runc and under
Caisson."""
import os, re, subprocess, unittest

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


    def fields(self, mount, **linux):
        """The optional fields of the one mount at /mnt, without the numbers of groups."""
        c = config(['/bin/grep', ' /mnt ', '/proc/self/mountinfo'])
        c['mounts'].append({'destination': '/mnt', **mount})
        c['linux'].update(linux)
        code, out, err = self.box.run(c)
        self.assertEqual((code, out.count('\n')), (0, 1), (out, err))
        return re.sub(r':\d+', '', ' '.join(out.split(' - ')[0].split()[6:]))

    def test_mountinfo_tells_of_a_bind_mount(self):
        apart = self.box.top + '/apart'
        os.mkdir(apart)
        sh('mount', '-t', 'tmpfs', 'tmpfs', apart)
        self.addCleanup(subprocess.run, ['umount', apart])
        sh('mount', '--make-private', apart)
        for source, options, wanted in (
                (self.source, [], 'master'), (self.source, ['slave'], 'master'), (self.source, ['rslave'], 'master'), (self.source, ['private'], ''),
                (self.source, ['rprivate'], ''), (self.source, ['unbindable'], 'unbindable'), (self.source, ['rslave', 'rprivate'], ''),
                (self.source, ['shared', 'rslave'], 'master'), (self.source, ['unbindable', 'slave'], 'unbindable'),
                (apart, [], ''), (apart, ['rslave'], ''), (apart, ['runbindable'], 'unbindable')):
            with self.subTest(shared=source == self.source, options=options):
                self.assertEqual(self.fields({'type': 'bind', 'source': source, 'options': ['rbind', *options]}), wanted)

    def test_mountinfo_tells_of_a_mount_of_its_own(self):
        for options, wanted in (([], ''), (['shared'], 'shared'), (['rshared'], 'shared'), (['slave'], ''), (['private'], ''), (['unbindable'], 'unbindable'),
                                (['unbindable', 'shared'], 'shared'), (['shared', 'private'], '')):
            with self.subTest(options):
                self.assertEqual(self.fields({'type': 'tmpfs', 'source': 'tmpfs', 'options': options}), wanted)

    def test_where_the_root_is_private_so_is_all(self):
        mount = {'type': 'bind', 'source': self.source, 'options': ['rbind']}
        self.assertEqual(self.fields(mount, rootfsPropagation='rslave'), 'master')
        self.assertEqual(self.fields(mount, rootfsPropagation='rprivate'), '')
        c = config(SLEEPS)
        c['mounts'].append({'destination': '/mnt', **mount})
        c['linux']['rootfsPropagation'] = 'rprivate'
        id = '%s-%s' % (os.environ[alone.MARK], self.box.name())
        self.assertEqual(self.box.create(self.box.bundle(c), id), 0)
        self.assertEqual(self.box.call('start', id)[0], 0)
        self.mount('one\n')
        self.assertEqual(self.inside(id, 'ls /mnt/sub'), '')
        self.unmount()
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

    def test_the_root_is_what_the_spec_says(self):
        # Debian's runc sets it before there is a root of its own, so it is not compared.
        script = "awk '{ f = \"\"; for (i = 7; $i != \"-\"; i++) f = f \" \" $i; print $5 f }' /proc/self/mountinfo | sed 's/:[0-9]*//g' | grep -e '^/ ' -e '^/$' -e ^/proc"
        for value, wanted in (('shared', '/ shared\n/proc\n'), ('rshared', '/ shared\n/proc shared\n'), ('unbindable', '/ unbindable\n/proc\n'),
                              ('slave', '/\n/proc\n'), ('rprivate', '/\n/proc\n')):
            with self.subTest(value):
                c = config(['/bin/sh', '-c', script])
                c['linux']['rootfsPropagation'] = value
                code, out, err = self.box.run(c)
                self.assertEqual((code, out), (0, wanted), err)
                self.assertEqual('it is shared inside only' in err, 'shared' in value)


if __name__ == '__main__':
    alone.enter()
    unittest.main()

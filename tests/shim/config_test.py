#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The configuration file as the shim reads it: by CAISSON_CONFIG, and by the options of containerd's handler."""
import glob, os, unittest

from daemon import IMAGE, Daemon, read, wait_until


class ShimConfig(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.environ.pop('CAISSON_CONFIG', None)
        cls.daemon = Daemon()
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()

    def file(self, text, name='config.toml'):
        self.daemon.write(name, text)
        return os.path.join(self.daemon.top, name)

    def run_it(self, *command, flags=()):
        type(self).count += 1
        return self.daemon.ctr('run', '--rm', '--runtime', 'io.containerd.caisson.v1', *flags, IMAGE, 'c%d' % self.count, *command)

    def test_options_name_the_file(self):
        path = self.file('[sandbox]\nstrace = true\ndebug_log = "%s/%%ID%%.log"\n[limits]\nmemory = "96m"\n' % self.daemon.top, 'one.toml')
        code, out, err = self.run_it('/bin/grep', 'MemTotal', '/proc/meminfo', flags=['--runtime-config-path', path])
        self.assertEqual((code, out.split()[1:2]), (0, [str(96 << 10)]), err)
        self.assertIn('exit_group(', read('%s/c%d.log' % (self.daemon.top, self.count)))
        code, out, err = self.run_it('/bin/grep', 'MemTotal', '/proc/meminfo')
        self.assertNotEqual(out.split()[1], str(96 << 10))

    def test_a_mistake_is_told_to_containerd(self):
        path = self.file('[sandbox]\nnetwrk = "none"\n', 'bad.toml')
        code, _, err = self.run_it('/bin/true', flags=['--runtime-config-path', path])
        self.assertNotEqual(code, 0)
        self.assertIn(path + ':2', err)
        self.assertIn('did you mean network?', err)
        code, _, err = self.run_it('/bin/true', flags=['--runtime-config-path', self.daemon.top + '/nothing'])
        self.assertNotEqual(code, 0)
        self.assertIn('/nothing', err)

    def test_annotations_that_are_allowed(self):
        path = self.file('[sandbox]\ndebug_log = "%s/%%ID%%.log"\n[annotations]\nallow = ["dev.caisson.strace"]\n' % self.daemon.top, 'two.toml')
        code, _, err = self.run_it('/bin/true', flags=['--runtime-config-path', path, '--annotation', 'dev.caisson.strace=true'])
        self.assertEqual(code, 0, err)
        self.assertIn('exit_group(', read('%s/c%d.log' % (self.daemon.top, self.count)))
        code, _, err = self.run_it('/bin/true', flags=['--runtime-config-path', path, '--annotation', 'dev.caisson.network=none'])
        self.assertNotEqual(code, 0)
        self.assertIn('dev.caisson.network is not allowed', err)
        self.assertIn(path, err)

    def test_the_place_of_the_state_is_found_again_by_delete(self):
        """After kill -9 of the shim containerd has it cleaned up by a program that is told nothing of the options."""
        root = self.daemon.top + '/elsewhere'
        path = self.file('[shim]\nroot = "%s"\n' % root, 'three.toml')
        # The variable comes first, so it must not be there: this test needs a containerd of its own.
        environment = self.daemon.environment
        self.daemon.kill()
        kept = environment.pop('CAISSON_SHIM_ROOT')
        self.daemon.start()
        try:
            code, _, err = self.daemon.ctr('run', '--detach', '--runtime', 'io.containerd.caisson.v1', '--runtime-config-path', path,
                                           IMAGE, 'sleeper', '/bin/sleep', '1000')
            self.assertEqual(code, 0, err)
            self.assertEqual(os.listdir(root + '/default')[-1:] and 'sleeper' in os.listdir(root + '/default'), True)
            for p in glob.glob('/proc/[0-9]*/cmdline'):
                try:
                    words = read(p).split('\0')
                except OSError:
                    continue
                if 'containerd-shim-caisson-v1' in words[0] and self.daemon.top + '/c.sock' in words and 'sleeper' in words:
                    os.kill(int(p.split('/')[2]), 9)
            wait_until(lambda: 'sleeper' not in os.listdir(root + '/default'), 'the state to be removed')
            self.daemon.ctr('tasks', 'rm', '--force', 'sleeper')
            self.daemon.ctr('containers', 'rm', 'sleeper')
        finally:
            self.daemon.kill()
            environment['CAISSON_SHIM_ROOT'] = kept
            self.daemon.start()


if __name__ == '__main__':
    unittest.main()

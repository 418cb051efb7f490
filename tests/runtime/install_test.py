#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""install, uninstall and doctor, on hosts that are directories."""
import glob, json, os, shutil, stat, subprocess, tempfile, unittest

from lab import CAISSON

PROGRAMS = ['caisson', 'caisson-sentry', 'caisson-gofer', 'caisson-zygote', 'containerd-shim-caisson-v1']
CONFIG = '''version = 2   # of the format
# mine
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
'''


class OnADirectory(unittest.TestCase):
    def setUp(self):
        self.host = tempfile.mkdtemp(prefix='caisson-install.')
        self.addCleanup(shutil.rmtree, self.host)
        self.config = os.path.join(self.host, 'etc/containerd/config.toml')
        self.shim = self.host + '/o/containerd-shim-caisson-v1'
        os.mkdir(self.host + '/o')
        open(self.shim, 'w').close()

    def write(self, text, mode=0o640):
        os.makedirs(os.path.dirname(self.config), exist_ok=True)
        with open(self.config, 'w') as f:
            f.write(text)
        os.chmod(self.config, mode)

    def read(self, path=None):
        with open(path or self.config) as f:
            return f.read()

    def call(self, *args, environment=None):
        p = subprocess.run([CAISSON, *args], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                           env=dict(os.environ, **(environment or {})))
        return p.returncode, p.stdout, p.stderr

    def install(self, *args, verb='install'):
        return self.call(verb, '--host', self.host, *args)

    def files(self):
        return {p: (os.stat(p).st_ino, os.stat(p).st_mtime_ns) for p in glob.glob(self.host + '/**', recursive=True) if os.path.isfile(p)}


class Install(OnADirectory):
    def test_in_twice_and_out(self):
        self.write(CONFIG)
        code, out, err = self.install('--copy-to', '/opt/caisson/bin')
        self.assertEqual(code, 0, err)
        self.assertIn('+[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.caisson]', out)
        self.assertTrue(self.read().startswith(CONFIG))
        self.assertIn('runtime_path = "/opt/caisson/bin/containerd-shim-caisson-v1"', self.read())
        self.assertEqual(stat.S_IMODE(os.stat(self.config).st_mode), 0o640)
        self.assertEqual(self.read(self.config + '.before-caisson'), CONFIG)
        for p in PROGRAMS:
            self.assertEqual(stat.S_IMODE(os.stat(self.host + '/opt/caisson/bin/' + p).st_mode), 0o755)
        link = self.host + '/opt/containerd/bin/containerd-shim-caisson-v1'
        self.assertEqual(os.readlink(link), '/opt/caisson/bin/containerd-shim-caisson-v1')
        before = self.files()
        code, out, _ = self.install('--copy-to', '/opt/caisson/bin')
        self.assertEqual(code, 0)
        self.assertNotIn('linked', out)
        self.assertIn('nothing to change', out)
        self.assertNotIn('copied', out)
        self.assertEqual(self.files(), before)
        code, out, err = self.install('--copy-to', '/opt/caisson/bin', verb='uninstall')
        self.assertEqual(code, 0, err)
        self.assertEqual(self.read(), CONFIG)
        self.assertFalse(os.path.exists(self.host + '/opt/caisson/bin'))
        self.assertFalse(os.path.lexists(link))
        self.assertEqual(self.install(verb='uninstall')[0], 0)

    def test_the_link_for_containerd_1_6(self):
        opt = '[plugins."io.containerd.internal.v1.opt"]\npath = "/srv/ctd"\n'
        name = '/bin/containerd-shim-caisson-v1'
        self.write(CONFIG + opt)
        self.assertIn('linked', self.install('--copy-to', '/opt/caisson/bin')[1])
        link = self.host + '/srv/ctd' + name
        self.assertEqual(os.readlink(link), '/opt/caisson/bin/containerd-shim-caisson-v1')
        # It stays while another handler needs it.
        self.assertEqual(self.install('--handler', 'second', '--shim', '/opt/caisson/bin/containerd-shim-caisson-v1')[0], 0)
        self.assertEqual(self.install(verb='uninstall')[0], 0)
        self.assertTrue(os.path.islink(link))
        self.assertEqual(self.install('--handler', 'second', verb='uninstall')[0], 0)
        self.assertFalse(os.path.lexists(link))
        # A link that led elsewhere is told of.
        os.symlink('/somebody/elses', link)
        self.assertIn('it led to /somebody/elses', self.install('--copy-to', '/opt/caisson/bin')[1])
        self.assertEqual(os.readlink(link), '/opt/caisson/bin/containerd-shim-caisson-v1')
        # One that cannot be taken away too.
        p = subprocess.run(['unshare', '--mount', '/bin/sh', '-c', 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"',
                            'sh', os.path.dirname(link), CAISSON, 'uninstall', '--host', self.host], capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn('note: %s cannot be removed' % link, p.stdout)
        self.assertNotIn('removed ' + link, p.stdout)
        os.unlink(link)
        # What somebody else put there stays, and it is said.
        with open(link, 'w') as f:
            f.write('mine')
        self.assertIn('is no link and stays', self.install('--copy-to', '/opt/caisson/bin')[1])
        self.assertEqual(self.read(link), 'mine')
        self.assertEqual(self.install(verb='uninstall')[0], 0)
        self.assertEqual(self.read(link), 'mine')
        # Where containerd does not look there, that is said.
        self.write('disabled_plugins = ["io.containerd.internal.v1.opt"]\n' + CONFIG)
        self.assertIn('in its PATH only', self.install('--copy-to', '/opt/caisson/bin')[1])

    def test_a_dry_run_changes_nothing(self):
        self.write(CONFIG)
        before = self.files()
        for verb in ('install', 'uninstall'):
            code, out, err = self.install('--copy-to', '/opt/caisson/bin', '--dry-run', verb=verb)
            self.assertEqual(code, 0, err)
        self.assertEqual(self.files(), before)

    def test_a_host_without_a_file_gets_one(self):
        code, out, err = self.install('--copy-to', '/usr/bin')
        self.assertEqual(code, 0, err)
        self.assertTrue(self.read().startswith('version = 2\n'))
        self.assertNotIn('runtime_path', self.read())  # containerd finds it by itself

    def test_a_command_that_fails_takes_the_change_back(self):
        self.write(CONFIG)
        mark = os.path.join(self.host, 'ran')
        code, _, err = self.install('--shim', '/o/containerd-shim-caisson-v1', '--then', 'echo x >> %s; exit 3' % mark)
        self.assertEqual(code, 1)
        self.assertIn('ended with 3', err)
        self.assertEqual(self.read(), CONFIG)
        self.assertEqual(self.read(mark), 'x\nx\n')
        code, _, err = self.install('--shim', '/o/containerd-shim-caisson-v1', '--then', 'echo y > ' + mark)
        self.assertEqual((code, self.read(mark)), (0, 'y\n'), err)
        code, _, err = self.install('--shim', '/o/containerd-shim-caisson-v1', '--then', 'echo z > ' + mark)
        self.assertEqual((code, self.read(mark)), (0, 'y\n'), err)  # nothing was changed

    def test_what_it_does_not_understand_stays(self):
        for text, word in (('disabled_plugins = ["cri"]\n', 'version'), ('version = 2\n[plugins\n', ':2'), ('version = 9\n', 'version 9')):
            self.write(text)
            code, _, err = self.install('--shim', '/o/containerd-shim-caisson-v1')
            self.assertEqual(code, 1)
            self.assertIn(word, err)
            self.assertEqual(self.read(), text)

    def test_containers_keep_it_from_being_taken_out(self):
        self.write(CONFIG)
        self.assertEqual(self.install('--shim', '/o/containerd-shim-caisson-v1')[0], 0)
        os.makedirs(self.host + '/run/containerd/caisson/k8s.io/abc')
        code, _, err = self.install(verb='uninstall')
        self.assertEqual(code, 1)
        self.assertIn('k8s.io/abc', err)
        self.assertEqual(self.install('--force', verb='uninstall')[0], 0)
        self.assertEqual(self.read(), CONFIG)


class Doctor(OnADirectory):
    def doctor(self, *args, config='', **more):
        """The findings by their names, and the exit code."""
        flags = ['--config', config] if config else []
        code, out, err = self.call(*flags, 'doctor', '--format', 'json', '--containerd-config', self.config, *args, **more)
        j = json.loads(out)
        self.assertEqual(j['ok'], code == 0, err)
        for f in j['findings']:
            self.assertEqual('advice' in f, f['status'] != 'ok' or bool(f.get('advice')), f)
        return {f['check']: f for f in j['findings']}, code

    def test_a_host_on_which_the_other_tests_pass_is_well(self):
        found, code = self.doctor()
        self.assertEqual(code, 0, found)
        for check in ('kernel', 'processor', 'system-calls', 'seccomp', 'user-namespaces', 'namespaces', 'programs', 'config', 'trial'):
            self.assertEqual(found[check]['status'], 'ok', found[check])
        self.assertIn(found['cgroups']['status'], ('ok', 'warn'))
        code, out, _ = self.call('doctor', '--no-trial')
        self.assertEqual(code, 0)
        self.assertNotIn('trial ', out)
        self.assertIn('this host can run sandboxes', out)

    def test_the_handler(self):
        found, _ = self.doctor('--no-trial')
        self.assertIn('caisson install', found['handler']['advice'])
        # The link for containerd 1.6 is made here too, not on this machine.
        self.write('version = 2\n[plugins."io.containerd.internal.v1.opt"]\npath = "%s/opt"\n' % self.host)
        self.assertEqual(self.call('install', '--containerd-config', self.config)[0], 0)
        found, code = self.doctor('--no-trial')
        self.assertEqual((found['handler']['status'], code), ('ok', 0), found['handler'])
        self.write(self.read().replace('.caisson.v1', '.other.v1'))
        found, code = self.doctor('--no-trial')
        self.assertEqual((found['handler']['status'], code), ('fail', 1))
        self.assertIn('io.containerd.other.v1', found['handler']['found'])
        self.write('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        found, _ = self.doctor('--no-trial')
        self.assertEqual(found['cri']['status'], 'warn')

    def test_programs_that_are_missing_or_of_another_version(self):
        # A copy of them, because a host with them in place is told about in the other test.
        d = self.host + '/bin'
        os.mkdir(d)
        os.chmod(self.host, 0o755)
        for p in PROGRAMS:
            shutil.copy(os.path.join(os.path.dirname(CAISSON), p), d)
        # Those that `install` can do without may be missing.
        found, code = self.doctor('--no-trial', environment={'CAISSON_LIBEXEC': d})
        self.assertEqual((found['programs']['status'], code), ('ok', 0), found['programs'])
        os.unlink(d + '/caisson-gofer')
        found, code = self.doctor('--no-trial', environment={'CAISSON_LIBEXEC': d})
        self.assertEqual((found['programs']['status'], code), ('fail', 1))
        self.assertIn('caisson-gofer', found['programs']['found'])
        found, code = self.doctor(environment={'CAISSON_LIBEXEC': d})
        self.assertEqual(found['trial']['status'], 'fail')
        self.assertIn('caisson-gofer', found['trial']['found'])
        with open(os.path.join(os.path.dirname(CAISSON), 'caisson-gofer'), 'rb') as f:
            data = f.read()
        version = self.call('--version')[1].split()[2].encode()
        self.assertIn(b'caisson-version:' + version + b'\0', data)
        with open(d + '/caisson-gofer', 'wb') as f:
            f.write(data.replace(b'caisson-version:' + version, b'caisson-version:9' + version[1:]))
        os.chmod(d + '/caisson-gofer', 0o755)
        found, _ = self.doctor('--no-trial', environment={'CAISSON_LIBEXEC': d})
        self.assertIn('different versions', found['programs']['found'])

    def test_a_configuration_with_a_mistake(self):
        path = self.host + '/c.toml'
        with open(path, 'w') as f:
            f.write('nonsense = 1\n')
        found, code = self.doctor('--no-trial', config=path)
        self.assertEqual((found['config']['status'], code), ('fail', 1))
        self.assertIn(path + ':1', found['config']['found'])


if __name__ == '__main__':
    unittest.main()

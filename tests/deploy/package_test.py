#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian package: built, installed into a root of its own by dpkg, used from there, and removed."""
import glob, gzip, json, os, re, shutil, stat, subprocess, sys, tempfile, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'runtime'))
from lab import ROOTFS, config

BUILD = os.environ['CAISSON_BUILD']
PROGRAMS = ['usr/bin/caisson', 'usr/bin/containerd-shim-caisson-v1', 'usr/libexec/caisson/caisson-sentry', 'usr/libexec/caisson/caisson-gofer',
            'usr/libexec/caisson/caisson-zygote', 'usr/libexec/caisson/caisson-bench']
PAGES = ['man8/caisson.8', 'man5/caisson.toml.5', 'man8/containerd-shim-caisson-v1.8']


def run(*words, ok=True, **more):
    p = subprocess.run(words, capture_output=True, text=True, timeout=250, stdin=subprocess.DEVNULL, **more)
    if ok and p.returncode:
        raise AssertionError('%s: %s%s' % (' '.join(words), p.stdout[-2000:], p.stderr[-2000:]))
    return p


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp(prefix='caisson-package.')
        os.chmod(cls.top, 0o755)
        # Little compression, because it is for the test alone.
        run('cpack', '--config', BUILD + '/CPackConfig.cmake', '-B', cls.top + '/out', '-D', 'CPACK_DEBIAN_COMPRESSION_TYPE=gzip', cwd=cls.top)
        cls.deb, = glob.glob(cls.top + '/out/caisson_*_amd64.deb')
        cls.root = cls.top + '/root'
        for d in ('updates', 'info', 'triggers'):
            os.makedirs(cls.root + '/var/lib/dpkg/' + d)
        for f in ('status', 'available'):
            open(cls.root + '/var/lib/dpkg/' + f, 'w').close()
        cls.dpkg('--install', cls.deb)

    @classmethod
    def tearDownClass(cls):
        cls.dpkg('--purge', 'caisson')
        left = [f for f in glob.glob(cls.root + '/**', recursive=True) if os.path.isfile(f) and '/var/' not in f]
        shutil.rmtree(cls.top)
        if left:
            raise AssertionError('left after purge: %s' % left)

    @classmethod
    def dpkg(cls, *words):
        # What it depends on is this machine's.
        return run('dpkg', '--root=' + cls.root, '--log=' + cls.top + '/dpkg.log', '--force-depends', *words)

    def path(self, name):
        return os.path.join(self.root, name)

    def test_files_and_their_modes(self):
        for p in PROGRAMS:
            self.assertEqual(stat.S_IMODE(os.stat(self.path(p)).st_mode), 0o755, p)
            with open(self.path(p), 'rb') as f:
                self.assertNotIn(b'.debug_info', f.read(), p)
        for line in run('dpkg-deb', '--contents', self.deb).stdout.splitlines():
            self.assertEqual(line.split()[1], 'root/root', line)
            self.assertNotIn('w', line[5:6] + line[8:9], line)
        fields = run('dpkg-deb', '--field', self.deb).stdout
        for word in ('Package: caisson\n', 'Architecture: amd64\n', 'Section: admin\n', 'Installed-Size: '):
            self.assertIn(word, fields)
        self.assertIn('/etc/caisson/config.toml', run('dpkg-deb', '--info', self.deb, 'conffiles').stdout)
        self.assertTrue(os.path.exists(self.path('usr/share/doc/caisson/kubernetes/runtimeclass.yaml')))
        self.assertTrue(os.path.exists(self.path('usr/share/doc/caisson/copyright')))

    def test_what_is_built_is_in_it(self):
        """caisson-cri too, where it is built."""
        if os.path.exists(BUILD + '/bin/caisson-cri'):
            for p in ('usr/bin/caisson-cri', 'usr/lib/systemd/system/caisson-cri.service', 'etc/caisson/cri.toml'):
                self.assertTrue(os.path.exists(self.path(p)), p)
            self.assertIn('/etc/caisson/cri.toml', run('dpkg-deb', '--info', self.deb, 'conffiles').stdout)
            # The unit names what is there.
            with open(self.path('usr/lib/systemd/system/caisson-cri.service')) as f:
                for name in set(re.findall(r'[= ](?:file://)?/((?:usr|etc)/[^ \n]*)', f.read())):
                    self.assertTrue(os.path.exists(self.path(name)), name)

    def test_doctor_finds_all_of_one_version(self):
        j = json.loads(run(self.path('usr/bin/caisson'), '--config', self.path('etc/caisson/config.toml'), 'doctor', '--format', 'json', ok=False).stdout)
        found = {f['check']: f for f in j['findings']}
        for check in ('programs', 'config', 'trial'):
            self.assertEqual(found[check]['status'], 'ok', found[check])
        self.assertIn('usr/libexec/caisson', found['programs']['found'])

    def test_a_container_runs_from_it(self):
        bundle = self.top + '/bundle'
        os.mkdir(bundle)
        with open(bundle + '/config.json', 'w') as f:
            json.dump(config(['/bin/sh', '-c', 'uname -a; exit 7']), f)
        p = run(self.path('usr/bin/caisson'), '--root', self.top + '/state', 'run', '--bundle', bundle, 'packaged-%d' % os.getpid(), ok=False)
        self.assertEqual(p.returncode, 7, p.stderr)
        self.assertIn('Caisson', p.stdout)

    def test_man_pages_are_whole(self):
        verbs = re.findall(r'^  ([a-z]+) +\S', run(self.path('usr/bin/caisson'), '--help').stdout.split('\nFlags', 1)[0], re.M)
        self.assertGreater(len(verbs), 15)
        cri = os.path.exists(self.path('usr/bin/caisson-cri'))  # built where gRPC is
        for page in PAGES + (['man8/caisson-cri.8'] if cri else []):
            with gzip.open(self.path('usr/share/man/' + page + '.gz'), 'rt') as f:
                text = f.read()
            self.assertTrue(text.split('\n', 2)[1].startswith('.TH '), page)
            if page.endswith('/caisson.8'):
                for v in verbs:
                    self.assertRegex(text, r'(?m)^\.SS caisson %s\b' % v)
                for flag in ('--overlay', '--pid-file', '--then', '--no-trial', '--drop-caches'):
                    self.assertIn(flag.replace('-', '\\-'), text)
            if page.endswith('cri.8'):
                for word in ('\\-\\-grace N', '\\-\\-log\\-format text|json', 'service_accounts', 'default_handler', 'named'):
                    self.assertIn('.B ' + word if word != 'default_handler' else word, text)
            if page.endswith('.5'):
                for key in ('memory_mode', 'allow', 'debug_log'):
                    self.assertIn('.B ' + key, text)
            if shutil.which('groff'):
                p = subprocess.run(['groff', '-man', '-ww', '-Tascii', '-z'], input=text, capture_output=True, text=True, timeout=60)
                self.assertEqual(p.stderr.strip(), '', page)

    def complete(self, *words):
        """What bash offers for the last word."""
        script = self.path('usr/share/bash-completion/completions/' + words[0])
        text = ('PATH=%s:$PATH; source %s; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _%s; printf "%%s\\n" "${COMPREPLY[@]}"'
                % (self.path('usr/bin'), script, words[0].replace('-', '_')))
        return run('bash', '-c', text, 'bash', *words).stdout.split()

    def test_completion(self):
        self.assertEqual(self.complete('caisson', 'do'), ['do', 'doctor'])
        self.assertEqual(self.complete('caisson', '--root', '/x', 'unin'), ['uninstall'])
        self.assertIn('--containerd-config', self.complete('caisson', 'doctor', '--'))
        self.assertEqual(self.complete('caisson', '--overlay', ''), ['auto', 'self', 'none'])
        self.assertEqual(self.complete('caisson', 'doctor', '--format', 'j'), ['json'])
        self.assertEqual(self.complete('caisson', 'run', '--patch-calls', ''), ['on', 'off'])
        self.assertEqual(self.complete('caisson', '--mem'), ['--memory-mode'])
        if os.path.exists(self.path('usr/bin/caisson-cri')):
            self.assertEqual(self.complete('caisson-cri', '--log-format', ''), ['text', 'json'])
            self.assertEqual(self.complete('caisson-cri', '--pol'), ['--policy'])


if __name__ == '__main__':
    unittest.main()

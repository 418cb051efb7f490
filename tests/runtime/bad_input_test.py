#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Input that cannot work: one clear line, the right exit code, and nothing left behind."""
import ctypes, json, os, shutil, struct, subprocess, tempfile, unittest

from lab import CAISSON, ROOTFS, Box, config


def edited(**changes):
    return config(['/bin/true'], **changes)


def with_process(**changes):
    c = config(['/bin/true'])
    c['process'].update(changes)
    return c


def with_linux(**changes):
    c = config(['/bin/true'])
    c['linux'].update(changes)
    return c


def with_mount(**mount):
    c = config(['/bin/true'])
    c['mounts'].append(mount)
    return c


class BadInput(unittest.TestCase):
    def setUp(self):
        self.box = Box('caisson')

    def tearDown(self):
        self.box.__exit__()

    def ours(self):
        """What belongs to this state directory: its files, and the host's processes and cgroups of its containers."""
        state = sorted(n for n in os.listdir(self.box.state) if n != '.ids') if os.path.isdir(self.box.state) else []
        ids = os.path.join(self.box.state, '.ids')
        taken = sorted(n for n in os.listdir(ids)) if os.path.isdir(ids) else []
        groups = [os.path.join(top, d) for top, dirs, _ in os.walk('/sys/fs/cgroup') for d in dirs if 'rt-caisson-%d-' % os.getpid() in d]
        return {'state': state, 'ids': taken, 'cgroups': groups}

    def check(self, what, result, code, *words):
        with self.subTest(what):
            lines = result[2].strip().splitlines()
            self.assertEqual(result[0], code, result[2])
            self.assertEqual(len(lines), 1, result[2])
            for w in words:
                self.assertIn(w, lines[0])
            self.assertEqual(self.ours(), {'state': [], 'ids': [], 'cgroups': []})

    def test_configs(self):
        def deep(n):
            return json.dumps(edited())[:-1] + ', "x": ' + '[' * n + ']' * n + '}'
        program = os.path.join(self.box.top, 'arm')  # an ELF file for another machine
        with open('/bin/true', 'rb') as f:
            elf = bytearray(f.read())
        elf[18:20] = b'\xb7\x00'
        with open(program, 'wb') as f:
            f.write(elf)
        os.chmod(program, 0o755)
        volume = {'destination': '/v', 'type': 'bind', 'source': self.box.top, 'options': ['rbind', 'ro']}
        foreign = config(['/v/arm'])
        foreign['mounts'].append(volume)
        table = [
            ('broken JSON', '{"ociVersion": ', 1, 'config.json', 'JSON'),
            ('not an object', '[1]', 1, 'must be an object'),
            ('empty', '', 1, 'JSON'),
            ('nested too deep', deep(100000), 1, 'nests deeper'),
            ('version', edited(ociVersion='2.0.0'), 1, 'ociVersion', '2.0.0'),
            ('no process', {k: v for k, v in edited().items() if k != 'process'}, 1, 'process is missing'),
            ('wrong type', edited(hostname=7), 1, 'hostname is 7, must be a string'),
            ('no arguments', with_process(args=[]), 1, 'process.args'),
            ('relative cwd', with_process(cwd='tmp'), 1, 'process.cwd'),
            ('rlimit', with_process(rlimits=[{'type': 'RLIMIT_X', 'soft': 1, 'hard': 1}]), 1, 'RLIMIT_X'),
            ('missing root', edited(root={'path': '/nonexistent/root'}), 1, 'root.path /nonexistent/root', 'No such file'),
            ('root is a file', edited(root={'path': '/etc/passwd'}), 1, 'is not a directory'),
            ('missing program', with_process(args=['no-such-program']), 1, 'no-such-program', 'not found in $PATH'),
            ('missing file', with_process(args=['/no/such/program']), 1, '/no/such/program', 'no such file or directory'),
            ('not executable', with_process(args=['/etc/passwd']), 1, '/etc/passwd', 'permission denied'),
            ('a directory', with_process(args=['/etc']), 1, '/etc', 'permission denied'),
            ('another machine', foreign, 1, '/v/arm', 'exec format error'),
            ('cwd is a file', with_process(cwd='/etc/passwd'), 1, 'process.cwd /etc/passwd'),
            ('mount type', with_mount(destination='/m', type='ext4', source='/dev/sda'), 1, '/m', 'ext4'),
            ('mount source', with_mount(destination='/m', type='bind', source='/no/such', options=['bind']), 1, '/no/such'),
            ('mount over root', with_mount(destination='/', type='tmpfs'), 1, 'root'),
            ('no destination', with_mount(type='tmpfs'), 1, 'destination'),
            ('root climbs', edited(root={'path': '../../../../../no/such/root'}), 1, 'root.path', 'No such file'),
            ('source climbs', with_mount(destination='/m', type='bind', source='../../../../no/such', options=['bind']), 1, 'no/such'),
            ('user is a word', with_process(user='root'), 1, 'process.user'),
            ('negative user', with_process(user={'uid': -1, 'gid': 0}), 1, 'uid'),
            ('large user', with_process(user={'uid': 1 << 40, 'gid': 0}), 1, 'uid'),
            ('arguments are numbers', with_process(args=[1, 2]), 1, 'process.args'),
            ('a NUL in an argument', with_process(args=['/bin/echo', 'a\x00b']), 1, 'process.args'),
            ('environment is an object', with_process(env={'A': 'b'}), 1, 'process.env'),
            ('mounts are an object', edited(mounts={}), 1, 'mounts'),
            ('a mount is a word', edited(mounts=['proc']), 1, 'mounts'),
            ('namespace of no kind', with_linux(namespaces=[{'type': 'nonsense'}]), 1, 'nonsense'),
            ('memory is a word', with_linux(resources={'memory': {'limit': 'much'}}), 1, 'memory.limit'),
            ('mount climbs to root', with_mount(destination='/../..', type='tmpfs'), 1, 'root'),
            ('idmapped', with_mount(destination='/m', type='bind', source='/tmp', options=['bind', 'idmap']), 1, 'idmap'),
            ('network path', with_linux(namespaces=config([])['linux']['namespaces'][:4] + [{'type': 'network', 'path': '/no/such/netns'}]), 1, '/no/such/netns'),
            ('user namespace', with_linux(namespaces=[{'type': 'user', 'path': '/proc/self/ns/user'}]), 1, 'user namespace'),
            ('cgroup path', with_linux(cgroupsPath='/'), 1, 'cgroupsPath'),
            ('cpuset', with_linux(resources={'cpu': {'cpus': '4000-5000'}}), 1, 'cpuset.cpus'),
            ('hook', edited(hooks={'createRuntime': [{'path': '/no/such/hook'}]}), 1, '/no/such/hook'),
            ('hook fails', edited(hooks={'createContainer': [{'path': '/bin/false'}]}), 1, 'createContainer', 'exit code 1'),
            ('inner hook fails', edited(hooks={'startContainer': [{'path': '/bin/false'}]}), 1, 'startContainer', 'exit code 1'),
            ('inner hook hangs', edited(hooks={'startContainer': [{'path': '/bin/sleep', 'args': ['sleep', '50'], 'timeout': 1}]}), 1,
             'startContainer', 'timeout'),
            ('terminal', with_process(terminal=True), 1, 'console-socket'),
        ]
        for what, c, code, *words in table:
            text = c if isinstance(c, str) else None
            flags = ['--detach'] if what == 'terminal' else []
            result = self.box.call('run', *flags, '--bundle', self.box.bundle(c, text), self.box.name())
            self.check(what, result, code, *words)

    def test_a_config_of_a_hundred_megabytes_and_none_at_all(self):
        d = self.box.bundle(None, '{"x": "' + 'a' * (100 << 20) + '"}')
        self.check('large', self.box.call('run', '--bundle', d, self.box.name()), 1, 'larger than')
        self.check('none', self.box.call('run', '--bundle', self.box.top, self.box.name()), 1, 'config.json does not exist')
        self.check('no bundle', self.box.call('run', '--bundle', '/no/such/bundle', self.box.name()), 1, '/no/such/bundle')

    def test_names(self):
        d = self.box.bundle(edited())
        for name in ('../x', '..', '.', '', 'a/b', 'x' * 1025, 'a b', '\u00e4', '-x;', '$(x)'):
            code, _, err = self.box.call('create', '--bundle', d, '--', name)
            self.check('id %r' % name[:20], (code, '', err), 1)

    def test_verbs_on_containers_that_are_not_there_or_not_ready(self):
        for verb in (['state'], ['start'], ['kill'], ['delete'], ['exec'], ['ps'], ['pause'], ['resume'], ['update'], ['events']):
            tail = ['/bin/true'] if verb == ['exec'] else []
            result = self.box.call(*verb, 'nobody', *tail)
            self.check(verb[0], result, 255 if verb == ['exec'] else 1, 'nobody')
        self.assertEqual(self.box.call('delete', '--force', 'nobody')[0], 0)
        id = self.box.name()
        d = self.box.bundle(config(['/bin/sleep', '100']))
        self.assertEqual(self.box.create(d, id), 0)
        for args, words in ((['create', '--bundle', d, id], ['is taken']), (['kill', id, 'NOPE'], ['NOPE']), (['kill', id, '65'], ['65']),
                            (['update', '--memory', 'lots', id], ['lots']), (['events', '--interval', '0s', id], ['--interval'])):
            code, _, err = self.box.call(*args)
            self.assertEqual(code, 1, args)
            self.assertEqual(len(err.strip().splitlines()), 1, err)
            for w in words:
                self.assertIn(w, err)
        self.assertEqual(self.box.call('start', id)[0], 0)
        for args, words in ((['start', id], ['running']), (['delete', id], ['running'])):
            code, _, err = self.box.call(*args)
            self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
            for w in words:
                self.assertIn(w, err)
        self.assertEqual(self.box.call('exec', id, '/no/such')[0], 255)
        self.assertEqual(self.box.call('kill', id, '0'), (0, '', ''))  # is there anybody?
        self.assertEqual(self.box.status(id), 'running')
        self.assertEqual(self.box.call('delete', '--force', id)[0], 0)
        self.assertEqual(self.ours(), {'state': [], 'ids': [], 'cgroups': []})

    def test_the_error_is_the_last_line_of_the_log(self):
        log = os.path.join(self.box.top, 'log.json')
        code, _, err = self.box.call('run', '--bundle', '/no/such', 'x', flags=['--log', log, '--log-format', 'json'])
        self.assertEqual(code, 1)
        with open(log) as f:
            last = json.loads(f.read().splitlines()[-1])
        self.assertEqual(last['level'], 'error')
        self.assertIn('/no/such', last['msg'])
        self.assertRegex(last['time'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$')
        # Every line is a message with a level; a warning comes before the error, and an exec's error is there too.
        c = with_process(args=['/no/such'], apparmorProfile='some')
        self.assertEqual(self.box.call('run', '--bundle', self.box.bundle(c), 'x', flags=['--log', log, '--log-format', 'json'])[0], 1)
        id = self.box.start(config(['/bin/sleep', '1000']))
        self.assertEqual(self.box.call('exec', id, '/none/such', flags=['--log', log, '--log-format', 'json'])[0], 255)
        with open(log) as f:
            lines = [json.loads(line) for line in f.read().splitlines()]
        self.assertEqual([line['level'] for line in lines], ['error', 'warning', 'error', 'error'])
        self.assertIn('apparmorProfile', lines[1]['msg'])
        self.assertIn('/no/such', lines[2]['msg'])
        self.assertIn('/none/such', lines[3]['msg'])
        # Whatever is in a name, the line is JSON.
        self.assertEqual(self.box.call('exec', id, b'/none/\xff\xc3\xa4\xe2\x82', flags=['--log', log, '--log-format', 'json'])[0], 255)
        with open(log, 'rb') as f:
            self.assertIn('/none/\ufffd\u00e4\ufffd', json.loads(f.read().splitlines()[-1].decode())['msg'])
        text = os.path.join(self.box.top, 'log.text')
        code, _, err = self.box.call('start', 'none', flags=['--log', text])
        self.assertEqual(code, 1)
        with open(text) as f:
            last = f.read().splitlines()[-1]
        self.assertIn('error', last)
        self.assertIn('none', last)
        self.assertIn('none', err)
        self.assertEqual(self.box.call('delete', '--force', id)[0], 0)

    def test_what_is_not_there_is_refused(self):
        for verb in ('checkpoint', 'restore'):
            self.check(verb, self.box.call(verb, 'x'), 1, verb, 'not supported')
        self.check('a verb', self.box.call('fly', 'x'), 3, 'fly')

    def test_features_name_what_runc_names(self):
        ours = json.loads(self.box.call('features')[1])
        theirs = json.loads(subprocess.run(['runc', 'features'], capture_output=True, check=True).stdout)
        self.assertEqual(set(theirs) - set(ours), set())
        self.assertEqual(set(theirs['linux']) - set(ours['linux']), set())
        self.assertEqual(ours['hooks'], theirs['hooks'])
        self.assertEqual(set(theirs['mountOptions']) - set(ours['mountOptions']), {'acl', 'noacl', 'remount'})
        self.assertEqual(ours['linux']['capabilities'], theirs['linux']['capabilities'])
        self.assertEqual(set(theirs['linux']['namespaces']) - set(ours['linux']['namespaces']), set())
        self.assertEqual(set(theirs['linux']['seccomp']['actions']) - set(ours['linux']['seccomp']['actions']), {'SCMP_ACT_NOTIFY'})
        self.assertEqual(ours['linux']['seccomp']['operators'], theirs['linux']['seccomp']['operators'])
        for name in ('cgroup', 'seccomp', 'apparmor', 'selinux'):
            self.assertEqual(set(theirs['linux'][name]) - set(ours['linux'][name]), set())
        for part in ours['linux'].values():
            if isinstance(part, dict):
                self.assertTrue(all(isinstance(v, (bool, list, dict)) for v in part.values()))

    def test_missing_programs_of_ours(self):
        empty = os.path.join(self.box.top, 'libexec')
        os.mkdir(empty)
        d = self.box.bundle(edited())
        for present in ([], ['caisson-sentry'], ['caisson-sentry', 'caisson-gofer']):
            for p in present:
                shutil.copy(os.path.join(os.path.dirname(CAISSON), p), empty)
            result = self.box.call('run', '--bundle', d, self.box.name(), env={**os.environ, 'CAISSON_LIBEXEC': empty})
            self.check('without %d' % len(present), result, 1, 'is missing')

    def test_a_full_disk_under_the_state(self):
        small = os.path.join(self.box.top, 'small')
        os.mkdir(small)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8k,nr_inodes=6', 'tmpfs', small], check=True)
        try:
            self.box.state = small + '/s'
            self.box.command[2] = self.box.state
            code, _, err = self.box.call('run', '--bundle', self.box.bundle(edited()), self.box.name())
            self.assertEqual(code, 1)
            self.assertEqual(len(err.strip().splitlines()), 1, err)
            self.assertIn('No space left', err)
        finally:
            subprocess.run(['umount', small], check=True)

    def test_a_disk_that_is_full_sooner_or_later(self):
        """Of a state directory that has room for n more files or bytes: the container runs, or nothing of it is left."""
        small = os.path.join(self.box.top, 'sizes')
        os.mkdir(small)
        outcomes = set()
        for options in ['size=1m,nr_inodes=%d' % n for n in range(3, 16, 2)] + ['size=%dk' % k for k in (4, 8, 12, 16)]:
            subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', small], check=True)
            try:
                self.box.state = small + '/s'
                self.box.command[2] = self.box.state
                code, _, err = self.box.call('run', '--bundle', self.box.bundle(edited()), self.box.name())
                outcomes.add(code)
                with self.subTest(options):
                    self.assertIn(code, (0, 1))
                    self.assertEqual(len(err.strip().splitlines()), code, err)
                    self.assertIn('No space left' if code else '', err)
                    self.assertEqual(self.ours(), {'state': [], 'ids': [], 'cgroups': []})
            finally:
                subprocess.run(['umount', small], check=True)
        self.assertEqual(outcomes, {0, 1})

    def test_a_full_disk_under_the_writes_of_the_container(self):
        """The layer that takes the container's writes is on it: the program sees ENOSPC, and nothing else happens."""
        small = os.path.join(self.box.top, 'layer')
        os.mkdir(small)
        disk = os.path.join(self.box.top, 'disk')
        with open(disk, 'wb') as f:
            f.truncate(4 << 20)
        subprocess.run(['mkfs.ext4', '-q', '-F', disk], check=True)
        if subprocess.run(['mount', '-o', 'loop', disk, small], stderr=subprocess.DEVNULL).returncode:
            self.skipTest('no loop device')
        try:
            self.box.state = small + '/s'
            self.box.command[2] = self.box.state
            c = config(['/bin/sh', '-c', 'dd if=/dev/zero of=/big bs=64k count=200 2>&1 | grep -c "No space"; rm /big; echo alive'])
            c['root']['readonly'] = False
            self.assertEqual(self.box.run(c), (0, '1\nalive\n', ''))
        finally:
            subprocess.run(['umount', small], check=True)

    def test_no_user_namespaces(self):
        """In a user namespace that may have none below it: one line that says where to look."""
        inner = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
        d = self.box.bundle(edited())
        p = subprocess.run(['unshare', '--user', '--map-root-user', '--mount', '/bin/sh', '-c', inner, 'sh'] + self.box.command +
                           ['run', '--bundle', d, self.box.name()], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.check('as root of a namespace', (p.returncode, p.stdout, p.stderr), 1, 'namespace', '/proc/sys/user')
        os.chmod(self.box.top, 0o755)
        home = tempfile.mkdtemp(prefix='caisson-nobody.')
        os.chown(home, 65534, 65534)
        try:
            p = subprocess.run(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'unshare', '--user', '--map-user=65534', '--map-group=65534', '--keep-caps', '--mount', '/bin/sh', '-c',
                                'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all '
                                '--bounding-set=-all "$@"', 'sh', self.box.command[0], '--root', home + '/s', 'run', '--bundle', d,
                                self.box.name()], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            self.check('as a user', (p.returncode, p.stdout, p.stderr), 1, 'user namespace', '/proc/sys/user/max_user_namespaces')
        finally:
            shutil.rmtree(home)

    def test_a_seccomp_listener_of_somebody_else(self):
        """A filter with a listener above us: the host allows one only, and the stubs need it."""
        def watched():
            libc = ctypes.CDLL(None, use_errno=True)
            allow = struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)
            code = ctypes.create_string_buffer(allow)
            program = struct.pack('HxxxxxxQ', 1, ctypes.addressof(code))
            fd = libc.syscall(317, 1, 8, program)  # seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
            if fd < 0:
                os._exit(99)
            os.dup2(fd, 0)  # a listener lives as long as somebody has it open
        d = self.box.bundle(edited())
        result = self.box.call('run', '--bundle', d, self.box.name(), preexec_fn=watched)
        self.check('listener', result, 1, 'seccomp', 'listener')

    def test_symlinks_at_mount_points_stay_inside(self):
        """Every kind of mount, and a path that is masked or read-only, where the root has a link, or on the way there."""
        outside, volume = (os.path.join(self.box.top, n) for n in ('outside', 'volume'))
        for d in (outside, volume):
            os.mkdir(d)
        with open(volume + '/f', 'w') as f:
            f.write('of the volume\n')
        with open(outside + '/f', 'w') as f:
            f.write('outside\n')
        bound = lambda at, source: [{'destination': at, 'type': 'bind', 'source': source, 'options': ['rbind']}]
        kinds = {  # where the link is: what is asked for there, and what the program then sees
            'proc': ([], 'test -e /proc/self/status'), 'dev': ([], 'test -c /dev/null'), 'tmp': ([], 'echo x > /tmp/x'), 'sys': ([], 'test -d /sys/kernel'),
            'dev/pts': ([], 'test -c /dev/pts/ptmx'), 'dev/shm': ([], 'echo x > /dev/shm/x'),
            'v': (bound('/v', volume), 'busybox cat /v/f'), 'way': (bound('/way/to/v', volume), 'busybox cat /way/to/v/f'),
            'file': (bound('/file', volume + '/f'), 'busybox cat /file'),
            'queue': ([{'destination': '/queue', 'type': 'mqueue', 'source': 'mqueue'}], ': > /queue/q'),
            'group': ([{'destination': '/group', 'type': 'cgroup', 'source': 'cgroup', 'options': ['ro']}], 'test -e /group/cgroup.procs'),
            'masked': ({'maskedPaths': ['/masked']}, '! busybox ls /masked/f 2> /dev/null'),
            'fixed': ({'readonlyPaths': ['/fixed']}, '! echo x 2> /dev/null > /fixed/x'),
        }
        for point, (asked, sees) in kinds.items():
            for target in ('real', '/real', outside, '/../../..' + outside, '../../../../..' + outside, 'loop', '/no/such'):
                with self.subTest(point=point, target=target):
                    root = os.path.join(self.box.top, 'root')
                    shutil.rmtree(root, ignore_errors=True)
                    for d in ('bin', 'real', os.path.dirname(point)):
                        os.makedirs(os.path.join(root, d), exist_ok=True)
                    shutil.copy(os.path.join(ROOTFS, 'bin/busybox'), os.path.join(root, 'bin/busybox'))
                    at = target
                    if point == 'file' and target in ('real', '/real', outside):
                        at += '/f'  # a file in it
                        if target != outside:
                            with open(root + '/real/f', 'w'):
                                pass
                    os.symlink(at, os.path.join(root, point))
                    os.symlink('loop', os.path.join(root, 'loop'))
                    c = config(['/bin/busybox', 'sh', '-c', 'busybox() { /bin/busybox "$@"; }; %s && echo ok' % sees])
                    c['root'] = {'path': root}
                    if isinstance(asked, dict):
                        c['linux'].update(asked)
                    else:
                        c['mounts'] += asked
                    code, out, err = self.box.run(c)
                    self.assertEqual(os.listdir(outside), ['f'])
                    with open(outside + '/f') as f:
                        self.assertEqual(f.read(), 'outside\n')
                    if code == 0:
                        self.assertEqual(out, ('of the volume\n' if 'cat' in sees else '') + 'ok\n')
                    else:
                        self.assertEqual((code, len(err.strip().splitlines())), (1, 1), err)
                    if target in ('real', '/real'):
                        self.assertEqual(code, 0, err)


if __name__ == '__main__':
    unittest.main()

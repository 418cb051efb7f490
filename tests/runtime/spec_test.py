#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Members of the OCI spec, one by one, under runc and under Caisson: what a program inside can observe is the same."""
import json, os, subprocess, unittest

from lab import Box, config


def shell(script, **changes):
    return config(['/bin/bash', '-c', script], **changes)


def process(script, **changes):
    c = shell(script)
    c['process'].update(changes)
    return c


def linux(script, **changes):
    c = shell(script)
    c['linux'].update(changes)
    return c


def mount(script, destination, kind, options, source='none'):
    c = shell(script)
    c['mounts'].append({'destination': destination, 'type': kind, 'source': source, 'options': options})
    return c


CAPS = 'grep ^Cap /proc/self/status'
TABLE = {
    'args, env and cwd': process('pwd; echo "$A"; echo "$0" "$@"', args=['/bin/bash', '-c', 'pwd; echo "$A"; echo "$0" "$@"', 'x', 'y z'],
                                 env=['PATH=/bin:/usr/bin', 'A=b c'], cwd='/usr/lib'),
    'a cwd that is missing is made': process('pwd; stat -c %a .', cwd='/tmp/made/here'),
    'search in PATH': process('', args=['printenv', 'PATH'], env=['PATH=/nowhere:/usr/bin']),
    'user, groups and umask': process('id -u; id -g; id -G; umask; touch /tmp/x; stat -c "%u %g %a" /tmp/x',
                                      user={'uid': 1000, 'gid': 1001, 'additionalGids': [5, 7], 'umask': 0o027}),
    'capabilities of root': process(CAPS, capabilities={'bounding': ['CAP_KILL', 'CAP_CHOWN'], 'effective': ['CAP_KILL'],
                                                        'permitted': ['CAP_KILL', 'CAP_CHOWN']}),
    'capabilities of a user': process(CAPS, user={'uid': 1000, 'gid': 1000},
                                      capabilities={k: ['CAP_KILL'] for k in ('bounding', 'effective', 'permitted', 'inheritable', 'ambient')}),
    'no capabilities': process(CAPS, capabilities={}),
    'rlimits': process('ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hf',
                       rlimits=[{'type': 'RLIMIT_NOFILE', 'soft': 77, 'hard': 99}, {'type': 'RLIMIT_CORE', 'soft': 0, 'hard': 0},
                                {'type': 'RLIMIT_FSIZE', 'soft': 1 << 30, 'hard': 1 << 31}]),
    'no new privileges': process('grep NoNewPrivs /proc/self/status', noNewPrivileges=True),
    'new privileges': process('grep NoNewPrivs /proc/self/status', noNewPrivileges=False),
    'hostname and domainname': shell('hostname; cat /proc/sys/kernel/hostname', hostname='some-host'),
    'a read-only root': shell('touch /x; echo $?; touch /tmp/x; echo $?'),
    'masked paths': linux('cat /proc/cpuinfo | wc -c; ls /proc/tty | wc -l; cat /etc/hostname | wc -c; ls /usr/share/doc | wc -l',
                          maskedPaths=['/proc/cpuinfo', '/proc/tty', '/etc/hostname', '/usr/share/doc', '/no/such']),
    'read-only paths': linux('echo x > /proc/sys/kernel/domainname; echo $?; touch /tmp/y; echo $?', readonlyPaths=['/proc/sys', '/no/such']),
    'a tmpfs and its options': mount('stat -f -c %T /mnt; stat -c %a /mnt; touch /mnt/x; cp /bin/true /mnt/t; /mnt/t; echo $?; df -k --output=size /mnt',
                                     '/mnt', 'tmpfs', ['nosuid', 'noexec', 'size=4m', 'mode=755']),
    'a tmpfs that begins with what it hides': mount('ls /etc/init.d | head -3; stat -c "%a %u" /etc/init.d; echo x > /etc/init.d/new; cat /etc/init.d/new',
                                                    '/etc/init.d', 'tmpfs', ['tmpcopyup']),
    'a tmpfs has the mode of its place': mount('stat -c %a /root', '/root', 'tmpfs', []),
    'a tmpfs at a place of its own': mount('stat -c %a /tmp/place', '/tmp/place', 'tmpfs', []),
    'a bind mount': mount('cat /mnt/hostname | wc -c; touch /mnt/x 2>/dev/null; echo $?', '/mnt', 'bind', ['rbind', 'ro'], '/etc'),
    'a bind mount of a file': mount('wc -c < /tmp/../etc/issue', '/etc/issue', 'bind', ['bind', 'ro'], '/etc/hostname'),
    'mqueue': mount('stat -f -c %T /dev/shm; stat -c %F /dev/mqueue', '/dev/mqueue', 'mqueue', ['nosuid'], 'mqueue'),
    'sysctl': linux('cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax',
                    sysctl={'net.core.somaxconn': '321', 'kernel.msgmax': '4321'}),
    'devices': shell('for d in null zero full random urandom tty; do stat -c "%n %F %t:%T %a" /dev/$d; done; readlink /dev/fd /dev/stdin /dev/ptmx'),
    'exit code': shell('exit 42'),
    'death by a signal': shell('bash -c "kill -SEGV \\$\\$"; echo $?'),
}


class Members(unittest.TestCase):
    def test_each_is_observed_as_under_runc(self):
        with Box('runc') as runc, Box('caisson') as caisson:
            for what, c in TABLE.items():
                with self.subTest(what):
                    want, got = runc.run(c), caisson.run(c)
                    self.assertEqual(got[:2], want[:2], (want[2], got[2]))


class Hooks(unittest.TestCase):
    def both(self):
        return [Box('runc'), Box('caisson')]

    def test_hooks_run_where_and_when_the_spec_says(self):
        for box in self.both():
            with self.subTest(box.runtime), box:
                log = os.path.join(box.top, 'log')

                def hook(name, path='/bin/sh'):
                    return [{'path': path, 'args': ['sh', '-c', 'cat > %s.%s; echo %s >> %s' % (log, name, name, log)]}]
                c = config(['/bin/sh', '-c', 'cat /tmp/hook'])
                c['hooks'] = {n: hook(n) for n in ('prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop')}
                c['hooks']['createContainer'][0]['args'][2] += '; readlink /proc/self/ns/net > %s.net' % log
                # Inside: the root of the container, before its own program, with the state on standard input.
                c['hooks']['startContainer'] = [{'path': '/bin/sh', 'args': ['sh', '-c', 'grep -o "\\"id\\": *\\"[^\\"]*" > /tmp/hook; id -u >> /tmp/hook'],
                                                 'env': ['PATH=/bin:/usr/bin']}]
                c['process']['user'] = {'uid': 1000, 'gid': 1000}
                code, out, err = box.run(c)
                self.assertEqual(code, 0, err)
                self.assertRegex(out, r'"id": *"rt-[a-z0-9-]*\n1000\n')
                with open(log) as f:
                    self.assertEqual(f.read().split(), ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'])
                for name in ('prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'):
                    with open(log + '.' + name) as f:
                        state = json.loads(f.read())
                    self.assertEqual(state['bundle'].split('/')[-1], 'b1')
                    self.assertIn('status', state)
                with open(log + '.net') as f:
                    self.assertNotEqual(f.read().strip(), os.readlink('/proc/self/ns/net'))

    def test_preserved_descriptors_pid_files_and_environment_of_sockets(self):
        for box in self.both():
            with self.subTest(box.runtime), box:
                r, w = os.pipe()
                pid_file = os.path.join(box.top, 'pid')
                id = box.name()
                bundle = box.bundle(config(['/bin/sh', '-c', 'echo through >&3']))
                script = 'exec "$@" 3>&%d' % w
                p = subprocess.run(['bash', '-c', script, 'x'] + box.command + ['run', '--preserve-fds', '1', '--pid-file', pid_file,
                                                                               '--bundle', bundle, id],
                                   pass_fds=[w], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
                os.close(w)
                self.assertEqual(p.returncode, 0, p.stderr)
                self.assertEqual(os.read(r, 100), b'through\n')
                os.close(r)
                with open(pid_file) as f:
                    self.assertGreater(int(f.read()), 1)


if __name__ == '__main__':
    unittest.main()

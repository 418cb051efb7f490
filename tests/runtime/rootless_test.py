#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""As an ordinary user: what runc does without root, Caisson does too; and what is missing is told."""
import json, os, shutil, subprocess, tempfile, unittest

from engines import make_root_tar, need
from lab import CAISSON, PATIENCE, wait_until

USER = 65534
# Ids that "belong" to the user while a test runs, in a mount namespace of its own.
FIRST, COUNT = 300000, 1000
PROGRAMS = ('caisson', 'caisson-sentry', 'caisson-gofer', 'caisson-zygote')


class Rootless:
    runtime = ''

    def setUp(self):
        need('runc', 'setpriv', 'newuidmap')
        self.top = tempfile.mkdtemp(prefix='caisson-rootless.')
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)
        os.chmod(self.top, 0o755)
        make_root_tar(self.top)
        self.root = os.path.join(self.top, 'image')
        # Where the user can get at it, wherever the tree was built.
        for p in PROGRAMS:
            shutil.copy(os.path.join(os.path.dirname(CAISSON), p), self.top)
        self.program = '/usr/sbin/runc' if self.runtime == 'runc' else os.path.join(self.top, 'caisson')
        self.state = os.path.join(self.top, 'state')
        self.bundle = os.path.join(self.top, 'bundle')
        for d in (self.state, self.bundle, os.path.join(self.top, 'home')):
            os.mkdir(d)
        with open(os.path.join(self.top, 'subid'), 'w') as f:
            f.write('%d:%d:%d\n' % (USER, FIRST, COUNT))
        subprocess.run(['chown', '-R', '%d:%d' % (USER, USER), self.top], check=True)
        self.addCleanup(self.call, 'delete', '--force', 'one')

    def user(self, *command, **more):
        """A command of the ordinary user, with the ids of the class."""
        script = 'for f in /etc/subuid /etc/subgid; do mount --bind %s/subid $f; done; exec "$@"' % self.top
        become = ['unshare', '--mount', 'sh', '-c', script, 'sh', 'setpriv', '--reuid', str(USER), '--regid', str(USER), '--clear-groups',
                  'env', '-i', 'HOME=%s/home' % self.top, 'PATH=/usr/bin:/usr/sbin:/bin:/sbin']
        p = subprocess.run(become + list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE * 2, cwd=self.bundle, **more)
        return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')

    def call(self, *args):
        return self.user(self.program, '--root', self.state, *args)

    def config(self, *script, ranges=False, network=False, **process):
        path = os.path.join(self.bundle, 'config.json')
        if os.path.exists(path):
            os.unlink(path)
        self.assertEqual(self.user(self.program, 'spec', '--rootless')[0], 0)
        with open(path) as f:
            c = json.load(f)
        self.assertEqual(c['linux']['uidMappings'], [{'containerID': 0, 'hostID': USER, 'size': 1}])
        c['root'] = {'path': self.root, 'readonly': False}
        c['process'].update(terminal=False, args=['sh', '-c', *script], **process)
        c['annotations'] = {'caisson.overlay': 'none'}
        if ranges:
            for kind in ('uidMappings', 'gidMappings'):
                c['linux'][kind].append({'containerID': 1, 'hostID': FIRST, 'size': COUNT})
        c['linux']['namespaces'] = [n for n in c['linux']['namespaces'] if n['type'] != 'network']
        if network:
            c['linux']['namespaces'].append({'type': 'network'})
        with open(path, 'w') as f:
            json.dump(c, f)
        return c

    def test_one_id(self):
        self.config('id -u; id -g; cat /data/file; echo made > /data/made; ls -ln /data | grep -c " 0        0 "; ls /sys | grep -c class; exit 5',
                    network=True)
        code, out, err = self.call('run', 'one')
        self.assertEqual((code, out), (5, '0\n0\ncontents\n2\n1\n'), err)
        st = os.stat(self.root + '/data/made')
        self.assertEqual((st.st_uid, st.st_gid), (USER, USER))

    def test_a_range_of_ids(self):
        os.chmod(self.root + '/tmp', 0o1777)
        every = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_SETUID', 'CAP_SETGID']
        self.config('echo a > /data/a; chown 7:8 /data/a; ls -ln /data/a | (read mode links uid gid rest; echo $mode $uid $gid)', ranges=True,
                    capabilities={k: every for k in ('bounding', 'effective', 'permitted')})
        code, out, err = self.call('run', 'one')
        self.assertEqual((code, out), (0, '-rw-r--r-- 7 8\n'), err)
        st = os.stat(self.root + '/data/a')
        self.assertEqual((st.st_uid, st.st_gid), (FIRST + 6, FIRST + 7))
        self.config('id -u; id -G; touch /data/x 2>/dev/null; echo $?; touch /tmp/mine; ls -ln /tmp/mine | (read mode links uid gid rest; echo $uid $gid)', ranges=True,
                    user={'uid': 12, 'gid': 13})
        code, out, err = self.call('run', 'one')
        self.assertEqual((code, out), (0, '12\n13\n1\n12 13\n'), err)

    def test_a_life(self):
        self.config('echo ready > /data/ready; while :; do sleep 0.1; done', network=True)
        self.user('sh', '-c', 'exec "$@" >/dev/null 2>&1', 'sh', self.program, '--root', self.state, 'run', '-d', 'one')
        wait_until(lambda: os.path.exists(self.root + '/data/ready'), 'the program')
        state = json.loads(self.call('state', 'one')[1])
        self.assertEqual(state['status'], 'running')
        self.assertEqual(self.call('exec', 'one', 'sh', '-c', 'id -u; exit 3')[:2], (3, '0\n'))
        self.assertEqual(self.call('kill', 'one', 'KILL')[0], 0)
        wait_until(lambda: json.loads(self.call('state', 'one')[1])['status'] == 'stopped', 'the end')
        self.assertEqual(self.call('delete', 'one')[0], 0)
        self.assertEqual([n for n in os.listdir(self.state) if n[0] != '.'], [])

    def test_ids_that_are_not_the_users(self):
        self.config('true', ranges=True)
        with open(os.path.join(self.top, 'subid'), 'w') as f:
            f.write('%d:%d:%d\n' % (USER, FIRST, COUNT - 1))
        code, _, err = self.call('run', 'one')
        self.assertEqual(code, 1)
        self.assertIn('newuidmap', err)
        self.assertEqual([n for n in os.listdir(self.state) if n[0] != '.'], [])


    def test_podman(self):
        """An engine without root: it makes the user namespace, and the runtime is root of that alone."""
        need('podman')
        with open(os.path.join(self.top, 'subid'), 'w') as f:
            f.write('%d:%d:65536\n' % (USER, FIRST))
        home, run = os.path.join(self.top, 'home'), os.path.join(self.top, 'home', 'run')
        os.mkdir(run)
        os.chown(run, USER, USER)

        def podman(*args):
            return self.user('env', 'XDG_RUNTIME_DIR=' + run, 'podman', '--root', home + '/root', '--runroot', run + '/root', '--storage-driver', 'vfs',
                             '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', '--runtime', self.program, *args)
        # Ends the process that keeps podman's user namespace, and removes files of ids that only that namespace has.
        self.addCleanup(lambda: (podman('unshare', 'rm', '-rf', home + '/root'), podman('system', 'migrate')))
        code, _, err = podman('import', os.path.join(self.top, 'root.tar'), 'localhost/test')
        self.assertEqual(code, 0, err)
        code, out, err = podman('run', '--rm', '--network', 'none', 'localhost/test', 'sh', '-c',
                                'id -u; touch /tmp/x; chown 5:6 /tmp/x; ls -ln /tmp/x | (read mode links uid gid rest; echo $uid $gid)')
        self.assertEqual((code, out), (0, '0\n5 6\n'), err)
        volume = os.path.join(home, 'volume')
        os.mkdir(volume)
        os.chown(volume, USER, USER)
        code, out, err = podman('run', '--rm', '--network', 'none', '--userns', 'keep-id', '-v', volume + ':/data', 'localhost/test', 'sh', '-c',
                                'id -u; echo > /data/x; ls -ln /data/x | (read mode links uid gid rest; echo $uid); echo $(cat /proc/self/uid_map)')
        self.assertEqual((code, out.split('\n')[:2]), (0, [str(USER)] * 2), err)
        self.assertIn('%d 0 1' % USER, out)
        self.assertEqual(os.stat(volume + '/x').st_uid, USER)
        self.assertEqual(podman('run', '-d', '--name', 'one', '--network', 'none', 'localhost/test', 'sleep', '1000')[0], 0)
        self.assertEqual(podman('exec', 'one', 'sh', '-c', 'id -u; exit 4')[:2], (4, '0\n'))
        code, _, err = podman('rm', '--force', '--time', '0', 'one')
        self.assertEqual(code, 0, err)


class RootlessRunc(Rootless, unittest.TestCase):
    runtime = 'runc'


class RootlessCaisson(Rootless, unittest.TestCase):
    runtime = 'caisson'

    def test_what_is_missing_is_told_once(self):
        c = self.config('true')
        code, _, err = self.call('run', 'one')
        self.assertEqual((code, err), (0, ''))
        c['linux']['namespaces'].append({'type': 'network'})
        c['linux']['resources'] = {'memory': {'limit': 64 << 20}, 'pids': {'limit': 50}}
        with open(os.path.join(self.bundle, 'config.json'), 'w') as f:
            json.dump(c, f)
        code, _, err = self.call('run', 'one')
        self.assertEqual((code, len(err.splitlines())), (0, 1), err)
        self.assertIn('no cgroup can be made here', err)

    def test_container_root_must_be_the_caller(self):
        c = self.config('true', network=True)
        c['linux']['uidMappings'] = [{'containerID': 0, 'hostID': FIRST, 'size': 10}]
        with open(os.path.join(self.bundle, 'config.json'), 'w') as f:
            json.dump(c, f)
        code, _, err = self.call('run', 'one')
        self.assertEqual(code, 1)
        self.assertIn('uidMappings', err)
        self.assertEqual(len(err.splitlines()), 1)


if __name__ == '__main__':
    unittest.main()

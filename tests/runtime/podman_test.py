#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's podman with --runtime: the same commands with runc and with Caisson, and the same answers."""
import json, os, shutil, signal, subprocess, tempfile, time, unittest

from engines import make_root_tar, need
from lab import CAISSON, PATIENCE, Terminal, wait_until

# Engines raise some limits as far as they can; a host without CAP_SYS_RESOURCE lets nobody.
USUAL = ['--ulimit', 'nofile=512:512', '--ulimit', 'nproc=512:512', '--network', 'none']
IMAGE = 'localhost/caisson-test'


class Podman:
    runtime = ''

    @classmethod
    def setUpClass(cls):
        need('podman', 'conmon', 'runc')
        cls.top = tempfile.mkdtemp(prefix='caisson-podman.')
        cls.command = ['podman', '--root', cls.top + '/root', '--runroot', cls.top + '/run', '--storage-driver', 'vfs',
                       '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', '--tmpdir', cls.top + '/tmp',
                       '--runtime', os.path.abspath(shutil.which(cls.runtime))]
        cls.podman(cls, 'import', make_root_tar(cls.top), IMAGE, check=True)

    @classmethod
    def tearDownClass(cls):
        cls.podman(cls, 'rm', '--all', '--force', '--time', '0')
        shutil.rmtree(cls.top, ignore_errors=True)

    def podman(self, *args, input=None, check=False):
        p = subprocess.run(self.command + list(args), input=input, capture_output=True, timeout=PATIENCE * 4)
        if check and p.returncode:
            raise AssertionError('podman %s: %s' % (' '.join(args), p.stderr.decode()))
        return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')

    def run_once(self, *args, flags=(), input=None):
        return self.podman('run', '--rm', *USUAL, *flags, IMAGE, *args, input=input)

    def background(self, script, *flags):
        name = 'c%d' % time.monotonic_ns()
        self.podman('run', '-d', '--name', name, *USUAL, *flags, IMAGE, 'sh', '-c', script, check=True)
        return name

    def test_run_tells_output_and_exit_code(self):
        self.assertEqual(self.run_once('sh', '-c', 'echo out; echo err >&2; exit 7')[:2], (7, 'out\n'))
        self.assertEqual(self.run_once('sh', '-c', 'sh -c "kill -9 \\$\\$"; exit $?')[0], 137)
        self.assertEqual(self.run_once('cat', flags=['-i'], input=b'typed\n')[:2], (0, 'typed\n'))

    def test_a_program_that_cannot_be_run_has_the_code_that_says_so(self):
        self.assertEqual(self.run_once('no-such-program')[0], 127)
        self.assertEqual(self.run_once('/etc/passwd')[0], 126)

    def test_user_environment_directory_and_volumes(self):
        volume = os.path.join(self.top, 'volume')
        os.makedirs(volume, exist_ok=True)
        os.chmod(volume, 0o777)
        with open(volume + '/given', 'w') as f:
            f.write('given\n')
        code, out, err = self.run_once('sh', '-c', 'id -u; id -g; echo $A; cat given; echo made > made; ls /data',
                                       flags=['--user', '1000:1000', '--env', 'A=b', '-v', volume + ':/v', '-w', '/v'])
        self.assertEqual((code, out), (0, '1000\n1000\nb\ngiven\nfile\n'), err)
        with open(volume + '/made') as f:
            self.assertEqual(f.read(), 'made\n')

    def test_read_only_roots_tmpfs_sysctls_and_host_names(self):
        code, out, err = self.run_once('sh', '-c', 'touch /x || echo refused; touch /tmp/y && echo made', flags=['--read-only'])
        self.assertEqual((code, out), (0, 'refused\nmade\n'), err)
        code, out, err = self.run_once('cat', '/data/file', flags=['--tmpfs', '/data'])
        self.assertEqual((code, out), (0, 'contents\n'), err)  # copied up
        code, out, err = self.run_once('sh', '-c', 'hostname; cat /proc/sys/net/core/somaxconn',
                                       flags=['--hostname', 'box', '--sysctl', 'net.core.somaxconn=99'])
        self.assertEqual((code, out), (0, 'box\n99\n'), err)

    def test_exec_logs_stop_start_and_remove(self):
        name = self.background('trap "echo term; exit 3" TERM; echo started; while :; do sleep 0.1; done')
        wait_until(lambda: 'started' in self.podman('logs', name)[1], 'the log')
        self.assertEqual(self.podman('exec', '-e', 'X=y', name, 'sh', '-c', 'echo $X; exit 4')[:2], (4, 'y\n'))
        self.assertEqual(self.podman('exec', '-u', '1000:1000', name, 'id', '-u')[:2], (0, '1000\n'))
        self.assertEqual(self.podman('exec', '-i', name, 'cat', input=b'in\n')[:2], (0, 'in\n'))
        self.assertNotEqual(self.podman('exec', name, 'no-such-program')[0], 0)
        self.assertEqual(self.podman('stop', '--time', '10', name)[0], 0)
        self.assertEqual(self.podman('inspect', name, '--format', '{{.State.Status}} {{.State.ExitCode}}')[1], 'exited 3\n')
        self.assertEqual(self.podman('logs', name)[1], 'started\nterm\n')
        self.assertEqual(self.podman('start', name)[0], 0)
        self.assertEqual(self.podman('kill', name)[0], 0)
        self.assertEqual(self.podman('wait', name)[1], '137\n')
        self.assertEqual(self.podman('rm', name)[0], 0)

    def test_pause_and_update(self):
        name = self.background('while :; do sleep 0.1; done', '--memory', '128m')
        state = lambda: self.podman('inspect', name, '--format', '{{.State.Status}}')[1].strip()
        self.assertEqual(self.podman('pause', name)[0], 0)
        self.assertEqual(state(), 'paused')
        self.assertEqual(self.podman('unpause', name)[0], 0)
        self.assertEqual(state(), 'running')
        code, _, err = self.podman('update', '--memory', '64m', name)
        self.assertEqual(code, 0, err)
        self.assertEqual(self.podman('exec', name, 'true')[0], 0)
        self.assertEqual(self.podman('rm', '--force', '--time', '0', name)[0], 0)

    def test_a_container_that_was_never_started_goes(self):
        self.assertEqual(self.podman('create', '--name', 'never', *USUAL, IMAGE, 'true')[0], 0)
        self.assertEqual(self.podman('rm', 'never')[0], 0)

    def test_a_terminal(self):
        code, out, err = self.run_once('sh', '-c', 'tty; echo ok > /dev/console', flags=['-t'])
        self.assertEqual((code, out.split()), (0, ['/dev/pts/0', 'ok']), err)


    def on_terminal(self, *args, **size):
        return Terminal.of_command(self.command + list(args), **{'rows': 24, 'cols': 80, **size})

    def test_a_shell_on_a_terminal_of_exec(self):
        name = self.background('while :; do sleep 0.1; done')
        t = self.on_terminal('exec', '-it', '-e', 'PS1=PS> ', name, 'sh', rows=31, cols=91)
        self.addCleanup(t.kill)
        t.expect('PS> ')
        # podman sets the size when it has attached, which may be later.
        wait_until(lambda: (t.type('stty size\n'), t.expect('(\\d+ \\d+)\r\n'))[1].group(1) == '31 91', 'the size')
        t.resize(20, 60)
        os.kill(t.pid, signal.SIGWINCH)
        wait_until(lambda: (t.type('stty size\n'), t.expect('(\\d+ \\d+)\r\n'))[1].group(1) == '20 60', 'the new size')
        t.type('sleep 100\n')
        time.sleep(0.5)
        t.type('\x03')
        t.expect('PS> ')
        t.type('tty; exit 6\n')
        t.expect('/dev/pts/0')
        self.assertEqual(t.finish(), 6)

    def test_attach_and_leave(self):
        name = 'c%d' % time.monotonic_ns()
        self.podman('run', '-dit', '--name', name, *USUAL, '-e', 'PS1=PS> ', IMAGE, 'sh', check=True)
        t = self.on_terminal('attach', name, rows=33, cols=93)
        self.addCleanup(t.kill)
        time.sleep(1)
        t.type('echo at"tach"ed; tty\n')
        t.expect('attached\r\n/dev/pts/0')
        wait_until(lambda: (t.type('stty size\n'), t.expect('(\\d+ \\d+)\r\n'))[1].group(1) == '33 93', 'the size')
        t.type('\x10')  # ^P^Q
        time.sleep(0.2)
        t.type('\x11')
        t.finish()
        self.assertEqual(self.podman('inspect', name, '--format', '{{.State.Status}}')[1], 'running\n')
        u = self.on_terminal('attach', name)
        self.addCleanup(u.kill)
        time.sleep(1)
        u.type('exit 9\n')
        u.finish()
        self.assertEqual(self.podman('wait', name)[1], '9\n')

    def test_top_stats_and_kill(self):
        name = self.background('trap "echo heard" USR1; echo ready; while :; do sleep 0.1; done')
        wait_until(lambda: 'ready' in self.podman('logs', name)[1], 'the trap')
        code, out, err = self.podman('top', name, '-o', 'pid,comm')
        self.assertEqual(code, 0, err)
        self.assertRegex(out, r'PID +COMMAND\n +1 sh\n')
        code, out, err = self.podman('stats', '--no-stream', '--format', 'json', name)
        self.assertEqual(code, 0, err)
        stats = json.loads(out)[0]
        self.assertEqual(stats['name'], name)
        self.assertGreater(int(stats['pids']), 0)
        self.assertRegex(stats['mem_usage'], r'^[1-9]')
        self.assertEqual(self.podman('kill', '--signal', 'USR1', name)[0], 0)
        wait_until(lambda: 'heard' in self.podman('logs', name)[1], 'the signal')
        self.assertEqual(self.podman('kill', name)[0], 0)
        self.assertEqual(self.podman('wait', name)[1], '137\n')

    def test_what_a_container_wrote_is_seen_kept_copied_and_committed(self):
        given = os.path.join(self.top, 'given')
        with open(given, 'w') as f:
            f.write('given\n')
        name = self.background('echo one > /tmp/one; rm /data/file; echo done; while :; do sleep 0.1; done')
        wait_until(lambda: 'done' in self.podman('logs', name)[1], 'the writes')
        self.assertNotEqual(self.podman('exec', name, 'cat', '/tmp/given')[0], 0)
        code, out, err = self.podman('diff', name)
        self.assertEqual((code, sorted(out.split('\n')[:-1])), (0, ['A /tmp/one', 'C /data', 'C /etc', 'C /tmp', 'D /data/file']), err)
        # Running: podman would join the container's mount namespace, where a sandbox has nothing.
        self.assertEqual(self.podman('pause', name)[0], 0)
        self.assertEqual(self.podman('cp', name + ':/tmp/one', self.top + '/got')[0], 0)
        self.assertEqual(self.podman('cp', given, name + ':/tmp/given')[0], 0)
        self.assertEqual(self.podman('unpause', name)[0], 0)
        with open(self.top + '/got') as f:
            self.assertEqual(f.read(), 'one\n')
        self.assertEqual(self.podman('exec', name, 'cat', '/tmp/given')[:2], (0, 'given\n'))
        image = IMAGE + '-changed'
        self.assertEqual(self.podman('commit', name, image)[0], 0)
        code, out, err = self.podman('run', '--rm', *USUAL, image, 'sh', '-c', 'cat /tmp/one; ls /data')
        self.assertEqual((code, out), (0, 'one\n'), err)
        self.assertEqual(self.podman('stop', '--time', '0', name)[0], 0)
        self.assertEqual(self.podman('cp', given, name + ':/data/two')[0], 0)
        self.assertEqual(self.podman('start', name)[0], 0)
        self.assertEqual(self.podman('exec', name, 'cat', '/tmp/one', '/data/two')[:2], (0, 'one\ngiven\n'))


    def test_restart_and_logs_that_are_followed(self):
        name = self.background('echo written >> /tmp/kept; trap "echo bye; exit 0" TERM; echo begun; while :; do sleep 0.1; done')
        p = subprocess.Popen(self.command + ['logs', '--follow', name], stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.kill)
        self.assertEqual(p.stdout.readline(), 'begun\n')
        self.assertEqual(self.podman('restart', '--time', '30', name)[0], 0)
        wait_until(lambda: self.podman('logs', name)[1] == 'begun\nbye\nbegun\n', 'the second beginning')
        self.assertEqual(self.podman('exec', name, 'cat', '/tmp/kept')[1], 'written\nwritten\n')
        self.assertEqual(self.podman('stop', '--time', '30', name)[0], 0)
        self.assertEqual(self.podman('logs', name)[1], 'begun\nbye\n' * 2)
        p.kill()  # whether it follows a container beyond a restart depends on podman's version
        p.communicate()

    def test_logs_that_are_followed_end_with_the_container(self):
        name = self.background('echo begun; while ! test -e /tmp/go; do sleep 0.1; done; echo over')
        p = subprocess.Popen(self.command + ['logs', '--follow', name], stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.kill)
        self.assertEqual(p.stdout.readline(), 'begun\n')
        self.assertEqual(self.podman('exec', '--detach', name, 'touch', '/tmp/go')[0], 0)
        self.assertEqual((p.communicate(timeout=PATIENCE * 2)[0], p.returncode), ('over\n', 0))

    def test_a_policy_restarts_what_failed(self):
        name = self.background('exit 3', '--restart', 'on-failure:2')
        wait_until(lambda: self.podman('inspect', name, '--format', '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}')[1] == '2 exited 3\n',
                   'the restarts')

    def test_health_is_checked_inside(self):
        name = self.background('while :; do sleep 0.1; done', '--health-cmd', 'test -e /tmp/well', '--health-interval', 'disable')
        self.assertEqual(self.podman('healthcheck', 'run', name)[0], 1)
        self.assertEqual(self.podman('exec', name, 'touch', '/tmp/well')[0], 0)
        self.assertEqual(self.podman('healthcheck', 'run', name)[0], 0)
        self.assertEqual(self.podman('inspect', name, '--format', '{{.State.Healthcheck.Status}}')[1], 'healthy\n')

    def test_volumes_of_every_kind(self):
        volume = 'v%d' % time.monotonic_ns()
        self.assertEqual(self.podman('volume', 'create', volume)[0], 0)
        self.assertEqual(self.run_once('sh', '-c', 'echo kept > /v/k', flags=['-v', volume + ':/v'])[0], 0)
        code, out, err = self.run_once('sh', '-c', 'cat /v/k; touch /v/x', flags=['-v', volume + ':/v:ro'])
        self.assertEqual((code, out), (1, 'kept\n'))
        self.assertIn('Read-only', err)
        self.assertEqual(self.run_once('cat', '/data/file', flags=['-v', '/data'])[:2], (0, 'contents\n'))  # begins with what it hides
        self.assertEqual(self.run_once('cat', '/data/file', flags=['-v', volume + '2:/data'])[:2], (0, 'contents\n'))
        code, out, err = self.run_once('sh', '-c', 'stat -c %a /own /data; dd if=/dev/zero of=/own/x bs=64k count=100 2>&1 | grep -c "No space"',
                                       flags=['--mount', 'type=tmpfs,destination=/own,tmpfs-size=1m,tmpfs-mode=700', '--tmpfs', '/data'])
        self.assertEqual((code, out), (0, '700\n755\n1\n'), err)

    def test_ids_are_mapped(self):
        code, out, err = self.run_once('sh', '-c', 'id -u; echo $(cat /proc/self/uid_map); touch /tmp/x; ls -ln /tmp /data | grep -c " 0  *0 "',
                                       flags=['--uidmap', '0:100000:5000', '--gidmap', '0:100000:5000'])
        self.assertEqual((code, out), (0, '0\n0 100000 5000\n2\n'), err)

    def test_ids_that_podman_chooses(self):
        """--userns=auto takes them from a user `containers`: of files of this test's own, in a mount namespace of its own."""
        ids = os.path.join(self.top, 'ids')
        with open(ids, 'w') as f:
            f.write('containers:200000:100000\n')
        for flag, count in (('auto', 1024), ('auto:size=3000', 3000)):
            p = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', 'mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"', 'sh',
                                ids, *self.command, 'run', '--rm', *USUAL, '--userns', flag, IMAGE, 'sh', '-c',
                                'echo $(cat /proc/self/uid_map); touch /tmp/x; ls -ln /tmp /data | grep -c " 0  *0 "'], capture_output=True, text=True, timeout=PATIENCE * 4)
            self.assertEqual((p.returncode, p.stdout), (0, '0 200000 %d\n2\n' % count), p.stderr)

    def test_an_init_that_podman_puts_in(self):
        init = os.path.join(self.top, 'init')
        with open(init, 'w') as f:
            f.write('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\necho init $$\n"$@"\necho code $?\n')
        os.chmod(init, 0o755)
        code, out, err = self.run_once('sh', '-c', 'grep -c podman-init /proc/1/cmdline; exit 3', flags=['--init', '--init-path', init])
        self.assertEqual((code, out), (0, 'init 1\n1\ncode 3\n'), err)

    def test_a_pod_of_kubernetes(self):
        self.podman('import', '--change', 'CMD ["sleep","1000000"]', self.top + '/root.tar', IMAGE + '-pause', check=True)
        conf, pod = os.path.join(self.top, 'play.conf'), 'k%d' % time.monotonic_ns()
        with open(conf, 'w') as f:
            f.write('[containers]\ndefault_ulimits=["nofile=512:512","nproc=512:512"]\n[engine]\ninfra_image="%s-pause"\n' % IMAGE)
        os.environ['CONTAINERS_CONF'] = conf
        self.addCleanup(os.environ.pop, 'CONTAINERS_CONF')
        container = lambda name, script: {'name': name, 'image': IMAGE, 'imagePullPolicy': 'Never', 'command': ['/bin/sh', '-c', script], 'env': [
            {'name': 'A', 'value': 'b'}, {'name': 'PATH', 'value': '/bin'}], 'volumeMounts': [{'name': 'v', 'mountPath': '/shared'}]}
        rest = '; while :; do sleep 0.1; done'
        manifest = {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': pod}, 'spec': {
            'volumes': [{'name': 'v', 'hostPath': {'path': self.top + '/' + pod, 'type': 'DirectoryOrCreate'}}],
            'containers': [container('one', 'echo hello > /shared/x' + rest), container('two', 'while ! test -s /shared/x; do sleep 0.1; done; cat /shared/x' + rest)]}}
        path = os.path.join(self.top, pod + '.yaml')
        with open(path, 'w') as f:
            json.dump(manifest, f)
        code, out, err = self.podman('kube', 'play', '--network', 'none', path)
        self.addCleanup(self.podman, 'pod', 'rm', '--force', '--time', '0', pod)
        self.assertEqual(code, 0, err)
        wait_until(lambda: self.podman('logs', pod + '-two')[1] == 'hello\n', 'the second container')
        self.assertEqual(self.podman('exec', pod + '-two', 'sh', '-c', 'hostname; echo $A')[:2], (0, pod + '\nb\n'))
        self.assertEqual(self.podman('pod', 'inspect', pod, '--format', '{{.State}}')[1], 'Running\n')
        self.assertEqual(self.podman('kube', 'down', path)[0], 0)
        self.assertNotEqual(self.podman('pod', 'exists', pod)[0], 0)

    def test_options_of_security_and_of_names(self):
        code, out, err = self.run_once('sh', '-c', 'grep CapEff /proc/self/status; grep -c "Seccomp:.*0" /proc/self/status; id -G; umask; cat /proc/self/oom_score_adj',
                                       flags=['--cap-drop', 'all', '--cap-add', 'chown', '--security-opt', 'seccomp=unconfined', '--group-add', '9', '--group-add', '7',
                                              '--umask', '077', '--oom-score-adj', '500'])
        self.assertEqual((code, out), (0, 'CapEff:\t0000000000000001\n1\n0 7 9\n0077\n500\n'), err)
        self.assertEqual(self.run_once('hostname', flags=['--uts', 'host'])[:2], (0, os.uname().nodename + '\n'))
        self.assertEqual(self.run_once('cat', 'file', flags=['--workdir', '/data'])[:2], (0, 'contents\n'))

    def test_containers_of_a_pod_share_names_memory_and_network(self):
        pod = 'p%d' % time.monotonic_ns()
        conf = os.path.join(self.top, 'containers.conf')
        with open(conf, 'w') as f:
            f.write('[containers]\ndefault_ulimits=["nofile=512:512","nproc=512:512"]\n')
        os.environ['CONTAINERS_CONF'] = conf  # of the container that holds the pod, whose limits no flag sets
        self.addCleanup(os.environ.pop, 'CONTAINERS_CONF')
        self.podman('pod', 'create', '--name', pod, '--infra-image', IMAGE, '--infra-command', 'sleep 1000', '--network', 'none', check=True)
        self.addCleanup(self.podman, 'pod', 'rm', '--force', '--time', '0', pod)
        name = pod + 'a'
        self.podman('run', '-d', '--pod', pod, '--name', name, IMAGE, 'sh', '-c', 'echo shared > /dev/shm/x; nc -l -p 5000 -e cat & echo up; while :; do sleep 0.1; done', check=True)
        wait_until(lambda: 'up' in self.podman('logs', name)[1], 'the first container')
        other = ['run', '--rm', '-i', '--pod', pod, IMAGE]
        code, out, err = self.podman(*other, 'sh', '-c', 'hostname; cat /dev/shm/x')
        self.assertEqual((code, out), (0, pod + '\nshared\n'), err)
        wait_until(lambda: self.podman(*other, 'nc', '127.0.0.1', '5000', input=b'over loopback\n')[1] == 'over loopback\n', 'the server')
        self.assertEqual(self.podman('pod', 'stop', '--time', '0', pod)[0], 0)
        self.assertEqual(self.podman('inspect', name, '--format', '{{.State.Status}}')[1], 'exited\n')
        self.assertEqual(self.podman('pod', 'start', pod)[0], 0)
        self.assertEqual(self.podman('exec', name, 'cat', '/dev/shm/x')[0:2], (0, 'shared\n'))


class PodmanWithRunc(Podman, unittest.TestCase):
    runtime = 'runc'


class PodmanWithCaisson(Podman, unittest.TestCase):
    runtime = CAISSON


if __name__ == '__main__':
    unittest.main()

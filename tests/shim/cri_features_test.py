#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a pod may ask for through the CRI, with runc's handler and with Caisson's: the same answers."""
import json, os, re, subprocess, time, unittest

from daemon import CriError, read, wait_until
from pods import DEBIAN, OWN_PIDS, ROOTFS, Left, PodCase
from stream import STDERR, STDIN, STDOUT, connect_in

if not ROOTFS:
    raise SystemExit('no root file system: set CAISSON_ROOTFS (tests/rootfs.sh prints one)')
LONG = bool(os.environ.get('CAISSON_LONG'))
CAT = ['/bin/cat']
SLEEP = ['/bin/sleep', '100000']


class Features(PodCase):
    def test_what_containers_of_a_pod_share(self):
        pod = self.pod()
        disk, memory = (os.path.join(pod[1]['log_directory'], d) for d in ('disk', 'memory'))
        os.mkdir(disk)
        os.mkdir(memory)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', memory], check=True)
        self.addCleanup(subprocess.run, ['umount', memory], check=True)
        mounts = [{'container_path': '/disk', 'host_path': disk}, {'container_path': '/memory', 'host_path': memory}] + DEBIAN
        own = {'security_context': OWN_PIDS}
        a, b = (self.add(pod, n, *SLEEP, mounts=mounts, linux=own) for n in 'ab')
        for id in (a, b):
            self.assertEqual(self.sh(id, 'hostname'), pod[1]['hostname'] + '\n')
            self.assertIn('sleep', self.sh(id, 'cat /proc/1/cmdline'))
            self.assertEqual(self.sh(id, 'ls /proc > /tmp/l; grep -c "^[0-9]" /tmp/l'), '3\n')  # itself, the shell and ls: nobody else's
        for place in ('/disk', '/memory', '/dev/shm'):
            self.sh(a, 'echo of a > %s/f && mkdir %s/d && mkfifo %s/p' % (place, place, place))
            self.assertEqual(self.sh(b, 'cat %s/f; rm %s/f; echo of b > %s/d/g' % (place, place, place)), 'of a\n')
            self.assertEqual(self.sh(a, 'ls %s; cat %s/d/g' % (place, place)), 'd\np\nof b\n')
        self.assertEqual(read(memory + '/d/g'), 'of b\n')
        # Shared mappings: what one writes the other sees, without a write.
        for place in ('/memory', '/dev/shm'):
            script = 'import mmap,os,sys;f=os.open("%s/m",os.O_RDWR|os.O_CREAT);os.ftruncate(f,4096);m=mmap.mmap(f,4096);' % place
            self.add(pod, 'w' + place[1:4], '/usr/bin/python3', '-c', script + 'import time\nwhile m[1]!=7: m[0]=m[0]%250+1; time.sleep(.01)',
                     mounts=mounts, linux=own)
            out = self.run_in(a, '/usr/bin/python3', '-c', script + 'import time\nwhile not m[0]: time.sleep(.01)\nx=m[0]\nwhile m[0]==x: time.sleep(.01)\nm[1]=7;print("ok")')
            self.assertEqual(out, (0, 'ok\n', ''))
        # System V's, and abstract sockets.
        ipc = 'import ctypes;l=ctypes.CDLL(None);i=l.shmget(77,4096,%s);l.shmat.restype=ctypes.c_void_p;p=l.shmat(i,None,0);'
        self.assertEqual(self.run_in(a, '/usr/bin/python3', '-c', ipc % '0o1600' + 'ctypes.memmove(p,b"word",5)'), (0, '', ''))
        self.assertEqual(self.run_in(b, '/usr/bin/python3', '-c', ipc % '0' + 'print(ctypes.string_at(p).decode())'), (0, 'word\n', ''))
        self.remove(pod)

    def test_processes_are_shared_when_the_pod_says_so(self):
        pod = self.pod(security_context={'namespace_options': {'pid': 'POD'}})
        a = self.add(pod, 'a', '/bin/sleep', '4711')
        b = self.add(pod, 'b', '/bin/sleep', '4712')
        seen = self.sh(b, 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done')
        self.assertIn('sleep 4711', seen)
        self.assertIn('sleep 4712', seen)
        self.assertIn('sleep 1000000', seen)  # the sandbox's own is the first
        self.assertIn('1000000', self.sh(b, 'cat /proc/1/cmdline'))
        self.sh(b, 'kill -9 $(grep -l 471[1] /proc/[0-9]*/cmdline | cut -d/ -f3 | head -1)')
        self.assertEqual(self.wait(a)['exit_code'], 137)
        self.remove(pod)

    def test_streams_of_exec(self):
        pod = self.pod()
        c = self.add(pod, 'c', *SLEEP)
        s = self.open('Exec', container_id=c, cmd=['/bin/sh', '-c', 'read a; echo got $a; echo bad >&2; exit 6'], stdin=True, stdout=True, stderr=True)
        s.send(STDIN, b'line\n')
        s.expect(STDOUT, b'got line\n')
        s.expect(STDERR, b'bad\n')
        self.assertEqual(s.finish(), 6)
        s = self.open('Exec', container_id=c, cmd=['/bin/sh'], tty=True, stdin=True, stdout=True)
        s.resize(31, 97)
        s.send(STDIN, b'until [ "$(stty size)" = "31 97" ]; do sleep 0.02; done; tty; echo size"d"\n')
        s.expect(STDOUT, b'/dev/pts/')
        s.expect(STDOUT, b'sized')
        s.send(STDIN, b'(echo slee"ps"; exec sleep 1000)\n')
        s.expect(STDOUT, b'sleeps')
        s.send(STDIN, b'\x03')
        s.expect(STDOUT, b'^C')  # what was typed before it is thrown away
        s.send(STDIN, b'echo back"here"; exit 5\n')
        s.expect(STDOUT, b'backhere')
        self.assertEqual(s.finish(), 5)
        # Much of it, and both ways. The shell keeps its standard output: containerd ends the input when all others have closed that.
        s = self.open('Exec', container_id=c, cmd=['/bin/sh', '-c', 'head -c 3000000 /dev/zero; head -c 70000 >&2; exit 0'], stdin=True, stdout=True, stderr=True)
        for _ in range(7):
            s.send(STDIN, b'x' * 10000)
        self.assertEqual(s.finish(), 0)
        self.assertEqual((len(s.got[STDOUT]), len(s.got[STDERR])), (3000000, 70000))
        # Who vanishes leaves the program; it is not killed by writing.
        s = self.open('Exec', container_id=c, cmd=['/bin/sh', '-c', 'echo up; read x; while [ ! -e /tmp/go ]; do echo more; sleep 0.02; done; echo yes > /tmp/went'], stdin=True, stdout=True)
        s.expect(STDOUT, b'up\n')
        s.send(STDIN, b'\n')
        s.expect(STDOUT, b'more\n')
        s.close()
        self.sh(c, 'touch /tmp/go; until [ -e /tmp/went ]; do sleep 0.02; done')
        self.remove(pod)

    def test_attach_and_the_log_beside_it(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sh', '-c', 'while read l; do echo "to $l"; [ "$l" = end ] && exit 3; done; echo eof; sleep 1000', stdin=True)
        s = self.open('Attach', container_id=c, stdin=True, stdout=True, stderr=True)
        s.send(STDIN, b'one\n')
        s.expect(STDOUT, b'to one\n')
        s.close()
        s = self.open('Attach', container_id=c, stdin=True, stdout=True)
        s.send(STDIN, b'two\n')
        s.expect(STDOUT, b'to two\n')
        s.send(STDIN, b'end\n')
        s.finish()
        self.assertEqual(self.wait(c)['exit_code'], 3)
        wait_until(lambda: len(self.log(pod, 'c')) == 3, 'the log')
        self.assertEqual([l[1] for l in self.log(pod, 'c')], ['to one', 'to two', 'to end'])
        t = self.add(pod, 't', '/bin/sh', stdin=True, tty=True)
        s = self.open('Attach', container_id=t, stdin=True, stdout=True, tty=True)
        s.resize(40, 120)
        s.send(STDIN, b'until [ "$(stty size)" = "40 120" ]; do sleep 0.02; done; echo size"d"; exit 9\n')
        s.expect(STDOUT, b'sized')
        s.finish()
        self.assertEqual(self.wait(t)['exit_code'], 9)
        # stdin_once: the input ends with the first client.
        o = self.add(pod, 'o', *CAT, stdin=True, stdin_once=True)
        s = self.open('Attach', container_id=o, stdin=True, stdout=True)
        s.send(STDIN, b'last words\n')
        s.expect(STDOUT, b'last words\n')
        s.close()
        self.assertEqual(self.wait(o)['exit_code'], 0)
        self.remove(pod)

    def test_logs_are_rotated(self):
        pod = self.pod()
        c = self.add(pod, 'c', '/bin/sh', '-c', 'i=0; while :; do i=$((i+1)); echo n $i; sleep 0.01; done')
        path = os.path.join(pod[1]['log_directory'], 'c.log')
        for n in range(3):
            wait_until(lambda: len(self.log(pod, 'c')) > 5, 'the log')
            os.rename(path, path + '.%d' % n)
            self.cri.call('ReopenContainerLog', container_id=c)
        self.cri.call('StopContainer', container_id=c, timeout=0)
        lines = [l for p in [path + '.%d' % n for n in range(3)] + [path] for l in read(p).splitlines()]
        self.assertEqual([l.split(' ', 3)[3] for l in lines], ['n %d' % (i + 1) for i in range(len(lines))])
        # Long lines and unfinished ones are told as parts.
        d = self.add(pod, 'd', '/bin/sh', '-c', 'head -c 40000 /dev/zero | tr "\\0" x; echo; echo -n end')
        self.assertEqual(self.wait(d)['exit_code'], 0)
        wait_until(lambda: 'end' in read(os.path.join(pod[1]['log_directory'], 'd.log')), 'the log')
        parts = [l.split(' ', 3)[2:] for l in read(os.path.join(pod[1]['log_directory'], 'd.log')).splitlines()]
        self.assertEqual([p[0] for p in parts], ['P', 'P', 'F', 'P'])
        self.assertEqual(sum(len(p[1]) for p in parts[:3]), 40000)
        self.remove(pod)

    def test_ports_are_forwarded_and_mapped(self):
        pod = self.pod({'port_mappings': [{'protocol': 'TCP', 'container_port': 80, 'host_port': 8123}]})
        self.add(pod, 'c', '/bin/sh', '-c', 'mkdir -p /tmp/w && echo page > /tmp/w/index.html && exec busybox httpd -f -p 80 -h /tmp/w')
        ip = self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']['network']['ip']
        netns = '/run/netns/' + self.daemon.netns

        def get(s):
            s.sendall(b'GET /index.html HTTP/1.0\r\n\r\n')
            got = b''
            while True:
                b = s.recv(65536)
                if not b:
                    s.close()
                    return got
                got += b

        def up():
            try:
                return connect_in(netns, ip, 80)
            except OSError:
                return None
        self.assertIn(b'page\n', get(wait_until(up, 'the server')))
        self.assertIn(b'page\n', get(connect_in(netns, '10.87.0.1', 8123)))
        for _ in range(3):
            s = self.open('PortForward', 'port=80', pod_sandbox_id=pod[0], port=[80])
            s.expect(0, b'P\x00')  # the port's number comes first
            s.send(0, b'GET /index.html HTTP/1.0\r\n\r\n')
            s.expect(0, b'page\n')
            s.close()
        s = self.open('PortForward', 'port=81', pod_sandbox_id=pod[0], port=[81])
        s.expect(1, b'refused')
        s.close()
        # From another pod.
        other = self.pod(sysctls={'net.ipv4.ping_group_range': '0 2147483647'})
        o = self.add(other, 'o', *SLEEP, mounts=DEBIAN)
        self.assertEqual(self.sh(o, 'busybox wget -q -O - http://%s/index.html' % ip), 'page\n')
        self.assertEqual(self.run_in(o, '/usr/bin/python3', '-c', PING, ip), (0, 'payload\n', ''))
        self.remove(other)
        self.remove(pod)

    def test_names_are_resolved_as_the_pod_says(self):
        pod = self.pod({'dns_config': {'servers': ['10.87.0.1'], 'searches': ['svc.example', 'example'], 'options': ['ndots:5']}})
        server = subprocess.Popen([*self.daemon.prefix, 'python3', '-c', DNS_SERVER], stdout=subprocess.PIPE)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        server.stdout.readline()
        c = self.add(pod, 'c', *SLEEP, mounts=DEBIAN)
        self.assertEqual(self.sh(c, 'cat /etc/resolv.conf'), 'search svc.example example\nnameserver 10.87.0.1\noptions ndots:5\n')
        self.assertEqual(self.run_in(c, '/usr/bin/python3', '-c', 'import socket; print(socket.gethostbyname("db"))'), (0, '10.9.8.7\n', ''))
        self.assertIn(pod[1]['hostname'], self.sh(c, 'cat /etc/hostname'))
        self.remove(pod)

    def test_what_is_probed_often_leaves_nothing(self):
        pod = self.pod()
        c = self.add(pod, 'c', *SLEEP)
        self.run_in(c, '/bin/true')
        count = self.held()
        memory = 0
        for i in range(2000 if LONG else 40):
            self.assertEqual(self.run_in(c, '/bin/echo', str(i)), (0, '%d\n' % i, ''))
            if i == 100:
                memory = self.memory()
        for i in range(200 if LONG else 4):
            s = self.open('Exec', container_id=c, cmd=['/bin/sh', '-c', 'read a; echo got $a; exit 6'], stdin=True, stdout=True, tty=bool(i & 1))
            s.send(STDIN, b'x\n')
            s.expect(STDOUT, b'got x')
            self.assertEqual(s.finish(), 6)
        if LONG:
            more = self.memory() - memory
            print(self.handler, 'memory of the pod and its shim has grown by %d KiB' % more, flush=True)
            self.assertLess(more, 1024)
        for i in range(5):
            with self.assertRaises(CriError):
                self.run_in(c, '/bin/missing')
        with self.assertRaises(CriError):
            self.run_in(c, *SLEEP, timeout=1)
        wait_until(lambda: self.sh(c, 'ls /proc | grep -c "^[0-9]"') == self.sh(c, 'ls /proc | grep -c "^[0-9]"') and
                   'sleep\x001000000' in self.sh(c, 'cat /proc/[0-9]*/cmdline') and self.sh(c, 'cat /proc/[0-9]*/cmdline').count('sleep') == 2, 'the processes to be gone')
        # A process or a descriptor each would show; a process that can be used again may be kept for the next.
        wait_until(lambda: self.held() <= count + 25, 'descriptors to be closed: %d, now %d' % (count, self.held()))
        self.remove(pod)

    def test_many_pods_come_and_go(self):
        before = Left(self.daemon)
        pods = [self.pod() for _ in range(100 if LONG else 6)]
        ids = [self.add(p, 'c', *SLEEP) for p in pods]
        for id in ids:
            self.assertEqual(self.run_in(id, '/bin/echo', 'here'), (0, 'here\n', ''))
        for p in pods:
            self.remove(p)
        wait_until(lambda: not Left(self.daemon).more_than(before), 'nothing to be left: %s' % Left(self.daemon).more_than(before))

    def held(self):
        """Descriptors and threads of everything that belongs to this containerd's pods."""
        n = 0
        for p in Left(self.daemon).now['processes']:
            try:
                n += len(os.listdir('/proc/%s/fd' % p.split()[0])) + len(os.listdir('/proc/%s/task' % p.split()[0]))
            except OSError:
                pass
        return n

    def memory(self):
        """KiB of their own of the same."""
        n = 0
        for p in Left(self.daemon).now['processes']:
            try:
                n += sum(int(l.split()[1]) for l in read('/proc/%s/status' % p.split()[0]).splitlines() if l.startswith(('RssAnon:', 'VmSwap:')))
            except OSError:
                pass
        return n

    def test_limits_are_told_inside_and_change_live(self):
        pod = self.pod()
        res = {'memory_limit_in_bytes': 128 << 20, 'cpu_quota': 100000, 'cpu_period': 100000, 'cpu_shares': 512, 'cpuset_cpus': '0',
               'hugepage_limits': [{'page_size': '2MB', 'limit': 0}]}
        c = self.add(pod, 'c', *SLEEP, linux={'resources': res})
        self.assertEqual(self.sh(c, 'nproc'), '1\n')
        def limit():
            return int(self.sh(c, 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'))
        self.assertEqual(limit(), 128 << 20)
        self.cri.call('UpdateContainerResources', container_id=c, linux={'memory_limit_in_bytes': 256 << 20, 'cpuset_cpus': '0-1', 'cpu_quota': 150000, 'cpu_period': 100000})
        self.assertEqual(limit(), 256 << 20)
        self.assertEqual(self.sh(c, 'nproc'), '2\n')
        # And they are enforced: more than the new limit kills.
        self.assertEqual(self.run_in(c, '/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=180M', 'count=1')[0], 0)
        self.assertEqual(self.run_in(c, '/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=400M', 'count=1')[0], 137)
        self.assertEqual(self.status(c)['state'], 'CONTAINER_RUNNING')
        self.remove(pod)

    def test_figures_of_containers_and_pods(self):
        pod = self.pod(cgroup_parent='/%s/pod1' % self.daemon.group)
        a = self.add(pod, 'a', *SLEEP)
        b = self.add(pod, 'b', '/bin/sh', '-c', 'while :; do :; done')
        def cpu(id):
            return int(self.cri.call('ContainerStats', container_id=id)['stats']['cpu']['usage_core_nano_seconds']['value'])
        wait_until(lambda: cpu(b) > 100_000_000, 'time to be used')
        self.assertLess(cpu(a), 100_000_000)
        wait_until(lambda: len(self.cri.call('ListContainerStats')['stats']) >= 2, 'figures of all')
        s = self.cri.call('PodSandboxStats', pod_sandbox_id=pod[0])['stats']['linux']
        self.assertEqual(s['network']['default_interface']['name'], 'eth0')
        self.assertGreater(int(s['memory']['usage_bytes']['value']), 100000)
        self.assertGreater(int(s['cpu']['usage_core_nano_seconds']['value']), 100_000_000)
        self.assertEqual(len(s['containers']), 2)
        self.remove(pod)

    def test_a_container_is_made_again(self):
        pod = self.pod()
        side = self.add(pod, 'side', *SLEEP)
        for n in range(3):  # as a kubelet does that restarts
            c = self.add(pod, 'c%d' % n, '/bin/sh', '-c', 'echo run; touch /tmp/x; exit %d' % n, metadata={'name': 'c', 'attempt': n})
            s = self.wait(c)
            self.assertEqual((s['exit_code'], s['reason']), (n, 'Error' if n else 'Completed'))
            self.cri.call('RemoveContainer', container_id=c)
        self.assertEqual(self.run_in(side, '/bin/true')[0], 0)
        # One that was made and never started, and one whose program does not exist.
        c = self.add(pod, 'never', *SLEEP, start=False)
        self.assertEqual(self.status(c)['state'], 'CONTAINER_CREATED')
        self.cri.call('RemoveContainer', container_id=c)
        with self.assertRaises(CriError):
            self.add(pod, 'nothing', '/bin/nothing')
        self.remove(pod)

    def test_what_a_container_may_do(self):
        pod = self.pod(sysctls={'kernel.shmmax': '123456789', 'net.ipv4.ip_unprivileged_port_start': '0', 'net.core.somaxconn': '321',
                               'fs.mqueue.msg_max': '77'})
        def inside(name, **security):
            return self.add(pod, name, *SLEEP, linux={'security_context': {**OWN_PIDS, **security}})
        c = inside('user', run_as_user={'value': 1234}, run_as_group={'value': 2345}, supplemental_groups=[3001, 3002], no_new_privs=True)
        self.assertEqual(self.sh(c, 'id -u; id -g; id -G'), '1234\n2345\n2345 3001 3002\n')
        self.assertIn('NoNewPrivs:\t1\n', self.sh(c, 'cat /proc/self/status'))
        self.assertIn('CapEff:\t0000000000000000\n', self.sh(c, 'cat /proc/self/status'))
        self.assertEqual(self.sh(c, 'cd /proc/sys; cat kernel/shmmax net/ipv4/ip_unprivileged_port_start net/core/somaxconn fs/mqueue/msg_max'),
                         '123456789\n0\n321\n77\n')
        self.assertNotEqual(self.run_in(c, '/bin/touch', '/bin/x')[0], 0)
        c = inside('name', run_as_username='user')
        self.assertEqual(self.sh(c, 'id -u; id -g'), '1000\n1000\n')
        c = inside('ro', readonly_rootfs=True)
        self.assertIn('Read-only', self.run_in(c, '/bin/touch', '/tmp/x')[2])
        self.sh(c, 'echo > /dev/shm/x')
        c = inside('caps', capabilities={'add_capabilities': ['NET_ADMIN'], 'drop_capabilities': ['CHOWN', 'KILL']})
        eff = int(re.search('CapEff:\t(.*)', self.sh(c, 'cat /proc/self/status')).group(1), 16)
        self.assertEqual([bool(eff >> n & 1) for n in (0, 5, 12, 1)], [False, False, True, True])
        self.assertIn('not permitted', self.run_in(c, '/bin/sh', '-c', 'touch /tmp/f; busybox chown 5 /tmp/f')[2])
        c = inside('none', capabilities={'drop_capabilities': ['ALL']})
        self.assertIn('CapBnd:\t0000000000000000\n', self.sh(c, 'cat /proc/self/status'))
        c = inside('masked', masked_paths=['/proc/uptime', '/proc/sys'], readonly_paths=['/proc/irq', '/data'])
        self.assertEqual(self.sh(c, 'cat /proc/uptime; ls /proc/sys; cat /data/file'), 'contents\n')
        self.assertIn('Read-only', self.run_in(c, '/bin/sh', '-c', 'echo > /data/file')[2])
        profile = os.path.join(pod[1]['log_directory'], 'profile.json')
        with open(profile, 'w') as f:
            json.dump({'defaultAction': 'SCMP_ACT_ALLOW', 'syscalls': [{'names': ['mkdir', 'mkdirat'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 95}]}, f)
        c = inside('seccomp', seccomp={'profile_type': 'Localhost', 'localhost_ref': profile})
        self.assertIn('not supported', self.run_in(c, '/bin/sh', '-c', 'busybox mkdir /tmp/d')[2])
        self.assertIn('Seccomp:\t2\n', self.sh(c, 'cat /proc/self/status'))
        c = inside('default', seccomp={'profile_type': 'RuntimeDefault'})
        self.assertIn('Seccomp:\t2\n', self.sh(c, 'cat /proc/self/status'))
        self.assertIn('permission denied', self.run_in(c, '/bin/sh', '-c', 'busybox mount -t tmpfs x /tmp')[2])
        self.remove(pod)

    def test_a_pause_is_of_one_container(self):
        pod = self.pod()
        counter = 'i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.02; done'
        a, b = (self.add(pod, n, '/bin/sh', '-c', counter) for n in 'ab')
        def value(id):
            return self.sh(id, 'cat /tmp/n')
        self.daemon.ctr('tasks', 'pause', a)
        n = value(b)
        wait_until(lambda: value(b) != n, 'the other to go on')
        self.daemon.ctr('tasks', 'resume', a)
        n = value(a)
        wait_until(lambda: value(a) != n, 'it to go on')
        self.daemon.ctr('tasks', 'pause', a)
        # Of the sandbox's own container: all but its one program goes on, also what containerd asks for.
        task = lambda id: next(l.split()[2] for l in self.daemon.ctr('tasks', 'ls')[1].splitlines() if l.startswith(id))
        for _ in range(2):
            self.assertEqual(self.daemon.ctr('tasks', 'pause', pod[0])[0], 0)
            self.assertEqual((task(pod[0]), task(b)), ('PAUSED', 'RUNNING'))
            n = value(b)
            wait_until(lambda: value(b) != n, 'the other to go on')
            for method, request in (('ContainerStats', {'container_id': b}), ('PodSandboxStats', {'pod_sandbox_id': pod[0]}), ('ListContainerStats', {})):
                self.cri.call(method, **request)
            self.assertEqual(self.daemon.ctr('tasks', 'metrics', pod[0])[0], 0)
            c = self.add(pod, 'c', '/bin/echo', 'here', metadata={'name': 'c%d' % time.monotonic_ns()})
            self.assertEqual(self.wait(c)['exit_code'], 0)
            self.assertEqual(self.daemon.ctr('tasks', 'resume', pod[0])[0], 0)
            self.assertEqual(task(pod[0]), 'RUNNING')
        self.assertEqual(self.daemon.ctr('tasks', 'pause', pod[0])[0], 0)
        self.remove(pod)


PING = '''
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)
s.settimeout(30)
s.sendto(struct.pack(">BBHHH", 8, 0, 0, 0, 7) + b"payload", (sys.argv[1], 0))
print(s.recv(100)[8:].decode())
'''
# Answers every question for an address with 10.9.8.7.
DNS_SERVER = '''
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.87.0.1", 53))
print("up", flush=True)
while True:
    q, who = s.recvfrom(512)
    end = q.index(b"\\0", 12) + 5
    ok = q[end - 4:end - 2] == b"\\0\\1" and b"svc" in q
    s.sendto(q[:2] + (b"\\x81\\x80" if ok else b"\\x81\\x83") + b"\\0\\1" + (b"\\0\\1" if ok else b"\\0\\0") + b"\\0\\0\\0\\0" + q[12:end] +
             (b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\x0a\\x09\\x08\\x07" if ok else b""), who)
'''


class WithRunc(Features, unittest.TestCase):
    handler = 'runc'


class WithCaisson(Features, unittest.TestCase):
    handler = 'caisson'


if __name__ == '__main__':
    unittest.main()

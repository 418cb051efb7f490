#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Members of the OCI spec, one by one, under runc and under Caisson: what a program inside can observe is the same."""
import json, os, re, resource, shutil, subprocess, time, unittest

from lab import ROOTFS, Box, config


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


def spaces(*types):
    return [{'type': t} for t in types]


def mount(script, destination, kind, options, source='none'):
    c = shell(script)
    c['mounts'].append({'destination': destination, 'type': kind, 'source': source, 'options': options})
    return c


CAPS_ALL = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_SETGID', 'CAP_SETUID']
MAPS = [{'containerID': 0, 'hostID': 300000, 'size': 1000}, {'containerID': 5000, 'hostID': 305000, 'size': 10}]


def mapped(script, uids=MAPS, user=None):
    """In a user namespace."""
    c = shell(script)
    c['linux']['namespaces'] = [{'type': t} for t in ('pid', 'ipc', 'uts', 'mount', 'network', 'user')]
    c['linux'].update(uidMappings=uids, gidMappings=MAPS)
    c['mounts'] = [m for m in c['mounts'] if m['type'] not in ('sysfs', 'devpts')]
    if user:
        c['process']['user'] = user
    return c


CAPS = 'grep ^Cap /proc/self/status'
with open(os.path.join(ROOTFS, 'usr/include/x86_64-linux-gnu/asm/unistd_64.h')) as f:
    CALLS = re.findall(r'#define __NR_(\w+)', f.read())


def filtered(script, *rules, default='SCMP_ACT_ALLOW', **more):
    return linux(script, seccomp={'defaultAction': default, 'architectures': ['SCMP_ARCH_X86_64'], 'syscalls': list(rules), **more})


def compared(op, value, two=0):
    """Which arguments of umask the comparison is true of."""
    return filtered('python3 -c "import ctypes; print([ctypes.CDLL(None).umask(i) for i in range(8)])"',
                    {'names': ['umask'], 'action': 'SCMP_ACT_ERRNO', 'args': [{'index': 0, 'value': value, 'valueTwo': two, 'op': 'SCMP_CMP_' + op}]})


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
    'a tmpfs with a mode at a place of its own': mount('stat -c %a /tmp/place', '/tmp/place', 'tmpfs', ['mode=711', 'tmpcopyup']),
    'groups are in order': process('id -G; grep ^Groups /proc/self/status', user={'uid': 0, 'gid': 0, 'additionalGids': [9, 7, 30]}),
    'no host name': shell('hostname; uname -n', hostname=None),
    'no namespace of names': shell('hostname', hostname=None, linux={'namespaces': spaces('pid', 'ipc', 'mount', 'network')}),
    'mqueue': mount("stat -f -c %T /dev/shm /dev/mqueue; stat -c '%F %a %u:%g %h' /dev/mqueue; findmnt -n -o FSTYPE,OPTIONS /dev/mqueue; touch /dev/mqueue/q; "
                    "cat /dev/mqueue/q; stat -c '%a %s %F' /dev/mqueue/q; mkdir /dev/mqueue/d; echo $?; rm /dev/mqueue/q; ls /dev/mqueue; "
                    "grep . /proc/sys/fs/mqueue/*", '/dev/mqueue', 'mqueue', ['nosuid', 'noexec', 'nodev'], 'mqueue'),
    'a read-only mqueue': mount('touch /dev/mqueue/q; echo $?', '/dev/mqueue', 'mqueue', ['ro'], 'mqueue'),
    'a cgroup mount': mount("findmnt -n -o OPTIONS /sys/fs/cgroup | tr , '\\n' | grep -xE 'nosuid|nodev|noexec|relatime'; stat -c '%F %u:%g' /sys/fs/cgroup; "
                            "mkdir /sys/fs/cgroup/pids/sub /sys/fs/cgroup/sub; echo $?; find /sys/fs/cgroup -name cgroup.procs | head -1 | xargs grep -cx 1",
                            '/sys/fs/cgroup', 'cgroup', ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'], 'cgroup'),
    'sysctl': linux('cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax',
                    sysctl={'net.core.somaxconn': '321', 'kernel.msgmax': '4321'}),
    'devices': shell('for d in null zero full random urandom tty; do stat -c "%n %F %t:%T %a" /dev/$d; done; readlink /dev/fd /dev/stdin /dev/ptmx'),
    'oomScoreAdj': process('cat /proc/self/oom_score_adj', oomScoreAdj=321),
    'devices that are asked for': linux("stat -c '%n %F %t:%T %a %u:%g' /dev/mine /dev/made/fuse /dev/pipe; echo x > /dev/mine; "
                                        "(echo through > /dev/pipe &) ; cat /dev/pipe",
                                        devices=[{'path': '/dev/mine', 'type': 'c', 'major': 1, 'minor': 3, 'fileMode': 0o640, 'uid': 7, 'gid': 8},
                                                 {'path': '/dev/made/fuse', 'type': 'c', 'major': 10, 'minor': 229, 'fileMode': 0o666},
                                                 {'path': '/dev/pipe', 'type': 'p', 'fileMode': 0o600}]),
    'seccomp: errno': linux('mkdir /tmp/d; echo $?; rmdir /tmp/d; uname -s',
                            seccomp={'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                                     'syscalls': [{'names': ['mkdir', 'no_such_call'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 28}]}),
    'seccomp: kill': linux('uname -s; true', seccomp={'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                                                      'syscalls': [{'names': ['uname'], 'action': 'SCMP_ACT_KILL_PROCESS'}]}),
    'seccomp: arguments': linux('umask 0; bash -c "kill -0 1"; echo $?; bash -c "kill -USR1 \\$PPID; echo \\$?"',
                                seccomp={'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                                         'syscalls': [{'names': ['kill'], 'action': 'SCMP_ACT_ERRNO',
                                                       'args': [{'index': 1, 'value': 10, 'op': 'SCMP_CMP_EQ'}]}]}),
    'seccomp: trap': filtered('mkdir /tmp/d; echo $?', {'names': ['mkdir'], 'action': 'SCMP_ACT_TRAP'}),
    'seccomp: trace': filtered('mkdir /tmp/d 2>&1; echo $?', {'names': ['mkdir'], 'action': 'SCMP_ACT_TRACE', 'errnoRet': 5}),
    'seccomp: log': filtered('mkdir /tmp/d; echo $?; ls /tmp', {'names': ['mkdir'], 'action': 'SCMP_ACT_LOG'}),
    'seccomp: kill a thread': filtered('mkdir /tmp/d; echo $?', {'names': ['mkdir'], 'action': 'SCMP_ACT_KILL_THREAD'}),
    'seccomp: all but what is allowed': filtered('mkdir /tmp/d 2>&1; echo $?', {'names': [c for c in CALLS if c != 'mkdir'], 'action': 'SCMP_ACT_ALLOW'},
                                                 default='SCMP_ACT_ERRNO', defaultErrnoRet=95),
    'seccomp: not equal': compared('NE', 3), 'seccomp: less': compared('LT', 3), 'seccomp: less or equal': compared('LE', 3),
    'seccomp: equal': compared('EQ', 3), 'seccomp: greater or equal': compared('GE', 3), 'seccomp: greater': compared('GT', 3),
    'seccomp: equal in some bits': compared('MASKED_EQ', 5, 4),
    'mounts in order, one over the other': shell('cat /mnt/f; ls /mnt', mounts=config([])['mounts'] + [
        {'destination': '/mnt', 'type': 'tmpfs', 'source': 'none'}, {'destination': '/mnt/f', 'type': 'bind', 'source': '/etc/hostname', 'options': ['bind']},
        {'destination': '/mnt/d/e', 'type': 'tmpfs', 'source': 'none'}]),
    'ramfs': mount('touch /mnt/x; ls /mnt', '/mnt', 'ramfs', []),
    'a second proc and sysfs': shell('ls /mnt/p/self/status /mnt/s/kernel >/dev/null; echo $?; touch /mnt/s/x; echo $?', mounts=config([])['mounts'] + [
        {'destination': '/mnt', 'type': 'tmpfs', 'source': 'none'}, {'destination': '/mnt/p', 'type': 'proc', 'source': 'proc'},
        {'destination': '/mnt/s', 'type': 'sysfs', 'source': 'sysfs', 'options': ['ro']}]),
    'options of mounts': shell("for m in a b c; do findmnt -n -o OPTIONS /mnt/$m | tr , '\\n' | grep -xE 'ro|rw|nosuid|nodev|noexec|noatime|relatime|nodiratime'; echo; done",
                               mounts=config([])['mounts'] + [
        {'destination': '/mnt', 'type': 'tmpfs', 'source': 'none'},
        {'destination': '/mnt/a', 'type': 'tmpfs', 'source': 'none', 'options': ['nosuid', 'nodev', 'noexec', 'noatime', 'ro']},
        {'destination': '/mnt/b', 'type': 'bind', 'source': '/etc', 'options': ['rbind', 'nosuid', 'noexec', 'nodiratime', 'ro']},
        {'destination': '/mnt/c', 'type': 'tmpfs', 'source': 'none', 'options': ['noexec', 'exec', 'ro', 'rw']}]),
    'an empty environment': process('', args=['/usr/bin/env'], env=[]),
    'HOME is that of the user': process('', args=['/usr/bin/env'], env=['A=b'], user={'uid': 2, 'gid': 2}),
    'HOME of a user without a name': process('', args=['/usr/bin/env'], env=['A=b'], user={'uid': 12345, 'gid': 2}),
    'HOME that is empty': process('', args=['/usr/bin/env'], env=['HOME=', 'A=b'], user={'uid': 2, 'gid': 2}),
    'HOME that is given': process('', args=['/usr/bin/env'], env=['HOME=/x'], user={'uid': 2, 'gid': 2}),
    'null is absent': process('pwd; hostname', rlimits=None, capabilities=None, noNewPrivileges=None, oomScoreAdj=None, selinuxLabel=None),
    'annotations': shell('echo $A', annotations={'a.b': 'c', 'empty': ''}),
    'an older version of the spec': shell('echo fine', ociVersion='1.0.0'),
    'a personality set by a program': shell('setarch i686 uname -m; setarch i686 bash -c "uname -m; exec uname -m"; uname -m'),
    'exit code': shell('exit 42'),
    'no killer where there is no memory': linux('echo fine', resources={'memory': {'limit': 1 << 30, 'disableOOMKiller': True}}),
    'time of real-time programs': linux('echo fine', resources={'cpu': {'realtimePeriod': 1000000, 'realtimeRuntime': 1000}}),
    'death by a signal': shell('bash -c "kill -SEGV \\$\\$"; echo $?'),
}


class Members(unittest.TestCase):
    def test_each_is_observed_as_under_runc(self):
        with Box('runc') as runc, Box('caisson') as caisson:
            for what, c in TABLE.items():
                with self.subTest(what):
                    want, got = runc.run(c), caisson.run(c)
                    self.assertEqual(got[:2], want[:2], (want[2], got[2]))
                    self.assertNotIn('not known to this version', got[2])


# What this machine's runc does not know yet: the rules of the spec tell what must be seen.
SECOND = 1000000000
OWN = {
    'domainname': (shell('cat /proc/sys/kernel/domainname; domainname', domainname='some.domain'), 'some.domain\nsome.domain\n'),
    'scheduler': (process('chrt -p $$; nice; bash -c nice', scheduler={'policy': 'SCHED_BATCH', 'nice': 5}),
                  r"pid 1's current scheduling policy: SCHED_BATCH\npid 1's current scheduling priority: 0\n5\n5\n"),
    'scheduler, idle': (process('chrt -p $$', scheduler={'policy': 'SCHED_IDLE'}), '.*SCHED_IDLE.*'),
    'ioPriority': (process('ionice; bash -c ionice', ioPriority={'class': 'IOPRIO_CLASS_BE', 'priority': 6}),
                   'best-effort: prio 6\nbest-effort: prio 6\n'),
    'ioPriority, idle': (process('ionice', ioPriority={'class': 'IOPRIO_CLASS_IDLE'}), 'idle\n'),
    'personality': (linux('uname -m; cat /proc/self/personality', personality={'domain': 'LINUX32'}), 'i686\n00000008\n'),
    'execCPUAffinity is not for the first program': (process('taskset -p $$', execCPUAffinity={'initial': '0', 'final': '0'}),
                                                     '.*: %x\n' % ((1 << os.cpu_count()) - 1)),
}


class OwnMembers(unittest.TestCase):
    def test_each_is_observed_as_the_spec_says(self):
        with Box('caisson') as box:
            for what, (c, want) in OWN.items():
                with self.subTest(what):
                    code, out, err = box.run(c)
                    self.assertEqual((code, err), (0, ''), out)
                    self.assertRegex(out, '^(?s:%s)$' % want)

    def test_processes_of_exec_have_their_own_scheduling(self):
        c = linux('sleep 1000', personality={'domain': 'LINUX32'})
        c['process']['execCPUAffinity'] = {'final': '0'}
        with Box('caisson') as box:
            id = box.start(c)
            self.assertEqual(box.call('exec', id, '/bin/bash', '-c', 'taskset -p $$ | cut -d: -f2; uname -m; chrt -p $$ | head -1 | cut -d: -f2')[1],
                             ' 1\ni686\n SCHED_OTHER\n')
            process = {'args': ['/bin/bash', '-c', 'chrt -p $$ | head -1; uname -m'], 'cwd': '/', 'env': ['PATH=/bin:/usr/bin'],
                       'scheduler': {'policy': 'SCHED_BATCH'}}
            path = os.path.join(box.top, 'process.json')
            with open(path, 'w') as f:
                json.dump(process, f)
            code, out, err = box.call('exec', '--process', path, id)
            self.assertEqual(code, 0, err)
            self.assertRegex(out, 'SCHED_BATCH\ni686\n')

    def test_the_hosts_processes_are_scheduled_so_too(self):
        c = process('sleep 1000', scheduler={'policy': 'SCHED_BATCH', 'nice': 7}, ioPriority={'class': 'IOPRIO_CLASS_BE', 'priority': 7})
        with Box('caisson') as box:
            id = box.start(c)
            sentry = box.pid(id)
            seen = set()
            for pid in filter(str.isdigit, os.listdir('/proc')):
                try:
                    with open('/proc/%s/stat' % pid) as f:
                        rest = f.read().rsplit(') ', 1)[1].split()
                except OSError:
                    continue
                if int(rest[1]) == sentry:  # zygote and stubs
                    seen.add((int(rest[16]), os.sched_getscheduler(int(pid))))
            self.assertEqual(seen, {(7, os.SCHED_BATCH)})

    def test_clocks_have_the_offsets(self):
        c = linux('python3 -c "import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME))"',
                  timeOffsets={'monotonic': {'secs': 5000, 'nanosecs': 5}, 'boottime': {'secs': 90000}})
        with Box('caisson') as box:
            code, _, err = box.run(c)
            self.assertEqual(code, 1)
            self.assertIn('namespace', err)
            c['linux']['namespaces'].append({'type': 'time'})
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            code, out, err = box.run(c)
            self.assertEqual((code, err), (0, ''))
            for clock, offset, host in zip(out.split(), (5000, 90000), before):
                self.assertGreater(int(clock), host + offset * SECOND)
                self.assertLess(int(clock), host + (offset + 100) * SECOND)

    def test_read_only_is_for_everything_below(self):
        """rro under both; runc's ro leaves what is mounted below as it is, here it means the same as rro."""
        for runtime, options in (('runc', ['rbind', 'rro']), ('caisson', ['rbind', 'rro']), ('caisson', ['rbind', 'ro'])):
            with self.subTest(runtime + ' ' + options[1]), Box(runtime) as box:
                sub = os.path.join(box.top, 'source', 'sub')
                os.makedirs(sub)
                subprocess.run(['mount', '-t', 'tmpfs', 'none', sub], check=True)
                try:
                    with open(sub + '/there', 'w'):
                        pass
                    code, out, _ = box.run(mount('ls /mnt/sub; touch /mnt/x; echo $?; touch /mnt/sub/x; echo $?', '/mnt', 'bind', options,
                                                 os.path.dirname(sub)))
                finally:
                    subprocess.run(['umount', sub], check=True)
                self.assertEqual((code, out), (0, 'there\n1\n1\n'))


# What is asked for and not given is told, and the container runs.
WARNED = {
    'AppArmor': (process('true', apparmorProfile='some'), 'process.apparmorProfile'),
    'SELinux': (process('true', selinuxLabel='some'), 'process.selinuxLabel'),
    'SELinux of mounts': (linux('true', mountLabel='some'), 'linux.mountLabel'),
    'flags of a scheduler': (process('true', scheduler={'policy': 'SCHED_OTHER', 'flags': ['SCHED_FLAG_RESET_ON_FORK']}), 'process.scheduler.flags'),
    'a device of the host': (linux('true', devices=[{'path': '/dev/kvm', 'type': 'c', 'major': 10, 'minor': 232}]), '/dev/kvm'),
    'classes of network': (linux('true', resources={'network': {'classID': 1048577}}), 'classID'),
    'priorities of network': (linux('true', resources={'network': {'priorities': [{'name': 'eth0', 'priority': 5}]}}), 'priorities'),
    'shared root': (linux('true', rootfsPropagation='shared'), 'rootfsPropagation'),
    'a namespace by path': (linux('true', namespaces=[{'type': 'ipc', 'path': '/proc/self/ns/ipc'}] + spaces('pid', 'uts', 'mount', 'network')), 'ipc namespace'),
    "the host's processes": (linux('true', namespaces=spaces('ipc', 'uts', 'mount', 'network')), 'does not have pid:'),
    "the host's everything": (linux('true', namespaces=None), 'does not have pid, ipc, uts, mount:'),
    'network devices': (linux('true', netDevices={'eth0': {'name': 'eth1'}}), 'linux.netDevices'),
    'policies of memory': (linux('true', memoryPolicy={'mode': 'MPOL_BIND', 'nodes': '0'}), 'linux.memoryPolicy'),
    'kernel memory': (linux('true', resources={'memory': {'kernel': 1 << 30}}), 'memory.kernel'),
    'kernel memory of TCP': (linux('true', resources={'memory': {'kernelTCP': 1 << 30}}), 'memory.kernelTCP'),
    'a name of a user': (process('true', user={'uid': 0, 'gid': 0, 'username': 'x'}), 'process.user.username'),
    'other systems': (shell('true', windows={'x': 1}), 'windows'),
    'Windows command lines': (process('true', commandLine='x'), 'process.commandLine'),
    'unknown members': (shell('true', nobody={'knows': 1}), 'nobody'),
    'unknown capabilities': (process('true', capabilities={'bounding': ['CAP_NONE_SUCH']}), 'CAP_NONE_SUCH'),
}
SILENT = {
    'RDMA, of which there is none to limit': linux('true', resources={'rdma': {'mlx5_1': {'hcaHandles': 3, 'hcaObjects': 10000}}}),
    'a check before an update': linux('true', resources={'memory': {'limit': 1 << 30, 'checkBeforeUpdate': True}}),
    'weights of disks': linux('true', resources={'blockIO': {'leafWeight': 300}}),
    'flags of seccomp': filtered('true', {'names': ['mkdir'], 'action': 'SCMP_ACT_LOG'}, flags=['SECCOMP_FILTER_FLAG_LOG']),
    'empty members': linux('true', intelRdt={}, resources={'network': {}, 'rdma': None}, devices=[], timeOffsets={}),
    'rules for devices': linux('true', resources={'devices': [{'allow': False, 'access': 'rwm'}]}),
}
REFUSED = {
    'shared propagation': (mount('true', '/mnt', 'bind', ['rbind', 'rshared'], '/etc'), "the mount at /mnt is 'shared'"),
    'a real-time scheduler': (process('true', scheduler={'policy': 'SCHED_FIFO', 'priority': 5}), 'process.scheduler.policy'),
    'a deadline': (process('true', scheduler={'policy': 'SCHED_DEADLINE', 'runtime': 1000000, 'deadline': 2000000, 'period': 3000000}), 'process.scheduler.policy'),
    'an agent': (filtered('true', {'names': ['mkdir'], 'action': 'SCMP_ACT_NOTIFY'}, listenerPath='/run/agent', listenerMetadata='x'), 'listenerPath'),
    'an id-mapped mount by its mappings': (shell('true', mounts=config([])['mounts'] + [
        {'destination': '/mnt', 'type': 'bind', 'source': '/etc', 'options': ['rbind'], 'uidMappings': MAPS, 'gidMappings': MAPS}]), 'id-mapped mount'),
    'the weight of a disk that is not there': (linux('true', resources={'blockIO': {'weightDevice': [{'major': 1, 'minor': 0, 'weight': 300}]}}), 'weightDevice'),
    'a scheduler without policy': (process('true', scheduler={'nice': 5}), 'process.scheduler.policy'),
    'a priority': (process('true', scheduler={'policy': 'SCHED_OTHER', 'priority': 5}), 'process.scheduler.priority'),
    'niceness': (process('true', scheduler={'policy': 'SCHED_OTHER', 'nice': 20}), 'process.scheduler.nice'),
    'an I/O class': (process('true', ioPriority={'class': 'IOPRIO_CLASS_X', 'priority': 1}), 'process.ioPriority.class'),
    'an I/O priority': (process('true', ioPriority={'class': 'IOPRIO_CLASS_BE', 'priority': 8}), 'process.ioPriority.priority'),
    'CPUs': (process('true', execCPUAffinity={'final': '3-1'}), 'process.execCPUAffinity.final'),
    'Intel RDT': (linux('true', intelRdt={'closID': 'x'}), 'linux.intelRdt'),
    'a personality': (linux('true', personality={'domain': 'SOLARIS'}), 'linux.personality.domain'),
    'flags of a personality': (linux('true', personality={'domain': 'LINUX', 'flags': ['X']}), 'linux.personality.flags'),
    'a clock before its beginning': (linux('true', timeOffsets={'boottime': {'secs': -(1 << 39)}},
                                           namespaces=spaces('time', 'pid', 'ipc', 'uts', 'mount', 'network')), 'clocks of the time namespace'),
    'mappings without a user namespace': (linux('true', uidMappings=[MAPS[0]], gidMappings=[MAPS[0]]), 'user namespace'),
    'a user namespace without mappings': (linux('true', namespaces=spaces('user', 'pid', 'ipc', 'uts', 'mount', 'network')), 'linux.uidMappings has no containerID 0'),
    'a user namespace by path': (linux('true', namespaces=[{'type': 'user', 'path': '/proc/self/ns/user'}]), 'joins a user namespace'),
    'mappings that overlap': (mapped('true', [MAPS[0], {'containerID': 5, 'hostID': 900000, 'size': 1}]), 'linux.uidMappings[1] overlaps'),
    'a mapping of nothing': (mapped('true', [{'containerID': 0, 'hostID': 100000, 'size': 0}]), 'is no range of ids'),
    'a mapping beyond the last id': (mapped('true', [{'containerID': 0, 'hostID': 4294967290, 'size': 100}]), 'is no range of ids'),
    'a user without a mapping': (mapped('true', user={'uid': 70000, 'gid': 0}), 'uid 70000 is none of linux.uidMappings'),
    'an id-mapped mount': (mount('true', '/mnt', 'bind', ['rbind', 'ridmap'], '/etc'), 'ridmap'),
    'a device without a path': (linux('true', devices=[{'path': 'x', 'type': 'c'}]), 'linux.devices[0].path'),
    'a kind of device': (linux('true', devices=[{'path': '/x', 'type': 'z'}]), 'linux.devices[0].type'),
    'the name of an interface': (linux('true', resources={'network': {'priorities': [{'name': 'a b', 'priority': 1}]}}), 'priorities[0].name'),
}


class Unsupported(unittest.TestCase):
    def test_nothing_is_passed_over_in_silence(self):
        with Box('caisson') as box:
            for what, (c, words) in WARNED.items():
                with self.subTest(what):
                    code, _, err = box.run(c)
                    self.assertEqual(code, 0, err)
                    self.assertEqual(len(err.splitlines()), 1, err)
                    self.assertIn(words, err)
            for what, c in SILENT.items():
                with self.subTest(what):
                    self.assertEqual(box.run(c), (0, '', ''))
            for what, (c, words) in REFUSED.items():
                with self.subTest(what):
                    code, _, err = box.run(c)
                    self.assertEqual(code, 1, err)
                    self.assertEqual(len(err.splitlines()), 1, err)
                    self.assertIn(words, err)


class MappedIds(unittest.TestCase):
    """linux.uidMappings of a caller who is root: ids inside are others on the host, and no other ids mean anything."""
    SCRIPT = """cat /proc/self/uid_map /proc/self/gid_map; id -u; cat /mnt/roots; stat -c '%u %g' /mnt/roots /mnt/users /mnt/hosts
echo x > /mnt/new; chown 7:8 /mnt/users; chown 5005 /mnt/new; chown 2000 /mnt/new; echo $?; echo y > /mnt/hosts; echo $?; cat /mnt/hosts; echo $?
python3 -c '
import os
for f in (lambda: os.setuid(2000), lambda: os.setgid(6000), lambda: os.setgroups([2000])):
    try: f(); print("done")
    except OSError as e: print(e.errno)
os.setgid(5001); os.setuid(5001); os.close(os.open("/mnt/own/file", os.O_CREAT)); print(os.stat("/mnt/own/file").st_uid)'
"""

    def test_files_and_processes(self):
        seen = {}
        for name in ('runc', 'caisson'):
            with Box(name) as box:
                os.chmod(box.top, 0o755)
                v = os.path.join(box.top, 'v')
                os.mkdir(v)
                os.chown(v, 300000, 300000)
                for file, owner, mode in (('roots', 300000, 0o600), ('users', 300999, 0o600), ('hosts', 0, 0o600)):
                    with open(os.path.join(v, file), 'w') as f:
                        f.write(file + '\n')
                    os.chown(f.name, owner, owner)
                    os.chmod(f.name, mode)
                os.mkdir(v + '/own')
                os.chown(v + '/own', 305001, 305001)
                c = mapped(self.SCRIPT)
                c['mounts'].append({'destination': '/mnt', 'type': 'bind', 'source': v, 'options': ['rbind', 'rw']})
                c['process']['capabilities'] = {k: CAPS_ALL for k in ('bounding', 'effective', 'permitted')}
                code, out, err = box.run(c)
                owners = {f: (os.stat(os.path.join(v, f)).st_uid, os.stat(os.path.join(v, f)).st_gid)
                          for f in ('roots', 'users', 'hosts', 'new', 'own/file') if os.path.exists(os.path.join(v, f))}
                seen[name] = (code, out, owners)
                self.assertEqual(code, 0, err)
        self.maxDiff = None
        self.assertEqual(seen['caisson'], seen['runc'])
        self.assertEqual(seen['caisson'][2]['new'], (305005, 300000))
        self.assertEqual(seen['caisson'][2]['own/file'], (305001, 305001))
        self.assertRegex(seen['caisson'][1], r'^ +0 +300000 +1000\n +5000 +305000 +10\n')

    def test_a_root_that_is_written(self):
        """The root belongs to the container's root; its own layer, and writes through to it."""
        script = 'echo x > /etc/new; mkdir /made; chown 5 /made; stat -c "%u %a" /etc/new /made; rm /etc/hostname; ls /etc/hostname 2>&1 | wc -l; dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; wc -c < /big'
        for flags in ((), ('--overlay', 'none')):
            with self.subTest(flags), Box('caisson') as box:
                os.chmod(box.top, 0o755)
                root = os.path.join(box.top, 'root')
                for d in ('bin', 'etc', 'proc', 'dev', 'tmp', 'sys'):
                    os.makedirs(os.path.join(root, d))
                shutil.copy(os.path.join(ROOTFS, 'bin/busybox'), root + '/bin/busybox')
                for name in ('sh', 'mkdir', 'chown', 'stat', 'rm', 'ls', 'dd', 'wc'):
                    os.symlink('busybox', root + '/bin/' + name)
                with open(root + '/etc/hostname', 'w') as f:
                    f.write('x')
                subprocess.run(['chown', '-R', '300000:300000', root], check=True)
                c = mapped(script)
                c['process']['args'][0] = '/bin/sh'
                c['root'] = {'path': root}
                code, out, err = box.run(c, *flags)
                self.assertEqual((code, out), (0, '0 644\n5 755\n1\n3145728\n'), err)
                self.assertEqual(os.path.exists(root + '/made'), bool(flags))
                if flags:
                    self.assertEqual((os.stat(root + '/etc/new').st_uid, os.stat(root + '/made').st_uid), (300000, 300005))

    def test_exec_and_what_is_left(self):
        with Box('caisson') as box:
            os.chmod(box.top, 0o755)
            id = box.start(mapped('sleep 1000'))
            self.assertEqual(box.call('exec', '--user', '5003:5004', id, '/usr/bin/id', '-u')[:2], (0, '5003\n'))
            code, _, err = box.call('exec', '--user', '2000', id, '/usr/bin/id')
            self.assertEqual(code, 255)
            self.assertIn('2000', err)
            self.assertEqual(box.call('delete', '--force', id), (0, '', ''))


class InheritedLimits(unittest.TestCase):
    """What the config does not limit has the limits of the caller, of create and of exec, and they hold."""
    LIMITS = {resource.RLIMIT_FSIZE: (32 << 20, 1 << 40), resource.RLIMIT_STACK: (4 << 20, 64 << 20), resource.RLIMIT_CORE: (0, 5),
              resource.RLIMIT_MEMLOCK: (1 << 16, 1 << 17), resource.RLIMIT_MSGQUEUE: (9999, 99999),
              resource.RLIMIT_CPU: (500, 10 ** 8), resource.RLIMIT_AS: (8 << 30, 1 << 46), resource.RLIMIT_NPROC: (3000, 4000)}
    SCRIPT = 'ulimit -Sn; ulimit -Hn; grep -v "open files\\|pending" /proc/self/limits; dd if=/dev/zero of=/tmp/big bs=64k count=600 2>/dev/null; echo $?'

    def limit(self, change=0):
        for which, (soft, hard) in self.LIMITS.items():
            resource.setrlimit(which, (soft - change if soft > change else soft, hard))

    def test_of_the_caller(self):
        self.maxDiff = None
        seen = {}
        for name in ('runc', 'caisson'):
            with Box(name) as box:
                c = process(self.SCRIPT, rlimits=[{'type': 'RLIMIT_NOFILE', 'soft': 77, 'hard': 99}])
                code, out, err = box.run(c, preexec_fn=self.limit)
                self.assertEqual(code, 0, err)
                id = box.start(process('sleep 1000'))
                p = subprocess.run(box.command + ['exec', id, '/bin/bash', '-c', self.SCRIPT.split(';', 2)[2]], stdin=subprocess.DEVNULL,
                                   capture_output=True, text=True, timeout=60, preexec_fn=lambda: self.limit(1000))
                seen[name] = (out, p.returncode, p.stdout)
        self.assertEqual(seen['caisson'], seen['runc'])
        self.assertRegex(seen['caisson'][0], r'^77\n99\n')
        self.assertRegex(seen['caisson'][0], r'Max stack size +4194304 +67108864 +bytes')
        self.assertRegex(seen['caisson'][0], r'\n153\n$')  # dd died of SIGXFSZ
        # None of them is for the programs of the sandbox itself (the hard ones need CAP_SYS_RESOURCE on the host to be lifted).
        with Box('caisson') as box:
            tight = {resource.RLIMIT_AS: 1 << 29, resource.RLIMIT_CPU: 1, resource.RLIMIT_FSIZE: 1 << 20, resource.RLIMIT_NPROC: 10}
            c = process('ulimit -v unlimited; ulimit -t unlimited; ulimit -f unlimited; ulimit -u 100; dd if=/dev/zero of=/tmp/x bs=1M count=8 2>/dev/null; '
                        'timeout 2 bash -c "while :; do :; done"; echo $?', capabilities={k: ['CAP_SYS_RESOURCE'] for k in ('bounding', 'effective', 'permitted')})
            code, out, err = box.run(c, preexec_fn=lambda: [resource.setrlimit(k, (v, resource.getrlimit(k)[1])) for k, v in tight.items()])
            self.assertEqual((code, out), (0, '124\n'), err)


class Hooks(unittest.TestCase):
    def both(self):
        return [Box('runc'), Box('caisson')]

    def test_a_state_of_any_size_and_a_patience_of_years(self):
        for box in self.both():
            with self.subTest(box.runtime), box:
                c = config(['/bin/true'], annotations={'large': 'x' * 300000})
                c['hooks'] = {'createRuntime': [{'path': '/bin/sh', 'args': ['sh', '-c', 'cat > %s/told' % box.top], 'timeout': 1 << 28},
                                                {'path': '/bin/true'}]}  # one that does not read it
                code, _, err = box.run(c)
                self.assertEqual(code, 0, err)
                with open(box.top + '/told') as f:
                    self.assertEqual(len(json.load(f)['annotations']['large']), 300000)

    def test_sockets_of_a_service_manager_are_for_the_process_that_it_names(self):
        script = 'echo "$LISTEN_FDS $LISTEN_PID" $(ls /proc/self/fd | wc -l)'
        for pid, want in (('$$', '1 1 5'), ('1', ' 4'), ('', ' 4')):
            for box in self.both():
                with self.subTest(box.runtime + ' ' + pid), box:
                    bundle = box.bundle(config(['/bin/sh', '-c', script]))
                    p = subprocess.run(['sh', '-c', 'export LISTEN_FDS=1 LISTEN_PID=%s; exec "$@" 3</dev/null' % pid, 'x'] + box.command +
                                       ['run', '--bundle', bundle, box.name()], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
                    self.assertEqual((p.returncode, p.stdout.strip()), (0, want.strip()), p.stderr)

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

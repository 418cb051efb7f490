# SPDX-License-Identifier: Apache-2.0
# /proc and /sys as programs parse them: fields, formats and rules, not values that differ from machine to machine.
set -e
cut -d: -f1 /proc/self/status | grep -v '^x86_Thread' | tr '\n' ' '; echo
for f in Name Umask Tgid:same Uid Gid Threads SigBlk SigCgt NoNewPrivs CapEff; do grep "^${f%%:*}:" /proc/self/status | sed 's/Tgid:.*/Tgid/'; done
awk '{print NF}' /proc/self/stat /proc/self/statm /proc/loadavg /proc/uptime
awk '{print $2, $3, $20, $38}' /proc/self/stat
ls /proc/self/fd | head -3; ls -l /proc/self/fd/0 < /etc/passwd | cut -c1-10
sh -c 'exec 3>/w/x; ls -l /proc/self/fd/3 | cut -c1-10; readlink /proc/self/fd/3; grep flags /proc/self/fdinfo/3; grep pos /proc/self/fdinfo/3'
readlink /proc/self/cwd /proc/self/root /proc/self/exe
tr '\0' ' ' < /proc/self/cmdline; echo
env -i A=1 B=2 tr '\0' ' ' < /proc/self/environ >/dev/null; env -i A=1 B=2 cat /proc/self/environ | tr '\0' '\n'
bash -c 'cat /proc/$$/comm; echo -n renamed > /proc/$$/comm; cat /proc/$$/comm; ps -o comm= -p $$'
ls /proc/self/ns | tr '\n' ' '; echo
for n in mnt pid uts; do readlink /proc/self/ns/$n | sed 's/[0-9]\+/N/'; [ "$(readlink /proc/self/ns/$n)" = "$(readlink /proc/1/ns/$n)" ] && echo same; done
head -1 /proc/self/limits; grep -c . /proc/self/limits; grep 'open files' /proc/self/limits
sh -c 'ulimit -n 77; grep "open files" /proc/self/limits'
cat /proc/self/oom_score_adj; sh -c 'echo 500 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj; sh -c "cat /proc/self/oom_score_adj"'
cat /proc/self/uid_map /proc/self/setgroups; grep -c : /proc/self/cgroup >/dev/null
head -c 20 /proc/self/maps | grep -c -- -; grep -c '\[stack\]' /proc/self/maps; grep -c '\[vdso\]' /proc/self/maps
awk '{print NF >= 5, length($2)}' /proc/self/maps | sort -u
cut -d: -f1 /proc/self/smaps_rollup | tail -n +2 | tr '\n' ' '; echo
python3 - <<'P'
import os, re, sys
line = next(l for l in open('/proc/self/maps') if '[stack]' in l)
print(line.index('[stack]'), bool(re.match(r'^[0-9a-f]{8,}-[0-9a-f]{8,} rw-p 00000000 00:00 0 +\[stack\]$', line.strip())))
print(sorted(os.listdir('/proc/self/task')) == [str(os.getpid())])
import threading, time
stop = threading.Event()
ts = [threading.Thread(target=stop.wait) for _ in range(3)]
[t.start() for t in ts]
print(len(os.listdir('/proc/self/task')), open('/proc/self/stat').read().rsplit(')', 1)[1].split()[17])
print(os.stat('/proc/self/task').st_nlink)
stop.set(); [t.join() for t in ts]
# memory of its own through /proc/self/mem
import ctypes
b = ctypes.create_string_buffer(b'hello')
with open('/proc/self/mem', 'r+b', buffering=0) as m:
    m.seek(ctypes.addressof(b)); print(m.read(5))
    m.seek(ctypes.addressof(b)); print(m.write(b'HELLO')); print(b.value)
    m.seek(8)
    try: m.read(1)
    except OSError as e: print(e.errno)
# reopened descriptors
r, w = os.pipe()
fd = os.open('/proc/self/fd/%d' % w, os.O_WRONLY); os.write(fd, b'xyz'); print(os.read(r, 9))
os.close(fd)
with open('/w/f', 'w') as f: f.write('0123456789')
a = os.open('/w/f', os.O_RDONLY); os.read(a, 5)
c = os.open('/proc/self/fd/%d' % a, os.O_RDONLY); print(os.read(c, 3)); print(os.read(a, 3))
import socket
s, t = socket.socketpair()
try: os.open('/proc/self/fd/%d' % s.fileno(), os.O_RDWR)
except OSError as e: print(e.errno)
print(re.sub(r'\d+', 'N', os.readlink('/proc/self/fd/%d' % s.fileno())), re.sub(r'\d+', 'N', os.readlink('/proc/self/fd/%d' % r)))
os.unlink('/w/f'); print(os.readlink('/proc/self/fd/%d' % a))
e = os.eventfd(0); print(os.readlink('/proc/self/fd/%d' % e))
try: os.open('/proc/self/fd/%d' % e, os.O_RDWR)
except OSError as x: print(x.errno)
# a child that is dead but not waited for
pid = os.fork()
if pid == 0: os._exit(3)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
st = open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()
print(st[0], st[20], open('/proc/%d/cmdline' % pid).read() == '')
d = os.open('/proc/%d' % pid, os.O_RDONLY)
os.waitpid(pid, 0)
print(os.path.exists('/proc/%d' % pid))
try: os.open('stat', os.O_RDONLY, dir_fd=d)
except OSError as x: print(x.errno in (2, 3))
for p in ('/proc/new', '/proc/self/new', '/proc/self/fd/new', '/proc/sys/new'):
    try: os.mkdir(p)
    except OSError as x: print(p, x.errno)
for p in ('/proc/self/stat', '/proc/uptime', '/proc/self/fd/0', '/sys/block'):
    try: os.unlink(p)
    except OSError as x: print(p, x.errno)
for p, mode in (('/proc/self/nothing', os.O_RDONLY), ('/proc/999999', os.O_RDONLY), ('/proc/self/fd/999', os.O_RDONLY), ('/proc/new', os.O_CREAT | os.O_WRONLY)):
    try: os.open(p, mode); print('opened', p)
    except OSError as x: print(p, x.errno)
# another user
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    os.setgroups([]); os.setgid(1000); os.setuid(1000)
    for f in ('environ', 'mem', 'maps', 'fd', 'status', 'cmdline', 'stat'):
        try:
            if f == 'fd': os.listdir('/proc/1/fd')
            else: open('/proc/1/' + f, 'rb').read(1)
            print(f, 'ok')
        except OSError as x: print(f, x.errno)
    for l in ('exe', 'cwd', 'root'):
        try: os.readlink('/proc/1/' + l); print(l, 'ok')
        except OSError as x: print(l, x.errno)
    print(os.stat('/proc/self/').st_uid)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
P
ls /proc | grep -E '^(cmdline|cpuinfo|devices|diskstats|filesystems|interrupts|loadavg|meminfo|mounts|net|partitions|self|stat|swaps|sys|thread-self|tty|uptime|version|vmstat)$' | tr '\n' ' '; echo
readlink /proc/mounts /proc/net; [ "$(readlink /proc/self)" = "$(sh -c 'echo $PPID')" ] || echo self is the reader
cut -d: -f1 /proc/meminfo | head -3 | tr '\n' ' '; awk '$1 == "MemTotal:" {print ($2 > 10000), $3}' /proc/meminfo; awk '/^SwapTotal|^HugePages_Total/ {print $1}' /proc/meminfo
grep -c ^processor /proc/cpuinfo | grep -q . && cut -d: -f1 /proc/cpuinfo | sort -u | tr -d '\t' | grep -vE '^(TLB size|bugs|power management|cache size|vmx flags)' | tr '\n' ' '; echo
head -1 /proc/stat | awk '{print $1, NF}'; cut -d' ' -f1 /proc/stat | grep -v '^cpu' | tr '\n' ' '; echo
awk '$2 == "/proc" {print $1, $3, NF; exit}' /proc/mounts; awk '$5 == "/proc" {print $4, NF}' /proc/self/mountinfo | head -1
cat /proc/sys/kernel/hostname /proc/sys/kernel/ostype /proc/sys/kernel/cap_last_cap /proc/sys/kernel/ngroups_max /proc/sys/fs/pipe-max-size /proc/sys/kernel/overflowuid
grep -cE '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' /proc/sys/kernel/random/uuid
head -1 /proc/net/tcp | cat -A; head -1 /proc/net/udp; head -1 /proc/net/unix; head -2 /proc/net/dev; grep -c 'lo:' /proc/net/dev
grep -c '^Tcp: ' /proc/net/snmp; head -1 /proc/net/route | cut -f1-3
ps -o pid=,ppid=,comm= -p 1 | awk '{print $1, $2, $3}'; ps aux | head -1 | awk '{print $1, $2, $NF}'; ps -ef | awk 'NR > 1 {print $8}' | head -1
ps -eo stat= | cut -c1 | sort -u | tr -d '\n'; echo
top -b -n 1 | sed -n '1p' | cut -c1-3; top -b -n 1 | grep -c 'PID USER'
free | awk '{print $1, NF}'; pgrep -c bash; uptime | grep -c 'load average'; vmstat | head -2 | tail -1 | wc -w
sleep 100 & sleep 0.1; cat /proc/$!/wchan | grep -c .; awk '{print $3}' /proc/$!/stat; kill -STOP $!; sleep 0.2; awk '{print $3}' /proc/$!/stat; kill -9 $!; wait $! 2>/dev/null || true
pid=$(sh -c 'echo $$'); [ -e /proc/$pid ] || echo gone
nproc | grep -c .; [ "$(nproc)" = "$(grep -c ^processor /proc/cpuinfo)" ] && echo nproc agrees
cat /sys/devices/system/cpu/online | grep -cE '^0(-[0-9]+)?$'; ls /sys/devices/system/cpu | grep -c '^cpu0$'; cat /sys/devices/system/cpu/cpu0/topology/core_id
cat /sys/devices/system/node/online; ls /sys/class/net; cat /sys/class/net/lo/mtu; cat /sys/kernel/mm/transparent_hugepage/hpage_pmd_size
lscpu | grep -cE '^(Architecture|CPU\(s\)|Model name)'; ls -d /sys/fs/cgroup /sys/block /sys/bus /sys/module /sys/dev/char
rm -f x f

# SPDX-License-Identifier: Apache-2.0
# Debian's runc inside the box, rootless in a user namespace of its own: run, exec, kill, delete of a busybox container.
#   python3 tests/lib/compare.py tests/suites/runc_inside.sh --rootfs "$(tests/rootfs.sh suites)" --caisson build/bin/caisson
# mount: cgroup
set -u
# As a user without rights would: root of a user namespace, so that runc does without control groups.
[ "${1:-}" = inside ] || exec unshare -r -m /bin/bash "$0" inside
export XDG_RUNTIME_DIR=/tmp/run
mkdir -p /tmp/run /tmp/b/rootfs/bin && cd /tmp/b
cp "$(command -v busybox)" rootfs/bin/busybox
for a in sh echo cat ls id hostname mount sleep ps true touch grep cut sort; do ln -s busybox rootfs/bin/$a; done
runc spec --rootless || exit 1
python3 - <<'P'
import json
c = json.load(open('config.json'))
c['process']['terminal'] = False
c['process']['args'] = ['/bin/sh', '-c', '''
echo "hello from $(hostname), pid $$, uid $(id -u)"
ls /
cut -d' ' -f2,3 /proc/self/mounts | grep -v -E '^/(proc|sys)/' | sort
cat /proc/self/uid_map
touch /x 2>&1
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
mount -t tmpfs none /tmp 2>&1
exit 7''']
# Where /proc has masked parts nobody may mount another.
for m in c['mounts']:
    if m['destination'] == '/proc':
        m.update(type='none', source='/proc', options=['rbind', 'nosuid', 'noexec', 'nodev'])
c['mounts'] = [m for m in c['mounts'] if m['destination'] != '/sys/fs/cgroup']
c['linux']['maskedPaths'] = ['/proc/kcore', '/proc/timer_list']
c['linux']['readonlyPaths'] = []
c['linux']['seccomp'] = {'defaultAction': 'SCMP_ACT_ALLOW', 'syscalls': [{'names': ['mount'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 95}]}
json.dump(c, open('config.json', 'w'))
c['process']['args'] = ['/bin/sleep', '1000']
import os
os.makedirs('/tmp/c', exist_ok=True)
os.symlink('/tmp/b/rootfs', '/tmp/c/rootfs')
c['root']['path'] = '/tmp/b/rootfs'
json.dump(c, open('/tmp/c/config.json', 'w'))
P
echo "== run"
runc --root /tmp/run/r run one; echo "exit $?"
echo "== create, start, exec, kill"
runc --root /tmp/run/r create --bundle /tmp/c two </dev/null >/tmp/two.log 2>&1; echo "create $?"; cat /tmp/two.log
runc --root /tmp/run/r state two | grep '"status"'
runc --root /tmp/run/r start two; echo "start $?"
runc --root /tmp/run/r exec two /bin/sh -c 'echo "inside $(hostname)"; id -u; exit 5'; echo "exec $?"
runc --root /tmp/run/r state two | grep '"status"'
runc --root /tmp/run/r kill two KILL; echo "kill $?"
while runc --root /tmp/run/r state two | grep -q '"status": "running"'; do sleep 0.1; done
runc --root /tmp/run/r delete two; echo "delete $?"
runc --root /tmp/run/r list
rm -rf /tmp/b /tmp/c /tmp/run

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a pod costs besides its programs: the figures of overhead.podFixed in deploy/kubernetes/runtimeclass.yaml. Run by hand, as root:
CAISSON=build/bin/caisson python3 tests/shim/overhead.py. Pods of one and of three containers that sleep, with runc and with Caisson, through
containerd's CRI. Memory: PSS of all processes of the pod's groups, and what those groups are charged; the shim's PSS apart."""
import glob, os, statistics, sys, time

from daemon import CRI_CONFIG, IMAGE, Cri, Daemon, read, shims, wait_until

IDLE = 10.0


def pss(pid):
    try:
        for line in read('/proc/%d/smaps_rollup' % pid).splitlines():
            if line.startswith('Pss:'):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def cpu_ms(pid):
    try:
        fields = read('/proc/%d/stat' % pid).rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 // os.sysconf('SC_CLK_TCK')
    except OSError:
        return 0


def groups(ids):
    """The directories of these containers' groups that account memory."""
    tops = ['/sys/fs/cgroup/memory'] if os.path.isdir('/sys/fs/cgroup/memory') else ['/sys/fs/cgroup']
    found = []
    for top in tops:
        for d, dirs, _ in os.walk(top):
            if os.path.basename(d) in ids:
                found.append(d)
    return found


def charged(group):
    for name in ('memory.usage_in_bytes', 'memory.current'):
        if os.path.exists(os.path.join(group, name)):
            return int(read(os.path.join(group, name))) >> 10
    return 0


def measure(daemon, cri, handler, containers):
    name = 'o%d' % time.monotonic_ns()
    logs = os.path.join(daemon.top, name)
    os.mkdir(logs)
    config = {'metadata': {'name': name, 'uid': name, 'namespace': 'tests'}, 'hostname': name, 'log_directory': logs, 'linux': {}}
    pod = cri.call('RunPodSandbox', config=config, runtime_handler=handler)['pod_sandbox_id']
    ids = [pod]
    for i in range(containers):
        c = {'metadata': {'name': 'c%d' % i}, 'image': {'image': IMAGE}, 'command': ['/bin/sleep', '1000'], 'log_path': 'c%d.log' % i, 'linux': {}}
        ids.append(cri.call('CreateContainer', pod_sandbox_id=pod, config=c, sandbox_config=config)['container_id'])
        cri.call('StartContainer', container_id=ids[-1])
    # A pod that has worked: some probes, then quiet.
    for i in range(5):
        for id in ids[1:]:
            cri.call('ExecSync', container_id=id, cmd=['/bin/true'], timeout=0)
    time.sleep(2)
    dirs = groups(ids)
    pids = [int(p) for d in dirs for p in read(os.path.join(d, 'cgroup.procs')).split()]
    shim = [p for p in shims(daemon.top) if pod in read('/proc/%d/cmdline' % p).split('\0')]
    before = sum(map(cpu_ms, pids + shim))
    time.sleep(IDLE)
    idle = (sum(map(cpu_ms, pids + shim)) - before) / IDLE
    result = {'pss': sum(map(pss, pids)), 'charged': sum(map(charged, dirs)), 'shim': sum(map(pss, shim)), 'idle': idle, 'processes': len(pids)}
    cri.call('StopPodSandbox', pod_sandbox_id=pod)
    cri.call('RemovePodSandbox', pod_sandbox_id=pod)
    return result


def main():
    daemon = Daemon(CRI_CONFIG)
    cri = Cri(daemon)
    try:
        wait_until(lambda: all(c['status'] for c in cri.call('Status')['status']['conditions']), 'the CRI to be ready')
        print('%-8s %10s %10s %12s %10s %10s %12s' % ('handler', 'containers', 'processes', 'PSS KiB', 'charged', 'shim PSS', 'idle ms/s'))
        for handler in ('runc', 'caisson'):
            for n in (1, 3):
                runs = [measure(daemon, cri, handler, n) for _ in range(3)]
                m = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
                print('%-8s %10d %10d %12d %10d %10d %12.1f' % (handler, n, m['processes'], m['pss'], m['charged'], m['shim'], m['idle']), flush=True)
    finally:
        cri.close()
        daemon.stop()


if __name__ == '__main__':
    main()

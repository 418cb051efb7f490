# SPDX-License-Identifier: Apache-2.0
"""What kubelet says that pods use (/stats/summary, /metrics/cadvisor), and what a pod costs besides its containers: overhead.podFixed."""
import glob, os, re, statistics

from cluster import NODE, call, read, wait_until
from kube_case import Case, both, container

MIB = 1 << 20


def quantity(text):
    number, unit = re.fullmatch('([0-9]+)([A-Za-z]*)', text).groups()
    return int(number) * {'': 1, 'Ki': 1 << 10, 'Mi': MIB, 'Gi': 1 << 30}[unit]


class Figures:
    def of(self, name):
        """The summary's part about this pod."""
        return next((p for p in self.cluster.summary()['pods'] if p['podRef']['name'] == name), None)

    def working_set(self, name):
        """Of the pod's group and of its containers' groups, in bytes, as kubelet computes it."""
        uid = self.get(name)['metadata']['uid']
        tops = ('/sys/fs/cgroup/memory/', '/sys/fs/cgroup/')
        groups = [d for t in tops for d in glob.glob('%s%s/kubepods/**/pod%s' % (t, self.cluster.group, uid), recursive=True)]
        def one(d):
            stat = dict(l.split() for l in read(d + '/memory.stat').splitlines())
            usage = next(p for p in (d + '/memory.usage_in_bytes', d + '/memory.current') if os.path.exists(p))
            return int(read(usage)) - int(stat.get('total_inactive_file', stat['inactive_file']))
        return one(groups[0]), sum(one(os.path.join(groups[0], id)) for id in self.ids(name))


@both
class Numbers(Figures):
    def test_memory_and_time_that_a_container_uses(self):
        hold = 'dd if=/dev/zero of=/v/held bs=1M count=40 2>/dev/null; while ! [ -e /v/stop ]; do :; done; exec sleep 1000000'
        name = self.pod(container(hold, volumeMounts=[{'name': 'v', 'mountPath': '/v'}]), container(name='idle'),
                        volumes=[{'name': 'v', 'emptyDir': {'medium': 'Memory'}}])
        def parts():
            pod = self.of(name)
            found = {c['name']: c for c in (pod or {}).get('containers', [])}
            return (pod, found) if len(found) == 2 and all('workingSetBytes' in c.get('memory', {}) for c in found.values()) else None
        def busy():
            p = parts()
            return p if p and p[1]['main']['cpu'].get('usageCoreNanoSeconds', 0) > 2e9 and p[0].get('memory', {}).get('workingSetBytes', 0) > 40 * MIB else None
        pod, found = wait_until(busy, lambda: 'the figures: %s' % (parts(),), pause=1)
        self.say('   %s: pod %d KiB, main %d KiB, idle %d KiB' % (self.handler, pod['memory']['workingSetBytes'] >> 10,
                                                                  found['main']['memory']['workingSetBytes'] >> 10, found['idle']['memory']['workingSetBytes'] >> 10))
        self.assertLess(pod['memory']['workingSetBytes'], 140 * MIB)
        self.assertLess(found['idle']['memory']['workingSetBytes'], 30 * MIB)
        self.assertLess(found['idle']['cpu']['usageCoreNanoSeconds'], found['main']['cpu']['usageCoreNanoSeconds'])
        self.assertGreaterEqual(pod['cpu']['usageCoreNanoSeconds'], 2e9)
        self.assertIn('rootfs', found['main'])
        self.assertTrue(all(v['name'] for v in pod.get('volume', [])))
        self.assertGreater(pod['network']['rxBytes'] + pod['network']['txBytes'], 0)
        self.said(name, 'touch /v/stop', '-c', 'main')

    def test_cadvisor_knows_the_pod_and_its_containers(self):
        name = self.pod(container('exec sleep 1000000', resources={'limits': {'memory': '100Mi'}}))
        ids = self.ids(name)
        uid = self.get(name)['metadata']['uid']
        def lines():
            text = call('kubectl', 'get', '--raw', '/api/v1/nodes/%s/proxy/metrics/cadvisor' % NODE)[1]
            found = {}
            for line in text.splitlines():
                if uid in line and line.startswith('container_'):
                    metric, labels, value = re.match(r'(\w+)\{(.*)\} (\S+)', line).groups()
                    group = re.search('id="([^"]*)"', labels).group(1).rsplit('/', 1)[1]
                    found.setdefault(metric, {})[group] = float(value)
            return found
        def whole():  # each group is looked at in its own time
            found = lines()
            sets = found.get('container_memory_working_set_bytes', {})
            return found if 0 < sets.get(ids[0], 0) <= sets.get('pod' + uid, 0) and 'pod' + uid in found.get('container_cpu_usage_seconds_total', {}) else None
        seen = wait_until(whole, lambda: 'the metrics: %s' % lines(), pause=1)
        self.assertEqual(seen['container_spec_memory_limit_bytes'][ids[0]], 100 * MIB)
        self.assertLess(seen['container_memory_working_set_bytes']['pod' + uid], 64 * MIB)


class Overhead(Figures, Case):
    def test_the_runtime_class_says_what_is_measured(self):
        """Of pods that have worked and are idle: what the pod's group holds besides its containers'; and what Caisson's containers hold more than runc's."""
        figures = {}
        for handler in ('runc', 'caisson'):
            self.handler = handler
            for n in (1, 3):
                taken = []
                for _ in range(3):
                    name = self.pod(*(container(name='c%d' % i) for i in range(n)))
                    for i in range(n):
                        self.said(name, 'ls -lR /etc /bin > /dev/null; wget -q -O - http://127.0.0.1:1/ 2>/dev/null || :', '-c', 'c%d' % i)
                    seen, steady = self.working_set(name), 0
                    while steady < 3:  # until it does not change any more
                        call('sleep', '1')
                        now = self.working_set(name)
                        steady = steady + 1 if abs(now[0] - seen[0]) < 64 << 10 else 0
                        seen = now
                    taken.append((seen[0], seen[0] - seen[1]))
                    self.remove(name)
                figures[handler, n] = [statistics.median(t) >> 10 for t in zip(*taken)]
                self.say('   %-8s %d container(s): pod %6d KiB, besides its containers %6d KiB' % (handler, n, *figures[handler, n]))
        said = quantity(self.cluster.get('runtimeclass', 'caisson')['overhead']['podFixed']['memory']) >> 10
        cost = {n: figures['caisson', n][0] - figures['runc', n][0] for n in (1, 3)}
        self.say('   Caisson costs a pod of one container %d KiB more than runc, of three %d KiB; the RuntimeClass says %d KiB' % (cost[1], cost[3], said))
        self.assertLess(max(cost.values()), said)

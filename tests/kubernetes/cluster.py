# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes of one node: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and containerd, in namespaces of their own
(mount, network, PID, IPC, UTS) where every path is the default one, and what is written goes to a scratch directory."""
import glob, json, os, re, shutil, signal, socket, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import images

PATIENCE = float(os.environ.get('CAISSON_PATIENCE', '180'))
NODE, ADDRESS = 'node1', '10.99.0.1'
CONTAINERD = '''version = 2
# As Debian's, but for what a machine without CAP_SYS_RESOURCE and AppArmor needs.
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%s"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
''' % images.PAUSE
CNI = '''{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}'''
KUBELET = '''apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
readOnlyPort: 10255
cgroupDriver: cgroupfs
cgroupRoot: /%s
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
evictionHard: {}
imageGCHighThresholdPercent: 100
syncFrequency: 5s
volumeStatsAggPeriod: 5s
configMapAndSecretChangeDetectionStrategy: Watch
volumePluginDir: /var/lib/kubelet/plugins-of-volumes
allowedUnsafeSysctls: ["net.core.somaxconn"]
featureGates: {EphemeralContainers: true}
'''
# What kubelet sets for the whole machine: here it finds it set.
SYSCTLS = {'vm/overcommit_memory': '1', 'vm/panic_on_oom': '0', 'kernel/panic': '10', 'kernel/panic_on_oops': '1',
           'kernel/keys/root_maxkeys': '1000000', 'kernel/keys/root_maxbytes': '25000000'}
SYSTEMCTL = '''#!/bin/sh
# Of systemd only this: restart containerd. Whoever started it starts it again when it has ended.
[ "$*" = "restart containerd" ] || { echo "not known here: systemctl $*" >&2; exit 1; }
old=$(cat /run/pid.containerd)
kill "$old"
for i in $(seq 600); do
  [ "$(cat /run/pid.containerd)" != "$old" ] && ctr version >/dev/null 2>&1 && exit 0
  sleep 0.1
done
echo "containerd did not come back" >&2
exit 1
'''


def read(path):
    with open(path, errors='replace') as f:
        return f.read()


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as f:
        f.write(text)
    os.chmod(path, mode)


def call(*args, check=True, input=None, timeout=PATIENCE + 60, **more):
    """(exit code, output, errors) of a program; with check, that it ended well."""
    p = subprocess.run(args, capture_output=True, text=True, errors='replace', timeout=timeout,
                       **({'stdin': subprocess.DEVNULL} if input is None else {'input': input}), **more)
    if check and p.returncode:
        raise AssertionError('%s: exit code %d\n%s%s' % (' '.join(args)[:300], p.returncode, p.stdout, p.stderr))
    return p.returncode, p.stdout, p.stderr


def wait_until(condition, what, patience=PATIENCE, pause=0.1):
    """What the condition says, once that is true; what: a text, or a function that makes one when it has been in vain."""
    left, then = patience, time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        if left <= 0:
            raise AssertionError('waited %.0f s in vain for %s' % (patience, what() if callable(what) else what))
        time.sleep(pause)
        now = time.monotonic()
        left -= min(now - then, 5)  # a machine that stood still has not been waited for
        then = now


class Service:
    """A program that is started again when it ends, until it is told to stop."""

    def __init__(self, name, command, directory):
        self.name, self.command, self.stopped = name, command, False
        self.log = os.path.join(directory, name + '.log')
        self.changed = threading.Condition()
        self.start()
        threading.Thread(target=self.watch, daemon=True).start()

    def start(self):
        with open(self.log, 'a') as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        write('/run/pid.' + self.name, '%d\n' % self.process.pid)

    def watch(self):
        while True:
            self.process.wait()
            with self.changed:
                if self.stopped:
                    self.changed.notify_all()
                    return
            time.sleep(0.2)  # a program that ends at once is not to take the machine
            self.start()

    def stop(self):
        with self.changed:
            self.stopped = True
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def restart(self, command):
        self.stop()
        self.__init__(self.name, command, os.path.dirname(self.log))

    def tail(self, lines=15):
        return '%s:\n%s' % (self.log, '\n'.join(read(self.log).splitlines()[-lines:]))


def isolate(scratch, group):
    """What the node sees: called in new namespaces."""
    def mount(*args):
        call('mount', *args)
    socket.sethostname(NODE)
    for d in ('etc', 'var', 'opt'):
        upper, work = (os.path.join(scratch, d + s) for s in ('', '.work'))
        os.makedirs(upper)
        os.makedirs(work)
        mount('-t', 'overlay', '-o', 'lowerdir=/%s,upperdir=%s,workdir=%s' % (d, upper, work), 'overlay', '/' + d)
    mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run')
    for d in ('var/lib/containerd', 'var/lib/kubelet', 'var/log/pods', 'var/log/containers'):
        source = os.path.join(scratch, 'own', d)
        os.makedirs(source)
        os.makedirs('/' + d, exist_ok=True)
        mount('--bind', source, '/' + d)
    # Of the new network namespace, with the same cgroups.
    kept = os.path.join(scratch, 'cgroup')
    os.mkdir(kept)
    mount('--rbind', '/sys/fs/cgroup', kept)
    mount('-t', 'sysfs', 'sysfs', '/sys')
    mount('--rbind', kept, '/sys/fs/cgroup')
    call('umount', '-R', '-l', kept)
    for name, value in SYSCTLS.items():
        write('/run/sysctl/' + name, value + '\n')
        mount('--bind', '/run/sysctl/' + name, '/proc/sys/' + name)
    write('/run/systemctl', SYSTEMCTL, 0o755)
    mount('--bind', '/run/systemctl', shutil.which('systemctl'))
    mount('--make-rshared', '/')
    shutil.rmtree('/etc/cni', ignore_errors=True)
    shutil.rmtree('/etc/caisson', ignore_errors=True)
    write('/etc/containerd/config.toml', CONTAINERD)
    write('/etc/cni/net.d/10-pods.conflist', CNI)
    write('/etc/resolv.conf', 'nameserver 127.0.0.1\n')
    for line in ('link set lo up', 'link add node0 type bridge', 'addr add %s/24 dev node0' % ADDRESS, 'link set node0 up', 'route add default dev node0'):
        call('ip', *line.split())
    with open('/proc/sys/net/ipv4/ip_forward', 'w') as f:
        f.write('1')


class Cluster:
    def __init__(self, programs, build, scratch, group):
        self.programs, self.build, self.scratch, self.group = programs, build, scratch, group
        self.logs = os.path.join(scratch, 'logs')
        os.makedirs(self.logs, exist_ok=True)
        self.services = {}
        os.environ['KUBECONFIG'] = '/run/kube/config'

    def service(self, name, program, *flags):
        path = os.path.join(self.programs, 'bin', program)
        self.services[name] = Service(name, [path if os.path.exists(path) else program, *flags], self.logs)

    def start(self, say):
        self.control_plane(say)
        say('containerd, without Caisson; images')
        self.service('containerd', 'containerd')
        wait_until(lambda: call('ctr', 'version', check=False)[0] == 0, self.services['containerd'].tail)
        directory = os.path.join(self.scratch, 'images')
        os.mkdir(directory)
        for path in images.make(directory, os.path.join(self.build, 'bin')):
            call('ctr', '-n', 'k8s.io', 'images', 'import', path)
        say('kubelet')
        write('/run/kube/kubelet.yaml', KUBELET % self.group)
        self.service('kubelet', *self.kubelet('/run/containerd/containerd.sock'))
        wait_until(lambda: self.condition('node', NODE, 'Ready'), self.services['kubelet'].tail)
        wait_until(lambda: call('kubectl', 'get', 'serviceaccount', 'default', check=False)[0] == 0, 'the default service account')

    def control_plane(self, say):
        say('etcd, kube-apiserver')
        os.environ['PATH'] = os.path.join(self.programs, 'bin') + ':' + os.environ['PATH']
        self.service('etcd', 'etcd', '--data-dir=/run/etcd', '--listen-client-urls=http://127.0.0.1:2379',
                     '--advertise-client-urls=http://127.0.0.1:2379', '--listen-peer-urls=http://127.0.0.1:2380')
        write('/run/kube/tokens.csv', 'sesame,admin,1,"system:masters"\n', 0o600)
        call('openssl', 'genrsa', '-out', '/run/kube/sa.key', '2048')
        write('/run/kube/config', json.dumps({
            'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'x', 'contexts': [{'name': 'x', 'context': {'cluster': 'c', 'user': 'u'}}],
            'clusters': [{'name': 'c', 'cluster': {'server': 'https://127.0.0.1:6443', 'insecure-skip-tls-verify': True}}],
            'users': [{'name': 'u', 'user': {'token': 'sesame'}}]}))
        self.service('kube-apiserver', 'kube-apiserver', '--etcd-servers=http://127.0.0.1:2379', '--secure-port=6443', '--bind-address=0.0.0.0',
                     '--advertise-address=' + ADDRESS, '--cert-dir=/run/kube/api', '--service-account-issuer=https://kubernetes.default.svc',
                     '--service-account-key-file=/run/kube/sa.key', '--service-account-signing-key-file=/run/kube/sa.key',
                     '--authorization-mode=RBAC', '--token-auth-file=/run/kube/tokens.csv', '--allow-privileged=true',
                     '--service-cluster-ip-range=10.96.0.0/24', '--kubelet-preferred-address-types=InternalIP',
                     '--feature-gates=EphemeralContainers=true', '--runtime-config=api/all=true')
        wait_until(lambda: call('kubectl', 'get', '--raw', '/readyz', check=False)[1] == 'ok', self.services['kube-apiserver'].tail)
        self.version = json.loads(call('kubectl', 'get', '--raw', '/version')[1])['gitVersion']
        say('kube-controller-manager, kube-scheduler; the API server says %s' % self.version)
        common = ('--kubeconfig=/run/kube/config', '--leader-elect=false', '--feature-gates=EphemeralContainers=true')
        self.service('kube-controller-manager', 'kube-controller-manager', *common, '--service-account-private-key-file=/run/kube/sa.key',
                     '--root-ca-file=/run/kube/api/apiserver.crt', '--cert-dir=/run/kube/manager', '--bind-address=127.0.0.1')
        self.service('kube-scheduler', 'kube-scheduler', *common, '--cert-dir=/run/kube/scheduler', '--bind-address=127.0.0.1')

    def kubelet(self, endpoint):
        return ('kubelet', '--config=/run/kube/kubelet.yaml', '--kubeconfig=/run/kube/config', '--container-runtime=remote',
                '--container-runtime-endpoint=unix://' + endpoint, '--image-service-endpoint=unix://' + endpoint, '--hostname-override=' + NODE,
                '--node-ip=' + ADDRESS, '--v=2')

    def move_kubelet(self, endpoint):
        """Kubelet speaks to another CRI from now on, and knows its pods again; they go on."""
        program, *flags = self.kubelet(endpoint)
        self.services['kubelet'].restart([os.path.join(self.programs, 'bin', program), *flags])
        wait_until(lambda: call('curl', '-sf', 'http://127.0.0.1:10248/healthz', check=False)[1] == 'ok', self.services['kubelet'].tail)
        def known():
            code, out, _ = call('kubectl', 'get', '--raw', '/api/v1/nodes/%s/proxy/pods' % NODE, check=False)
            return {p['metadata']['uid'] for p in (json.loads(out).get('items') or [])} if not code else set()
        pods = {p['metadata']['uid'] for p in json.loads(call('kubectl', 'get', 'pods', '--all-namespaces', '-o', 'json')[1])['items']}
        wait_until(lambda: pods <= known(), self.services['kubelet'].tail)

    def get(self, kind, name='', namespace='default'):
        """An object, or None; without a name the list of them."""
        code, out, err = call('kubectl', '-n', namespace, 'get', kind, *([name] if name else []), '-o', 'json', check=False)
        if code and 'NotFound' not in err:
            raise AssertionError(err)
        found = json.loads(out) if not code else None
        return found if name or not found else found['items']

    def condition(self, kind, name, type, namespace='default'):
        try:
            status = (self.get(kind, name, namespace) or {}).get('status', {})
        except AssertionError:
            return False
        return any(c['type'] == type and c['status'] == 'True' for c in status.get('conditions', []))

    def summary(self):
        return json.loads(call('kubectl', 'get', '--raw', '/api/v1/nodes/%s/proxy/stats/summary' % NODE)[1])


def left(group):
    """What pods have on the node: nothing may have come to it when they are gone."""
    found = {'mounts': {l.split()[1] for l in read('/proc/mounts').splitlines() if re.search('/pods/|/netns/|/sandboxes/|runtime.v2.task|caisson', l.split()[1])}}
    found['state'] = set(glob.glob('/run/containerd/caisson/*/*') + glob.glob('/run/containerd/io.containerd.runtime.v2.task/*/*'))
    found['sockets'] = set(glob.glob('/run/containerd/s/*'))
    found['netns'] = set(glob.glob('/run/containerd/*/netns/*'))
    found['volumes'] = set(glob.glob('/var/lib/kubelet/pods/*'))
    found['addresses'] = set(glob.glob('/var/lib/cni/networks/pods/[0-9]*'))
    found['devices'] = {l.split(':')[1].strip().split('@')[0] for l in call('ip', '-o', 'link')[1].splitlines() if 'veth' in l}
    found['rules'] = {l for l in call('iptables-save')[1].splitlines() if 'dnat name' in l}
    found['groups'] = {d for top in glob.glob('/sys/fs/cgroup/*/' + group) + glob.glob('/sys/fs/cgroup/' + group) for d, _, _ in os.walk(top) if '/pod' in d[len(top):]}
    found['processes'] = set()
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            words = read(path).split('\0')
        except OSError:
            continue
        if any(w in words[0] for w in ('containerd-shim', 'caisson-sentry', 'caisson-gofer', 'caisson-zygote')):
            found['processes'].add('%s %s' % (path.split('/')[2], words[0]))
    return found

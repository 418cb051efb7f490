#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Servers of Debian's packages as pods, reached from another pod and from the host, with runc's handler and with Caisson's. Needs a root
file system of its own (tests/rootfs.sh servers); CAISSON_SERVERS names it, without it only what the test root file system has is tried.
CAISSON_LONG=1 prints figures of load generators too."""
import os, re, subprocess, time, unittest

from daemon import wait_until
from pods import DEBIAN, ROOTFS, PodCase
from stream import connect_in

LONG = bool(os.environ.get('CAISSON_LONG'))
SERVERS = os.environ.get('CAISSON_SERVERS', '')
SLEEP = ['/bin/sleep', '100000']
GO = '''package main
import ("fmt"; "net/http")
func main() {
  http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "go says %s", r.URL.Path) })
  panic(http.ListenAndServe(":8000", nil))
}
'''


class Servers(PodCase):
    def of_packages(self):
        """Mounts that give busybox's image the programs of the packages."""
        if not SERVERS:
            self.skipTest('CAISSON_SERVERS is not set (tests/rootfs.sh servers)')
        top = SERVERS
        return [{'container_path': '/' + d, 'host_path': os.path.join(top, d), 'readonly': True} for d in ('usr', 'etc')] + [
            {'container_path': '/' + d, 'host_path': os.path.join(top, 'usr', d), 'readonly': True} for d in ('lib', 'lib64', 'bin', 'sbin')]

    def serve(self, command, mounts, port, **more):
        pod = self.pod()
        c = self.add(pod, 'c', *command, mounts=mounts, **more)
        ip = self.cri.call('PodSandboxStatus', pod_sandbox_id=pod[0])['status']['network']['ip']

        def up():
            if self.status(c)['state'] != 'CONTAINER_RUNNING':
                raise RuntimeError('the server ended: %s\n%s' % (self.status(c), self.log(pod, 'c')))
            try:
                connect_in('/run/netns/' + self.daemon.netns, ip, port).close()
                return True
            except OSError:
                return False
        wait_until(up, 'the server', 60)
        return pod, c, ip

    def client(self, mounts):
        pod = self.pod()
        return pod, self.add(pod, 'client', *SLEEP, mounts=mounts)

    def get(self, ip, port, path):
        s = connect_in('/run/netns/' + self.daemon.netns, ip, port)
        s.sendall(('GET %s HTTP/1.0\r\n\r\n' % path).encode())
        got = b''
        while True:
            b = s.recv(65536)
            if not b:
                s.close()
                return got
            got += b

    def web(self, command, mounts, port, path, expected):
        pod, c, ip = self.serve(command, mounts, port)
        self.assertIn(expected, self.get(ip, port, path).decode())
        other, o = self.client([])
        self.assertIn(expected, self.sh(o, 'busybox wget -q -O - http://%s:%d%s' % (ip, port, path)))
        for _ in range(20):
            self.assertIn(expected, self.get(ip, port, path).decode())
        self.remove(other)
        return pod, c, ip

    def test_python(self):
        pod, _, _ = self.web(['/usr/bin/python3', '-m', 'http.server', '8000', '--directory', '/data'], DEBIAN, 8000, '/file', 'contents')
        self.remove(pod)

    def test_node(self):
        script = 'require("http").createServer((q, r) => r.end("node says " + q.url)).listen(8000)'
        pod, _, _ = self.web(['/usr/bin/node', '-e', script], DEBIAN, 8000, '/x', 'node says /x')
        self.remove(pod)

    @unittest.skipUnless(LONG, 'compiling takes its time: CAISSON_LONG=1')
    def test_go(self):
        code = os.path.join(self.daemon.top, 'go.%d' % time.monotonic_ns())
        os.mkdir(code)
        with open(code + '/main.go', 'w') as f:
            f.write(GO)
        # Made by the host's kernel: compilers have tests of their own.
        subprocess.run(['unshare', '-m', 'sh', '-c', 'mount --bind %s %s/tmp && chroot %s env CGO_ENABLED=0 GO111MODULE=off GOCACHE=/tmp/cache HOME=/tmp '
                        'go build -o /tmp/server /tmp/main.go' % (code, ROOTFS, ROOTFS)], check=True)
        pod, _, _ = self.web(['/srv/server'], [{'container_path': '/srv', 'host_path': code}], 8000, '/x', 'go says /x')
        self.remove(pod)

    def test_nginx(self):
        mounts = self.of_packages()
        conf = 'error_log stderr; pid /tmp/pid; worker_processes 2; daemon off; events {} http { access_log off; client_body_temp_path /tmp/b; ' \
               'proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; sendfile on; ' \
               'server { listen 80; root /data; } }'
        pod, c, ip = self.web(['/bin/sh', '-c', "echo '%s' > /tmp/conf; exec /usr/sbin/nginx -c /tmp/conf" % conf], mounts, 80, '/file', 'contents')
        if LONG:
            other, o = self.client(mounts)
            for more in ([], ['-k']):
                out = self.run_in(o, '/usr/bin/ab', '-q', '-n', '5000', '-c', '10', *more, 'http://%s/file' % ip)[1]
                print(self.handler, 'ab', *more, re.findall('Requests per second: +([0-9.]+)', out), re.findall('Failed requests: +([0-9]+)', out))
            self.remove(other)
        self.remove(pod)

    def test_redis(self):
        mounts = self.of_packages()
        pod, c, ip = self.serve(['/usr/bin/redis-server', '--protected-mode', 'no', '--dir', '/tmp', '--save', '', '--appendonly', 'yes'], mounts, 6379)
        other, o = self.client(mounts)
        cli = lambda *words: self.run_in(o, '/usr/bin/redis-cli', '-h', ip, *words)
        self.assertEqual(cli('set', 'a', 'word'), (0, 'OK\n', ''))
        self.assertEqual(cli('get', 'a'), (0, 'word\n', ''))
        self.assertEqual(cli('bgsave')[1], 'Background saving started\n')
        wait_until(lambda: 'rdb_bgsave_in_progress:0' in cli('info', 'persistence')[1] and 'rdb_last_bgsave_status:ok' in cli('info', 'persistence')[1], 'the save')
        s = connect_in('/run/netns/' + self.daemon.netns, ip, 6379)
        s.sendall(b'PING\r\n')
        self.assertEqual(s.recv(100), b'+PONG\r\n')
        s.close()
        if LONG:
            out = self.run_in(o, '/usr/bin/redis-benchmark', '-h', ip, '-t', 'set,get', '-n', '50000', '-q')[1]
            print(self.handler, out.replace('\r', '\n').strip().splitlines()[-1], re.findall('(SET|GET): ([0-9.]+) requests per second', out))
        self.remove(other)
        self.remove(pod)

    def test_postgres(self):
        mounts = self.of_packages()
        data = os.path.join(self.daemon.top, 'db%d' % time.monotonic_ns())
        os.mkdir(data)
        os.chmod(data, 0o1777)
        with open(os.path.join(SERVERS, 'etc/passwd')) as f:
            uid = next(int(l.split(':')[2]) for l in f if l.startswith('postgres:'))
        script = 'cd /data && B=/usr/lib/postgresql/15/bin && mkdir db run && $B/initdb -D db -A trust -U p >log && ' \
                 'echo "host all all 0.0.0.0/0 trust" >> db/pg_hba.conf && exec $B/postgres -D db -h 0.0.0.0 -k /data/run'
        pod, c, ip = self.serve(['/bin/sh', '-c', script], mounts + [{'container_path': '/data', 'host_path': data}], 5432,
                                linux={'security_context': {'run_as_user': {'value': uid}}})
        other, o = self.client(mounts)
        sql = lambda text: self.run_in(o, '/usr/lib/postgresql/15/bin/psql', '-h', ip, '-U', 'p', '-d', 'postgres', '-Atqc', text)
        self.assertEqual(sql('create table t as select g as n, md5(g::text) as m from generate_series(1, 20000) g; create index on t (m); '
                             'select count(*), sum(n) from t')[:2], (0, '20000|200010000\n'))
        self.assertEqual(sql("select n from t where m = md5('777')")[:2], (0, '777\n'))
        self.assertEqual(sql('vacuum full t')[0], 0)
        self.assertEqual(sql('checkpoint')[0], 0)
        self.remove(other)
        self.remove(pod)


class WithRunc(Servers, unittest.TestCase):
    handler = 'runc'


class WithCaisson(Servers, unittest.TestCase):
    handler = 'caisson'


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""net_test.py INET_TCP_TEST INET_UDP_TEST: networks of sandboxes, beside runc's where the two can be compared."""
import os, re, shutil, socket, struct, subprocess, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'runtime'))
import lab

A, B = 'csn-a-%d' % os.getpid(), 'csn-b-%d' % os.getpid()
failures = []


def check(ok, text):
    print('ok  ' if ok else 'FAIL', text.splitlines()[0])
    if not ok:
        failures.append(text)
        print(text)


def ip(*args):
    subprocess.run(['ip', *args], check=True)


def in_namespace(name, *command, **more):
    return subprocess.run(['ip', 'netns', 'exec', name, *command], capture_output=True, text=True, timeout=60, **more)


def make_networks():
    ip('netns', 'add', A)
    ip('netns', 'add', B)
    ip('link', 'add', 'eth0', 'netns', A, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', B)
    for name, n in ((A, 1), (B, 2)):
        ip('-n', name, 'link', 'set', 'lo', 'up')
        ip('-n', name, 'link', 'set', 'eth0', 'up')
        ip('-n', name, 'addr', 'add', '10.78.0.%d/24' % n, 'broadcast', '10.78.0.255', 'dev', 'eth0')
        ip('-n', name, '-6', 'addr', 'add', 'fd78::%d/64' % n, 'dev', 'eth0', 'nodad')
    # For the tests of system calls: what tests/syscalls/in_netns.sh makes.
    ip('-n', A, 'link', 'add', 'test0', 'type', 'veth', 'peer', 'name', 'test1')
    ip('-n', A, 'link', 'set', 'test0', 'up')
    ip('-n', A, 'link', 'set', 'test1', 'up')
    ip('-n', A, 'addr', 'add', '10.77.0.1/24', 'broadcast', '10.77.0.255', 'dev', 'test0')
    ip('-n', A, 'neigh', 'add', '10.77.0.99', 'lladdr', '02:00:00:00:00:99', 'nud', 'permanent', 'dev', 'test0')


def config(namespace, args, caps=True, **more):
    c = lab.config(args, **more)
    c['linux']['namespaces'] = [n for n in c['linux']['namespaces'] if n['type'] != 'network']
    c['linux']['namespaces'].append({'type': 'network', 'path': '/run/netns/' + namespace})
    if caps:
        for kind in c['process']['capabilities']:
            c['process']['capabilities'][kind] = lab.CAPS + ['CAP_NET_BIND_SERVICE', 'CAP_NET_RAW']
    return c


# What both runtimes must say alike, in the same namespace.
SAME = r'''
ip -o addr show | sed 's/valid_lft.*//; s/ *$//' | sort
ip -o link show | sed 's/@[^:]*//; s/qdisc.*//; s/ *$//' | sort
ip route show; ip -6 route show | grep -v multicast | sort
ip route get 10.78.0.2 | head -n 1 | sed 's/ uid.*//; s/ *$//'
ip route get 127.0.0.5 | head -n 1 | sed 's/ uid.*//; s/ *$//'
ls /sys/class/net; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address /sys/class/net/eth0/operstate /sys/class/net/lo/flags
cut -f1-4,7,8 /proc/net/route; cut -d: -f1 /proc/net/dev | tail -n +3 | sort; sort /proc/net/if_inet6
python3 - <<'END'
import errno, fcntl, socket, struct
print(socket.if_nameindex())
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(command, name):
    try:
        return fcntl.ioctl(s, command, struct.pack('16s240s', name.encode(), b''))[16:36].hex()
    except OSError as e:
        return errno.errorcode[e.errno]
for name in 'lo', 'eth0', 'nosuch':
    print(name, [ask(c, name) for c in (0x8913, 0x8915, 0x891b, 0x8919, 0x8921, 0x8927, 0x8933)])
for family, where in ((socket.AF_INET, '10.78.0.2'), (socket.AF_INET6, 'fd78::2')):
    for port, kind in ((9, socket.SOCK_STREAM), (9, socket.SOCK_DGRAM)):
        t = socket.socket(family, kind)
        t.settimeout(3)
        print(where, kind, t.connect_ex((where, port)))
        if kind == socket.SOCK_DGRAM:
            t.send(b'x')
            try:
                t.recv(1)
            except OSError as e:
                print(e.errno)
try:
    print(socket.getaddrinfo('server.test', 80, type=socket.SOCK_STREAM)[0][4])
except OSError as e:
    print(e)
l = socket.create_server(('0.0.0.0', 81))
c = socket.create_connection(('10.78.0.1', 81))
a = l.accept()
print(a[1][0], c.getpeername())
for line in open('/proc/net/tcp'):
    w = line.split()
    if w[1].endswith(':0051'):
        print(w[1:4] if w[3] == '0A' else w[3])
END
'''


def dns_server(stop, ready):
    """Answers every question for an IPv4 address with 10.78.0.9; to be run in namespace B."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('10.78.0.2', 53))
    s.settimeout(0.2)
    ready.set()
    while not stop.is_set():
        try:
            q, who = s.recvfrom(2048)
        except socket.timeout:
            continue
        end = q.index(b'\0', 12) + 5
        kind = struct.unpack('>H', q[end - 4:end - 2])[0]
        body = q[:2] + b'\x81\x80' + q[4:6] + struct.pack('>HHH', kind == 1, 0, 0) + q[12:end]
        if kind == 1:
            body += b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + socket.inet_aton('10.78.0.9')
        s.sendto(body, who)


class InNamespace(threading.Thread):
    """A thread of this test that has entered a namespace."""

    def __init__(self, name, f, *args):
        super().__init__(daemon=True)
        self.namespace, self.f, self.args = name, f, args
        self.start()

    def run(self):
        import ctypes
        with open('/run/netns/' + self.namespace) as ns:
            if ctypes.CDLL(None, use_errno=True).setns(ns.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), 'setns')
        self.f(*self.args)


SERVER = r'''
import http.server, socketserver, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        n = int(self.path[1:] or 0)
        self.send_response(200)
        self.send_header('Content-Length', str(n))
        self.end_headers()
        for i in range(0, n, 65536): self.wfile.write(b'x' * min(65536, n - i))
    def log_message(self, *a): pass
class S(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128
for where in ('127.0.0.1', 8081), ('10.78.0.1', 8080):
    threading.Thread(target=S(where, H).serve_forever).start()
print('ready', flush=True)
'''
CLIENT = r'''
import concurrent.futures, sys, urllib.request
def get(n): return len(urllib.request.urlopen('http://10.78.0.1:8080/%d' % n, timeout=20).read())
sizes = [1000 * (i % 50) for i in range(100)] + [8000000]
with concurrent.futures.ThreadPoolExecutor(20) as pool: got = list(pool.map(get, sizes))
print('all' if got == sizes else got)
'''
PING = r'''
import socket, struct, sys
def ping(family, proto, kind, where):
    s = socket.socket(family, socket.SOCK_DGRAM, proto)
    s.settimeout(5)
    s.sendto(struct.pack('>BBHHH', kind, 0, 0, 0, 7) + b'payload', (where, 0))
    return s.recv(100)[8:]
print(ping(socket.AF_INET, 1, 8, '10.78.0.2'), ping(socket.AF_INET6, 58, 128, 'fd78::2'))
'''

# What the other side of a connection that leaves the host gets of many short sends; its first byte says what it does.
FAR_SERVER = r'''
import hashlib, socket, struct, threading, time
def serve(c):
    what = c.recv(1)
    if what == b'e':  # echo
        while (b := c.recv(1)): c.sendall(b)
    elif what in b'hw':  # hash of all; w: of what comes after a word
        if what == b'w':
            c.sendall(b'waiting')
            gate.wait()
        h, n = hashlib.sha1(), 0
        while (b := c.recv(65536)):
            h.update(b)
            n += len(b)
        c.sendall(('%d %s' % (n, h.hexdigest())).encode())
    elif what == b'g':
        gate.set()
    elif what == b'r':  # reset after a few
        for _ in range(10): c.sendall(c.recv(1))
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    elif what == b'k':  # remember what came, for who asks later
        got = b''
        while (b := c.recv(65536)): got += b
        kept.append(got)
        told.set()
    elif what == b't':
        told.wait()
        told.clear()
        c.sendall(kept.pop())
    c.close()
gate, told, kept = threading.Event(), threading.Event(), []
l = socket.create_server(('10.78.0.2', 8090), backlog=64)
print('ready', flush=True)
while True: threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
'''
FAR = r'''
import errno, hashlib, os, random, select, signal, socket, sys, threading
def to(what):
    s = socket.create_connection(('10.78.0.2', 8090))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(what)
    return s
def rest(s):
    got = b''
    while (b := s.recv(65536)): got += b
    return got.decode()
random.seed(7)
# Order and completeness, with all that may come in between.
s, h, n = to(b'h'), hashlib.sha1(), 0
for i in range(3000):
    b = os.urandom(random.choice((1, 5, 700, 3000, 4096, 5000, 70000 if i % 100 == 0 else 2)))
    if i % 7 == 0: s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, i % 2)
    if i % 11 == 0: s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 100)
    if i % 13 == 0: select.select([], [s], [])
    s.sendall(b)
    h.update(b)
    n += len(b)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
s.shutdown(socket.SHUT_WR)
print('order', rest(s) == '%d %s' % (n, h.hexdigest()))
try: s.send(b'x')
except BrokenPipeError: print('no more after a shutdown')
# There and back.
s = to(b'e')
print('echo', all(s.send(bytes([i % 256])) == 1 and s.recv(1) == bytes([i % 256]) for i in range(1000)))
s.setblocking(False)
for i in range(200):
    s.send(b'z')
    select.select([s], [], [])
    assert s.recv(1) == b'z'
# Nobody reads: room ends, and comes back.
s, h, n = to(b'w'), hashlib.sha1(), 0
assert s.recv(7) == b'waiting'
s.setblocking(False)
p = select.poll()
p.register(s, select.POLLOUT)
blocked = False
for size in (1, 900, 4000):
    while p.poll(0):
        try:
            b = os.urandom(size)
            k = s.send(b)
            h.update(b[:k])
            n += k
            if n > 1 << 25: break
        except BlockingIOError:
            blocked = True
            break
print('room ends', blocked or not p.poll(0))
to(b'g').close()
s.setblocking(True)
for i in range(100):
    b = os.urandom(3000)
    s.sendall(b)
    h.update(b)
    n += len(b)
s.shutdown(socket.SHUT_WR)
print('all of it', rest(s) == '%d %s' % (n, h.hexdigest()))
# The end of a process, of a descriptor; two processes in turn.
for how in ('exit', 'kill', 'close'):
    if os.fork() == 0:
        s = to(b'k')
        for i in range(50): s.send(b'%d,' % i)
        if how == 'exit': os._exit(0)
        if how == 'kill': os.kill(os.getpid(), signal.SIGKILL)
        s.close()
        os._exit(0)
    os.wait()
    print(how, rest(to(b't')) == ''.join('%d,' % i for i in range(50)))
s = to(b'k')
ends = [os.pipe(), os.pipe()]
child = os.fork() == 0
for i in range(200):
    if i > 0 or child: os.read(ends[child][0], 1)
    s.send(b'c' if child else b'p')
    os.write(ends[not child][1], b'.')
if child: os._exit(0)
os.wait()
s.close()
print('in turn', rest(to(b't')) == 'pc' * 200)
# The other side resets.
s = to(b'r')
for i in range(10):
    s.send(b'x')
    s.recv(1)
p = select.poll()
p.register(s, 0)
print('reset is told', p.poll()[0][1] & (select.POLLHUP | select.POLLERR) != 0)
def outcome():
    try: return s.send(b'x')
    except OSError as e: return errno.errorcode[e.errno]
print([outcome() for _ in range(3)], flush=True)
# The end of all of it.
s = to(b'k')
for i in range(50): s.send(b'%d,' % i)
os._exit(0)
'''
LAST = '''
import socket
s = socket.create_connection(('10.78.0.2', 8090))
s.sendall(b't')
print(s.recv(1000).decode() == ''.join('%d,' % i for i in range(50)))
'''


def system_calls(box, programs):
    """The tests of inet sockets behind the sentry's real filter."""
    root = os.path.join(box.top, 'inet')
    os.makedirs(root + '/tmp')
    for p in programs:
        shutil.copy(p, root)
        name = os.path.basename(p)
        c = config(A, ['/' + name, '--gtest_brief=1'], root={'path': root, 'readonly': False})
        for kind in c['process']['capabilities']:
            c['process']['capabilities'][kind] = lab.CAPS + ['CAP_NET_BIND_SERVICE', 'CAP_NET_ADMIN']
        code, out, err = box.run(c, timeout=120)
        check(code == 0, '%s in a sandbox\n%s\n%s' % (name, out[-3000:], err[-1000:]))


def main():
    if os.geteuid() != 0:
        print('needs root: makes network namespaces')
        return 0
    os.chmod(os.path.dirname(lab.CAISSON), 0o755)
    stop, ready = threading.Event(), threading.Event()
    try:
        make_networks()
        with lab.Box('caisson') as box, lab.Box('runc') as other:
            system_calls(box, sys.argv[1:3])

            # Not before: some of them need an address that no route leads to.
            for name, n in ((A, 2), (B, 1)):
                ip('-n', name, 'route', 'add', 'default', 'via', '10.78.0.%d' % n)
            InNamespace(B, dns_server, stop, ready)
            ready.wait(10)
            resolv = os.path.join(box.top, 'resolv.conf')
            with open(resolv, 'w') as f:
                f.write('nameserver 10.78.0.2\n')
            os.chmod(box.top, 0o755)
            said = {}
            for b in (other, box):
                c = config(A, ['bash', '-c', SAME])
                c['mounts'].append({'destination': '/etc/resolv.conf', 'type': 'bind', 'source': resolv, 'options': ['bind', 'ro']})
                code, out, err = b.run(c)
                said[b.runtime] = out + err
            if said['runc'] != said['caisson']:
                import difflib
                print('\n'.join(difflib.unified_diff(said['runc'].splitlines(), said['caisson'].splitlines(), 'runc', 'caisson', lineterm='')))
            check(said['runc'] == said['caisson'], 'interfaces, routes, addresses, names and refusals as under runc')
            check("('10.78.0.9', 80)" in said['caisson'], 'a name is found through the name server')

            server = box.start(config(A, ['python3', '-c', SERVER]))
            lab.wait_until(lambda: 'ready' in box.output(server), 'the server')
            # From the host's side of the namespace, as a port forward does.
            from_side = in_namespace(A, 'python3', '-c', 'import urllib.request as u; '
                                     'print(len(u.urlopen("http://127.0.0.1:8081/70000", timeout=10).read()))')
            check(from_side.stdout.strip() == '70000', '127.0.0.1 of a sandbox is reached from its namespace\n' + from_side.stderr[-500:])
            code, out, err = box.run(config(B, ['python3', '-c', CLIENT]))
            check(out.strip() == 'all', 'a hundred requests from another sandbox\n%s %s' % (out, err[-2000:]))
            code, out, err = other.run(config(B, ['python3', '-c', CLIENT]))
            check(out.strip() == 'all', "a hundred requests from runc's container\n%s %s" % (out, err[-2000:]))
            code, out, err = box.call('exec', server, 'ss', '-ltn')
            check(':8081' in out and ':8080' in out, 'ss shows what listens\n' + out + err)
            code, out, err = box.run(config(A, ['python3', '-c', PING]))
            check(out.count("b'payload'") == 2, 'ping of both versions\n' + out + err[-1000:])
            code, out, err = box.run(config(A, ['busybox', 'nc', '-w', '5', '127.0.0.1', '8081'], caps=False), input=b'GET /5 HTTP/1.0\r\n\r\n')
            check('xxxxx' in out, 'two sandboxes of one namespace meet on its loopback\n' + out + err)
            box.call('kill', server, 'KILL')
            box.call('delete', '--force', server)

            far = subprocess.Popen(['ip', 'netns', 'exec', B, 'python3', '-c', FAR_SERVER], stdout=subprocess.PIPE)
            far.stdout.readline()
            said = {}
            for b in (other, box):
                code, out, err = b.run(config(A, ['python3', '-c', FAR]), timeout=120)
                said[b.runtime] = code, out + in_namespace(B, 'python3', '-c', LAST).stdout, err
            far.kill()
            far.wait()
            check(said['runc'][0] == 0 and 'False' not in said['runc'][1] and said['runc'] == said['caisson'],
                  'short sends to another host\n%s\n%s' % (said['runc'], said['caisson']))

            code, out, err = box.run(config(A, ['python3', '-c', 'import socket; socket.create_server(("", 80))'], caps=False))
            check('Permission denied' in err + out, 'a low port needs the capability\n' + out + err)
            code, out, err = box.run(config(A, ['ip', 'route', 'get', '10.78.0.2']), '--network=none')
            check('unreachable' in (out + err).lower(), 'none: nothing but loopback\n' + out + err)
    finally:
        stop.set()
        time.sleep(0.3)
        for n in (A, B):
            subprocess.run(['ip', 'netns', 'del', n], stderr=subprocess.DEVNULL)
    print('networks:', 'FAILED' if failures else 'all well')
    return 1 if failures else 0


sys.exit(main())

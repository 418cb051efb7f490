# SPDX-License-Identifier: Apache-2.0
"""The CRI's streams (exec, attach, port-forward) over WebSockets: every message is the byte of a channel and its data."""
import base64, ctypes, json, os, select, socket, struct, time, urllib.parse

from lab import PATIENCE

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def socket_in(netns, *kind):
    """A socket made in a network namespace, which it stays in."""
    def enter(fd):
        if LIBC.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'setns')
    home, there = os.open('/proc/thread-self/ns/net', os.O_RDONLY), os.open(netns, os.O_RDONLY)
    try:
        enter(there)
        try:
            return socket.socket(*(kind or (socket.AF_INET, socket.SOCK_STREAM)))
        finally:
            enter(home)
    finally:
        os.close(home)
        os.close(there)


def connect_in(netns, host, port):
    s = socket_in(netns)
    s.settimeout(PATIENCE)
    try:
        s.connect((host, port))
    except OSError:
        s.close()
        raise
    return s


class Stream:
    def __init__(self, netns, url, query=''):
        u = urllib.parse.urlparse(url)
        self.socket = connect_in(netns, u.hostname, u.port)
        self.socket.sendall(('GET %s%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
                             'Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\nOrigin: http://%s\r\n\r\n' % (
                                 u.path, query and '?' + query, u.netloc, base64.b64encode(os.urandom(16)).decode(), u.netloc)).encode())
        head = b''
        while b'\r\n\r\n' not in head:
            b = self.socket.recv(65536)
            if not b:
                raise AssertionError('no stream: %r' % head)
            head += b
        head, self.rest = head.split(b'\r\n\r\n', 1)
        if b' 101 ' not in head.split(b'\r\n')[0]:
            raise AssertionError('no stream: %r %r' % (head, self.rest))
        self.got, self.ended = {}, False

    def send(self, channel, data=b''):
        body, mask = bytes([channel]) + data, os.urandom(4)
        n = len(body)
        size = bytes([0x80 | n]) if n < 126 else struct.pack('>BH', 0x80 | 126, n) if n < 65536 else struct.pack('>BQ', 0x80 | 127, n)
        self.socket.sendall(b'\x82' + size + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(body)))

    def resize(self, rows, cols):
        self.send(RESIZE, json.dumps({'Width': cols, 'Height': rows}).encode())

    def read_some(self, seconds):
        """Takes in what has come, or comes within a time."""
        self.take()
        if self.ended or not select.select([self.socket], [], [], seconds)[0]:
            return
        b = self.socket.recv(65536)
        self.ended = not b
        self.rest += b
        self.take()

    def take(self):
        while len(self.rest) >= 2:
            kind, n, at = self.rest[0] & 15, self.rest[1] & 127, 2
            if n >= 126:
                at = 4 if n == 126 else 10
                if len(self.rest) < at:
                    break
                n = int.from_bytes(self.rest[2:at], 'big')
            if len(self.rest) < at + n:
                break
            body, self.rest = self.rest[at:at + n], self.rest[at + n:]
            if kind == 8:
                self.ended = True
            elif kind in (1, 2) and body:
                self.got[body[0]] = self.got.get(body[0], b'') + body[1:]

    def expect(self, channel, data):
        """Waits until this has come; it and what came before is used up."""
        end = time.monotonic() + PATIENCE
        self.take()
        while data not in self.got.get(channel, b''):
            if self.ended or time.monotonic() > end:
                raise AssertionError('no %r in channel %d, but %r' % (data, channel, self.got))
            self.read_some(0.5)
        self.got[channel] = self.got[channel].split(data, 1)[1]

    def finish(self):
        """Reads to the end; the exit code, if one was told."""
        end = time.monotonic() + PATIENCE
        while not self.ended:
            if time.monotonic() > end:
                raise AssertionError('the stream did not end: %r' % self.got)
            self.read_some(0.5)
        self.close()
        if not self.got.get(ERROR):
            return None
        status = json.loads(self.got[ERROR])
        if status['status'] == 'Success':
            return 0
        for c in (status.get('details') or {}).get('causes', []):
            if c['reason'] == 'ExitCode':
                return int(c['message'])
        return status

    def close(self):
        self.socket.close()

# SPDX-License-Identifier: Apache-2.0
# Pseudo-terminals at their edges: packet mode, stopped output, many of them.
cat > ttys.py <<'P'
import errno, fcntl, os, select, signal, struct, time
TIOCPKT, STOP, START = 0x5420, b'\x13', b'\x11'

def said(what, f, *args):
    try:
        print(what, f(*args))
    except OSError as e:
        print(what, errno.errorcode[e.errno])

def soon(f):
    for _ in range(100):
        if f(): return True
        time.sleep(0.05)
    return False

# Packet mode: a first byte tells what follows, and a buffer of one byte has room for nothing else.
master, slave = os.openpty()
fcntl.ioctl(master, TIOCPKT, struct.pack('i', 1))
os.write(slave, b'abc')
said('packet of one', os.read, master, 1)
said('packet', os.read, master, 100)
fcntl.ioctl(master, TIOCPKT, struct.pack('i', 0))
os.write(slave, b'def')
said('plain', os.read, master, 1)
said('plain', os.read, master, 100)
os.close(master), os.close(slave)

# A stopped terminal: whoever waits behind the first writer can be killed, and who may not wait is told.
master, slave = os.openpty()
os.write(master, STOP)
time.sleep(0.2)
writers = []
for i in range(2):
    pid = os.fork()
    if pid == 0:
        os.write(slave, b'x')
        os._exit(0)
    writers.append(pid)
    time.sleep(0.2)
os.set_blocking(slave, False)
said('who may not wait', os.write, slave, b'y')
os.set_blocking(slave, True)
os.kill(writers[1], signal.SIGKILL)
gone = soon(lambda: os.waitpid(writers[1], os.WNOHANG)[0])
print('the second writer is killed', gone)
os.write(master, START)
print('the first goes on', soon(lambda: os.waitpid(writers[0], os.WNOHANG)[0]))
if not gone: os.waitpid(writers[1], 0)
print(os.read(master, 10))

# Echo that cannot go out is not kept for ever.
os.set_blocking(master, False)
os.write(master, STOP)
for i in range(200):
    try:
        os.write(master, b'a\x7f' * 1000)
    except BlockingIOError:
        time.sleep(0.01)
os.write(master, START)
total = 0
while select.select([master], [], [], 0.5)[0]:
    total += len(os.read(master, 65536))
print('echoed', 0 < total < 200000)
os.set_blocking(master, True)
os.write(master, b'line\n')
said('still a line', os.read, slave, 100)
os.close(master), os.close(slave)

# More than a minor number of the old kind.
kept = []
for i in range(300):
    master = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)
    number = struct.unpack('I', fcntl.ioctl(master, 0x80045430, b'\0' * 4))[0]
    device = os.stat('/dev/pts/%d' % number).st_rdev
    if (os.major(device), os.minor(device)) != (136, number): print('number', number, 'is', os.major(device), os.minor(device))
    kept.append(master)
print(len(kept), 'pairs')
P
python3 ttys.py; rm ttys.py

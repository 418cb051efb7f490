# SPDX-License-Identifier: Apache-2.0
# For files.sh: changes files in the current directory and says what came of each call.
import ctypes, errno, os, stat, threading

libc = ctypes.CDLL(None, use_errno=True)
place, through = os.environ['PLACE'], os.environ['THROUGH'] == '1'
on_host = place == 'volume' or (place == 'root' and through)  # a file system of the host's itself


def say(what, f, *args, **kw):
    try:
        r = f(*args, **kw)
        print(what, '=', r)
        return r
    except OSError as e:
        print(what, '=', errno.errorcode[e.errno])


def call(f, *args):
    ctypes.set_errno(0)
    r = f(*args)
    if r < 0:
        raise OSError(ctypes.get_errno(), '')
    return r


def rename2(a, b, flags):
    return call(libc.renameat2, -100, a.encode(), -100, b.encode(), flags)


def fallocate(fd, mode, offset, length):
    return call(libc.fallocate, fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def link_fd(fd, name):
    return call(libc.linkat, -100, b'/proc/self/fd/%d' % fd, -100, name.encode(), 0x400)


def put(name, text, mode=0o644):
    with open(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), 'w') as f:
        f.write(text)


def get(name):
    with open(name, 'rb') as f:
        return f.read()


def look(name):
    s = os.lstat(name)
    return oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, s.st_size if not stat.S_ISDIR(s.st_mode) else '-'


NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32

# Directories are read again after they have been rewound. What is in them is named in order; positions are nobody's business.
os.mkdir('rewound')
for i in range(300):
    put('rewound/%03d' % i, '')
d = os.open('rewound', os.O_RDONLY | os.O_DIRECTORY)
say('a directory', lambda: len(os.listdir(d)))
say('rewound', os.lseek, d, 0, os.SEEK_SET)
say('again', lambda: sorted(os.listdir(d)) == ['%03d' % i for i in range(300)])
put('rewound/new', '')
say('a new name is there', lambda: os.lseek(d, 0, os.SEEK_SET) == 0 and 'new' in os.listdir(d))
say('before the start', os.lseek, d, -1, os.SEEK_SET)
say('no such whence', os.lseek, d, 0, 77)
os.close(d)

# Renames.
for n in 'abcd':
    put(n, n * 10)
say('noreplace onto a file', rename2, 'a', 'b', NOREPLACE)
say('noreplace', rename2, 'a', 'a2', NOREPLACE)
say('exchange', rename2, 'a2', 'b', EXCHANGE)
print(get('a2'), get('b'))
say('exchange with nothing', rename2, 'a2', 'nothing', EXCHANGE)
os.makedirs('dir/below')
put('dir/below/file', 'deep')
say('exchange of a file and a directory', rename2, 'c', 'dir', EXCHANGE)
print(look('c'), look('dir'), get('c/below/file'))
say('exchange back', rename2, 'c', 'dir', EXCHANGE)
say('a directory into itself', os.rename, 'dir', 'dir/below/x')
say('exchange with one above', rename2, 'dir/below', 'dir', EXCHANGE)
say('a directory onto a file', os.rename, 'dir', 'c')
say('a file onto a directory', os.rename, 'c', 'dir')
os.mkdir('full')
put('full/x', '')
say('a directory onto a full one', os.rename, 'dir', 'full')
os.mkdir('empty')
say('a directory onto an empty one', os.rename, 'dir', 'empty')
print(sorted(os.listdir('empty')), get('empty/below/file'))
say('both flags', rename2, 'c', 'd', NOREPLACE | EXCHANGE)
say('a path through a moved directory', get, 'empty/below/file')
put('w', 'white')
say('whiteout', rename2, 'w', 'w2', WHITEOUT)
print(stat.S_ISCHR(os.lstat('w').st_mode), os.lstat('w').st_rdev, get('w2'))
say('a whiteout in the way', rename2, 'w2', 'w', NOREPLACE | WHITEOUT)
os.unlink('w')

# Writing to a set-user-ID file, with CAP_FSETID and without.
put('s', 'x' * 100)
for mode in 0o4755, 0o2755, 0o2745, 0o6755:
    os.chmod('s', mode)
    fd = os.open('s', os.O_RDWR | os.O_APPEND)
    os.write(fd, b'more')
    print('written by root', look('s'), oct(os.fstat(fd).st_mode))
    os.ftruncate(fd, 50)
    print('and truncated', look('s'))
    os.close(fd)
    os.chown('s', 1000, 1000)
    os.chmod('s', mode)
    os.chmod('.', 0o711)
    fd = os.open('s', os.O_RDWR)
    if os.fork() == 0:
        os.setgroups([]), os.setgid(1000), os.setuid(1000)
        os.write(fd, b'some')
        os._exit(0)
    os.wait()
    print('by its owner', look('s'))
    os.write(fd, b'again')
    print('by root again', look('s'))
    os.close(fd)
    os.chown('s', 0, 0)
os.unlink('s')

# Names and open files.
fd = os.open('c', os.O_RDWR)
os.link('c', 'c.link')
say('a link onto a name', os.link, 'c', 'd')
print(look('c'))
os.unlink('c')
print(os.fstat(fd).st_nlink, os.pread(fd, 4, 0))
os.unlink('c.link')
os.pwrite(fd, b'gone', 0)
print(os.fstat(fd).st_nlink, os.pread(fd, 10, 0), os.fstat(fd).st_size)
say('truncate of a removed file', os.ftruncate, fd, 3)
say('chmod of a removed file', os.fchmod, fd, 0o600)
say('chown of a removed file', os.fchown, fd, 7, 8)
say('times of a removed file', os.utime, fd, (5, 6))
s = os.fstat(fd)
print(oct(s.st_mode), s.st_uid, s.st_gid, s.st_size, s.st_atime, s.st_mtime)
say('sync of a removed file', os.fsync, fd)
say('a link to a removed file', link_fd, fd, 'again')
os.close(fd)
fd = os.open('d', os.O_RDONLY)
put('e', 'replacement')
os.rename('e', 'd')
print(os.read(fd, 20), get('d'), os.fstat(fd).st_nlink)
os.close(fd)
here = os.open('.', os.O_RDONLY)
os.mkdir('left')
inside = os.open('left', os.O_RDONLY)
os.rmdir('left')
say('a name in a removed directory', os.open, 'x', os.O_CREAT | os.O_WRONLY, dir_fd=inside)
say('a listing of a removed directory', os.listdir, inside)
say('sync of a removed directory', os.fsync, inside)
os.close(inside)

# Files without a name.
TMPFILE = 0o20200000
fd = say('O_TMPFILE', lambda: os.open('.', TMPFILE | os.O_RDWR, 0o640) > 0) and os.open('.', TMPFILE | os.O_RDWR, 0o640)
if fd:
    os.write(fd, b'unnamed')
    print(os.fstat(fd).st_nlink)
    say('its first name', link_fd, fd, 'named')
    print(look('named'), get('named'))
    os.close(fd)
    fd = os.open('.', TMPFILE | os.O_EXCL | os.O_RDWR, 0o640)
    say('a name for an exclusive one', link_fd, fd, 'never')
    os.close(fd)
say('O_TMPFILE to read', os.open, '.', TMPFILE | os.O_RDONLY)

# Allocation and holes.
put('f', 'x' * 20000)
fd = os.open('f', os.O_RDWR)
say('allocate', fallocate, fd, 0, 0, 50000)
print(os.fstat(fd).st_size)
say('allocate beyond', fallocate, fd, KEEP, 0, 90000)
print(os.fstat(fd).st_size)
say('punch', fallocate, fd, PUNCH | KEEP, 4096, 8192)
print(os.pread(fd, 3, 4095), os.pread(fd, 3, 12287))
say('punch without keep', fallocate, fd, PUNCH, 0, 4096)
say('zero', fallocate, fd, ZERO, 100, 10) if on_host else None
say('bad length', fallocate, fd, 0, 0, 0)
say('bad offset', fallocate, fd, 0, -1, 10)
say('bad mode', fallocate, fd, 0x4000, 0, 10)
if on_host:
    say('collapse', fallocate, fd, COLLAPSE, 0, 4096)
    print(os.fstat(fd).st_size, os.pread(fd, 3, 0))
    say('insert', fallocate, fd, INSERT, 4096, 8192)
    print(os.fstat(fd).st_size)
say('truncate down', os.ftruncate, fd, 10)
say('truncate up', os.ftruncate, fd, 100000)
print(os.pread(fd, 20, 0), os.fstat(fd).st_size)
say('next data', os.lseek, fd, 0, os.SEEK_DATA)
say('hole at the end', os.lseek, fd, 100000, os.SEEK_HOLE)
for f in (os.fsync, os.fdatasync):
    say(f.__name__, f, fd)
say('syncfs', lambda: call(libc.syncfs, fd))
say('sync_file_range', lambda: call(libc.sync_file_range, fd, ctypes.c_long(0), ctypes.c_long(0), 2))
say('fsync of the directory', os.fsync, here)
say('msync', lambda: __import__('mmap').mmap(fd, 4096).flush())
os.close(fd)

# Modes, owners, times; links themselves.
os.symlink('f', 'link')
os.symlink('nowhere', 'dangling')
say('chown of a link', os.chown, 'link', 11, 12, follow_symlinks=False)
say('chown through a link', os.chown, 'link', 13, 14)
print(look('link'), look('f'))
say('times of a link', os.utime, 'dangling', ns=(123456789, 987654321), follow_symlinks=False)
s = os.lstat('dangling')
print(s.st_atime_ns, s.st_mtime_ns)
say('times', os.utime, 'f', ns=(1, 2**33 * 10**9 + 7))
say('times before 1970', os.utime, 'd', ns=(-5, -10**9 - 1))
print(os.stat('f').st_mtime_ns, os.stat('d').st_mtime_ns)
say('chmod', os.chmod, 'f', 0o4755)
say('chown takes set-user-ID away', os.chown, 'f', 1, 1)
print(look('f'))
os.chmod('f', 0o6755)
fd = os.open('f', os.O_WRONLY)
os.write(fd, b'w')
os.close(fd)
if not on_host:
    print(look('f'))  # on a volume the host takes these bits away, for it knows nothing of the writer's CAP_FSETID
os.chmod('f', 0o755)
os.mkdir('sticky')
say('chmod of a directory', os.chmod, 'sticky', 0o3775)
os.chown('sticky', 0, 55)
put('sticky/inherits', '')
os.mkdir('sticky/below')
print(look('sticky'), look('sticky/inherits'), look('sticky/below'))
say('a link to a link', os.link, 'link', 'link2', follow_symlinks=False)
print(look('link2'), os.readlink('link2'))
os.mkfifo('fifo', 0o620)
say('mode of a FIFO', os.chmod, 'fifo', 0o600)
say('a link to a FIFO', os.link, 'fifo', 'fifo2')
print(look('fifo'))

# Extended attributes.
if place != 'tmpfs':
    say('set', os.setxattr, 'f', 'user.one', b'1')
    say('create again', os.setxattr, 'f', 'user.one', b'2', os.XATTR_CREATE)
    say('replace', os.setxattr, 'f', 'user.one', b'22', os.XATTR_REPLACE)
    say('replace nothing', os.setxattr, 'f', 'user.no', b'2', os.XATTR_REPLACE)
    print(os.getxattr('f', 'user.one'), os.listxattr('f'))
    say('of a directory', os.setxattr, 'sticky', 'user.dir', b'd' * 100)
    say('of a link', os.setxattr, 'link', 'user.x', b'1', follow_symlinks=False)
    say('of a FIFO', os.setxattr, 'fifo', 'user.x', b'1')
    say('remove', os.removexattr, 'f', 'user.one')
    say('remove again', os.removexattr, 'f', 'user.one')
    say('none left', os.listxattr, 'f')
    say('bad family', os.setxattr, 'f', 'nofamily', b'')
    os.setxattr('f', 'user.kept', b'\0\xff')

# Appends by many at once lose nothing.
def append(i):
    fd = os.open('log', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for _ in range(50):
        os.write(fd, b'%03d' % i + b'.' * 60 + b'\n')
    os.close(fd)
threads = [threading.Thread(target=append, args=(i,)) for i in range(6)]
children = []
for i in range(3):
    pid = os.fork()
    if pid == 0:
        append(100 + i)
        os._exit(0)
    children.append(pid)
for t in threads:
    t.start()
for t in threads:
    t.join()
for pid in children:
    os.waitpid(pid, 0)
lines = get('log').split(b'\n')
print(len(lines), sorted(set(len(x) for x in lines)), len([x for x in lines if x.startswith(b'1')]))
os.unlink('log')

# Many names.
os.mkdir('many')
for i in range(600):
    put('many/%d' % i, str(i))
for i in range(0, 600, 3):
    os.unlink('many/%d' % i)
for i in range(1, 600, 3):
    os.rename('many/%d' % i, 'many/r%d' % i)
# A directory that is open is read again from its start (os.listdir goes back there).
fd = os.open('many', os.O_RDONLY | os.O_DIRECTORY)
print(len(os.listdir(fd)), len(os.listdir(fd)))
say('to the start', os.lseek, fd, 0, os.SEEK_SET)
say('where', os.lseek, fd, 0, os.SEEK_CUR)
say('before the start', os.lseek, fd, -1, os.SEEK_SET)
os.close(fd)
print(len(os.listdir('many')), len([e for e in os.scandir('many') if e.is_file()]))
os.close(here)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A tree of 200,000 files, walked through the root's overlay and through a volume: what the sentry and the gofer keep of it stays
within their own budgets, whose values are read from the sources."""
import os, re, shutil, sys, tempfile, unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, 'tests/runtime'))
from lab import ROOTFS, Box, config

DIRECTORIES, FILES_EACH = 6250, 32
OPENED = 12800
KB = 1 << 10
# What one of them may take: a name with its inodes in the overlay and in the gofer's file system; a line of a listing; a node.
DENTRY_BYTES, ENTRY_BYTES, NODE_BYTES = 1792, 384, 512
SLACK, FEW = 8 << 20, 100


def constant(path, name):
    """An integer constant of a source file."""
    with open(os.path.join(TOP, path)) as f:
        text = re.search(r'\b%s = ([0-9 *<]+);' % name, f.read()).group(1)
    return eval(text)


DENTRIES = constant('sentry/vfs/dentry_access.h', 'kMaxCached')
LISTED = constant('sentry/fs/gofer/client.h', 'kCachedEntries')
IDLE_FDS = constant('sentry/fs/gofer/client.h', 'kIdleFds')
GOFER_DIRECTORIES = constant('gofer/main.cc', 'kMostFds') // 4


def private_bytes(pid):
    with open('/proc/%d/smaps_rollup' % pid) as f:
        return sum(int(kb) for kb in re.findall(r'^Private_(?:Clean|Dirty): +(\d+) kB', f.read(), re.M)) * KB


def open_files(pid):
    return len(os.listdir('/proc/%d/fd' % pid))


def gofer_of(directory):
    """The process of that name which has the directory among its mounts."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                if f.read().split(b'\0')[0] != b'caisson-gofer':
                    continue
            with open('/proc/%s/mountinfo' % pid) as f:
                if directory in f.read():
                    return int(pid)
        except OSError:
            continue
    raise AssertionError('no gofer of ' + directory)


def make_tree(top):
    os.mkdir(top)
    for d in range(DIRECTORIES):
        path = '%s/directory-%d' % (top, d)
        os.mkdir(path)
        fd = os.open(path, os.O_PATH)
        for n in range(FILES_EACH):
            os.close(os.open('file-%d' % n, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
        os.close(fd)


class ManyFiles(unittest.TestCase):
    def setUp(self):
        # In memory where there is room: so many files are slowly made on a disk.
        if os.path.isdir('/dev/shm') and os.statvfs('/dev/shm').f_favail > 300000:
            tempfile.tempdir = '/dev/shm'
        self.box = Box('caisson')
        self.addCleanup(self.box.__exit__)
        root = os.path.join(self.box.top, 'root')
        for d in ('bin', 'proc', 'dev', 'sys', 'tmp', 'volume'):
            os.makedirs(os.path.join(root, d))
        shutil.copy(os.path.join(ROOTFS, 'bin/busybox'), os.path.join(root, 'bin/busybox'))
        make_tree(root + '/tree')
        c = config(['/bin/busybox', 'sleep', '1000'])
        c['root']['path'] = root
        c['mounts'].append({'destination': '/volume', 'type': 'bind', 'source': root + '/tree', 'options': ['bind', 'rw']})
        self.id = self.box.start(c)
        self.sentry = self.box.pid(self.id)
        self.gofer = gofer_of(os.path.basename(self.box.top))

    def inside(self, script):
        code, out, err = self.box.call('exec', self.id, '/bin/busybox', 'sh', '-c', script, timeout=250)
        self.assertEqual(code, 0, err)
        return out.split()

    def test_what_is_kept_of_200000_files_is_bounded(self):
        # Else a budget could be as good as none and the test would not see it.
        self.assertGreater(DIRECTORIES * FILES_EACH, 3 * max(DENTRIES, LISTED))
        self.assertGreater(OPENED, 3 * IDLE_FDS)
        self.assertGreater(DIRECTORIES, 1.5 * GOFER_DIRECTORIES)
        before = {p: private_bytes(p) for p in (self.sentry, self.gofer)}
        sentry_fds, gofer_fds = open_files(self.sentry), open_files(self.gofer)

        def look(what):
            grown = {p: private_bytes(p) - before[p] for p in before}
            print('%s: the sentry has grown by %d KB and %d descriptors, the gofer by %d KB and %d' % (
                what, grown[self.sentry] // KB, open_files(self.sentry) - sentry_fds, grown[self.gofer] // KB,
                open_files(self.gofer) - gofer_fds), flush=True)
            self.assertLess(grown[self.sentry], DENTRIES * DENTRY_BYTES + LISTED * ENTRY_BYTES + SLACK, what)
            self.assertLess(grown[self.gofer], DENTRIES * NODE_BYTES + SLACK, what)
            self.assertLess(open_files(self.sentry) - sentry_fds, IDLE_FDS + FEW, what)
            self.assertLess(open_files(self.gofer) - gofer_fds, GOFER_DIRECTORIES + FEW, what)

        for tree, names, files in (('/tree', '*', 200000), ('/volume', '[12]*', 2222 * FILES_EACH)):
            found = self.inside("busybox find %s/directory-%s -type f -size -1 | busybox wc -l" % (tree, names))
            self.assertEqual(int(found[0]), files)
            look('every file of %s looked at' % tree)
        self.inside('busybox find /tree -type f | busybox head -n %d | busybox xargs busybox cat' % OPENED)
        look('%d files opened' % OPENED)
        # A name that is not there makes the gofer open the directory.
        self.inside('for d in /tree/*; do [ -e $d/none ]; done; true')
        look('every directory looked into')


if __name__ == '__main__':
    unittest.main()

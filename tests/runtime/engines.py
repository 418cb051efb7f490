# SPDX-License-Identifier: Apache-2.0
"""An image made on the spot for the engines' tests: Debian's static busybox and nothing else."""
import os, shutil, tarfile

APPLETS = 'sh ls cat echo sleep id ps mount env hostname grep touch tty stty seq true false wc head date kill dd nproc nc stat test'.split()
BUSYBOX = next((p for p in ('/bin/busybox', '/usr/bin/busybox') if os.path.exists(p)), None)


def need(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    if missing or not BUSYBOX:
        raise SystemExit('missing: %s (deploy/deps.sh test installs them)' % ' '.join(missing or ['busybox-static']))


def make_root_tar(directory):
    """A tar of the root file system; its path."""
    root = os.path.join(directory, 'image')
    os.makedirs(os.path.join(root, 'bin'))
    for d in ('etc', 'tmp', 'root', 'data'):
        os.mkdir(os.path.join(root, d))
    shutil.copy(BUSYBOX, os.path.join(root, 'bin', 'busybox'))
    for a in APPLETS:
        os.symlink('busybox', os.path.join(root, 'bin', a))
    for name, text in (('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n'),
                       ('etc/group', 'root:x:0:\nuser:x:1000:\n'), ('data/file', 'contents\n')):
        with open(os.path.join(root, name), 'w') as f:
            f.write(text)
    path = os.path.join(directory, 'root.tar')
    with tarfile.open(path, 'w') as t:
        t.add(root, '.')
    return path

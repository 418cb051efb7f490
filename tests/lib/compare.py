#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one shell script in a Debian container under runc and under caisson, and compares what came of it.

    compare.py SCRIPT [--rootfs DIR] [--caisson FILE] [--only runc|caisson] [--arg ARG ...] [--timeout S]

Compared: exit code, standard output, standard error (unless the script says "# stderr: ignore"), and the file tree that it left in
its working directory /w: names, types, modes, owners, sizes, link targets, contents, extended attributes. Lines of the
script that start with "# option:" are flags for caisson run; "# mount: cgroup" mounts the control groups, read-only, as engines do.
"""
import argparse, hashlib, json, os, re, shutil, signal, stat, subprocess, sys, tempfile

import spec


def config(rootfs, work, script, readonly):
    process = {
        "terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/w", "noNewPrivileges": False,
        "args": ["/bin/bash", "/script/" + os.path.basename(script)],
        "env": [spec.PATH, "HOME=/root", "LC_ALL=C.UTF-8",
                "GIT_AUTHOR_DATE=2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z",
                "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"],
        "capabilities": {k: spec.CAPS for k in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}],
    }
    mounts = spec.mounts("size=65536k", "size=1g") + [
        {"destination": "/script", "type": "bind", "source": os.path.dirname(os.path.abspath(script)),
         "options": ["bind", "ro"]},
        {"destination": "/w", "type": "bind", "source": work, "options": ["bind", "rw"]},
    ]
    return {"ociVersion": "1.0.2", "process": process, "root": {"path": rootfs, "readonly": readonly},
            "hostname": "box", "mounts": mounts,
            "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")],
                      "maskedPaths": ["/proc/kcore", "/proc/keys"], "readonlyPaths": ["/proc/sys"]}}


def tree(top):
    """One line per file below top."""
    lines = []
    for d, dirs, files in os.walk(top):
        dirs.sort()
        for name in sorted(dirs + files):
            p = os.path.join(d, name)
            st = os.lstat(p)
            what = [os.path.relpath(p, top), oct(st.st_mode), st.st_uid, st.st_gid]
            if stat.S_ISREG(st.st_mode):
                with open(p, 'rb') as f:
                    what += [st.st_size, st.st_nlink, hashlib.sha256(f.read()).hexdigest()[:16]]
            elif stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(p))
            try:
                what += sorted((k, os.getxattr(p, k, follow_symlinks=False).hex())
                               for k in os.listxattr(p, follow_symlinks=False) if not k.startswith('system.'))
            except OSError:
                pass
            lines.append(' '.join(map(str, what)))
    return lines


def run(runtime, args, base):
    """Runs the script under one runtime; returns (exit code, stdout, stderr, tree)."""
    box = tempfile.mkdtemp(prefix='t.', dir=base)
    work = os.path.join(box, 'w')
    os.mkdir(work)
    with open(args.script) as f:
        text = f.read()
    readonly = runtime == 'runc' and args.shared_root
    spec = config(args.rootfs, work, args.script, readonly)
    if '# mount: cgroup' in text:
        spec['mounts'].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                               "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]})
    with open(os.path.join(box, 'config.json'), 'w') as f:
        json.dump(spec, f)
    name = 'cmp-%s-%d' % (runtime, os.getpid())
    if runtime == 'runc':
        command = ['runc', '--root', os.path.join(box, 'state'), 'run', '--bundle', box, name]
    else:
        options = [o for line in re.findall(r'^# option: *(.*)$', text, re.M) for o in line.split()] + args.option
        command = [args.caisson, '--root', os.path.join(box, 'state')] + options + ['run', '--bundle', box, name]
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         start_new_session=True)
    try:
        out, err = p.communicate(timeout=args.timeout)
        code = p.returncode
    except subprocess.TimeoutExpired:
        subprocess.run(command[:3] + ['delete', '--force', name], capture_output=True, timeout=30)
        os.killpg(p.pid, signal.SIGKILL)
        out, err = p.communicate()
        code = 'timeout after %d s' % args.timeout
    result = (code, out.decode(errors='replace'), err.decode(errors='replace'), tree(work))
    shutil.rmtree(box, ignore_errors=True)
    return result


def main():
    a = argparse.ArgumentParser()
    a.add_argument('script')
    a.add_argument('--rootfs', default=os.environ.get('CAISSON_ROOTFS', ''))
    a.add_argument('--caisson', default='caisson')
    a.add_argument('--only', choices=['runc', 'caisson'])
    a.add_argument('--option', action='append', default=[])
    a.add_argument('--timeout', type=int, default=120)
    a.add_argument('--shared-root', action='store_true', help='runc sees the root file system read-only')
    args = a.parse_args()
    if not args.rootfs:
        sys.exit('compare.py: no root file system: set CAISSON_ROOTFS (tests/rootfs.sh prints one)')
    base = tempfile.mkdtemp(prefix='caisson-test.')
    try:
        results = {r: run(r, args, base) for r in ('runc', 'caisson') if args.only in (None, r)}
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if args.only:
        code, out, err, files = results[args.only]
        print(out, end='')
        print(err, end='', file=sys.stderr)
        print('\n'.join(files))
        print('exit', code)
        return 0
    with open(args.script) as f:
        ignore_stderr = '# stderr: ignore' in f.read()
    bad = False
    for i, what in enumerate(('exit code', 'stdout', 'stderr', 'file tree')):
        want, got = results['runc'][i], results['caisson'][i]
        if what == 'stderr' and ignore_stderr:
            continue
        if want != got:
            bad = True
            print(f'--- {what} differs\nrunc:    {want if not isinstance(want, list) else chr(10).join(want)}\n'
                  f'caisson: {got if not isinstance(got, list) else chr(10).join(got)}')
    if results['runc'][0] != 0:
        bad = True
        print('the script itself fails under runc: exit', results['runc'][0], results['runc'][2])
    if bad and ignore_stderr:
        print('caisson stderr:', results['caisson'][2])
    return 1 if bad else 0


sys.exit(main())

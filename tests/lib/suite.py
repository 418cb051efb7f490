# SPDX-License-Identifier: Apache-2.0
"""Foreign test suites under runc and under caisson: a container for each part, the outcome of every test, what differs.

A suite (tests/suites/*) says which parts it has, which command runs one, and how its results are read; main() does the rest.
"""
import argparse, json, os, re, shutil, signal, subprocess, sys, tempfile

import spec

HERE = os.path.dirname(os.path.abspath(__file__))


class Suite:
    """What differs from suite to suite."""
    parts = []            # run without arguments
    rootfs = 'suites'     # argument of tests/rootfs.sh
    env = []
    mounts = []           # more of config.json's
    timeout = 900

    def command(self, part):
        """The program and its arguments; /w is a directory of the part's own."""
        raise NotImplementedError

    def outcomes(self, work, log):
        """Name of a test -> ok, skipped, FAIL or ERROR, from what the part left in its directory and in its log."""
        raise NotImplementedError

    def known(self, part, test):
        """Whether docs/suites.md argues why this one differs."""
        return False


def config(suite, rootfs, work, part):
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/w", "args": suite.command(part),
            "env": [spec.PATH, "HOME=/root", "LC_ALL=C.UTF-8"] + suite.env,
            "capabilities": {k: spec.CAPS for k in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}]},
        "root": {"path": rootfs, "readonly": True}, "hostname": "box",
        "mounts": spec.mounts("size=65536k", "size=1g") + [
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/w", "type": "bind", "source": work, "options": ["bind", "rw"]}] + suite.mounts,
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]}}


def run(suite, runtime, part, args, base):
    box = tempfile.mkdtemp(prefix='t.', dir=base)
    work = os.path.join(box, 'w')
    os.mkdir(work)
    with open(os.path.join(box, 'config.json'), 'w') as f:
        json.dump(config(suite, args.rootfs, work, part), f)
    name = f'suite-{runtime}-{os.getpid()}'
    file_name = part.replace('/', '_')
    program = ['runc'] if runtime == 'runc' else [args.caisson, '--debug-log', os.path.join(args.keep, f'{file_name}.debug.log')] + args.option
    program += ['--root', os.path.join(box, 'state')]
    log_path = os.path.join(args.keep, f'{file_name}.{runtime}.log')
    with open(log_path, 'w') as log:
        p = subprocess.Popen(program + ['run', '--bundle', box, name], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             start_new_session=True)
        try:
            code = p.wait(timeout=args.timeout)
        except subprocess.TimeoutExpired:
            code = f'time-out after {args.timeout} s'
            subprocess.run(program + ['delete', '--force', name], capture_output=True, timeout=60)
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
    with open(log_path, errors='replace') as log:
        result = suite.outcomes(work, log.read()) or {'(module)': f'no results, exit {code}'}
    shutil.rmtree(box, ignore_errors=True)
    with open(os.path.join(args.keep, f'{file_name}.{runtime}.json'), 'w') as f:
        json.dump(result, f, indent=0, sort_keys=True)
    return result


def results(suite, runtime, part, args, base):
    try:
        if runtime == 'runc':
            with open(os.path.join(args.keep, f'{part.replace("/", "_")}.runc.json')) as f:
                return json.load(f)
    except OSError:
        pass
    return run(suite, runtime, part, args, base)


def compare(suite, part, args, base):
    """(number of tests, those that differ without a known reason with both outcomes, number of those that are known to)"""
    want, got = (results(suite, r, part, args, base) for r in ('runc', 'caisson'))
    if any(want.get(t) != got.get(t) and not suite.known(part, t) for t in want.keys() | got.keys()):
        # Once more, as some tests race with the clock: what differs both times differs.
        again_want, again_got = (run(suite, r, part, args, base) for r in ('runc', 'caisson'))
        if '(module)' in got:
            got = again_got
        for t in set(got) & set(want) & set(again_want):
            if again_want[t] == again_got.get(t):
                got[t] = want[t]
    differ = ["(module)"] if "(module)" in got else sorted(t for t in want.keys() | got.keys() if want.get(t) != got.get(t))
    known = [t for t in differ if suite.known(part, t)]
    return len(got), [(t, want.get(t), got.get(t)) for t in differ if t not in known], len(known)


def not_supported(keep):
    """System calls that were made and are not supported, by name: the sandboxes' logs name each once."""
    found = {}
    for name in os.listdir(keep):
        if name.endswith('.debug.log'):
            with open(os.path.join(keep, name), errors='replace') as f:
                for call in re.findall(r'system call \d+ \((\w+)\) is not supported', f.read()):
                    found.setdefault(call, set()).add(name[:-len('.debug.log')])
    return found


def main(suite, description):
    a = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('parts', nargs='*', metavar='PART', default=suite.parts)
    a.add_argument('--caisson', default=os.path.join(HERE, '../../build/bin/caisson'))
    a.add_argument('--rootfs', default='')
    a.add_argument('--only', choices=['runc', 'caisson'])
    a.add_argument('--keep', default='', help="keeps logs, and runc's results, which the next call uses again")
    a.add_argument('--option', action='append', default=[], help='a flag for caisson')
    a.add_argument('--timeout', type=int, default=suite.timeout)
    args = a.parse_args()
    args.rootfs = args.rootfs or subprocess.run([os.path.join(HERE, '../rootfs.sh')] + ([suite.rootfs] if suite.rootfs else []),
                                                check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    base = tempfile.mkdtemp(prefix='caisson-suite.')
    args.keep = os.path.abspath(args.keep) if args.keep else os.path.join(base, 'results')
    os.makedirs(args.keep, exist_ok=True)
    differences = tests = 0
    try:
        for part in args.parts:
            if args.only:
                r = results(suite, args.only, part, args, base)
                bad = {t: w for t, w in r.items() if w not in ('ok', 'skipped')}
                print(f'{part}: {len(r)} tests', *(f'\n  {t}: {w}' for t, w in bad.items()), flush=True)
                continue
            count, differ, known = compare(suite, part, args, base)
            tests += count
            differences += len(differ)
            print(f'{part}: {count} tests, {len(differ)} differ' + (f', {known} known to' if known else ''), flush=True)
            for t, want, got in differ[:60]:
                print(f'  {t}: runc {want}, caisson {got}', flush=True)
        for call, parts in sorted(not_supported(args.keep).items()):
            print(f'not supported: {call}, asked for by {", ".join(sorted(parts))}')
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if not args.only:
        print(f'{tests} tests, {differences} differences')
    return 1 if differences else 0

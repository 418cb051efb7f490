#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`caisson bench` does what it says, in a short run: the text, the JSON and the page are whole, and nothing is left. No timing is looked at:
what the figures are is not for a test."""
import json, os, re, signal, subprocess, sys, tempfile, unittest
from html.parser import HTMLParser

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import CAISSON, PATIENCE, ROOTFS, cgroup_dirs, wait_until

FAMILIES = {'trivial', 'file', 'pipe', 'socket', 'futex', 'signal', 'timer', 'epoll', 'memory', 'process', 'thread', 'switch', 'parallel'}


class Page(HTMLParser):
    """Whether the tags are closed in order; what is asked of elsewhere; how many charts and dots."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.elsewhere = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.elsewhere += [a for a in attributes if a[0] in ('src', 'href')]
        if tag not in ('meta', 'br'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        # Items and paragraphs may stay open in HTML; ours do not.
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix='caisson-bench-test.')
        cls.top = cls.scratch.name
        os.chmod(cls.top, 0o755)
        cls.work = os.path.join(cls.top, 'tmp')
        os.mkdir(cls.work)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def environment(self):
        return dict(os.environ, TMPDIR=self.work)

    def bench(self, *flags, **more):
        p = subprocess.Popen([CAISSON, 'bench', *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=self.environment(), **more)
        out, err = p.communicate(timeout=300)
        p.stdout, p.stderr = out, err
        return p

    def groups_of(self, p):
        """Control groups of its containers; somebody else may be at it too."""
        return [g for g in cgroup_dirs() if 'caisson-bench-%d-' % p.pid in g]

    def assert_nothing_left(self, p):
        self.assertEqual(os.listdir(self.work), [])
        self.assertEqual(self.groups_of(p), [])
        with open('/proc/mounts') as f:
            self.assertNotIn(self.work, f.read())
        left = []
        for p in os.listdir('/proc'):
            try:
                with open('/proc/%s/cmdline' % p, 'rb') as f:
                    if self.work.encode() in f.read():
                        left.append(p)
            except OSError:
                pass
        self.assertEqual(left, [])

    def test_a_short_run_is_whole(self):
        out, page = os.path.join(self.top, 'out.json'), os.path.join(self.top, 'out.html')
        p = self.bench('--quick', '--suite', 'syscall', '--rounds', '1', '--json', out, '--html', page)
        self.assertEqual(p.returncode, 0, p.stdout[-3000:] + p.stderr[-3000:])
        self.assertIn('[4/4]', p.stderr)
        with open(out) as f:
            j = json.load(f)
        names = [r['name'] for r in j['runtimes']]
        self.assertEqual(names[1:], ['caisson'])
        self.assertEqual([(t['suite'], t['cpus']) for t in j['tables']], [('syscall', 'all'), ('syscall', 'one')])
        self.assertEqual(j['broken'], [])
        self.assertFalse(j['interrupted'])
        for key in ('processor', 'kernel', 'hypervisor', 'mitigations', 'quota', 'load'):
            self.assertTrue(j['machine'][key], key)
        for t in j['tables']:
            self.assertEqual({r['family'] for r in t['rows']}, FAMILIES)
            self.assertEqual(set(t['geometric_mean']), set(names))
            self.assertEqual(len({r['name'] for r in t['rows']}), len(t['rows']))
            for r in t['rows']:
                self.assertEqual(set(r['results']), set(names), r)
                for v in r['results'].values():
                    self.assertTrue(0 < v['min'] <= v['q1'] <= v['median'] <= v['q3'] <= v['max'], r)
                    self.assertGreater(v['ratio'], 0)
                # The text has the same row.
                self.assertRegex(p.stdout, r'(?m)^   %s( +[0-9.]+ [num]?s( +<?[0-9.]+x)?){2}$' % re.escape(r['label']))
        self.assertEqual(p.stdout.count('geometric mean  '), 2)
        for words in ('In short', 'processor', 'skipped' if j['skipped'] else 'run '):
            self.assertIn('\n' + words, p.stdout)
        with open(page) as f:
            html = Page(f.read())
        self.assertEqual(html.open, [])
        self.assertEqual(html.elsewhere, [])
        self.assertNotIn('script', html.count)
        self.assertEqual(html.count['svg'], 2)
        self.assertEqual(html.count['circle'], sum(len(r['results']) for t in j['tables'] for r in t['rows']))
        self.assert_nothing_left(p)

    def test_a_chroot_a_quota_and_a_choice_of_operations(self):
        out = os.path.join(self.top, 'other.json')
        p = self.bench('--quick', '--suite', 'file', '--only', 'read_small,walk_tree', '--cpus', 'quota:1', '--runtime', 'native=chroot', '--json', out)
        self.assertEqual(p.returncode, 0, p.stdout[-3000:] + p.stderr[-3000:])
        with open(out) as f:
            j = json.load(f)
        self.assertEqual([(r['name'], r['command']) for r in j['runtimes']][0], ('native', 'a plain chroot'))
        table, = j['tables']
        self.assertEqual(table['cpus'], 'quota:1')
        self.assertEqual([r['name'] for r in table['rows']], ['read_small', 'walk_tree'])
        for r in table['rows']:
            self.assertEqual([v['samples'] for v in r['results'].values()], [1, 1])
        self.assert_nothing_left(p)

    def test_programs_of_a_root_file_system(self):
        out = os.path.join(self.top, 'app.json')
        before = os.stat(ROOTFS + '/tmp').st_mtime_ns, os.stat(ROOTFS).st_mtime_ns
        p = self.bench('--quick', '--suite', 'app', '--only', 'gxx,redis', '--rootfs', ROOTFS, '--json', out)
        self.assertEqual(p.returncode, 0, p.stdout[-3000:] + p.stderr[-3000:])
        with open(out) as f:
            j = json.load(f)
        self.assertEqual([(r['name'], len(r['results'])) for r in j['tables'][0]['rows']], [('gxx', 2)])
        self.assertEqual(j['skipped'], ['redis: no redis-server in ' + os.path.realpath(ROOTFS)])
        # It stays as it was.
        self.assertEqual((os.stat(ROOTFS + '/tmp').st_mtime_ns, os.stat(ROOTFS).st_mtime_ns), before)
        self.assertFalse(os.path.exists(ROOTFS + '/caisson-bench'))
        self.assert_nothing_left(p)

    def test_start_and_files(self):
        out = os.path.join(self.top, 'other.json')
        p = self.bench('--quick', '--suite', 'start,file', '--only', 'create_unlink,read_small,read_large,map_read,unpack', '--json', out)
        self.assertEqual(p.returncode, 0, p.stdout[-3000:] + p.stderr[-3000:])
        with open(out) as f:
            j = json.load(f)
        start, files = j['tables']
        of_caisson = {r['name'] for r in start['rows'] if 'caisson' in r['results']}
        self.assertEqual(of_caisson, {'run', 'create', 'start', 'create_start', 'exec', 'delete', 'create_start_10', 'delete_10'})
        self.assertEqual({r['family'] for r in files['rows']}, {'names', 'small', 'large', 'mmap', 'trees'})
        for r in files['rows']:
            self.assertEqual(len(r['results']), 2, r)
        self.assertTrue(any('--drop-caches' in s for s in j['skipped']))
        self.assert_nothing_left(p)

    def test_interrupted_it_cleans_up(self):
        out = os.path.join(self.top, 'stopped.json')
        p = subprocess.Popen([CAISSON, 'bench', '--suite', 'memory', '--json', out], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, env=self.environment())
        # The step before is done, so one with containers has begun.
        for line in p.stderr:
            if line.startswith('[2/'):
                break
        wait_until(lambda: self.groups_of(p), 'a container')
        p.send_signal(signal.SIGINT)
        text, errors = p.communicate(timeout=PATIENCE * 4)
        self.assertEqual(p.returncode, 130, errors)
        self.assertIn('INTERRUPTED', text)
        with open(out) as f:
            self.assertTrue(json.load(f)['interrupted'])
        self.assert_nothing_left(p)

    def test_what_cannot_be_is_said_at_once(self):
        for flags, words in ((['--suite', 'calls'], "'calls' is none of syscall, start, memory, file, app"),
                             (['--runtime', 'runsc'], 'must be NAME=PATH'),
                             (['--runtime', 'x=/nowhere/runsc', '--suite', 'start'], '/nowhere/runsc --version: exit code 127'),
                             (['--cpus', 'quota:0'], '--cpus quota:0: must be all, one, or quota:N'),
                             (['--rounds', '-1'], '--rounds -1: must be from 1 to 1000'),
                             (['--rootfs', '/proc'], '--rootfs /proc: must be a directory with a root file system'),
                             (['--json', '/nowhere/x.json'], 'write --json /nowhere/x.json'),
                             (['more'], "bench: 'more' is one word too many")):
            p = self.bench(*flags)
            self.assertEqual(p.returncode, 1, (flags, p.stdout))
            self.assertIn(words, p.stderr)
        try:
            p = subprocess.run([CAISSON, 'bench', '--quick'], capture_output=True, text=True, timeout=60, user=65534, group=65534, extra_groups=[], cwd='/')
        except PermissionError:
            pass  # a tree that only root may look into
        else:
            self.assertEqual(p.returncode, 1)
            self.assertIn('bench: needs to be root', p.stderr)
        self.assertEqual(os.listdir(self.work), [])


if __name__ == '__main__':
    unittest.main()

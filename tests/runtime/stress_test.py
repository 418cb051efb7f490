#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processes and threads that signal, stop, kill and replace one another: all of them move to the end, and afterwards the sandbox has the
descriptors, threads and stubs that it had before. CAISSON_STRESS=600 is the long form: so many seconds, with 1,000 processes and 2,000 threads."""
import os, sys, unittest

import alone
from lab import Box, CAISSON, config, wait_until

SECONDS = int(os.environ.get('CAISSON_STRESS', '0'))
SIZE = ('1000', '2000') if SECONDS else ('40', '80')
GUEST = os.path.join(os.path.dirname(os.path.abspath(CAISSON)), 'stress_guest')


def figures():
    """Of the sandbox's processes on the host: how many there are by name, their descriptors, and the sentry's threads and mappings."""
    out = {'descriptors': 0, 'threads': 0, 'mappings': 0}
    for pid, (name, _) in alone.processes().items():
        if name not in ('caisson-sentry', 'caisson-gofer', 'caisson-zygote'):
            continue
        try:
            if name != 'caisson-zygote':
                out['descriptors'] += len(os.listdir('/proc/%d/fd' % pid))
            if name == 'caisson-sentry':
                out['threads'] += len(os.listdir('/proc/%d/task' % pid))
                with open('/proc/%d/maps' % pid) as f:
                    out['mappings'] += len(f.readlines())
        except OSError:
            continue
        out[name] = out.get(name, 0) + 1
    return out


class Stress(unittest.TestCase):
    def test_nothing_hangs_and_nothing_leaks(self):
        with Box('caisson') as box:
            c = config(['/bin/sleep', '1000000'])
            c['mounts'].append({'destination': '/tmp/guest', 'type': 'bind', 'source': GUEST, 'options': ['bind', 'ro']})
            if SECONDS:
                c['linux']['resources'] = {'cpu': {'shares': 256}}  # others are not to suffer
            c['process']['rlimits'] = [{'type': 'RLIMIT_NOFILE', 'hard': 4096, 'soft': 4096}]
            id = box.start(c)

            def run(seconds, processes, threads):
                code, out, err = box.call('exec', id, '/tmp/guest', str(seconds), processes, threads, timeout=seconds + 400)
                print(out.strip(), file=sys.stderr)
                self.assertEqual((code, err), (0, ''), out)

            run(2, *SIZE)  # what grows to the size of the work and stays: pools of stubs, of workers
            before = figures()
            run(SECONDS or 5, *SIZE)

            def back():
                after = figures()
                # Pools breathe a little.
                return all(after.get(k, 0) <= n + max(8, n // 10) for k, n in before.items()) and after
            after = wait_until(back, 'what there was before (%s) instead of %s' % (before, figures()))
            print('before %s, after %s' % (before, after), file=sys.stderr)
            self.assertEqual(box.call('exec', id, '/bin/echo', 'well')[:2], (0, 'well\n'))


if __name__ == '__main__':
    alone.enter()
    unittest.main()

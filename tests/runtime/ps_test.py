#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ps with the options that people give it, under runc (the host's ps) and under Caisson: the same columns but for the numbers of processes."""
import json, re, unittest

from lab import Box, config, wait_until

PROGRAM = ['/bin/sh', '-c', 'sleep 1000 & exec sleep 2000']


class Ps(unittest.TestCase):
    def seen(self, box, id, *options):
        code, out, err = box.call('ps', id, *options)
        self.assertEqual((code, err), (0, ''), (box.runtime, options, out))
        return out.splitlines()

    def test_options_choose_columns(self):
        with Box('runc') as runc, Box('caisson') as caisson:
            boxes = {}
            for box in (runc, caisson):
                id = boxes[box] = box.start(config(PROGRAM))
                wait_until(lambda: sorted(line.split()[-1] for line in self.seen(box, id)[1:]) == ['1000', '2000'], 'both programs')
            for options in ([], ['-ef'], ['-f'], ['-e', '-f'], ['aux'], ['axu'], ['-o', 'pid,comm'], ['-opid,ppid,user,args'], ['-eo', 'pid,nice=HOW'],
                            ['--format', 'pid,nlwp'], ['-o', 'pid', '-o', 'tty'], ['-eo', 'pid,uid,gid,s,stat,rss,vsz,etime,time,pcpu,pmem']):
                with self.subTest(options):
                    headers, commands = {}, {}
                    for box, id in boxes.items():
                        lines = self.seen(box, id, *options)
                        self.assertEqual(len(lines), 3, lines)
                        headers[box.runtime] = lines[0].split()
                        self.assertTrue(all(len(line.split()) >= len(headers[box.runtime]) for line in lines[1:]), lines)
                        commands[box.runtime] = sorted(re.findall(r'\bsleep(?: \d+)?$', '\n'.join(lines), re.M))
                    self.assertEqual(headers['caisson'], headers['runc'])
                    self.assertEqual(commands['caisson'], commands['runc'])
            # By the pids that they have inside.
            id = boxes[caisson]
            self.assertEqual(self.seen(caisson, id, '-o', 'pid=,ppid=,comm=')[0].split(), ['1', '0', 'sleep'])
            self.assertEqual(self.seen(caisson, id, '--no-headers', '-o', 'args'), ['sleep 2000', 'sleep 1000'])
            inside = [int(p) for p in caisson.call('exec', id, '/bin/ps', '-C', 'sleep', '-o', 'pid=')[1].split()]
            self.assertEqual(json.loads(caisson.call('ps', '--format', 'json', id)[1]), inside)
            for options, word in (['-Z'], '-Z'), (['--sort', 'pid'], '--sort'), (['-o', 'pid,fancy'], 'fancy'), (['-o'], '-o'):
                code, out, err = caisson.call('ps', id, *options)
                self.assertEqual((code, out, len(err.splitlines())), (1, '', 1), err)
                self.assertIn(word, err)


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's containerd with the runtime types of runc and of Caisson: the same answers."""
import os, signal, subprocess, time, unittest

from daemon import IMAGE, PATIENCE, Daemon, Events, Terminal, read, shims, wait_until

TRAP = 'trap "exit 3" TERM; while :; do sleep 0.1; done'


class Shim:
    runtime = ''

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.ctr = cls.daemon.ctr
        cls.events = Events(cls.daemon)
        cls.ids = []

    @classmethod
    def tearDownClass(cls):
        cls.events.close()
        cls.daemon.stop()

    def run_flags(self, *flags):
        self.ids.append('c%d' % time.monotonic_ns())
        return ['run', '--runtime', self.runtime, *flags, IMAGE, self.ids[-1]]

    def run_once(self, *program, flags=(), input=None):
        return self.ctr(*self.run_flags('--rm', *flags), *program, input=input)

    def background(self, *program, flags=()):
        words = self.run_flags('--detach', *flags)
        code, _, err = self.ctr(*words, *program)
        self.assertEqual(code, 0, err)
        return words[-1]

    def task(self, id):
        """pid and status"""
        return ([l.split()[1:] for l in self.ctr('tasks', 'ls')[1].splitlines() if l.split()[0] == id] or [[None, None]])[0]

    def status(self, id):
        return self.task(id)[1]

    def end(self, id, expect=137):
        self.ctr('tasks', 'kill', '-s', 'SIGKILL', id)
        wait_until(lambda: self.status(id) in ('STOPPED', None), 'the task to stop')
        self.remove(id, expect)

    def remove(self, id, expect):
        self.assertIn('exit code %d' % expect, ''.join(self.ctr('tasks', 'rm', id)[1:]))
        self.assertEqual(self.ctr('containers', 'rm', id)[0], 0)

    def test_run_tells_output_and_exit_code(self):
        code, out, err = self.run_once('/bin/sh', '-c', 'echo out; echo err >&2; exit 6')
        self.assertEqual((code, out, err), (6, 'out\n', 'err\n'))
        code, out, err = self.run_once('/bin/sh', '-c', 'echo $A; pwd', flags=['--env', 'A=b', '--cwd', '/tmp'])
        self.assertEqual((code, out), (0, 'b\n/tmp\n'), err)
        code, _, err = self.run_once('/bin/nothing')
        self.assertEqual(code, 1)
        self.assertIn('no such file', err.lower())

    def test_input_comes_through_and_ends(self):
        text = 'x' * 1000 + '\nend\n'
        id = self.background('/bin/sleep', '1000')
        code, out, err = self.ctr('tasks', 'exec', '--exec-id', 'in', id, '/bin/cat', input=text)
        self.assertEqual((code, out), (0, text), err)
        self.end(id)

    def test_output_goes_to_a_file_or_to_a_program(self):
        log, program, got = (self.daemon.top + n for n in ('/out.log', '/logger', '/got'))
        id = self.background('/bin/echo', 'to the file', flags=['--log-uri', 'file://' + log])
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.assertEqual(read(log), 'to the file\n')
        self.forget(id)
        self.daemon.write('logger', '#!/bin/sh\ntrap "" TERM\nexec >%s\necho $CONTAINER_NAMESPACE $1\nexec 5>&-\ncat <&3; cat <&4\n' % got)
        os.chmod(program, 0o755)
        id = self.background('/bin/sh', '-c', 'echo out; echo err >&2', flags=['--log-uri', 'binary://%s?word=' % program])
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.forget(id)
        wait_until(lambda: read(got) == 'default word\nout\nerr\n', 'the program to have it all')

    def forget(self, id):
        self.ctr('tasks', 'rm', id)
        self.assertEqual(self.ctr('containers', 'rm', id)[0], 0)

    def test_much_output_is_not_lost(self):
        code, out, err = self.run_once('/bin/sh', '-c', 'seq 1 30000')
        self.assertEqual((code, out), (0, ''.join('%d\n' % i for i in range(1, 30001))), err)

    def test_exec_list_kill_and_remove(self):
        id = self.background('/bin/sh', '-c', TRAP)
        self.assertEqual(self.status(id), 'RUNNING')
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'e1', id, '/bin/sh', '-c', 'echo in; exit 5')[:2], (5, 'in\n'))
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'e2', id, '/bin/echo', 'again')[:2], (0, 'again\n'))
        code, _, err = self.ctr('tasks', 'exec', '--exec-id', 'e3', id, '/bin/nothing')
        self.assertEqual(code, 1)
        self.assertIn('no such file', err.lower())
        self.assertGreaterEqual(len(self.ctr('tasks', 'ps', id)[1].splitlines()), 2)
        self.assertEqual(self.ctr('tasks', 'kill', '-s', 'SIGTERM', id)[0], 0)
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        code, _, err = self.ctr('tasks', 'kill', '-s', 'SIGTERM', id)
        self.assertIn('process already finished: not found', err)
        self.remove(id, 3)

    def test_an_exec_in_the_background_can_be_killed(self):
        id = self.background('/bin/sleep', '1000')
        p = subprocess.Popen(self.daemon.command('tasks', 'exec', '--exec-id', 'bg', id, '/bin/sleep', '1000'),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: 'exec-started' in self.events.of(id), 'the exec to start')
        self.assertEqual(self.ctr('tasks', 'kill', '--exec-id', 'bg', '-s', 'SIGKILL', id)[0], 0)
        self.assertEqual(p.wait(PATIENCE), 137)
        self.assertEqual(self.status(id), 'RUNNING')
        self.end(id)

    def test_pause_and_resume(self):
        id = self.background('/bin/sleep', '1000')
        self.assertEqual(self.ctr('tasks', 'pause', id)[0], 0)
        self.assertEqual(self.status(id), 'PAUSED')
        self.assertNotEqual(self.ctr('tasks', 'exec', '--exec-id', 'p', id, '/bin/true')[0], 0)
        self.assertEqual(self.ctr('tasks', 'resume', id)[0], 0)
        self.assertEqual(self.status(id), 'RUNNING')
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'q', id, '/bin/true')[0], 0)
        self.end(id)

    def test_metrics(self):
        id = self.background('/bin/sleep', '1000', flags=['--memory-limit', '67108864'])
        code, out, err = self.ctr('tasks', 'metrics', id)
        self.assertEqual(code, 0, err)
        table = dict(l.split()[:2] for l in out.splitlines() if len(l.split()) >= 2)
        usage = next(int(v) for k, v in table.items() if k in ('memory.usage_in_bytes', 'memory.usage'))
        self.assertGreater(usage, 10000)
        self.assertLessEqual(usage, 67108864)
        self.assertEqual(next(v for k, v in table.items() if k in ('pids.current',)), '1')
        self.end(id)

    def test_out_of_memory_is_told_before_the_end(self):
        id = self.background('/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=300M', 'count=1', flags=['--memory-limit', '134217728'])
        wait_until(lambda: 'exit' in self.events.of(id), 'the end')
        self.assertEqual(self.events.of(id), ['create', 'start'] + self.end_of_memory(id))
        self.remove(id, 137)

    def test_events_come_in_order(self):
        id = self.background('/bin/sh', '-c', TRAP)
        self.ctr('tasks', 'exec', '--exec-id', 'e', id, '/bin/sh', '-c', 'exit 9')
        self.ctr('tasks', 'pause', id)
        self.ctr('tasks', 'resume', id)
        self.ctr('tasks', 'kill', '-s', 'SIGTERM', id)
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.remove(id, 3)
        wait_until(lambda: 'delete' in self.events.of(id), 'the last event')
        self.assertEqual(self.events.of(id), ['create', 'start', 'exec-added', 'exec-started', 'exit', 'paused', 'resumed', 'exit', 'delete'])
        last = self.events.last(id, 'exit')
        self.assertEqual((last['id'], last['exit_status']), (id, 3))

    def test_a_short_life_has_its_events_in_order(self):
        for _ in range(3):
            words = self.run_flags('--rm')
            self.assertEqual(self.ctr(*words, '/bin/true')[0], 0)
            wait_until(lambda: 'delete' in self.events.of(words[-1]), 'the last event')
            self.assertEqual(self.events.of(words[-1]), ['create', 'start', 'exit', 'delete'])

    def test_a_terminal(self):
        t = Terminal.of_command(self.daemon.command(*self.run_flags('--rm', '-t'), '/bin/sh', '-c',
                                                    'tty; read x; echo got $x; stty size; read y; stty size; exit 2'), 25, 91)
        t.expect('/dev/pts/0')
        time.sleep(0.5)  # this client tells the size after the start
        t.type('word\n')
        t.expect('got word')
        t.expect('25 91')
        t.resize(33, 77)
        time.sleep(0.5)
        t.type('\n')
        t.expect('33 77')
        self.assertEqual(t.finish(), 2)

    def test_exec_on_a_terminal_and_interrupt(self):
        id = self.background('/bin/sleep', '1000')
        t = Terminal.of_command(self.daemon.command('tasks', 'exec', '-t', '--exec-id', 't', id, '/bin/sh'), 25, 91)
        t.expect('# ')
        time.sleep(0.3)
        t.type('trap "echo caught" INT; stty size\n')
        t.expect('25 91')
        t.type('cat\n')
        time.sleep(0.5)
        t.type('\x03')
        t.expect('caught')
        t.type('exit 4\n')
        self.assertEqual(t.finish(), 4)
        self.end(id)

    def test_attach_after_the_first_client_has_gone(self):
        words = self.run_flags('-t')
        t = Terminal.of_command(self.daemon.command(*words, '/bin/sh'), 25, 91)
        t.expect('# ')
        t.kill()
        self.assertEqual(self.status(words[-1]), 'RUNNING')
        t = Terminal.of_command(self.daemon.command('tasks', 'attach', words[-1]), 25, 91)
        t.type('echo still $((40 + 2))\n')
        t.expect('still 42')
        t.type('exit 7\n')
        self.assertEqual(t.finish(), 7)
        self.ctr('containers', 'rm', words[-1])

    def test_a_client_that_vanishes_stops_nothing(self):
        words = self.run_flags()
        p = subprocess.Popen(self.daemon.command(*words, '/bin/sh', '-c', 'while :; do echo tick; sleep 0.05; done'),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b'tick\n')
        p.kill()
        p.wait()
        p.stdout.close()
        time.sleep(0.5)
        self.assertEqual(self.status(words[-1]), 'RUNNING')
        self.end(words[-1])

    def test_containerd_restarts_and_nothing_is_lost(self):
        id = self.background('/bin/sh', '-c', TRAP)
        pid = self.task(id)[0]
        self.events.close()
        self.daemon.kill()
        self.daemon.start()
        type(self).events = Events(self.daemon)
        self.assertEqual(self.task(id), [pid, 'RUNNING'])
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'e', id, '/bin/echo', 'here')[:2], (0, 'here\n'))
        self.ctr('tasks', 'kill', '-s', 'SIGTERM', id)
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.assertEqual(self.events.last(id, 'exit')['exit_status'], 3)
        self.remove(id, 3)

    def test_a_shim_that_is_killed_leaves_nothing(self):
        id = self.background('/bin/sleep', '1000')
        pid = int(self.task(id)[0])
        mine = [p for p in shims(self.daemon.top) if id in read('/proc/%d/cmdline' % p).split('\0')]
        self.assertEqual(len(mine), 1)
        os.kill(mine[0], signal.SIGKILL)
        wait_until(lambda: self.status(id) is None, 'the task to be forgotten')
        wait_until(lambda: not os.path.exists('/proc/%d' % pid), 'its processes to go')
        self.assertFalse(os.path.exists('%s/state/io.containerd.runtime.v2.task/default/%s' % (self.daemon.top, id)))
        self.assertFalse([l for l in read('/proc/mounts').splitlines() if '/%s/' % id in l])
        self.assertEqual(self.ctr('containers', 'rm', id)[0], 0)

    def test_a_task_that_is_killed_from_outside_is_told(self):
        id = self.background('/bin/sleep', '1000')
        os.kill(int(self.task(id)[0]), signal.SIGKILL)
        wait_until(lambda: self.status(id) == 'STOPPED', 'the task to stop')
        self.assertEqual(self.events.last(id, 'exit')['exit_status'], 137)
        self.remove(id, 137)


class WithRunc(Shim, unittest.TestCase):
    runtime = 'io.containerd.runc.v2'

    def end_of_memory(self, id):
        return self.events.of(id)[2:]  # the cause may be told after the end, or not at all


class WithCaisson(Shim, unittest.TestCase):
    runtime = 'io.containerd.caisson.v1'

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if cls.daemon.sockets_left(cls.ids):
            raise AssertionError('sockets are left of %s' % cls.daemon.sockets_left(cls.ids))

    def end_of_memory(self, id):
        return ['oom', 'exit']

    def test_a_sandbox_that_hangs_holds_nobody_up(self):
        id, other = self.background('/bin/sleep', '1000'), self.background('/bin/sleep', '1000')
        pid = int(self.task(id)[0])
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        self.assertEqual(self.status(id), 'RUNNING')
        self.assertLess(time.monotonic() - begin, 2)
        self.assertNotEqual(self.ctr('tasks', 'ps', id)[0], 0)
        self.assertEqual(self.ctr('tasks', 'exec', '--exec-id', 'e', other, '/bin/true')[0], 0)
        self.end(id)
        self.end(other)

    def test_nothing_is_left_of_a_task(self):
        id = self.background('/bin/sleep', '1000')
        self.assertEqual(len(self.daemon.sockets_left([id])), 1)
        self.end(id)
        state = self.daemon.top + '/caisson/default'
        self.assertEqual([n for n in os.listdir(state) if not n.startswith('.')] + os.listdir(state + '/.ids'), [])


if __name__ == '__main__':
    unittest.main()

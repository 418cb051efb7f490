#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`caisson install` into the configuration of a containerd that then runs pods by it; what a pod's annotations may say."""
import os, subprocess, time, unittest

from daemon import CAISSON, CRI_CONFIG, IMAGE, Cri, CriError, Daemon, read, wait_until


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(CRI_CONFIG)
        cls.daemon.kill()
        top = cls.daemon.top
        # As on a node, where the shim is in no directory of containerd's PATH: 1.6 finds it by the link that `install` makes.
        text = read(top + '/config.toml').replace('"io.containerd.internal.v1.opt", ', '')
        cls.daemon.write('config.toml', text + '[plugins."io.containerd.internal.v1.opt"]\n  path = "%s/opt"\n' % top)
        cls.daemon.environment['PATH'] = os.environ['PATH']
        cls.daemon.write('caisson.toml', '[sandbox]\ndebug_log = "%s/%%ID%%.log"\n[limits]\nmemory = "96m"\n'
                                         '[annotations]\nallow = ["dev.caisson.strace"]\n' % top)
        p = subprocess.run([CAISSON, 'install', '--containerd-config', top + '/config.toml', '--handler', 'sandboxed', '--config-path',
                            top + '/caisson.toml'], capture_output=True, text=True)
        if p.returncode:
            raise AssertionError(p.stderr)
        cls.daemon.start()
        cls.cri = Cri(cls.daemon)
        wait_until(cls.ready, 'the CRI to be ready')

    @classmethod
    def ready(cls):
        try:
            return all(c['status'] for c in cls.cri.call('Status')['status']['conditions'])
        except CriError:
            return False

    @classmethod
    def tearDownClass(cls):
        for p in cls.cri.call('ListPodSandbox')['items']:
            cls.cri.call('StopPodSandbox', pod_sandbox_id=p['id'])
            cls.cri.call('RemovePodSandbox', pod_sandbox_id=p['id'])
        cls.cri.close()
        cls.daemon.stop()

    def pod(self, handler='sandboxed', **annotations):
        name = 'p%d' % time.monotonic_ns()
        logs = os.path.join(self.daemon.top, name)
        os.mkdir(logs)
        config = {'metadata': {'name': name, 'uid': name, 'namespace': 'tests'}, 'hostname': name, 'log_directory': logs, 'linux': {},
                  'annotations': {'dev.caisson.' + k: v for k, v in annotations.items()}}
        return self.cri.call('RunPodSandbox', config=config, runtime_handler=handler)['pod_sandbox_id'], config

    def run_in(self, pod, *command):
        """The log of a container that ran to its end."""
        c = {'metadata': {'name': 'c'}, 'image': {'image': IMAGE}, 'command': command, 'log_path': 'c.log', 'linux': {}}
        id = self.cri.call('CreateContainer', pod_sandbox_id=pod[0], config=c, sandbox_config=pod[1])['container_id']
        self.cri.call('StartContainer', container_id=id)
        wait_until(lambda: self.cri.call('ContainerStatus', container_id=id)['status']['state'] == 'CONTAINER_EXITED', 'the container to end')
        return id, os.path.join(pod[1]['log_directory'], 'c.log')

    def test_a_pod_runs_by_the_handler_and_its_configuration(self):
        pod = self.pod()
        _, log = self.run_in(pod, '/bin/sh', '-c', 'cat /proc/version; grep MemTotal /proc/meminfo')
        wait_until(lambda: 'MemTotal' in read(log), 'the log')
        self.assertIn('Caisson', read(log))
        self.assertIn(' %d kB' % (96 << 10), read(log))
        self.assertNotIn('exit_group(', read('%s/%s.log' % (self.daemon.top, pod[0])))

    def test_an_annotation_that_is_allowed_is_obeyed(self):
        pod = self.pod(strace='true')
        self.run_in(pod, '/bin/true')
        wait_until(lambda: 'exit_group(' in read('%s/%s.log' % (self.daemon.top, pod[0])), 'the system calls in the log')

    def test_others_keep_the_pod_from_starting_and_say_why(self):
        for name, value, words in (('network', 'none', ('dev.caisson.network is not allowed', 'caisson.toml')),
                                   ('strace', 'some', ("'some'",)), ('strce', 'true', ('did you mean dev.caisson.strace?',))):
            with self.assertRaises(CriError) as e:
                self.pod(**{name: value})
            for w in words:
                self.assertIn(w, str(e.exception))

    def test_a_handler_that_is_not_there_runs_nothing(self):
        with self.assertRaises(CriError):
            self.pod(handler='nothing')


if __name__ == '__main__':
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every member of config.json that version 1.2 of the specification names for Linux, and which test is about it. A member is compared with runc
(or with the spec, where Debian's runc does not know it), warned of, or refused; none is passed over in silence."""
import os, re, unittest

import spec_test

HERE = os.path.dirname(os.path.abspath(__file__))

# What spec_test compares (TABLE), holds against the spec (OWN), sees warned of (WARNED), ignored (SILENT) or refused (REFUSED); or a test by name.
FIELDS = {
    'ociVersion': 'an older version of the spec', 'root.path': 'bad_input_test.py missing root', 'root.readonly': 'a read-only root',
    'mounts.destination': 'mounts in order, one over the other', 'mounts.source': 'a bind mount', 'mounts.type': 'ramfs',
    'mounts.options': 'options of mounts', 'mounts.uidMappings': 'an id-mapped mount by its mappings', 'mounts.gidMappings': 'an id-mapped mount by its mappings',
    'process.terminal': 'terminal_test.py test_the_terminal_has_names_and_can_be_opened_by_each',
    'process.consoleSize': 'terminal_test.py consoleSize', 'process.cwd': 'args, env and cwd', 'process.env': 'an empty environment',
    'process.args': 'args, env and cwd', 'process.commandLine': 'Windows command lines', 'process.user.uid': 'user, groups and umask',
    'process.user.gid': 'user, groups and umask', 'process.user.umask': 'user, groups and umask', 'process.user.additionalGids': 'groups are in order',
    'process.user.username': 'a name of a user', 'process.rlimits': 'rlimits', 'process.apparmorProfile': 'AppArmor',
    'process.capabilities.bounding': 'capabilities of root', 'process.capabilities.effective': 'capabilities of root',
    'process.capabilities.permitted': 'capabilities of root', 'process.capabilities.inheritable': 'capabilities of a user',
    'process.capabilities.ambient': 'capabilities of a user', 'process.noNewPrivileges': 'no new privileges', 'process.oomScoreAdj': 'oomScoreAdj',
    'process.scheduler.policy': 'scheduler', 'process.scheduler.nice': 'scheduler', 'process.scheduler.priority': 'a priority',
    'process.scheduler.flags': 'flags of a scheduler', 'process.scheduler.runtime': 'a deadline', 'process.scheduler.deadline': 'a deadline',
    'process.scheduler.period': 'a deadline', 'process.selinuxLabel': 'SELinux', 'process.ioPriority': 'ioPriority',
    'process.execCPUAffinity': 'spec_test.py test_processes_of_exec_have_their_own_scheduling', 'hostname': 'hostname and domainname',
    'domainname': 'domainname', 'annotations': 'annotations',
    'hooks.prestart': 'life_test.py test_each_kind_runs_in_its_order_with_the_state', 'hooks.createRuntime': 'life_test.py KINDS',
    'hooks.createContainer': 'life_test.py KINDS', 'hooks.startContainer': 'life_test.py KINDS', 'hooks.poststart': 'life_test.py KINDS',
    'hooks.poststop': 'life_test.py test_all_hooks_after_the_end_run', 'hooks.*.timeout': 'life_test.py test_a_hook_has_its_timeout',
    'hooks.*.env': 'life_test.py PATH=/usr/bin:/bin', 'linux.namespaces.type': "the host's everything", 'linux.namespaces.path': 'a namespace by path',
    'linux.uidMappings': 'spec_test.py class MappedIds', 'linux.gidMappings': 'spec_test.py class MappedIds',
    'linux.timeOffsets': 'spec_test.py test_clocks_have_the_offsets', 'linux.devices': 'devices that are asked for', 'linux.netDevices': 'network devices',
    'linux.cgroupsPath': 'bad_input_test.py cgroupsPath', 'linux.resources.devices': 'rules for devices',
    'linux.resources.memory.limit': 'limits_test.py test_limits_are_written_to_the_host_as_runc_does',
    'linux.resources.memory.reservation': "limits_test.py 'reservation'", 'linux.resources.memory.swap': "limits_test.py 'swap'",
    'linux.resources.memory.kernel': 'kernel memory', 'linux.resources.memory.kernelTCP': 'kernel memory of TCP',
    'linux.resources.memory.swappiness': "limits_test.py 'swappiness'", 'linux.resources.memory.disableOOMKiller': 'no killer where there is no memory',
    'linux.resources.memory.useHierarchy': "limits_test.py 'useHierarchy'", 'linux.resources.memory.checkBeforeUpdate': 'a check before an update',
    'linux.resources.cpu.shares': "limits_test.py 'shares'", 'linux.resources.cpu.quota': "limits_test.py 'quota'",
    'linux.resources.cpu.burst': "limits_test.py 'burst'", 'linux.resources.cpu.period': "limits_test.py 'period'",
    'linux.resources.cpu.realtimeRuntime': 'time of real-time programs', 'linux.resources.cpu.realtimePeriod': 'time of real-time programs',
    'linux.resources.cpu.cpus': "limits_test.py 'cpus'", 'linux.resources.cpu.mems': "limits_test.py 'mems'",
    'linux.resources.cpu.idle': "limits_test.py 'idle'", 'linux.resources.pids.limit': 'limits_test.py test_forks_beyond_the_limit_fail_with_eagain',
    'linux.resources.blockIO.weight': "limits_test.py 'blockIO': {'weight'", 'linux.resources.blockIO.leafWeight': 'weights of disks',
    'linux.resources.blockIO.weightDevice': 'the weight of a disk that is not there', 'linux.resources.blockIO.throttleReadBpsDevice': 'limits_test.py throttleReadBpsDevice',
    'linux.resources.blockIO.throttleWriteBpsDevice': 'limits_test.py throttleWriteBpsDevice',
    'linux.resources.blockIO.throttleReadIOPSDevice': 'limits_test.py throttleReadIOPSDevice',
    'linux.resources.blockIO.throttleWriteIOPSDevice': 'limits_test.py throttleWriteIOPSDevice',
    'linux.resources.hugepageLimits': 'limits_test.py hugepageLimits', 'linux.resources.network.classID': 'classes of network',
    'linux.resources.network.priorities': 'priorities of network', 'linux.resources.rdma': 'RDMA, of which there is none to limit',
    'linux.resources.unified': "limits_test.py 'unified'", 'linux.intelRdt': 'Intel RDT', 'linux.sysctl': 'sysctl',
    'linux.seccomp.defaultAction': 'seccomp: errno', 'linux.seccomp.defaultErrnoRet': 'seccomp: all but what is allowed',
    'linux.seccomp.architectures': 'seccomp: errno', 'linux.seccomp.flags': 'flags of seccomp', 'linux.seccomp.listenerPath': 'an agent',
    'linux.seccomp.listenerMetadata': 'an agent', 'linux.seccomp.syscalls.names': 'seccomp: errno', 'linux.seccomp.syscalls.action': 'seccomp: trap',
    'linux.seccomp.syscalls.errnoRet': 'seccomp: trace', 'linux.seccomp.syscalls.args': 'seccomp: equal in some bits',
    'linux.rootfsPropagation': 'propagation_test.py test_the_root_is_what_the_spec_says', 'linux.maskedPaths': 'masked paths', 'linux.readonlyPaths': 'read-only paths',
    'linux.mountLabel': 'SELinux of mounts', 'linux.personality.domain': 'personality', 'linux.personality.flags': 'flags of a personality',
    'linux.memoryPolicy': 'policies of memory', 'solaris': 'other systems', 'windows': 'other systems', 'vm': 'other systems', 'zos': 'other systems',
}
TABLES = {**spec_test.TABLE, **spec_test.OWN, **spec_test.WARNED, **spec_test.SILENT, **spec_test.REFUSED}


class Fields(unittest.TestCase):
    def test_each_has_its_test(self):
        for field, proof in FIELDS.items():
            with self.subTest(field):
                file = re.match(r'(\w+_test\.py) (.*)', proof)
                if file:
                    with open(os.path.join(HERE, file.group(1))) as f:
                        self.assertIn(file.group(2), f.read())
                else:
                    self.assertIn(proof, TABLES)


if __name__ == '__main__':
    unittest.main()

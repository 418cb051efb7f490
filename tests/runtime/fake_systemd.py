# SPDX-License-Identifier: Apache-2.0
"""As much of systemd's manager as makes, changes and stops a scope: on the bus of DBUS_SYSTEM_BUS_ADDRESS, for hosts (and tests) where
no systemd runs. argv: a file that gets one JSON line per call; directories of the hierarchies to make groups in."""
import json, os, sys

import dbus, dbus.mainloop.glib, dbus.service
from gi.repository import GLib

LOG, HIERARCHIES = sys.argv[1], sys.argv[2:]
MANAGER = 'org.freedesktop.systemd1.Manager'


def plain(v):
    if isinstance(v, dbus.Boolean):
        return bool(v)
    if isinstance(v, int):
        return int(v)
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    return str(v)


class UnitError(dbus.DBusException):
    _dbus_error_name = 'org.freedesktop.systemd1.NoSuchUnit'


class Manager(dbus.service.Object):
    units = {}

    def log(self, method, *args):
        with open(LOG, 'a') as f:
            f.write(json.dumps([method, *args]) + '\n')

    def must_exist(self, name):
        if str(name) not in self.units:
            raise UnitError('Unit %s not loaded.' % name)

    @dbus.service.method(MANAGER, in_signature='ssa(sv)a(sa(sv))', out_signature='o')
    def StartTransientUnit(self, name, mode, properties, aux):
        p = {str(k): plain(v) for k, v in properties}
        self.log('StartTransientUnit', str(name), str(mode), p)
        if str(name) in self.units:
            raise UnitError('Unit %s was already loaded.' % name)
        stem, path = p['Slice'][:-len('.slice')], ''
        for i, c in enumerate(stem + '-'):
            if c == '-':
                path += '/' + stem[:i] + '.slice'
        self.units[str(name)] = path + '/' + str(name)
        if 'lazy' in str(name):
            return '/org/freedesktop/systemd1/job/1'
        for h in HIERARCHIES:
            os.makedirs(h + self.units[str(name)])
            for pid in p['PIDs']:
                with open(h + self.units[str(name)] + '/cgroup.procs', 'w') as f:
                    f.write(str(pid))
        return '/org/freedesktop/systemd1/job/1'

    @dbus.service.method(MANAGER, in_signature='ss', out_signature='o')
    def StopUnit(self, name, mode):
        self.log('StopUnit', str(name))
        self.must_exist(name)
        path = self.units.pop(str(name))
        for h in HIERARCHIES:
            try:
                os.rmdir(h + path)
                os.rmdir(os.path.dirname(h + path))
            except OSError:
                pass
        return '/org/freedesktop/systemd1/job/2'

    @dbus.service.method(MANAGER, in_signature='s')
    def ResetFailedUnit(self, name):
        self.must_exist(name)

    @dbus.service.method(MANAGER, in_signature='sba(sv)')
    def SetUnitProperties(self, name, runtime, properties):
        self.must_exist(name)
        self.log('SetUnitProperties', str(name), bool(runtime), {str(k): plain(v) for k, v in properties})


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(os.environ['DBUS_SYSTEM_BUS_ADDRESS'])
name = dbus.service.BusName('org.freedesktop.systemd1', bus)
manager = Manager(bus, '/org/freedesktop/systemd1')
print('ready', flush=True)
GLib.MainLoop().run()

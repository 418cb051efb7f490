#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""taken_over.py CAISSON TAKEN_OVER: what a sentry or gofer in an attacker's hands can do after the runtime's real set-up.

Every probe must fail there, and must succeed where nothing confines it (the control): else it says nothing."""
import ctypes, json, os, re, shutil, socket, subprocess, sys, tempfile

caisson, program = sys.argv[1], sys.argv[2]
failures = []


def check(ok, text):
    if not ok:
        failures.append(text)
        print("FAIL", text)


def results(text, role):
    found = {}
    lines = text.splitlines()
    check(any(l.endswith("begin " + role) for l in lines) and any(l.endswith("end " + role) for l in lines),
          f"{role} did not report from beginning to end:\n{text[-2000:]}")
    for line in lines:
        m = re.search(r"(\w+) plain=(\S+) behind=(\S+)$", line)
        if m:
            found[m[1]] = (m[2], m[3])
        m = re.search(r"numbers killed=(\d+) wrong=(\d+) named=(\d+)", line)
        if m:
            found["numbers"] = tuple(map(int, m.groups()))
        if "unexpected" in line:
            print(line)
    return found


def confined(role, work, bundle, *flags):
    """The report of a role under the runtime: the other programs are the real ones."""
    libexec = os.path.join(work, "libexec-" + role)
    os.makedirs(libexec, exist_ok=True)
    real = os.path.dirname(os.path.realpath(caisson))
    for name in ("caisson-sentry", "caisson-gofer", "caisson-zygote"):
        shutil.copy(program if name == role else os.path.join(real, name), os.path.join(libexec, name))
    log = os.path.join(work, "-".join([role, *flags]) + ".log")
    ran = subprocess.run([caisson, *flags, "--root", os.path.join(work, "state"), "--debug-log", log, "run", "--bundle", bundle, "walls-" + role[8:]],
                   env=dict(os.environ, CAISSON_LIBEXEC=libexec), timeout=100, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not os.path.exists(log) or os.path.getsize(log) == 0:
        print(ran.stderr[-1000:])
    with open(log, errors="replace") as f:
        return results(f.read(), role)


def free(role, *args):
    out = subprocess.run([program, "control", role, *args], capture_output=True, text=True, timeout=100)
    return results(out.stdout, role)


def main():
    if os.geteuid() != 0:
        print("needs root: the control does what only root may")
        return 0
    work = tempfile.mkdtemp(prefix="caisson-walls-")
    secret = "/tmp/caisson-walls-secret"
    abstract = socket.socket(socket.AF_UNIX)
    libc = ctypes.CDLL(None, use_errno=True)
    shm = libc.shmget(0xCA155, 4096, 0o1666)
    try:
        with open(secret, "w") as f:
            f.write("of the host\n")
        os.chmod(secret, 0o644)
        abstract.bind("\0caisson-walls")
        abstract.listen()
        bundle = os.path.join(work, "bundle")
        root = os.path.join(bundle, "rootfs")
        os.makedirs(root)
        os.chmod(work, 0o755)
        with open(root + "/inside", "w") as f:
            f.write("of the container\n")
        os.symlink(secret, root + "/absolute")
        os.symlink("../" * 20 + secret[1:], root + "/up")
        os.mknod(root + "/null", 0o20666, os.makedev(1, 3))
        config = {"ociVersion": "1.0.2", "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/inside"],
                  "cwd": "/", "env": ["PATH=/"]}, "root": {"path": "rootfs", "readonly": False}, "mounts": [],
                  "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}}
        with open(bundle + "/config.json", "w") as f:
            json.dump(config, f)

        # ---- The controls ----
        s = free("caisson-sentry")
        for name in ("open_passwd", "create_file", "host_abstract_socket", "sysv_shm", "mount", "chroot", "fork",
                     "socket_inet", "kill_all", "setuid_other", "memory_executable", "unshare_user", "unshare_pid"):
            check(s.get(name, ("?",))[0] == "0", f"control: {name} should succeed outside: {s.get(name)}")
        for name in ("tcp_of_its_own", "udp_of_its_own", "socket_unix", "socket_netlink", "socket_packet", "socket_raw", "socket_pair",
                     "attach_filter", "list_interfaces"):
            check(s.get(name, ("?",))[0] == "0", f"control: {name} should succeed outside: {s.get(name)}")
        for name in ("root_entries", "proc_entries", "capabilities", "other_processes", "loopback_is_up"):
            check(int(s.get(name, ("-1",))[0]) > (1 if name == "other_processes" else 0), f"control: {name} should see something outside: {s.get(name)}")
        check(s.get("ptrace", ("?",))[0] in ("0", "-1"), f"control: ptrace reaches the host's init: {s.get('ptrace')}")
        g = free("caisson-gofer", root)
        for name in ("open_inside", "open_absolute_link", "open_link_up", "open_dotdot", "open_secret", "open_proc_fd",
                     "open_proc_exe", "open_device", "open_dev_null", "make_device", "old_open", "mount", "chroot", "kill_all"):
            check(g.get(name, ("?",))[0] == "0", f"control: {name} should succeed outside: {g.get(name)}")
        if os.path.exists(root + "/made"):
            os.unlink(root + "/made")

        # ---- The sentry ----
        s = confined("caisson-sentry", work, bundle)
        for name, (plain, behind) in ((k, v) for k, v in s.items() if k != "numbers"):
            check(behind == "killed", f"sentry: {name} should end it: {behind}")
        # By its namespaces, user and root alone, before any filter.
        for name in ("open_passwd", "create_file", "host_abstract_socket", "sysv_shm", "mount", "setuid_other", "exec",
                     "unshare_pid", "chroot"):
            check(s.get(name, ("0",))[0].startswith("-"), f"sentry: {name} without the filter: {s.get(name)}")
        check(s.get("capabilities", ("1",))[0] == "0", f"sentry: capabilities: {s.get('capabilities')}")
        check(s.get("other_processes", ("9",))[0] in ("0", "1"), f"sentry: more than its zygote: {s.get('other_processes')}")
        for name in ("root_entries", "proc_entries", "loopback_is_up"):
            check(int(s.get(name, ("1",))[0]) <= 0, f"sentry: {name}: {s.get(name)}")
        killed, wrong, named = s.get("numbers", (0, 1, 999))
        check(wrong == 0 and killed > 400 and named <= 60, f"sentry: numbers {s.get('numbers')}")

        # ---- A sentry with sockets of the host ----
        s = confined("caisson-sentry", work, bundle, "--network=host")
        allowed = {"tcp_of_its_own": "0", "udp_of_its_own": "0"}
        for name, (plain, behind) in ((k, v) for k, v in s.items() if k != "numbers"):
            if name in allowed:
                check(behind == allowed[name], f"sentry with sockets: {name} is its work: {behind}")
            elif name.startswith("given_"):  # the filter cannot tell sockets apart; what it was given is good for nothing else
                check(behind.startswith("-"), f"sentry with sockets: {name}: {behind}")
            else:
                check(behind == "killed", f"sentry with sockets: {name} should end it: {behind}")
        for name in ("socket_netlink", "socket_packet", "socket_unix", "socket_raw", "given_connect", "given_bind", "given_listen"):
            check(name in s, f"sentry with sockets: {name} was not tried")
        check(s.get("socket_packet", ("0",))[0].startswith("-"), f"sentry with sockets: no capability: {s.get('socket_packet')}")
        killed, wrong, named = s.get("numbers", (0, 1, 999))
        check(wrong == 0 and killed > 400 and named <= 70, f"sentry with sockets: numbers {s.get('numbers')}")

        # ---- The gofer ----
        g = confined("caisson-gofer", work, bundle)
        check(g.get("open_inside", ("?", "?")) == ("0", "0"), f"gofer: its own tree: {g.get('open_inside')}")
        for name in ("open_absolute_link", "open_link_up", "open_dotdot", "open_secret", "open_proc_fd", "open_proc_exe",
                     "open_device", "open_dev_null"):
            plain, behind = g.get(name, ("0", "0"))
            check(plain.startswith("-") and behind.startswith("-"), f"gofer: {name}: {plain} {behind}")
        for name in ("make_device", "old_open", "ptrace", "mount", "unshare_user", "unshare_pid", "chroot", "setns", "exec", "fork",
                     "socket_inet", "kill_all", "setuid_other", "memory_executable", "io_uring"):
            check(g.get(name, ("", ""))[1] == "killed", f"gofer: {name} should end it: {g.get(name)}")
        killed, wrong, named = g.get("numbers", (0, 1, 999))
        check(wrong == 0 and killed > 400 and named <= 60, f"gofer: numbers {g.get('numbers')}")
    finally:
        abstract.close()
        if shm >= 0:
            libc.shmctl(shm, 0, None)
        for id_ in ("walls-sentry", "walls-gofer"):
            subprocess.run([caisson, "--root", os.path.join(work, "state"), "delete", "--force", id_],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        if os.path.exists(secret):
            os.unlink(secret)
        os.environ.get("KEEP") or shutil.rmtree(work, ignore_errors=True)
    print("taken over:", "FAILED" if failures else "every attack failed, every control succeeded")
    return 1 if failures else 0


sys.exit(main())

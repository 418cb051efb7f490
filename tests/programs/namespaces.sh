# SPDX-License-Identifier: Apache-2.0
# Namespaces by the tools of util-linux, by root and by a user without privileges.
set -e
unshare -Ur id
unshare -U id -u
cat > try.sh <<'S'
unshare -Ur id -u
unshare -Ur cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
unshare -Ur --map-user=7 id -u
unshare -Ur sh -c 'stat -c "%u %g" /etc/passwd /proc/self'
unshare -Ur sh -c 'chown 0:0 /w/mine && stat -c "%u %g" /w/mine; chown 1:1 /w/mine; echo $?' 2>&1
unshare -Ur sh -c 'grep -E "^Cap(Eff|Bnd)|^Uid" /proc/self/status'
unshare -Urm sh -c 'mount -t tmpfs none /mnt && touch /mnt/x && stat -c "%u %g %F" /mnt/x && umount /mnt; ls /mnt'
unshare -Urm sh -c 'mount --bind /etc /mnt && ls -d /mnt/passwd; mount -o remount,bind,ro /mnt && touch /mnt/x' 2>&1
unshare -Uru sh -c 'hostname inner; hostname'; hostname
unshare -Urpf sh -c 'echo $$; sh -c "echo \$PPID"'
unshare -Urpfm sh -c 'mount -t proc none /proc; echo $?' 2>&1
unshare -Urn sh -c 'cat /proc/net/dev | tail -n +3 | cut -d: -f1'
unshare -Uri sh -c 'ipcmk -Q >/dev/null; ipcs -q | grep -c 0x'
unshare -UrC cat /proc/self/cgroup >/dev/null && echo cgroup
unshare -UrT --boottime 100000000 sh -c 'test $(cut -d. -f1 /proc/uptime) -ge 100000000 && echo later'
unshare -UrT --monotonic 1000 cat /proc/self/timens_offsets
unshare -m true 2>&1 || echo refused
unshare -Ur unshare -Ur unshare -Ur id -u
unshare -Ur sh -c 'for n in user mnt uts; do test "$(readlink /proc/self/ns/$n)" = "$(readlink /proc/$PPID/ns/$n)" && echo same $n || echo other $n; done'
unshare -Ur sh -c 'cat /proc/1/environ > /dev/null; kill -0 1; echo $?' 2>&1
unshare -Uru sh -c 'hostname there; nsenter -t $$ -u hostname'
unshare -Uru --fork sh -c 'hostname there; lsns -n -o TYPE -p $$ | sort | tr "\n" " "'; echo
S
chmod 777 .; echo mine > mine
sh try.sh
chown 1000:1000 mine
echo as a user
setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all sh try.sh
chown 0:0 mine
rm try.sh

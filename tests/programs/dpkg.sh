# SPDX-License-Identifier: Apache-2.0
# dpkg -l, building and installing a local package.
set -e
dpkg -l | grep -c '^ii'; dpkg -L coreutils | sha256sum; dpkg -s bash | grep ^Status
mkdir -p p/DEBIAN p/usr/share/hello; echo content > p/usr/share/hello/file
printf 'Package: hello-local\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: test\n' > p/DEBIAN/control
printf '#!/bin/sh\necho postinst "$1"\n' > p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst
dpkg-deb --root-owner-group -b p h.deb | sed 's/ in .*//'; mkdir -p root/var/lib/dpkg/{updates,info,triggers}; touch root/var/lib/dpkg/status
dpkg --root=$PWD/root --force-script-chrootless -i h.deb 2>&1 | grep -v -i 'reading database'; cat root/usr/share/hello/file; dpkg --root=$PWD/root -l hello-local | tail -1
rm -rf p root h.deb

# SPDX-License-Identifier: Apache-2.0
# grep -r over a part of /usr, find over all of it.
set -e
grep -rl 'GNU GENERAL PUBLIC' /usr/share/common-licenses | sort
grep -rc include /usr/include/linux | awk -F: '{s+=$2} END {print s}'
find /usr -xdev -type f | wc -l
find /usr/lib -xdev -type l -printf '%l\n' | sort | sha256sum
find /etc /usr/bin -xdev -printf '%p %m %U %G %s %y\n' 2>/dev/null | grep -v -e '^/etc ' -e /etc/hostname -e /etc/resolv -e /etc/hosts | sort | sha256sum

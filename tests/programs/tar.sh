# SPDX-License-Identifier: Apache-2.0
# tar + gzip + xz + zstd round trips, metadata compared.
set -e
mkdir s; cp -a /usr/share/doc/bash s/doc; cp -a /etc/init.d s/; ln -s doc s/l; mkfifo s/p; touch s/'we ird'; chmod 1777 s; chown 7:8 s/'we ird'; find s -exec touch -h -d @1000000000.123456789 {} +
for z in gzip xz zstd; do
  tar --numeric-owner --$z -cf x.tar.$z s; mkdir o.$z; tar --numeric-owner -xpf x.tar.$z -C o.$z; rm x.tar.$z
  diff -r --no-dereference s/doc o.$z/s/doc && echo same $z
  (cd o.$z && find . -printf '%p %y %m %U %G %s %T@ %l\n' | awk '$2=="d"{$7=0} {print}' | sort | sha256sum)
done
rm s/p o.*/s/p; ls -ld --time-style=+%s o.xz/s/'we ird' | awk '{print $1,$3,$4}'
find . -exec touch -h -d @0 {} +

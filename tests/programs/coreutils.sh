# SPDX-License-Identifier: Apache-2.0
# coreutils, findutils, sed, awk over generated files.
set -e
mkdir a; cd a
for i in $(seq 1 60); do echo "line $i of file" > f$i; done
chmod 600 f1; chmod 4755 f2; chown 1000:1001 f3; ln f4 hard; ln -s f5 soft; touch -d '2001-02-03 04:05:06.789' f6
stat -c '%n %a %u %g %s %h' f1 f2 f3 f4 f6; stat -c %Y f6
find . -name 'f1*' | sort | xargs wc -c | tail -1
sed -i 's/line/LINE/' f7; cat f7; awk '{print NF, $2}' f8
cp -a f6 copy; stat -c %y copy; mv copy moved; install -m 711 f1 inst; stat -c %a inst
du --apparent-size -b f1; df . >/dev/null; truncate -s 100000 sparse; stat -c '%s' sparse
split -b 10 f9 part.; cat part.*; cut -c1-4 f10; tac f11; nl f12; od -c f13 | head -1; md5sum f14
sort -k2 -n f1 f20 f3 | uniq -c | head; comm -12 f1 f1; join f1 f1; tee t1 < f1 >/dev/null; cmp f1 t1
mkdir -p x/y/z; rmdir -p x/y/z; mktemp -d tXXXX >/dev/null; rm -rf tXXXX; ls -1 | wc -l; rm -rf t????; id; uname -s; nproc >/dev/null
readlink -f soft; realpath .; basename /a/b; dirname /a/b; env -i A=1 env; printf '%05d\n' 42; date -u -d @86400 +%F
dd if=/dev/urandom of=r bs=4096 count=10 2>/dev/null; stat -c %s r; rm r; shuf -i 1-1; factor 91; sleep 0.01

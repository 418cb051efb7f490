# SPDX-License-Identifier: Apache-2.0
# busybox sh and its applets.
set -e
cat > in.sh <<'S'
set -e
echo hi | cat
for i in 1 2 3; do /bin/true; done
ls / | wc -l > /dev/null
seq 1 100 | awk '{s+=$1} END {print s}'
printf 'b\na\nc\n' | sort | tr a-z A-Z | head -2
mkdir -p d/e; touch d/e/f; find d | sort
echo text | gzip | gunzip
echo abc | sha256sum
expr 6 \* 7
test -d d && echo dir
(exit 3) || echo "code $?"
x=$(echo sub; echo shell); echo "$x"
sleep 0.05; date -u -d @0 +%Y
dd if=/dev/zero bs=1k count=64 2>/dev/null | wc -c
cp -r d copy; rm -r d; ls copy/e; ln -s copy link; readlink link
S
busybox sh in.sh

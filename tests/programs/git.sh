# SPDX-License-Identifier: Apache-2.0
# git init, add, commit, log, branch, merge, gc.
set -e
git config --global init.defaultBranch main; git config --global --add safe.directory '*'
git init -q r; cd r
for i in $(seq 1 30); do echo $i > f$i; git add f$i; git commit -qm "c $i"; done
git log --oneline | wc -l; git log -1 --format=%H
git checkout -qb side; echo side > s; git add s; git commit -qm side; git checkout -q main; echo m > m; git add m; git commit -qm m; git merge -q --no-edit side
git log --format='%h %s' -3; git status --short; git diff HEAD~1 --stat; git gc -q; git fsck --no-progress; git count-objects -v | grep -v size; git stash list; git rev-parse HEAD
cd ..; git clone -q r c; git -C c log --oneline | wc -l; rm -rf c r

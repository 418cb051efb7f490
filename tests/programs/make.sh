# SPDX-License-Identifier: Apache-2.0
# make -j4 of a C project of 50 files.
set -e
for i in $(seq 1 50); do echo "int f$i(void) { return $i; }" > f$i.c; done
{ for i in $(seq 1 50); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int s = 0;'
  for i in $(seq 1 50); do echo "s += f$i();"; done; echo 'printf("%d\n", s); return 0; }'; } > main.c
printf 'O = $(patsubst %%.c,%%.o,$(wildcard *.c))\nall: prog\nprog: $(O)\n\tgcc -o $@ $^\n%%.o: %%.c\n\t@gcc -c -o $@ $<\n' > Makefile
make -j4 -s; ./prog; make -q && echo up to date; touch f7.c; make -n | wc -l; rm -f *.o prog

# SPDX-License-Identifier: Apache-2.0
# perl: fork, pipes, sockets, sort, regular expressions, file tests.
set -e
cat > p.pl <<'S'
use strict; use warnings; use Socket; use IO::Select; use POSIX ":sys_wait_h";
$| = 1;
my $pid = fork // die; if (!$pid) { exit 9 } waitpid $pid, 0; print "child ", $? >> 8, "\n";
pipe my $r, my $w; if (!fork) { close $r; print $w "from child\n"; exit } close $w; print scalar <$r>; wait;
socketpair my $sa, my $sb, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die $!; syswrite $sa, "ping"; sysread $sb, my $buf, 4; print "$buf\n";
my $s = IO::Select->new($sa); print scalar($s->can_read(0.05)), "\n"; syswrite $sb, "x"; print scalar($s->can_read(1)), "\n";
local $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select undef, undef, undef, 3;
my %h = map { $_ => length } qw(one three fifteen); print join(",", map { "$_=$h{$_}" } sort keys %h), "\n";
open my $f, '>', 'file' or die; print $f "x" x 1000; close $f; print -s 'file', " ", (-d '.' ? 'd' : ''), "\n";
print `echo backtick`; system "exit 3"; print $? >> 8, "\n"; printf "%s\n", join " ", sort { $a <=> $b } 10, 9, 100;
S
perl p.pl

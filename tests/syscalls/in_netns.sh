#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# in_netns.sh COMMAND …: in a network namespace of its own, with a loopback and one interface (10.77.0.1/24, fd77::1/64) at whose other
# end nobody answers: packets to 10.77.0.99 are lost. ICMP echo is for everyone there.
exec unshare --net sh -c '
  set -e
  ip link set lo up
  ip link add test0 type veth peer name test1
  ip link set test0 up
  ip link set test1 up
  ip addr add 10.77.0.1/24 broadcast 10.77.0.255 dev test0
  ip neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 nud permanent dev test0
  ip -6 addr add fd77::1/64 dev test0 nodad 2>/dev/null || true
  echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range
  exec "$@"' sh "$@"

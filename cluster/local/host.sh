#!/bin/sh
# The first process of a host. Waits for the network card, then runs a command, and restarts it when it ends, like a
# supervisor. Arguments: name, address, size of shared memory, folder of the host's files, hosts file, then the
# command.
set -eu
read -r _ || exit 1
echo "$1" >/proc/sys/kernel/hostname
ip link set lo up
ip address add "$2/24" dev eth0
ip link set eth0 up
mount -t tmpfs -o "size=$3" tmpfs /dev/shm
mount --bind "$4" /tmp/ray
mount --bind "$5" /etc/hosts
shift 5
while :; do
    "$@" </dev/null || :
    sleep 1
done

#!/bin/sh
# Starts a program (the Cilium agent) where the kernel has no loadable modules. Such a kernel has no /proc/modules, and
# without it the agent ends at once, though about modules that it misses it only warns. This gives it, in a mount
# namespace of its own, a /proc that has the file and otherwise leads to the real one.
#
# usage: cilium.sh FOLDER PROGRAM ARGUMENT...      (in a private mount namespace)
#   FOLDER  an empty folder; becomes two mount points
set -eu
folder=$1
shift
real=$folder/real
mkdir -p "$real" "$folder/proc"
mount --rbind /proc "$real"
mount -t tmpfs -o mode=0555,size=64k tmpfs "$folder/proc"
for entry in "$real"/*; do
    case ${entry##*/} in
    *[!0-9]*) ln -s "$entry" "$folder/proc/${entry##*/}" ;;
    esac
done
# Programs also ask for themselves by number. This shell becomes the program, so the number is the same.
ln -s "$real/$$" "$folder/proc/$$"
for name in ip_tables iptable_nat iptable_mangle iptable_raw iptable_filter xt_socket \
    ip6_tables ip6table_nat ip6table_mangle ip6table_raw ip6table_filter; do
    echo "$name 16384 0 - Live 0x0000000000000000"
done >"$folder/proc/modules"
mount --move "$folder/proc" /proc
exec "$@"

#!/bin/sh
# Starts a program that sets kernel variables for the whole machine (kubelet, Cilium) so that it finds and changes copies
# of them instead. Only that program: where anything is mounted over a part of /proc, the kernel refuses a new /proc to
# pods with a user namespace of their own.
#
# usage: sysctls.sh COPIES PROGRAM ARGUMENT...      (in a mount namespace of its own)
#   COPIES  folder with files named like those below /proc/sys
set -eu
copies=$1
shift
mount --make-rprivate /proc # all other mounts stay shared with the namespace this one came from
find "$copies" -type f -printf '%P\n' | while read -r name; do
    mount --bind "$copies/$name" "/proc/sys/$name"
done
exec "$@"

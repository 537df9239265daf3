#!/bin/sh
# Gives the node its own view of the machine's files and holds it: the node's programs join this process's mount
# namespace. With the last of them all of its mounts vanish, whatever ended them, and the machine never sees one.
#
# usage: view.sh NODE_DIR READY_FILE KEEP...
#   NODE_DIR    folder with what the node sees as /run, /var/lib and /var/log
#   READY_FILE  made when the view is complete
#   KEEP        folders that stay visible where they are, though they may lie below one of those
set -eu
node=$1
ready=$2
shift 2

mount --make-rprivate /

for top in /run /var/lib /var/log; do
    mkdir -p "$node$top"
    for keep in "$@"; do
        case $keep in
        "$top"/*)
            mkdir -p "$node$keep"
            mount --rbind "$keep" "$node$keep"
            ;;
        esac
    done
    mount --rbind "$node$top" "$top"
    # The folder may lie on a /run without these, and programs and volumes are in it.
    mount -o remount,bind,exec,suid,dev "$top"
done

mkdir -p /run/netns /run/lock /run/cilium/cgroupv2
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 none /run/cilium/cgroupv2

# Runtimes want to hand mounts on to containers.
mount --make-rshared /
: >"$ready"
exec sleep infinity

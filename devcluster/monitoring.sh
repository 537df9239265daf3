#!/bin/sh
# Starts a program of a Debian package that is not installed, and that looks for its own files below /usr/share: lays
# those over what is there, in a mount namespace of its own that vanishes with the program.
#
# usage: monitoring.sh FOLDER PROGRAM ARGUMENT...      (in a private mount namespace)
#   FOLDER  the package's usr/share
set -eu
mount -t overlay overlay -o "lowerdir=$1:/usr/share" /usr/share
shift
exec "$@"

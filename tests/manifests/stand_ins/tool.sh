#!/bin/sh
# Stands in for make, docker, podman, kind, minikube, k3d and python3, as whichever it was called. See kubectl.sh.
set -eu
name=${0##*/}
case $name:$1 in
*:info | python3:-c) record=asked ;;
*:image) if [ "$2" = inspect ]; then record=asked; else record=ran; fi ;;
*) record=ran ;;
esac
printf '%s %s\n' "$name" "$*" >>"$WORLD/$record"
if [ -e "$WORLD/fails-$name-$1" ]; then exit 1; fi
if [ -e "$WORLD/hangs-$name" ] && [ $record = ran ]; then exec sleep 60; fi
if [ $record = asked ] && [ "$1" = image ]; then cat "$WORLD/image-ids"; fi

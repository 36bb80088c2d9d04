#!/usr/bin/env bash
# Runs both images without a cluster, under the limits and restrictions of their pods, separates the bundled song, and
# prints how long each took to be ready and its peak of memory.
#
#     k8s/try-images.sh [TAG]        TAG: 0.1.0 unless told otherwise; DOCKER=podman, PORT=5000
#
# It needs docker or podman, the two images, and those of Redis and the object store. It removes what it started.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
docker=${DOCKER:-docker}
tag=${1:-0.1.0}
port=${PORT:-5000}
name=track-unmix-try
work=$(mktemp -d)

clean_up() {
    # One by one: where one of several is not there, podman removes none.
    for pod in redis store rest janitor worker; do
        "$docker" rm --force --volumes "$name-$pod" >/dev/null 2>&1 || true
    done
    "$docker" network rm "$name" >/dev/null 2>&1 || true
    rm -rf "$work"
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Run a container as its pod would: start NAME MEMORY CPUS USER [OPTION...] IMAGE [ARGUMENT...]
start() {
    local pod=$1 memory=$2 cpus=$3 user=$4
    shift 4
    "$docker" run --detach --name "$name-$pod" --network "$name" --network-alias "$pod" --read-only --tmpfs /tmp \
        --user "$user" --cap-drop all --security-opt no-new-privileges --memory "$memory" --cpus "$cpus" "$@" >/dev/null
}

# Run a process of ours: service NAME MEMORY CPUS [OPTION...] IMAGE [ARGUMENT...]
service() {
    local pod=$1 memory=$2 cpus=$3
    shift 3
    start "$pod" "$memory" "$cpus" 10001:10001 \
        --env UNMIX_REDIS_URL="redis://$pod@redis:6379/0" --env UNMIX_REDIS_PASSWORD="$(cat "$work/passwords/$pod")" \
        --env UNMIX_STORE_URL=s3+http://store:9000 --env UNMIX_MODEL=demo \
        --env UNMIX_STORE_ACCESS_KEY=try --env UNMIX_STORE_SECRET_KEY="$store_key" "$@"
}

# Wait until a command succeeds: ready NAME COMMAND...
ready() {
    local pod=$1 since=$SECONDS ended
    shift
    until "$@" >/dev/null 2>&1; do
        ended=$("$docker" ps --all --filter "name=$name-" --filter status=exited --format '{{.Names}}' | head -n 1)
        if [ -n "$ended" ] || ((SECONDS - since > 150)); then
            "$docker" logs "${ended:-$name-$pod}" >&2
            fail "$pod is not ready; above is the log of ${ended:-$name-$pod}"
        fi
        sleep 0.2
    done
    printf '%-8s ready after %3d s\n' "$pod" $((SECONDS - since))
}

# As the probes of the pods ask: is the heartbeat file there, and young?
beats() {
    "$docker" exec "$name-$1" sh -c 'find /tmp/heartbeat -newermt "-60 seconds" | grep -q .'
}

# What the kernel counted, with cgroups of version 2 or 1, in MB: with the pages of files that it may drop.
peak() {
    local bytes
    bytes=$("$docker" exec "$name-$1" sh -c \
        'cat /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes 2>/dev/null | head -n 1')
    printf '%-8s peak of %4d MB\n' "$1" $((bytes / 1000000))
}

trap clean_up EXIT
mkdir "$work/passwords"
awk '$1 == "user" && $2 != "default" { print $2 }' "$root/redis/users.acl.template" | while read -r user; do
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$work/passwords/$user"
done
store_key=$(cat "$work/passwords/legacy")
chmod -R a+rX "$work" # the server is another user

"$docker" network create "$name" >/dev/null
# Data go to /tmp: where the image has a folder of a tmpfs' name, older runc (1.1.5) gives the tmpfs that folder's mode.
start redis 1280m 1 999:999 --workdir /tmp --entrypoint sh \
    --volume "$root/redis:/etc/unmix:ro" --volume "$work/passwords:/run/passwords:ro" \
    docker.io/valkey/valkey:8.1.8 /etc/unmix/start.sh /run/passwords
start store 2g 2 10001:10001 --entrypoint /usr/bin/weed \
    --env AWS_ACCESS_KEY_ID=try --env AWS_SECRET_ACCESS_KEY="$store_key" \
    docker.io/chrislusf/seaweedfs:4.48 server -dir=/tmp -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -s3 -s3.ip.bind=0.0.0.0 -s3.port=9000 -s3.iam=false -master.volumeSizeLimitMB=64 -master.telemetry=false
service rest 2304m 2 --env UNMIX_OPEN=yes --publish "127.0.0.1:$port:5000" "track-unmix-rest:$tag"
# REST waits for the store, whose start is in this time too.
ready rest curl --fail --silent "http://localhost:$port/readyz"
service janitor 512m 1 --env UNMIX_JANITOR_HEARTBEAT=/tmp/heartbeat "track-unmix-rest:$tag" unmix janitor
ready janitor beats janitor
service worker 2g 2 --volume /scratch --env UNMIX_SCRATCH_DIR=/scratch --env UNMIX_THREADS=2 \
    --env UNMIX_WORKER_HEARTBEAT=/tmp/heartbeat "track-unmix-worker:$tag"
ready worker beats worker

for pod in rest janitor worker; do
    state=$("$docker" exec "$name-$pod" sh -c 'id -u; grep -E "^(CapEff|NoNewPrivs)" /proc/1/status; touch /x 2>&1 || true')
    [[ $(tr -s '\n\t' ' ' <<<"$state") == "10001 CapEff: 0000000000000000 NoNewPrivs: 1 "*Read-only* ]] ||
        fail "$pod does not run as its pod would: $state"
done

since=$SECONDS
api=http://localhost:$port/apiv1
hash=$(curl --fail --silent --show-error --form "mp3=@$root/src/unmix/local/demo_song/demo-song.mp3" "$api/separate" |
    sed -n 's/.*"hash": *"\([0-9a-f]*\)".*/\1/p')
until job=$(curl --fail --silent --show-error "$api/jobs/$hash") && [[ $job == *'"status": "done"'* ]]; do
    if [[ $job == *'"status": "failed"'* ]] || ((SECONDS - since > 300)); then fail "the song was not separated: $job"; fi
    sleep 0.2
done
printf 'separated after %d s:\n' $((SECONDS - since))
for stem in vocals drums bass other; do
    curl --fail --silent --show-error --output "$work/$stem.mp3" "$api/track/$hash/$stem.mp3"
    printf '  %s.mp3, %d bytes\n' "$stem" "$(wc -c <"$work/$stem.mp3")"
done
for pod in rest janitor worker; do peak "$pod"; done

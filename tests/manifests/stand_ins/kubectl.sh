#!/bin/sh
# Stands in for kubectl, before a cluster that remembers namespaces, Secrets and whether anything is deployed. $WORLD is
# the folder of its memory, of what a test wants it to answer, and of the record: `ran` what changes something, `asked`
# what does not.
set -eu
words=$*

ran() { printf 'kubectl %s\n' "$words" >>"$WORLD/ran"; }
asked() { printf 'kubectl %s\n' "$words" >>"$WORLD/asked"; }
answer() { if [ -e "$WORLD/$1" ]; then cat "$WORLD/$1"; fi; }
# The real one, where a test serves it an API.
real() { if [ -n "${KUBECTL:-}" ]; then exec "$KUBECTL" "$@"; fi; }

case " $words " in
*" config get-contexts "*) asked && answer contexts ;;
*" config current-context "*) asked && cat "$WORLD/context" ;;
*" config view "*) asked && answer namespace ;;
*" config set-context "*) ran ;;
*" version "*) asked && { cat "$WORLD/version" || { echo "connection refused" && exit 1; }; } 2>/dev/null ;;
*" kustomize "*) asked && answer overlay ;;
*" api-versions "*) asked && answer apis ;;
*" get namespace "*) asked && if [ -e "$WORLD/namespace-$5" ]; then echo "namespace/$5"; fi ;;
*".managedFields"*) asked && real "$@" && answer "changed-$7" ;;
*" get secret "*)
    asked
    secret=$WORLD/secret-$4-$7
    if [ ! -e "$secret" ]; then exit; fi
    case " $words " in
    *" -o name "*) echo "secret/$7" ;;
    *) sed -n 's/^  access-key: "\(.*\)"$/\1/p; s/^  secret-key: "\(.*\)"$/\1/p' "$secret" | paste -s -d ' ' - ;;
    esac
    ;;
*" get deployment "*) asked && answer deployed ;;
*.startedAt*) asked && real "$@" && answer started ;;
*" get pods "*) asked && real "$@" && answer pods ;;
*" exec "*) asked && answer readyz ;;
*" get "*) asked && real "$@" ;;
*" logs "*) asked && real "$@" && answer logs ;;
*" create -f - "*)
    ran
    cat >"$WORLD/new"
    mv "$WORLD/new" "$WORLD/secret-$(sed -n 's/^  namespace: //p' "$WORLD/new")-$(sed -n 's/^  name: //p' "$WORLD/new")"
    ;;
*" apply -f "*) ran && : >"$WORLD/namespace-$(sed -n 's/^  name: //p' "$5")" ;;
*" apply -k "*) ran && echo deployment.apps/rest >"$WORLD/deployed" ;;
*" rollout status "*) ran && ! grep -q -x "$7" "$WORLD/stuck" 2>/dev/null ;;
*" port-forward "*)
    ran
    if [ -e "$WORLD/no-forward" ]; then echo "error: unable to forward" >&2 && exit 1; fi
    echo "Forwarding from 127.0.0.1:${7%:*} -> ${7#*:}"
    sleep 60 &
    trap 'kill $!' TERM
    wait $!
    ;;
*" delete namespace "*) ran && rm -f "$WORLD"/secret-* "$WORLD"/namespace-* "$WORLD/deployed" ;;
*) ran ;;
esac

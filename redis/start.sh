#!/bin/sh
# Starts the Redis server of Track-Unmix: Redis or valkey, whichever is installed, with redis.conf beside this script.
#
#     start.sh PASSWORDS [SERVER_OPTION...]
#
# PASSWORDS is a folder with one file for each user of users.acl.template, named like the user: its password, and
# nothing else. The current folder becomes the server's data folder, and is where users.acl is written.
set -eu
umask 077

fail() {
    printf 'start.sh: %s\n' "$*" >&2
    exit 1
}

# Set `hash` to the SHA-256 sum of a user's password: the ACL file and the server know no more of it.
hash_password() {
    [ -f "$passwords/$1" ] || fail "the user $1 has no password: there is no file $passwords/$1"
    [ -s "$passwords/$1" ] || fail "the password in $passwords/$1 is empty"
    # Clients would send a line break as part of the password, or not, depending on how they read the file.
    [ "$(wc -l <"$passwords/$1")" -eq 0 ] || fail "the password in $passwords/$1 has a line break: write it with printf"
    hash=$(sha256sum <"$passwords/$1")
    hash=${hash%% *}
}

# Write the ACL file: the lines of each user joined into one, after its state and password.
write_users() {
    state=
    while read -r word rights; do
        case $word in
        '' | '#'*) ;;
        user)
            case $rights in
            default) state=off ;;
            *)
                hash_password "$rights"
                state="on #$hash"
                ;;
            esac
            printf '\nuser %s %s' "$rights" "$state"
            ;;
        *) [ "$state" = off ] || printf ' %s %s' "$word" "$rights" ;;
        esac
    done <"$here/users.acl.template"
    printf '\n'
}

[ $# -ge 1 ] || fail "usage: start.sh PASSWORDS [SERVER_OPTION...]"
passwords=$1
shift
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
for file in redis.conf users.acl.template; do
    [ -r "$here/$file" ] || fail "there is no $here/$file"
done
server=$(command -v valkey-server || command -v redis-server) || fail "neither valkey-server nor redis-server is installed"
write_users >users.acl
exec "$server" "$here/redis.conf" --aclfile "$PWD/users.acl" "$@"

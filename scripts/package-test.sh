#!/usr/bin/env bash
# Tries what scripts/package.sh has made, in target/dist:
#
#   the static binary in a root folder that holds nothing but it and /dev/net/tun;
#   the .deb in an empty Debian: installed, run, its man page and completions found, looked at by lintian, removed.
#
#   scripts/package-test.sh [SUITE…]      Debian releases by name (bookworm)
#
# Needs root, debootstrap and Debian's package archive; takes two minutes a release. Not part of scripts/test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'package-test.sh: %s\n' "$*" >&2
    exit 1
}

suites=("$@")
[ "${#suites[@]}" -gt 0 ] || suites=(bookworm)
[ "$(id -u)" -eq 0 ] || fail "needs root, for chroot and TAPs"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
dist=${CARGO_TARGET_DIR:-target}/dist
debs=("$dist"/*.deb)
for file in "$dist/tap-reactor" "${debs[0]}"; do
    [ -f "$file" ] || fail "$file is missing: run scripts/package.sh"
done

root=$(mktemp -d)
# Nothing of ours is mounted outside of our mount namespace, and nothing that is mounted is removed.
trap 'rm -rf --one-file-system "$root"' EXIT

device() {
    mkdir -p "$1/dev/net"
    mknod -m 666 "$1/dev/net/tun" c 10 200
}

# Runs COMMAND in the root folder $folder, and fails unless it ends with STATUS and prints TEXT.
expect() {
    local status=$1 text=$2 got=0 output
    shift 2
    # shellcheck disable=SC2016 # the inner shell expands it
    output=$(timeout 300 unshare --mount --propagation private sh -c \
        'if [ -d "$0/proc" ]; then mount -t proc proc "$0/proc"; fi; exec chroot "$0" "$@"' \
        "$folder" "$@" 2>&1) || got=$?
    if [ "$got" != "$status" ] || ! grep --quiet --fixed-strings -e "$text" <<<"$output"; then
        printf '%s\n' "$output" >&2
        fail "$*: status $got; expected status $status and the text: $text"
    fi
    printf 'ok: %s\n' "$*"
}

# What man keeps of pages that were read is its own.
files_of_ours() {
    find "$folder" -xdev -path "$folder/var/cache/man" -prune -o -name '*tap-reactor*' -printf '/%P\n' | sort
}

main=(--vms 2 --ping vm0:vm1 --count 100)
answered='100 sent, 100 received, 0 % lost'

printf '==> the static binary in an empty root folder\n'
folder=$root/empty
device "$folder"
cp "$dist/tap-reactor" "$folder/"
expect 0 "$answered" /tap-reactor "${main[@]}"
expect 0 "$answered" /tap-reactor "${main[@]}" --fabric sim
expect 3 'expected a shell' /tap-reactor "${main[@]}" --fabric none --hook true

for suite in "${suites[@]}"; do
    printf '==> the .deb in Debian %s\n' "$suite"
    folder=$root/$suite
    debootstrap --variant=minbase "$suite" "$folder" >"$root/log" 2>&1 || { tail "$root/log" >&2; fail "debootstrap $suite"; }
    device "$folder"
    cp "${debs[0]}" "$folder/tap-reactor.deb"
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
    files_of_ours >"$root/before"
    expect 0 'Setting up tap-reactor' apt-get install --yes /tap-reactor.deb
    expect 0 "$answered" tap-reactor "${main[@]}"
    expect 0 'received' tap-reactor --scenario /usr/share/doc/tap-reactor/examples/incast.toml --duration 1s --output /incast.html
    grep --quiet '<svg' "$folder/incast.html" || fail "incast.html holds no picture"

    expect 0 '' apt-get install --yes --no-install-recommends man-db bash-completion zsh fish lintian
    expect 0 /usr/share/man/man1/tap-reactor.1.gz man --where tap-reactor
    expect 0 '--ping' man tap-reactor
    expect 0 'tap-reactor' bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader tap-reactor; complete -p tap-reactor'
    # shellcheck disable=SC2016 # zsh expands it
    expect 0 '_tap-reactor' zsh -fc 'autoload -U compinit; compinit -D; print $_comps[tap-reactor]'
    expect 0 '--ping' fish -c 'complete -C "tap-reactor --pi"'
    expect 0 '' lintian --allow-root --fail-on error,warning /tap-reactor.deb

    expect 0 'Removing tap-reactor' apt-get purge --yes tap-reactor
    files_of_ours >"$root/after"
    cmp "$root/before" "$root/after" || fail "the removed package leaves: $(comm -13 "$root/before" "$root/after" | tr '\n' ' ')"
done
printf 'The static binary and the .deb are in order.\n'

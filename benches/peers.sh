#!/usr/bin/env bash
# Compares tap-reactor with other programs on the same pings, in turns, and prints one table:
#
#   tap-reactor     VMs on TAPs of one bridge
#   threads         a straightforward lab with two threads per VM (benches/peers/threads.cpp)
#   smoltcp         its interfaces on TAPs of the same bridge, one thread with epoll (benches/peers/smoltcp.rs)
#   ping, fping     the kernel's stack: namespaces joined to a bridge by veth pairs
#
#   benches/peers.sh [--rounds N] [--pings N]     about three minutes; N pings for each peer, kind of work and round
#   benches/peers.sh --quick                      some seconds: checks that every peer works, measures nothing
#
# Needs root and, of Debian's packages, g++, fping, iproute2, iputils-ping and util-linux. Builds tap-reactor and
# the example peer_smoltcp for release, unless TAP_REACTOR names a program; the example is expected beside it.
#
# Everything runs in new network, process and mount namespaces, which the kernel removes at the end, however the script
# ends. IPv6 is off in them, because the peer with threads does not handle it.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'peers.sh: %s\n' "$*" >&2
    exit 1
}

arguments=("$@")
rounds=5 pings=60000 many=100 endpoints=1000 patience=10
while [ $# -gt 0 ]; do
    case $1 in
        --quick) rounds=1 pings=640 many=5 endpoints=20 patience=1 ;;
        --rounds) rounds=${2:-} ;;
        --pings) pings=${2:-} ;;
        *) fail "$1 is none of --quick, --rounds N, --pings N" ;;
    esac
    [ "$1" = --quick ] || shift $(($# > 1))
    shift
done
[[ $rounds =~ ^[1-9][0-9]?$ ]] || fail "--rounds takes a number from 1 to 99"
# The largest number of sequence numbers of fping.
if ! [[ $pings =~ ^[1-9][0-9]{2,4}$ ]] || ((pings < 2 * many || pings > 65535)); then
    fail "--pings takes a number from 200 to 65535"
fi

if [ -z "${PEERS_INSIDE:-}" ]; then
    [ "$(id -u)" = 0 ] || fail "network namespaces take root"
    [ -c /dev/net/tun ] || fail "/dev/net/tun is missing: modprobe tun, or give this container the device"
    for command in g++:g++ fping:fping ip:iproute2 ping:iputils-ping unshare:util-linux nsenter:util-linux; do
        command -v "${command%:*}" >/dev/null || fail "${command%:*} is missing: apt-get install ${command#*:}"
    done
    if [ -z "${TAP_REACTOR:-}" ]; then
        cargo build --locked --release --bin tap-reactor --example peer_smoltcp
        TAP_REACTOR=${CARGO_TARGET_DIR:-target}/release/tap-reactor
    fi
    PEER_SMOLTCP=$(dirname "$TAP_REACTOR")/examples/peer_smoltcp
    [ -x "$TAP_REACTOR" ] || fail "$TAP_REACTOR is missing: cargo build"
    [ -x "$PEER_SMOLTCP" ] || fail "$PEER_SMOLTCP is missing: cargo build --example peer_smoltcp"
    TAP_REACTOR=$(realpath "$TAP_REACTOR") PEER_SMOLTCP=$(realpath "$PEER_SMOLTCP")
    export TAP_REACTOR PEER_SMOLTCP PEERS_INSIDE=1
    ulimit -n "$(ulimit -Hn)"
    exec timeout 1800 unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "${arguments[@]}"
fi

# Files of this run and names of namespaces, in a tmpfs that only these processes see.
mount -t tmpfs tmpfs /run
mkdir /run/netns
work=/run/work
mkdir "$work"
. benches/peers/lab.sh
. benches/peers/runs.sh
. benches/peers/memory.sh

g++ -O2 -std=c++17 -pthread -o "$work/threads" benches/peers/threads.cpp
quiet_namespace
new_bridge br0
new_bridge br1
taps 0 $((2 * many))
stations 0 $((2 * many))
background=$(busy)
sleep 1
background=$(awk "BEGIN { printf \"%.0f\", ($(busy) - $background) / 10 }")

works=("1 1" "1 64" "$many 1")
peers=(tap-reactor threads smoltcp ping fping)
for ((round = 0; round < rounds; round++)); do
    printf '\rround %d of %d ' $((round + 1)) "$rounds" >&2
    for each in "${works[@]}"; do
        for ((turn = 0; turn < ${#peers[@]}; turn++)); do
            # The order of the peers changes from round to round.
            peer=${peers[(turn + round) % ${#peers[@]}]}
            # fping has a period but no window.
            [[ $peer == fping && $each == "1 64" ]] || measure "$peer" "${each% *}" "${each#* }"
        done
    done
done
printf '\rmemory of %d ' "$endpoints" >&2
measure_memory $((2 * many)) "$endpoints"
printf '\r%20s\r' '' >&2

[ "$endpoints" -ge 1000 ] || echo "A check that the peers work; the figures are no measurement."
awk -v rounds="$rounds" -v pings="$pings" -v many="$many" -v endpoints="$endpoints" -v background="$background" \
    -v processors="$(nproc)" -f benches/peers/table.awk "$work/figures"

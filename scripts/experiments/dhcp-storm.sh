#!/usr/bin/env bash
# Runs dhcp-storm.toml against dnsmasq in a network namespace: 500 VMs ask for an address at once. Prints the report.
#
#   scripts/experiments/dhcp-storm.sh [OPTION…]      options of tap-reactor, which override those of dhcp-storm.toml
#
# Needs root, and Debian's package dnsmasq-base. TAP_REACTOR names the program (default: target/release/tap-reactor). Exit
# status: that of tap-reactor; 1 if a prerequisite is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${TAP_REACTOR:-target/release/tap-reactor}
fail() {
    printf 'dhcp-storm.sh: %s\n' "$*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "a server in a network namespace takes root"
[ -x "$program" ] || fail "$program is missing: cargo build --release"
command -v dnsmasq >/dev/null || fail "dnsmasq is missing: apt-get install dnsmasq-base"

name=dhcp-storm-$$ server=
ip netns add "$name"
finish() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server"; } || true
    ip netns del "$name"
}
trap finish EXIT
trap 'exit 1' INT TERM
# The server waits for the bridge. It offers addresses at once (--no-ping), without a ping to see that they are free.
ip netns exec "$name" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 \
    --interface=br0 --bind-dynamic --no-ping --leasefile-ro --quiet-dhcp --dhcp-lease-max=20000 \
    --dhcp-range=10.77.1.1,10.77.200.254,255.255.0.0,1h &
server=$!
"$program" --scenario scripts/experiments/dhcp-storm.toml --netns "$name" "$@"

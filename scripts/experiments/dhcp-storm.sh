#!/usr/bin/env bash
# Has 500 VMs get their addresses from dnsmasq at once, in a network namespace of their own, and prints the report.
#
#   scripts/experiments/dhcp-storm.sh [OPTION…]      options of tap-reactor win over those of dhcp-storm.toml
#
# Needs root, and dnsmasq-base. TAP_REACTOR names the program; default is target/release/tap-reactor. Exit status: that
# of tap-reactor; 1 if something is missing.
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
# The server waits for the bridge. It grants at once, and does not first ask by ping whether an address is free.
ip netns exec "$name" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 \
    --interface=br0 --bind-dynamic --no-ping --leasefile-ro --quiet-dhcp --dhcp-lease-max=20000 \
    --dhcp-range=10.77.1.1,10.77.200.254,255.255.0.0,1h &
server=$!
"$program" --scenario scripts/experiments/dhcp-storm.toml --netns "$name" "$@"

#!/usr/bin/env bash
# Runs dhcp-storm.toml against a server in a network namespace: 500 VMs ask for an address at once. Prints the report.
#
#   scripts/experiments/dhcp-storm.sh [OPTION…]      options of tap-reactor, which override those of dhcp-storm.toml
#   scripts/experiments/dhcp-storm.sh -6 [OPTION…]   the same over IPv6: addresses by DHCPv6, and pings to them
#
# The server is dnsmasq, for DHCPv6 Kea: dnsmasq takes a tenth of a second for each client's hardware address. Needs root,
# and Debian's package dnsmasq-base, for -6 kea-dhcp6-server too. TAP_REACTOR names the program (default:
# target/release/tap-reactor). Exit status: that of tap-reactor; 1 if a prerequisite is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${TAP_REACTOR:-target/release/tap-reactor}
family=4
if [ "${1:-}" = -6 ]; then
    family=6
    shift
fi
fail() {
    printf 'dhcp-storm.sh: %s\n' "$*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "a server in a network namespace takes root"
[ -x "$program" ] || fail "$program is missing: cargo build --release"
command -v dnsmasq >/dev/null || fail "dnsmasq is missing: apt-get install dnsmasq-base"
[ $family = 4 ] || command -v kea-dhcp6 >/dev/null || fail "kea-dhcp6 is missing: apt-get install kea-dhcp6-server"

name=dhcp-storm-$$ servers=() work=$(mktemp -d)
ip netns add "$name"
finish() {
    local server
    for server in "${servers[@]}"; do
        kill "$server" 2>/dev/null || true
        wait "$server" || true
    done
    ip netns del "$name"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# dnsmasq OPTION…: waits for the bridge.
dnsmasq() {
    ip netns exec "$name" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 \
        --interface=br0 --bind-dynamic --leasefile-ro --quiet-dhcp --quiet-ra --dhcp-lease-max=20000 "$@" &
    servers+=($!)
}

# kea: starts when the bridge has its link-local address, which is not checked for duplicates.
kea() {
    while ! ip -n "$name" -6 address show dev br0 scope link 2>/dev/null | grep -q inet6; do sleep 0.02; done
    KEA_PIDFILE_DIR=$work KEA_LOCKFILE_DIR=none exec ip netns exec "$name" kea-dhcp6 -c "$work/kea-dhcp6.conf" >/dev/null
}

options=()
if [ $family = 4 ]; then
    # Offers addresses at once (--no-ping), without a ping to see that they are free.
    dnsmasq --no-ping "--dhcp-range=10.77.1.1,10.77.200.254,255.255.0.0,1h"
else
    options=(--dhcp=off --dhcp6 --ping-ipv6 --host-address fd77::1/64)
    ip netns exec "$name" sysctl -qw net.ipv6.conf.default.accept_dad=0
    # The router.
    dnsmasq --enable-ra "--dhcp-range=fd77::,ra-only,64"
    cat >"$work/kea-dhcp6.conf" <<'CONFIG'
{ "Dhcp6": {
    "interfaces-config": { "interfaces": [ "br0" ] },
    "lease-database": { "type": "memfile", "persist": false },
    "server-id": { "type": "EN", "enterprise-id": 9, "identifier": "0A0B0C0D", "persist": false },
    "preferred-lifetime": 3600, "valid-lifetime": 3600,
    "subnet6": [ { "subnet": "fd77::/64", "interface": "br0", "pools": [ { "pool": "fd77::1:0-fd77::1:ffff" } ] } ],
    "loggers": [ { "name": "kea-dhcp6", "severity": "ERROR", "output_options": [ { "output": "stderr" } ] } ]
} }
CONFIG
    kea &
    servers+=($!)
fi
"$program" --scenario scripts/experiments/dhcp-storm.toml --netns "$name" "${options[@]}" "$@"

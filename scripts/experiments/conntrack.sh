#!/usr/bin/env bash
# Fills the connection tracking table of a network namespace: VMs on a bridge whose frames the kernel tracks open TCP connections
# and hold them, until there is no room for one more. Prints the report, and what the kernel has counted.
#
#   scripts/experiments/conntrack.sh [OPTION…]       options of tap-reactor, which override those below
#
# RATE is the connections opened in a second (default: 8000). Pairs of VMs open a tenth more connections than the table has room
# for (net.netfilter.nf_conntrack_max, which is that of the machine, while each namespace counts its own); the rest is lost, and the
# report puts it down to netfilter. An entry takes about 320 bytes of the kernel's memory, a connection less than 200 of the
# program's.
#
# Needs root, nft (Debian's package nftables), and a kernel with connection tracking and bridge netfilter. TAP_REACTOR names the
# program (default: target/release/tap-reactor). Exit status: that of tap-reactor, which is 1 since pings are lost; 2 if a
# prerequisite is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${TAP_REACTOR:-target/release/tap-reactor}
rate=${RATE:-8000}
# The ephemeral ports of a VM to one peer, and a few less.
ports=28000
fail() {
    printf 'conntrack.sh: %s\n' "$*" >&2
    exit 2
}
[ "$(id -u)" = 0 ] || fail "a namespace with rules of its own takes root"
[ -x "$program" ] || fail "$program is missing: cargo build --release"
command -v nft >/dev/null || fail "nft is missing: apt-get install nftables"
[[ $rate =~ ^[1-9][0-9]*$ ]] || fail "RATE is a number of connections a second, not '$rate'"

name=conntrack-$$
ip netns add "$name"
trap 'ip netns del "$name"' EXIT
trap 'exit 2' INT TERM
inside() { ip netns exec "$name" "$@"; }

# A rule that asks for the state of connections has them tracked; those of other namespaces are not.
inside nft -f - <<'RULES' || fail "the kernel has no connection tracking"
table inet track {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
    }
}
RULES
[ "$(inside cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null)" = 1 ] ||
    fail "the kernel has no bridge netfilter: modprobe br_netfilter"
room=$(inside cat /proc/sys/net/netfilter/nf_conntrack_max)
connections=$((room + room / 10))
flows=$(((connections + ports - 1) / ports))

status=0
"$program" --netns "$name" --vms $((2 * flows)) --ping pairs --probe tcp --tcp-hold 1h --rate "$rate" \
    --count $((connections / flows)) --timeout 500ms "$@" || status=$?
dropped=0
while read -r -a columns; do
    # Numbers are hexadecimal, a line for each processor; the eleventh is that of drops.
    [[ ${columns[0]} = entries ]] || dropped=$((dropped + 16#${columns[10]}))
done < <(inside cat /proc/net/stat/nf_conntrack)
printf '\nnf_conntrack: room for %s entries; %s packets dropped\n' "$room" "$dropped"
exit "$status"

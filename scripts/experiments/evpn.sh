#!/usr/bin/env bash
# A VM moves from one host to another across an EVPN/VXLAN fabric: two network namespaces as hosts, each with a bridge, a VXLAN
# interface that does not learn, and FRR's zebra and bgpd, which tell each other by BGP where MAC addresses are. ARP suppression
# (neigh_suppress) swallows the announcement of the VM on the VXLAN port, so that BGP alone carries the news.
#
#   scripts/experiments/evpn.sh [FOLDER]      needs root, jq and Debian's package frr
#
# Prints a row for each move: with unknown unicast flooded into the tunnel, and without. The reports go to FOLDER, if it is given.
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-}
[ -z "$folder" ] || mkdir -p "$folder"
fail() {
    printf 'evpn.sh: %s\n' "$*" >&2
    exit 1
}
for tool in jq:jq vtysh:frr; do
    command -v "${tool%:*}" >/dev/null || fail "${tool%:*} is missing: apt-get install ${tool#*:}"
done
[ -x /usr/lib/frr/bgpd ] || fail "/usr/lib/frr/bgpd is missing: apt-get install frr"
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked
    TAP_REACTOR=target/release/tap-reactor
fi
hosts=("evpn-a-$$" "evpn-b-$$")
work=$(mktemp -d)
chmod 755 "$work"
lab=
daemons=()

clean_up() {
    [ ${#daemons[@]} = 0 ] || kill "${daemons[@]}" 2>/dev/null || true
    [ -z "$lab" ] || { kill -INT "$lab" && wait "$lab"; } 2>/dev/null || true
    rm -r "$work"
}
trap clean_up EXIT

# Asks until a command succeeds, for half a minute.
wait_for() {
    local what=$1
    shift
    for _ in $(seq 600); do
        ! "$@" >/dev/null 2>&1 || return 0
        read -r -t 0.05 <> <(:) || true
    done
    cat "$work"/*.log >&2
    fail "waited in vain for $what"
}

ctl() {
    "$TAP_REACTOR" ctl "$work/lab.sock" "$@"
}

# The underlay, a tunnel on top of it, and the daemons, in the host with this number.
host() {
    local number=$1 name=${hosts[$1]} other=$((1 - $1))
    ip -n "$name" addr add "192.0.2.$((number + 1))/24" dev "under$number"
    ip -n "$name" link set "under$number" up
    ip -n "$name" link set lo up
    ip -n "$name" link add vxlan100 type vxlan id 100 local "192.0.2.$((number + 1))" dstport 4789 nolearning
    ip -n "$name" link set vxlan100 master br0 up
    bridge -n "$name" link set dev vxlan100 neigh_suppress on learning off flood "$flood"
    mkdir "$work/$number"
    cat >"$work/$number/frr.conf" <<CONFIGURATION
hostname host$number
router bgp 65000
 bgp router-id 192.0.2.$((number + 1))
 no bgp default ipv4-unicast
 neighbor 192.0.2.$((other + 1)) remote-as 65000
 neighbor 192.0.2.$((other + 1)) timers connect 1
 address-family l2vpn evpn
  neighbor 192.0.2.$((other + 1)) activate
  advertise-all-vni
CONFIGURATION
    chown -R frr:frr "$work/$number"
    local daemon
    for daemon in zebra bgpd; do
        ip netns exec "$name" "/usr/lib/frr/$daemon" -z "$work/$number/zserv" --vty_socket "$work/$number" \
            -i "$work/$number/$daemon.pid" -f "$work/$number/frr.conf" --log "file:$work/$number-$daemon.log" \
            >"$work/$number-$daemon.out" 2>&1 &
        daemons+=($!)
        wait_for "$daemon of host $number" test -S "$work/$number/$daemon.vty"
    done
}

# True if the bridge of the host with this number was told that this MAC address is behind the tunnel.
knows() {
    bridge -n "${hosts[$1]}" fdb show br br0 | grep -q "^$2 dev vxlan100 .*extern_learn"
}

# True if each flow had an answer after the move of vm1.
has_answers() {
    ctl --json report | jq -e '[.moves[] | select(.vm == "vm1") | .gap_ns != null] | length == 2 and all'
}

# Two VMs on the first host and one on the second, which ping the one that moves; and the fabric between the hosts in place of the
# link that the lab has made.
run() {
    flood=$1
    daemons=()
    "$TAP_REACTOR" --vms 3 --netns "${hosts[0]}" --ping vm0:vm1 --ping vm2:vm1 --interval 1ms --timeout 500ms \
        --control "$work/lab.sock" --stay --json >"$work/report.json" 2>"$work/lab.log" &
    lab=$!
    wait_for "the lab" ctl status
    ctl move vm2 "netns:${hosts[1]}" >/dev/null
    ip -n "${hosts[0]}" link del br0-0d
    ip -n "${hosts[0]}" link add under0 type veth peer name under1 netns "${hosts[1]}"
    host 0
    host 1
    local mac
    mac=$(ctl --json vms | jq -r '.items[1].mac')
    # Addresses are told by BGP once VMs have spoken.
    wait_for "BGP to tell where vm1 is" knows 1 "$mac"
    wait_for "BGP to tell where vm0 is" knows 1 "$(ctl --json vms | jq -r '.items[0].mac')"
    wait_for "BGP to tell where vm2 is" knows 0 "$(ctl --json vms | jq -r '.items[2].mac')"
    ctl move vm1 "netns:${hosts[1]}" >/dev/null
    wait_for "BGP to tell where vm1 went" knows 0 "$mac"
    wait_for "answers to each flow after the move" has_answers
    kill -INT "$lab"
    wait "$lab" || true
    lab=
    kill "${daemons[@]}" 2>/dev/null || true
    wait "${daemons[@]}" 2>/dev/null || true
    daemons=()
    rm -r "$work"/[01]
    [ -z "$folder" ] || cp "$work/report.json" "$folder/evpn-flood-$flood.json"
    jq -r --arg flood "$flood" '.moves[] | select(.vm == "vm1") |
        "| \($flood) | \(.src) → vm1 | \((.netlink_ns / 1e6 * 10 | round) / 10) ms | \(if .gap_ns then
            "\((.gap_ns / 1e6 * 10 | round) / 10) ms" else "–" end) | \(.lost) | \(.ended_by) |"' "$work/report.json"
}

printf '| flood of the tunnel | flow | netlink | gap | lost | ended by |\n|---|---|---|---|---|---|\n'
for flood in on off; do
    run "$flood"
done

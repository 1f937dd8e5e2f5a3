#!/usr/bin/env bash
# Creates a lab by hand: a bridge with TAP devices as its ports. Shows and explains each step.
#
#   scripts/lab-up.sh                                    br0 with tap0 and tap1
#   BRIDGE=lab TAP_PREFIX=port TAPS=4 scripts/lab-up.sh  other names, more TAPs
#
# Works in the current network namespace. For a lab that is separate from the network of the machine:
#
#   ip netns add LAB && ip netns exec LAB scripts/lab-up.sh
#
# Then, in the same namespace: tap-reactor --netns host --attach --vms 2 --ping vm0:vm1 --count 100
# scripts/lab-down.sh, with the same names, removes it.
set -euo pipefail

[ $# = 0 ] || { printf "lab-up.sh: expected no arguments, not '%s'\n" "$*" >&2; exit 2; }

BRIDGE=${BRIDGE:-br0}
TAP_PREFIX=${TAP_PREFIX:-tap}
TAPS=${TAPS:-2}
# The mark by which lab-down.sh recognizes the links made here: an alias.
MARK="tap-reactor lab $BRIDGE"

fail() {
    printf 'lab-up: %s\n' "$*" >&2
    exit 1
}

# step WHY COMMAND...: prints the reason and the command, and runs it.
step() {
    printf '\n# %s\n+ %s\n' "$1" "${*:2}"
    "${@:2}"
}

# ipv6_off WHY LINK: through /proc, because sysctl(8) is another package. Does nothing in a kernel without IPv6.
ipv6_off() {
    local file=/proc/sys/net/ipv6/conf/$2/disable_ipv6
    [ -e "$file" ] || return 0
    printf '\n# %s\n+ echo 1 > %s\n' "$1" "$file"
    echo 1 >"$file"
}

taps() {
    local i
    for ((i = 0; i < TAPS; i++)); do
        printf '%s%d\n' "$TAP_PREFIX" "$i"
    done
}

# Removes the links that this run has created so far, newest first.
made=()
undo() {
    local i
    printf 'lab-up: failed; removing the links created so far\n' >&2
    for ((i = ${#made[@]} - 1; i >= 0; i--)); do
        ip link delete dev "${made[i]}" || true
    done
}

if ! [[ $TAPS =~ ^[1-9][0-9]{0,3}$ ]] || ((TAPS > 1023)); then
    fail "TAPS=$TAPS: expected 1 to 1023, the ports of a bridge"
fi
for name in "$BRIDGE" "${TAP_PREFIX}$((TAPS - 1))"; do
    if ! [[ $name =~ ^[A-Za-z0-9_.-]{1,15}$ ]] || [[ $name == . || $name == .. ]]; then
        fail "'$name' is not an interface name; expected 1 to 15 of A-Z a-z 0-9 _ . -"
    fi
done
if taps | grep --quiet --line-regexp --fixed-strings -e "$BRIDGE"; then
    fail "the bridge and a TAP can't both be named $BRIDGE"
fi
for name in "$BRIDGE" $(taps); do
    if ip link show dev "$name" >/dev/null 2>&1; then
        fail "link $name exists; choose other names (BRIDGE, TAP_PREFIX), or run scripts/lab-down.sh if lab-up.sh made it"
    fi
done
[ -c /dev/net/tun ] || fail "/dev/net/tun is missing: modprobe tun, or give this container the device"

trap undo EXIT

step "A bridge is a switch in the kernel: it learns which MAC address is behind which port." \
    ip link add name "$BRIDGE" type bridge
made+=("$BRIDGE")
step "The mark: lab-down.sh removes links that carry it, and no others." \
    ip link set dev "$BRIDGE" alias "$MARK"
step "STP off: with it on, a new port listens and learns for 30 s before it forwards a frame, and the bridge sends a BPDU every 2 s. One switch has no loops to break." \
    ip link set dev "$BRIDGE" type bridge stp_state 0
step "Multicast snooping off: it is not needed here, and costs queries and timers for each port." \
    ip link set dev "$BRIDGE" type bridge mcast_snooping 0
ipv6_off "IPv6 off on the host's side of the bridge: else the host sends router solicitations and multicast reports into the lab." \
    "$BRIDGE"
step "A bridge that is down forwards nothing." \
    ip link set dev "$BRIDGE" up

for tap in $(taps); do
    step "A TAP is a network interface whose frames a program reads and writes through a file descriptor. Created like this, it persists when no program has it open." \
        ip tuntap add dev "$tap" mode tap
    made+=("$tap")
    step "The mark, as above." \
        ip link set dev "$tap" alias "$MARK"
    ipv6_off "IPv6 off on the host's side of this port: only the VM behind it should send." \
        "$tap"
    step "Make it a port of the bridge." \
        ip link set dev "$tap" master "$BRIDGE"
    step "Up, but without carrier (NO-CARRIER) until a program opens the TAP, as a switch port without a cable." \
        ip link set dev "$tap" up
done

trap - EXIT

printf '\n# The lab:\n'
ip -brief link show master "$BRIDGE"
if [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null)" = 1 ]; then
    cat <<NOTE

# Note: net.bridge.bridge-nf-call-iptables is 1 here, so every IPv4 frame that crosses a bridge also passes
# iptables' FORWARD chain: about 15 % slower, and dropped if its policy is DROP. The setting belongs to the whole
# namespace, not to this lab, so it is left unchanged. In a namespace of its own, turn it off:
#   echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables
NOTE
fi
printf '\n# Next: tap-reactor --netns host --attach --bridge %s --tap-prefix %s --vms %d --ping vm0:vm1 --count 100\n' \
    "$BRIDGE" "$TAP_PREFIX" "$TAPS"

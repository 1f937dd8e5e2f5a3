#!/usr/bin/env bash
# Runs the same checks, by other programs, against a VM and against a real host (the kernel in a network namespace), and
# prints their responses side by side.
#
#   scripts/conformance.sh              runs the checks, and compares the result with scripts/conformance.md
#   scripts/conformance.sh --write      runs the checks, and writes scripts/conformance.md
#   scripts/conformance.sh --only TEXT  runs the checks whose names contain TEXT, and prints their result
#
# Every difference between VM and kernel needs a line in scripts/conformance/explained.txt. Exit status 0: all differences
# are explained, and the result equals scripts/conformance.md; 1: otherwise, or a prerequisite is missing. Needs root, and
# the packages that scripts/test.sh lists. Works in network namespaces that it creates. Takes about two minutes, most of
# them in timeouts. TAP_REACTOR names the program (default: target/debug/tap-reactor). With FABRIC=interface the VMs are behind
# an interface that a bridge is connected to, in place of TAPs; the result is to be the same.
set -euo pipefail
cd "$(dirname "$0")/.."

mode="check" only=()
case ${1:-} in
    '') ;;
    --write) mode="write" ;;
    --only) mode="only" only=(--only "${2:?--only takes a part of a name}") ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 1 ;;
esac
fabric=${FABRIC:-bridge}
program=$(realpath "${TAP_REACTOR:-target/debug/tap-reactor}")

fail() {
    printf 'conformance.sh: %s\n' "$*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "network namespaces take root"
[ -x "$program" ] || fail "$program is missing: cargo build"
for command in ip ping fping arping arp-scan nmap nping hping3 ndisc6 atk6-implementation6 traceroute mtr dnsmasq radvd \
    busybox stdbuf dhclient; do
    command -v "$command" >/dev/null || fail "$command is missing; scripts/test.sh says which package has it"
done
/usr/bin/python3 -c 'import scapy.all' 2>/dev/null || fail "scapy is missing: apt-get install python3-scapy"

# An answer that comes late because something else has the processors is none of the endpoint's.
renice --priority -10 --pid $$ >/dev/null 2>&1 || true

work=$(mktemp -d)
name=conform-$$
namespaces=() processes=()
finish() {
    local process namespace
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    for process in "${processes[@]}"; do wait "$process" 2>/dev/null || true; done
    for namespace in "${namespaces[@]}"; do ip netns del "$namespace" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# namespace NAME: creates a network namespace, with bridge netfilter off.
namespace() {
    ip netns add "$1"
    namespaces+=("$1")
    ip -n "$1" link set lo up
}

# await WHAT COMMAND…: waits until the command succeeds, 20 seconds at most.
await() {
    local what=$1 i
    shift
    for ((i = 0; i < 200; i++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    cat "$work"/*.log >&2 || true
    fail "$what: waited 20 seconds in vain"
}

# lab NAMESPACE OPTION…: starts a lab.
lab() {
    namespace "$1"
    local log=$work/$1.log of_fabric=() is_up=(ip -n "$1" link show dev tap0 up)
    if [ "$fabric" = interface ]; then
        outside "$1"
        of_fabric=(--fabric interface --interface eth1)
        # The program has it take frames for all addresses.
        is_up=(sh -c "ip -n $1 -details link show dev eth1 | grep -q 'promiscuity 1'")
    fi
    "$program" --netns "$1" --quiet "${of_fabric[@]}" "${@:2}" >"$log" 2>&1 &
    processes+=($!)
    await "lab $1" "${is_up[@]}"
}

# outside NAMESPACE: creates an interface for VMs, and a bridge that it is connected to. VMs reach each other by that.
outside() {
    ip netns exec "$1" sysctl -qw net.ipv6.conf.default.disable_ipv6=1
    ip -n "$1" link add br0 up type bridge mcast_snooping 0
    ip -n "$1" link add eth1 type veth peer name port1
    ip -n "$1" link set dev port1 master br0 up
    ip -n "$1" link set dev port1 type bridge_slave hairpin on
    ip -n "$1" link set dev eth1 up
}

# plug NAMESPACE INTERFACE LAB PORT: connects a namespace to a lab's bridge by a veth pair.
plug() {
    ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"
    ip -n "$3" link set dev "$4" master br0 up
    # Offloads off: frames have checksums and are not merged, as on a wire.
    ip netns exec "$1" ethtool -K "$2" tx off rx off gro off gso off tso off >/dev/null 2>&1 || true
    ip -n "$1" link set dev "$2" up
}

# Additional interfaces of each client, for checks that run in parallel because they mostly wait.
beside=10 places=()
for ((i = 1; i <= beside; i++)); do places+=(--beside "eth$i"); done

# client NAMESPACE LAB NUMBER: creates the namespace from which checks are run.
client() {
    local i
    namespace "$1"
    plug "$1" eth0 "$2" "c$3-0"
    for ((i = 1; i <= beside; i++)); do
        plug "$1" "eth$i" "$2" "c$3-$i"
        # Each of these interfaces answers ARP for its own address only.
        ip netns exec "$1" sysctl -qw "net.ipv4.conf.eth$i.arp_ignore=1"
        ip -n "$1" addr add "fd77::$3:ff$i/64" dev "eth$i" nodad metric 2000
    done
    for ((i = 1; i < 255; i++)); do
        echo "addr add 10.77.$3.$i/16 brd 10.77.255.255 dev eth0"
        printf 'addr add fd77::%s:%x/64 dev eth0 nodad\n' "$3" "$i"
    done | ip -n "$1" -batch -
}

# checks COLUMN CLIENT NUMBER MAC IPV4 IPV6
checks() {
    await "$1's IPv4 address" ip netns exec "$2" ping -c 1 -W 1 "$5"
    await "$1's IPv6 address" ip netns exec "$2" ping -6 -c 1 -W 1 "$6"
    ip netns exec "$2" /usr/bin/python3 scripts/conformance/checks.py --interface eth0 \
        "${places[@]}" --own "$3" --mac "$4" --ipv4 "$5" --ipv6 "$6" --out "$work/$1.json" "${only[@]}" >"$work/$1.out" 2>&1
}

# leases COLUMN: as many endpoints as the server has cases, and the server.
leases() {
    local lab=$name-$1-lease cases number endpoints=()
    cases=$(/usr/bin/python3 scripts/conformance/dhcp.py --count)
    case $1 in
        vm) seek "$lab" "$cases" --filter ;;
        vm-no-filter) seek "$lab" "$cases" --filter=off ;;
        *)
            namespace "$lab"
            ip -n "$lab" link add br0 up type bridge mcast_snooping 0
            ;;
    esac
    for ((number = 0; number < cases; number++)); do
        if [ "$1" = kernel ]; then
            udhcpc "$lab" "$lab$number" "$number"
        else
            endpoints+=("$(printf '02:00:0a:4f:00:%02x' $((number + 2)))")
        fi
    done
    namespace "$lab-serve"
    plug "$lab-serve" eth0 "$lab" serve
    ip -n "$lab-serve" addr add 10.79.0.1/16 dev eth0
    ip netns exec "$lab-serve" /usr/bin/python3 scripts/conformance/dhcp.py \
        --out "$work/$1.leases.json" "${endpoints[@]}" >"$work/$1-lease.out" 2>&1 &
    running+=($!)
}

# leases6 COLUMN: the same of DHCPv6.
leases6() {
    local lab=$name-$1-dhcp6- cases number endpoints=() filter=--filter
    cases=$(/usr/bin/python3 scripts/conformance/dhcp6.py --count)
    namespace "$lab-serve"
    if [ "$1" = kernel ]; then
        namespace "$lab"
        ip -n "$lab" link add br0 up type bridge mcast_snooping 0
        for ((number = 0; number < cases; number++)); do dhclient6 "$lab" "$lab$number" "$number"; done
    else
        [ "$1" = vm ] || filter=--filter=off
        lab "$lab" --vms "$cases" --subnet 10.79.0.0/16 --dhcp6 "$filter"
        for ((number = 0; number < cases; number++)); do
            endpoints+=("$(printf '02:00:0a:4f:00:%02x' $((number + 2)))")
        done
    fi
    plug "$lab-serve" eth0 "$lab" serve
    ip netns exec "$lab-serve" /usr/bin/python3 scripts/conformance/dhcp6.py \
        --out "$work/$1.leases6.json" "${endpoints[@]}" >"$work/$1-dhcp6.out" 2>&1 &
    running+=($!)
}

# dhclient6 LAB NAMESPACE NUMBER: a kernel whose addresses come from the client of ISC. Adds to `endpoints`.
dhclient6() {
    namespace "$2"
    # The client needs its link-local address at once.
    ip netns exec "$2" sysctl -qw net.ipv6.conf.default.accept_dad=0
    plug "$2" eth0 "$1" "host$3"
    await "the link-local address of $2" ip netns exec "$2" sh -c 'ip -6 address show dev eth0 scope link | grep -q inet6'
    # Started again if it ends: it does when it does not get its socket at once.
    # shellcheck disable=SC2016
    ip netns exec "$2" sh -c 'trap "kill \$client; exit" TERM; while :; do "$@" & client=$!; wait $client; sleep 1; done' sh \
        dhclient -6 -d -D LL -lf "$work/$2.leases" -pf "$work/$2.pid" \
        -sf "$PWD/scripts/conformance/dhclient6.sh" eth0 >"$work/$2.log" 2>&1 &
    processes+=($!)
    endpoints+=("$(ip netns exec "$2" cat /sys/class/net/eth0/address)")
}

# seek LAB VMS FILTER: a lab of VMs that look for an address, and ping somebody elsewhere once they have one.
seek() {
    lab "$1" --vms "$2" --subnet 10.79.0.0/16 --dhcp --address-wait 2s "$3" --resolve at-once \
        --ping all:192.0.2.1 --interval 1s --count 1000
}

# udhcpc LAB NAMESPACE NUMBER: the same of a kernel. Adds to `endpoints`.
udhcpc() {
    local client
    namespace "$2"
    plug "$2" eth0 "$1" "host$3"
    ip netns exec "$2" busybox udhcpc -f -t 100 -T 1 -i eth0 -s "$PWD/scripts/conformance/udhcpc.sh" >"$work/$2.log" 2>&1 &
    client=$!
    ip netns exec "$2" sh -c 'while :; do ping -n -c 1 -W 1 192.0.2.1; sleep 1; done' >/dev/null 2>&1 &
    processes+=("$client" $!)
    endpoints+=("$(ip netns exec "$2" cat /sys/class/net/eth0/address)=$client")
}

# pings NUMBER: the addresses that the endpoint of client NUMBER pings, for the checks of neighbours that move.
pings() {
    /usr/bin/python3 scripts/conformance/checks.py --pings "$1"
}

# groups NUMBER: the multicast groups that it is in.
groups() {
    /usr/bin/python3 scripts/conformance/checks.py --groups "$1"
}

# vms NUMBER: the options of a lab whose first VM pings them.
vms() {
    printf '%s\n' --vms 2 --ipv6 --udp-echo --tcp-listen 8080 --resolve at-once --interval 0.5 --gateway "fd77::$1:fd"
    pings "$1" | sed 's/^/--ping=vm0:/'
    groups "$1" | sed 's/^/--join=/'
}
mapfile -t vms < <(vms 101)
lab "$name-vm" "${vms[@]}" --filter
mapfile -t vms < <(vms 102)
lab "$name-bare" "${vms[@]}" --filter=off

# The control: a real host on the first lab's bridge, with a UDP echo service on port 7, and a program that accepts
# TCP connections on port 8080.
namespace "$name-host"
plug "$name-host" eth0 "$name-vm" host
ip -n "$name-host" addr add 10.77.200.200/16 brd 10.77.255.255 dev eth0
ip -n "$name-host" addr add fd77::200:200/64 dev eth0 nodad
ip -n "$name-host" -6 route add default via fd77::103:fd
mapfile -t joined < <(groups 103)
ip netns exec "$name-host" /usr/bin/python3 scripts/conformance/echo.py 10.77.200.200 "${joined[@]}" &
processes+=($!)
for address in $(pings 103); do
    ip netns exec "$name-host" ping -n -q -i 0.5 "$address" >/dev/null 2>&1 &
    processes+=($!)
done
mac=$(ip netns exec "$name-host" cat /sys/class/net/eth0/address)

columns=("vm $name-c1 101 $name-vm 02:00:0a:4d:00:02 10.77.0.2 fd77::2"
    "vm-no-filter $name-c2 102 $name-bare 02:00:0a:4d:00:02 10.77.0.2 fd77::2"
    "kernel $name-c3 103 $name-vm $mac 10.77.200.200 fd77::200:200")
running=()
for column in "${columns[@]}"; do
    read -r title place number at hardware ipv4 ipv6 <<<"$column"
    client "$place" "$at" "$number"
    checks "$title" "$place" "$number" "$hardware" "$ipv4" "$ipv6" &
    running+=($!)
done
if [ "$mode" != only ]; then
    # Servers: a lab whose VMs have no address yet, and one without the filter.
    seekers=(--vms 1 --subnet 10.79.0.0/16 --dhcp --ipv6 --slaac --subnet6 fd79:0:0:1::/64)
    for kind in vm vm-no-filter; do
        [ "$kind" = vm ] && filter=(--filter) || filter=(--filter=off)
        lab "$name-$kind-seek" "${seekers[@]}" "${filter[@]}"
        namespace "$name-$kind-serve"
        plug "$name-$kind-serve" eth0 "$name-$kind-seek" serve
        ip -n "$name-$kind-serve" addr add 10.79.0.1/16 dev eth0
        ip -n "$name-$kind-serve" addr add fd79::1/64 dev eth0 nodad
        endpoints=("$kind=02:00:0a:4f:00:02")
        if [ "$kind" = vm ]; then
            namespace "$name-seek-host"
            plug "$name-seek-host" eth0 "$name-vm-seek" host
            ip netns exec "$name-seek-host" busybox udhcpc -f -q -t 10 -T 1 -i eth0 -s "$PWD/scripts/conformance/udhcpc.sh" >"$work/udhcpc.log" 2>&1 &
            processes+=($!)
            endpoints+=("kernel=$(ip netns exec "$name-seek-host" cat /sys/class/net/eth0/address)")
        fi
        ip netns exec "$name-$kind-serve" /usr/bin/python3 scripts/conformance/servers.py --interface eth0 \
            --folder "$work" "${endpoints[@]}" >"$work/$kind-serve.out" 2>&1 &
        running+=($!)
    done
    # A DHCP server by hand, which tells each endpoint something else: VMs in two labs, and clients of busybox on a bridge.
    for kind in vm vm-no-filter kernel; do leases "$kind"; done
    # The same of DHCPv6; the control is dhclient.
    for kind in vm vm-no-filter kernel; do leases6 "$kind"; done
fi
for process in "${running[@]}"; do
    wait "$process" || { cat "$work"/*.out >&2; fail "a column did not come to its end"; }
done

if [ -n "${SHOW_TIMES:-}" ]; then tail -n 400 "$work"/*.out >&2; fi
/usr/bin/python3 scripts/conformance/table.py "$mode" "$work"/{vm,vm-no-filter,kernel}.json

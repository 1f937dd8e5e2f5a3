# shellcheck shell=bash
# Functions that create the labs of benches/peers.sh, which sources this file.

# quiet_namespace: switches off IPv6 and bridge netfilter, so that nothing but the pings is sent.
quiet_namespace() {
    local switch
    for switch in /proc/sys/net/ipv6/conf/{all,default}/disable_ipv6; do
        [ ! -e "$switch" ] || echo 1 >"$switch"
    done
    for switch in /proc/sys/net/bridge/bridge-nf-call-*; do
        [ ! -e "$switch" ] || echo 0 >"$switch"
    done
}

# new_bridge NAME
new_bridge() {
    ip link add "$1" type bridge mcast_snooping 0 stp_state 0
    ip link set "$1" up
}

# address NUMBER: prints the address of endpoint NUMBER, as tap-reactor assigns them.
address() {
    printf '10.77.%d.%d' $((($1 + 2) / 256)) $((($1 + 2) % 256))
}

# taps FROM TO: creates tapFROM up to the one before tapTO on br0, with static forwarding entries: the bridge forgets
# learned ones when a process closes its TAPs, and would flood the first pings of the next process.
taps() {
    local i
    for ((i = $1; i < $2; i++)); do
        printf 'tuntap add dev tap%d mode tap\nlink set tap%d master br0 up\n' "$i" "$i"
    done | ip -batch -
    for ((i = $1; i < $2; i++)); do
        printf 'fdb replace 02:00:0a:4d:%02x:%02x dev tap%d master static\n' $(((i + 2) / 256)) $(((i + 2) % 256)) "$i"
    done | bridge -batch -
}

# stations FROM TO: creates the namespaces sFROM up to the one before sTO, each with an address on br1.
stations() {
    local i
    for ((i = $1; i < $2; i++)); do
        printf 'netns add s%d\nlink add veth%d master br1 up type veth peer name eth0 netns s%d\n' "$i" "$i" "$i"
    done | ip -batch -
    for ((i = $1; i < $2; i++)); do
        # Without a link-local address the kernel sends nothing on IPv6.
        ip -n "s$i" -batch - <<LINES
link set eth0 addrgenmode none
addr add $(address "$i")/16 dev eth0
link set eth0 up
LINES
    done
}

# in_station NUMBER COMMAND…: runs a command in the namespace of station NUMBER.
in_station() {
    nsenter --net="/run/netns/s$1" "${@:2}"
}

# shellcheck shell=bash
# What benches/peers.sh makes its labs of. Sourced by it.

# quiet_namespace: nothing here but what is sent on purpose, and no netfilter on bridges.
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

# address NUMBER: of endpoint NUMBER, as tap-reactor gives them.
address() {
    printf '10.77.%d.%d' $((($1 + 2) / 256)) $((($1 + 2) % 256))
}

# taps FROM TO: tapFROM up to the one before tapTO, on br0, which knows who lives there: it would forget what it learns
# whenever a process lets go of its TAPs, and flood the first pings of the next one.
taps() {
    local i
    for ((i = $1; i < $2; i++)); do
        printf 'tuntap add dev tap%d mode tap\nlink set tap%d master br0 up\n' "$i" "$i"
    done | ip -batch -
    for ((i = $1; i < $2; i++)); do
        printf 'fdb replace 02:00:0a:4d:%02x:%02x dev tap%d master static\n' $(((i + 2) / 256)) $(((i + 2) % 256)) "$i"
    done | bridge -batch -
}

# stations FROM TO: kernels with addresses, each a namespace sFROM up to the one before sTO, on br1.
stations() {
    local i
    for ((i = $1; i < $2; i++)); do
        printf 'netns add s%d\nlink add veth%d master br1 up type veth peer name eth0 netns s%d\n' "$i" "$i" "$i"
    done | ip -batch -
    for ((i = $1; i < $2; i++)); do
        # Without a link-local address the kernel has nothing to say on IPv6.
        ip -n "s$i" -batch - <<LINES
link set eth0 addrgenmode none
addr add $(address "$i")/16 dev eth0
link set eth0 up
LINES
    done
}

# in_station NUMBER COMMAND…
in_station() {
    nsenter --net="/run/netns/s$1" "${@:2}"
}

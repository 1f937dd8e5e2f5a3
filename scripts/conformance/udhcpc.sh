#!/bin/sh
# What udhcpc does with a lease: takes the address, the MTU, and the router or the classless routes. The variables come
# from udhcpc.
# shellcheck disable=SC2154
set -eu
case $1 in
    deconfig)
        ip -4 addr flush dev "$interface"
        ip link set dev "$interface" mtu 1500
        ;;
    bound | renew)
        ip link set dev "$interface" mtu "${mtu:-1500}" || true
        [ "$(ip -4 -oneline addr show dev "$interface" | grep -c " $ip/")" = 1 ] || ip -4 addr flush dev "$interface"
        ip addr replace "$ip/${mask:-16}" dev "$interface"
        ip route flush proto static
        if [ -n "${staticroutes:-}" ]; then
            # shellcheck disable=SC2086
            set -- $staticroutes
            while [ $# -ge 2 ]; do
                if [ "$2" = 0.0.0.0 ]; then
                    ip route add "$1" dev "$interface" proto static || true
                else
                    ip route add "$1" via "$2" dev "$interface" onlink proto static || true
                fi
                shift 2
            done
        else
            for gateway in ${router:-}; do
                ip route add default via "$gateway" dev "$interface" onlink proto static || true
                break
            done
        fi
        ;;
esac

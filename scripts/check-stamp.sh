#!/usr/bin/env bash
# Pings the reflector of stamp-suite (RFC 8762, RFC 8972) by STAMP, and has its sender ask a VM's reflector.
#
#   scripts/check-stamp.sh STAMP_SUITE TAP_REACTOR     both are paths of programs
#
# Needs root. Works in a network namespace that it creates. Exit status 0: all packets came back, over IPv4 and IPv6.
set -euo pipefail

[ $# = 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$(realpath "$1") program=$(realpath "$2")
name=stamp-$$ work=$(mktemp -d) processes=()
finish() {
    local process
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    for process in "${processes[@]}"; do wait "$process" 2>/dev/null || true; done
    ip netns del "$name" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
ip netns add "$name"
inside() { timeout 60 ip netns exec "$name" "$@"; }
host=(--netns host --host-address 10.77.0.1/16 --host-address fd77::1/64 --ipv6)

for address in 0.0.0.0 ::; do
    timeout 60 ip netns exec "$name" "$suite" --is-reflector --local-addr "$address" --stateful-reflector >"$work/reflector" 2>&1 &
    processes=($!)
    for ((i = 0; i < 100; i++)); do
        inside ss -Hlun 'sport = :862' | grep -q . && break
        sleep 0.1
    done
    [ "$address" = :: ] && target=fd77::1 || target=10.77.0.1
    for size in 44 45 48 1000; do
        inside "$program" "${host[@]}" --vms 1 --ping "vm0:$target" --probe stamp --size "$size" --count 20 \
            --timeout 5s --quiet || { cat "$work/reflector" >&2; exit 1; }
    done
    kill "${processes[0]}"
    wait "${processes[0]}" || true
    processes=()
done
printf 'stamp-suite reflected every test packet\n'

timeout 60 ip netns exec "$name" "$program" "${host[@]}" --vms 2 --stamp-reflector=stateful --duration 50s >"$work/vms" 2>&1 &
processes=($!)
for address in 10.77.0.2 fd77::3; do
    for ((i = 0; i < 100; i++)); do
        inside ping -n -c 1 -W 1 "$address" >/dev/null 2>&1 && break
        sleep 0.1
    done
    [ "$address" = fd77::3 ] && from=fd77::1 || from=10.77.0.1
    inside "$suite" --remote-addr "$address" --local-addr "$from" --local-port 40862 --count 20 --send-delay 20ms \
        >"$work/sender" 2>&1 || { cat "$work/sender" >&2; exit 1; }
    grep -q '^Packets received: 20$' "$work/sender" || { cat "$work/sender" >&2; exit 1; }
done
printf "stamp-suite's sender had every packet back from VMs\n"

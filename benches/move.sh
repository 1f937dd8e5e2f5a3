#!/usr/bin/env bash
# Measures how long a VM is gone that moves from one leaf to another, beside the same move as plain system calls
# (peers/move.cpp): a ping every 10 us, one request to the kernel, then a gratuitous ARP. Both in turns; the ratio of the medians
# of neighbouring rounds counts.
#
#   benches/move.sh [ROUNDS [MOVES]]        needs root and g++
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-9} moves=${2:-50}
command -v g++ >/dev/null || { echo "move.sh: g++ is missing: apt-get install g++" >&2; exit 1; }
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked
    TAP_REACTOR=target/release/tap-reactor
fi
work=$(mktemp -d)
netns=tap-reactor-move-$$
trap 'ip netns delete "$netns" 2>/dev/null || true; rm -r "$work"' EXIT
g++ -O2 -std=c++17 -Wall -Wextra -Werror -pthread -o "$work/move" benches/peers/move.cpp

# The tree that both have: two leaves around a spine, with quiet links.
ip netns add "$netns"
ip netns exec "$netns" sysctl --quiet net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
for bridge in spine leaf0 leaf1; do
    ip -n "$netns" link add "$bridge" type bridge forward_delay 0 mcast_snooping 0
    ip -n "$netns" link set "$bridge" up
done
for leaf in leaf0 leaf1; do
    ip -n "$netns" link add "$leaf-u" type veth peer name "$leaf-d"
    ip -n "$netns" link set "$leaf-u" master "$leaf" up
    ip -n "$netns" link set "$leaf-d" master spine up
done

plain() {
    ip netns exec "$netns" "$work/move" "$moves" 50
}

ours() {
    "$TAP_REACTOR" --vms 4 --ports-per-bridge 2 --ping vm0:vm1 --interval 10us --timeout 100ms --duration "$(((moves + 2) * 50))ms" \
        --move 'vm1:leaf1@50ms,every=50ms' --repeat "$moves" --json >"$work/report.json" || [ $? = 1 ]
    python3 -c 'import json, sys
for move in json.load(open(sys.argv[1]))["moves"]:
    if "gap_ns" in move: print(move["gap_ns"] / 1000)' "$work/report.json"
}

for round in $(seq "$rounds"); do
    printf 'round %s of %s\n' "$round" "$rounds" >&2
    plain | sed "s/^/$round plain /"
    ours | sed "s/^/$round ours /"
done >"$work/gaps"

python3 - "$work/gaps" <<'PYTHON'
import sys
from statistics import median

gaps = {}
for line in open(sys.argv[1], encoding="utf-8"):
    number, which, gap = line.split()
    gaps.setdefault(which, {}).setdefault(int(number), []).append(float(gap))
print("| move | gap, median | fastest tenth | slowest tenth |")
print("|---|---|---|---|")
for which, name in [("plain", "plain system calls"), ("ours", "tap-reactor")]:
    every = sorted(gap for of_round in gaps[which].values() for gap in of_round)
    tenth = len(every) // 10
    print(f"| {name} | {median(every):.0f} us | {every[tenth]:.0f} us | {every[-1 - tenth]:.0f} us |")
ratios = [median(gaps["ours"][number]) / median(plain) for number, plain in gaps["plain"].items()]
print(f"ratio {median(ratios):.2f}, of the rounds {min(ratios):.2f} to {max(ratios):.2f}")
PYTHON

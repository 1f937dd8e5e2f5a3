#!/usr/bin/env bash
# Measures the time that the tool adds to the rtt of a peer outside it: here this host's kernel, which has the bridge's
# address. Compares the rtt in a capture on the TAP with the rtt of another run without a capture, because a capture takes
# time as well: the copy of the reply, made after its time stamp, would be in the report's figure only. The two medians
# should differ by at most 1.5 µs.
#
#   benches/outside.sh [ROUNDS]        needs root and tcpdump
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked
    TAP_REACTOR=target/release/tap-reactor
fi
netns=tap-reactor-outside-$$
work=$(mktemp -d)
trap 'ip netns delete "$netns" 2>/dev/null || true; rm -r "$work"' EXIT
ip netns add "$netns"
ip -n "$netns" link add br0 type bridge
ip -n "$netns" tuntap add tap0 mode tap
ip -n "$netns" link set tap0 master br0 up
ip -n "$netns" link set br0 up
ip -n "$netns" address add 10.77.0.1/16 dev br0

ping_host() {
    "$TAP_REACTOR" --netns "$netns" --attach --vms 1 --ping vm0:10.77.0.1 --rate 1000 --count 3000 --json
}

for _ in $(seq "$rounds"); do
    # It ends with the last reply.
    ip netns exec "$netns" timeout 30 tcpdump -n -c 6000 --time-stamp-precision=nano -i tap0 -w "$work/seen.pcap" icmp 2>"$work/log" &
    tcpdump=$!
    for _ in $(seq 100); do
        ! grep --quiet 'listening on' "$work/log" || break
        read -r -t 0.1 <> <(:) || true
    done
    ping_host >"$work/captured.json"
    wait "$tcpdump"
    ping_host >"$work/alone.json"
    tcpdump -n -tt --time-stamp-precision=nano -r "$work/seen.pcap" 2>"$work/log" |
        python3 benches/median-rtt.py "$work/captured.json" "$work/alone.json"
done

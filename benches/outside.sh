#!/usr/bin/env bash
# How much of its own time the tool adds to an rtt that somebody outside of it answers: here the kernel of this host, which
# has the bridge's address. A capture on the TAP sees the pings of one run; another run, without it, is what it is held against,
# because a capture takes time, too: that of the reply, which it copies after its stamp, is in the report's figure only. Both
# medians should lie within 1.5 µs.
#
#   benches/outside.sh [ROUNDS]        needs root and tcpdump
#
# TAP_REACTOR names the binary; by default target/release/tap-reactor, which is built first.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked --quiet
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
    # It ends by itself, with the last reply.
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

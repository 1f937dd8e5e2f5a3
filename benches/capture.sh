#!/usr/bin/env bash
# Measures what a capture costs: each kind of it runs in turns with a run without any, two VMs with one ping on its way. The
# median of the ratios of neighbouring rounds counts, and the nanoseconds that it adds to each of the four frames of a ping.
#
#   benches/capture.sh [ROUNDS [PINGS]]        needs root and tcpdump
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first). Files are written to TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-9} pings=${2:-100000}
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked
    TAP_REACTOR=target/release/tap-reactor
fi
netns=tap-reactor-capture-$$
work=$(mktemp -d)
trap 'ip netns delete "$netns" 2>/dev/null || true; rm -r "$work"' EXIT
ip netns add "$netns"

# Prints the nanoseconds of a ping of a run with these arguments.
run() {
    "$TAP_REACTOR" --netns "$netns" --vms 2 --ping vm0:vm1 --window 1 --count "$pings" --json "$@" >"$work/report.json"
    python3 -c 'import json, sys; print(1e9 / json.load(open(sys.argv[1]))["rate_per_s"])' "$work/report.json"
}

# The same beside tcpdump on the bridge, which has to exist before.
run_beside_tcpdump() {
    ip -n "$netns" link add br0 type bridge
    ip -n "$netns" link set br0 up
    ip netns exec "$netns" tcpdump -n -i br0 -w "$work/tcpdump.pcap" 2>"$work/log" &
    local tcpdump=$!
    for _ in $(seq 100); do
        ! grep --quiet 'listening on' "$work/log" || break
        read -r -t 0.1 <> <(:) || true
    done
    run --join br0 --subnet 10.77.0.0/16 --first 10.77.0.2
    kill "$tcpdump"
    wait "$tcpdump" || true
    ip -n "$netns" link delete br0
    awk '/dropped by kernel/ { dropped = $1 } /received by filter/ { received = $1 }
        END { if (received) printf "%.0f %%\n", 100 * dropped / received }' "$work/log" >"$work/dropped"
}

file=$work/run.pcapng
kinds=(
    "whole frames, no comments|run --capture $file --capture-comments off"
    "64 bytes of each, no comments|run --capture $file --capture-comments off --capture-snap 64"
    "whole frames with comments|run --capture $file"
    "around losses, 20 frames|run --capture $file --capture-on-loss 20"
    "around losses, 64 bytes of each|run --capture $file --capture-on-loss 20 --capture-snap 64"
    "to a pipe, with comments|run_to_pipe"
    "tcpdump on the bridge|run_beside_tcpdump"
)

# The reader does nothing with what it reads. The report takes the other way out.
run_to_pipe() {
    "$TAP_REACTOR" --netns "$netns" --vms 2 --ping vm0:vm1 --window 1 --count "$pings" --quiet \
        --capture - --output "$work/report.json" | cat >/dev/null
    python3 -c 'import json, sys; print(1e9 / json.load(open(sys.argv[1]))["rate_per_s"])' "$work/report.json"
}

for round in $(seq "$rounds"); do
    printf 'round %s of %s\n' "$round" "$rounds" >&2
    for kind in "${kinds[@]}"; do
        read -ra command <<<"${kind#*|}"
        alone=$(run)
        captured=$("${command[@]}")
        printf '%s|%s|%s\n' "${kind%%|*}" "$alone" "$captured"
    done
done >"$work/times"

python3 - "$work/times" "$(cat "$work/dropped")" <<'PYTHON'
import sys
from statistics import median

kinds = {}
for line in open(sys.argv[1], encoding="utf-8"):
    name, alone, captured = line.strip().split("|")
    kinds.setdefault(name, []).append((float(alone), float(captured)))
print("| capture | ratio of pings/s | ns a frame | ratio of each round, sorted |")
print("|---|---|---|---|")
for name, rounds in kinds.items():
    ratios = sorted(alone / captured for alone, captured in rounds)
    added = median((captured - alone) / 4 for alone, captured in rounds)
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"| {name} | {median(ratios):.2f} | {added:.0f} | {each} |")
print(f"tcpdump lost {sys.argv[2]} of the packets in the last round.")
PYTHON

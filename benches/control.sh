#!/usr/bin/env bash
# Measures what clients of the control socket cost a run of 20,000 pings a second on a bridge: 100 requests a second, in turns
# of the state, the metrics and a page of flows, and one reader of the events. Runs with and without them follow each other.
#
#   benches/control.sh [ROUNDS [SECONDS]]      needs root
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first). Prints, with and without, the
# median of the rate of replies and of the p99 of the rtt, each with the least and the greatest of the runs, and what the
# clients got.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-7} seconds=${2:-10}
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked
    TAP_REACTOR=target/release/tap-reactor
fi
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# Prints rate, p99 of the rtt, pings that were not answered, and pauses that came of answering clients, of a run.
run() {
    "$TAP_REACTOR" --vms 10 --ping ring --rate 20000 --duration "${seconds}s" --control "$work/lab.sock" \
        --json >"$work/report.json" || true
    python3 - "$work/report.json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1], encoding="utf-8"))
pauses = report.get("pauses", {})
print(report["rate_per_s"], report["rtt_ns"]["p99"], report["totals"]["sent"] - report["totals"]["received"],
      pauses.get("answering_ns", 0))
PYTHON
}

# The same with clients, which come when there is a socket and go with it.
run_with_clients() {
    python3 benches/control_clients.py "$work/lab.sock" 100 >"$work/clients" &
    local clients=$!
    run
    wait "$clients"
    cat "$work/clients" >>"$work/all-clients"
}

for round in $(seq "$rounds"); do
    printf 'round %s of %s\n' "$round" "$rounds" >&2
    printf 'without %s\n' "$(run)"
    printf 'with %s\n' "$(run_with_clients)"
done >"$work/runs"

python3 - "$work/runs" "$work/all-clients" <<'PYTHON'
import sys
from statistics import median

runs = {}
for line in open(sys.argv[1], encoding="utf-8"):
    kind, *figures = line.split()
    runs.setdefault(kind, []).append([float(figure) for figure in figures])
print("| clients | replies/s, median (least to greatest) | p99 of the rtt in µs | not answered | answering took |")
print("|---|---|---|---|---|")
for kind in ("without", "with"):
    rates, p99s, missing, answering = zip(*runs[kind])
    p99s = [p99 / 1e3 for p99 in p99s]
    print(f"| {kind} | {median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) "
          f"| {median(p99s):.1f} ({min(p99s):.1f} to {max(p99s):.1f}) | {sum(missing):.0f} "
          f"| {median(answering) / 1e6:.1f} ms |")
for line in open(sys.argv[2], encoding="utf-8"):
    print(line.strip())
PYTHON

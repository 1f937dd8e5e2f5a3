#!/usr/bin/env bash
# Compares how many frames a second a stream carries between two VMs with how many pings a second a window of 64 does on the same
# path: a ping takes two writes and two reads, a frame one of each. Prints both and their ratio, the medians of several runs that
# take turns.
#
#   benches/streams.sh [RUNS] [FABRIC...]     7 runs on bridge and xdp by default; needs root
#
# The stream is asked for more than it can do; what it received within its time is its rate. Exit status 1 if a ratio is below 1.6.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${TAP_REACTOR:-} ]]; then
    cargo build --release --locked
    TAP_REACTOR=${CARGO_TARGET_DIR:-target}/release/tap-reactor
fi
runs=${1:-7}
shift || true
fabrics=("${@:-bridge}")
[[ $# -gt 0 ]] || fabrics=(bridge xdp)

TAP_REACTOR=$TAP_REACTOR python3 - "$runs" "${fabrics[@]}" <<'PYTHON'
import json, os, statistics, subprocess, sys

program, runs, fabrics = os.environ["TAP_REACTOR"], int(sys.argv[1]), sys.argv[2:]


def report(words):
    command = [program, *words.split(), "--resolve=static", "--duration=1s", "--warmup=200ms", "--json"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(run.stdout)


failed = False
for fabric in fabrics:
    pings, frames = [], []
    for _ in range(runs):
        of_pings = report(f"--fabric {fabric} --ping vm0:vm1 --window 64 --size 18")
        pings.append(of_pings["rate_per_s"])
        of_stream = report(f"--fabric {fabric} --stream vm0:vm1 --rate 2M")
        frames.append(of_stream["stream_counts"]["received"] * 1e9 / of_stream["elapsed_ns"])
    pings, frames = statistics.median(pings), statistics.median(frames)
    print(f"{fabric}: {pings:,.0f} pings/s, {frames:,.0f} frames/s, ratio {frames / pings:.2f}")
    failed |= frames < 1.6 * pings
sys.exit(failed)
PYTHON

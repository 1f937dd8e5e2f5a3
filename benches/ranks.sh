#!/usr/bin/env bash
# Measures what a second core brings: the same pings by one process on one core and by two ranks on two, in turns. The ratio of
# neighbouring rounds counts; its median is printed. Beside it stands what the ratio would be if nobody else had the processors:
# rates by the time in which the processes ran.
#
#   benches/ranks.sh [ROUNDS [SECONDS]]        5 rounds of 3 seconds; needs root and two processors
#
# inside: the two VMs of a pair are in one rank, in one lab. across: each flow goes from one rank to the other; the ratio is to
# the same two ranks with flows inside. xdp: inside, on XDP. vxlan, uplink: the ranks
# are in two network namespaces as on hosts of their own, which a cable connects (--underlay, --uplink), and every flow crosses; the
# ratio is to one process on one bridge with the same flows.
#
# start: how far apart ranks begin after the meeting point, over 20 runs a round: by the lateness of the first ping of each, and by
# the offset of clocks that was measured, which of two processes on one machine is wrong by all of it.
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-3}
[ "$(nproc)" -ge 2 ] || { echo "ranks.sh: two processors are needed" >&2; exit 1; }
if [ -z "${TAP_REACTOR:-}" ]; then
    cargo build --release --locked
    TAP_REACTOR=target/release/tap-reactor
fi
work=$(mktemp -d)
hosts=("ranks-a-$$" "ranks-b-$$")
clean_up() {
    rm -r "$work"
    for host in "${hosts[@]}"; do ip netns delete "$host" 2>/dev/null || true; done
}
trap clean_up EXIT
for host in "${hosts[@]}"; do ip netns add "$host"; done
# One cable below the VXLAN, and one for the uplinks.
for link in eth0 up0; do
    ip -n "${hosts[0]}" link add $link type veth peer name $link netns "${hosts[1]}"
    for host in "${hosts[@]}"; do ip -n "$host" link set $link up; done
done
ip -n "${hosts[0]}" address add 192.0.2.1/24 dev eth0
ip -n "${hosts[1]}" address add 192.0.2.2/24 dev eth0
common=(--vms 200 --duration "${seconds}s" --warmup 200ms --json)
export TAP_REACTOR_MEET_SECRET=of-one-benchmark-alone

# Prints the answered pings per second of the report on standard input, and the share of the time in which its processes ran.
rate() {
    python3 -c 'import json, sys
report = json.load(sys.stdin)
time = (report["elapsed_ns"] + 200_000_000) * max(1, len(report.get("ranks", [])))
paused = report.get("pauses", {}).get("total_ns", 0)
print(round(report["rate_per_s"]), f"{max(0.01, 1 - paused / time):.3f}", "lost", report["totals"]["lost"])'
}

# Status 1 is a ping that got lost on a busy machine.
run() { "$@" || [ $? = 1 ]; }

one() { run taskset -c 0 "$TAP_REACTOR" "${common[@]}" "$@" | rate; }
two() { run "$TAP_REACTOR" --cores 2 "${common[@]}" "$@" | rate; }
# Two ranks, each on a host of its own.
on_hosts() {
    local meet=(--meet "$work/meet.sock")
    run ip netns exec "${hosts[1]}" taskset -c 1 "$TAP_REACTOR" --rank 1/2 "${meet[@]}" "${common[@]}" "$@" &
    run ip netns exec "${hosts[0]}" taskset -c 0 "$TAP_REACTOR" --rank 0/2 "${meet[@]}" "${common[@]}" "$@" | rate
    wait
}
# Prints how far apart two ranks have begun, in nanoseconds.
start() {
    run "$TAP_REACTOR" --cores 2 --vms 4 --ping pairs --count 1 --resolve static --json | jq '
        .ranks | (.[1].lateness_ns.max + .[1].clock_offset_ns - .[0].lateness_ns.max) | fabs'
}

for round in $(seq "$rounds"); do
    printf 'round %s of %s\n' "$round" "$rounds" >&2
    for window in 1 64; do
        printf '%s inside-%s one %s\n' "$round" "$window" "$(one --ping pairs --window "$window")"
        printf '%s inside-%s two %s\n' "$round" "$window" "$(two --ping pairs --window "$window")"
        printf '%s xdp-%s one %s\n' "$round" "$window" "$(one --fabric xdp --ping pairs --window "$window")"
        printf '%s xdp-%s two %s\n' "$round" "$window" "$(two --fabric xdp --ping pairs --window "$window")"
    done
    # Half of the flows in each direction, as many as there are pairs.
    across=(--ping 'vm[0-49]:vm[100-149]' --ping 'vm[150-199]:vm[50-99]')
    printf '%s across-64 one %s\n' "$round" "$(two --ping pairs --window 64)"
    printf '%s across-64 two %s\n' "$round" "$(two "${across[@]}" --window 64)"
    bridge=$(one "${across[@]}" --window 64)
    printf '%s vxlan-64 one %s\n' "$round" "$bridge"
    printf '%s vxlan-64 two %s\n' "$round" "$(on_hosts "${across[@]}" --window 64 --underlay vxlan:42,192.0.2.1,192.0.2.2)"
    printf '%s uplink-64 one %s\n' "$round" "$bridge"
    printf '%s uplink-64 two %s\n' "$round" "$(on_hosts "${across[@]}" --window 64 --uplink up0)"
    for _ in $(seq 20); do start >>"$work/starts"; done
done | tee "$work/rates" >&2

python3 - "$work/rates" "$work/starts" <<'PYTHON'
import sys
from statistics import median

rates = {}
for line in open(sys.argv[1], encoding="utf-8"):
    number, what, which, rate, ran, *_ = line.split()
    rates.setdefault(what, {}).setdefault(which, {})[number] = (float(rate), float(ran))
print("| pings | one | two | two / one, median | of the rounds | by the time that they ran |")
print("|---|---|---|---|---|---|")
for what, by in rates.items():
    rounds = [(one, by["two"][number]) for number, one in by["one"].items() if number in by["two"]]
    ratios = [two / one for (one, _), (two, _) in rounds]
    running = [two / ran_two / (one / ran_one) for (one, ran_one), (two, ran_two) in rounds]
    one, two = (median(rate for rate, _ in by[which].values()) for which in ("one", "two"))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"| {what} | {one:,.0f}/s | {two:,.0f}/s | {median(ratios):.2f} | {spread} | {median(running):.2f} |")
starts = sorted(float(line) / 1000 for line in open(sys.argv[2], encoding="utf-8"))
p99 = starts[min(len(starts) - 1, len(starts) * 99 // 100)]
print(f"\nstart: {len(starts)} runs, {median(starts):.0f} µs apart, p99 {p99:.0f} µs")
PYTHON

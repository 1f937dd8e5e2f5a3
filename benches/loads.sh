#!/usr/bin/env bash
# Runs ordinary loads without tuning flags: none of them may overflow a queue, leave a ping unsent, or be limited by the
# tool. Prints a row for each load and each experiment.
#
#   benches/loads.sh [PATTERN]     only the loads whose command line contains PATTERN; needs root
#
# On a quiet machine every load, and every experiment that is not meant to overload, ends with status 0, no overflow, the
# verdict "network", and a p99 of lateness of at most 100 µs. Exit status 1 if a load does not.
set -euo pipefail
cd "$(dirname "$0")/.."

loads=(
    '--vms 50 --ping mesh --rate 20000'
    '--vms 100 --ping mesh --rate 20000'
    '--vms 200 --ping mesh --rate 20000'
    '--vms 255 --ping mesh --rate 20000'
    '--vms 256 --ping mesh --rate 20000'
    '--vms 1000 --ping ring --interval 100ms'
    '--vms 200 --ping ring'
    '--vms 100 --ping all:vm0'
    '--vms 100 --ping vm0:all'
    '--vms 1000 --ping vm0:all --interval 100ms'
    '--vms 100 -6 --ping mesh --rate 20000'
    '--vms 20 --ping mesh --interval 5ms'
    '--vms 500 --ping random:4 --rate 20000'
)

if [[ -z ${TAP_REACTOR:-} ]]; then
    cargo build --release --locked
    TAP_REACTOR=${CARGO_TARGET_DIR:-target}/release/tap-reactor
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# row STATUS: prints the row of the report in $work/report.
row() {
    python3 - "$1" "$work/report" <<'PYTHON'
import json, sys

def span(nanos):
    if nanos is None:
        return "–"
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 1000)):
        if nanos >= size:
            return f"{nanos / size:.3g} {unit}"
    return f"{nanos} ns"

status = int(sys.argv[1])
try:
    with open(sys.argv[2]) as file:
        report = json.load(file)
except (OSError, ValueError):
    print(f"{status:>6}  no report")
    sys.exit(1)
verdict = report["verdict"]
lateness = verdict.get("lateness_p99_ns")
overflow = verdict["tap_queue_drops"]
unsent = report["totals"]["unsent"]
search = report.get("neighbours") or {}
is_tool = verdict["limited_by_tool"]
is_disturbed = verdict["disturbed"]
print(f"{status:>6} {overflow:>8} {unsent:>7} {report['totals']['lost']:>6} {span(lateness):>9} "
      f"{search.get('asked', 0):>7} {span(search.get('elapsed_ns')):>9}  {'tool' if is_tool else 'others' if is_disturbed else 'network'}")
calm = status == 0 and not overflow and not unsent and not is_tool and not is_disturbed and (lateness or 0) <= 100_000
sys.exit(0 if calm else 1)
PYTHON
}

failed=0
printf '%-46s%6s %8s %7s %6s %9s %7s %9s  %s\n' load status overflow unsent lost 'late p99' asked 'found in' verdict
for load in "${loads[@]}"; do
    [[ $load == *"${1:-}"* ]] || continue
    status=0
    # shellcheck disable=SC2086 # the words of a load
    "$TAP_REACTOR" $load --duration 2s -q -o "$work/report.json" >/dev/null 2>"$work/errors" || status=$?
    mv -f "$work/report.json" "$work/report" 2>/dev/null || rm -f "$work/report"
    printf '%-46s' "$load"
    row $status || failed=1
done
for experiment in scripts/experiments/*.toml; do
    # One needs a DHCP server (scripts/experiments/dhcp-storm.sh), the other has no end (scripts/experiments/soak.sh).
    [[ $experiment == *"${1:-}"* && $experiment != */@(dhcp-storm|soak).toml ]] || continue
    status=0
    "$TAP_REACTOR" --scenario "$experiment" -q -o "$work/report.json" >/dev/null 2>"$work/errors" || status=$?
    mv -f "$work/report.json" "$work/report" 2>/dev/null || rm -f "$work/report"
    printf '%-46s' "$(basename "$experiment")"
    # Storms and ramps are meant to overload.
    row $status || true
done
exit $failed

#!/usr/bin/env bash
# Measures the cost of the live line that shows a run on a terminal: the same run with and without it, in turns.
#
#   benches/display.sh [ROUNDS]      needs root, script (Debian's bsdutils), and a release build
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
program=${TAP_REACTOR:-target/release/tap-reactor}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run="$program --ping vm0:vm1 --window 1 --warmup 500ms --duration 3s --resolve static"
with=() without=()
for ((round = 0; round < rounds; round++)); do
    # The line is shown only if standard error is a terminal.
    script --quiet --return --command "$run -o $folder/with$round.json >/dev/null" /dev/null >"$folder/seen"
    grep -q 'received' "$folder/seen" || { echo "display.sh: no line was shown" >&2; exit 1; }
    $run -o "$folder/without$round.json" >/dev/null 2>&1
    with+=("$folder/with$round.json") without+=("$folder/without$round.json")
done
"$program" report "${without[@]}" --merge --json >"$folder/without.json"
"$program" report "${with[@]}" --merge --json >"$folder/with.json"
echo "without the line (before) and with it (after), $rounds runs of 3 s each"
"$program" report "$folder/without.json" "$folder/with.json" --compare | grep -E '^ |^rtt|^rate'

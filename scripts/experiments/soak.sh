#!/usr/bin/env bash
# Runs soak.toml, watched by Prometheus with the alert rules of soak/rules.yml: for ever, or for some seconds.
#
#   scripts/experiments/soak.sh [SECONDS [OPTION…]]      0 seconds: until Ctrl-C; options of tap-reactor, such as --join br0
#
# The lab's metrics are at 127.0.0.1:9477, Prometheus is at http://127.0.0.1:9090, its data in a temporary folder. Needs
# Debian's package prometheus. TAP_REACTOR names the program (default: target/release/tap-reactor). At its end it prints the
# report of the lab, the pings that Prometheus has counted, and the alerts that fire. Exit status: that of tap-reactor; 1 if a
# prerequisite is missing, the lab can't be scraped or an alert fires.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${TAP_REACTOR:-target/release/tap-reactor}
seconds=${1:-0}
shift $(($# > 0))
server=127.0.0.1:9090
fail() {
    printf 'soak.sh: %s\n' "$*" >&2
    exit 1
}
[[ $seconds =~ ^[0-9]+$ ]] || fail "$seconds: expected a number of seconds, 0 for no end"
[ -x "$program" ] || fail "$program is missing: cargo build --release"
for tool in prometheus:prometheus promtool:prometheus setsid:util-linux; do
    command -v "${tool%:*}" >/dev/null || fail "${tool%:*} is missing: apt-get install ${tool#*:}"
done

work=$(mktemp -d) started=()
# shellcheck disable=SC2317  # A trap calls it.
finish() {
    local process
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" || true
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' TERM

# ask QUERY: the values that it has now, one a line.
ask() {
    promtool query instant "http://$server" "$1" 2>/dev/null | sed 's/^.*=> \([^ ]*\) @.*/\1/'
}

# await QUERY SECONDS: waits until the query has a value.
await() {
    for ((tries = 0; tries < $2 * 5; tries++)); do
        [ -z "$(ask "$1")" ] || return 0
        kill -0 "${started[@]}" 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

# Ctrl-C at a terminal goes to a whole process group: Prometheus has one of its own, since it is asked after that.
setsid prometheus --config.file=scripts/experiments/soak/prometheus.yml --storage.tsdb.path="$work/data" \
    --web.listen-address="$server" --log.level=error &
started+=($!)
"$program" --scenario scripts/experiments/soak.toml --metrics 127.0.0.1:9477 "$@" >"$work/report" &
lab=$!
started+=("$lab")
await 'tap_reactor_pings_sent_total > 0' 30 || fail "Prometheus does not find pings of the lab"
printf 'soak.sh: the lab runs, Prometheus is at http://%s\n' "$server" >&2

# Ctrl-C ends the lab, which has got the signal, too, and the wait.
trap 'true' INT
if [ "$seconds" = 0 ]; then
    wait "$lab" || true
else
    sleep "$seconds" || true
fi
# Asked while the lab runs: what is known of it goes soon after it does.
printf 'Prometheus has counted %s pings\n' "$(ask 'sum(tap_reactor_pings_sent_total)')"
alerts=$(promtool query instant "http://$server" 'ALERTS{alertstate="firing", alertname!="LabGone"}') ||
    printf 'soak.sh: Prometheus does not answer, so alerts are not known\n' >&2
kill -INT "$lab" 2>/dev/null || true
status=0
wait "$lab" || status=$?
cat "$work/report"
[ -z "$alerts" ] || fail "alerts fire: $alerts"
exit "$status"

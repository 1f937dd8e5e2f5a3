#!/usr/bin/env bash
# Runs the fuzz targets of tests/fuzz one after another, and prints the number of inputs of each.
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]      600 seconds for each of parse, vm, dhcp, scenario, control and ranks
#
# The target dhcp compares our codecs of DHCP and DHCPv6 with another implementation.
#
# Needs cargo-fuzz (cargo install cargo-fuzz) and a C++ compiler. Uses the nightly toolchain if it is installed, else the
# default one with RUSTC_BOOTSTRAP. Failing inputs are saved in tests/fuzz/artifacts, and the last line of the output says
# how to reproduce them. Exit status 0: no failure; 1: a failure, or a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: expected a number of seconds, not '$seconds'" >&2; exit 1; }
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=(parse vm dhcp scenario control ranks)

cargo fuzz --version >/dev/null 2>&1 || {
    echo "fuzz.sh: cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2
    exit 1
}
fuzz=(cargo)
if cargo +nightly --version >/dev/null 2>&1; then
    fuzz+=(+nightly)
else
    export RUSTC_BOOTSTRAP=1
fi
# Assertions and overflow checks are on. AddressSanitizer is off: the code under test has no unsafe blocks.
for target in "${targets[@]}"; do
    "${fuzz[@]}" fuzz build --fuzz-dir tests/fuzz --sanitizer none --debug-assertions "$target"
done
# The same comparison as the target dhcp, without a fuzzer.
cargo test --quiet --manifest-path tests/fuzz/Cargo.toml --test second-opinion
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in "${targets[@]}"; do
    # New inputs are saved to the first folder; the seeds are only read.
    mkdir -p "tests/fuzz/corpus/$target"
    dictionary=()
    # A request may have 64 KiB.
    longest=8192
    [ "$target" != control ] || longest=70000
    [ ! -e "tests/fuzz/$target.dict" ] || dictionary=("-dict=tests/fuzz/$target.dict")
    "${fuzz[@]}" fuzz run --fuzz-dir tests/fuzz --sanitizer none --debug-assertions "$target" \
        "tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len="$longest" -print_final_stats=1 \
        "${dictionary[@]}" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        exit 1
    }
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    coverage=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    printf '%-10s %s inputs in %s s, %s edges reached, at most %s MiB, nothing found\n' \
        "$target" "$executed" "$seconds" "$coverage" "$memory"
done

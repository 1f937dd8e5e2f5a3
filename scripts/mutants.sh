#!/bin/sh
# Mutation testing of the code that computes the report: changes one place at a time and runs the library tests. A mutant
# that no test detects is a survivor. Not part of CI: a run takes an hour and tries a sample. Works on the last commit, in
# a worktree that it creates. Prints the survivors and the number of mutants tried. Exit status 1 if any survived.
#
#     scripts/mutants.sh [MINUTES [SEED [PATH...]]]
#
# MINUTES limits the run time (60). SEED selects the sample (default: today's date; equal seeds give equal samples). PATH
# limits the mutated files (default: all that compute the report).
set -eu
cd "$(dirname "$0")/.."

minutes=${1:-60}
seed=${2:-$(date +%Y%m%d)}
if [ $# -le 2 ]; then set --; else shift 2; fi
[ $# -gt 0 ] || set -- src/record src/report/expect src/report/merge.rs src/report/verdict.rs src/report/compare \
    src/hypervisor/frames.rs src/lab

command -v cargo-mutants >/dev/null || cargo install cargo-mutants --locked

files=$(git ls-files "$@" | grep '\.rs$' | grep -v tests | sed 's/^/--file=/')
house=$PWD
work=$(mktemp -d)
trap 'git -C "$house" worktree remove --force "$work/tree"; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/tree"
# The build is kept for the next run, and has no debug information.
export CARGO_TARGET_DIR="$house/target/mutants" CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 RUST_BACKTRACE=0
cd "$work/tree"
# The tests that judge the mutants; they must pass on the unchanged code.
tests="report:: record:: lab:: hypervisor:: sim::"
# shellcheck disable=SC2086 # One word a module.
cargo test --quiet --lib -- $tests >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

# About two mutants a minute are tried: every step-th, beginning at an offset drawn by the seed.
# shellcheck disable=SC2086 # One word a file.
all=$(cargo mutants --list $files | wc -l)
step=$((all / (minutes * 2) + 1))
echo "mutants.sh: one of $step of $all mutants, seed $seed, at most $minutes minutes"
# shellcheck disable=SC2086
timeout --signal=INT "${minutes}m" cargo mutants --in-place --baseline=skip --sharding round-robin \
    --shard "$((seed % step))/$step" --timeout 300 --output "$work" $files -- --lib -- $tests || true

cd "$work/mutants.out"
echo "mutants.sh: $(cat caught.txt unviable.txt missed.txt timeout.txt | wc -l) tried; survivors:"
cat missed.txt timeout.txt
[ ! -s missed.txt ] && [ ! -s timeout.txt ]

#!/bin/sh
# Changes what computes the report, one place at a time, and looks whether a library test notices. A survivor is a line that no
# test holds. Not part of CI: a run takes an hour and tries a sample. Works on the last commit, in a worktree of its own; ends
# with the survivors and how many were tried, and with status 1 if any survived.
#
#     scripts/mutants.sh [MINUTES [SEED [PATH...]]]
#
# MINUTES is how long it may take (60), SEED says which sample is taken (today's date; the same seed, the same sample), PATH
# what is changed (all that computes what is reported).
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
# What is built stays for the next time. Nobody looks at a mutant with a debugger.
export CARGO_TARGET_DIR="$house/target/mutants" CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 RUST_BACKTRACE=0
cd "$work/tree"
# Mutants are judged by these; they must pass without one.
tests="report:: record:: lab:: hypervisor:: sim::"
# shellcheck disable=SC2086 # One word a module.
cargo test --quiet --lib -- $tests >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

# About two mutants a minute are tried: every so-many-th, from a place that the seed says.
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

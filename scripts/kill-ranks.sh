#!/usr/bin/env bash
# Kills one of two ranks at random moments, in a namespace of their own and in the caller's, in one lab and in two that a VXLAN or a
# cable connects, and checks each time that the other ends with status 1 and that nothing is left behind: processes, bridges,
# TAPs, ends of a VXLAN, ports on an interface.
#
#   scripts/kill-ranks.sh [KILLS]      50 by default; needs root
set -euo pipefail
cd "$(dirname "$0")/.."
export TAP_REACTOR_KILLS=${1:-50}
[[ $TAP_REACTOR_KILLS =~ ^[1-9][0-9]*$ ]] || { echo "kill-ranks.sh: $1: expected a number, 1 or more" >&2; exit 2; }
cargo test --locked --test e2e -- --exact \
    ranks::a_rank_that_is_killed_at_any_moment_ends_the_others_and_leaves_nothing \
    underlay::a_rank_of_connected_labs_that_is_killed_at_any_moment_ends_the_other_and_leaves_nothing

#!/usr/bin/env bash
# Kills runs at random moments while they move VMs, in a namespace of their own and in the caller's, and checks each time that
# tap-reactor clean leaves nothing behind: namespaces, their names, bridges, TAPs.
#
#   scripts/kill-moves.sh [KILLS]      100 by default; needs root
set -euo pipefail
cd "$(dirname "$0")/.."
export TAP_REACTOR_KILLS=${1:-100}
[[ $TAP_REACTOR_KILLS =~ ^[1-9][0-9]*$ ]] || { echo "kill-moves.sh: $1: expected a number, 1 or more" >&2; exit 2; }
cargo test --locked --test system_clean -- --exact \
    wherever_a_run_is_killed_in_a_move_cleaning_removes_what_it_had_made

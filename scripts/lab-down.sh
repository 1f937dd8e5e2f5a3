#!/usr/bin/env bash
# Removes the lab that scripts/lab-up.sh created: the links that carry its mark, and no others.
#
#   scripts/lab-down.sh               the lab on br0
#   BRIDGE=lab scripts/lab-down.sh    the lab on another bridge
set -euo pipefail

[ $# = 0 ] || { printf "lab-down.sh: expected no arguments, not '%s'\n" "$*" >&2; exit 2; }

BRIDGE=${BRIDGE:-br0}
MARK="tap-reactor lab $BRIDGE"

# One link a line: "7: tap0: <...> ... \    link/ether ... \    alias tap-reactor lab br0".
marked() {
    ip -oneline link show | awk -v mark="$MARK" 'BEGIN { FS = "\\\\" } {
        for (i = 2; i <= NF; i++) {
            field = $i
            gsub(/^ +| +$/, "", field)
            if (field == "alias " mark) {
                split($1, part, ": ")
                sub(/@.*/, "", part[2])
                print part[2]
            }
        }
    }'
}

links=$(marked)
if [ -z "$links" ]; then
    printf 'lab-down: no link here carries the mark "%s"; nothing to do\n' "$MARK" >&2
    exit 1
fi
for link in $links; do
    printf '+ ip link delete dev %s\n' "$link"
    ip link delete dev "$link"
done

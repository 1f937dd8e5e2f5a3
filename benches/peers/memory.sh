# shellcheck shell=bash
# What endpoints take that do nothing but wait for somebody to ask. Sourced by benches/peers.sh, after lab.sh.
# shellcheck disable=SC2154

# kernel_memory: what the kernel holds for devices, sockets and threads, in KiB.
kernel_memory() {
    awk '/^(SUnreclaim|KernelStack|PageTables|Percpu):/ { sum += $2 } END { print sum }' /proc/meminfo
}

# settled: the same, as soon as it stands still between two of at most $patience looks, half a second apart.
settled() {
    local before now i
    now=$(kernel_memory)
    for ((i = 1; i < patience; i++)); do
        sleep 0.5
        before=$now
        now=$(kernel_memory)
        ((now - before > 200 || before - now > 200)) || break
    done
    echo "$now"
}

# answers NUMBER: waits until that endpoint does.
answers() {
    local i
    for ((i = 0; i < 60; i++)); do
        ! ping -q -n -c 1 -W 1 "$(address "$1")" >"$work/seen" 2>&1 || return 0
    done
    fail "endpoint $1 does not answer"
}

# served PEER ENDPOINTS: resident memory of the process that does them, and what the kernel holds for that; in KiB.
served() {
    local before process resident held
    before=$(settled)
    case $1 in
        tap-reactor) "$TAP_REACTOR" --quiet --netns host --attach --vms "$2" & ;;
        threads) "$work/threads" $(($2 / 2)) 1 0 & ;;
        smoltcp) "$PEER_SMOLTCP" $(($2 / 2)) 1 0 & ;;
    esac
    process=$!
    answers 0
    answers $(($2 - 1))
    resident=$(awk '/^Rss:/ { print $2 }' "/proc/$process/smaps_rollup")
    held=$(($(settled) - before))
    kill "$process"
    wait "$process" 2>/dev/null || true
    # Last: whoever reads this starts the next one, on the same TAPs.
    echo "$resident $held"
}

# measure_memory FROM TO: adds TAPs and kernels to those that there are, and puts down what an endpoint takes, in KiB.
measure_memory() {
    local before tap peer few resident held
    before=$(settled)
    taps "$1" "$2"
    tap=$(awk "BEGIN { print ($(settled) - $before) / ($2 - $1) }")
    # The namespace of this script can then reach those on br0.
    ip address add 10.77.0.1/16 dev br0
    for peer in tap-reactor threads smoltcp; do
        read -r few _ < <(served "$peer" 2)
        read -r resident held < <(served "$peer" "$2")
        figure memory "$peer" process "$(awk "BEGIN { print ($resident - $few) / ($2 - 2) }")"
        figure memory "$peer" kernel "$(awk "BEGIN { print $tap + $held / $2 }")"
    done
    before=$(settled)
    stations "$1" "$2"
    in_station 0 ping -q -n -c 1 "$(address $(($2 - 1)))" >"$work/seen" || fail "endpoint $(($2 - 1)) does not answer"
    figure memory ping process 0
    figure memory ping kernel "$(awk "BEGIN { print ($(settled) - $before) / ($2 - $1) }")"
}

# shellcheck shell=bash
# Measures the memory of idle endpoints. Sourced by benches/peers.sh, after lab.sh.
# shellcheck disable=SC2154

# kernel_memory: prints the kernel's memory for devices, sockets and threads, in KiB.
kernel_memory() {
    awk '/^(SUnreclaim|KernelStack|PageTables|Percpu):/ { sum += $2 } END { print sum }' /proc/meminfo
}

# settled: prints the same once two readings, half a second apart, are equal; after $patience readings at the latest.
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

# answers NUMBER: waits until endpoint NUMBER answers a ping.
answers() {
    local i
    for ((i = 0; i < 60; i++)); do
        ! ping -q -n -c 1 -W 1 "$(address "$1")" >"$work/seen" 2>&1 || return 0
    done
    fail "endpoint $1 does not answer"
}

# served PEER ENDPOINTS: prints the resident memory of the peer's process and the kernel memory that it causes, in KiB.
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
    # Printed last, because the reader then starts the next peer on the same TAPs.
    echo "$resident $held"
}

# measure_memory FROM TO: adds TAPs and stations, and records the memory per endpoint, in KiB.
measure_memory() {
    local before tap peer few resident held
    before=$(settled)
    taps "$1" "$2"
    tap=$(awk "BEGIN { print ($(settled) - $before) / ($2 - $1) }")
    # With this address the script can ping the endpoints on br0.
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

# shellcheck shell=bash
# Runs and measures the peers of benches/peers.sh. Sourced by it, after lab.sh.
# shellcheck disable=SC2154

# busy: prints the busy time of all processors together, in milliseconds, without idle, iowait and steal (proc_stat(5)).
busy() {
    awk -v tick="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8) * 1000 / tick; exit }' /proc/stat
}

# run PEER PAIRS WINDOW COUNT: sends COUNT pings in each of PAIRS pairs, WINDOW of them outstanding.
run() {
    case $1 in
        tap-reactor)
            "$TAP_REACTOR" --netns host --attach --vms $((2 * $2)) --ping pairs --window "$3" --count "$4" \
                --resolve static --json >"$work/told"
            ;;
        threads) "$work/threads" "${@:2}" >"$work/told" ;;
        smoltcp) "$PEER_SMOLTCP" "${@:2}" >"$work/told" ;;
        # -f sends the next ping as soon as a reply has arrived.
        ping) run_pings "${@:2}" -f -q && cat "$work"/ping.* >"$work/told" ;;
        fping) run_fping "$2" "$4" ;;
    esac
}

# run_pings PAIRS WINDOW COUNT FLAG…: runs a ping(8) for each pair, all started at once. With -U a round trip ends when the
# reply is read, as for the other peers, not when it arrives in the kernel.
run_pings() {
    local pair gate processes=()
    rm -f "$work"/ping.* "$work/gate"
    mkfifo "$work/gate"
    for ((pair = 0; pair < $1; pair++)); do
        {
            # Waits for the other end to be open.
            : <"$work/gate"
            in_station $((2 * pair)) ping -U -n -l "$2" -c "$3" "${@:4}" "$(address $((2 * pair + 1)))" \
                >"$work/ping.$pair"
        } &
        processes+=($!)
    done
    exec {gate}>"$work/gate"
    wait "${processes[@]}"
    exec {gate}>&-
}

# run_fping TARGETS COUNT: runs one fping, with a ping every 10 µs or as fast as it can, independent of replies.
run_fping() {
    local target
    for ((target = 0; target < $1; target++)); do
        address $((2 * target + 1))
        echo
    done >"$work/targets"
    # Its exit status reports lost pings, which are counted from its output.
    in_station 0 fping -q -C "$2" -p 0.01 -i 0.01 -t 1000 -f "$work/targets" 2>"$work/told" || ! grep '^fping error' "$work/told" >&2
}

# result PEER PAIRS SECONDS: prints the result of the last run, which took SECONDS: pings/s, mean and 99th percentile of the
# round trips in microseconds, pings without a reply.
result() {
    case $1 in
        tap-reactor)
            awk -F '[:,]' '
                /"rate_per_s"/ && rate == "" { rate = $2 }
                /"lost"/ && lost == "" { lost = $2 }
                /"rtt_ns"/ { wanted = !seen++ }
                /"mean"/ && wanted { mean = $2 / 1000 }
                /"p99"/ && wanted { p99 = $2 / 1000; wanted = 0 }
                END { print rate, mean, p99, lost + 0 }' "$work/told"
            ;;
        threads | smoltcp) printf '%s 0\n' "$(<"$work/told")" ;;
        ping)
            # 30000 packets transmitted, 29999 received, 0.00333333% packet loss, time 430ms
            # rtt min/avg/max/mdev = 0.008/0.013/5.491/0.137 ms, pipe 64, ipg/ewma 0.014/0.010 ms
            awk -F '[ /]' -v pairs="$2" '
                /packets transmitted/ { sent += $1; received += $4; if ($NF + 0 > last) last = $NF + 0 }
                /^rtt / { mean += $8 * 1000 / pairs }
                END { print received * 1000 / (last > 0 ? last : 1), mean, "-", sent - received }' "$work/told"
            ;;
        fping)
            # 10.77.0.3 : 0.009 0.008 - 0.007
            tr ' ' '\n' <"$work/told" | awk -v seconds="$3" '
                $1 == "-" { lost++ }
                /^[0-9]+\.[0-9]+$/ { sum += $1; received++; print | "sort -n >" sorted }
                END { print received / seconds, sum * 1000 / received, "-", lost + 0 }' sorted="$work/sorted"
            ;;
    esac
}

# percentile_99: of sorted milliseconds, a line each; in microseconds.
percentile_99() {
    awk '{ value[NR] = $1 } END { print value[int(NR * 0.99 + 0.5)] * 1000 }'
}

# p99 PEER PAIRS WINDOW COUNT: for those whose results have none.
p99() {
    case $1 in
        # ping prints no single round trips while it floods. It nearly does with -i 0, and prints each.
        ping)
            run_pings "${@:2}" -i 0
            sed -n 's/.* time=\([0-9.]*\) ms.*/\1/p' "$work"/ping.* | sort -n | percentile_99
            ;;
        fping) percentile_99 <"$work/sorted" ;;
    esac
}

# timed COMMAND…: prints the wall-clock time and the CPU time (user and system) of COMMAND and its children, in seconds.
timed() {
    local TIMEFORMAT='%3R %3U %3S'
    { time "$@" 2>"$work/complaint"; } 2>"$work/time" || fail "$*: $(cat "$work/complaint")"
    awk '{ print $1, $2 + $3 }' "$work/time"
}

# figure WORK PEER NAME VALUE: records a figure for the table.
figure() {
    printf '%s\t%s\t%s\t%s\n' "$@" >>"$work/figures"
}

# measure PEER PAIRS WINDOW: runs a peer with few pings and with all of them. The CPU time is the difference, so it is that
# of the pings alone.
measure() {
    local each=$((pings / $2)) busy=() seconds few cpu rate mean p99 lost
    busy+=("$(busy)")
    read -r seconds few < <(timed run "$@" "$3")
    busy+=("$(busy)")
    read -r seconds cpu < <(timed run "$@" "$each")
    busy+=("$(busy)")
    read -r rate mean p99 lost < <(result "$1" "$2" "$seconds")
    [ "$p99" != - ] || p99=$(p99 "$@" "$each")
    figure "$2 $3" "$1" rate "$rate"
    figure "$2 $3" "$1" mean "$mean"
    figure "$2 $3" "$1" p99 "$p99"
    figure "$2 $3" "$1" lost "$lost"
    figure "$2 $3" "$1" cpu "$(awk "BEGIN { print ($cpu - $few) * 1e6 / ($2 * ($each - $3)) }")"
    figure "$2 $3" "$1" busy "$(awk "BEGIN { print (${busy[2]} - 2 * ${busy[1]} + ${busy[0]}) * 1e3 / ($2 * ($each - $3)) }")"
}

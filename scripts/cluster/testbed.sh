# shellcheck shell=bash
# Two hosts on this machine, for the tests of launchers: sourced by test-slurm.sh and test-ssh.sh, which run in namespaces of their
# own (network, mounts, host name, processes) and leave nothing.
#
# node1 (192.0.2.1) and node2 (192.0.2.2) are network namespaces at a bridge of the one that the test is in, which has 192.0.2.9: a
# launcher's daemons need an address that is not loopback, or getaddrinfo(3) finds them none (AI_ADDRCONFIG). Names are found by
# /etc/hosts. $work is an empty folder; $secret a file with a secret.

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Enters the namespaces: calls the script once more in them.
if [ -z "${TESTBED:-}" ]; then
    [ "$(id -u)" = 0 ] || fail "expected to be run as root"
    if [ -z "${TAP_REACTOR:-}" ]; then
        cargo build --release --locked
        TAP_REACTOR=$PWD/target/release/tap-reactor
    fi
    TAP_REACTOR=$(realpath "$TAP_REACTOR")
    export TESTBED=1 TAP_REACTOR
    exec unshare --net --mount --uts --pid --fork --mount-proc --kill-child -- "$0" "$@"
fi

# Asks until a command succeeds, for half a minute.
wait_for() {
    local what=$1 i
    shift
    for ((i = 0; i < 300; i++)); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    fail "waited in vain for $what"
}

mount -t tmpfs tmpfs /run
work=/run/testbed
mkdir -p $work /run/sshd /run/munge /run/netns
chmod 755 $work
hostname manager
secret=$work/secret
(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >$secret)
printf '%s\n' '127.0.0.1 localhost' '192.0.2.9 manager' '192.0.2.1 node1' '192.0.2.2 node2' >$work/hosts
mount --bind $work/hosts /etc/hosts

ip link set lo up
ip link add lan type bridge
ip address add 192.0.2.9/24 dev lan
ip link set lan up
for number in 1 2; do
    ip netns add node$number
    ip -n node$number link set lo up
    ip link add port$number type veth peer name eth0 netns node$number
    ip link set port$number master lan up
    ip -n node$number address add 192.0.2.$number/24 dev eth0
    ip -n node$number link set eth0 up
done

# What runs in a node: without 'ip netns exec', which hides the mounts of this test.
on_node() {
    nsenter --net="/run/netns/node$1" -- "${@:2}"
}

# The process that is a rank, which is in the namespace of its lab: as its launcher has told it, or its command line.
process_of() {
    local exe folder
    for exe in /proc/[0-9]*/exe; do
        folder=${exe%/exe}
        [ "$(readlink "$exe")" = "$TAP_REACTOR" ] || continue
        if tr '\0' '\n' <"$folder/environ" | grep -qxE "(SLURM_PROCID|PMI_RANK)=$1" ||
            tr '\0' '\n' <"$folder/cmdline" | grep -qx "$1/2"; then
            echo "${folder#/proc/}"
        fi
    done 2>/dev/null
}

# shellcheck disable=SC2016 # They are awk's.
packets() { on_node 1 awk '/eth0:/ { print $3 }' /proc/net/dev; }

# Kills rank 1 once both ranks ping; $1 is the number of packets before they began.
kill_rank_1() {
    wait_for 'pings of both ranks' are_pinging "$1"
    kill -KILL "$(process_of 1)"
}
are_pinging() { [ "$(packets)" -gt "$(($1 + 1000))" ]; }
has_no_ranks() { [ -z "$(process_of 0)$(process_of 1)" ]; }

# Checks that nothing of a lab is left in the nodes.
check_empty() {
    local number
    for number in 1 2; do
        wait_for "node$number to be empty" has_only_eth0 $number
    done
}
has_only_eth0() { [ "$(ip -n "node$1" -brief link show | awk '{ print $1 }' | sed 's/@.*//' | paste -sd' ')" = 'lo eth0' ]; }

# Checks a report: the number of answered pings, that none was lost, and that each of two ranks has a row.
check_report() {
    jq -e --argjson pings "$2" '.totals.received == $pings and .totals.lost == 0 and [.ranks[].rank] == [0, 1]' "$1" >/dev/null ||
        fail "$1: $(jq -c '{totals, ranks}' "$1"); expected $2 answered pings of ranks 0 and 1"
}

# The experiment: 2 ranks with 50 VMs each. Every flow of vmI to vm(I + 50) crosses.
# shellcheck disable=SC2034 # Of the scripts that source this one.
words=(--vms 100 --ping 'vm[0-49]:vm[50-99]' --interval 10ms --json)

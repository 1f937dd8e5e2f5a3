#!/usr/bin/env bash
# Tests scripts/cluster/mpi.sh with MPICH's hydra, and scripts/cluster/parallel.sh with GNU parallel, over a real sshd in each of
# two network namespaces as on hosts of their own. Two ranks of 50 VMs ping each other across a VXLAN and make one report; then one of
# them is killed, and the other ends and names the rank that is gone.
#
#   scripts/cluster/test-ssh.sh      root, Debian's mpich, parallel, openssh-server and jq; leaves nothing
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first).
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/cluster/testbed.sh
. scripts/cluster/testbed.sh
for tool in mpirun.mpich:mpich parallel:parallel ssh:openssh-client jq:jq; do
    command -v "${tool%:*}" >/dev/null || fail "${tool%:*} is missing: apt-get install ${tool#*:}"
done
[ -x /usr/sbin/sshd ] || fail "sshd is missing: apt-get install openssh-server"

mkdir -p $work/ssh
ssh-keygen -q -t ed25519 -N '' -f $work/ssh/host
ssh-keygen -q -t ed25519 -N '' -f $work/ssh/user
cp $work/ssh/user.pub $work/ssh/authorized
cat >$work/ssh/server <<CONF
HostKey $work/ssh/host
AuthorizedKeysFile $work/ssh/authorized
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
CONF
cat >$work/ssh/client <<CONF
IdentityFile $work/ssh/user
UserKnownHostsFile $work/ssh/known
StrictHostKeyChecking accept-new
LogLevel ERROR
BatchMode yes
CONF
# For hydra, which calls a program of one word.
printf '#!/bin/sh\nexec ssh -F %s "$@"\n' $work/ssh/client >$work/ssh/ssh
chmod 755 $work/ssh/ssh
for number in 1 2; do
    on_node $number /usr/sbin/sshd -f $work/ssh/server -o "ListenAddress=192.0.2.$number" -o "PidFile=$work/ssh/pid$number"
done
answers() { $work/ssh/ssh node1 true 2>/dev/null && $work/ssh/ssh node2 true 2>/dev/null; }
wait_for 'sshd in both nodes' answers

export SECRET=$secret SSH=$work/ssh/ssh
export MPIRUN="mpirun.mpich -launcher ssh -launcher-exec $work/ssh/ssh"
for launcher in mpi parallel; do
    out=$work/$launcher
    scripts/cluster/$launcher.sh node1,node2 "${words[@]}" --count 100 >"$out.json" 2>"$out.err" ||
        fail "$launcher: status $?: $(cat "$out.err")"
    check_report "$out.json" 5000
    check_empty
    echo "2 ranks by $launcher.sh: $(jq -c '[.ranks[] | {rank, host, rate_per_s}]' "$out.json")"

    before=$(packets)
    scripts/cluster/$launcher.sh node1,node2 "${words[@]}" --duration 60s >"$out.killed" 2>"$out.err" &
    run=$!
    kill_rank_1 "$before"
    ! wait $run || fail "$launcher: expected another status than 0"
    wait_for 'the ranks to end' has_no_ranks
    check_empty
    # hydra ends the others itself.
    if [ $launcher = parallel ]; then
        grep -q 'rank 1 on .* is gone in the run' "$out.err" || fail "expected rank 1 to be named: $(cat "$out.err")"
    fi
    echo "a rank of $launcher.sh is killed: $(grep -m1 -E 'is gone|KILLED|EXIT CODE' "$out.err" "$out.killed" || true)"
done

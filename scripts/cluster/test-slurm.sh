#!/usr/bin/env bash
# Tests scripts/cluster/slurm.sbatch on a real Slurm: munge, slurmctld and two slurmd, each of which is in a network namespace as
# on a host of its own. Two ranks of 50 VMs ping each other across a VXLAN and make one report; then one of them is killed, and the
# other ends, keeps what it has measured and names the rank that is gone.
#
#   scripts/cluster/test-slurm.sh      root, Debian's slurm-wlm, munge and jq; leaves nothing
#
# TAP_REACTOR names the program (default: target/release/tap-reactor, which is built first).
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/cluster/testbed.sh
. scripts/cluster/testbed.sh
for tool in slurmctld:slurm-wlm slurmd:slurm-wlm sbatch:slurm-wlm munged:munge jq:jq; do
    command -v "${tool%:*}" >/dev/null || fail "${tool%:*} is missing: apt-get install ${tool#*:}"
done

mkdir -p $work/munge $work/state $work/node1 $work/node2
(umask 077 && head -c 128 /dev/urandom >$work/munge/key)
munge=$work/munge/socket
munged --force --key-file=$work/munge/key --socket=$munge --pid-file=$work/munge/pid --log-file=$work/munge/log \
    --seed-file=$work/munge/seed
cat >$work/slurm.conf <<CONF
ClusterName=test
SlurmctldHost=manager(192.0.2.9)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/%n/slurmd.log
NodeName=node1 NodeHostname=manager NodeAddr=192.0.2.1 Port=17001 CPUs=1
NodeName=node2 NodeHostname=manager NodeAddr=192.0.2.2 Port=17002 CPUs=1
PartitionName=all Nodes=ALL Default=YES MaxTime=10 State=UP
CONF
export SLURM_CONF=$work/slurm.conf
slurmctld
for number in 1 2; do
    on_node $number slurmd -N node$number
done
are_idle() { [ "$(sinfo -h -N -o %t 2>/dev/null | grep -c '^idle$')" = 2 ]; }
wait_for 'two idle nodes' are_idle

export SECRET=$secret
submit() {
    sbatch --parsable --nodes 2 --chdir "$PWD" --output "$work/$1.out" --error "$work/$1.err" scripts/cluster/slurm.sbatch \
        "${words[@]}" "${@:2}"
}
state() { scontrol show job "$1" -o | grep -o 'JobState=[A-Z_]*' | cut -d= -f2; }
has_ended() { case $(state "$1") in PENDING | CONFIGURING | RUNNING | COMPLETING) false ;; esac; }

job=$(submit whole --count 100)
wait_for "job $job to end" has_ended "$job"
[ "$(state "$job")" = COMPLETED ] || fail "job $job: $(state "$job"): $(cat $work/whole.err $work/whole.out)"
check_report $work/whole.out 5000
check_empty
echo "2 ranks by Slurm: $(jq -c '[.ranks[] | {rank, host, rate_per_s}]' $work/whole.out)"

before=$(packets)
# srun drops the end of what a step prints that fails.
job=$(submit killed --duration 60s -o $work/killed.json)
kill_rank_1 "$before"
wait_for "job $job to end" has_ended "$job"
[ "$(state "$job")" = FAILED ] || fail "job $job: $(state "$job"); expected FAILED"
grep -q 'rank 1 on .* is gone in the run' $work/killed.err || fail "expected rank 1 to be named: $(cat $work/killed.err)"
jq -e '.totals.received > 100 and [.ranks[].rank] == [0]' $work/killed.json >/dev/null ||
    fail "expected the report of rank 0: $(jq -c '{totals, ranks}' $work/killed.json)"
wait_for 'the ranks to end' has_no_ranks
check_empty
echo "a rank is killed: $(grep -m1 'is gone' $work/killed.err)"

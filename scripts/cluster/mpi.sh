#!/bin/sh
# A rank on each of several hosts, started by MPICH's hydra or by Open MPI; MPI itself is not used:
#
#   openssl rand -hex 32 > secret; chmod 600 secret
#   scripts/cluster/mpi.sh node1,node2 --vms 2000 --ping ring --interval 10ms --duration 30s -o report.json
#
# The hosts are reached as mpirun reaches them (by ssh), and have the program and the secret at the same places. The words behind
# the hosts are those of tap-reactor. Ranks meet at the first host.
#
# TAP_REACTOR names the program, MPIRUN the launcher and its own options, SECRET the file that has the secret, VNI the number of
# the VXLAN.
set -eu
hosts=${1:?expected hosts with commas between them}
shift
# shellcheck disable=SC2086 # MPIRUN has several words.
set -- ${MPIRUN:-mpirun} --host "$hosts" -n "$(echo "$hosts" | tr , '\n' | wc -l)" "${TAP_REACTOR:-tap-reactor}" \
    --rank auto --meet "${hosts%%,*}:7877" --meet-secret-file "${SECRET:-secret}" \
    --underlay "vxlan:${VNI:-4242},$hosts" "$@"
exec "$@"

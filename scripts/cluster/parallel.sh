#!/bin/sh
# A rank on each of several hosts, started by GNU parallel over ssh:
#
#   openssl rand -hex 32 > /root/secret; chmod 600 /root/secret
#   scripts/cluster/parallel.sh node1,node2 --vms 2000 --ping ring --interval 10ms --duration 30s -o report.json
#
# The hosts are reached by 'ssh HOST', as root, and have the program and the secret at the same places. The words behind the hosts
# are those of tap-reactor; what rank 0 writes is on the first host. Ranks meet there.
#
# TAP_REACTOR names the program, SECRET the file that has the secret, VNI the number of the VXLAN, SSH another command than ssh.
set -eu
hosts=${1:?expected hosts with commas between them}
shift
number=$(echo "$hosts" | tr , '\n' | wc -l)
set -- "${TAP_REACTOR:-tap-reactor}" --meet "${hosts%%,*}:7877" --meet-secret-file "${SECRET:-/root/secret}" \
    --underlay "vxlan:${VNI:-4242},$hosts" "$@"
quoted() { parallel --plain --jobs 1 --shellquote ::: "$@" | paste -sd' '; }
# Once for the shell at the other end, and once more for the one here.
command=$(quoted "$(quoted "$@")")
# Job N of N hosts is rank N - 1. Lines are printed as they come, and jobs that fail stop no others: those end by themselves.
echo "$hosts" | tr , '\n' | awk '{ print NR - 1 "\t" $1 }' |
    parallel --plain --will-cite --jobs 0 --line-buffer --halt never --colsep '\t' \
        "${SSH:-ssh} {2} $command --rank {1}/$number"

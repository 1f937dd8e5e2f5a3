#!/usr/bin/env bash
# Runs the same load on three switches: the Linux bridge, XDP, and Open vSwitch's userspace datapath. Writes a report of
# each and one HTML page that compares them.
#
#   scripts/experiments/switch-gallery.sh FOLDER [OPTION…]
#
# FOLDER receives bridge.json, xdp.json, ovs.json and gallery.html. OPTION… are options of tap-reactor that replace
# --window 64 (the pings are always vm0:vm1, --warmup 1s --duration 8s). With --window 1, one ping at a time is under way,
# which shows the latency of each switch at rest.
#
# Open vSwitch runs in a network namespace and a temporary folder of its own. An Open vSwitch of this machine is neither
# used nor changed, and both daemons end with the script.
#
# Needs root, and Debian's package openvswitch-switch: apt-get install openvswitch-switch, which starts a service. Without
# a service: apt-get download openvswitch-switch openvswitch-common and the libraries that are missing, unpack each with
# dpkg -x PACKAGE.deb ROOT, and set OVS_ROOT=ROOT. TAP_REACTOR names the program (default: target/release/tap-reactor).
# Exit status: 0; 1 if pings were lost or a prerequisite is missing.
set -euo pipefail

fail() {
    printf 'switch-gallery.sh: %s\n' "$*" >&2
    exit 1
}
[ $# -gt 0 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 1; }
folder=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- --window 64
cd "$(dirname "$0")/../.."

program=$(realpath -m "${TAP_REACTOR:-target/release/tap-reactor}")
root=${OVS_ROOT:+$(realpath -m "$OVS_ROOT")}
share=$root/usr/share/openvswitch
export PATH="$root/usr/bin:$root/usr/sbin:$root/usr/lib/openvswitch-switch:/usr/sbin:$PATH"
[ "$(id -u)" = 0 ] || fail "XDP and network namespaces need root"
[ -x "$program" ] || fail "$program is missing: cargo build --release"
for tool in ovs-vswitchd ovsdb-server ovsdb-tool ovs-vsctl; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install openvswitch-switch (or see OVS_ROOT above)"
done
[ -r "$share/vswitch.ovsschema" ] || fail "$share/vswitch.ovsschema is missing: apt-get install openvswitch-switch"
if [ -n "$root" ]; then
    libraries=$root/usr/lib/$(uname -m)-linux-gnu
    export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi

work=$(mktemp -d)
namespace=switch-gallery-$$ daemons=()
# shellcheck disable=SC2317  # A trap calls it.
finish() {
    for daemon in "${daemons[@]}"; do
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    done
    ip netns del "$namespace" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
mkdir -p "$folder"

export OVS_RUNDIR=$work OVS_LOGDIR=$work OVS_DBDIR=$work OVS_SYSCONFDIR=$work OVS_PKGDATADIR=$share
socket=unix:$work/db.sock
start() {
    ip netns exec "$namespace" "$@" >"$work/$1.log" 2>&1 &
    daemons+=($!)
}
start_switch() {
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    ovsdb-tool create "$work/conf.db" "$share/vswitch.ovsschema"
    start ovsdb-server "$work/conf.db" --remote="p$socket"
    # Both commands of ovs-vsctl wait: the first for the database, the second until the switch has made the bridge.
    ovs-vsctl --db="$socket" --retry --timeout=10 --no-wait init
    start ovs-vswitchd "$socket"
    ovs-vsctl --db="$socket" --timeout=10 add-br gallery -- set bridge gallery datapath_type=netdev
}

cat >"$work/ports" <<'EOF'
#!/bin/sh
# The hook: adds the TAPs to the switch, or removes them.
for tap in $TAP_REACTOR_TAPS; do
    case $TAP_REACTOR_EVENT in
    up) ovs-vsctl --db="$GALLERY" --timeout=10 add-port gallery "$tap" ;;
    down) ovs-vsctl --db="$GALLERY" --timeout=10 del-port gallery "$tap" ;;
    esac || exit 1
done
EOF
chmod +x "$work/ports"

cd "$folder"
failed=0
# run NAME OPTION…: the load on one switch. With status 1 pings were lost; the report says which.
run() {
    name=$1
    shift
    echo "switch-gallery.sh: $name"
    "$program" --vms 2 --ping vm0:vm1 --warmup 1s --duration 8s --quiet -o "$name.json" "$@" || {
        [ $? = 1 ] || fail "the run on $name failed"
        failed=1
    }
}
run bridge --fabric bridge "$@"
run xdp --fabric xdp "$@"
start_switch || {
    tail -n 5 "$work"/*.log >&2
    fail "Open vSwitch did not make a bridge"
}
GALLERY=$socket run ovs --fabric none --netns "$namespace" --hook "$work/ports" "$@"

"$program" report bridge.json xdp.json ovs.json --compare
"$program" report bridge.json xdp.json ovs.json --compare --quiet -o gallery.html
echo "switch-gallery.sh: wrote $folder/gallery.html"
exit $failed

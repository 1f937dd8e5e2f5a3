#!/usr/bin/env bash
# The one command that proves everything: formatting, lints, documentation, build, and every test,
# the end-to-end ones included. Stops at the first thing that is wrong.
#
#   scripts/test.sh            needs root, because the end-to-end tests make network namespaces
#
# Installs the Debian packages that the tests call, if some are missing and it may (root and apt-get).
set -euo pipefail
cd "$(dirname "$0")/.."

# What the tests call, by package:
#   iproute2         ip, bridge          the lab, and the kernel's own view of it
#   iputils-ping     ping                the kernel's stack talks to the VMs
#   iputils-arping   arping              address resolution, seen from outside
#   fping            fping               many VMs at once
#   ndisc6           ndisc6              the same over IPv6
#   radvd            radvd               a router that gives addresses
#   dnsmasq-base     dnsmasq             addresses by DHCP
#   procps           sysctl              routers and other kernels
#   tcpdump          tcpdump             what really crossed a TAP
#   util-linux       unshare, setpriv, prlimit, nsenter   a world with fewer rights
#   mount            mount               a world without /dev/net/tun
#   chromium         chromium            report pages, opened and looked at
#   fonts-dejavu-core                    letters to write them with
#   python3-venv     python3             reports read back by another implementation of HdrHistogram
#   valgrind         valgrind            how many instructions a ping takes
#   g++              g++                 a lab of threads, to compare with
#   arp-scan nmap hping3 thc-ipv6 traceroute mtr-tiny python3-scapy   VM and kernel put to the same checks
#   busybox ethtool                      a DHCP client, and a cable as it is
#   (shellcheck)     shellcheck          the scripts themselves
packages=(iproute2 iputils-ping iputils-arping fping ndisc6 radvd dnsmasq-base procps tcpdump util-linux mount
    arp-scan nmap hping3 thc-ipv6 traceroute mtr-tiny python3-scapy busybox ethtool
    chromium fonts-dejavu-core python3-venv valgrind g++ shellcheck)
commands=(ip bridge ping arping fping ndisc6 radvd dnsmasq sysctl tcpdump unshare setpriv prlimit nsenter mount
    arp-scan nmap nping hping3 atk6-implementation6 traceroute mtr busybox ethtool chromium python3 valgrind g++ shellcheck)

fail() {
    printf 'scripts/test.sh: %s\n' "$*" >&2
    exit 1
}

step() {
    printf '\n==> %s\n' "$*"
    "$@"
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            printf '%s\n' "$package"
        fi
    done
}

ensure_packages() {
    local missing=() command
    if ! command -v dpkg-query >/dev/null; then
        for command in "${commands[@]}"; do
            command -v "$command" >/dev/null || missing+=("$command")
        done
        [ "${#missing[@]}" -eq 0 ] || fail "these commands are missing, install them first: ${missing[*]}"
        return
    fi
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "packages are missing, install them first: apt-get install ${missing[*]}"
    fi
    export DEBIAN_FRONTEND=noninteractive
    step apt-get update --quiet
    step apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
}

ensure_packages
[ "$(id -u)" -eq 0 ] || fail "the end-to-end tests make network namespaces, which needs root: sudo --preserve-env=PATH,HOME $0"
command -v cargo >/dev/null || fail "cargo is missing: install a Rust toolchain (https://rustup.rs)"
[ -c /dev/net/tun ] || fail "/dev/net/tun is missing: modprobe tun, or give this container the device"

step shellcheck --external-sources scripts/*.sh scripts/*/*.sh benches/*.sh benches/peers/*.sh .ci/run
step cargo fmt --check
step cargo clippy --locked --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --locked --no-deps --document-private-items
step cargo build --locked
step cargo test --locked
# Instructions of a ping, which have a budget.
step cargo bench --locked --bench instructions

# The other programs that pings are measured beside still run; a moment, and no figures.
TAP_REACTOR=${CARGO_TARGET_DIR:-target}/debug/tap-reactor step benches/peers.sh --quick

# Everybody else's programs against a VM, and against a kernel as control.
TAP_REACTOR=${CARGO_TARGET_DIR:-target}/debug/tap-reactor step scripts/conformance.sh
# A moment of fuzzing, where the means are there; cargo test has held the same invariants with other input already.
if cargo fuzz --version >/dev/null 2>&1; then
    step scripts/fuzz.sh 10
fi

# The reports that tests/report_files.rs left behind, read by other programs.
target=${CARGO_TARGET_DIR:-target}
reports=$target/tmp/report-files
python=$target/check-venv/bin/python
if ! "$python" -c 'import hdrh' 2>/dev/null; then
    step python3 -m venv "$target/check-venv"
    step "$python" -m pip install --quiet 'hdrhistogram==0.10.*'
fi
step "$python" scripts/check-hdr.py "$reports/run.json"
step scripts/check-html.sh "$reports/run.html" "$reports/compare.html" \
    "$reports/three.html" "$reports/six.html" "$reports/empty.html"

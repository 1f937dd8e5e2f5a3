#!/usr/bin/env bash
# Checks everything: formatting, lints, documentation, build, and all tests, the end-to-end tests
# included. Stops at the first step that fails, and names it and the tests that failed.
#
#   scripts/test.sh            needs root, because the end-to-end tests create network namespaces
#
# Installs missing Debian packages that the tests need, if it can (root and apt-get).
set -euo pipefail

[ $# = 0 ] || { printf "test.sh: expected no arguments, not '%s'\n" "$*" >&2; exit 2; }
cd "$(dirname "$0")/.."

# Programs that the tests call, by package:
#   iproute2         ip, bridge          the kernel's own view of a lab
#   iputils-ping     ping                pings to the VMs by the kernel's stack
#   iputils-arping   arping              ARP requests from outside
#   fping            fping               pings to many VMs
#   ndisc6           ndisc6              neighbour solicitations from outside
#   radvd            radvd               an IPv6 router that advertises prefixes
#   dnsmasq-base     dnsmasq             a DHCP server
#   kea-dhcp6-server   kea-dhcp6         a DHCPv6 server
#   isc-dhcp-client  dhclient            a DHCPv6 client
#   procps           sysctl              kernel settings: forwarding, IPv6
#   tcpdump          tcpdump             captures of the frames on a TAP
#   tshark           tshark, capinfos    the readers of captures
#   nftables         nft                 rules that drop frames of a TAP
#   curl jq          curl, jq            a client of the control socket, and a reader of its answers
#   prometheus       prometheus, promtool   readers of metrics
#   frr              vtysh, zebra, bgpd  an EVPN fabric
#   util-linux       unshare, setpriv, prlimit, nsenter, setsid   processes with fewer rights, or a terminal
#   mount            mount               a mount namespace without /dev/net/tun
#   chromium         chromium            checks of the HTML pages
#   fonts-dejavu-core                    fonts for these pages
#   python3-venv     python3             another implementation of HdrHistogram
#   valgrind         valgrind            counts the instructions of a ping
#   g++              g++                 builds the peer of benches/peers with threads
#   arp-scan nmap hping3 thc-ipv6 traceroute mtr-tiny python3-scapy   conformance checks
#   busybox ethtool                      a DHCP client, and offload settings of a veth pair
#   fish groff-base mandoc   fish, groff, mandoc   check completions and the man page
#   (shellcheck)     shellcheck          checks the scripts
packages=(iproute2 iputils-ping iputils-arping fping ndisc6 radvd dnsmasq-base kea-dhcp6-server isc-dhcp-client procps
    tcpdump tshark nftables curl jq prometheus frr util-linux mount
    arp-scan nmap hping3 thc-ipv6 traceroute mtr-tiny python3-scapy busybox ethtool
    chromium fonts-dejavu-core python3-venv valgrind g++ fish groff-base mandoc shellcheck)
# Not of every distribution:
#   clang-14         clang-14            BPF objects, built anew
#   llvm-14          llvm-strip-14       the same
optional_packages=(clang-14 llvm-14)
commands=(ip bridge ping arping fping ndisc6 radvd dnsmasq kea-dhcp6 dhclient sysctl tcpdump tshark capinfos nft curl jq prometheus promtool vtysh unshare setpriv setsid prlimit nsenter mount
    arp-scan nmap nping hping3 atk6-implementation6 traceroute mtr busybox ethtool chromium python3 valgrind g++ fish groff mandoc shellcheck)

fail() {
    printf 'scripts/test.sh: %s\n' "$*" >&2
    exit 1
}

step() {
    printf '\n==> %s\n' "$*"
    "$@" || fail "this step failed: $*"
}

# Runs all tests, the others too if one fails, and ends with what the failed ones said and their names.
run_tests() {
    local log
    log=$(mktemp)
    if RUST_BACKTRACE=0 cargo test --locked --no-fail-fast 2>&1 | tee "$log"; then
        rm "$log"
        return
    fi
    printf '\n==> failed tests\n'
    # A test binary prints what its failed tests said between two lines "failures:", and their names after the second.
    awk '/^failures:$/ { inside = !inside; next } inside' "$log"
    sed -n 's/^test \(.*\) \.\.\. FAILED$/FAILED \1/p; /^error: [0-9]* targets* failed/,$p' "$log"
    rm "$log"
    return 1
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

# Does nothing where the distribution has them not, or this user may not install them.
ensure_optional_packages() {
    if { ! command -v clang-14 || ! command -v llvm-strip-14; } >/dev/null &&
        [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-cache show "${optional_packages[@]}" >/dev/null 2>&1 || step apt-get update --quiet
        apt-cache show "${optional_packages[@]}" >/dev/null 2>&1 || return 0
        DEBIAN_FRONTEND=noninteractive step apt-get install --yes --quiet --no-install-recommends "${optional_packages[@]}"
    fi
}

ensure_packages
ensure_optional_packages
[ "$(id -u)" -eq 0 ] || fail "the end-to-end tests make network namespaces, which needs root: sudo --preserve-env=PATH,HOME $0"
command -v cargo >/dev/null || fail "cargo is missing: install a Rust toolchain (https://rustup.rs)"
[ -c /dev/net/tun ] || fail "/dev/net/tun is missing: modprobe tun, or give this container the device"

step shellcheck --external-sources scripts/*.sh scripts/*/*.sh benches/*.sh benches/peers/*.sh .ci/run
step cargo fmt --check
step cargo clippy --locked --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --locked --no-deps --document-private-items
# Licences, sources and bans of dependencies: deny.toml. The workflow installs cargo-deny.
if cargo deny --version >/dev/null 2>&1; then
    step cargo deny --locked check --hide-inclusion-graph bans licenses sources
else
    printf '\n==> not checked: dependencies (cargo install --locked cargo-deny)\n'
fi
# The BPF objects in the repository are what their sources give.
if command -v clang-14 >/dev/null && command -v llvm-strip-14 >/dev/null; then
    step scripts/build-bpf.sh --check
else
    printf '\n==> not checked: BPF objects, for want of the packages %s\n' "${optional_packages[*]}"
fi
step cargo build --locked
step run_tests
# Examples are built and tested by now; their main functions run too.
for example in scripts/examples/*.rs; do
    step cargo run --locked --quiet --example "$(basename "$example" .rs)"
done
# The budget of instructions per ping.
step cargo bench --locked --bench instructions

# The peers of the benchmark still work; no measurement.
TAP_REACTOR=${CARGO_TARGET_DIR:-target}/debug/tap-reactor step benches/peers.sh --quick

# Other programs against a VM, and against the kernel as control.
TAP_REACTOR=${CARGO_TARGET_DIR:-target}/debug/tap-reactor step scripts/conformance.sh
# Ten seconds for each fuzz target, if cargo-fuzz is installed; cargo test checks the same invariants on other input.
if cargo fuzz --version >/dev/null 2>&1; then
    step scripts/fuzz.sh 10
fi

# The reports that tests/report_files.rs wrote, read by other programs.
target=${CARGO_TARGET_DIR:-target}
reports=$target/tmp/report-files
python=$target/check-venv/bin/python
if ! "$python" -c 'import hdrh, MLRsearch, mypy' 2>/dev/null; then
    step python3 -m venv "$target/check-venv"
    step "$python" -m pip install --quiet 'hdrhistogram==0.10.*' 'MLRsearch==1.2.*' 'mypy==1.*'
fi
# The client of the control socket in Python, with a lab of its own.
step "$python" -m mypy --strict scripts/python/tap_reactor.py scripts/python/test_tap_reactor.py
TAP_REACTOR=$(realpath "$target/debug/tap-reactor") step "$python" -m unittest discover scripts/python
step "$python" scripts/check-hdr.py "$reports/run.json"
step "$python" scripts/check-mlrsearch.py "$target/debug/tap-reactor"
# Another STAMP sender and reflector.
suite=$target/check-stamp/bin/stamp-suite
[ -x "$suite" ] || step cargo install --quiet --locked --debug --root "$target/check-stamp" --target-dir "$target/check-stamp/build" --version 1.0.0 stamp-suite
step scripts/check-stamp.sh "$suite" "$target/debug/tap-reactor"
step scripts/check-html.sh "$reports/run.html" "$reports/compare.html" \
    "$reports/three.html" "$reports/six.html" "$reports/empty.html"

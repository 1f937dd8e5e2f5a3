#!/usr/bin/env bash
# Builds the BPF objects that the program loads, each beside its source. They are in the repository, so that building
# the program takes no clang; run this after a change to a source, and commit both.
#
#   scripts/build-bpf.sh             builds them anew
#   scripts/build-bpf.sh --check     builds them elsewhere, and fails if one differs by a byte from what is here
#
# Needs clang-14 and llvm-strip-14, of Debian 12's and Ubuntu 24.04's packages clang-14 and llvm-14: another version
# gives other bytes. CLANG and LLVM_STRIP name others.
set -euo pipefail
cd "$(dirname "$0")/.."

clang=${CLANG:-clang-14}
strip=${LLVM_STRIP:-llvm-strip-14}
sources=(src/system/switching/xdp/switch.c src/system/filter/shared.c src/system/drop_watch/drops.c src/system/path_stamps/path.c)

fail() {
    printf 'build-bpf.sh: %s\n' "$*" >&2
    exit 1
}

# Builds SOURCE as OBJECT. The prefix map keeps the folder out of the object; what strip leaves of the debug
# information is BTF, which the kernel reads.
build() {
    local source=$1 object=$2
    (
        cd "$(dirname "$source")"
        "$clang" -O2 -g -Wall -Werror "-ffile-prefix-map=$PWD=" -target bpf -mcpu=v3 \
            -c "$(basename "$source")" -o "$object"
    )
    "$strip" -g "$object"
}

check=
case "$#,${1-}" in
    0,) ;;
    1,--check) check=1 ;;
    *) fail "expected no argument, or --check" ;;
esac
for tool in "$clang" "$strip"; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install clang-14 llvm-14"
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
different=()
for source in "${sources[@]}"; do
    object=${source%.c}.o
    build "$source" "$folder/object"
    if [ -z "$check" ]; then
        cp "$folder/object" "$object"
        printf '%s: %s bytes\n' "$object" "$(stat --format %s "$object")"
    elif cmp "$folder/object" "$object"; then
        printf '%s: the same bytes as %s gives\n' "$object" "$clang"
    else
        different+=("$object")
    fi
done
[ "${#different[@]}" -eq 0 ] ||
    fail "not what $("$clang" --version | head -n 1) makes of its source: ${different[*]}; build it anew with scripts/build-bpf.sh"

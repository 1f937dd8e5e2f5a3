#!/usr/bin/env bash
# Builds what others can install, into target/dist (CARGO_TARGET_DIR/dist):
#
#   tap-reactor                    a static binary, which needs no file of the machine that it runs on
#   tap-reactor_VERSION-1_ARCH.deb the same binary with man page, completions for bash, zsh and fish, and scenarios
#
# The binary has musl's C library where the Rust toolchain has that target (rustup target add x86_64-unknown-linux-musl),
# else glibc's, linked statically; TARGET names a target. Installs cargo-deb into target/tools if it is missing.
# scripts/package-test.sh tries what this makes.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -eq 0 ] || { echo "package.sh: expected no argument" >&2; exit 1; }
root=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$root

has_target() {
    compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" >/dev/null
}

machine=$(uname --machine)
target=${TARGET:-$machine-unknown-linux-musl}
if [ -z "${TARGET-}" ] && ! has_target "$target"; then
    printf 'package.sh: this toolchain has no %s (rustup target add %s): linking with glibc instead\n' "$target" "$target" >&2
    target=$machine-unknown-linux-gnu
fi
has_target "$target" || { printf 'package.sh: this toolchain has no target %s\n' "$target" >&2; exit 1; }

export PATH=$root/tools/bin:$PATH
command -v cargo-deb >/dev/null || cargo install --locked --root "$root/tools" 'cargo-deb@^3'

# With --target, the flags are for the program only, not for what runs while it is built.
RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static" cargo build --release --locked --target "$target"

built=$root/$target/release
dist=$root/dist
rm -rf "$dist" "$built/deb"
mkdir -p "$dist" "$built/deb"
strip -o "$dist/tap-reactor" "$built/tap-reactor"
if readelf --program-headers "$dist/tap-reactor" | grep --quiet INTERP; then
    echo "package.sh: $dist/tap-reactor is not static" >&2
    exit 1
fi

# What Cargo.toml puts into the .deb from here. Dates are those of the last commit, so that two builds of it are alike.
"$dist/tap-reactor" man | gzip -9n >"$built/deb/tap-reactor.1.gz"
"$dist/tap-reactor" completions bash >"$built/deb/tap-reactor"
"$dist/tap-reactor" completions zsh >"$built/deb/_tap-reactor"
"$dist/tap-reactor" completions fish >"$built/deb/tap-reactor.fish"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
id=$(cargo pkgid)
version=${id##*[#@]}
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
# A changelog's trailer has an address, be it an empty one.
[[ $maintainer == *'<'* ]] || maintainer+=' <>'
gzip -9n >"$built/deb/changelog.Debian.gz" <<END
tap-reactor ($version-1) unstable; urgency=medium

  * Version $version; see /usr/share/doc/tap-reactor/guide/changelog.md.

 -- $maintainer  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
END
cargo deb --quiet --no-build --target "$target" --strip --no-dbgsym --output "$dist"

printf '\nThe C library is that of %s, linked statically.\n' "$target"
ls -l "$dist"

#!/bin/sh
# Opens report pages in headless Chromium, wide and narrow, light and dark, and checks them: no console message, every
# picture present, visible and legible, nothing wider than the window, and the table sorts.
#
#     check-html.sh PAGE.html …                     checks the pages
#     SHOTS=FOLDER check-html.sh PAGE.html …        also writes screenshots to FOLDER
#
# Needs Debian's package chromium. Exit status 0: the checks passed; 1: a check failed, and its output says which.
set -eu

[ $# -gt 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 1; }
command -v chromium >/dev/null || { echo "check-html.sh needs chromium: apt-get install chromium" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# browse SCHEME WIDTH HEIGHT ARGUMENT…: runs the browser with an empty profile.
browse() {
    case $1 in dark) prefers=0 ;; *) prefers=1 ;; esac
    size=$2,$3
    shift 3
    rm -rf "$work/profile"
    timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
        --user-data-dir="$work/profile" --enable-logging=stderr --blink-settings=preferredColorScheme=$prefers \
        --window-size="$size" "$@"
}

for page; do
    [ -r "$page" ] || { echo "$page: no such page" >&2; exit 1; }
    name=$(basename "$page" .html)
    { cat "$page"; printf '<script>\n'; cat "$here/check-html.js"; printf '</script>\n'; } >"$work/$name.html"
    for window in "1280 1000" "500 1000"; do
        for scheme in light dark; do
            # shellcheck disable=SC2086  # two words: width and height
            browse $scheme $window --dump-dom "file://$work/$name.html" >"$work/dom" 2>"$work/log" || {
                echo "$page: chromium failed:" >&2
                tail -n 5 "$work/log" >&2
                exit 1
            }
            # The console output of the page, and the result of the check.
            console=$(grep 'CONSOLE' "$work/log" || true)
            found=$(sed -n '/<pre id="check">/,/<\/pre>/p' "$work/dom" | sed 's/<[^>]*>//g')
            if [ -n "$console" ] || [ "$found" != "passed" ]; then
                failed=1
                echo "$page, $scheme, ${window% *} pixels wide:"
                echo "${found:-the check did not run}"
                [ -z "$console" ] || echo "$console"
            fi
            if [ -n "${SHOTS:-}" ]; then
                mkdir -p "$SHOTS"
                # shellcheck disable=SC2086
                browse $scheme ${window% *} 3000 --screenshot="$SHOTS/$name-$scheme-${window% *}.png" \
                    "file://$(realpath "$page")" >/dev/null 2>&1
            fi
        done
    done
done
[ $failed = 0 ] && echo "check-html: $# pages passed"
exit $failed

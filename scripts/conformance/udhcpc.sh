#!/bin/sh
# What udhcpc does with a lease: takes the address and the router. `ip`, `mask`, `interface` and `router` come from udhcpc.
set -eu
[ "$1" = bound ] || exit 0
# shellcheck disable=SC2154
ip addr replace "$ip/$mask" dev "$interface"
# shellcheck disable=SC2154
ip route replace default via "$router"

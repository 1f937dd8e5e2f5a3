#!/bin/sh
# What dhclient -6 calls, with these variables: takes the addresses of a lease into use, and out of it.
# shellcheck disable=SC2154
case $reason in
    BOUND6 | RENEW6 | REBIND6)
        # A kernel refuses an address for no time, which the usual script hands it.
        [ -z "${new_ip6_address:-}" ] || [ "${new_max_life:-}" = 0 ] || ip -6 address replace "$new_ip6_address/128" dev "$interface" nodad
        if [ -n "${old_ip6_address:-}" ] && [ "$old_ip6_address" != "${new_ip6_address:-}" ]; then
            ip -6 address del "$old_ip6_address/128" dev "$interface"
        fi
        ;;
    EXPIRE6 | RELEASE6 | STOP6)
        ip -6 address del "$old_ip6_address/128" dev "$interface"
        ;;
esac
exit 0

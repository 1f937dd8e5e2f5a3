#!/usr/bin/env python3
"""dnsmasq and radvd in this network namespace, and what endpoints make of them.

    servers.py --interface eth0 --folder FOLDER [COLUMN=MAC…]

Writes FOLDER/COLUMN.servers.json. The endpoints' network is 10.79.0.0/16 and fd79::/64; this namespace has 192.0.2.1 and
2001:db8::1 besides, which are elsewhere: an endpoint that answers there has taken its router from the servers.
"""
import argparse
import json
import pathlib
import re
import socket
import subprocess
import time


def run(*words):
    return subprocess.run(["timeout", "15", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def ping(target, *words):
    found = re.search(r"(\d+) packets transmitted, (\d+) received", run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", *words, target))
    return f"answers {found[2]}/{found[1]}" if found else "no answer"


def eui64(mac):
    part = [int(byte, 16) for byte in mac.split(":")]
    part[0] ^= 2
    part[3:3] = [0xFF, 0xFE]
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "fd79::")[:8] + bytes(part))


def leased(leases, mac):
    """The address that dnsmasq has leased to `mac`. An endpoint that has begun to look long before there was a server asks
    a minute after it has asked last (RFC 2131 section 4.1)."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        for line in leases.read_text().splitlines() if leases.exists() else ():
            words = line.split()
            if words[1].lower() == mac.lower():
                return words[2]
        time.sleep(0.1)
    return None


def reached(address):
    """Whether `address` has answered within 20 seconds: an endpoint has yet to read what the server has written, and to
    try the address, perhaps."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if " 1 received" in run("ping", "-n", "-c", "1", "-W", "1", address):
            return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interface", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("endpoints", nargs="+")
    options = parser.parse_args()
    leases = options.folder / f"leases-{options.interface}-{options.endpoints[0].split('=')[0]}"
    radvd = leases.with_suffix(".radvd")
    radvd.write_text(
        f"interface {options.interface} {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n"
        "prefix fd79::/64 { AdvOnLink on; AdvAutonomous on; }; };\n"
    )
    for words in (("192.0.2.1/32", "lo"), ("2001:db8::1/128", "lo")):
        run("ip", "addr", "add", words[0], "dev", words[1])
    servers = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in (
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--no-ping",
             f"--interface={options.interface}", "--bind-interfaces", "--dhcp-authoritative", f"--dhcp-leasefile={leases}",
             "--dhcp-range=10.79.1.1,10.79.1.99,255.255.0.0,10m", "--dhcp-option=3,10.79.0.1", f"--pid-file={leases}.pid"],
            ["radvd", "--nodaemon", "--config", str(radvd), "--pidfile", f"{radvd}.pid", "--username", "root", "--logmethod", "stderr"],
        )
    ]
    try:
        for endpoint in options.endpoints:
            column, mac = endpoint.split("=", 1)
            address = leased(leases, mac)
            address6 = eui64(mac)
            found = {
                "dnsmasq: address by DHCP": ping(address) if address and reached(address) else "no lease",
                "dnsmasq: router by DHCP": ping(address, "-I", "192.0.2.1") if address else "no lease",
                "radvd: address by SLAAC": ping(address6, "-6") if reached(address6) else "silent",
                "radvd: router by SLAAC": ping(address6, "-6", "-I", "2001:db8::1"),
            }
            (options.folder / f"{column}.servers.json").write_text(json.dumps(found))
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


if __name__ == "__main__":
    main()

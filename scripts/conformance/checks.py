#!/usr/bin/env python3
"""The checks that an endpoint is put to: independent programs, and frames made by hand.

    checks.py --interface eth0 --beside eth1 --beside eth2 --mac MAC --ipv4 IP --ipv6 IP --own N --out VERDICTS.json

Runs in a network namespace whose `interface` is on the endpoint's bridge, and which is number N there: it has the
addresses 10.77.N.1 to .254 and fd77::N:1 to :fe. Each check that provokes errors has an address of its own, because an
endpoint limits how many it sends to each. The endpoint pings 10.77.N+100.1, .2 and so on, and fd77::N+100:D, which nobody
has; `--pings N` prints these addresses. A verdict is a few words; what they should be is for others to judge.
"""
import argparse
import concurrent.futures
import json
import re
import struct
import subprocess
import sys
import threading
import time

from scapy.all import ARP, ICMP, IP, UDP, TCP, Ether, IPv6, Raw, fragment
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6TimeExceeded,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    in6_getnsma,
    in6_getnsmac,
)
import socket

import flow_label
import igmp
import mld
import path_mtu
from wire import SENTINEL, Wire, tell, verdict

#: Tests that implementation6 has.
IMPLEMENTATION_TESTS = 57
#: The number of one, its name, and what came of it.
IMPLEMENTATION_RESULT = re.compile(r"^Test +(\d+): (.+?)\t+(.*)$", re.M)
BROADCAST = "ff:ff:ff:ff:ff:ff"
#: The list: name and function, in the order of the table.
CHECKS = []


def check(name):
    def add(function):
        CHECKS.append((name, function))
        return function

    return add


class Client:
    """The place that the checks are run from."""

    def __init__(self, options):
        self.options = options
        self.interface, self.ipv4, self.ipv6, self.mac = options.interface, options.ipv4, options.ipv6, options.mac
        self.wire = Wire(self.interface, self.mac, self.ipv4, self.ipv6)
        self.used = self.used6 = 9

    def source(self):
        """An address that no other check has."""
        self.used += 1
        return f"10.77.{self.options.own}.{self.used}"

    def source6(self):
        self.used6 += 1
        return f"fd77::{self.options.own}:{self.used6:x}"

    def run(self, *words, seconds=15):
        """What a program prints, errors included, and its exit status."""
        words = ["timeout", str(seconds), *map(str, words)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        return done.stdout, done.returncode

    def frames4(self, *layers, **fields):
        """Verdict on IPv4 datagrams, each given as what lies above the header."""
        source = fields.pop("src", None) or self.source()
        sentinel = fields.pop("sentinel", source)
        wait_for = fields.pop("wait_for", None)
        frames = [self.wire.ether() / IP(src=source, dst=self.ipv4, **fields) / layer for layer in layers]
        return verdict(self.wire.exchange(frames, sentinel, wait_for))

    def frames6(self, *layers, **fields):
        source = fields.pop("src", None) or self.source6()
        sentinel = fields.pop("sentinel", source)
        destination = fields.pop("dst", self.ipv6)
        mac = fields.pop("mac", None)
        wait_for = fields.pop("wait_for", None)
        frames = [self.wire.ether(mac) / IPv6(src=source, dst=destination, **fields) / layer for layer in layers]
        return verdict(self.wire.exchange(frames, sentinel, wait_for))


def is_udp(frame):
    """Whether it is a datagram of a program, which takes its time."""
    return UDP in frame and frame[UDP].sport == 7


def echo(size=8, **fields):
    return ICMP(type=8, id=7, seq=1, **fields) / Raw(bytes(range(256)) * (size // 256) + bytes(range(size % 256)))


def echo6(size=8, **fields):
    return ICMPv6EchoRequest(id=7, seq=1, data=bytes(range(256)) * (size // 256) + bytes(range(size % 256)), **fields)


# Programs: reachability.


def answered(text):
    """`3/3` from ping's or fping's summary."""
    ping = re.search(r"(\d+) packets transmitted, (\d+) received(.*)", text)
    fping = re.search(r"xmt/rcv/%loss = (\d+)/(\d+)/", text)
    found = ping or fping
    if not found:
        return "no summary: " + text.strip()[-60:]
    extra = "".join(f", {word}" for word in ("duplicates", "errors", "corrupted") if ping and f"+" in ping[3] and word in ping[3])
    return f"answers {found[2]}/{found[1]}{extra}"


def ping(*words):
    def run(client):
        target = client.ipv6 if "-6" in words else client.ipv4
        pace = () if "-f" in words else ("-i", "0.2")
        text, _ = client.run("ping", "-n", "-W", "2", *pace, *words, target)
        ttls = sorted(set(re.findall(r"ttl=(\d+)", text)))
        wrong = ", wrong data" if "wrong data" in text else ""
        return answered(text) + "".join(f", ttl {number}" for number in ttls if number != "64") + wrong

    return run


for family, flag, largest in (("", (), 65507), ("-6 ", ("-6",), 65527)):
    CHECKS.append((f"ping {family}-c 3", ping(*flag, "-c", "3")))
    CHECKS.append((f"ping {family}-s 0", ping(*flag, "-c", "2", "-s", "0")))
    CHECKS.append((f"ping {family}-s 1472 -p ff", ping(*flag, "-c", "2", "-s", "1452" if flag else "1472", "-p", "ff")))
    CHECKS.append((f"ping {family}-s 4000", ping(*flag, "-c", "2", "-s", "4000")))
    CHECKS.append((f"ping {family}-s {largest}", ping(*flag, "-c", "2", "-s", str(largest))))
    CHECKS.append((f"ping {family}-f -c 200", ping(*flag, "-c", "200", "-f")))
CHECKS.append(("ping -M do -s 1472", ping("-c", "2", "-M", "do", "-s", "1472")))
CHECKS.append(("ping -t 1", ping("-c", "2", "-t", "1")))
CHECKS.append(("ping -Q 0xb8", ping("-c", "2", "-Q", "0xb8")))


@check("ping -R (record route)")
def record_route(client):
    text, _ = client.run("ping", "-n", "-c", "1", "-W", "2", "-R", client.ipv4)
    hops = len(re.findall(r"^(?:RR:)?\s+\d+\.\d+\.\d+\.\d+$", text, re.M))
    return f"{answered(text)}, {hops} addresses recorded"


@check("ping -T tsandaddr (timestamp)")
def record_time(client):
    text, _ = client.run("ping", "-n", "-c", "1", "-W", "2", "-T", "tsandaddr", client.ipv4)
    stamps = len(re.findall(r"(?:TS:)?\s+\d+\.\d+\.\d+\.\d+\s+-?\d+", text))
    return f"{answered(text)}, {stamps} times recorded"


@check("ping -b (broadcast)")
def ping_broadcast(client):
    # Whoever answers at all answers before the echo request that follows.
    source = client.source()
    frame = client.wire.ether(BROADCAST) / IP(src=source, dst="10.77.255.255") / echo()
    other = client.wire.ether(BROADCAST) / IP(src=source, dst="255.255.255.255") / echo()
    return verdict(client.wire.exchange([frame, other], source))


@check("ping -6 ff02::1 (all nodes)")
def ping_all_nodes(client):
    # The first answer is the client's own; the others come while the second request is waited for.
    text, _ = client.run("ping", "-6", "-n", "-c", "2", "-W", "2", f"ff02::1%{client.interface}")
    return "answers from its link-local address" if f"from {eui64(client.mac)}%" in text else "silent"


@check("ping -6 link-local")
def ping_link_local(client):
    text, _ = client.run("ping", "-6", "-n", "-c", "2", "-i", "0.2", "-W", "2", f"{eui64(client.mac)}%{client.interface}")
    return answered(text)


def eui64(mac, prefix="fe80::"):
    part = [int(byte, 16) for byte in mac.split(":")]
    part[0] ^= 2
    part[3:3] = [0xFF, 0xFE]
    words = [f"{part[i] << 8 | part[i + 1]:x}" for i in range(0, 8, 2)]
    address = socket.inet_pton(socket.AF_INET6, prefix)[:8] + bytes(part)
    return socket.inet_ntop(socket.AF_INET6, address) if words else ""


#: Without a time to wait it takes what comes after the next ping for lost.
FPING = ("fping", "-c", "3", "-p", "100", "-t", "2000", "-q")


@check("fping -c 3")
def fping(client):
    return answered(client.run(*FPING, client.ipv4)[0])


@check("fping -6 -c 3")
def fping6(client):
    return answered(client.run(*FPING, "-6", client.ipv6)[0])


# Programs: neighbours.


@check("arping -c 2")
def arping(client):
    text, _ = client.run("arping", "-c", "2", "-w", "5", "-I", client.interface, client.ipv4)
    from_it = len(re.findall(re.escape(client.mac), text, re.I))
    return f"{from_it} unicast replies" if "Unicast reply" in text else f"{from_it} replies"


@check("arping -b -c 2 (all broadcast)")
def arping_broadcast(client):
    text, _ = client.run("arping", "-b", "-c", "2", "-w", "5", "-I", client.interface, client.ipv4)
    return f"{len(re.findall(re.escape(client.mac), text, re.I))} replies"


@check("arping -D (duplicate address detection)")
def arping_duplicate(client):
    text, status = client.run("arping", "-D", "-c", "2", "-w", "4", "-I", client.interface, client.ipv4)
    return "address is in use" if status == 1 and client.mac.lower() in text.lower() else f"status {status}"


@check("arp-scan")
def arp_scan(client):
    text, _ = client.run("arp-scan", "-I", client.interface, "-q", "-x", client.ipv4)
    lines = [line for line in text.splitlines() if client.mac.lower() in line.lower()]
    return f"found {len(lines)} time" + ("s" if len(lines) != 1 else "")


@check("the kernel's neighbour table, IPv4")
def neighbour4(client):
    return neighbour(client, client.ipv4, "ping", "-c", "1", "-W", "2", client.ipv4)


@check("the kernel's neighbour table, IPv6")
def neighbour6(client):
    return neighbour(client, client.ipv6, "ping", "-6", "-c", "1", "-W", "2", client.ipv6)


def neighbour(client, address, *words):
    """Resolved from nothing, then asked again by unicast."""
    client.run("ip", "neigh", "flush", "to", address, "dev", client.interface)
    client.run(*words)
    found = []
    for probe in (False, True):
        if probe:
            client.run("ip", "neigh", "replace", address, "lladdr", client.mac, "nud", "probe", "dev", client.interface)
        text, end = "", time.monotonic() + 4
        while time.monotonic() < end:
            text, _ = client.run("ip", "neigh", "show", "to", address, "dev", client.interface)
            if "REACHABLE" in text or "FAILED" in text:
                break
            time.sleep(0.05)
        right = client.mac.lower() in text.lower()
        found.append(text.split()[-1] + ("" if right else " elsewhere") if text else "nothing")
    return f"{found[0]}; {found[1]} when probed"


@check("the kernel's duplicate address detection, IPv6")
def kernel_dad(client):
    client.run("ip", "-6", "addr", "add", f"{client.ipv6}/128", "dev", client.interface)
    text, end = "", time.monotonic() + 5
    while time.monotonic() < end:
        text, _ = client.run("ip", "-6", "addr", "show", "dev", client.interface, "to", client.ipv6)
        if "dadfailed" in text or "tentative" not in text:
            break
        time.sleep(0.05)
    client.run("ip", "-6", "addr", "del", f"{client.ipv6}/128", "dev", client.interface)
    return "address is in use" if "dadfailed" in text else "address is free"


@check("ndisc6")
def ndisc6(client):
    text, status = client.run("ndisc6", "-1", "-r", "2", "-w", "2000", client.ipv6, client.interface)
    return "right address" if client.mac.lower() in text.lower() else f"status {status}"


@check("ndisc6 link-local")
def ndisc6_link_local(client):
    text, status = client.run("ndisc6", "-1", "-r", "2", "-w", "2000", eui64(client.mac), client.interface)
    return "right address" if client.mac.lower() in text.lower() else f"status {status}"


@check("atk6-alive6")
def alive6(client):
    text, _ = client.run("atk6-alive6", "-W", "100", client.interface, client.ipv6, seconds=20)
    return "alive" if re.search(r"Alive: " + re.escape(client.ipv6), text) else "not found"


# Programs: scans and traces.


def nmap(client, *words, seconds=30):
    source = client.source6() if "-6" in words else client.source()
    target = client.ipv6 if "-6" in words else client.ipv4
    options = ["-n", "-T4", "-e", client.interface, "-S", source]
    return client.run("nmap", *options, *words, target, seconds=seconds)[0]


def states(text):
    found = re.findall(r"^(\d+)(?:/\w+)?\s+(open\|filtered|open|closed|filtered|unfiltered)", text, re.M)
    return ", ".join(f"{number} {state}" for number, state in found) or "no answer"


@check("nmap -sn (sweep)")
def nmap_sweep(client):
    text = nmap(client, "-sn")
    return "up" if "Host is up" in text and client.mac.upper() in text else "down"


@check("nmap -6 -sn (sweep)")
def nmap_sweep6(client):
    text = nmap(client, "-6", "-sn")
    return "up" if "Host is up" in text and client.mac.upper() in text else "down"


@check("nmap -sn -PE -PM -PP (ICMP kinds)")
def nmap_kinds(client):
    verdicts = []
    for kind in ("-PE", "-PP", "-PM"):
        patience = ("--max-retries", "0", "--min-rtt-timeout", "2s", "--max-rtt-timeout", "2s")
        text = nmap(client, "-sn", "--send-ip", "--disable-arp-ping", *patience, kind)
        verdicts.append(f"{kind} {'answered' if 'Host is up' in text else 'silent'}")
    return ", ".join(verdicts)


for protocol, name in ((1, "ICMP"), (2, "IGMP"), (6, "TCP"), (17, "UDP"), (132, "SCTP"), (253, "unknown")):
    CHECKS.append(
        (f"nmap -sO {protocol} ({name})", lambda client, p=protocol: states(nmap(client, "-Pn", "-sO", "-p", str(p))))
    )
for words, name in (((), ""), (("-6",), "-6 ")):
    CHECKS.append(
        (f"nmap {name}-sU closed port", lambda client, w=words: states(nmap(client, *w, "-Pn", "-sU", "-p", "40000")))
    )
    CHECKS.append(
        (f"nmap {name}-sU echo port", lambda client, w=words: states(nmap(client, *w, "-Pn", "-sU", "-p", "7", "--data-string", "abcdefgh")))
    )
    CHECKS.append((f"nmap {name}-sS closed port", lambda client, w=words: states(nmap(client, *w, "-Pn", "-sS", "-p", "80"))))


@check("nmap -O (fingerprint of closed ports)")
def nmap_fingerprint(client):
    # What it finds out about identifications depends on how much else goes on.
    text = nmap(client, "-Pn", "-O", "-p", "80", "--max-os-tries", "1", "-vv", "-d").replace("\nOS:", "")
    found = re.findall(r"(T[5-7]|U1|IE)\(([^()]*)\)", text)
    return " ".join(f"{name}({values})" for name, values in dict(found).items()) or "none"


@check("nping --icmp --mtu 8 (tiny fragments)")
def tiny_fragments(client):
    text, _ = client.run("nping", "--icmp", "--mtu", "8", "--data-length", "64", "-c", "3", "--delay", "100ms", "-S", client.source(), "-e", client.interface, client.ipv4)
    found = re.search(r"Raw packets sent: (\d+).*?Rcvd: (\d+)", text)
    return f"answers {found[2]}/{found[1]}" if found else text.strip()[-60:]


@check("hping3 --icmp -b (bad checksum)")
def hping_bad(client):
    text, _ = client.run("hping3", "-1", "-b", "-c", "2", "-i", "u100000", "-a", client.source(), client.ipv4, seconds=5)
    found = re.search(r"(\d+) packets transmitted, (\d+) packets received", text)
    return f"answers {found[2]}/{found[1]}" if found else text.strip()[-60:]


@check("hping3 --icmp -f (fragments)")
def hping_fragments(client):
    # The identification is otherwise the low byte of its process id, and a kernel gives each fragment that has 0 one of its
    # own (raw_send_hdrinc() in net/ipv4/raw.c): one run in 256 would send fragments that belong to no datagram.
    text, _ = client.run("hping3", "-1", "-f", "-N", "77", "-d", "100", "-c", "2", "-i", "u100000", client.ipv4, seconds=5)
    found = re.search(r"(\d+) packets transmitted, (\d+) packets received", text)
    return f"answers {found[2]}/{found[1]}" if found else text.strip()[-60:]


def trace(*words):
    def run(client):
        target = client.ipv6 if "-6" in words else client.ipv4
        source = client.source6() if "-6" in words else client.source()
        text, _ = client.run(*words, "-n", "-q", "1", "-w", "2", "-m", "3", "-s", source, target)
        hops = re.findall(r"^\s*(\d+)\s+(\S+)", text, re.M)
        return "; ".join(f"hop {hop} is {'it' if where == target else where}" for hop, where in hops) or text.strip()[-60:]

    return run


CHECKS.append(("traceroute (UDP)", trace("traceroute", "-N", "1")))
CHECKS.append(("traceroute -I (ICMP)", trace("traceroute", "-I", "-N", "1")))
CHECKS.append(("traceroute -T (TCP)", trace("traceroute", "-T", "-N", "1")))
CHECKS.append(("traceroute -6 -T (TCP)", trace("traceroute", "-6", "-T", "-N", "1")))
CHECKS.append(("traceroute -6 (UDP)", trace("traceroute", "-6", "-N", "1")))
CHECKS.append(("traceroute -6 -I (ICMP)", trace("traceroute", "-6", "-I", "-N", "1")))


def mtr(*words):
    def run(client):
        target, source = (client.ipv6, client.source6()) if "-6" in words else (client.ipv4, client.source())
        text, _ = client.run("mtr", *words, "-n", "-r", "-c", "3", "-i", "0.2", "-a", source, target)
        hops = re.findall(r"^\s*(\d+)\.\|--\s+(\S+)\s+([\d.]+%?)", text, re.M)
        return "; ".join(f"hop {hop} is {'it' if where == target else where}, {loss.rstrip('%')} % lost" for hop, where, loss in hops) or text.strip()[-60:]

    return run


CHECKS.append(("mtr", mtr()))
CHECKS.append(("mtr -u (UDP)", mtr("-u")))
CHECKS.append(("mtr -6", mtr("-6")))


# Frames made by hand: ARP.


def arp(client, destination=BROADCAST, **fields):
    source = client.source()
    values = {"op": 1, "hwsrc": client.wire.own_mac, "psrc": source, "hwdst": "00:00:00:00:00:00", "pdst": client.ipv4, **fields}
    return verdict(client.wire.exchange([client.wire.ether(destination) / ARP(**values)], source))


for name, fields in (
    ("request, broadcast", {}),
    ("request, unicast", {"destination": None}),
    ("probe (sender 0.0.0.0)", {"psrc": "0.0.0.0"}),
    ("request for another address", {"pdst": "10.77.254.254"}),
    ("request from another network", {"psrc": "192.0.2.9"}),
    ("request from a multicast address", {"psrc": "224.0.0.5"}),
    ("request of another kind of hardware", {"hwtype": 6}),
    ("request of another protocol", {"ptype": 0x86DD}),
    ("RARP request", {"op": 3}),
    ("reply that nobody asked for", {"op": 2}),
):
    CHECKS.append((f"ARP: {name}", lambda client, f=fields: arp(client, **f)))


# Ways to other networks. The endpoint has a gateway on IPv6, which is this place, and none on IPv4.

FAR, FAR6 = "192.0.2.9", "2001:db8::9"
STRANGER = "02:00:00:00:00:77"
FOREIGN = (
    ("echo", echo(), echo6()),
    ("UDP echo", UDP(sport=4000, dport=7) / Raw(b"x" * 8), None),
    ("closed port", UDP(sport=4000, dport=9) / Raw(b"x" * 8), None),
    ("TCP", TCP(sport=4000, dport=80, flags="S"), None),
)


def by_gateway(client, layer):
    """Where the answer to a question goes that comes from another network by somebody else's hardware address."""
    heard = client.wire.open()
    try:
        heard.send(bytes(Ether(src=STRANGER, dst=client.mac) / IPv6(src=FAR6, dst=client.ipv6) / layer))
        for frame in client.wire.frames(heard, 4):
            if IPv6 in frame and frame[IPv6].dst == FAR6:
                return {client.wire.own_mac: "to the gateway", STRANGER: "to where it came from"}.get(frame.dst, "elsewhere")
        return "silent"
    finally:
        heard.close()


for name, layer4, layer6 in FOREIGN:
    CHECKS.append(
        (
            f"{name} from another network, no gateway",
            lambda client, layer=layer4: client.frames4(layer, src=FAR, sentinel=client.source()),
        )
    )
    CHECKS.append(
        (f"IPv6 {name} from another network, by the gateway", lambda client, layer=layer6 or layer4: by_gateway(client, layer))
    )


@check("ARP: request in a frame for another station")
def arp_other_station(client):
    return arp(client, destination="02:00:00:00:00:99")


# Neighbours that move. The endpoint pings addresses that nobody has; a check plays the neighbour at one of them.


class Peer:
    """The neighbour number N that the endpoint pings: 10.77.OWN+100.N, or fd77::OWN+100:N."""

    def __init__(self, client, number, is_ipv6):
        own = client.options.own
        self.client, self.wire = client, client.wire
        self.address = self.address_of(own, number, is_ipv6)
        self.old, self.new = (f"02:00:00:{place:02x}:{int(own):02x}:{number:02x}" for place in (1, 2))

    @staticmethod
    def address_of(own, number, is_ipv6):
        return f"fd77::{int(own) + 100}:{number:x}" if is_ipv6 else f"10.77.{int(own) + 100}.{number}"

    def arp(self, mac=None, destination=BROADCAST, ether=None, **fields):
        """An ARP packet that says that the neighbour is at `mac`."""
        mac = mac or self.new
        values = {"op": 1, "hwsrc": mac, "psrc": self.address, "hwdst": "00:00:00:00:00:00", "pdst": self.client.ipv4, **fields}
        return Ether(src=ether or mac, dst=destination) / ARP(**values)

    def reply(self, mac=None, **fields):
        return self.arp(mac, **{"op": 2, "hwdst": self.client.mac, "destination": self.client.mac, **fields})

    def advertisement(self, mac=None, **flags):
        mac = mac or self.new
        packet = IPv6(src=self.address, dst=self.client.ipv6, hlim=255)
        advertised = ICMPv6ND_NA(tgt=self.address, **{"R": 0, "S": 0, "O": 0, **flags}) / ICMPv6NDOptDstLLAddr(lladdr=mac)
        return Ether(src=mac, dst=self.client.mac) / packet / advertised

    def solicitation(self):
        packet = IPv6(src=self.address, dst=self.client.ipv6, hlim=255)
        return Ether(src=self.new, dst=self.client.mac) / packet / ICMPv6ND_NS(tgt=self.client.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=self.new)

    def answer(self):
        """The answer to a question for it, while it is at the old place."""
        return self.advertisement(self.old, S=1, O=1) if ":" in self.address else self.reply(self.old)

    def is_question(self, frame):
        if ARP in frame:
            return frame[ARP].op == 1 and frame[ARP].pdst == self.address
        return ICMPv6ND_NS in frame and frame[ICMPv6ND_NS].tgt == self.address

    def is_ping(self, frame):
        if IP in frame:
            return frame[IP].dst == self.address and ICMP in frame and frame[ICMP].type == 8
        return ICMPv6EchoRequest in frame and frame[IPv6].dst == self.address

    def echo_reply(self, ping):
        ether = Ether(src=ping.dst, dst=ping.src)
        if IP in ping:
            kind = ping[ICMP]
            return ether / IP(src=self.address, dst=ping[IP].src) / ICMP(type=0, id=kind.id, seq=kind.seq) / bytes(kind.payload)
        kind = ping[ICMPv6EchoRequest]
        return ether / IPv6(src=self.address, dst=ping[IPv6].src) / ICMPv6EchoReply(id=kind.id, seq=kind.seq, data=kind.data)

    def moves(self, claim, seconds=0.0, before="reachable", replies=False):
        """Where the pings go after `claim`, so many seconds after the neighbour got into the state `before`, and how the
        neighbour is asked for in the nine seconds after that."""
        heard = self.wire.open()
        try:
            if not self.until(heard, self.is_question, 8):
                return "it is not looked for"
            if before == "reachable":
                heard.send(bytes(self.answer()))
                if not self.until(heard, self.is_ping, 4):
                    return "its answer is not taken"
            time.sleep(seconds)
            heard.send(bytes(claim(self)))
            place, question, begun = "nowhere", "not asked", time.monotonic()
            names = {self.old: "the old place", self.new: "the new place"}
            for frame in self.wire.frames(heard, 9):
                passed = time.monotonic() - begun
                # The last ping before it may be asked; those that were under way when the claim came are not the last.
                if self.is_ping(frame):
                    if passed < 4:
                        place = names.get(frame.dst, "elsewhere")
                    if replies:
                        heard.send(bytes(self.echo_reply(frame)))
                elif self.is_question(frame) and passed > 4 and question == "not asked":
                    question = "asked by unicast" if frame.dst in names else "asked of everybody"
            return f"pings go to {place}; {question}"
        finally:
            heard.close()

    def until(self, heard, accept, seconds):
        return any(accept(frame) for frame in self.wire.frames(heard, seconds))


ANOTHER = "10.77.254.253"
MOVES = (
    ("ARP neighbour: gratuitous request", False, lambda peer: peer.arp(pdst=peer.address), {}),
    ("ARP neighbour: gratuitous reply", False, lambda peer: peer.reply(pdst=peer.address, hwdst=peer.new, destination=BROADCAST), {}),
    ("ARP neighbour: reply about itself for another", False, lambda peer: peer.reply(pdst=peer.address, destination=BROADCAST), {}),
    ("ARP neighbour: request to the endpoint", False, lambda peer: peer.arp(), {}),
    ("ARP neighbour: request to another, at once", False, lambda peer: peer.arp(pdst=ANOTHER), {}),
    ("ARP neighbour: request to another, after 2 s", False, lambda peer: peer.arp(pdst=ANOTHER), {"seconds": 2}),
    ("ARP neighbour: broadcast reply, at once", False, lambda peer: peer.reply(destination=BROADCAST), {}),
    ("ARP neighbour: broadcast reply, after 2 s", False, lambda peer: peer.reply(destination=BROADCAST), {"seconds": 2}),
    ("ARP neighbour: reply that nobody asked for, at once", False, lambda peer: peer.reply(), {}),
    ("ARP neighbour: reply that nobody asked for, after 2 s", False, lambda peer: peer.reply(), {"seconds": 2}),
    ("ARP neighbour: request from a multicast hardware address", False, lambda peer: peer.arp("03:00:00:00:00:01", ether=peer.new), {}),
    ("ARP neighbour: gratuitous request while it is looked for", False, lambda peer: peer.arp(pdst=peer.address), {"before": "incomplete"}),
    ("ARP neighbour: request while it is looked for, then replies", False, lambda peer: peer.arp(), {"before": "incomplete", "replies": True}),
    ("IPv6 neighbour: advertisement with override", True, lambda peer: peer.advertisement(O=1), {}),
    ("IPv6 neighbour: advertisement without override", True, lambda peer: peer.advertisement(), {}),
    ("IPv6 neighbour: solicitation", True, lambda peer: peer.solicitation(), {}),
)


class Moves:
    """All checks of neighbours that move, at the same time: most of it they wait."""

    def __init__(self):
        self.jobs = {}

    def verdict(self, client, wanted):
        if not self.jobs:
            pool = concurrent.futures.ThreadPoolExecutor(len(MOVES))
            for number, (name, is_ipv6, claim, fields) in enumerate(MOVES, 1):
                if client.options.only in name:
                    self.jobs[name] = pool.submit(Peer(client, number, is_ipv6).moves, claim, **fields)
        return self.jobs[wanted].result()


MOVING = Moves()
for name, *_ in MOVES:
    CHECKS.append((name, lambda client, n=name: MOVING.verdict(client, n)))


# Frames made by hand: IPv4.

for name, layer, fields in (
    ("echo, 0 bytes", echo(0), {}),
    ("echo, ttl 0", echo(), {"ttl": 0}),
    ("echo, code 5", echo(code=5), {}),
    ("echo, tos 0xb8", echo(), {"tos": 0xB8}),
    ("echo, bad ICMP checksum", echo(chksum=0x1234), {}),
    ("echo, bad header checksum", echo(), {"chksum": 0x1234}),
    ("echo, version 5", echo(), {"version": 5}),
    ("echo, header of 16 bytes", echo(), {"ihl": 4}),
    ("echo, longer than its frame", echo(), {"len": 500}),
    ("echo, shorter than its header", echo(), {"len": 19}),
    ("echo, padding behind it", echo(0) / Raw(b""), {"len": 28}),
    ("echo, reserved flag", echo(), {"flags": 4}),
    ("echo, no-operation options", echo(), {"options": [Raw(b"\x01\x01\x01\x00")]}),
    ("echo, option longer than the header", echo(), {"options": [Raw(b"\x07\x28\x04\x00")]}),
    ("echo, source route, done", echo(), {"options": [Raw(b"\x83\x07\x08\x0a\x4d\x00\x01\x00")]}),
    ("echo, security option", echo(), {"options": [Raw(b"\x82\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")]}),
    ("echo, router alert", echo(), {"options": [Raw(b"\x94\x04\x00\x00")]}),
    ("echo reply that nobody asked for", ICMP(type=0, id=9, seq=9) / Raw(b"12345678"), {}),
    ("ICMP timestamp", ICMP(type=13, id=7, seq=1), {}),
    ("ICMP address mask", ICMP(type=17, id=7, seq=1), {}),
    ("ICMP type 200", ICMP(type=200), {}),
    ("ICMP of 4 bytes", Raw(b"\x08\x00\xf7\xff"), {"proto": 1}),
    ("protocol 253", Raw(b"12345678"), {"proto": 253}),
    ("protocol 253, 1400 bytes", Raw(b"x" * 1400), {"proto": 253}),
    ("UDP, closed port", UDP(sport=4000, dport=40000) / Raw(b"12345678"), {}),
    ("UDP, closed port, 1400 bytes", UDP(sport=4000, dport=40000) / Raw(b"x" * 1400), {}),
    ("UDP, closed port, options", UDP(sport=4000, dport=40000) / Raw(b"12345678"), {"options": [Raw(b"\x01\x01\x01\x00")]}),
    ("UDP, closed port, tos 0xb8", UDP(sport=4000, dport=40000) / Raw(b"12345678"), {"tos": 0xB8}),
    ("UDP, closed port, bad checksum", UDP(sport=4000, dport=40000, chksum=0x1234) / Raw(b"12345678"), {}),
    ("UDP, closed port, no checksum", UDP(sport=4000, dport=40000, chksum=0) / Raw(b"12345678"), {}),
    ("UDP, length too long", UDP(sport=4000, dport=40000, len=600) / Raw(b"12345678"), {}),
    ("UDP echo", UDP(sport=4000, dport=7) / Raw(b"12345678"), {"wait_for": is_udp}),
    ("UDP echo, no checksum", UDP(sport=4000, dport=7, chksum=0) / Raw(b"12345678"), {"wait_for": is_udp}),
    ("UDP echo, bad checksum", UDP(sport=4000, dport=7, chksum=0x1234) / Raw(b"12345678"), {}),
    ("UDP echo, empty", UDP(sport=4000, dport=7), {"wait_for": is_udp}),
    ("TCP SYN, closed port", TCP(sport=4000, dport=80, flags="S"), {}),
    ("TCP SYN, open port", TCP(sport=4000, dport=8080, flags="S"), {}),
    ("TCP SYN, open port, twice", [TCP(sport=4000, dport=8080, flags="S", seq=9)] * 2, {}),
    ("TCP ACK, open port", TCP(sport=4000, dport=8080, flags="A", ack=77), {}),
    ("TCP SYN ACK, open port", TCP(sport=4000, dport=8080, flags="SA", ack=77), {}),
    ("TCP FIN ACK, open port", TCP(sport=4000, dport=8080, flags="FA", ack=77), {}),
    ("TCP FIN, open port", TCP(sport=4000, dport=8080, flags="F"), {}),
    ("TCP SYN FIN, open port", TCP(sport=4000, dport=8080, flags="SF"), {}),
    ("TCP reset, open port", TCP(sport=4000, dport=8080, flags="R"), {}),
    ("TCP nothing, open port", TCP(sport=4000, dport=8080, flags=""), {}),
    ("TCP ACK, closed port", TCP(sport=4000, dport=80, flags="A", ack=77), {}),
    ("TCP reset, closed port", TCP(sport=4000, dport=80, flags="R"), {}),
    ("TCP SYN, bad checksum", TCP(sport=4000, dport=80, flags="S", chksum=0x1234), {}),
):
    layers = layer if isinstance(layer, list) else [layer]
    CHECKS.append((f"IPv4: {name}", lambda client, l=layers, f=fields: client.frames4(*l, **f)))

for name, source in (
    ("0.0.0.0", "0.0.0.0"),
    ("the broadcast address", "255.255.255.255"),
    ("a multicast address", "224.0.0.9"),
    ("127.0.0.1", "127.0.0.1"),
    ("0.1.2.3", "0.1.2.3"),
    ("240.0.0.1", "240.0.0.1"),
    ("the network's own address", "10.77.0.0"),
    ("the network's broadcast address", "10.77.255.255"),
    ("its own address", None),
):
    CHECKS.append(
        (f"IPv4: echo from {name}", lambda client, s=source: client.frames4(echo(), src=s or client.ipv4, sentinel=client.source()))
    )


def connections(address):
    """What comes of connections that the client's kernel opens, one after the other."""
    told = []
    for how in ("closed", "reset", "closed"):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            try:
                client.connect((address, 8080))
                if how == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    client.shutdown(socket.SHUT_WR)
                    told.append("closed" if client.recv(1) == b"" else "data")
                    continue
                told.append("reset")
            except OSError as error:
                told.append(type(error).__name__)
    return ", ".join(told)


@check("IPv4: TCP connections of a client's")
def connections4(client):
    return connections(client.ipv4)


@check("IPv6: TCP connections of a client's")
def connections6(client):
    return connections(client.ipv6)


@check("IPv4: echo in a broadcast frame")
def echo_in_broadcast(client):
    source = client.source()
    frame = client.wire.ether(BROADCAST) / IP(src=source, dst=client.ipv4) / echo()
    return verdict(client.wire.exchange([frame], source))


@check("IPv4: echo to 224.0.0.1")
def echo_to_multicast(client):
    source = client.source()
    frame = client.wire.ether("01:00:5e:00:00:01") / IP(src=source, dst="224.0.0.1", ttl=1) / echo()
    return verdict(client.wire.exchange([frame], source))


@check("IPv4: echo to another address in its frame")
def echo_other_address(client):
    source = client.source()
    frame = client.wire.ether() / IP(src=source, dst="10.77.254.254") / echo()
    return verdict(client.wire.exchange([frame], source))


@check("IPv4: UDP to a closed port in a broadcast frame")
def udp_in_broadcast(client):
    source = client.source()
    frame = client.wire.ether(BROADCAST) / IP(src=source, dst=client.ipv4) / UDP(sport=4000, dport=40000) / Raw(b"12345678")
    return verdict(client.wire.exchange([frame], source))


@check("IPv4: UDP to a closed port of everybody")
def udp_broadcast(client):
    source = client.source()
    frame = client.wire.ether(BROADCAST) / IP(src=source, dst="10.77.255.255") / UDP(sport=4000, dport=40000) / Raw(b"12345678")
    return verdict(client.wire.exchange([frame], source))


@check("IPv4: 20 times UDP to a closed port at once")
def udp_flood(client):
    source = client.source()
    frame = client.wire.ether() / IP(src=source, dst=client.ipv4) / UDP(sport=4000, dport=40000) / Raw(b"12345678")
    return verdict(client.wire.exchange([frame] * 20, source))


@check("IPv4: port unreachable about nothing")
def unreachable_about_nothing(client):
    quoted = IP(src=client.ipv4, dst="10.77.9.9") / UDP(sport=5, dport=6)
    return client.frames4(ICMP(type=3, code=3) / quoted)


@check("IPv4: protocol unreachable about an error")
def error_about_error(client):
    quoted = IP(src=client.ipv4, dst="10.77.9.9", proto=253) / Raw(b"12345678")
    return client.frames4(ICMP(type=3, code=2) / quoted, ICMP(type=5, code=1) / quoted)


def fragments4(client, pieces, source=None, wait=False, protocol=1):
    """Datagrams' fragments: offset, bytes, whether more follow."""
    source = source or client.source()
    frames = [
        client.wire.ether() / IP(src=source, dst=client.ipv4, id=77, proto=protocol, frag=offset // 8, flags="MF" if more else 0) / Raw(data)
        for offset, data, more in pieces
    ]
    return verdict(client.wire.exchange(frames, source))


def echo_bytes(size):
    return bytes(ICMP(type=8, id=7, seq=1) / Raw(bytes(i & 255 for i in range(size - 8))))


def cut(data, *ends):
    starts = (0, *ends)
    return [(start, data[start:end], end < len(data)) for start, end in zip(starts, (*ends, len(data)))]


WHOLE = echo_bytes(72)
for name, pieces in (
    ("in order", cut(WHOLE, 24, 48)),
    ("in reverse", cut(WHOLE, 24, 48)[::-1]),
    ("one twice", [cut(WHOLE, 24, 48)[i] for i in (0, 1, 1, 2)]),
    ("of 8 bytes", cut(WHOLE, *range(8, 72, 8))),
    ("one missing", [cut(WHOLE, 24, 48)[i] for i in (0, 2)]),
    ("overlap, same bytes", [(0, WHOLE[:32], True), (24, WHOLE[24:48], True), (48, WHOLE[48:], False)]),
    ("overlap, other bytes", [(0, WHOLE[:32], True), (24, b"x" * 24, True), (48, WHOLE[48:], False)]),
    ("one inside another", [(0, WHOLE[:48], True), (16, WHOLE[16:32], True), (48, WHOLE[48:], False)]),
    ("two ends", [(0, WHOLE[:24], True), (48, WHOLE[48:72], False), (48, WHOLE[48:64], False), (24, WHOLE[24:48], True)]),
    ("bytes behind the end", [(48, WHOLE[48:], False), (72, b"x" * 8, True), *cut(WHOLE, 24, 48)[:2]]),
    ("not a multiple of 8", [(0, WHOLE[:20], True), (24, WHOLE[24:], False)]),
    ("beyond 65,535 bytes", [(0, WHOLE[:24], True), (65528, b"x" * 100, False)]),
    ("without content", [(0, WHOLE[:24], True), (24, b"", True), (24, WHOLE[24:], False)]),
):
    CHECKS.append((f"IPv4 fragments: {name}", lambda client, p=pieces: fragments4(client, p)))


@check("IPv4 fragments: not the first, of UDP to a closed port")
def later_fragment(client):
    return fragments4(client, [(24, b"x" * 24, False)], protocol=17)


@check("IPv4 fragments: of an unknown protocol")
def fragments_of_unknown(client):
    return fragments4(client, [(0, b"x" * 24, True), (24, b"x" * 24, False)], protocol=253)


# Frames made by hand: IPv6.


def options(*types):
    """A header's options, each of 4 bytes."""
    return [HBHOptUnknown(otype=kind, optlen=2, optdata=b"\0\0") for kind in types]


def udp6(**fields):
    return UDP(sport=4000, dport=40000, **fields) / Raw(b"12345678")


for name, layer, fields in (
    ("echo, 0 bytes", echo6(0), {}),
    ("echo, hop limit 0", echo6(), {"hlim": 0}),
    ("echo, traffic class 0xb8", echo6(), {"tc": 0xB8}),
    ("echo, flow label", echo6(), {"fl": 0x12345}),
    ("echo, code 5", echo6(code=5), {}),
    ("echo, bad checksum", echo6(cksum=0x1234), {}),
    ("echo, version 5", echo6(), {"version": 5}),
    ("echo, longer than its frame", echo6(), {"plen": 500}),
    ("echo, payload length 0", echo6(), {"plen": 0}),
    ("ICMPv6 type 100", ICMPv6EchoRequest(type=100), {}),
    ("ICMPv6 type 200", ICMPv6EchoRequest(type=200), {}),
    ("ICMPv6 of 3 bytes", Raw(b"\x80\0\0"), {"nh": 58}),
    ("next header 253", Raw(b"12345678"), {"nh": 253}),
    ("no next header", Raw(b"12345678"), {"nh": 59}),
    ("UDP, closed port", udp6(), {}),
    ("UDP, closed port, 1400 bytes", UDP(sport=4000, dport=40000) / Raw(b"x" * 1400), {}),
    ("UDP, closed port, no checksum", udp6(chksum=0), {}),
    ("UDP echo", UDP(sport=4000, dport=7) / Raw(b"12345678"), {"wait_for": is_udp}),
    ("TCP SYN, closed port", TCP(sport=4000, dport=80, flags="S"), {}),
    ("TCP SYN, open port", TCP(sport=4000, dport=8080, flags="S"), {}),
    ("TCP ACK, open port", TCP(sport=4000, dport=8080, flags="A", ack=77), {}),
    ("hop-by-hop, padding", IPv6ExtHdrHopByHop() / echo6(), {}),
    ("hop-by-hop, option to skip", IPv6ExtHdrHopByHop(options=options(0x1E)) / echo6(), {}),
    ("hop-by-hop, option to discard", IPv6ExtHdrHopByHop(options=options(0x5E)) / echo6(), {}),
    ("hop-by-hop, option to report", IPv6ExtHdrHopByHop(options=options(0x9E)) / echo6(), {}),
    ("hop-by-hop, option to report to hosts", IPv6ExtHdrHopByHop(options=options(0xDE)) / echo6(), {}),
    ("destination option to skip", IPv6ExtHdrDestOpt(options=options(0x1E)) / echo6(), {}),
    ("destination option to discard", IPv6ExtHdrDestOpt(options=options(0x5E)) / echo6(), {}),
    ("destination option to report", IPv6ExtHdrDestOpt(options=options(0x9E)) / echo6(), {}),
    ("destination header longer than the packet", IPv6ExtHdrDestOpt(len=20) / echo6(), {}),
    ("two hop-by-hop headers", IPv6ExtHdrHopByHop() / IPv6ExtHdrHopByHop() / echo6(), {}),
    ("hop-by-hop behind a destination header", IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / echo6(), {}),
    ("routing header 0, done", IPv6ExtHdrRouting(type=0, segleft=0, addresses=["fd77::1"]) / echo6(), {}),
    ("routing header 0, to do", IPv6ExtHdrRouting(type=0, segleft=1, addresses=["fd77::1"]) / echo6(), {}),
    ("routing header 200, to do", IPv6ExtHdrRouting(type=200, segleft=1, addresses=["fd77::1"]) / echo6(), {}),
    ("fragment header of a whole packet", IPv6ExtHdrFragment(id=7, nh=58) / echo6(), {}),
):
    CHECKS.append((f"IPv6: {name}", lambda client, l=layer, f=fields: client.frames6(l, **f)))

for name, source in (("::", "::"), ("a multicast address", "ff02::9"), ("::1", "::1"), ("its own address", None)):
    CHECKS.append(
        (f"IPv6: echo from {name}", lambda client, s=source: client.frames6(echo6(), src=s or client.ipv6, sentinel=client.source6()))
    )


@check("IPv6: echo to its solicited-node group")
def echo_solicited_node(client):
    group = solicited(client.ipv6)
    return client.frames6(echo6(), dst=group[0], mac=group[1])


@check("IPv6: echo to another group")
def echo_other_group(client):
    return client.frames6(echo6(), dst="ff02::1:3", mac="33:33:00:01:00:03")


@check("IPv6: UDP to a closed port of all nodes")
def udp_all_nodes(client):
    return client.frames6(udp6(), dst="ff02::1", mac="33:33:00:00:00:01")


@check("IPv6: option to report, to all nodes")
def option_all_nodes(client):
    layers = [IPv6ExtHdrDestOpt(options=options(kind)) / echo6() for kind in (0x9E, 0xDE)]
    return client.frames6(*layers, dst="ff02::1", mac="33:33:00:00:00:01")


@check("IPv6: 20 times UDP to a closed port at once")
def udp_flood6(client):
    return client.frames6(*[udp6()] * 20)


def solicited(address):
    packed = in6_getnsma(socket.inet_pton(socket.AF_INET6, address))
    return socket.inet_ntop(socket.AF_INET6, packed), in6_getnsmac(packed)


def solicit(client, unicast=False, src=None, hlim=255, target=None, option=True, **fields):
    source = src or client.source6()
    group, mac = solicited(client.ipv6)
    message = ICMPv6ND_NS(tgt=target or client.ipv6, **fields)
    if option:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=client.wire.own_mac)
    frame = client.wire.ether(None if unicast else mac) / IPv6(src=source, dst=client.ipv6 if unicast else group, hlim=hlim) / message
    return verdict(client.wire.exchange([frame], client.source6()))


for name, fields in (
    ("to its group", {}),
    ("unicast", {"unicast": True}),
    ("unicast, without address", {"unicast": True, "option": False}),
    ("without address", {"option": False}),
    ("hop limit 254", {"hlim": 254}),
    ("code 1", {"code": 1}),
    ("bad checksum", {"cksum": 0x1234}),
    ("for another address", {"target": "fd77::fefe"}),
    ("for a group", {"target": "ff02::1"}),
    ("probe (from ::)", {"src": "::", "option": False}),
    ("probe with an address", {"src": "::"}),
    ("probe, unicast", {"src": "::", "option": False, "unicast": True}),
):
    CHECKS.append((f"IPv6 solicitation: {name}", lambda client, f=fields: solicit(client, **f)))


def fragments6(client, pieces):
    source = client.source6()
    frames = [
        client.wire.ether() / IPv6(src=source, dst=client.ipv6) / IPv6ExtHdrFragment(id=77, nh=58, offset=offset // 8, m=more) / Raw(data)
        for offset, data, more in pieces(source, client.ipv6)
    ]
    return verdict(client.wire.exchange(frames, source))


def whole6(source, destination):
    return bytes(IPv6(src=source, dst=destination) / echo6(64))[40:]


for name, order in (
    ("in order", lambda w: cut(w, 24, 48)),
    ("in reverse", lambda w: cut(w, 24, 48)[::-1]),
    ("one twice", lambda w: [cut(w, 24, 48)[i] for i in (0, 1, 1, 2)]),
    ("overlap, same bytes", lambda w: [(0, w[:32], True), (24, w[24:48], True), (48, w[48:], False)]),
    ("overlap, other bytes", lambda w: [(0, w[:32], True), (24, b"x" * 24, True), (48, w[48:], False)]),
    ("two ends", lambda w: [(0, w[:24], True), (48, w[48:72], False), (48, w[48:64], False), (24, w[24:48], True)]),
    ("not a multiple of 8", lambda w: [(0, w[:20], True), (24, w[24:], False)]),
    ("beyond 65,535 bytes", lambda w: [(0, w[:24], True), (65528, b"x" * 100, False)]),
):
    CHECKS.append(
        (f"IPv6 fragments: {name}", lambda client, o=order: fragments6(client, lambda s, d: o(whole6(s, d))))
    )


CHECKS += mld.CHECKS + path_mtu.CHECKS + flow_label.CHECKS
# First, because nmap asks as a router of version 1, which a host believes for minutes unless told otherwise.
CHECKS[:0] = igmp.CHECKS


# What takes long goes on beside the rest.


class Background:
    """Programs and waits that are begun first and asked last."""

    def __init__(self, client):
        self.client = client
        options = client.options
        self.fragments = client.source()
        self.fragments6 = client.source6()
        wire = client.wire
        self.expired = wire.record(lambda frame: IP in frame and frame[IP].dst == self.fragments and frame[IP].proto == 1)
        self.expired6 = wire.record(lambda frame: IPv6 in frame and frame[IPv6].dst == self.fragments6 and ICMPv6TimeExceeded in frame)
        first = IP(src=self.fragments, dst=client.ipv4, id=78, proto=1, flags="MF") / Raw(WHOLE[:24])
        later = IP(src=self.fragments, dst=client.ipv4, id=79, proto=1, frag=3) / Raw(WHOLE[24:])
        first6 = IPv6(src=self.fragments6, dst=client.ipv6) / IPv6ExtHdrFragment(id=78, nh=58, m=1) / Raw(b"\x80" + b"x" * 23)
        heard = wire.open()
        for packet in (first, later, first6):
            heard.send(bytes(wire.ether() / packet))
        heard.close()
        self.begun = time.monotonic()
        fragmenting, *places = options.beside
        words = ["timeout", "100", "atk6-fragmentation6", fragmenting, client.ipv6]
        self.fragmentation = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        # In as many places as there are: most of their time they wait for nothing.
        self.pool = concurrent.futures.ThreadPoolExecutor(len(places))
        numbers = range(1, IMPLEMENTATION_TESTS + 1)
        self.implementation = [
            self.pool.submit(self.some, place, numbers[i :: len(places)]) for i, place in enumerate(places)
        ]

    def some(self, place, numbers):
        """The text of some tests of implementation6, one after the other, each from an address of its own."""
        return "".join(self.one(place, number) for number in numbers)

    def one(self, place, number):
        own = f"fd77::{self.client.options.own}:e{number:02x}/64"
        self.client.run("ip", "-6", "addr", "flush", "dev", place, "scope", "global")
        self.client.run("ip", "-6", "addr", "add", own, "dev", place, "nodad", "metric", "2000")
        words = ["stdbuf", "-oL", "atk6-implementation6", "-p", place, self.client.ipv6, number]
        # Who seems to be silent is asked again: an answer may come too late for this program, which waits in ten places at
        # once. It may not find the endpoint at all, and says nothing then.
        silences = 0
        for _ in range(6):
            text = self.client.run(*words, seconds=25)[0] + "\n"
            silences += "FAILED - no reply" in text
            if silences == 2 or IMPLEMENTATION_RESULT.search(text) and "FAILED - no reply" not in text:
                break
        return text

    def verdicts(self):
        found = {}
        for words, name, list_, seconds in (
            ("IPv4", "30 s", self.expired, 33),
            ("IPv6", "60 s", self.expired6, 64),
        ):
            while len(list_) < 1 and time.monotonic() < self.begun + seconds:
                time.sleep(0.1)
            found[f"{words} fragments: incomplete for {name}"] = verdict(list_)
        text = "".join(job.result() for job in self.implementation)
        tests = IMPLEMENTATION_RESULT.findall(text)
        for number, name, result in sorted(tests, key=lambda test: int(test[0])):
            result = {"PASSED - we got a reply": "reply", "FAILED - no reply": "silent"}.get(result, result)
            result = re.sub(r"FAILED - error reply \[(\d+):(\d+)\]", r"error \1 code \2", result)
            found[f"implementation6 {int(number):02}: {name.strip()}"] = result or "not finished"
        text, _ = self.fragmentation.communicate()
        attacks = len(re.findall(r"^ATTACK .* \d+ - ", text, re.M))
        alive = answered(self.client.run("ping", "-6", "-n", "-c", "2", "-i", "0.2", "-W", "2", self.client.ipv6)[0])
        found["fragmentation6, then ping -6"] = alive if attacks > 20 else f"only {attacks} attacks"
        return found


def main():
    if sys.argv[1:2] == ["--groups"]:
        return print("\n".join(igmp.groups(sys.argv[2])))
    if sys.argv[1:2] == ["--pings"]:
        return print("\n".join(Peer.address_of(sys.argv[2], number, move[1]) for number, move in enumerate(MOVES, 1)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", action="append", help="an interface for what goes on beside the list")
    for name in ("interface", "mac", "ipv4", "ipv6", "own", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", default="", help="only checks whose names contain this")
    options = parser.parse_args()
    client = Client(options)
    background = None if options.only else Background(client)
    verdicts = {}
    for name, function in CHECKS:
        if options.only not in name:
            continue
        begun = time.monotonic()
        try:
            verdicts[name] = function(client)
        except Exception as error:  # One check that fails is a verdict; the others go on.
            verdicts[name] = f"{type(error).__name__}: {error}"
        took = time.monotonic() - begun
        print(f"{took:6.2f} s  {name}: {verdicts[name]}", file=sys.stderr)
    if background:
        verdicts.update(background.verdicts())
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(verdicts, file, indent=1)


if __name__ == "__main__":
    main()

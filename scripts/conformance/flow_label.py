"""Checks of flow labels (RFC 6437): which of the endpoint's packets have one, and which have the same."""
import socket

from scapy.all import TCP, UDP, IPv6, Raw
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6ExtHdrFragment,
    in6_getnsma,
    in6_getnsmac,
)

#: Names and functions.
CHECKS = []


def check(name):
    def add(function):
        CHECKS.append((f"flow label: {name}", function))
        return function

    return add


def labels(client, questions, kind, source):
    """The labels of the endpoint's packets of a kind, in answer to questions from `source`."""
    found = []
    for question in questions:
        frames = client.wire.exchange([client.wire.ether() / question], source)
        found += [frame[IPv6].fl for frame in frames if IPv6 in frame and frame[IPv6].dst == source and kind in frame]
    return found


def tell(found, expected):
    """In words that are the same for whatever hash."""
    if len(found) < expected:
        return f"{len(found)} answers"
    if not any(found):
        return "none"
    return "one for all" if len(set(found)) == 1 and found[0] else f"{len(set(found))} of {len(found)}"


def echo(source, target, number=1, size=8, **fields):
    return IPv6(src=source, dst=target, **fields) / ICMPv6EchoRequest(id=number, seq=number, data=bytes(size))


@check("replies to one host")
def replies(client):
    source = client.source6()
    return tell(labels(client, [echo(source, client.ipv6, n) for n in range(1, 5)], ICMPv6EchoReply, source), 4)


@check("replies to requests with labels")
def labelled(client):
    source = client.source6()
    questions = [echo(source, client.ipv6, 1, fl=label) for label in (0, 1, 0x12345, 0xFFFFF)]
    found = labels(client, questions, ICMPv6EchoReply, source)
    return tell(found, 4) + (", as asked" if 0x12345 in found else "")


@check("replies to two hosts")
def two(client):
    found = []
    for source in (client.source6(), client.source6(), client.source6()):
        found += labels(client, [echo(source, client.ipv6)], ICMPv6EchoReply, source)
    return tell(found, 3)


@check("fragments of a reply")
def fragments(client):
    source = client.source6()
    whole = bytes(echo(source, client.ipv6, size=2640))[40:]
    frames = [
        client.wire.ether() / IPv6(src=source, dst=client.ipv6) / IPv6ExtHdrFragment(id=5, nh=58, offset=at // 8, m=int(at + 1200 < len(whole))) / Raw(whole[at : at + 1200])
        for at in range(0, len(whole), 1200)
    ]
    last = lambda frame: IPv6ExtHdrFragment in frame and not frame[IPv6ExtHdrFragment].m
    answers = client.wire.exchange(frames, source, last)
    found = [frame[IPv6].fl for frame in answers if IPv6 in frame and frame[IPv6].nh == 44]
    return tell(found, 2)


@check("resets of one flow")
def resets(client):
    source = client.source6()
    question = IPv6(src=source, dst=client.ipv6) / TCP(sport=4000, dport=81, flags="S")
    return tell(labels(client, [question] * 3, TCP, source), 3)


@check("resets of three flows")
def three_resets(client):
    source = client.source6()
    questions = [IPv6(src=source, dst=client.ipv6) / TCP(sport=port, dport=81, flags="S") for port in (4000, 4001, 4002)]
    return tell(labels(client, questions, TCP, source), 3)


@check("unreachables")
def unreachables(client):
    source = client.source6()
    questions = [IPv6(src=source, dst=client.ipv6) / UDP(sport=port, dport=9) / Raw(b"x") for port in (4000, 4001)]
    return tell(labels(client, questions, ICMPv6DestUnreach, source), 2)


@check("neighbour advertisements")
def advertisements(client):
    source = client.source6()
    target = socket.inet_pton(socket.AF_INET6, client.ipv6)
    group = socket.inet_ntop(socket.AF_INET6, in6_getnsma(target))
    question = IPv6(src=source, dst=group, hlim=255) / ICMPv6ND_NS(tgt=client.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=client.wire.own_mac)
    frames = client.wire.exchange([client.wire.ether(in6_getnsmac(in6_getnsma(target))) / question], source)
    return tell([frame[IPv6].fl for frame in frames if ICMPv6ND_NA in frame], 1)

"""Checks of multicast listener discovery (RFC 2710, RFC 3810), as a router puts them.

Queries go to the endpoint's hardware address, so that others on the bridge do not take them: a query of version 1 keeps a
host in version 1 mode for as long as the intervals of version 2 queries say.
"""
import socket
import time

from scapy.all import IPv6
from scapy.arch import in6_getifaddr
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    ICMPv6Unknown,
    IPv6ExtHdrHopByHop,
    RouterAlert,
    in6_getnsma,
)

#: Names and functions.
CHECKS = []
RECORDS = {1: "includes", 2: "excludes", 3: "left", 4: "joined"}


def check(name):
    def add(function):
        CHECKS.append((f"MLD: {name}", function))
        return function

    return add


def group_of(client):
    """The solicited-node group of the endpoint's address."""
    return socket.inet_ntop(socket.AF_INET6, in6_getnsma(socket.inet_pton(socket.AF_INET6, client.ipv6)))


def own(client):
    """The link-local address of the client."""
    return next(address for address, scope, name in in6_getifaddr() if name == client.interface and scope == 0x20)


def framed(client, message, alert=(RouterAlert(),), **fields):
    """A frame with a message to all nodes."""
    fields = {"src": own(client), "dst": "ff02::1", "hlim": 1, **fields}
    packet = IPv6(**fields)
    if alert:
        packet /= IPv6ExtHdrHopByHop(options=list(alert))
    return client.wire.ether() / packet / message


def newer(group="::", milliseconds=200, **fields):
    """A query of version 2 by a router that asks each second: a version 1 router is forgotten after three."""
    return ICMPv6MLQuery2(mladdr=group, mrd=milliseconds, **{"QRV": 2, "QQIC": 1, **fields})


def older(group="::", milliseconds=200):
    return ICMPv6MLQuery(mladdr=group, mrd=milliseconds)


def reports(client, frames, seconds=1.0):
    """What the endpoint says of its address's group in answer to `frames`, in words."""
    group, told = group_of(client), []
    heard = client.wire.open()
    try:
        for frame in frames:
            if isinstance(frame, float):
                for answer in client.wire.frames(heard, frame):
                    tell(answer, group, told)
                told.append("then")
            else:
                heard.send(bytes(frame))
        for answer in client.wire.frames(heard, seconds):
            tell(answer, group, told)
    finally:
        heard.close()
    return "; ".join(told) or "silent"


def records_of(report):
    """The records of a report of version 2, which scapy puts into one another."""
    for record in report.records:
        while isinstance(record, ICMPv6MLDMultAddrRec):
            yield record
            record = record.payload


def tell(frame, group, told):
    if IPv6 not in frame:
        return
    packet = frame[IPv6]
    alert = "" if packet.haslayer(RouterAlert) else ", no router alert"
    extra = alert + ("" if packet.hlim == 1 else f", hop limit {packet.hlim}")
    place = "its group" if packet.dst == group else packet.dst
    if ICMPv6MLReport2 in packet:
        records = list(records_of(packet[ICMPv6MLReport2]))
        found = [RECORDS.get(record.rtype, record.rtype) for record in records if record.dst == group]
        others = " and others" if len(records) > len(found) else ""
        if found:
            told.append(f"v2 {' and '.join(found)}{others} to {place}{extra}")
    elif ICMPv6MLReport in packet and packet[ICMPv6MLReport].mladdr == group:
        told.append(f"v1 report to {place}{extra}")
    elif ICMPv6MLDone in packet:
        told.append(f"v1 done to {place}{extra}")


#: A version 2 query that makes the time of a version 1 router short, and does not ask for any group of the endpoint.
def short(client):
    return framed(client, newer("ff02::1:ff99:9999"))


for name, message in (
    ("general query, version 2", lambda c: newer()),
    ("general query, at once", lambda c: newer(milliseconds=0)),
    ("query for its group", lambda c: newer(group_of(c))),
    ("query for its group, at once", lambda c: newer(group_of(c), 0)),
    ("query for another group", lambda c: newer("ff02::1:ff99:9999")),
    ("query for all nodes", lambda c: newer("ff02::1")),
    ("query for two sources of its group", lambda c: newer(group_of(c), sources=["2001:db8::1", "2001:db8::2"])),
    ("general query for a source", lambda c: newer(sources=["2001:db8::1"])),
    ("query for what is no group", lambda c: newer(c.ipv6)),
):
    CHECKS.append((f"MLD: {name}", lambda c, m=message: reports(c, [framed(c, m(c))])))

for name, fields in (
    ("without router alert", {"alert": ()}),
    ("with router alert for RSVP", {"alert": (RouterAlert(value=1),)}),
    ("with hop limit 2", {"hlim": 2}),
    ("with hop limit 255", {"hlim": 255}),
    ("from a global address", {"src": None}),
    ("from ::", {"src": "::"}),
):

    def run(client, fields=fields):
        fields = {name: client.source6() if value is None else value for name, value in fields.items()}
        return reports(client, [framed(client, newer(), **fields)])

    CHECKS.append((f"MLD: query {name}", run))

for length in (20, 25, 26, 27):

    def run(client, length=length):
        # The code of 200 ms, then zeroes.
        message = ICMPv6Unknown(type=130, code=0, msgbody=(b"\0\xc8" + bytes(length))[: length - 4])
        return reports(client, [framed(client, message)])

    CHECKS.append((f"MLD: query of {length} bytes", run))


@check("query twice, answers")
def twice(client):
    return reports(client, [framed(client, newer()), framed(client, newer())])


@check("general query, version 1")
def version_1(client):
    return reports(client, [short(client), framed(client, older())])


@check("query of version 1 for its group, at once")
def version_1_group(client):
    return reports(client, [short(client), framed(client, older(group_of(client), 0))])


@check("query of version 1, without router alert")
def version_1_alert(client):
    time.sleep(3.5)
    return reports(client, [short(client), framed(client, older(), alert=())])


@check("query of version 1, then of version 2")
def both(client):
    return reports(client, [short(client), framed(client, older()), 1.0, framed(client, newer())])


@check("query of version 1, then of version 2 after its time")
def both_later(client):
    return reports(client, [short(client), framed(client, older()), 4.0, framed(client, newer())])


def other_report(client, **fields):
    group = group_of(client)
    return framed(client, ICMPv6MLReport(mladdr=group), **{"dst": group, **fields})


@check("query of version 1, another reports")
def suppressed(client):
    group = group_of(client)
    frames = [short(client), framed(client, older(group, 2000)), multicast(client, other_report(client))]
    return reports(client, frames, 3)


@check("query of version 1, another reports from a global address")
def not_suppressed(client):
    group = group_of(client)
    report = multicast(client, other_report(client, src=client.source6()))
    return reports(client, [short(client), framed(client, older(group, 1000)), report], 2)


def multicast(client, frame):
    """The same, to the group's hardware address: a host believes no other."""
    frame.dst = "33:33:ff:" + ":".join(f"{byte:02x}" for byte in socket.inet_pton(socket.AF_INET6, client.ipv6)[-3:])
    return frame

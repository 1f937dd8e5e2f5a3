"""Checks of IGMP (RFC 1112, RFC 2236, RFC 3376) and of what comes to a group, as a router and a neighbour put them.

Each endpoint is in two groups of its own that have one hardware address. Queries go to the endpoint's hardware address, so
that others on the bridge do not take them: a query of version 1 or 2 keeps a host in that version for as long as the
intervals of version 3 queries say.
"""
import socket
import struct
import time

from scapy.all import ICMP, IP, TCP, UDP, Raw
from scapy.layers.inet import IPOption_Router_Alert

#: Names and functions.
CHECKS = []
RECORDS = {1: "includes", 2: "excludes", 3: "left", 4: "joined"}
ALL_HOSTS = "224.0.0.1"
QUERY, REPORT_1, REPORT_2, LEAVE, REPORT_3 = 0x11, 0x12, 0x16, 0x17, 0x22


def check(name):
    def add(function):
        CHECKS.append((f"IGMP: {name}", function))
        return function

    return add


def groups(number):
    """The groups of the endpoint of that client."""
    return [f"239.1.{number}.3", f"239.129.{number}.3"]


def group_of(client):
    return groups(client.options.own)[0]


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def message(kind, code, group, rest=b"", wrong=0):
    data = struct.pack("!BBH4s", kind, code, 0, socket.inet_aton(group)) + rest
    return data[:2] + struct.pack("!H", checksum(data) ^ wrong) + data[4:]


def newer(group="0.0.0.0", code=2, flags=2, interval=1, sources=(), number=None, more=b"", **fields):
    """A query of version 3 by a router that asks each second: an older router is forgotten after two."""
    number = len(sources) if number is None else number
    rest = struct.pack("!BBH", flags, interval, number) + b"".join(map(socket.inet_aton, sources)) + more
    return message(QUERY, code, group, rest, **fields)


def older(code, group="0.0.0.0"):
    return message(QUERY, code, group)


def framed(client, data, alert=True, **fields):
    """A frame with a message to all hosts."""
    fields = {"src": client.source(), "dst": ALL_HOSTS, "ttl": 1, "proto": 2, **fields}
    if alert:
        fields["options"] = [IPOption_Router_Alert()]
    return client.wire.ether() / IP(**fields) / Raw(data)


def multicast(client, frame):
    """The same, to the groups' hardware address: a host believes no report that came to it alone."""
    _, high, middle, low = socket.inet_aton(group_of(client))
    frame.dst = f"01:00:5e:{high & 0x7F:02x}:{middle:02x}:{low:02x}"
    return frame


def reports(client, frames, seconds=1.0):
    """What the endpoint says of its groups in answer to `frames`, in words."""
    told = []
    heard = client.wire.open()
    try:
        for frame in frames:
            if isinstance(frame, float):
                said = [words for answer in client.wire.frames(heard, frame) if (words := tell(client, answer))]
                told += sorted(said) + ["then"]
            else:
                heard.send(bytes(frame))
        # Each group has its own time to older routers.
        told += sorted(words for answer in client.wire.frames(heard, seconds) if (words := tell(client, answer)))
    finally:
        heard.close()
    return "; ".join(told) or "silent"


def tell(client, frame):
    """A message of the endpoint in words, with all that is unlike the usual in its headers."""
    if IP not in frame or frame[IP].proto != 2:
        return None
    packet = frame[IP]
    header = bytes(packet)[: packet.ihl * 4]
    data = bytes(packet)[packet.ihl * 4 : packet.len]
    first, twin = groups(client.options.own)

    def word(group):
        return {first: "its group", twin: "its other group"}.get(group, group)

    unusual = [
        text
        for usual, text in (
            (header[20:] == b"\x94\x04\0\0", f"options {header[20:].hex()}"),
            (packet.ttl == 1, f"ttl {packet.ttl}"),
            (packet.tos == 0xC0, f"tos {packet.tos:#x}"),
            (packet.flags == "DF", f"flags {packet.flags}"),
            (packet.src == client.ipv4, f"from {packet.src}"),
            (checksum(data) == 0, "bad checksum"),
        )
        if not usual
    ]
    kind, code, group = data[0], data[1], socket.inet_ntoa(data[4:8])
    name = {REPORT_1: "v1 report", REPORT_2: "v2 report", LEAVE: "v2 leave", REPORT_3: "v3 report"}.get(kind, hex(kind))
    if kind == REPORT_3:
        (number,) = struct.unpack("!H", data[6:8])
        records = []
        for at in range(8, 8 + 8 * number, 8):
            record, auxiliary, sources, address = struct.unpack("!BBH4s", data[at : at + 8])
            address = socket.inet_ntoa(address)
            beside = "" if (auxiliary, sources) == (0, 0) else f" ({auxiliary} words, {sources} sources)"
            records.append(f"{RECORDS.get(record, record)} {word(address)}{beside}")
        # The order of groups says nothing.
        what = " and ".join(sorted(records))
    else:
        what = word(group)
    return ", ".join([f"{name} of {what} to {word(packet.dst)}"] + ([f"code {code}"] if code else []) + unusual)


#: A version 3 query that makes the time of an older router short, and does not ask for any group of the endpoint.
def short(client):
    return framed(client, newer("239.9.9.9"))


for name, data in (
    ("general query, version 3", lambda g: newer()),
    ("general query, at once", lambda g: newer(code=0)),
    ("query for its group", lambda g: newer(g)),
    ("query for its group, S flag", lambda g: newer(g, flags=10)),
    ("query for its group, robustness 0", lambda g: newer(g, flags=0)),
    ("query for its group, robustness 7", lambda g: newer(g, flags=7)),
    ("query for its group, reserved bits", lambda g: newer(g, flags=0xF2)),
    ("query for another group", lambda g: newer("239.9.9.9")),
    ("query for all hosts", lambda g: newer(ALL_HOSTS)),
    ("query for what is no group", lambda g: newer("10.77.0.2")),
    ("query for two sources of its group", lambda g: newer(g, sources=["192.0.2.1", "192.0.2.2"])),
    ("query for a source, data behind it", lambda g: newer(g, sources=["192.0.2.1"], more=b"auxiliary data")),
    ("query for sources, cut short", lambda g: newer(g, sources=["192.0.2.1"], number=2)),
    ("general query for a source", lambda g: newer(sources=["192.0.2.1"])),
    ("general query, data behind it", lambda g: newer(more=b"auxiliary data")),
    ("query with a wrong checksum", lambda g: newer(wrong=1)),
    ("query of 4 bytes", lambda g: newer()[:4]),
    ("query of 9 bytes", lambda g: message(QUERY, 2, "0.0.0.0", b"\2")),
    ("query of 11 bytes", lambda g: message(QUERY, 2, "0.0.0.0", b"\2\1\0")),
    ("unknown type", lambda g: message(0x55, 2, "0.0.0.0")),
):
    CHECKS.append((f"IGMP: {name}", lambda c, d=data: reports(c, [framed(c, d(group_of(c)))])))

for name, fields in (
    ("without router alert", {"alert": False}),
    ("with time to live 64", {"ttl": 64}),
    ("to its group", {"dst": None}),
    ("to its address", {"dst": ""}),
    ("from 0.0.0.0", {"src": "0.0.0.0"}),
    ("from 0.0.0.0 to its group", {"src": "0.0.0.0", "dst": None}),
    ("from 0.0.0.0 to its address", {"src": "0.0.0.0", "dst": ""}),
    ("from another network", {"src": "192.0.2.9"}),
    ("from its own address", {"src": ""}),
    ("from a group", {"src": "239.9.9.9"}),
    ("from 127.0.0.1", {"src": "127.0.0.1"}),
    ("from broadcast", {"src": "255.255.255.255"}),
    ("to the routers' group", {"dst": "224.0.0.2"}),
):

    def run(client, fields=fields):
        instead = {None: group_of(client), "": client.ipv4}
        return reports(client, [framed(client, newer(), **{key: instead.get(value, value) for key, value in fields.items()})])

    CHECKS.append((f"IGMP: query {name}", run))


@check("query twice, answers")
def twice(client):
    return reports(client, [framed(client, newer()), framed(client, newer())])


@check("query of version 1 for its group")
def version_1(client):
    # It has ten seconds to answer: the router is there for 2 × 6 + 5.
    told = reports(client, [framed(client, newer("239.9.9.9", interval=6)), framed(client, older(0, group_of(client)))], 11)
    time.sleep(7)
    return told


for name, frames, seconds in (
    ("general query, version 2", lambda c: [older(2)], 1),
    ("query of version 2 for its group", lambda c: [older(2, group_of(c))], 1),
    ("query of version 2 for another group", lambda c: [older(2, "239.9.9.9")], 1),
    ("query of version 2, then of version 3", lambda c: [older(2), 1.0, newer()], 1),
    ("query of version 2, then of version 3 after its time", lambda c: [older(2), 3.0, newer()], 1),
    ("query of version 1, then of version 2", lambda c: [older(0), older(2)], 2),
):

    def run(client, frames=frames, seconds=seconds):
        time.sleep(2.5)
        frames = [frame if isinstance(frame, float) else framed(client, frame) for frame in frames(client)]
        return reports(client, [short(client)] + frames, seconds)

    CHECKS.append((f"IGMP: {name}", run))


for version, kind in ((1, REPORT_1), (2, REPORT_2)):
    for name, is_multicast in (("another reports", True), ("another reports to it alone", False)):

        def run(client, kind=kind, is_multicast=is_multicast):
            time.sleep(2.5)
            group = group_of(client)
            report = framed(client, message(kind, 0, group), dst=group)
            report = multicast(client, report) if is_multicast else report
            return reports(client, [short(client), framed(client, older(15)), report], 2)

        CHECKS.append((f"IGMP: query of version 2, {name} in version {version}", run))


def to_group(client, upper, group=None):
    """What the endpoint sends back to the datagram, in words."""
    source = client.source()
    frame = client.wire.ether() / IP(src=source, dst=group or group_of(client), ttl=1) / upper
    # The echo service is a program, which need not be as quick as a kernel.
    late = (lambda answer: UDP in answer) if UDP in upper and upper[UDP].dport == 7 else None
    answers = client.wire.exchange([multicast(client, frame)], source, late, 1)
    words = [f"{answer[IP].src == client.ipv4 and 'own address' or answer[IP].src}: {answer[IP].payload.name}" for answer in answers if IP in answer]
    return "; ".join(words) or "silent"


for name, upper in (
    ("echo to its group", ICMP(type=8) / b"data"),
    ("timestamp to its group", ICMP(type=13)),
    ("echo reply to its group", ICMP(type=0) / b"data"),
    ("UDP echo to its group", UDP(sport=4000, dport=7) / b"data"),
    ("closed port of its group", UDP(sport=4000, dport=9) / b"data"),
    ("TCP to its group", TCP(sport=4000, dport=9, flags="S")),
):
    CHECKS.append((f"IGMP: {name}", lambda c, u=upper: to_group(c, u)))

CHECKS.append(
    (
        "IGMP: UDP echo to another group of the same hardware address",
        lambda c: to_group(c, UDP(sport=4000, dport=7) / b"data", group_of(c).replace("239.1.", "238.1.")),
    )
)

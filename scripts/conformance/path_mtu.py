"""Checks of path MTU discovery (RFC 1191, RFC 8201): the client asks for a large echo, and then says, as a router on the
way would, that the answer was too big. The next answer tells what the endpoint makes of it.
"""
from scapy.all import ICMP, IP, IPv6, Raw
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6ExtHdrFragment

#: Names and functions.
CHECKS = []
#: The payload, so that the answer has 1,428 bytes over IPv4 and 1,448 over IPv6.
PAYLOAD = bytes(range(256)) * 5 + bytes(120)


def ask(client, source):
    """An echo request from `source`, and the endpoint's answer, as packets."""
    if ":" in source:
        asked = IPv6(src=source, dst=client.ipv6) / ICMPv6EchoRequest(id=77, seq=1, data=PAYLOAD)
    else:
        asked = IP(src=source, dst=client.ipv4) / ICMP(type=8, id=77, seq=1) / Raw(PAYLOAD)
    heard = client.wire.open()
    try:
        heard.send(bytes(client.wire.ether() / asked))
        answers, left = [], len(PAYLOAD) + 8
        for frame in client.wire.frames(heard, 2):
            packet = frame.payload
            if isinstance(packet, IPv6) and packet.dst == source and packet.nh in (44, 58) and not is_search(packet):
                answers.append(packet)
                left -= packet.plen - (8 if packet.nh == 44 else 0)
            elif isinstance(packet, IP) and packet.dst == source and packet.proto == 1:
                answers.append(packet)
                left -= packet.len - 20
            if left <= 0:
                return answers
        return answers
    finally:
        heard.close()


def is_search(packet):
    return packet.nh == 58 and bytes(packet.payload)[0] in (135, 136)


def lengths(packets):
    return " + ".join(str(len(packet)) for packet in packets) or "no answer"


def told(client, source, mtu, change=None, by=None, small=False):
    """What answers to `source` look like before and after an error about one."""
    first = ask(client, source)
    if len(first) != 1:
        return f"before: {lengths(first)}"
    quoted = first[0].copy()
    if change:
        change(quoted)
    version6 = ":" in source
    if version6:
        quote = bytes(quoted)[: 150 if small else 1232]
        error = IPv6(src=by or source, dst=client.ipv6) / ICMPv6PacketTooBig(mtu=mtu) / Raw(quote)
    else:
        quote = bytes(quoted)[: 28 if small else 548]
        error = IP(src=by or source, dst=client.ipv4) / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(quote)
    heard = client.wire.open()
    heard.send(bytes(client.wire.ether() / error))
    heard.close()
    return lengths(ask(client, source))


def add(name, run):
    CHECKS.append((f"path MTU: {name}", run))


for version, values in ((4, (1427, 1300, 1000, 600, 552, 551, 100, 0, 1428, 1500, 65535)),
                        (6, (1447, 1300, 1280, 1279, 1000, 0, 1448, 1500, 65535, 0xFFFFFFFF))):
    for value in values:
        add(
            f"IPv{version}, {value}",
            lambda client, v=version, m=value: told(client, client.source() if v == 4 else client.source6(), m),
        )


def source_of(client, version):
    return client.source() if version == 4 else client.source6()


def another(packet):
    """Makes a packet somebody else's."""
    if packet.version == 4:
        packet.src = "10.77.9.9"
        del packet.chksum
    else:
        packet.src = "fd77::9:9"


for version in (4, 6):
    add(
        f"IPv{version}, 1300 by a stranger",
        lambda c, v=version: told(c, source_of(c, v), 1300, by=source_of(c, v)),
    )
    add(f"IPv{version}, 1300 about another's packet", lambda c, v=version: told(c, source_of(c, v), 1300, another))
    add(f"IPv{version}, 1300, a short quote", lambda c, v=version: told(c, source_of(c, v), 1300, small=True))

    def twice(client, version=version):
        source = source_of(client, version)
        quoted = ask(client, source)[0]
        for mtu in (1300, 1400):
            if version == 4:
                error = IP(src=source, dst=client.ipv4) / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(bytes(quoted)[:548])
            else:
                error = IPv6(src=source, dst=client.ipv6) / ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(quoted)[:1232])
            heard = client.wire.open()
            heard.send(bytes(client.wire.ether() / error))
            heard.close()
        return lengths(ask(client, source))

    add(f"IPv{version}, 1300 and then 1400", twice)

    def beside(client, version=version):
        told(client, source_of(client, version), 1300)
        return lengths(ask(client, source_of(client, version)))

    add(f"IPv{version}, another destination", beside)

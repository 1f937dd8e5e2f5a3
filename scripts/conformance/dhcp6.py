#!/usr/bin/env python3
"""A DHCPv6 server that tells each endpoint something else, and what the endpoints make of it.

    dhcp6.py --interface eth0 --out VERDICTS.json MAC…

The n-th endpoint gets the n-th case of the list. Addresses that it uses are found by neighbour solicitations, which need no
route: an address from DHCPv6 brings none.
"""
import argparse
import json
import select
import socket
import struct
import time

SOLICIT, ADVERTISE, REQUEST, RENEW, REBIND, REPLY, RECONFIGURE, RELAY_REPLY = 1, 2, 3, 5, 6, 7, 10, 13
CLIENT, SERVER, IA_NA, IA_ADDRESS, PREFERENCE, STATUS, RAPID = 1, 2, 3, 5, 7, 13, 14
OWN, OTHER = bytes([0, 2, 0, 0, 0, 9, 1]), bytes([0, 2, 0, 0, 0, 9, 2])
#: Seconds from a grant to the verdict, and from the start to the end of everything.
WATCHED, LONGEST = 12, 40
FOR_EVER = 0xFFFFFFFF


def option(code, content=b""):
    return struct.pack(">HH", code, len(content)) + content


def status(code):
    return option(STATUS, struct.pack(">H", code))


def address(endpoint, tens=0, preferred=3600, valid=3600):
    return option(IA_ADDRESS, endpoint.numbered(tens) + struct.pack(">II", preferred, valid))


def association(t1=0, t2=0, *inside, shift=0):
    """An association whose addresses are these; each a function of the endpoint, or bytes."""

    def build(endpoint):
        content = b"".join(each(endpoint) if callable(each) else each for each in inside or (address,))
        return option(IA_NA, struct.pack(">III", (endpoint.association + shift) & FOR_EVER, t1, t2) + content)

    return build


def leased(**lifetimes):
    return lambda endpoint: address(endpoint, **lifetimes)


def fixed(text):
    place = socket.inet_pton(socket.AF_INET6, text)
    return option(IA_ADDRESS, place + struct.pack(">II", 3600, 3600))


USUAL = association()
GONE = leased(preferred=0, valid=0)


class Case:
    """What one endpoint hears: the parts of advertisements, of replies to requests, and of replies to renewals. Messages in
    `before` are sent before the reply: kind, server and parts."""

    def __init__(self, name, both=None, advertise=None, reply=None, renewal=None, server=OWN, client=True, flip=0, kinds=None, before=()):
        self.name, self.server, self.client, self.flip, self.before = name, server, client, flip, before
        both = both or [USUAL]
        self.advertise, self.reply = advertise or both, reply or both
        self.renewal = renewal or self.reply
        self.advertise_kind, self.reply_kind = kinds or (ADVERTISE, REPLY)
        if renewal:
            self.reply = [association(2, 3000)]


CASES = [
    Case("lease of an hour"),
    Case("preference of 255", advertise=[USUAL, option(PREFERENCE, b"\xff")]),
    Case("T1 after T2", [association(20, 10)]),
    Case("T1 of 1 s", [association(1, 2)]),
    Case("T1 of 0, T2 of 1 s", [association(0, 1)]),
    Case("lifetimes of 3 s", [association(0, 0, leased(preferred=3, valid=3))]),
    Case("lifetimes of 0", [association(0, 0, GONE)]),
    Case("preferred for longer than valid", [association(0, 0, leased(preferred=3601))]),
    Case("deprecated from the start", [association(0, 0, leased(preferred=0))]),
    Case("for ever, T1 of 1 s", [association(1, 2, leased(preferred=FOR_EVER, valid=FOR_EVER))]),
    Case("T1 after the end", [association(90, 99, leased(preferred=4, valid=4))]),
    Case("no server identifier", server=None),
    Case("no client identifier", client=False),
    Case("another transaction", flip=1),
    Case("another association", [association(shift=1)]),
    Case("another association first", [association(0, 0, leased(tens=7), shift=1), USUAL]),
    Case("no association", [b""]),
    Case("no address in the association", [association(0, 0, b"")]),
    Case("no addresses at all", [status(2), USUAL]),
    Case("no addresses in the association", [association(0, 0, status(2))]),
    Case("failure", [status(1), USUAL]),
    Case("an unknown status", [status(999), USUAL]),
    Case("an unknown status in the association", [association(0, 0, address, status(999))]),
    Case("two addresses", [association(0, 0, address, leased(tens=7))]),
    Case("another address than advertised", reply=[association(0, 0, leased(tens=7))]),
    Case("unknown options", [option(999, b"?"), association(0, 0, option(998), address), option(997)]),
    Case("an option over the end", [USUAL, b"\x03\xe7\x00\x09?"]),
    Case("an option over the end of the association", [association(0, 0, address, b"\x03\xe7\x00\x09?")]),
    Case("an association too short", [option(IA_NA, bytes(11)), USUAL]),
    Case("a group's address", [association(0, 0, fixed("ff02::9"))]),
    Case("reply of another server", before=[(REPLY, OTHER, [association(0, 0, leased(tens=7))])]),
    Case("failure of another server", before=[(REPLY, OTHER, [status(2)])]),
    Case("a reply to a solicitation", kinds=(REPLY, REPLY)),
    Case("a rapid reply to a solicitation", [USUAL, option(RAPID)], kinds=(REPLY, REPLY)),
    Case("a relay's reply", kinds=(RELAY_REPLY, RELAY_REPLY)),
    Case("a reconfiguration", kinds=(RECONFIGURE, RECONFIGURE)),
    Case("renewal with another address", renewal=[association(0, 0, GONE, leased(tens=7))]),
    Case("renewal that takes the address back", renewal=[association(0, 0, GONE)], advertise=[USUAL]),
    Case("renewal with one more address", renewal=[association(0, 0, address, leased(tens=7))]),
    Case("renewal not on link", renewal=[association(0, 0, status(4))]),
    Case("renewal that fails", renewal=[status(1)]),
]


def checksum(source, destination, protocol, data):
    data = source + destination + struct.pack(">II", len(data), protocol) + data
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def link_local(mac):
    return bytes([0xFE, 0x80]) + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


class Endpoint:
    def __init__(self, case, number, mac):
        self.case, self.number, self.mac = case, number, mac
        self.association, self.granted = 0, None
        #: Messages of each kind while it is watched, solicitations after its first request, addresses that it answers for.
        self.renewals, self.solicits, self.again, self.has_requested = 0, 0, 0, False
        self.answers = set()

    def numbered(self, tens):
        return socket.inet_pton(socket.AF_INET6, f"fd79:0:0:6::{tens + 1:x}:{self.number + 1:x}")

    def is_watched(self):
        return self.granted is not None and time.monotonic() - self.granted <= WATCHED


class Server:
    def __init__(self, interface):
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.wire.bind((interface, 3))
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
            self.mac = bytes.fromhex(file.read().strip().replace(":", ""))
        self.address = link_local(self.mac)

    def send(self, mac, destination, protocol, hops, data):
        at = 6 if protocol == 17 else 2
        data = data[:at] + struct.pack(">H", checksum(self.address, destination, protocol, data)) + data[at + 2 :]
        header = struct.pack(">IHBB", 0x60000000, len(data), protocol, hops) + self.address + destination
        self.wire.send(mac + self.mac + b"\x86\xdd" + header + data)

    def say(self, endpoint, source, request, kind, server, parts):
        transaction = bytes([request[1], request[2], request[3] ^ endpoint.case.flip])
        message = bytes([kind]) + transaction
        if endpoint.case.client:
            message += option(CLIENT, find(request, CLIENT))
        if server:
            message += option(SERVER, server)
        message += b"".join(part(endpoint) if callable(part) else part for part in parts)
        self.send(endpoint.mac, source, 17, 64, struct.pack(">HHHH", 547, 546, 8 + len(message), 0) + message)

    def heard(self, endpoint, source, request):
        case, kind = endpoint.case, request[0]
        own = find(request, IA_NA)
        if own:
            endpoint.association = struct.unpack(">I", own[:4])[0]
        if kind == SOLICIT:
            endpoint.solicits += 1
            endpoint.again += endpoint.has_requested
            self.say(endpoint, source, request, case.advertise_kind, case.server, case.advertise)
        elif kind == REQUEST:
            for what, server, parts in () if endpoint.has_requested else case.before:
                self.say(endpoint, source, request, what, server, parts)
            self.say(endpoint, source, request, case.reply_kind, case.server, case.reply)
            endpoint.has_requested = True
            endpoint.granted = endpoint.granted or time.monotonic()
        elif kind in (RENEW, REBIND):
            endpoint.renewals += endpoint.is_watched()
            self.say(endpoint, source, request, case.reply_kind, case.server, case.renewal)

    def ask(self, endpoint, target):
        """Asks an endpoint if it has that address."""
        group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
        data = bytes([135, 0, 0, 0]) + bytes(4) + target + bytes([1, 1]) + self.mac
        self.send(endpoint.mac, group, 58, 255, data)


def find(message, code):
    """The content of the first such option of a client's message."""
    at = 4
    while at + 4 <= len(message):
        found, length = struct.unpack(">HH", message[at : at + 4])
        if found == code:
            return message[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def listen(server, endpoints, span):
    """Serves what comes within that many seconds."""
    end = time.monotonic() + span
    while (left := end - time.monotonic()) > 0:
        if not select.select([server.wire], [], [], left)[0]:
            return
        frame = server.wire.recv(70000)
        endpoint = endpoints.get(frame[6:12])
        if endpoint is None or frame[12:14] != b"\x86\xdd":
            continue
        if frame[20] == 17 and frame[56:58] == struct.pack(">H", 547):
            server.heard(endpoint, frame[22:38], frame[62:])
        elif frame[20] == 58 and frame[54] == 136:
            endpoint.answers.add(frame[62:78])


def verdict(endpoint):
    """What the endpoint has made of what it heard, in a few words."""
    case = endpoint.case
    first, second = (endpoint.numbered(tens) in endpoint.answers for tens in (0, 7))
    if not (first or second):
        return "no address" + (", second search" if endpoint.again else "") if endpoint.solicits else "silent"
    told = ["two addresses" if first and second else "address" if first else "another address"]
    if endpoint.again:
        told[0] += ", second search"
    rate = endpoint.renewals / WATCHED
    told.append("no renewal" if not rate else "renews" if rate < 4 else "floods")
    return ", ".join(told)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interface", default="eth0")
    parser.add_argument("--out")
    parser.add_argument("--count", action="store_true", help="print how many cases there are")
    parser.add_argument("endpoints", nargs="*")
    options = parser.parse_args()
    if options.count:
        print(len(CASES))
        return
    server, endpoints = Server(options.interface), {}
    for number, (case, mac) in enumerate(zip(CASES, options.endpoints, strict=True)):
        mac = bytes.fromhex(mac.replace(":", ""))
        endpoints[mac] = Endpoint(case, number, mac)
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        listen(server, endpoints, 0.2)
        if all(each.granted and time.monotonic() > each.granted + WATCHED for each in endpoints.values()):
            break
    # Asked thrice, and more often while it does not answer: an endpoint that searches again has no address for a moment.
    for turn in range(10):
        for endpoint in endpoints.values():
            for tens in (0, 7) if turn < 3 or not endpoint.answers else ():
                server.ask(endpoint, endpoint.numbered(tens))
        listen(server, endpoints, 0.5)
    verdicts = {f"DHCPv6: {each.case.name}": verdict(each) for each in endpoints.values()}
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(verdicts, file)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A DHCP server that tells each endpoint something else, and what the endpoints make of it.

    dhcp.py --interface eth0 --out VERDICTS.json MAC[=PID]…

The n-th endpoint gets the n-th case of the list; PID is its client's, if that renews only when it is told (SIGUSR1).
This namespace has 10.79.0.1/16. Endpoints ping 192.0.2.1 once a second: whom they ask for by ARP is their next hop.
"""
import argparse
import concurrent.futures
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time

SERVER, OTHER = bytes([10, 79, 0, 1]), bytes([10, 79, 0, 9])
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
MASK, ROUTER, MTU, OVERLOAD, LEASE, TYPE, IDENTIFIER, T1, T2, ROUTES = 1, 3, 26, 52, 51, 53, 54, 58, 59, 121
#: Seconds from a grant to the verdict, and from the start to the end of everything.
WATCHED, LONGEST = 8, 40
#: What endpoints ping.
ELSEWHERE = bytes([192, 0, 2, 1])


def seconds(number):
    return struct.pack(">I", number)


class Case:
    """What one endpoint hears. `offer` and `ack` change the usual options, `None` takes one away; `renewal` those of later
    grants. `shape` changes the whole message; `before` are messages sent before the acknowledgement."""

    def __init__(self, name, offer=None, ack=None, both=None, renewal=None, shape=None, before=(), ping=56):
        self.name, self.ping = name, ping
        self.offer = {**(both or {}), **(offer or {})}
        self.ack = {**(both or {}), **(ack or {})}
        self.renewal, self.shape, self.before = renewal, shape, before
        #: Whether clients renew within the time that they are watched.
        self.renews = renewal is not None
        if self.renews:
            self.ack = {**self.ack, T1: seconds(2), T2: seconds(3000)}


def moved(field, *codes):
    """Moves these options to `file` (1) or `sname` (2)."""

    def shape(options, message):
        room = {1: (108, 128), 2: (44, 64)}
        inside = b"".join(option(code, options.pop(code)) for code in codes)
        start, length = room[field]
        message[start : start + length] = (inside + b"\xff").ljust(length, b"\0")
        options[OVERLOAD] = bytes([options.get(OVERLOAD, b"\0")[0] | field])

    return shape


def both(*shapes):
    def shape(options, message):
        for each in shapes:
            each(options, message)

    return shape


def byte(at, value):
    """Changes one byte of the message."""

    def shape(_options, message):
        message[at] = value

    return shape


def split(code, length):
    """Sends the option in two pieces."""

    def shape(options, _message):
        content = options[code]
        options[code] = [content[:length], content[length:]]

    return shape


def overrun(_options, message):
    message.behind = bytes([12, 200, 97])


DEFAULT = bytes([0]) + OTHER
CASES = [
    Case("lease of an hour"),
    Case("T1 of 0", both={T1: seconds(0)}),
    Case("T2 of 0", both={T2: seconds(0)}),
    Case("T1 and T2 of 0", both={T1: seconds(0), T2: seconds(0)}),
    Case("T1 after T2", both={T1: seconds(2), T2: seconds(1)}),
    Case("T2 after the end", both={T1: seconds(5000), T2: seconds(9000)}),
    Case("T1 of 1 s", both={T1: seconds(1), T2: seconds(2)}),
    Case("lease of 3 s", both={LEASE: seconds(3)}),
    Case("lease of 0 s", both={LEASE: seconds(0)}),
    Case("lease for ever, T1 of 1 s", both={LEASE: seconds(0xFFFFFFFF), T1: seconds(1), T2: seconds(2)}),
    Case("no lease time", both={LEASE: None}),
    Case("offer without server identifier", offer={IDENTIFIER: None}),
    Case("ack without server identifier", ack={IDENTIFIER: None}),
    Case("another transaction", shape=byte(7, 0xA5)),
    Case("another client", shape=byte(33, 0xA5)),
    Case("a request for a reply", shape=byte(0, 1)),
    Case("hardware address of 16 bytes", shape=byte(2, 16)),
    Case("no cookie", shape=byte(236, 0)),
    Case("an option over the end", shape=overrun),
    Case("offer of 0.0.0.0", shape=lambda _, message: message.__setitem__(slice(16, 20), bytes(4))),
    Case("second offer, of another server", before=[(OFFER, {IDENTIFIER: OTHER}, 7)]),
    Case("refusal of another server", before=[(NAK, {IDENTIFIER: OTHER}, 0)]),
    Case("refusal without server identifier", before=[(NAK, {IDENTIFIER: None}, 0)]),
    Case("grant of another server", before=[(ACK, {IDENTIFIER: OTHER}, 7)]),
    Case("grant of another address than offered", before=[(ACK, {}, 7)]),
    Case("options in file", shape=moved(1, LEASE, ROUTER)),
    Case("options in sname", shape=moved(2, LEASE, ROUTER)),
    Case("options in file and sname", shape=both(moved(1, LEASE, MASK), moved(2, ROUTER))),
    Case("split routes", both={ROUTES: DEFAULT}, shape=split(ROUTES, 2)),
    Case("split server identifier", shape=split(IDENTIFIER, 1)),
    Case("no router", both={ROUTER: None}),
    Case("two routers", both={ROUTER: SERVER + OTHER}),
    Case("router outside the mask", both={ROUTER: bytes([169, 254, 1, 1])}),
    Case("routes and a router", both={ROUTES: DEFAULT}),
    Case("routes without a default one, and a router", both={ROUTES: bytes([24, 198, 51, 100]) + OTHER}),
    Case("route with a prefix of 33", both={ROUTES: bytes([33, 1, 2, 3, 4, 5]) + OTHER}),
    Case("route cut short", both={ROUTES: bytes([24, 198, 51, 100]) + OTHER[:2]}),
    Case("route by a router that is on the link", both={ROUTES: bytes([32, 169, 254, 1, 1]) + bytes(4) + bytes([0, 169, 254, 1, 1])}),
    Case("MTU of 1000", both={MTU: struct.pack(">H", 1000)}, ping=1200),
    Case("MTU of 67", both={MTU: struct.pack(">H", 67)}, ping=1200),
    Case("MTU of 9000", both={MTU: struct.pack(">H", 9000)}, ping=3000),
    Case("renewal with another router", renewal={ROUTER: OTHER}),
    Case("renewal with another MTU", renewal={MTU: struct.pack(">H", 1000)}, ping=1200),
    Case("renewal with another address", renewal={"address": 7}),
    Case("renewal without a router", renewal={ROUTER: None}),
]


def option(code, content):
    pieces = content if isinstance(content, list) else [content]
    return b"".join(bytes([code, len(piece)]) + piece for piece in pieces)


class Message(bytearray):
    """A message up to its options, and what comes behind them."""

    behind = b"\xff"


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Endpoint:
    def __init__(self, case, number, mac, pid):
        self.case, self.mac, self.pid = case, mac, pid
        #: The addresses that it may be given: a first one, and another 7 tens later.
        self.number = number
        self.address = self.offered = self.numbered(0)
        self.granted = None
        #: Renewals that it has asked for, and searches, with those after its first request.
        self.renewals, self.discovers, self.again, self.has_requested = 0, 0, 0, False
        #: Next hops, and the largest fragment that it has sent.
        self.hops, self.largest = set(), 0
        self.is_told = False

    def numbered(self, tens):
        return bytes([10, 79, 1 + tens, 1 + self.number])

    def watched(self, start=0):
        """Whether it is `start` to WATCHED seconds since its grant."""
        return self.granted is not None and start <= time.monotonic() - self.granted <= WATCHED


class Server:
    def __init__(self, interface):
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.wire.bind((interface, 3))
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
            self.mac = bytes.fromhex(file.read().strip().replace(":", ""))

    def say(self, endpoint, request, kind, changes, address, shape=None):
        options = {TYPE: bytes([kind]), IDENTIFIER: SERVER}
        if kind != NAK:
            options |= {LEASE: seconds(3600), MASK: bytes([255, 255, 0, 0]), ROUTER: SERVER}
        options |= {code: content for code, content in changes.items() if code != "address"}
        options = {code: content for code, content in options.items() if content is not None}
        message = Message(240)
        message[0:3] = bytes([2, 1, 6])
        message[4:8] = request[4:8]
        message[16:20] = address if kind != NAK else bytes(4)
        message[28:34] = endpoint.mac
        message[236:240] = bytes([99, 130, 83, 99])
        if shape:
            shape(options, message)
        # The overload option comes first, as in the messages of other servers.
        ordered = sorted(options.items(), key=lambda item: (item[0] != TYPE, item[0] != OVERLOAD))
        body = bytes(message) + b"".join(option(code, content) for code, content in ordered) + message.behind
        udp = struct.pack(">HHHH", 67, 68, 8 + len(body), 0) + body
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, SERVER, bytes([255] * 4))
        header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
        self.wire.send(bytes([255] * 6) + self.mac + b"\x08\x00" + header + udp)

    def heard(self, endpoint, request):
        case, kind = endpoint.case, request[242:243]
        if request[240:242] != bytes([TYPE, 1]) or kind not in (bytes([DISCOVER]), bytes([REQUEST])):
            return
        renewing = any(request[12:16])
        if kind == bytes([DISCOVER]):
            endpoint.discovers += 1
            endpoint.again += endpoint.has_requested
            self.say(endpoint, request, OFFER, case.offer, endpoint.offered, case.shape)
        elif renewing:
            endpoint.renewals += endpoint.watched()
            changes = case.ack if case.renewal is None else case.renewal
            endpoint.address = endpoint.numbered(changes.get("address", 0))
            self.say(endpoint, request, ACK, changes, endpoint.address, case.shape)
        else:
            for what, changes, tens in () if endpoint.has_requested else case.before:
                self.say(endpoint, request, what, changes, endpoint.numbered(tens))
            self.say(endpoint, request, ACK, case.ack, endpoint.offered, case.shape)
            endpoint.has_requested = True
            endpoint.granted = endpoint.granted or time.monotonic()


def ping(address, size):
    # An endpoint may take no whole frame of that size.
    subprocess.run(["ip", "route", "replace", address, "dev", "eth0", "mtu", "lock", "576"], check=True)
    words = ["ping", "-n", "-c", "1", "-W", "2", "-M", "dont", "-s", str(size), address]
    return " 1 received" in subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout


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
    for number, (case, endpoint) in enumerate(zip(CASES, options.endpoints, strict=True)):
        mac, _, pid = endpoint.partition("=")
        mac = bytes.fromhex(mac.replace(":", ""))
        endpoints[mac] = Endpoint(case, number, mac, int(pid) if pid else None)
    end = time.monotonic() + LONGEST
    while (now := time.monotonic()) < end:
        granted = [endpoint for endpoint in endpoints.values() if endpoint.granted]
        for endpoint in granted:
            if endpoint.case.renews and endpoint.pid and not endpoint.is_told and now > endpoint.granted + 2:
                endpoint.is_told = True
                os.kill(endpoint.pid, signal.SIGUSR1)
        if len(granted) == len(endpoints) and all(now > each.granted + WATCHED for each in granted):
            break
        listen(server, endpoints, 0.2)
    # The leases go on while it is asked who answers.
    with concurrent.futures.ThreadPoolExecutor(2 * len(CASES)) as pool:
        answers = {mac: pool.submit(answering, endpoint) for mac, endpoint in endpoints.items()}
        while not all(answer.done() for answer in answers.values()):
            listen(server, endpoints, 0.1)
    verdicts = {f"DHCP: {each.case.name}": verdict(each, answers[mac].result()) for mac, each in endpoints.items()}
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(verdicts, file)


def listen(server, endpoints, span):
    """Serves what comes within that many seconds."""
    end = time.monotonic() + span
    while (left := end - time.monotonic()) > 0:
        if not select.select([server.wire], [], [], left)[0]:
            return
        frame = server.wire.recv(70000)
        endpoint = endpoints.get(frame[6:12])
        if endpoint is None:
            continue
        is_ip = frame[12:14] == b"\x08\0"
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[28:32] != frame[38:42]:
            # It also looks for who asks it.
            if endpoint.watched(4) and frame[38:42] != SERVER:
                endpoint.hops.add(socket.inet_ntoa(frame[38:42]))
        elif is_ip and frame[23] == 17 and frame[36:38] == b"\0\x43":
            server.heard(endpoint, frame[42:])
        elif is_ip and frame[23] == 1:
            length, _, fragment = struct.unpack(">HHH", frame[16:22])
            if fragment & 0x3FFF:
                endpoint.largest = max(endpoint.largest, length)
            elif frame[30:34] == ELSEWHERE and frame[0:6] == server.mac and endpoint.watched(4):
                endpoint.hops.add(socket.inet_ntoa(SERVER))


def answering(endpoint):
    """At which of its addresses the endpoint answers, and whether it does to large echo requests too, if there are any."""
    places = [place for place in (endpoint.numbered(0), endpoint.numbered(7)) if ping(socket.inet_ntoa(place), 56)]
    return places, all(ping(socket.inet_ntoa(place), endpoint.case.ping) for place in places)


def verdict(endpoint, found):
    """What the endpoint has made of what it heard, in a few words."""
    case, (answers, is_whole) = endpoint.case, found
    if not answers:
        return "no address" if endpoint.discovers else "silent"
    told = ["two addresses" if len(answers) > 1 else "address" if answers[0] == endpoint.offered else "another address"]
    if endpoint.again:
        told[0] += ", second search"
    if case.ping > 56:
        pieces = f"fragments of {endpoint.largest}" if endpoint.largest else "whole replies"
        told.append(pieces if is_whole else f"no reply of {case.ping} bytes")
    if not case.renews:
        rate = endpoint.renewals / WATCHED
        told.append("no renewal" if not rate else "renews" if rate < 4 else "floods")
    told.append(f"by {' and '.join(sorted(endpoint.hops))}" if endpoint.hops else "no way out")
    return ", ".join(told)


if __name__ == "__main__":
    main()

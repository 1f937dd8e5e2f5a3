"""Frames to and from one endpoint on one interface, with nothing between: a packet socket, and words for what comes back."""
import itertools
import select
import socket
import threading
import time

from scapy.all import ARP, ICMP, IP, UDP, Ether, ICMPerror, IPv6, Padding, Raw, conf
from scapy.layers.inet import IPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6ExtHdrFragment,
)

conf.verb = 0
ETH_P_ALL = 3
SENTINEL = 0x5E47


class Wire:
    """One interface, and the endpoint that is held to account."""

    def __init__(self, interface, mac, ipv4, ipv6):
        self.interface, self.mac, self.ipv4, self.ipv6 = interface, mac, ipv4, ipv6
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
            self.own_mac = file.read().strip()
        self.sequence = itertools.count(1)

    def open(self):
        """A socket that hears the interface from now on."""
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        heard.bind((self.interface, ETH_P_ALL))
        return heard

    def ether(self, destination=None):
        return Ether(src=self.own_mac, dst=destination or self.mac)

    def exchange(self, frames, source, wait_for=None, seconds=4):
        """Sends `frames` and returns what the endpoint sent, other than looking for `source`.

        An echo request follows them. An endpoint answers in order, so that all answers have come when its reply has:
        silence takes no waiting. `wait_for`, a test of one frame, is for answers that come later.
        """
        heard = self.open()
        try:
            for frame in frames:
                heard.send(bytes(frame))
            sequence = next(self.sequence) & 0xFFFF
            if ":" in source:
                sentinel = self.ether() / IPv6(src=source, dst=self.ipv6) / ICMPv6EchoRequest(id=SENTINEL, seq=sequence)
            else:
                sentinel = self.ether() / IP(src=source, dst=self.ipv4) / ICMP(type=8, id=SENTINEL, seq=sequence)
            heard.send(bytes(sentinel))
            answers, ended = [], False
            for frame in self.frames(heard, seconds):
                if is_sentinel(frame, sequence):
                    ended = True
                elif not is_search(frame, self.mac):
                    answers.append(frame)
                if ended and (wait_for is None or any(map(wait_for, answers))):
                    return answers
            if not ended:
                raise AssertionError("deaf: no answer to the echo request behind it")
            return answers
        finally:
            heard.close()

    def frames(self, heard, seconds):
        """The endpoint's frames, until that many seconds have passed. What has come by then is read, although this process
        may have been waiting for a processor."""
        end, belated = time.monotonic() + seconds, 1000
        while belated:
            left = end - time.monotonic()
            if not select.select([heard], [], [], max(left, 0))[0]:
                return
            belated -= left <= 0
            data = heard.recv(70000)
            if data[6:12] == bytes.fromhex(self.mac.replace(":", "")):
                yield Ether(data)

    def record(self, accept):
        """Records in the background those of the endpoint's frames that `accept` takes. Returns the list."""
        heard, found = self.open(), []

        def run():
            for frame in self.frames(heard, 300):
                if accept(frame):
                    found.append(frame)

        threading.Thread(target=run, daemon=True).start()
        return found


def is_sentinel(frame, sequence):
    if ICMPv6EchoReply in frame:
        return frame[ICMPv6EchoReply].id == SENTINEL and frame[ICMPv6EchoReply].seq == sequence
    if IP in frame and frame[IP].proto == 1 and frame[IP].frag == 0 and ICMP in frame:
        return (frame[ICMP].type, frame[ICMP].id, frame[ICMP].seq) == (0, SENTINEL, sequence)
    return False


def is_search(frame, mac):
    """Whether the endpoint only looks for the one to whom it has something to say, pings, or reports its groups."""
    # Not the requests that errors quote.
    if IPv6 in frame and type(frame[IPv6].payload) is ICMPv6EchoRequest:
        return True
    if IP in frame and isinstance(frame[IP].payload, ICMP) and frame[ICMP].type == 8:
        return True
    if ARP in frame:
        return frame[ARP].op == 1 and frame[ARP].psrc not in ("0.0.0.0", frame[ARP].pdst)
    if ICMPv6ND_NS in frame:
        return frame[IPv6].src != "::"
    return ICMPv6MLReport2 in frame


UNREACHABLE = {0: "network", 1: "host", 2: "protocol", 3: "port", 4: "fragmentation needed", 13: "prohibited"}
UNREACHABLE6 = {0: "no route", 1: "prohibited", 3: "address", 4: "port"}


def tell(frame):
    """What a frame is, in words that are the same for all endpoints that do the same."""
    to = "broadcast " if frame.dst == "ff:ff:ff:ff:ff:ff" else "multicast " if int(frame.dst[1], 16) & 1 else ""
    if ARP in frame:
        arp = frame[ARP]
        return f"{to}ARP {'reply' if arp.op == 2 else 'request'}"
    if IP in frame:
        return to + tell_ipv4(frame[IP])
    if IPv6 in frame:
        return to + tell_ipv6(frame[IPv6])
    return f"{to}EtherType {frame.type:#06x}"


def tell_ipv4(packet):
    padding = len(packet[Padding].load) if Padding in packet else 0
    if padding > max(0, 46 - packet.len):
        return "bytes behind the datagram"
    if packet.frag or packet.flags.MF:
        return "fragment"
    kind = packet.getlayer(ICMP)
    if packet.proto == 17 and UDP in packet:
        return f"UDP from port {packet.sport}, {packet[UDP].len - 8} bytes{ttl(packet.ttl)}"
    if packet.proto == 6:
        return tell_tcp(packet["TCP"])
    if kind is None:
        return f"protocol {packet.proto}"
    body = packet.len - 4 * packet.ihl - 8
    if kind.type == 0:
        flags = ", options" if packet.options else ""
        return f"echo reply, {body} bytes{flags}{ttl(packet.ttl)}{traffic(packet.tos)}"
    if kind.type == 14:
        return "timestamp reply"
    names = {
        3: f"{UNREACHABLE.get(kind.code, kind.code)} unreachable",
        11: "time exceeded" if kind.code == 0 else "reassembly time exceeded",
        12: f"parameter problem at {getattr(kind, 'ptr', '?')}",
    }
    return f"{names.get(kind.type, f'ICMP type {kind.type}')}, quotes {body} bytes{ttl(packet.ttl)}{traffic(packet.tos)}"


def tell_tcp(segment):
    flags = str(segment.flags)
    names = (("S", "SYN"), ("F", "FIN"), ("A", "ACK"))
    return "TCP reset" if "R" in flags else " ".join(["TCP"] + [name for flag, name in names if flag in flags])


def ttl(number):
    return "" if number == 64 else f", ttl {number}"


def traffic(number):
    return f", tos {number:#04x}" if number else ""


def tell_ipv6(packet):
    fragment = packet.getlayer(IPv6ExtHdrFragment)
    if fragment is not None and packet.nh == 44:
        return "fragment"
    limit = "" if packet.hlim == 64 else f", hop limit {packet.hlim}"
    upper = packet.payload
    body = packet.plen - 8
    if isinstance(upper, ICMPv6EchoReply):
        return f"echo reply, {body} bytes{limit}"
    if isinstance(upper, ICMPv6ND_NA):
        flags = "".join(name for name, on in (("R", upper.R), ("S", upper.S), ("O", upper.O)) if on)
        option = " with address" if upper.haslayer("ICMPv6 Neighbor Discovery Option - Destination Link-Layer Address") else ""
        return f"advertisement {flags or 'no flags'}{option}{'' if packet.hlim == 255 else limit}"
    if isinstance(upper, ICMPv6DestUnreach):
        return f"{UNREACHABLE6.get(upper.code, upper.code)} unreachable, quotes {body} bytes{limit}"
    if isinstance(upper, ICMPv6ParamProblem):
        return f"parameter problem {upper.code} at {upper.ptr}, quotes {body} bytes{limit}"
    if isinstance(upper, ICMPv6TimeExceeded):
        return f"{'reassembly ' if upper.code else ''}time exceeded, quotes {body} bytes{limit}"
    if isinstance(upper, ICMPv6PacketTooBig):
        return f"packet too big, quotes {body} bytes{limit}"
    if isinstance(upper, ICMPv6MLReport2):
        return f"listener report{'' if packet.hlim == 1 else limit}"
    if UDP in packet:
        return f"UDP from port {packet[UDP].sport}, {packet[UDP].len - 8} bytes{limit}"
    if packet.nh == 6:
        return tell_tcp(packet["TCP"])
    return f"next header {packet.nh}"


def verdict(frames):
    """All frames in a few words."""
    told = [tell(frame) for frame in frames]
    if not told:
        return "silent"
    groups = [(what, len(list(same))) for what, same in itertools.groupby(told)]
    return "; ".join(what if count == 1 else f"{count} × {what}" for what, count in groups)

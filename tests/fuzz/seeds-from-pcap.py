#!/usr/bin/env python3
"""Makes seeds out of captures: one frame a file for `parse`, all frames of a capture as steps for `vm`.

    seeds-from-pcap.py CAPTURE.pcap...        writes seeds/parse/NAME-N and seeds/vm/NAME

Captures as `tcpdump -w` writes them, of a lab of default addresses. Frames of the same kind and size are taken once, and
none that is longer than 600 bytes; the steps end after 6,000 bytes.
"""
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent / "seeds"
FRAME, SEALED, MILLISECONDS = 0, 1, 6
#: The kinds of VMs: with a fixed address, with one by DHCP, and with one by DHCPv6.
FIXED, DHCP, DHCPV6 = 0x00, 0x84, 0x40


def frames(path):
    """Time in seconds and bytes of each frame of a little-endian pcap file."""
    data = path.read_bytes()
    if data[:4] != b"\xd4\xc3\xb2\xa1":
        sys.exit(f"{path}: no pcap file of microseconds, least significant byte first")
    at = 24
    while at + 16 <= len(data):
        seconds, micros, length, _ = struct.unpack_from("<IIII", data, at)
        yield seconds + micros / 1e6, data[at + 16 : at + 16 + length]
        at += 16 + length


def kind(frame):
    """What makes a frame of interest beside others: its types, codes, flags, and its size."""
    ipv6 = frame[12:14] == b"\x86\xdd"
    upper = frame[20:21] + frame[54:56] if ipv6 else frame[14:15] + frame[20:22] + frame[23:24] + frame[34:36]
    of_dhcp = frame[284:285] if is_dhcp(frame) else frame[62:63] if is_dhcpv6(frame) else b""
    return frame[12:14], upper, len(frame) // 64, of_dhcp


def is_dhcp(frame):
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] in (b"\0\x43", b"\0\x44")


def is_dhcpv6(frame):
    return frame[12:14] == b"\x86\xdd" and frame[20] == 17 and frame[56:58] in (b"\x02\x22", b"\x02\x23")


for name in map(pathlib.Path, sys.argv[1:]):
    seen, last = set(), None
    has = lambda which: any(which(frame) for _, frame in frames(name))
    steps = bytearray([DHCP if has(is_dhcp) else DHCPV6 if has(is_dhcpv6) else FIXED])
    for time, frame in frames(name):
        if kind(frame) in seen or len(frame) > 600:
            continue
        seen.add(kind(frame))
        (HERE / "parse" / f"{name.stem}-{len(seen)}").write_bytes(frame)
        gap = 0 if last is None else min(int((time - last) * 1000), 3000)
        last = time
        if len(steps) < 6000:
            if gap:
                steps += struct.pack(">BH", MILLISECONDS, gap)
            steps += struct.pack(">BH", SEALED, len(frame)) + frame
    (HERE / "vm" / name.stem).write_bytes(steps)

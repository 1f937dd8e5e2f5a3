#!/usr/bin/env python3
"""UDP port 7 that sends back what comes (RFC 862), on every address of this host. Joins the multicast groups that are
named behind an address of the host, on that address's interface. Ends when it is told to."""
import selectors
import socket
import sys

echoes = selectors.DefaultSelector()
for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    echo = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        echo.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    echo.bind((everywhere, 7))
    for group in sys.argv[2:] if family == socket.AF_INET else ():
        membership = socket.inet_aton(group) + socket.inet_aton(sys.argv[1])
        echo.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    echoes.register(echo, selectors.EVENT_READ)
while True:
    for ready, _ in echoes.select():
        data, sender = ready.fileobj.recvfrom(65535)
        try:
            ready.fileobj.sendto(data, sender)
        except OSError:
            pass

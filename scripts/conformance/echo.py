#!/usr/bin/env python3
"""UDP port 7 that sends back what comes (RFC 862), on every address of this host, and TCP port 8080 that accepts connections and closes
them when the other side does. Joins the multicast groups that are
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
accepting = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
accepting.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
accepting.bind(("::", 8080))
accepting.listen(128)
echoes.register(accepting, selectors.EVENT_READ)
while True:
    for ready, _ in echoes.select():
        if ready.fileobj is accepting:
            echoes.register(accepting.accept()[0], selectors.EVENT_READ)
            continue
        if ready.fileobj.type == socket.SOCK_STREAM:
            # Its client has closed it, or reset it.
            echoes.unregister(ready.fileobj)
            ready.fileobj.close()
            continue
        data, sender = ready.fileobj.recvfrom(65535)
        try:
            ready.fileobj.sendto(data, sender)
        except OSError:
            pass

#!/usr/bin/env python3
"""UDP port 7 that sends back what comes (RFC 862), on every address of this host. Ends when it is told to."""
import socket

echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
echo.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
echo.bind(("::", 7))
while True:
    data, sender = echo.recvfrom(65535)
    try:
        echo.sendto(data, sender)
    except OSError:
        pass

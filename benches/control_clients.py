"""Clients of a control socket, for benches/control.sh: PATH and requests a second. They come when the socket is there, and go
when it is not any more. Prints what they got."""

import socket
import sys
import threading
import time

PATH, RATE = sys.argv[1], float(sys.argv[2])
TARGETS = ["/", "/metrics", "/flows?limit=100"]


def connect():
    """Connects once there is a socket, within ten seconds."""
    end = time.monotonic() + 10
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(PATH)
            return client
        except OSError:
            client.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def get(client, target):
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())


def read_response(client):
    """Reads a response with a Content-Length, and returns its status; 0 at the end."""
    text = b""
    while b"\r\n\r\n" not in text:
        part = client.recv(65536)
        if not part:
            return 0
        text += part
    head, body = text.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        part = client.recv(65536)
        if not part:
            return 0
        body += part
    return int(head.split()[1])


def read_events(counts):
    """Reads events until there are no more."""
    client = connect()
    get(client, "/events")
    try:
        while part := client.recv(1 << 20):
            counts.append(part.count(b"\n"))
    except OSError:
        pass


def main():
    events = []
    reader = threading.Thread(target=read_events, args=(events,))
    reader.start()
    client = connect()
    begin = time.monotonic()
    answered, waits = 0, []
    try:
        while True:
            due = begin + len(waits) / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            sent = time.monotonic()
            get(client, TARGETS[len(waits) % len(TARGETS)])
            status = read_response(client)
            if status == 0:
                break
            waits.append(time.monotonic() - sent)
            answered += status == 200
    except OSError:
        pass
    elapsed = time.monotonic() - begin
    reader.join()
    waits.sort()
    p99 = waits[len(waits) * 99 // 100] if waits else 0.0
    print(f"{answered / elapsed:.0f} responses/s, p99 {p99 * 1e3:.1f} ms; {sum(events) / elapsed:.0f} events/s")


main()

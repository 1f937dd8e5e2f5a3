"""Medians of the rtt in a capture (tcpdump -tt on standard input) and in the reports of a run with it and of one without."""

import json
import sys
from decimal import Decimal
from statistics import median

sent, seen = None, []
for line in sys.stdin:
    at = Decimal(line.split()[0])
    if "echo request" in line:
        sent = at
    elif "echo reply" in line and sent is not None:
        seen.append(float((at - sent) * 1_000_000))
        sent = None

captured = median(seen)
print(f"{len(seen)} pings: capture p50 {captured:.2f} µs", end="")
for name, path in zip(("while captured", "alone"), sys.argv[1:]):
    with open(path, encoding="utf-8") as file:
        told = json.load(file)["rtt_ns"]["p50"] / 1000
    print(f", report p50 {name} {told:.2f} µs ({told - captured:+.2f})", end="")
print()

"""Medians of the rtt in a capture (tcpdump -tt on standard input) and in a report (the file that is named)."""

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

with open(sys.argv[1], encoding="utf-8") as file:
    report = json.load(file)
told = report["rtt_ns"]["p50"] / 1000
print(f"{len(seen)} pings: capture p50 {median(seen):.2f} µs, report p50 {told:.2f} µs, apart {told - median(seen):+.2f} µs")

"""Measures what it costs to find out why pings are lost: a run that sends as fast as it can and whose frames the kernel drops, with
`--attribute-loss=on` and `off` in turns. Prints the time per ping and what it grows by, for two kinds of drops.

    python3 benches/drops.py [ROUNDS]        needs root and nft

TAP_REACTOR names the program (default: target/release/tap-reactor).
"""

import json
import os
import subprocess
import sys
from statistics import median

PROGRAM = os.environ.get("TAP_REACTOR", "target/release/tap-reactor")
NETNS = f"tap-reactor-drops-{os.getpid()}"
LOAD = "--netns host --vms 2 --ping vm0:vm1 --interval 1us --timeout 2ms --duration 3s --resolve static --json"
DROPS = {
    "by a filter of ingress": (
        "nft 'add table netdev t; add chain netdev t c { type filter hook ingress device tap0 priority 0; }; "
        "add rule netdev t c drop'"
    ),
    "in the bridge": "bridge link set dev tap0 isolated on; bridge link set dev tap1 isolated on",
}


def time_per_ping(mode: str, drop: str) -> float:
    """Nanoseconds from one ping to the next in a run that loses all of them after half a second."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        command = f"{PROGRAM} {LOAD} --attribute-loss={mode} & sleep 0.5; {drop}; wait"
        run = subprocess.run(
            ["ip", "netns", "exec", NETNS, "sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
        )
        report = json.loads(run.stdout)
    finally:
        subprocess.run(["ip", "netns", "delete", NETNS], check=True)
    return report["elapsed_ns"] / report["totals"]["sent"]


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
print("| drops | per ping without | more with, median | of the rounds |\n|---|---|---|---|")
for kind, how in DROPS.items():
    pairs = [(time_per_ping("off", how), time_per_ping("on", how)) for _ in range(rounds)]
    more = sorted(on - off for off, on in pairs)
    print(f"| {kind} | {median(off for off, _ in pairs):.0f} ns | {median(more):.0f} ns | {more[0]:.0f} to {more[-1]:.0f} ns |")

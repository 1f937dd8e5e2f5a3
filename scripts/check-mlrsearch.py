#!/usr/bin/env python3
"""Compares `tap-reactor search` with another implementation of MLRsearch, on a network with a known rate and queue.

    check-mlrsearch.py [TAP-REACTOR]

The implementation is `MLRsearch` from PyPI (`pip install MLRsearch`), that of FD.io CSIT. Both search the same simulated switch
for the same goals, first with pings and then with a stream; trials of the other one are runs of the program. Exit status 0: all bounds agree within the width of the goals
and are around what the network carries; 1: some do not, and which.
"""

import json
import subprocess
import sys

try:
    from MLRsearch import (
        AbstractMeasurer,
        Config,
        MeasurementResult,
        MultipleLossRatioSearch,
        SearchGoal,
    )
except ImportError:
    sys.exit("check-mlrsearch.py needs the Python package MLRsearch: pip install MLRsearch")

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else "target/debug/tap-reactor"
LEAST, GREATEST = 1_000, 50_000
WIDTH = 0.01
INITIAL, FINAL, SUM = 0.2, 0.5, 1.0
# Frames of 98 bytes into vm1 at 10 Mbit/s, and 20 that wait.
TRUTH = 10e6 / (98 * 8)
QUEUE = 20
NETWORK = "--fabric sim --vms 2 --timeout 100ms --warmup 50ms --impair".split() + [
    f"vm1:in:rate=10Mbit,queue={QUEUE}"
]
# The size of a frame of a stream has the frame check sequence in it, which the link does not carry.
LOADS = {"pings": ["--ping", "vm0:vm1"], "a stream": ["--stream", "vm0:vm1", "--size", "102"]}
LOSSES = [0.0, 0.05]


def run(words):
    """What the program prints as JSON; a run with lost pings ends with status 1."""
    done = subprocess.run([PROGRAM, *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{words}: {done.stderr}")
    return json.loads(done.stdout)


class Measurer(AbstractMeasurer):
    """Trials that are runs of the program."""

    def __init__(self, network):
        self.trials = 0
        self.network = network

    def measure(self, intended_duration, intended_load):
        self.trials += 1
        words = [*self.network, "--rate", f"{intended_load:.3f}", "--duration", f"{intended_duration:.6f}"]
        report = run(words)
        totals = report.get("stream_counts") or report["totals"]
        return MeasurementResult(
            intended_duration=intended_duration,
            intended_load=intended_load,
            offered_count=totals["sent"],
            loss_count=totals["sent"] - totals["received"],
        )


def main():
    return max([compare(name, [*NETWORK, *load]) for name, load in LOADS.items()])


def compare(name, network):
    """Searches with both; 1 if they differ."""
    config = Config()
    config.goals = [
        SearchGoal(
            loss_ratio=loss,
            exceed_ratio=0.5,
            relative_width=WIDTH,
            initial_trial_duration=INITIAL,
            final_trial_duration=FINAL,
            duration_sum=SUM,
        )
        for loss in LOSSES
    ]
    config.max_load, config.min_load = float(GREATEST), float(LEAST)
    config.warmup_duration = 0.0
    measurer = Measurer(network)
    theirs = list(MultipleLossRatioSearch(config).search(measurer, lambda _: None).values())

    attributes = f"width={WIDTH * 100}%,initial={INITIAL}s,final={FINAL}s,sum={SUM}s,exceed=50%"
    goals = [["--goal", f"rate:loss<={loss * 100}%,{attributes}"] for loss in LOSSES]
    words = ["search", *network, "--quiet", "--range", f"{LEAST}..{GREATEST}", *sum(goals, [])]
    ours = run(words)

    wrong = 0
    for loss, their, our in zip(LOSSES, theirs, ours["goals"]):
        bounds = float(their.relevant_lower_bound), float(their.relevant_upper_bound)
        pairs = list(zip(bounds, (our["lower"], our["upper"])))
        # What the queue takes in besides is carried too.
        truth = TRUTH / (1 - loss), (TRUTH + QUEUE / FINAL) / (1 - loss)
        agree = all(abs(one - other) <= WIDTH * max(one, other) for one, other in pairs)
        true = our["lower"] <= truth[1] and our["upper"] >= truth[0]
        wrong += not (agree and true)
        print(
            f"{name}, loss <= {loss:.0%}: carried {truth[0]:.0f} to {truth[1]:.0f}/s; MLRsearch {bounds[0]:.0f} to {bounds[1]:.0f}, "
            f"tap-reactor {our['lower']:.0f} to {our['upper']:.0f}: {'agree' if agree and true else 'DIFFER'}"
        )
    print(f"{name}, trials: MLRsearch {measurer.trials}, tap-reactor {len(ours['trials'])}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

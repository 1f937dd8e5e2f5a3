#!/usr/bin/env python3
"""Reads saved reports back with another implementation of HdrHistogram, and compares them with the JSON document.

    check-hdr.py RUN.json

Beside RUN.json must lie RUN.hlog, RUN.hgrm and RUN.METRIC.hgrm of the same run, for each metric that it has. The implementation is `hdrhistogram`
from PyPI (`pip install hdrhistogram`). Exit status 0: every count and percentile agrees; 1: some does not, and which.
"""

import json
import pathlib
import sys

try:
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader
except ImportError:
    sys.exit("check-hdr.py needs the Python package hdrhistogram: pip install hdrhistogram")

LONGEST = 3_600_000_000_000
DIGITS = 3
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}


class Check:
    """Counts what agrees, and remembers what does not."""

    def __init__(self):
        self.agreed = 0
        self.wrong = []

    def equal(self, what, ours, theirs):
        if ours == theirs:
            self.agreed += 1
        else:
            self.wrong.append(f"{what}: the report has {ours}, HdrHistogram reads {theirs}")

    def among(self, what, ours, theirs):
        self.equal(what, ours, ours if ours in theirs else sorted(theirs))


def counts(histogram):
    """Every value that occurs, with how often."""
    return {
        item.value_iterated_to: item.count_at_value_iterated_to
        for item in histogram.get_recorded_iterator()
    }


def values_at(histogram, percentile):
    """The values at a percentile. Where it falls between two of them, this implementation takes the nearer one and the
    tool the upper one, so both count."""
    half_a_value = 50 / histogram.get_total_count()
    return {
        histogram.get_value_at_percentile(percentile),
        histogram.get_value_at_percentile(min(100, percentile + half_a_value)),
    }


def check_summary(check, what, summary, histogram):
    """A summary of the document against a histogram."""
    check.equal(f"{what}.count", summary["count"], histogram.get_total_count())
    if summary["count"] == 0:
        return
    for name, percentile in PERCENTILES.items():
        # The document never tells more than the greatest value that occurred, nor less than the least.
        allowed = {max(summary["min"], min(summary["max"], value)) for value in values_at(histogram, percentile)}
        check.among(f"{what}.{name}", summary[name], allowed)
    for name, theirs in (("min", histogram.get_min_value()), ("max", histogram.get_max_value())):
        same = histogram.values_are_equivalent(summary[name], theirs)
        check.equal(f"{what}.{name} is in its bucket", True, same)


def summary_of(report, name):
    """The summary of the histogram NAME; those of a part of the rtts are called after that."""
    return report.get(f"{name}_ns") or report[f"rtt_{name}_ns"]


def check_document(check, report):
    """The histograms inside the document against its summaries; returns them by name."""
    histograms = {}
    for name, saved in report["histograms"].items():
        histogram = HdrHistogram(1, LONGEST, DIGITS) if saved is None else HdrHistogram.decode(saved["hdr"])
        histograms[name] = histogram
        check_summary(check, f"histograms.{name}", summary_of(report, name), histogram)
    return histograms


def check_log(check, path, report, histograms):
    """The interval log against the seconds of the document, and its sum against the whole run."""
    for tag, name in ((None, "rtt"), ("response", "response")):
        whole = HdrHistogram(1, LONGEST, DIGITS)
        lines = []
        reader = HistogramLogReader(str(path), HdrHistogram(1, LONGEST, DIGITS))
        while (line := reader.get_next_interval_histogram()) is not None:
            if line.get_tag() == tag:
                lines.append(line)
                whole.add(line)
        seconds = [second for second in report["seconds"] if second[f"{name}_ns"]["count"]]
        check.equal(f"{path.name}: lines of {name}", len(seconds), len(lines))
        for second, line in zip(seconds, lines):
            check_summary(check, f"{path.name}: {name} at {second['start_ns']} ns", second[f"{name}_ns"], line)
            started = report["started_unix_ms"] + second["start_ns"] / 1e6
            check.equal(f"{path.name}: begin of {second['start_ns']} ns", True, abs(line.get_start_time_stamp() - started) <= 1)
        check.equal(f"{path.name}: all {name}", counts(histograms[name]), counts(whole))
    reader = HistogramLogReader(str(path), HdrHistogram(1, LONGEST, DIGITS))
    while (line := reader.get_next_interval_histogram()) is not None:
        if line.get_tag() not in (None, "response"):
            check.equal(f"{path.name}: {line.get_tag()}", counts(histograms[line.get_tag()]), counts(line))


def rows_of(path):
    """The rows of a percentile table: value in microseconds, quantile, total count."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and not line.startswith("#") and words[0] != "Value":
            rows.append((float(words[0]), float(words[1]), int(words[2])))
    return rows


def check_table(check, path, histogram):
    """A percentile table: each row's value and count are those that the other implementation finds at its quantile."""
    rows = rows_of(path)
    check.equal(f"{path.name}: ends at", (1.0, histogram.get_total_count()), rows[-1][1:])
    for value, quantile, total in rows:
        at = f"{path.name}: at {quantile}"
        nanos = round(value * 1000)
        check.among(f"{at}, value", nanos, values_at(histogram, quantile * 100))
        check.equal(f"{at}, count", total, sum(n for low, n in counts(histogram).items() if low <= nanos))


def main():
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".json"):
        sys.exit(__doc__)
    path = pathlib.Path(sys.argv[1])
    report = json.loads(path.read_text(encoding="utf-8"))
    check = Check()
    histograms = check_document(check, report)
    check_log(check, path.with_suffix(".hlog"), report, histograms)
    check_table(check, path.with_suffix(".hgrm"), histograms["rtt"])
    for name, histogram in histograms.items():
        if histogram.get_total_count():
            check_table(check, path.with_suffix(f".{name}.hgrm"), histogram)
    for wrong in check.wrong:
        print(wrong)
    print(f"check-hdr: {check.agreed} figures agree, {len(check.wrong)} do not")
    sys.exit(1 if check.wrong or not check.agreed else 0)


if __name__ == "__main__":
    main()

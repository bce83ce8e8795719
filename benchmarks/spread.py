"""Figures as we print them: median and p95 of both sides, and the ratio of the medians."""

import statistics
from collections.abc import Sequence


def line(name: str, seconds: Sequence[float]) -> str:
    """`name: median 70.1 ms, p95 99.0 ms, min 64.2 ms (50 runs)`."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return (
        f"{name:<28} median {statistics.median(ordered) * 1e3:7.1f} ms, "
        f"p95 {p95 * 1e3:7.1f} ms, min {ordered[0] * 1e3:7.1f} ms ({len(ordered)} runs)"
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the medians."""
    return statistics.median(ours) / statistics.median(theirs)

"""Latencies as HdrHistograms, for the readers of wrk2's output and of histogram logs: http://hdrhistogram.org.

Values are nanoseconds with three significant digits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.levels import label_without_profile, samples_at
from connbench.errors import UsageError
from connbench.results.fleet_file import Fleet
from connbench.results.result import Numbers, Result, Samples, StrategyResult
from connbench.units import NS_PER_MS, NS_PER_S, format_percent

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

DIGITS = 3
HIGHEST_NS = 3_600 * 10**9
"""What a histogram can hold, unless a latency is longer: an hour, as usual."""

US_PER_S = 1_000_000

_LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
_NO_TAG = re.compile(r"[^A-Za-z0-9_.:;+*%()<>-]+")
"""What a tag has no place for: a comma ends it, and a slash stands between its parts."""


def check_one_strategy(strategies: int) -> None:
    """Check that one histogram can hold this number of strategies, each phase counted.

    Raises:
        UsageError: It is more than one.
    """
    if strategies > 1:
        raise UsageError(
            f"--format hgrm has one histogram, and this result has {strategies} strategies or phases",
            "measure one strategy alone, or use --format hlog, which has a tag for each",
        )


def hgrm(result: Result) -> str:
    """The percentile distribution of all latencies of the one strategy, as HdrHistogram prints it; in ns.

    Raises:
        UsageError: The result has several strategies or phases.
    """
    check_one_strategy(len(result.strategies))
    text = io.BytesIO()
    values = np.concatenate([s.samples.latency_ns for s in result.strategies] or [np.empty(0)])
    _histogram(values).output_percentile_distribution(text, 1)
    return text.getvalue().decode().replace("TotalCount     =", "Total count    =")  # as wrk2, and as hdr-plot wants it


def hlog(result: Result | Fleet) -> str:
    """A histogram log, V2: an interval for each round of each strategy and parity, or level of a profile.

    Its tag is `STRATEGY/PARITY`, of several hosts `HOST/STRATEGY/PARITY`. Readers add up the intervals of a tag, and
    logs that stand one behind the other.
    """
    results = result.results if isinstance(result, Fleet) else [result]
    intervals = sorted(
        (interval for one in results for interval in _intervals(one, one.name if isinstance(result, Fleet) else "")),
        key=lambda interval: interval.begin_s,
    )
    begin = intervals[0].begin_s if intervals else 0.0
    day = datetime.fromtimestamp(begin, UTC).isoformat(" ", "milliseconds")
    lines = [
        "#[Histogram log format version 1.3]",
        f"#[StartTime: {begin:.3f} (seconds since epoch), {day}]",
        _LEGEND,
        *map(_line, intervals),
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Interval:
    """Some attempts of a round.

    Attributes:
        tag: Which.
        begin_s: When the first of them began, in seconds since 1970; in a file that does not say it since the round.
        samples: At least one attempt.
    """

    tag: str
    begin_s: float
    samples: Samples


def _intervals(result: Result, host: str) -> Iterator[_Interval]:
    for full_label, strategy in result.labelled.items():
        label = label_without_profile(full_label, strategy.strategy)
        name = [_NO_TAG.sub("_", part) for part in (host, label) if part]
        for measured in strategy.rounds:
            epoch_s = measured.report.epoch_us / US_PER_S
            for part, samples in _parts(strategy, measured.samples):
                if len(samples):
                    begin_s = epoch_s + float(samples.started_ns[0]) / NS_PER_S
                    yield _Interval("/".join([*name, part]), begin_s, samples)


def _parts(strategy: StrategyResult, samples: Samples) -> Iterator[tuple[str, Samples]]:
    """The attempts of a round by parity, or by level; each is in one part."""
    profile = strategy.strategy.load.profile
    if profile:
        for number, share in enumerate(profile.levels):
            yield format_percent(share), samples_at(samples, profile, number)
        return
    yield "even", samples.chosen(samples.even)
    yield "odd", samples.chosen(samples.odd)
    yield "failed", samples.chosen(samples.failed)


def _line(interval: _Interval) -> str:
    """The interval with its length in seconds and its longest latency in ms, as readers expect it."""
    histogram = _histogram(interval.samples.latency_ns)
    length_s, longest_ms = interval.samples.wall_ns / NS_PER_S, float(interval.samples.latency_ns.max()) / NS_PER_MS
    coded = histogram.encode().decode()
    return f"Tag={interval.tag},{interval.begin_s:.6f},{length_s:.6f},{longest_ms:.6f},{coded}"


def _histogram(values: Numbers) -> HdrHistogram:
    """The histogram of times in ns; fractions, as of a talk CSV, are rounded."""
    from hdrh.histogram import HdrHistogram

    numbers, counts = np.unique(np.rint(values).astype(np.int64), return_counts=True)
    histogram = HdrHistogram(1, max(HIGHEST_NS, int(numbers[-1]) if len(numbers) else 0), DIGITS)
    for value, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram

"""Durations and counts as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.units import count, duration, elapsed, memory
from made import unhurried

NANOSECONDS = {"ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}
JUST_UNDER_1000_S = 9.994e11


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0.00 ns"),
        (1, "1.00 ns"),
        (9.99, "9.99 ns"),
        (99.94, "99.9 ns"),
        (99.95, "100 ns"),
        (999.4, "999 ns"),
        (999.6, "1.00 µs"),
        (1000, "1.00 µs"),
        (12_650.1, "12.7 µs"),
        (99_960, "100 µs"),
        (999_400, "999 µs"),
        (999_960, "1.00 ms"),
        (4_593_000, "4.59 ms"),
        (999_400_000, "999 ms"),
        (999_600_000, "1.00 s"),
        (130_494_000_000, "130 s"),
        (float("inf"), "-"),
        (float("nan"), "-"),
    ],
)
def test_duration_at_the_edges_of_its_units(nanoseconds: float, text: str) -> None:
    """A duration has three significant digits, and takes the next unit rather than a fourth."""
    assert duration(nanoseconds) == text


@given(st.floats(1, JUST_UNDER_1000_S))
@unhurried
def test_duration_reads_back_to_its_value(nanoseconds: float) -> None:
    """Three digits and a unit, and they are within half a per cent of what was measured."""
    text, unit = duration(nanoseconds).split(" ")
    assert re.fullmatch(r"\d\.\d\d|\d\d\.\d|\d\d\d", text)
    assert float(text) * NANOSECONDS[unit] == pytest.approx(nanoseconds, rel=0.005000001)


@given(st.floats(1, JUST_UNDER_1000_S), st.floats(1, JUST_UNDER_1000_S))
@unhurried
def test_longer_duration_never_reads_as_the_shorter(one: float, other: float) -> None:
    """Rounding keeps the order of durations."""
    texts = (duration(value).split(" ") for value in sorted((one, other)))
    shorter, longer = (float(text) * NANOSECONDS[unit] for text, unit in texts)
    assert shorter <= longer


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (56512, "56,512"), (1_000_000, "1,000,000")])
def test_count_sets_thousands_apart(number: int, text: str) -> None:
    """A count is whole, its thousands set apart."""
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 MB"),
        (512_400_000, "512 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1.0 GB"),
        (25_276_502_016, "25.3 GB"),
    ],
)
def test_memory(number: int, text: str) -> None:
    """GB from a thousand MB on, in powers of ten."""
    assert memory(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.04, "12.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (125.4, "2 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (108_000, "30 h 0 min"),
        (7_169, "1 h 59 min"),
        (7_171, "2 h 0 min"),
    ],
)
def test_elapsed(seconds: float, text: str) -> None:
    """Two units at most, and never 60 of the smaller."""
    assert elapsed(seconds) == text

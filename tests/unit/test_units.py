"""Quantities as people read and write them."""

from __future__ import annotations

import re
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.units import (
    count,
    duration,
    elapsed,
    format_percent,
    format_percents,
    instant,
    memory,
    parse_count,
    parse_instant,
    parse_percent,
    parse_rate,
    parse_time,
    per_second,
)
from factories import unhurried

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
    """A duration has three significant digits, and the next unit rather than a fourth digit."""
    assert duration(nanoseconds) == text


@given(st.floats(1, JUST_UNDER_1000_S))
@unhurried
def test_duration_reads_back_to_its_value(nanoseconds: float) -> None:
    """Three digits and a unit are within half a per cent of the measured value."""
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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("10000", 10_000),
        ("1,000", 1000),
        ("12,345,678", 12_345_678),
        ("10k", 10_000),
        ("10K", 10_000),
        (" 10 k ", 10_000),
        ("1M", 1_000_000),
        ("1.5k", 1500),
        ("1e4", 10_000),
        ("1.5E3", 1500),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_count_is_read(text: str, number: int) -> None:
    """Thousands set apart, multiples and exponents: exactly, beyond what a float holds too."""
    assert parse_count(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "1.5",
        "1e-1",
        "-5",
        "+5",
        "1,00",
        "1,0000",
        "1_000",
        "10m",
        "10kk",
        "1 000",
        "nan",
        "inf",
        "0x10",
        "\u0663",
    ],
)
def test_what_is_no_count_is_refused(text: str) -> None:
    """A part of a number, a sign, another unit, or digits of another script."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_count(text)


@given(st.integers(0, 10**18))
def test_count_reads_what_it_writes(number: int) -> None:
    """Up to where a float holds every whole number it reads back; beyond, as it is printed."""
    assert parse_count(count(number)) == int(f"{number:.0f}")
    assert parse_count(str(number)) == number


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1ms", "ms", "1"),
        ("5s", "s", "5"),
        ("250us", "ms", "0.25"),
        ("250 µs", "ms", "0.25"),
        ("250\N{GREEK SMALL LETTER MU}s", "ms", "0.25"),
        ("100ns", "ms", "0.0001"),
        ("2m", "s", "120"),
        ("2min", "s", "120"),
        ("1.5h", "s", "5400"),
        ("5", "s", "5"),
        ("1", "ms", "1"),
        ("1e-3", "ms", "0.001"),
        (".5", "s", "0.5"),
        ("1,000", "ms", "1000"),
    ],
)
def test_time_is_read(text: str, unit: str, value: str) -> None:
    """In the asked-for unit, exactly; a number alone has that unit."""
    assert parse_time(text, unit) == Decimal(value)


NOW_US = 1_795_944_600_000_000  # 2026-11-29 09:30:00 UTC


@pytest.mark.parametrize(
    ("text", "after_s"),
    [
        ("@1795944600", 0),
        ("@1795944600.25", 0.25),
        ("2026-11-29T09:30:00Z", 0),
        ("2026-11-29 09:30:01+00:00", 1),
        ("2026-11-29T11:30:00+02:00", 0),
        ("2026-11-29T10:30", 0),  # Berlin, in winter an hour ahead
        ("10:31", 60),
        ("10:30:05", 5),
        ("10:30", 86_400),  # now: the next is tomorrow's
        ("9:00", 86_400 - 5400),
    ],
)
def test_point_in_time_is_read(monkeypatch: pytest.MonkeyPatch, text: str, after_s: float) -> None:
    """A time without a zone is local, and a time of day is the next one."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_instant(text, NOW_US) == NOW_US + after_s * 1_000_000
        assert instant(NOW_US) == "2026-11-29 10:30:00 CET"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "soon", "@", "@5s", "25:00", "2026-13-01", "@1e30", "9", "-1", "\0"])
def test_what_is_no_point_in_time_is_refused(text: str) -> None:
    """The message has the text."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_instant(text, NOW_US)


@pytest.mark.parametrize("text", ["", "ms", "nan", "inf", "-1s", "5d", "5 s s", "5%", "5/s", "1e999s", "1k"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """A number alone is none either, where the unit is needed."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_time(text, "s")
    with pytest.raises(ValueError, match="'5' is not a time"):
        parse_time("5", "s", bare=False)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/s", "100"), ("100", "100"), ("0.5/s", "0.5"), ("10k/s", "10000"), ("600/min", "10"), ("7200 / h", "2")],
)
def test_rate_is_read(text: str, rate: str) -> None:
    """How many a second, minute or hour; a second where none is named."""
    assert parse_rate(text) == Decimal(rate)


@pytest.mark.parametrize("text", ["", "/s", "100/", "100/m", "100/ms", "100s", "nan", "-1/s", "1/s/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    """`/m` might be a minute, a month or a metre."""
    with pytest.raises(ValueError, match=r"rate|number"):
        parse_rate(text)


@given(st.integers(0, 10_000))
def test_shares_and_rates_come_back(number: int) -> None:
    """A printed load can be typed again, and means the same."""
    share, rate = number / 10_000, number / 10
    assert float(parse_percent(format_percent(share))) == share
    assert float(parse_rate(per_second(rate))) == rate


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ((0.5,), "50%"),
        ((0.5, 0.8), "50%,80%"),
        ((0.5, 0.8, 0.95), "50%,80%,95%"),
        (tuple(step / 20 for step in range(1, 21)), "5%-100%:5%"),
        ((0.005, 0.01, 0.015), "0.5%-1.5%:0.5%"),
    ],
)
def test_shares_in_steps_are_a_range(shares: tuple[float, ...], text: str) -> None:
    """As `--at` takes them."""
    assert format_percents(shares) == text

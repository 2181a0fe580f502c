"""Reads and formats quantities: each kind has its parser and its formatter here, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

IN_BYTES = frozenset({"memory_total", "memory_available"})
"""Names in a machine's environment whose values are bytes."""

NS_PER_US, NS_PER_MS, NS_PER_S = 1e3, 1e6, 1e9
MS_PER_S = 1e3
"""Factors between units of time; connbench computes in ns."""

_SCALE = ((NS_PER_S, "s"), (NS_PER_MS, "ms"), (NS_PER_US, "µs"), (1.0, "ns"))


def duration(nanoseconds: float) -> str:
    """A time with three significant digits and a unit: `12.7 µs`; `-` for NaN and infinity."""
    if not isfinite(nanoseconds):
        return "-"
    # Rounded first, so that 999.96 µs becomes 1 ms rather than 1000 µs.
    rounded = float(f"{nanoseconds:.3g}")
    for factor, unit in _SCALE:
        if rounded >= factor or factor == 1.0:
            value = rounded / factor
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            text = f"{value:.{digits}f}"
            return f"{text} {unit}"
    raise AssertionError("unreachable: the last scale takes all")


def count(number: float) -> str:
    """A whole number with its thousands separated: `56,512`."""
    return f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
    """A number and what it counts: `1 path`, `2,000 paths`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def memory(number: float) -> str:
    """Bytes as powers of ten: `25.3 GB`, `512 MB`."""
    in_mb = round(number / 1e6)
    return f"{number / 1e9:.1f} GB" if in_mb >= 1000 else f"{in_mb} MB"


def elapsed(seconds: float) -> str:
    """A duration of seconds or more, in two units at most: `12.0 s`, `2 min 5 s`, `30 h 0 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def about(nanoseconds: float) -> str:
    """A time with two significant digits, for a sentence: `5.3 µs`, `62 µs`, `2.2 ms`, `120 µs`."""
    rounded = float(f"{nanoseconds:.2g}")
    factor, unit = next(((factor, unit) for factor, unit in _SCALE if rounded >= factor), _SCALE[-1])
    return f"{rounded / factor:.2g} {unit}" if rounded / factor < 100 else f"{rounded / factor:.0f} {unit}"


def format_percent(share: float) -> str:
    """A share of 1 in percent, with all its digits: `80%`, `0.7%`."""
    return f"{share * 100:g}%"


def format_percents(shares: Sequence[float]) -> str:
    """Shares of 1 as an option takes them: `50%,80%`, or `5%-100%:5%` where three or more have one step."""
    percents = [float(f"{share * 100:g}") for share in shares]
    # Rounded, as a float has no 0.1; by no Decimal, as the engine calls this when it loads the options of a load.
    steps = {f"{later - earlier:.10g}" for earlier, later in pairwise(percents)}
    if len(percents) > 2 and len(steps) == 1:
        return f"{percents[0]:g}%-{percents[-1]:g}%:{steps.pop()}%"
    return ",".join(map(format_percent, shares))


def per_second(rate: float) -> str:
    """A requested rate per second, with all its digits: `100/s`, `0.5/s`."""
    return f"{rate:g}/s"


def format_measured_rate(rate: float) -> str:
    """A measured rate: a whole number from 100 on, with its thousands separated; three significant digits below."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


COUNT_FORM = "a whole number, as in 10000, 10k or 1e4"
TIME_FORM = "a time, as in 250us, 1ms, 5s, 2min or 1.5h"
RATE_FORM = "a rate, as in 100/s, 10k/s or 600/min"
PERCENT_FORM = "a share, as in 80%"
INSTANT_FORM = "a point in time, as in 09:30, 2026-11-29T09:30:00Z or @1795944600"
"""The forms that the parsers below accept, for the messages that refuse a word."""

_MINUTE_NS = 60 * 10**9
TIME_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "\N{GREEK SMALL LETTER MU}s": 10**3,  # looks like the micro sign; some keyboards write it
    "ms": 10**6,
    "s": 10**9,
    "m": _MINUTE_NS,
    "min": _MINUTE_NS,
    "h": 60 * _MINUTE_NS,
}
"""Units of time as users type them, and how many ns each is; whole numbers, for exact decimals."""

NS_IN = {unit: float(TIME_UNITS_NS[unit]) for unit in ("s", "ms", "us", "ns")}
"""Nanoseconds in each unit of the latencies of a CSV of ports and latencies, by the name that `--unit` takes."""

_MULTIPLES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6}
_RATE_UNITS_S = {"s": 1, "min": 60, "h": 3600}
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,30})?(\.\d{0,30})?(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


def parse_number(text: str) -> int:
    """Read the digits of a port, a CPU or the like: up to nine ASCII digits (int() alone takes any number).

    Raises:
        ValueError: Anything else.
    """
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError(f"{text!r} is not a number of up to nine digits")
    return int(text)


def parse_count(text: str) -> int:
    """Read a whole number: `10000`, `10,000`, `10k`, `1.5M`, `1e4`.

    Raises:
        ValueError: Not of that form, or not whole.
    """
    number, multiple = _split(text)
    value = number * _MULTIPLES[multiple] if multiple in _MULTIPLES else _decimal("NaN")
    if value.is_nan() or value != value.to_integral_value():
        raise ValueError(f"{text!r} is not {COUNT_FORM}")
    return int(value)


def parse_time(text: str, unit: str, *, bare: bool = True) -> Decimal:
    """Read a time: `250us`, `1ms`, `5s`, `2min`, `1.5h`, or with `bare` a number alone, which is in `unit`.

    Args:
        text: What the user typed.
        unit: The unit of the returned number, one of `TIME_UNITS_NS`.
        bare: Whether a number alone is a time.

    Raises:
        ValueError: Not of that form.
    """
    number, word = _split(text)
    if word not in TIME_UNITS_NS and not (bare and not word):
        raise ValueError(f"{text!r} is not {TIME_FORM}")
    return number * TIME_UNITS_NS[word or unit] / TIME_UNITS_NS[unit]


def parse_instant(text: str, now_us: int) -> int:
    """Read a point in time, in us since 1970.

    The forms are `@SECONDS` since 1970, as date(1) takes it; a date and time of ISO 8601, local time where it names no
    zone; and a time of day, which is the next one, in local time.

    Args:
        text: What the user typed.
        now_us: The present time, in us since 1970.

    Raises:
        ValueError: Not of these forms, or not between 1970 and 9999.
    """
    from datetime import UTC, datetime, time, timedelta  # noqa: PLC0415  # as in _decimal

    try:
        if text.startswith("@"):
            at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=float(parse_time(text[1:] + "s", "s")))
        elif re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text, re.ASCII):
            now = datetime.fromtimestamp(now_us / 1e6).astimezone()
            at = datetime.combine(now.date(), time.fromisoformat(text.zfill(5) if len(text) < 6 else text.zfill(8)))
            at = at if at.astimezone() > now else at + timedelta(days=1)
        else:
            at = datetime.fromisoformat(text)
        return round(at.astimezone().timestamp() * 1e6)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is not {INSTANT_FORM}") from error


def instant(us: int) -> str:
    """A point in time, given in us since 1970, in local time: `2026-11-29 09:30:00 UTC`."""
    from datetime import datetime  # noqa: PLC0415  # as in _decimal

    return f"{datetime.fromtimestamp(us / 1e6).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def parse_rate(text: str) -> Decimal:
    """Read a rate per second: `100/s`, `10k/s`, `600/min`, `3600/h`, or `100` alone.

    Raises:
        ValueError: Not of that form.
    """
    many, slash, unit = text.partition("/")
    number, multiple = _split(many)
    seconds = _RATE_UNITS_S.get(unit.strip() if slash else "s")
    if multiple not in _MULTIPLES or seconds is None:
        raise ValueError(f"{text!r} is not {RATE_FORM}")
    return number * _MULTIPLES[multiple] / seconds


def parse_percent(text: str) -> Decimal:
    """Read a share in percent, `80%`, as a share of 1.

    It is a decimal: 0.7 / 100 in binary is less than 0.007, the share that a range with a step reaches.

    Raises:
        ValueError: Not of that form.
    """
    number, sign = _split(text)
    if sign != "%":
        raise ValueError(f"{text!r} is not {PERCENT_FORM}")
    return number / 100


def _decimal(text: str) -> Decimal:
    from decimal import Decimal  # noqa: PLC0415  # 0.4 MB, and the engine, which loads this module, reads no quantity

    return Decimal(text)


def _split(text: str) -> tuple[Decimal, str]:
    """The number that a text begins with, and the unit after it.

    Digits and exponent are bounded, so that no argument makes a number that takes long to compute.

    Raises:
        ValueError: It begins with no number.
    """
    stripped = text.strip()
    found = _NUMBER.match(stripped)
    digits = (found[1] or "") + (found[2] or "") if found else ""
    if not found or not digits.strip("."):
        raise ValueError(f"{text!r} does not begin with a number")
    number = _decimal(digits.replace(",", "") + (found[3] or ""))
    return number, stripped[found.end() :].strip()

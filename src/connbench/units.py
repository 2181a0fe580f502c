"""Numbers as people read them."""

from __future__ import annotations

from math import isfinite

IN_BYTES = frozenset({"memory_total", "memory_available"})
"""Names in a machine's environment whose values are bytes."""

NS_IN = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
"""Nanoseconds in each unit that a CSV of ports and times may have them in, by the name that `--unit` takes."""

_SCALE = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def duration(nanoseconds: float) -> str:
    """Three significant digits and a unit: `12.7 µs`; `-` for what is not a number of ns."""
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
    """A whole number with thousands set apart: `56,512`."""
    return f"{number:,.0f}"


def memory(number: float) -> str:
    """Bytes as powers of ten: `25.3 GB`, `512 MB`."""
    in_mb = round(number / 1e6)
    return f"{number / 1e9:.1f} GB" if in_mb >= 1000 else f"{in_mb} MB"


def elapsed(seconds: float) -> str:
    """How long something goes on, in two units at most: `12.0 s`, `2 min 5 s`, `30 h 0 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def about(nanoseconds: float) -> str:
    """A time in two significant digits, for a sentence: `5.3 µs`, `62 µs`, `2.2 ms`, `120 µs`."""
    rounded = float(f"{nanoseconds:.2g}")
    factor, unit = next(((factor, unit) for factor, unit in _SCALE if rounded >= factor), _SCALE[-1])
    return f"{rounded / factor:.2g} {unit}" if rounded / factor < 100 else f"{rounded / factor:.0f} {unit}"

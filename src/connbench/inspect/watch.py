"""A dump every so many seconds: when to take it, and what a terminal or a pipe shows of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import floor, inf
from typing import TYPE_CHECKING

from connbench.inspect.inspection import Inspection, Row
from connbench.inspect.rates import Rates
from connbench.inspect.report import document
from connbench.report.json import json_text
from connbench.units import about, count, elapsed, format_measured_rate
from connbench.wording import end_of

if TYPE_CHECKING:
    from connbench.inspect.path_gate import Judgement
    from connbench.thresholds import Failure

ENDS = "q"
"""The key that ends a watch; Ctrl-C does, too."""

SHORTEST_NAME = 32
"""Columns that a path's name keeps as long as there are figures that can be left out."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A dump of a watch.

    Attributes:
        inspection: What was found.
        at: When the dump was taken.
        took_s: How long the dump and counting took.
        skipped: The number of intervals that were left out before this dump, because the one before took too long.
    """

    inspection: Inspection
    at: datetime
    took_s: float
    skipped: int


def moments(
    take: Callable[[], Inspection], wait: Callable[[float], bool], interval_s: float, duration_s: float | None
) -> Iterator[Moment]:
    """Take a dump now and after each interval.

    Intervals count from the start, whatever a dump takes. One that begins while a dump is still being taken is skipped.

    Args:
        take: Takes a dump.
        wait: Waits until a time of time.monotonic(); whether to go on then.
        interval_s: The length of an interval.
        duration_s: When to end; a dump at that moment is taken. None for no end.
    """
    begun, number, skipped = time.monotonic(), 0, 0
    last = inf if duration_s is None else floor(duration_s / interval_s + _ROUNDING)
    while True:
        at, started = datetime.now().astimezone(), time.monotonic()
        inspection = take()
        yield Moment(inspection, at, time.monotonic() - started, skipped)
        skipped = _intervals(begun, interval_s) - number
        number += skipped + 1
        if number > last:
            wait(begun + (duration_s or 0))
            return
        if not wait(begun + number * interval_s):
            return
        number = _intervals(begun, interval_s)  # more than one further if Ctrl-Z stopped this process meanwhile


_ROUNDING = 1e-6
"""The part of an interval by which a time may miss its end: 0.3 s are three intervals of 0.1 s."""


def _intervals(begun: float, interval_s: float) -> int:
    """The number of whole intervals since a time of time.monotonic()."""
    return floor((time.monotonic() - begun) / interval_s + _ROUNDING)


class WatchGate:
    """Judges conditions at the end of each interval: one that is true of any dump fails.

    A condition fails, too, if it could be judged of no dump: a gate without data must not pass.

    Args:
        judge: Judges the conditions for an inspection, always in the same order.
    """

    def __init__(self, judge: Callable[[Inspection], Sequence[Judgement]]) -> None:
        self._judge = judge
        self._unknown: dict[int, tuple[str, Failure]] = {}
        self._known: set[int] = set()
        self._failed: set[int] = set()

    @property
    def has_failed(self) -> bool:
        """Whether a condition failed."""
        return bool(self._failed)

    def judge(self, moment: Moment) -> list[tuple[str, Failure]]:
        """The conditions that are true for the first time, each with the time of the dump."""
        found = []
        for number, judgement in enumerate(self._judge(moment.inspection)):
            named = (time_of(moment), judgement.failure)
            if judgement.is_unknown:
                self._unknown[number] = named
                continue
            self._known.add(number)
            if judgement.outcome and number not in self._failed:
                self._failed.add(number)
                found.append(named)
        return found

    def conclude(self) -> list[tuple[str, Failure]]:
        """The conditions that could be judged of no dump, each with the time of the last one."""
        never = self._unknown.keys() - self._known
        self._failed |= never
        return [self._unknown[number] for number in sorted(never)]


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a path.

    Attributes:
        title: Above it.
        key: Sorts by it.
        value: The figure of a row; None if nobody knows it, or there is none.
        text: Writes it.
        rank: Where a terminal is narrow, the column of the highest rank is left out first; that of 0 never is.
        is_rising: Whether the smallest is the first to be shown.
    """

    title: str
    key: str
    value: Callable[[Row], float | None]
    text: Callable[[float], str]
    rank: int
    is_rising: bool = False


def _share(value: float) -> str:
    return f"{value:.1%}"


def _net(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{format_measured_rate(abs(value))}"


def _rate(read: Callable[[Rates], float]) -> Callable[[Row], float | None]:
    return lambda row: None if row.rates is None else read(row.rates)


COLUMNS = (
    Column("used", "u", lambda row: row.path.used, count, 0),
    Column("share", "s", lambda row: row.path.share, _share, 0),
    Column("free", "f", lambda row: row.path.free, count, 4, is_rising=True),
    Column("ESTAB", "e", lambda row: row.path.established, count, 10),
    Column("TIME_WAIT", "t", lambda row: row.path.time_wait, count, 3),
    Column("opened/s", "o", _rate(lambda rates: rates.opened_per_s), format_measured_rate, 7),
    Column("gone/s", "g", _rate(lambda rates: rates.gone_per_s), format_measured_rate, 8),
    Column("net/s", "n", lambda row: row.growth_per_s, _net, 2),
    Column("slow in", "k", lambda row: row.slow_in_s, elapsed, 5, is_rising=True),
    Column("exhausted in", "x", lambda row: row.exhausted_in_s, elapsed, 1, is_rising=True),
    Column("connect()", "c", lambda row: row.next.connect_ns if row.next else None, about, 6),
)
FULLEST = COLUMNS[1]
"""What a table is sorted by until a key chooses another column."""


def ordered(rows: Sequence[Row], by: Column) -> list[Row]:
    """Rows in the order of a column; those that lack the figure last, those of the same figure the fullest first."""
    sign = 1 if by.is_rising else -1

    def place(row: Row) -> tuple[bool, float]:
        value = by.value(row)
        return value is None, 0.0 if value is None else sign * value

    return sorted(rows, key=place)


def table(rows: Sequence[Row], width: int, height: int, by: Column = FULLEST) -> list[str]:
    """A header, and a line for each row, of at most so many columns and lines; the header is always there.

    Figures are left out where they do not fit, that of the sorting column last, and then the beginning of the names.
    """
    shown = rows[: max(0, height - 1)]
    names = [row.name for row in shown]
    columns = {column: [_cell(column, row) for row in shown] for column in COLUMNS}
    widths = {column: max(map(len, [column.title, *cells])) + 2 for column, cells in columns.items()}
    longest = max(map(len, ["source -> target", *names]))
    for column in sorted(COLUMNS, key=lambda one: (one is not by, one.rank), reverse=True):
        if width - sum(widths.values()) >= min(longest, SHORTEST_NAME) or not column.rank:
            break
        del widths[column]
    room = max(1, min(longest, width - sum(widths.values())))
    lines = [_fitted("source -> target", room) + "".join(f"{one.title:>{widths[one]}}" for one in widths)]
    for i, name in enumerate(names):
        lines.append(_fitted(name, room) + "".join(f"{columns[one][i]:>{widths[one]}}" for one in widths))
    return [line[:width] for line in lines]


def _cell(column: Column, row: Row) -> str:
    value = column.value(row)
    return "-" if value is None else column.text(value)


def _fitted(name: str, room: int) -> str:
    """A name in exactly so many columns; of one that is longer the end, which has the target."""
    return f"{end_of(name, room):<{room}}"


class View:
    """What a terminal shows of a watch: the newest dump, sorted by the column that the user chose last.

    Attributes:
        moment: The dump; None before the first.
    """

    def __init__(self, interval_s: float) -> None:
        self.moment: Moment | None = None
        self._interval_s = interval_s
        self._column = FULLEST

    def press(self, key: str) -> None:
        """Sort by the column of a key, if it is one's."""
        self._column = next((column for column in COLUMNS if column.key == key), self._column)

    def lines(self, width: int, height: int) -> Iterator[tuple[str, str]]:
        """The lines for a terminal of so many columns and lines, each with its style as rich names it."""
        if self.moment is None:
            return
        found = self.moment.inspection
        yield self._status(self.moment)[:width], "bold"
        rows = ordered(found.rows, self._column)
        header, *others = table(rows, width, height - 2, self._column)
        yield header, "reverse"
        for line, row in zip(others, rows, strict=False):
            yield line, "bold red" if row.needs_attention else ""
        yield f"{ENDS} ends; keys that sort: {_KEYS}; sorted by {self._column.title}"[:width], "dim"

    def _status(self, moment: Moment) -> str:
        found = moment.inspection
        hidden = found.paths - len(found.rows)
        parts = [
            f"{moment.at:%H:%M:%S}  {count(found.sockets)} sockets",
            f"{count(found.paths)} paths" + (f", of which {count(hidden)} not shown (--top)" if hidden else ""),
            f"read in {elapsed(moment.took_s)}, every {self._interval_s:g} s",
        ]
        if moment.skipped:
            parts.append(f"{count(moment.skipped)} left out: a dump takes longer")
        return "; ".join(parts)


_KEYS = " ".join(column.key for column in COLUMNS)


def text_lines(moment: Moment) -> str:
    """A line for each row, with the time of the dump; one line if there is no path."""
    at = time_of(moment)
    return "\n".join(f"{at} {_line(row)}" for row in moment.inspection.rows) or f"{at} no path has connections"


def time_of(moment: Moment) -> str:
    """When a dump was taken, to the second: `2026-11-29T12:30:05`."""
    return f"{moment.at:%Y-%m-%dT%H:%M:%S}"


def json_line(moment: Moment) -> str:
    """The JSON document of an inspection in a line, with the time of the dump and the intervals left out before it."""
    more = {"time": moment.at.isoformat(timespec="milliseconds"), "left_out": moment.skipped}
    return json_text(more | document(moment.inspection)).rstrip("\n")


LINES = {"text": text_lines, "json": json_line}
"""What a pipe gets of a dump, by format."""


def _line(row: Row) -> str:
    path = row.path
    parts = [
        f"{count(path.used)} of {count(path.usable)} ports ({_share(path.share)})",
        f"{count(path.time_wait)} TIME_WAIT",
    ]
    if row.rates:
        rates = (row.rates.opened_per_s, row.rates.gone_per_s)
        parts.append("opened {}/s, gone {}/s".format(*map(format_measured_rate, rates)))
    for what, seconds in (("slow", row.slow_in_s), ("exhausted", row.exhausted_in_s)):
        if seconds is not None:
            parts.append(f"{what} in {elapsed(seconds)}")
    return f"{row.name}: {', '.join(parts)}"

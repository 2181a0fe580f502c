"""When a watch takes dumps, and what it shows of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.inspect import watch
from connbench.inspect.inspection import Inspection, Row, inspect
from connbench.inspect.path_gate import Judgement, evaluate
from connbench.inspect.rates import Rates
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets
from connbench.inspect.watch import (
    COLUMNS,
    Column,
    Moment,
    View,
    WatchGate,
    json_line,
    moments,
    ordered,
    table,
    text_lines,
)
from connbench.model import PortRange
from connbench.path_conditions import parse_condition

PORTS = PortRange(40000, 40099)


class Clock:
    """A clock that stands still unless something takes time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time in seconds."""
        return self.now


def watched(
    clock: Clock,
    takes_s: Sequence[float],
    interval_s: float,
    duration_s: float | None = None,
    wait: Callable[[float], bool] | None = None,
) -> list[tuple[float, int]]:
    """When dumps began, by a clock that is 0 at the start, with how many were left out; the last ends the watch."""
    began: list[float] = []
    begun = clock.now

    def take() -> Inspection:
        began.append(clock.now - begun)
        clock.now += takes_s[len(began) - 1]
        return Inspection([], [])

    def sleep(until: float) -> bool:
        clock.now = max(clock.now, until)
        return len(began) < len(takes_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "time", SimpleNamespace(monotonic=clock.monotonic))
        skipped = [moment.skipped for moment in moments(take, wait or sleep, interval_s, duration_s)]
    return list(zip(began, skipped, strict=True))


def test_dumps_at_each_interval_until_the_end() -> None:
    """The first at once, the last at the end, whatever a dump takes."""
    assert watched(Clock(), [0.2, 0.9, 0.5, 0.1, 0.1], 1, 3) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert watched(Clock(), [0.2, 0.9, 0.5, 0.1, 0.1], 1, 2.5) == [(0, 0), (1, 0), (2, 0)]


def test_a_long_dump_leaves_intervals_out() -> None:
    """The next dump begins at an interval's beginning, and knows how many there were meanwhile."""
    assert watched(Clock(), [2.5, 0.1, 1.0, 0.1], 1) == [(0, 0), (3, 2), (4, 0), (6, 1)]


def test_a_dump_longer_than_the_duration_is_the_last() -> None:
    """It is shown."""
    assert watched(Clock(), [5.0, 0.1], 1, 3) == [(0, 0)]


def test_the_user_ends_a_watch() -> None:
    """No dump follows."""
    assert watched(Clock(), [0.0] * 9, 1, wait=lambda _: False) == [(0, 0)]


def test_time_in_which_the_process_was_stopped_is_nobodys_fault() -> None:
    """After it the next dump is taken at once, and none counts as left out."""
    clock = Clock()
    waits = iter([100.25, 101.0, 102.0])

    def wait(until: float) -> bool:
        clock.now = max(until, 1000 + next(waits))
        return clock.now < 1102

    assert watched(clock, [0.1] * 9, 1, wait=wait) == [(0, 0), (100.25, 0), (101.0, 0)]


@given(
    st.lists(st.floats(0.001, 30, allow_nan=False).filter(lambda s: s % 1 > 1e-6), min_size=1, max_size=20),
    st.sampled_from([0.5, 1, 2]),
)
def test_dumps_neither_overlap_nor_drift(takes_s: list[float], interval_s: float) -> None:
    """Each begins at a multiple of the interval, after the one before ended; no interval is lost count of."""
    found = watched(Clock(), takes_s, interval_s)
    ends = 0.0
    for number, ((began, _), took) in enumerate(zip(found, takes_s, strict=True)):
        assert began >= ends - 1e-6
        assert began == pytest.approx(interval_s * (number + sum(left_out for _, left_out in found[: number + 1])))
        ends = began + took


def rows_of(*numbers: int, rates: Sequence[Rates] = ()) -> list[Row]:
    """A path of each number of ports, from one source."""
    ports = [(target, PORTS.low + i) for target, number in enumerate(numbers, start=1) for i in range(number)]
    if not ports:
        return []
    sockets = Sockets.of(
        protocol=[6] * len(ports),
        family=[4] * len(ports),
        state=[1] * len(ports),
        local=[(0, 0x0A000005)] * len(ports),
        remote=[(0, 0x0A010200 + target) for target, _ in ports],
        local_port=[port for _, port in ports],
        remote_port=[443] * len(ports),
    )
    rows = inspect([Snapshot(sockets, Settings(PORTS))]).rows
    return [Row(row.path, row.usage, rates[i] if rates else None) for i, row in enumerate(rows)]


def moment_of(rows: Sequence[Row], skipped: int = 0) -> Moment:
    """A dump with these rows."""
    at = datetime(2026, 11, 29, 12, 30, 5, tzinfo=UTC)
    return Moment(Inspection([row.usage for row in rows[:1]], rows), at, 0.1, skipped)


def test_lines_of_a_pipe() -> None:
    """One for each path, with the time, and the rates once there are any."""
    assert text_lines(moment_of(rows_of(96, rates=[Rates(2.0, 6, 4)]))) == (
        "2026-11-29T12:30:05 10.0.0.5 -> 10.1.2.1:443: 96 of 100 ports (96.0%), 0 TIME_WAIT, "
        "opened 3/s, gone 2/s, exhausted in 4.0 s"
    )
    assert text_lines(moment_of(rows_of(3, 2))).splitlines()[1] == (
        "2026-11-29T12:30:05 10.0.0.5 -> 10.1.2.2:443: 2 of 100 ports (2.0%), 0 TIME_WAIT"
    )
    assert text_lines(moment_of([])) == "2026-11-29T12:30:05 no path has connections"


def test_json_line() -> None:
    """The document of an inspection, with the time of the dump and the rates."""
    line = json_line(moment_of(rows_of(96, rates=[Rates(2.0, 6, 4)]), skipped=2))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["time"], found["left_out"], found["sockets"]) == ("2026-11-29T12:30:05.000+00:00", 2, 96)
    [row] = found["rows"]
    assert (row["opened_per_s"], row["gone_per_s"], row["growth_per_s"], row["exhausted_in_s"]) == (3, 2, 1, 4)
    [row] = json.loads(json_line(moment_of(rows_of(3))))["rows"]
    assert (row["opened_per_s"], row["gone_per_s"]) == (None, None)


def column(title: str) -> Column:
    """The column of a title."""
    return next(one for one in COLUMNS if one.title == title)


def test_sorting_has_the_most_urgent_first() -> None:
    """The largest figure; of the time left the smallest, and paths that never run out come last."""
    rows = rows_of(30, 20, 10, rates=[Rates(1.0, 1, 1), Rates(1.0, 5, 4), Rates(1.0, 90, 0)])
    used = {title: [row.path.used for row in ordered(rows, column(title))] for title in ("used", "free", "net/s")}
    assert used == {"used": [30, 20, 10], "free": [30, 20, 10], "net/s": [10, 20, 30]}
    assert [row.path.used for row in ordered(rows, column("exhausted in"))] == [10, 20, 30]
    assert [row.path.used for row in ordered(rows_of(30, 20), column("net/s"))] == [30, 20]


def test_keys_sort_and_others_do_nothing() -> None:
    """Each column has a key of its own, and none is the one that ends a watch."""
    keys = [one.key for one in COLUMNS]
    assert len({*keys, watch.ENDS}) == len(COLUMNS) + 1
    view = View(1)
    assert list(view.lines(80, 24)) == []
    view.moment = moment_of(rows_of(30, 20, rates=[Rates(1.0, 0, 0), Rates(1.0, 5, 0)]))
    fullest = [line for line, _ in view.lines(80, 24)]
    view.press("n")
    view.press("?")
    growing = [line for line, _ in view.lines(80, 24)]
    assert [line.split()[2] for line in fullest[2:4]] == ["10.1.2.1:443", "10.1.2.2:443"]
    assert [line.split()[2] for line in growing[2:4]] == ["10.1.2.2:443", "10.1.2.1:443"]
    assert growing[-1].endswith("sorted by net/s")


def test_a_view_says_what_it_leaves_out() -> None:
    """Paths beyond --top, and dumps that were not taken."""
    view = View(0.5)
    rows = rows_of(3, 2, 1)
    view.moment = moment_of(rows[:1], skipped=4)
    status, _ = next(view.lines(200, 24))
    assert status == (
        "12:30:05  6 sockets; 3 paths, of which 2 not shown (--top); read in 0.1 s, every 0.5 s; "
        "4 left out: a dump takes longer"
    )


def test_paths_that_need_attention_stand_out() -> None:
    """As in the report: one that is nearly full, and one that soon will be."""
    view = View(1)
    view.moment = moment_of(rows_of(91, 50, 40, rates=[Rates(1.0, 0, 0), Rates(1.0, 0, 0), Rates(1.0, 1, 0)]))
    assert [style for _, style in view.lines(80, 24)][2:5] == ["bold red", "", "bold red"]


@given(st.lists(st.integers(1, 100), max_size=12), st.integers(1, 150), st.integers(1, 20))
def test_a_view_fits_its_terminal(numbers: list[int], width: int, height: int) -> None:
    """Whatever its size: no line is longer, there are no more lines, and the fullest come first."""
    view = View(1)
    view.moment = moment_of(rows_of(*numbers))
    found = [line for line, _ in view.lines(width, height)]
    assert all(len(line) <= width for line in found)
    assert len(found) <= max(height, 3)
    shares = [float(line.split("%")[0].split()[-1]) for line in table(view.moment.inspection.rows, 80, height)[1:]]
    assert shares == sorted(map(float, numbers), reverse=True)[: height - 1]


def test_names_keep_their_target() -> None:
    """Of a name that is too long the beginning is left out, after the less urgent figures."""
    [header, row] = table(rows_of(3), 50, 9)
    assert header.split()[:4] == ["source", "->", "target", "used"]
    assert row.startswith("10.0.0.5 -> 10.1.2.1:443")
    [_, row] = table(rows_of(3), 30, 9)
    assert row.split()[-3:] == ["10.1.2.1:443", "3", "3.0%"]
    assert row.startswith("…")


def test_the_column_that_sorts_is_shown() -> None:
    """Also where others of its urgency have no room."""
    view = View(1)
    view.moment = moment_of(rows_of(3, 5))
    assert "ESTAB" not in list(view.lines(80, 9))[1][0]
    view.press("e")
    assert "ESTAB" in list(view.lines(80, 9))[1][0]


def judged(known: bool, is_true: bool, condition: str) -> Judgement:
    """What became of a condition."""
    outcome = "is true" if is_true and known else "" if known else "is not known"
    return Judgement(parse_condition(condition), "path", 1.0 if known else None, outcome)


def gate_of(*dumps: Sequence[Judgement]) -> tuple[list[list[str]], list[str], bool]:
    """What a gate reports of each dump and at the end, as conditions, and whether it failed."""
    turns = iter(dumps)
    gate = WatchGate(lambda _: next(turns))
    of_dumps = [[failure.condition for _, failure in gate.judge(moment_of([]))] for _ in dumps]
    return of_dumps, [failure.condition for _, failure in gate.conclude()], gate.has_failed


USED, FREE = "used > 80%", "free < 10"


def test_a_condition_that_was_true_once_fails() -> None:
    """It is reported when it is true for the first time, and counts though it is false at the end."""
    dumps = [[judged(True, is_true, USED), judged(True, False, FREE)] for is_true in (False, True, True, False, True)]
    assert gate_of(*dumps) == ([[], [USED], [], [], []], [], True)


def test_what_cannot_be_judged_of_one_dump_may_be_of_another() -> None:
    """Only a condition that no dump had the figures for fails; with no dump, nothing was judged."""
    known, unknown = judged(True, False, USED), judged(False, False, USED)
    assert gate_of([unknown], [known], [unknown]) == ([[], [], []], [], False)
    assert gate_of([unknown], [unknown]) == ([[], []], [USED], True)
    assert gate_of() == ([], [], False)


def test_failures_have_the_time_of_the_dump() -> None:
    """So that a reader of stderr finds it in the lines of stdout."""
    gate = WatchGate(lambda inspection: evaluate([parse_condition(USED)], inspection, lambda _path, _snapshot: ()))
    [(at, failure)] = gate.judge(moment_of(rows_of(96, 3)))
    assert at == "2026-11-29T12:30:05"
    assert failure.text.startswith("10.0.0.5 -> 10.1.2.1:443: used > 80%")

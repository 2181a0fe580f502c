"""The loop in C against connbench's Python: the same draws to the bit, the same constants, and buffers that fit."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench import draws, samples
from connbench.draws import Draws, Kind, below, mix
from connbench.engine import loop, task, worker
from connbench.engine.task import LoopEnd, Reason, WorkerTask
from connbench.model import MAX_PORT, Loop, Phase, Placement, PortRange, RoundPlan, Spread, StrategySpec
from factories import PLAN

_loop = pytest.importorskip("connbench.engine._loop", reason="connbench was installed without its loop in C")


def test_a_worker_takes_the_loop_of_the_plan() -> None:
    """With `--loop python` that in Python, where the one in C is built, too."""
    assert [worker.module_of(name) for name in (Loop.C, Loop.PYTHON)] == [_loop, loop]


BITS = st.integers(0, 2**64 - 1)
ROWS = st.integers(0, 2**31 - 1)
TRIES = st.integers(0, 2**32 - 1)


@given(BITS, ROWS, TRIES)
def test_mixed_bits_are_the_same(key: int, row: int, try_: int) -> None:
    """C, Python and numpy mix a key, a row and a try to the same 64 bits."""
    mixed = mix(key, row, try_)
    assert _loop.mix(key, row, try_) == mixed
    assert mix(key, np.array([row], dtype=np.uint64), np.array([try_], dtype=np.uint64)).tolist() == [mixed]


@given(BITS, st.integers(1, 2**32 - 1))
def test_number_below_another_is_the_same(bits: int, number: int) -> None:
    """C, Python and numpy draw the same number from the same bits."""
    drawn = below(bits, number)
    assert 0 <= drawn < number
    assert _loop.below(bits, number) == drawn
    assert below(np.array([bits], dtype=np.uint64), number).tolist() == [drawn]


@st.composite
def any_draws(draw: st.DrawFn) -> Draws:
    """The draws of a round of any kind."""
    low, high = sorted((draw(st.integers(1, MAX_PORT)), draw(st.integers(1, MAX_PORT))))
    stride, kind = draw(st.integers(1, 9)), draw(st.sampled_from(Kind))
    count = (high - low) // stride + 1
    width = (1 if stride > 1 else draw(st.integers(1, count))) if kind is Kind.WINDOW else 0
    spaces = draw(st.integers(1, 50))
    return Draws(
        kind=kind,
        key=draw(BITS),
        replaced_key=draw(BITS),
        low=low,
        count=count,
        stride=stride,
        first=draw(st.integers(0, count - 1)),
        width=width,
        overhang=draw(st.sampled_from([0, width - 1])) if width else 0,
        fixed=array("I", draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9))),
        max_tries=draw(st.integers(1, 2**20)),
        paths=spaces * draw(st.integers(1, 50)),
        spaces=spaces,
        ports_each=draw(st.integers(1, count)),
        fills=draw(st.booleans()),
    )


@given(any_draws(), ROWS, TRIES, st.integers(0, 2**20), st.integers(1, 2**20))
def test_draws_are_the_same(drawn: Draws, row: int, try_: int, start: int, size: int) -> None:
    """C, Python and numpy give the same number, path and replaced row, whatever the strategy draws."""
    filled = range(start, start + size)
    numbers = drawn.number(row, try_), drawn.path(row), drawn.replaced(row, filled)
    assert _loop.draw(drawn, row, try_, filled) == numbers
    many = replace(drawn, fixed=np.array(drawn.fixed))
    rows, tries = np.array([row], dtype=np.uint64), np.array([try_], dtype=np.uint64)
    assert (*many.number(rows, tries), *many.path(rows), *many.replaced(rows, filled)) == numbers


def test_constants_are_the_same() -> None:
    """C has copies of them."""
    assert _loop.MOST_DRAWS == draws.MOST_DRAWS
    assert _loop.TIMEOUTS_IN_A_ROW == task.TIMEOUTS_IN_A_ROW
    assert _loop.FLOOR_CALLS == loop.FLOOR_CALLS
    assert _loop.LONGEST_SLEEP_NS == task.LONGEST_SLEEP_NS
    assert _loop.GIVEN_UP == samples.GIVEN_UP
    assert _loop.TIMED_OUT == samples.TIMED_OUT


def make_task(rows: int = 4, strategy: StrategySpec | None = None, **changes: Any) -> WorkerTask:  # noqa: ANN401  # any field of WorkerTask
    """A task of a plan that nobody runs: each test makes it one that the loop refuses, or that has nothing to do."""
    spec = strategy or StrategySpec("window", 4, Placement.CLIPPED, 0)
    plan = RoundPlan(replace(PLAN, strategies=(spec,), connections=rows, spread=Spread.FILL), spec, 1)
    fields: dict[str, Any] = {
        "plan": plan,
        "draws": Draws.of(plan),
        "client": 0,
        "rows": plan.rows_of_clients(Phase.FILL)[0],
        "capacity": 4,
        "held_ports": memoryview(array("q", [0] * len(plan.sources))),
        "positions": memoryview(array("q", [0] * len(plan.sources))),
        "descriptor": -1,
        "epoch": 0,
        "columns": {column.name: memoryview(array(column.code, [0] * rows)) for column in samples.COLUMNS},
    }
    return WorkerTask(**(fields | changes))


def columns(rows: int, **changes: memoryview) -> dict[str, memoryview]:
    """Columns of some rows, some of them others than the schema has."""
    return {column.name: memoryview(array(column.code, [0] * rows)) for column in samples.COLUMNS} | changes


@pytest.mark.parametrize("run", [loop.run_attempts, _loop.run_attempts], ids=["python", "c"])
def test_nothing_to_do_is_done(run: Any) -> None:  # noqa: ANN401  # a function of either loop
    """Without rows, without capacity, or once stopped a loop makes no attempt, and says why."""
    held = array("i")
    assert run(make_task(), held, range(0)) == LoopEnd(Reason.DONE, 0)
    assert run(make_task(capacity=0), held, range(4)) == LoopEnd(Reason.CAPACITY, 0)
    assert run(make_task(stop=memoryview(array("i", (1,)))), held, range(4)) == LoopEnd(Reason.STOPPED, 0)
    assert not held


@pytest.mark.parametrize(
    ("changes", "rows", "held", "message"),
    [
        ({}, range(5), array("i"), "started_ns is no buffer of 5 elements of type q"),
        ({}, range(0, 4, 2), array("i"), "step is 2"),
        ({"columns": columns(4, errno=memoryview(array("I", [0] * 4)))}, range(4), array("i"), "errno is no buffer"),
        ({"stop": memoryview(b"")}, range(4), array("i"), "stop is no buffer of 1 elements of type i"),
        (
            {"held_ports": memoryview(array("q"))},
            range(4),
            array("i"),
            "held_ports is no buffer of 1 elements of type q",
        ),
        ({"draws": replace(make_task().draws, low=0)}, range(4), array("i"), "low is 0"),
        ({"draws": replace(make_task().draws, count=MAX_PORT + 1)}, range(4), array("i"), "count is 65536"),
        ({"draws": replace(make_task().draws, width=0)}, range(4), array("i"), "width is 0"),
        ({"draws": replace(make_task().draws, overhang=4)}, range(4), array("i"), "overhang is 4"),
        ({"draws": replace(make_task().draws, ports_each=0)}, range(4), array("i"), "ports_each is 0"),
        ({"draws": replace(make_task().draws, paths=2)}, range(4), array("i"), "paths is not sources times targets"),
        ({"draws": replace(make_task().draws, kind=Kind.FIXED)}, range(4), array("i"), "fixed is no buffer of 1"),
        ({"capacity": 2**63}, range(4), array("i"), "too (large|big)"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], rows: range, held: array[int], message: str) -> None:
    """C checks all bounds before the first attempt: it makes none."""
    refused = make_task(**changes)
    with pytest.raises((ValueError, OverflowError), match=message):
        _loop.run_attempts(refused, held, rows)
    assert not held
    assert not any(refused.columns["tries"])


def test_what_is_no_task_is_refused() -> None:
    """Objects without the attributes, or of other types, raise Python's exceptions."""
    with pytest.raises(AttributeError, match="draws"):
        _loop.run_attempts(object(), array("i"), range(1))
    with pytest.raises(KeyError, match="started_ns"):
        _loop.run_attempts(make_task(columns={}), array("i"), range(1))
    with pytest.raises(AttributeError, match="frombytes"):
        _loop.run_attempts(make_task(), [], range(0))
    with pytest.raises(TypeError):
        _loop.count(make_task(), [])
    with pytest.raises(TypeError):
        _loop.reset_all(make_task(), None)
    with pytest.raises(AttributeError):
        _loop.measure_floor(None, 0)


def test_churn_of_rows_that_the_worker_does_not_hold_is_refused() -> None:
    """Each row must replace one of the worker's own."""
    churn = task.ChurnTask(filled=range(100, 200), first=0, began=0, interval_ns=0.0)
    with pytest.raises(ValueError, match="replaces a row of another worker"):
        _loop.run_attempts(make_task(), array("i", [-1] * 4), range(4), churn)


def test_port_range_of_one_port() -> None:
    """The narrowest range of all has one window, and one port."""
    plan = replace(PLAN, port_range=PortRange(MAX_PORT, MAX_PORT))
    for spec in (StrategySpec("window", 1, Placement.CLIPPED, 0), StrategySpec("random"), StrategySpec("partition", 1)):
        drawn = Draws.of(RoundPlan(replace(plan, strategies=(spec,)), spec, 1))
        assert _loop.draw(drawn, 7, 3, range(1)) == (drawn.number(7, 3), drawn.path(7), 0)

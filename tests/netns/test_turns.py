"""The turns of a paced churn, by a clock that the test moves: no machine is too slow, or too fast, for them."""

from __future__ import annotations

import os
from array import array
from dataclasses import replace
from itertools import count

import pytest

from connbench import samples
from connbench.draws import Draws
from connbench.engine import loop
from connbench.engine.task import ChurnTask, WorkerTask, counters_of_client, never_set
from connbench.model import Churn, Listener, Load, Namespace, Phase, Protocol, RoundPlan
from connbench.units import NS_PER_S
from run_connbench import make_plan, spec

READ_NS, BEGAN = 1000, 5_000_000
"""What each read of the clock takes, and when the churn begins."""

READS_NS = 2 * READ_NS
"""What passes from its turn to an attempt: the loop reads the clock to see the turn, and to begin."""


class Clock:
    """A clock that advances by a microsecond at each read, and by what is slept; a nap may be too long."""

    def __init__(self, late_ns: dict[int, int]) -> None:
        self.now, self.late_ns, self.naps = BEGAN, late_ns, count()

    def read(self) -> int:
        """The time."""
        self.now += READ_NS
        return self.now

    def sleep(self, seconds: float) -> None:
        """Sleep, and longer by the overrun of this nap."""
        self.now += round(seconds * NS_PER_S) + self.late_ns.get(next(self.naps), 0)


def begun(
    monkeypatch: pytest.MonkeyPatch, load: Load, late_ns: dict[int, int] | None = None, stop: memoryview | None = None
) -> list[int]:
    """When each replacement of the first client began, in ns from the churn's beginning; sockets are UDP's."""
    strategy = replace(spec("plain"), load=replace(load, protocol=Protocol.UDP))
    plan = RoundPlan(make_plan(strategy, 64, 4, listener=Listener.NONE, namespace=Namespace.HOST), strategy, 1)
    descriptor = samples.create(plan.rows)
    columns = samples.views(samples.attach(descriptor, plan.rows), plan.rows)
    os.close(descriptor)
    filled = plan.rows_of_clients(Phase.FILL)[0]
    draws = Draws.of(plan)
    counters = counters_of_client(draws, filled)
    task = WorkerTask(plan, draws, 0, filled, 64, *counters, -1, 0, columns, stop or never_set())
    rows = plan.rows_of_clients(Phase.CHURN)[0]
    clock = Clock(late_ns or {})
    monkeypatch.setattr(loop, "perf_counter_ns", clock.read)
    monkeypatch.setattr(loop, "sleep", clock.sleep)
    held = array("i", [-1] * len(filled))
    loop.run_attempts(task, held, rows, ChurnTask.of(plan, 0, BEGAN, 0))
    loop.reset_all(task, held)
    return [columns["started_ns"][row] - BEGAN for row in rows]


@pytest.mark.parametrize(("clients", "interval_ns"), [(1, 500_000), (2, 1_000_000)])
def test_each_replacement_waits_for_its_turn(clients: int, interval_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 2,000 a second one begins every 0.5 ms; each of two clients has every other one."""
    turns = begun(monkeypatch, Load(concurrency=clients, churn=Churn(20 * clients, rate=2000.0)))
    assert len(turns) == 20
    assert [turn - number * interval_ns for number, turn in enumerate(turns[1:], 1)] == [READS_NS] * 19


def test_replacements_that_are_late_are_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sleep that was 2 ms too long the next ones wait for nothing, until the churn is back at its rate."""
    turns = begun(monkeypatch, Load(churn=Churn(20, rate=2000.0)), {4: 2_000_000})
    late = [turn - number * 500_000 - READS_NS for number, turn in enumerate(turns)]
    assert (late[1:5], late[10:]) == ([0] * 4, [0] * 10)
    assert late[5] == 2_000_000
    assert late[5] > late[6] > late[7] > late[8] > 0


def test_churn_without_a_rate_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never sleeps."""
    monkeypatch.setattr(Clock, "sleep", lambda _clock, _seconds: pytest.fail("it slept"))
    assert len(begun(monkeypatch, Load(churn=Churn(20)))) == 20


def test_a_long_wait_ends_soon_after_the_stop_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one in 10 s it sleeps in pieces, and the piece in which the flag is set is the last."""
    stop, slept = never_set(), []

    def sleep(clock: Clock, seconds: float) -> None:
        slept.append(seconds)
        clock.now += round(seconds * NS_PER_S)
        stop[0] = len(slept) == 3

    monkeypatch.setattr(Clock, "sleep", sleep)
    turns = begun(monkeypatch, Load(churn=Churn(20, rate=0.1)), stop=stop)
    assert slept == [0.05, 0.05, 0.05]
    assert turns[1:] == [-BEGAN] * 19

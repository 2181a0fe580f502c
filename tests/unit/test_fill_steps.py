"""Attempts given up: how many connected in time as the range fills, and the knee of such a run."""

from __future__ import annotations

import errno
from dataclasses import replace

from connbench.analysis.knee import find_knee
from connbench.analysis.parts import FillStep, fill_steps
from connbench.model import Load, PortRange
from connbench.report import run_report
from connbench.report.run_report import giving_up_table
from connbench.results.result import Result, StrategyResult
from connbench.samples import GIVEN_UP
from factories import PLAIN, PLAN, result_of, round_of, samples_of

IMPATIENT = replace(PLAIN, load=Load(give_up_ms=1.0))
PORTS = PortRange(9024, 9223)


def half_given_up() -> Result:
    """Of 200 ports the even half connects at once; then attempts take 2 ms and are given up, the last fails."""
    numbers = [0] * 100 + [GIVEN_UP] * 99 + [errno.EADDRNOTAVAIL]
    samples = samples_of(
        [10_000] * 100 + [2_000_000] * 100,
        errno=numbers,
        port=[0 if number else 9024 + 2 * i for i, number in enumerate(numbers)],
    )
    return result_of({IMPATIENT: [round_of(samples)]}, replace(PLAN, port_range=PORTS))


def test_steps_are_tenths_of_the_range_asked_for() -> None:
    """Each tenth lists its attempts by outcome, and how much of the range is in use after it."""
    found = fill_steps(half_given_up().strategies[0])
    assert len(found) == 10
    assert found[4] == FillStep(asked=0.5, attempts=20, connected=20, given_up=0, failed=0, open=0.5)
    assert found[5] == FillStep(asked=0.6, attempts=20, connected=0, given_up=20, failed=0, open=0.5)
    assert found[9] == FillStep(asked=1.0, attempts=20, connected=0, given_up=19, failed=1, open=0.5)


def test_steps_end_where_the_attempts_do() -> None:
    """The last step is as long as the attempts; what is beyond the range is one step more."""
    [measured] = half_given_up().strategies
    assert [(s.asked, s.attempts) for s in fill_steps(replace(measured, capacity=1000))] == [(0.1, 100), (0.2, 100)]
    assert [(s.asked, s.attempts) for s in fill_steps(replace(measured, capacity=160))][-2:] == [(1.0, 16), (1.25, 40)]
    assert [s.attempts for s in fill_steps(replace(measured, capacity=None))] == [20] * 10


def test_steps_count_all_rounds_together() -> None:
    """Attempts are summed over the rounds, open connections are their mean; a round without attempts does not count."""
    [measured] = half_given_up().strategies
    fast = round_of(samples_of([10_000] * 200), 2)
    empty = round_of(samples_of([]), 3)
    last = fill_steps(StrategyResult(IMPATIENT, (*measured.rounds, fast, empty), 200))[-1]
    assert (last.attempts, last.connected, last.given_up, last.open) == (40, 20, 19, 0.75)
    assert fill_steps(StrategyResult(IMPATIENT, (empty,), 200)) == []


def test_knee_is_where_giving_up_begins() -> None:
    """Attempts given up mark where it turns slow, and none of them is the first that failed for lack of a port."""
    knee = find_knee(half_given_up().strategies[0])
    assert (knee.connection, knee.in_use) == (101, 100)
    assert (knee.first_failed, knee.in_use_at_failure) == (200, 100)


def test_given_up_here_and_there_does_not_move_the_knee() -> None:
    """An attempt given up has no port, and so no parity: the change of parity beside it marks the knee as before."""
    numbers = [GIVEN_UP if i in {95, 105} else 0 for i in range(200)]
    ports = [*range(9024, 9224, 2), *range(9025, 9225, 2)]
    samples = samples_of(
        [60_000 if i >= 97 else 10_000 for i in range(200)],
        errno=numbers,
        port=[0 if number else port for number, port in zip(numbers, ports, strict=True)],
    )
    knee = find_knee(StrategyResult(IMPATIENT, (round_of(samples),), 200))
    assert (knee.connection, knee.in_use, knee.first_failed) == (101, 99, None)


def test_report_counts_the_connections_within_the_limit() -> None:
    """A line counts the connections within the limit, a table counts them as the range fills; errors names the rest."""
    report = run_report.text(half_given_up())
    assert "\nconnected within 1 ms: 100 of 200 (50.0%)\n" in report
    assert "\nerrors: given up 99, EADDRNOTAVAIL 1\n" in report
    assert "\nfirst failed: attempt 200 with 50.0% of the range in use" in report
    assert "\n60%              20            0        20       0  50.0%\n" in report
    assert "asked for" not in run_report.text(result_of({PLAIN: half_given_up().rounds[IMPATIENT]}))


def test_round_without_an_attempt_has_no_table() -> None:
    """Without attempts there are no steps."""
    assert giving_up_table(StrategyResult(IMPATIENT, (round_of(samples_of([])),), 200)) is None

"""The progress of a run: its two lines, and the time that they predict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connbench.commands.progress import Bar, Forecast, attempts, cut, details, round_name, turn_name
from connbench.model import Churn, Load, Phase, Placement, Plan, RoundPlan, StrategySpec
from connbench.rounds import Progress
from factories import PLAIN, PLAN, WINDOW


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time that it shows."""
        return self.now


def plan_of(*strategies: StrategySpec, rounds: int = 1, connections: int = 10_000) -> Plan:
    """A run of this many connections for each strategy."""
    return replace(PLAN, strategies=strategies, rounds=rounds, connections=connections)


def watched(plan: Plan) -> tuple[Forecast, Clock]:
    """A forecast at the beginning of a run."""
    clock = Clock()
    return Forecast(plan, clock), clock


def promised(forecast: Forecast) -> tuple[float, bool]:
    """The seconds left to the millisecond, and whether they are an estimate and no bound."""
    assert forecast.seconds is not None
    seconds, is_known = forecast.seconds
    return round(seconds, 3), is_known


def at(plan: Plan, spec: StrategySpec, number: int, done: int) -> Progress:
    """A round at this count of attempts."""
    return Progress(RoundPlan(plan, spec, number), done, 12_300.0)


def turn(forecast: Forecast, clock: Clock, seconds: float) -> None:
    """A turn from its beginning to its end, shorter than a poll."""
    clock.now += seconds
    forecast.end_turn()


def test_nothing_is_promised_of_what_nothing_is_known() -> None:
    """Before attempts have been counted for a second there is no time."""
    plan = plan_of(PLAIN)
    forecast, clock = watched(plan)
    assert forecast.seconds is None
    clock.now = 0.5
    forecast.observe(at(plan, PLAIN, 1, 100))
    assert forecast.seconds is None


def test_of_a_first_round_there_is_a_lower_bound() -> None:
    """Plain turns slow in the middle: until it ends, the time is a lower bound by the pace of the last second."""
    plan = plan_of(PLAIN)
    forecast, clock = watched(plan)
    for seconds, done in ((0, 1), (1, 2501), (2, 5001)):
        clock.now = seconds
        forecast.observe(at(plan, PLAIN, 1, done))
    assert promised(forecast) == (round(4999 / 2500, 3), False)
    clock.now = 3.0
    forecast.observe(at(plan, PLAIN, 1, 5101))
    assert promised(forecast) == (round(4899 / 100, 3), False)


def test_later_rounds_take_what_the_first_took() -> None:
    """Once every strategy has been measured the time is an estimate and no bound."""
    plan = plan_of(PLAIN, WINDOW, rounds=3)
    forecast, clock = watched(plan)
    turn(forecast, clock, 60.0)
    assert not promised(forecast)[1]
    turn(forecast, clock, 2.0)
    assert promised(forecast) == (round(2 * 62.0, 3), True)
    clock.now += 10.0
    assert promised(forecast) == (round(2 * 62.0 - 10, 3), True)


def test_what_a_turn_has_taken_already_its_next_rounds_take_too() -> None:
    """The second round of a strategy takes as long as the first has so far, and the remainder of the first."""
    plan = plan_of(PLAIN, rounds=2)
    forecast, clock = watched(plan)
    for seconds, done in ((0, 1), (1, 5001), (2, 5101)):
        clock.now = seconds
        forecast.observe(at(plan, PLAIN, 1, done))
    left = 4899 / 100
    assert promised(forecast) == (round(left + 2.0 + left, 3), False)


def test_strategies_to_come_take_the_quickest_pace_at_least() -> None:
    """After a slow strategy, the forecast takes the others to be neither as slow nor free."""
    plan = plan_of(PLAIN, WINDOW)
    forecast, clock = watched(plan)
    for seconds, done in ((0, 1), (1, 5001), (2, 5101)):
        clock.now = seconds
        forecast.observe(at(plan, PLAIN, 1, done))
    assert promised(forecast) == (round(4899 / 100 + 10_000 / 5000, 3), False)


def test_short_turns_take_as_long_as_the_shortest() -> None:
    """A sweep of turns shorter than a poll: each later turn takes as long as the shortest."""
    loads = [replace(WINDOW, load=Load(fill=fill)) for fill in (0.5, 0.6, 0.7)]
    forecast, clock = watched(plan_of(*loads))
    turn(forecast, clock, 0.2)
    assert promised(forecast) == (round(0.2, 3), False)  # the third; the second may be over at once


def test_paced_churn_takes_its_time() -> None:
    """Replacements at a rate take at least their time, whatever the pace of the filling."""
    spec = replace(WINDOW, load=Load(churn=Churn(600, rate=10)))
    plan = plan_of(spec)
    forecast, clock = watched(plan)
    for seconds, done in ((0, 1), (1, 9001)):
        clock.now = seconds
        forecast.observe(at(plan, spec, 1, done))
    assert promised(forecast) == (60.0, False)
    clock.now = 2.0
    forecast.observe(at(plan, replace(spec, phase=Phase.CHURN), 1, 300))
    assert promised(forecast)[0] >= 30.0


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (0, None, ""),
        (312, None, "mean connect() so far: 12.3 µs"),
        (
            5000,
            (12.2, False),
            "mean connect() of the last 1,000: 12.3 µs; whole run: at least 12 s left",
        ),
        (5000, (0.2, True), "mean connect() of the last 1,000: 12.3 µs; whole run: about 1 s left"),
        (5000, (125.0, True), "mean connect() of the last 1,000: 12.3 µs; whole run: about 2 min 5 s left"),
        (5000, (36_300.0, False), "mean connect() of the last 1,000: 12.3 µs; whole run: at least 10 h 5 min left"),
    ],
)
def test_each_figure_says_what_it_is(done: int, seconds: tuple[float, bool] | None, said: str) -> None:
    """The second line fits 80 columns beside the ^C that a terminal echoes."""
    progress = at(plan_of(PLAIN), PLAIN, 1, done)
    assert "; ".join(details(progress, seconds)) == said
    assert len(said) <= 78
    assert attempts(progress) == f"{done:,} of 10,000 attempts"


def test_a_round_is_named() -> None:
    """The line names strategy, phase, round and number of rounds."""
    churn = replace(WINDOW, load=Load(churn=Churn(5)), phase=Phase.CHURN)
    assert round_name(RoundPlan(plan_of(churn, rounds=3), churn, 2)) == "window 500, churn, round 2 of 3"
    assert round_name(RoundPlan(plan_of(PLAIN), PLAIN, 1)) == "plain"


def test_what_was_printed_between_two_turns_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first lines after a report move no cursor up and erase nothing but their own line."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    plan = plan_of(PLAIN, WINDOW)
    bar = Bar(plan)
    bar.show(at(plan, PLAIN, 1, 5000))
    bar.end_turn()
    capsys.readouterr()
    bar.show(at(plan, WINDOW, 1, 5000))
    drawn = capsys.readouterr().err
    assert "5,000 of 10,000 attempts" in drawn
    assert "\x1b[1A" not in drawn
    bar.clear()
    assert capsys.readouterr().err.count("\x1b[1A\x1b[2K") >= 2


def test_a_turn_is_named() -> None:
    """The line names the turn and the number of turns, the setting and its load; a long one is cut."""
    loads = [replace(WINDOW, load=Load(fill=fill)) for fill in (0.5, 0.95)]
    plan = plan_of(*loads, rounds=3)
    assert turn_name(RoundPlan(plan, loads[1], 2)) == "turn 4 of 6: window 500, fill 95%"
    long = StrategySpec("window", 10_000, Placement.CLIPPED, 1000, Load(fill=0.95, churn=Churn(5)))
    churn = replace(long, phase=Phase.CHURN)
    name = turn_name(RoundPlan(plan_of(long), churn, 1))
    assert name == "turn 1 of 1: window 10000 clipped, 1000 retries, fill 95%, churn"
    assert cut(name, 30) == "turn 1 of 1: window 10000 cli…"

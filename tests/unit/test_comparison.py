"""Two results against each other: which strategies match, which figures are compared, and the verdicts."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.bootstrap import ChangeVerdict
from connbench.analysis.comparison import (
    FIGURES,
    Figure,
    RoundCount,
    StrategyComparison,
    compare,
    compare_totals,
    figures_of,
)
from connbench.analysis.summary import summarize
from connbench.errors import Interrupted
from connbench.model import StrategySpec
from connbench.results.result import Result, Round, StrategyResult
from factories import BIND, PLAIN, RANDOM, WINDOW, result_of, round_of, samples_of

NOISE = (1.0, 1.01, 0.99, 1.02, 0.98, 1.0)
ATTEMPTS = 40


def rounds_of(*factors: float, odd: float = 1.0, failing: Sequence[int] = (), attempts: int = ATTEMPTS) -> list[Round]:
    """One round for each factor, of 10 µs an attempt times it, those on odd ports times `odd` too.

    `failing` says how many attempts of each round fail; without it none.
    """
    made = []
    for number, factor in enumerate(factors, 1):
        latency = [round(10_000 * factor * (odd if i % 2 else 1)) for i in range(attempts)]
        failures = failing[number - 1] if failing else 0
        codes = [errno.EADDRNOTAVAIL if i < failures else 0 for i in range(attempts)]
        made.append(round_of(samples_of(latency, errno=codes), number))
    return made


def compared(base: Sequence[Round], new: Sequence[Round], spec: StrategySpec = BIND) -> StrategyComparison:
    """The comparison of one strategy's rounds."""
    [found] = compare(result_of({spec: base}), result_of({spec: new})).strategies
    return found


def counted(base: Sequence[Round], new: Sequence[Round]) -> StrategyComparison:
    """The comparison of rounds whose clock counted instructions."""
    sides = [result_of({BIND: rounds}) for rounds in (base, new)]
    for side in sides:
        side.environment["clock"] = "instructions"
    [found] = compare(*sides).strategies
    return found


def verdicts(found: StrategyComparison) -> dict[str, ChangeVerdict]:
    """Each figure's verdict."""
    return {name: figure.verdict for name, figure in found.figures.items()}


def noisy(factor: float = 1.0) -> list[float]:
    """Factors of six rounds with a little noise."""
    return [factor * noise for noise in NOISE]


def test_strategies_are_matched_by_name_and_parameters() -> None:
    """Another window is another strategy: the comparison lists what only one file has."""
    other = replace(WINDOW, window=1000)
    some = rounds_of(1)
    found = compare(
        result_of({PLAIN: some, WINDOW: some, BIND: some}), result_of({BIND: some, other: some, PLAIN: some})
    )
    assert [s.strategy for s in found.strategies] == [PLAIN, BIND]
    assert (found.only_base, found.only_new) == ((WINDOW,), (other,))


def test_all_figures_are_compared_in_their_order() -> None:
    """Total time, mean, p50 and p99 of all, even and odd, and errors."""
    assert tuple(compared(rounds_of(1), rounds_of(1)).figures) == FIGURES


def test_figures_of_a_round_are_the_summarys() -> None:
    """The figures of a round are those that the summary gives for it, failed attempts included."""
    [measured] = rounds_of(1.0, odd=3.0, failing=[5])
    summary = summarize(result_of({RANDOM: [measured]}).strategies[0])
    expected = {"total": summary.total_ns, "errors": 5 / ATTEMPTS}
    for prefix, group in (("", summary.all), ("even.", summary.even), ("odd.", summary.odd)):
        latency = group.latency
        expected |= {f"{prefix}mean": latency.mean, f"{prefix}p50": latency.p50, f"{prefix}p99": latency.p99}
    assert figures_of(measured) == pytest.approx(expected)


def test_slower_and_faster_mirror_each_other() -> None:
    """Half as long again is slower, and the other way round faster, in every time and not in errors."""
    base, new = rounds_of(*noisy()), rounds_of(*noisy(1.5))
    times = dict.fromkeys(FIGURES[:-1], ChangeVerdict.SLOWER)
    assert verdicts(compared(base, new)) == times | {"errors": ChangeVerdict.NO_DIFFERENCE}
    assert set(verdicts(compared(new, base)).values()) == {ChangeVerdict.FASTER, ChangeVerdict.NO_DIFFERENCE}
    change = compared(base, new).figures["total"].change
    assert change
    assert change.estimate == pytest.approx(1.5, rel=1e-3)
    assert 1 < change.low < 1.5 < change.high


def test_parities_are_judged_by_themselves() -> None:
    """A change on odd ports alone is reported of odd ports alone."""
    found = verdicts(compared(rounds_of(*noisy()), rounds_of(*noisy(), odd=2.0)))
    assert {found[f"odd.{name}"] for name in ("mean", "p50", "p99")} == {ChangeVerdict.SLOWER}
    assert {found[f"even.{name}"] for name in ("mean", "p50", "p99")} == {ChangeVerdict.NO_DIFFERENCE}


def test_noise_alone_shows_no_difference() -> None:
    """The same rounds in another order show no difference, with a ratio of 1."""
    found = compared(rounds_of(*noisy()), rounds_of(*reversed(noisy())))
    assert set(verdicts(found).values()) == {ChangeVerdict.NO_DIFFERENCE}
    change = found.figures["mean"].change
    assert change
    assert change.estimate == pytest.approx(1.0)


def test_rounds_are_the_unit_not_connections() -> None:
    """A hundred times the connections in the same rounds make the interval no narrower."""

    def width(attempts: int) -> float:
        base, new = (rounds_of(*noisy(), attempts=attempts) for _ in range(2))
        change = compared(base, new).figures["p50"].change
        assert change
        return change.high - change.low

    assert width(4000) == pytest.approx(width(40))


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        ([0] * 6, [0] * 6, ChangeVerdict.NO_DIFFERENCE),
        ([0] * 6, [8, 7, 9, 8, 8, 7], ChangeVerdict.MORE_ERRORS),
        ([8, 7, 9, 8, 8, 7], [0] * 6, ChangeVerdict.FEWER_ERRORS),
        ([8, 7, 9, 8, 8, 7], [7, 9, 8, 7, 8, 9], ChangeVerdict.NO_DIFFERENCE),
        ([0] * 6, [0, 0, 0, 0, 0, 2], ChangeVerdict.NO_DIFFERENCE),
    ],
    ids=["none", "more", "fewer", "as many", "one bad round"],
)
def test_errors_are_compared_by_their_difference(base: list[int], new: list[int], expected: ChangeVerdict) -> None:
    """The error rate's change is a difference of shares, and needs no errors in BASE."""
    figure = compared(rounds_of(*noisy(), failing=base), rounds_of(*noisy(), failing=new)).figures["errors"]
    assert figure.verdict is expected
    assert (figure.base, figure.new) == pytest.approx((np.mean(base) / ATTEMPTS, np.mean(new) / ATTEMPTS))
    assert figure.change
    assert figure.change.estimate == pytest.approx((np.mean(new) - np.mean(base)) / ATTEMPTS)


@pytest.mark.parametrize(("base", "new", "missing"), [(4, 6, (1, 0)), (6, 1, (0, 4)), (2, 3, (3, 2))])
def test_fewer_than_five_rounds_have_no_verdict(base: int, new: int, missing: tuple[int, int]) -> None:
    """With fewer than five rounds on a side every verdict is undetermined, and the missing rounds are counted."""
    found = compared(rounds_of(*noisy()[:base]), rounds_of(*noisy(9.0)[:new]))
    assert set(verdicts(found).values()) == {ChangeVerdict.UNDETERMINED}
    assert {figure.missing for figure in found.figures.values()} == {missing}
    assert all(figure.change is None for figure in found.figures.values())
    assert found.figures["total"].base == pytest.approx(ATTEMPTS * 10_000, rel=0.02)


def test_five_rounds_are_enough() -> None:
    """With five on both sides there is a verdict."""
    found = compared(rounds_of(*noisy()[:5]), rounds_of(*noisy(9.0)[:5]))
    assert found.figures["total"].verdict is ChangeVerdict.SLOWER


def test_partial_rounds_do_not_count() -> None:
    """A round that a fault cut short is neither a figure nor one of the five."""
    whole = rounds_of(*noisy()[:4])
    broken = round_of(samples_of([5_000_000] * 3), 5, fault=Interrupted(2))
    found = compared([*whole, broken], rounds_of(*noisy()))
    assert found.base_rounds == RoundCount(4, 1)
    assert found.figures["total"].missing == (1, 0)
    assert found.figures["p99"].base == pytest.approx(10_000, rel=0.02)


def test_group_without_an_attempt_is_left_out() -> None:
    """Where neither side has an odd port there are no figures of odd ports; where one has, the other's are None."""
    even = [round_of(samples_of([10_000] * 4, port=[9024, 9026, 9028, 9030]), n) for n in range(1, 6)]
    both = rounds_of(*noisy())
    assert not [name for name in compared(even, even).figures if name.startswith("odd.")]
    figure = compared(both, even).figures["odd.p50"]
    assert figure == Figure(figure.base, None, None, ChangeVerdict.UNDETERMINED, (0, 5))
    assert figure.base == pytest.approx(10_000, rel=0.02)


def test_attempts_that_took_no_time_have_no_ratio() -> None:
    """Latencies of 0, as a CSV from a coarse clock has them, are left out instead of being divisors."""
    idle = [round_of(samples_of([0] * 4, prepare_ns=[0] * 4), number) for number in range(1, 6)]
    assert compared(rounds_of(*noisy()), idle).figures["total"].new is None


def test_strategy_that_never_got_to_an_attempt_has_no_figures() -> None:
    """Rounds without an attempt leave nothing to compare."""
    broken = [round_of(samples_of([]), fault=Interrupted(15))]
    found = compared(broken, broken)
    assert (found.figures, found.base_rounds) == ({}, RoundCount(0, 1))


def test_judged_figures_are_counted() -> None:
    """Only a figure with an interval can be wrong by chance."""
    many, few = rounds_of(*noisy()), rounds_of(1)

    def judged(base: Result, new: Result) -> int:
        return compare(base, new).judged

    both = result_of({PLAIN: many, BIND: few})
    assert judged(both, both) == len(FIGURES)
    assert judged(result_of({BIND: few}), result_of({BIND: few})) == 0


@pytest.mark.parametrize(
    ("factor", "rounds", "expected"),
    [
        (2.0, 6, ChangeVerdict.SLOWER),
        (1.0, 6, ChangeVerdict.NO_DIFFERENCE),
        (0.5, 6, ChangeVerdict.FASTER),
        (2.0, 4, ChangeVerdict.UNDETERMINED),
    ],
)
def test_totals_alone_have_the_verdict_of_the_whole_comparison(
    factor: float, rounds: int, expected: ChangeVerdict
) -> None:
    """The gate's word `slower` asks for one figure, which is the one that the comparison shows."""
    base, new = (rounds_of(*noisy(by)[:rounds]) for by in (1.0, factor))
    total = compare_totals(StrategyResult(BIND, tuple(base)), StrategyResult(BIND, tuple(new)))
    assert total.verdict is expected
    assert total == compared(base, new).figures["total"]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("rounds", [5, 6, 7, 10])
def test_same_figure_in_every_round_is_no_difference(share: float, rounds: int) -> None:
    """Errors that are the same number in every run are no difference, whatever the number of rounds."""
    failing = round(share * 100)
    base, new = (rounds_of(*[1.0] * n, failing=[failing] * n, attempts=100) for n in (5, rounds))
    figure = compared(base, new).figures["errors"]
    assert figure.verdict is ChangeVerdict.NO_DIFFERENCE
    assert figure.change
    assert figure.change.low <= figure.change.estimate <= figure.change.high


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (1.004, ChangeVerdict.NO_DIFFERENCE),
        (0.996, ChangeVerdict.NO_DIFFERENCE),
        (1.006, ChangeVerdict.SLOWER),
        (0.994, ChangeVerdict.FASTER),
    ],
)
def test_one_round_of_counted_instructions_is_enough(factor: float, verdict: ChangeVerdict) -> None:
    """Instructions have no spread: half a per cent is a difference, without an interval and after one round."""
    found = counted(rounds_of(1.0), rounds_of(factor))
    assert verdicts(found)["total"] is verdict
    assert found.figures["total"].change is None
    assert found.figures["total"].missing == (0, 0)
    assert verdicts(found)["errors"] is ChangeVerdict.NO_DIFFERENCE
    more = counted(rounds_of(1.0), rounds_of(1.0, failing=[1]))
    assert verdicts(more)["errors"] is ChangeVerdict.MORE_ERRORS

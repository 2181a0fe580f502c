"""Costs fitted to results: made by known costs, they are found again."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connbench.commands.calibration_files import calibrate_from
from connbench.errors import InputError
from connbench.model import Churn, Load, PortRange, Protocol, RoundPlan, StrategySpec
from connbench.portmodel.algorithm import Algorithm, algorithm_of
from connbench.portmodel.calibration import USUAL, USUAL_BEFORE, USUAL_UDP, Calibration, calibrate, usual, usual_on
from connbench.portmodel.prediction import Pair, predict, predict_result
from connbench.report.json import json_document
from connbench.results.result import Origin, Result, Round, StrategyResult
from factories import PLAN, PORTS, result_of, round_of, samples_of
from run_connbench import spec

TRUE = replace(
    USUAL,
    sizes=(512.0, 1024.0, 4096.0),
    base_ns=(12_000.0, 12_000.0, 13_000.0),
    port_ns=(40.0, 40.0, 60.0),
    window_base_ns=(12_000.0, 12_000.0, 13_000.0),
    new_port_ns=(44.0, 44.0, 66.0),
    failure_ns=5_000.0,
)
"""What a port costs rises with the working set from 1,024 on, 10 ns each time it doubles."""


SHARE = USUAL.failure_ns / USUAL.base_ns[0]
"""What a failure usually costs, as a share of what a connection does."""


SEARCHED = ("connect_ns", "acquire_ns")
"""The columns of the times that a fit goes by."""


def taken(strategy: StrategySpec, ports: int, costs: Calibration = TRUE, connections: int | None = None) -> Result:
    """A run that took as long as the costs say, but for noise, and for outliers in one of fifty attempts."""
    plan = replace(
        PLAN,
        strategies=(strategy,),
        connections=connections or ports,
        port_range=PortRange(20000, 20000 + ports - 1),
    )
    result = Result(plan, {"kernel": "6.12.1"}, name=f"{ports}.json")
    rng = np.random.default_rng(ports)
    for prediction in predict(plan, Algorithm.FROM_6_8):
        samples = costs.samples(prediction)
        noise = rng.normal(1.0, 0.02, len(samples))
        noise[rng.random(len(samples)) < 0.02] = 50.0
        result.add(
            prediction.plan.strategy,
            Round(1, replace(samples, **{of: (getattr(samples, of) * noise).astype(np.int64) for of in SEARCHED})),
        )
    return result


def pairs_of(*results: Result) -> list[Pair]:
    """All of the results beside their model."""
    return [pair for result in results for pair in predict_result(result)]


def test_costs_are_found_again_from_several_sizes() -> None:
    """Base and cost of a port within a few percent, each where it was measured, whatever the outliers."""
    pairs = pairs_of(*(taken(spec("plain"), ports) for ports in (1024, 2048, 4096)))
    found = calibrate(pairs, Protocol.TCP, "three files")
    assert found is not None
    for in_use in (512, 1500, 2048):
        assert found.base_ns_at(in_use) == pytest.approx(TRUE.base_ns_at(in_use), rel=0.03)
        assert found.port_ns_at(in_use) == pytest.approx(TRUE.port_ns_at(in_use), rel=0.08)
    assert found.residual is not None
    assert found.residual < 0.03
    assert (found.origin, found.largest) == ("three files", 4096)


def test_a_port_of_bind_has_a_cost_of_its_own() -> None:
    """It is found beside that of connect(), which stays; without a search of bind() it is the usual one."""
    costs = replace(TRUE, bind_factor=2.5)
    plain, early = (taken(spec(name), 2048, costs) for name in ("plain", "early"))
    alone = calibrate(pairs_of(plain), Protocol.TCP, "one file")
    both = calibrate(pairs_of(plain, early), Protocol.TCP, "two files")
    assert alone is not None
    assert both is not None
    assert alone.bind_factor == USUAL.bind_factor
    assert both.bind_factor == pytest.approx(2.5, rel=0.1)
    assert both.port_ns == pytest.approx(alone.port_ns, rel=0.01)
    [one] = predict(replace(PLAN, strategies=(spec("early"),), connections=2000), Algorithm.FROM_6_8)
    probed = one.attempts.ports_probed
    assert costs.acquire_ns(one) - costs.latency_ns(one) == pytest.approx(
        probed * 2.5 * TRUE.port_ns_at(one.working_set)
    )
    assert costs.searched_ns(one).tolist() == costs.acquire_ns(one).tolist()


def test_costs_are_found_where_the_machine_was_busy() -> None:
    """Where a third of the long searches take three times as long, what a port costs is told by the others."""
    result, quiet = taken(spec("plain"), 2048), taken(spec("range"), 2048)
    [measured] = result.rounds[spec("plain")]
    factor = np.ones((128, 16))
    factor[64::3] = 3.0
    samples = replace(measured.samples, connect_ns=(measured.samples.connect_ns * factor.ravel()).astype(np.int64))
    result.rounds[spec("plain")][0] = replace(measured, samples=samples)
    found = calibrate(pairs_of(result, quiet), Protocol.TCP, "a busy machine")
    assert found is not None
    assert found.origin == "a busy machine"
    assert found.port_ns_at(1024) == pytest.approx(TRUE.port_ns_at(1024), rel=0.15)


def test_smaller_runs_tell_the_time_of_a_larger_one() -> None:
    """Plain on 1,024 to 4,096 ports gives the total of 8,192 within 10 %, and it is said to be extrapolated."""
    found = calibrate(pairs_of(*(taken(spec("plain"), ports) for ports in (1024, 2048, 4096))), Protocol.TCP, "")
    assert found is not None
    [large] = predict(
        replace(PLAN, strategies=(spec("plain"),), connections=8192, port_range=PortRange(1, 8192)), Algorithm.FROM_6_8
    )
    assert found.latency_ns(large).sum() == pytest.approx(TRUE.latency_ns(large).sum(), rel=0.1)
    assert found.extrapolates(large)
    [small] = predict(
        replace(PLAN, strategies=(spec("plain"),), connections=4096, port_range=PortRange(1, 4096)), Algorithm.FROM_6_8
    )
    assert not found.extrapolates(small)
    assert not USUAL.extrapolates(large)


def test_failures_have_a_base_of_their_own() -> None:
    """A failed connect() has a search and no handshake: what it costs beside the search is found of several ranges.

    Of one alone base and search cannot be told apart: a port that costs a little more there would pass for the base.
    """
    results = [taken(spec("bind"), ports, connections=ports + 400) for ports in (512, 1024, 2048)]
    found = calibrate(pairs_of(*results), Protocol.TCP, "")
    assert found is not None
    assert found.failure_ns == pytest.approx(TRUE.failure_ns, rel=0.2)
    assert found.port_ns_at(2048) == pytest.approx(TRUE.port_ns_at(2048), rel=0.05)
    alone = calibrate(pairs_of(results[-1]), Protocol.TCP, "")
    assert alone is not None
    assert alone.failure_ns / alone.base_ns[0] == pytest.approx(SHARE)


def test_ports_of_random_windows_have_a_cost_of_their_own() -> None:
    """Beside a walk that is made time and again, the factor is found; of windows alone the usual one is taken."""
    costs = replace(
        TRUE,
        failure_ns=TRUE.base_ns[0] * SHARE,
        window_base_ns=(15_000.0,) * 3,
        new_port_ns=(80.0, 80.0, 120.0),
    )
    windows = taken(spec("window", 500), 4096, costs, connections=4400)
    found = calibrate(pairs_of(windows, taken(spec("plain"), 4096, costs)), Protocol.TCP, "")
    alone = calibrate(pairs_of(windows), Protocol.TCP, "")
    assert found is not None
    assert alone is not None
    for one in (found, alone):
        assert one.at(4000, one.new_port_ns) == pytest.approx(costs.at(4000, costs.new_port_ns), rel=0.15)
        assert one.at(2000, one.window_base_ns) == pytest.approx(costs.at(2000, costs.window_base_ns), rel=0.05)
    assert found.port_ns_at(2048) == pytest.approx(costs.port_ns_at(2048), rel=0.1)
    ratio = USUAL.at(4000, USUAL.new_port_ns) / USUAL.port_ns_at(4000)
    assert alone.port_ns_at(4000) == pytest.approx(alone.at(4000, alone.new_port_ns) / ratio)


def test_churn_tells_as_well() -> None:
    """In a range that is nearly full a replacement searches far: its medians are fitted too."""
    churned = replace(spec("plain"), load=Load(fill=0.9, churn=Churn(2000)))
    found = calibrate(pairs_of(taken(churned, 2048)), Protocol.TCP, "")
    assert found is not None
    assert found.port_ns_at(1024) == pytest.approx(TRUE.port_ns_at(1024), rel=0.1)


def test_short_searches_leave_the_usual_cost_of_a_port() -> None:
    """Of `random` and `range` the base is found; what a port costs they cannot tell, and that is said."""
    found = calibrate(pairs_of(taken(spec("random"), 1024)), Protocol.TCP, "r.json")
    assert found is not None
    assert found.base_ns[0] == pytest.approx(TRUE.base_ns[0], rel=0.02)
    assert found.port_ns == pytest.approx(USUAL.port_ns, rel=1e-4)
    assert found.origin.startswith("r.json; no search there is long enough")


@pytest.mark.parametrize(("release", "costs"), [("6.12.1", USUAL_BEFORE), ("6.15.0-rc1", USUAL), ("", USUAL)])
def test_usual_costs_beside_a_fit_are_those_of_its_kernel(release: str, costs: Calibration, tmp_path: Path) -> None:
    """Where a file cannot tell what a port costs, its kernel does: several times as much before Linux 6.15."""
    result = taken(spec("range"), 1024)
    result.environment["kernel"] = release
    file = tmp_path / "range.json"
    file.write_text(json_document(result), encoding="utf-8")
    assert calibrate_from((file,), Protocol.TCP).port_ns == pytest.approx(costs.port_ns, rel=1e-4)
    assert usual_on(release, Protocol.UDP) is USUAL_UDP


def test_protocols_are_fitted_apart() -> None:
    """UDP's searches are others than TCP's: a file without any gives no costs of it."""
    pairs = pairs_of(taken(spec("plain"), 1024))
    assert calibrate(pairs, Protocol.UDP, "") is None
    udp = pairs_of(taken(replace(spec("bind"), load=Load(protocol=Protocol.UDP)), 1024))
    assert calibrate(udp, Protocol.TCP, "") is None
    assert calibrate(udp, Protocol.UDP, "") is not None


def test_nothing_measured_gives_no_costs() -> None:
    """Without a connection there is nothing to fit to."""
    assert calibrate([], Protocol.TCP, "") is None


def test_cost_of_a_port_rises_on_beyond_the_last_knot_and_never_falls() -> None:
    """Per doubling what the last stretch rose by; below the first knot it stays; a last fall is not carried on."""
    flat = np.zeros(2)
    costs = USUAL.with_curves(np.array([1024.0, 2048.0]), np.array([flat, [40.0, 50.0], flat, flat]))
    assert costs.port_ns_at([1, 1024, 2048, 4096, 8192]).tolist() == pytest.approx([40, 40, 50, 60, 70])
    assert replace(costs, port_ns=(50.0, 40.0)).port_ns_at([1024, 8192]).tolist() == pytest.approx([50, 40])
    one = USUAL.with_curves(np.array([1024.0]), np.array([[0.0], [40.0], [0.0], [0.0]]))
    assert one.port_ns_at(9999) == pytest.approx(40)


def test_caches_hold_what_a_search_probes_again() -> None:
    """The working set of plain is half of the range, however full the other half is; that of windows is all in use."""
    plan = replace(PLAN, connections=1010, port_range=PortRange(20000, 20999))
    two = replace(plan, sources=("127.9.9.1", "127.9.9.3"), connections=2000)
    plain, bind, windows = (
        predict(replace(one, strategies=(strategy,)), Algorithm.FROM_6_8)[0]
        for one, strategy in ((plan, spec("plain")), (two, spec("bind")), (plan, spec("window", 50)))
    )
    assert plain.working_set[[0, 300, 500, 1005]].tolist() == [0, 300, 500, 1000]
    assert plain.working_set[500:900].max() < 600
    assert bind.working_set[[0, 300, 1000]].tolist() == [0, 300, 1000]
    assert bind.working_set[1000:1800].max() < 1200
    assert windows.working_set.tolist() == windows.open_before.tolist()


def test_latency_is_of_the_last_try_and_acquire_time_of_all() -> None:
    """By hand: two tries of 10 ports each, 40 ns a port, base 12 µs, a failed try 5 µs."""
    costs = replace(TRUE, new_port_ns=(40.0, 40.0, 40.0))
    [one] = predict(
        replace(PLAN, strategies=(spec("window", 10, 3),), connections=2, port_range=PortRange(20000, 20009)),
        Algorithm.FROM_6_8,
    )
    attempts = replace(
        one.attempts,
        ports_probed=np.array([20, 40]),
        tries=np.array([2, 4], dtype=np.uint32),
        errno=np.array([0, errno.EADDRNOTAVAIL], dtype=np.uint16),
    )
    made = replace(one, attempts=attempts)
    assert costs.latency_ns(made).tolist() == pytest.approx([12_400, 5_400])
    assert costs.acquire_ns(made).tolist() == pytest.approx([12_000 + 800 + 5_000, 5_000 + 1_600 + 15_000])


def test_random_searches_nothing_within_connect() -> None:
    """Its ports are drawn and bound before: connect() costs the base, each further try what a failed call does."""
    [one] = predict(
        replace(PLAN, strategies=(spec("random"),), connections=64, port_range=PortRange(20000, 20063)),
        Algorithm.FROM_6_8,
    )
    assert set(TRUE.latency_ns(one).tolist()) == {TRUE.base_ns[0]}
    assert TRUE.acquire_ns(one).tolist() == (TRUE.base_ns[0] + (one.attempts.tries - 1) * TRUE.failure_ns).tolist()


def test_latency_of_udp_is_of_all_tries() -> None:
    """As a run has it: the further tries of a random port count, and are not taken for a slower connection."""
    udp = replace(spec("random"), load=Load(protocol=Protocol.UDP))
    plan = replace(PLAN, strategies=(udp,), connections=1000, port_range=PortRange(20000, 20999))
    [one] = predict(plan, Algorithm.FROM_6_8)
    assert one.attempts.tries.max() > 10
    assert TRUE.latency_ns(one).tolist() == TRUE.acquire_ns(one).tolist()
    result = Result(plan, {"kernel": "6.12.1"})
    result.add(one.plan.strategy, Round(1, TRUE.samples(one)))
    fitted = calibrate(predict_result(result), Protocol.UDP, "")
    assert fitted
    assert fitted.base_ns[0] == pytest.approx(TRUE.base_ns[0], rel=0.05)


@pytest.mark.parametrize(
    ("strategy", "seconds"), [(spec("plain"), 130.494), (spec("window", 5000), 6.723), (spec("window", 10000), 17.749)]
)
def test_usual_costs_of_older_kernels_are_the_talks(strategy: StrategySpec, seconds: float) -> None:
    """Its total times come out within a tenth, and its plain run would take less than half of that from 6.15 on."""
    plan = replace(PLAN, strategies=(strategy,), connections=len(PORTS), port_range=PORTS)
    [one] = predict(plan, Algorithm.PRE_6_8)
    assert usual((6, 14), Algorithm.FROM_6_8).latency_ns(one).sum() / 1e9 == pytest.approx(seconds, rel=0.1)
    assert strategy.name != "plain" or usual((6, 15), Algorithm.FROM_6_8).latency_ns(one).sum() / 1e9 < seconds / 2


@pytest.mark.parametrize(
    ("kernel", "algorithm"),
    [
        ("3.10.0", Algorithm.PRE_4_2),
        ("3.10.0-327.el7.x86_64", Algorithm.PRE_4_2),
        ("3.10.0-514.16.1.el7.x86_64", Algorithm.FROM_4_2),
        ("3.10.0-1160.el7.x86_64", Algorithm.FROM_4_2),
        ("4.1.52", Algorithm.PRE_4_2),
        ("4.2", Algorithm.FROM_4_2),
        ("4.5.7", Algorithm.FROM_4_2),
        ("4.6", Algorithm.PRE_6_8),
        ("4.18.0-553.el8_10.x86_64", Algorithm.PRE_6_8),
        ("5.10.0-28-amd64", Algorithm.PRE_6_8),
        ("6.7.12", Algorithm.PRE_6_8),
        ("6.8.0-45-generic", Algorithm.FROM_6_8),
        ("6.12", Algorithm.FROM_6_8),
        ("unknown", Algorithm.FROM_6_8),
    ],
)
def test_search_is_that_of_the_kernel(kernel: str, algorithm: Algorithm) -> None:
    """By its release: every port from 6.8 on, where the option is set."""
    assert algorithm_of(kernel) is algorithm


def test_file_without_a_plan_is_refused() -> None:
    """A CSV does not say what was to be done."""
    result = Result(None, {}, origin=Origin.TALK_CSV, name="talk.csv")
    with pytest.raises(InputError, match=r"talk\.csv has no plan to predict"):
        predict_result(result)


def test_strategy_that_the_model_does_not_know_is_refused() -> None:
    """A newer connbench may have more; a file says anything."""
    result = result_of({StrategySpec("novel"): [round_of(samples_of([1]))]})
    with pytest.raises(InputError, match="has a strategy 'novel', which the model does not know"):
        predict_result(result)


def test_round_cut_short_is_compared_as_far_as_it_came() -> None:
    """The prediction is as long as what was measured, and every round is by its own draws."""
    result = taken(spec("window", 16), 512)
    [strategy] = result.strategies
    samples = strategy.rounds[0].samples
    half = samples.chosen(np.arange(len(samples)) < 100)
    short = Result(
        result.plan, result.environment, name="x", rounds={strategy.strategy: [Round(1, half), Round(2, samples)]}
    )
    [pair] = predict_result(short)
    (first, _), (second, _) = pair.rounds
    assert (len(first.attempts), len(first.open_before), len(second.attempts)) == (100, 100, 512)
    assert [first.plan.number, second.plan.number] == [1, 2]
    assert isinstance(pair.strategy, StrategyResult)
    assert isinstance(first.plan, RoundPlan)

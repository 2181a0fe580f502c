"""Rows that no run writes, and rows that only look so: one port twice, ports outside the range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connbench.draws import Draws
from connbench.errors import InputError, RunFault
from connbench.model import Churn, Load, Namespace, Phase, PortRange, Profile, Protocol, Reuse, RoundPlan, StrategySpec
from connbench.report.formats import FORMATS
from connbench.results.csv_file import read_csv
from connbench.results.file_checks import (
    PORT_OUTSIDE,
    PORT_TWICE,
    Rounds,
    check_plan,
    check_rows,
    check_spec,
    port_twice,
)
from connbench.results.json_file import read_json
from connbench.results.result import Origin, Result
from factories import BIND, PLAN, RANDOM, result_of, round_of, samples_of

EARLY = StrategySpec("early")
TWICE = samples_of([10] * 3, port=[9024, 9025, 9024])


def again(result: Result) -> Result:
    """The result that is read from the file that is written."""
    return read_json(FORMATS["json"](result).encode(), "x.json")


def codes(result: Result) -> list[str]:
    """Codes of the findings that reading adds."""
    return [finding.code for finding in result.known]


@pytest.mark.parametrize(
    ("spec", "columns", "expected"),
    [
        (BIND, {}, None),
        (BIND, {"port": [9024, 9025, 9024]}, 9024),
        (BIND, {"port": [9024, 9025, 9024], "source": [0, 0, 1]}, None),
        (BIND, {"port": [9024, 9025, 9024], "target": [0, 0, 1]}, None),
        (RANDOM, {"port": [9024, 9025, 9024], "target": [0, 0, 1]}, 9024),
        (replace(BIND, load=Load(protocol=Protocol.UDP)), {"port": [9024] * 3, "target": [0, 1, 2]}, 9024),
        (EARLY, {"port": [9024, 9025, 9024], "target": [0, 0, 1]}, 9024),
        (replace(EARLY, reuse=Reuse.ADDRESS), {"port": [9024, 9025, 9024], "target": [0, 0, 1]}, 9024),
        (replace(RANDOM, reuse=Reuse.PORT), {"port": [9024, 9025, 9024], "target": [0, 0, 1]}, None),
        (replace(RANDOM, reuse=Reuse.PORT), {"port": [9024, 9025, 9024]}, 9024),
        (replace(EARLY, reuse=Reuse.ADDRESS, load=Load(protocol=Protocol.UDP)), {"port": [9024] * 3}, None),
        (BIND, {"port": [9024, 9025, 0], "errno": [0, 0, 99]}, None),
        (BIND, {"port": [0, 0, 0], "errno": [99, 99, 99]}, None),
    ],
)
def test_port_is_held_once_by_a_source_towards_a_target(
    spec: StrategySpec, columns: dict[str, list[int]], expected: int | None
) -> None:
    """bind() to a port takes it for every target, and so does UDP; a search of connect() takes it for one.

    A port that the program names and sockets share is taken for one target. UDP sockets share it without limit.
    """
    assert port_twice(spec, samples_of([10] * 3, **columns), None) == expected


CHURNED = replace(BIND, load=Load(churn=Churn(3)))


def churned(ports: list[int], filled: list[int]) -> int | None:
    """The first port that is taken twice in a churn over these ports, after a filling with those."""
    plan = RoundPlan(replace(PLAN, strategies=(CHURNED,), connections=len(filled)), CHURNED, 1)
    fill = samples_of([10] * len(filled), port=filled)
    spec = replace(CHURNED, phase=Phase.CHURN)
    return port_twice(spec, samples_of([10] * len(ports), port=ports), plan, fill)


def test_churn_may_take_the_port_that_it_has_closed_and_no_other() -> None:
    """Replaced connections leave their ports; those that nobody replaced hold theirs to the end."""
    plan = RoundPlan(replace(PLAN, strategies=(CHURNED,), connections=4), CHURNED, 1)
    replaced = [Draws.of(plan).replaced(row, range(4)) for row in plan.rows_of(Phase.CHURN)]
    filled = [9024, 9025, 9026, 9027]
    assert churned([filled[slot] for slot in replaced], filled) is None
    assert churned([9030, 9031, 9032], filled) is None
    kept = next(filled[slot] for slot in range(4) if slot not in replaced)
    assert churned([9030, kept, 9032], filled) == kept
    assert churned([9030, 9031, 9030], filled) == (None if replaced[0] in replaced[1:] else 9030)


def test_port_twice_is_reported_where_the_other_end_may_have_closed() -> None:
    """A reset connection leaves its port to the next one: then it is a finding and no refusal, after a save too."""
    measured = round_of(TWICE)
    with pytest.raises(
        InputError, match="round 1 of bind: two open connections from one source to one target have port 9024"
    ):
        again(result_of({BIND: [measured]}))
    reset = replace(measured, report=replace(measured.report, established=2))
    read = again(result_of({BIND: [reset]}))
    assert codes(read) == [PORT_TWICE]
    assert codes(again(read)) == [PORT_TWICE]
    cut = again(result_of({BIND: [replace(measured, fault=RunFault("x"))]}))
    assert codes(cut) == [PORT_TWICE]
    assert codes(read_csv(FORMATS["csv"](result_of({BIND: [measured]})), "x.csv")) == [PORT_TWICE]


def test_port_outside_of_the_range_can_be_in_the_hosts_namespace() -> None:
    """The host's range may change in mid-run, which is a finding; a port of `random` outside the range is refused."""
    outside = samples_of([10] * 3, port=[80, 9025, 9026])
    host = replace(PLAN, namespace=Namespace.HOST, port_range=PortRange(9024, 9087))
    read = again(result_of({BIND: [round_of(outside)]}, host))
    assert np.array_equal(read.strategies[0].samples.port, outside.port)
    assert codes(read) == codes(again(read)) == [PORT_OUTSIDE]
    assert "1 of the ports are outside of the range 9024-9087" in FORMATS["text"](read)
    for plan, spec in ((replace(host, namespace=Namespace.NETWORK), BIND), (host, RANDOM)):
        with pytest.raises(InputError, match="row 1: port is 80, and the range is 9024-9087"):
            again(result_of({spec: [round_of(outside)]}, plan))


def test_ports_fit_the_stride_where_nobody_can_have_changed_the_range() -> None:
    """In the host's namespace the kernel ignores a port outside of its range, and chooses any."""
    spec = StrategySpec("range", stride=8, residue=3)
    samples = samples_of([10, 10], port=[9027, 9028])
    for namespace in (Namespace.NETWORK, Namespace.HOST):
        planned = RoundPlan(replace(PLAN, strategies=(spec,), namespace=namespace), spec, 1)
        if namespace is Namespace.HOST:
            check_rows(samples, spec, planned)
            continue
        with pytest.raises(ValueError, match="row 2: port is 9028, and the strategy takes those with port % 8 = 3"):
            check_rows(samples, spec, planned)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (StrategySpec("sequential", first_port=9023), "first port of sequential from 9023 is 9023, not 9024 to 65535"),
        (
            StrategySpec("random", stride=60_000, residue=6000),
            "ports of random, port % 60000 = 6000 is 0, not 1 to 65535",
        ),
        (StrategySpec("plain", reuse=Reuse.PORT), "plain has a reuse, port, which it does not take"),
        (StrategySpec("random", residue=0), "has a residue alone"),
    ],
)
def test_plan_of_ports_that_cannot_be_is_refused(spec: StrategySpec, fault: str) -> None:
    """A list that begins outside of the range, a stride that no port fits, and what the strategy does not take."""
    with pytest.raises(ValueError, match=fault):
        check_plan(replace(PLAN, strategies=(spec,)))


PROFILED = replace(BIND, load=Load(profile=Profile((0.5, 1.0), 2)))


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (replace(BIND, phase=Phase.PROFILE), "bind has a phase profile and no levels"),
        (replace(PROFILED, load=replace(PROFILED.load, churn=Churn(3))), "a churn and levels"),
    ],
)
def test_levels_go_with_a_profile_alone(spec: StrategySpec, fault: str) -> None:
    """As a run has a profile, or a filling and perhaps a churn."""
    with pytest.raises(ValueError, match=fault):
        check_spec(spec)


def test_levels_have_no_filling() -> None:
    """In a CSV, whose plan is not known."""
    result = Result(None, {}, origin=Origin.CSV, name="x.csv")
    with pytest.raises(ValueError, match="levels and a phase fill"):
        Rounds(result).open(PROFILED, 1)


def test_ports_recur_in_a_profile_and_ports_in_use_are_of_the_range() -> None:
    """Each connection is closed at once. A filling has no ports in use in its rows."""
    planned = RoundPlan(replace(PLAN, strategies=(PROFILED,), port_range=PortRange(9024, 9123)), PROFILED, 1)
    spec = planned.strategy.phases[0]
    good = samples_of([10] * 4, port=[9024] * 4, in_use=[50, 50, 100, 100])
    check_rows(good, spec, planned)
    assert port_twice(spec, good, planned) is None
    with pytest.raises(ValueError, match="in_use is 101, not 0 to 100"):
        check_rows(samples_of([10] * 4, in_use=[50, 50, 101, 100]), spec, planned)
    with pytest.raises(ValueError, match="in_use is 1, not 0 to 0"):
        check_rows(samples_of([10], in_use=[1]), BIND, None)

"""The model simulates a plan: the laws of each search, what is published of them, and the rules of a round."""

from __future__ import annotations

import errno
from dataclasses import fields, replace
from math import log
from statistics import mean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.draws import MOST_DRAWS
from connbench.model import (
    Churn,
    Close,
    Endpoint,
    Link,
    Load,
    Phase,
    Placement,
    Protocol,
    Reuse,
    RoundPlan,
    Spread,
    StrategySpec,
)
from connbench.model.time_wait import MOST_WAITING, TW_REUSE, TW_REUSE_DELAY, TimeWait
from connbench.portmodel import simulation
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import USUAL, KernelParameters, SimulatedAttempts, simulate
from connbench.reproduce.window_failures import simulate_failures
from connbench.strategies import STRATEGIES
from factories import PORTS
from reference_simulation import Attempt, simulate_one_by_one
from run_connbench import LOW, make_plan, spec

FROM_6_8, PRE_6_8, REJECTED = Algorithm.FROM_6_8, Algorithm.PRE_6_8, Algorithm.REJECTED_PATCH
UDP = Load(protocol=Protocol.UDP)
TWO_TARGETS = (Endpoint("127.9.9.2", LOW - 1), Endpoint("127.9.9.3", LOW - 1))
THREE_SOURCES = ("127.9.9.1", "127.9.9.4", "127.9.9.5")


def round_of(strategy: StrategySpec, ports: int, connections: int, **changes: Any) -> RoundPlan:  # noqa: ANN401  # any field of Plan
    """The first round of a plan over `ports` ports from 40000 on."""
    return RoundPlan(make_plan(strategy, ports, connections, **changes), strategy, 1)


def filled(plan: RoundPlan, algorithm: Algorithm = FROM_6_8, machine: KernelParameters = USUAL) -> SimulatedAttempts:
    """The filling of a round."""
    return simulate(plan, algorithm, machine)[Phase.FILL]


def parities(attempts: SimulatedAttempts) -> list[int]:
    """The parity of each port that was had, in order."""
    ports: list[int] = (attempts.port[~attempts.failed] % 2).tolist()
    return ports


@pytest.mark.parametrize(("low", "first"), [(40000, 0), (40001, 1)])
@pytest.mark.parametrize(
    ("name", "algorithm"), [("plain", PRE_6_8), ("plain", FROM_6_8), ("bind", FROM_6_8), ("range", PRE_6_8)]
)
def test_one_parity_is_used_up_before_the_other(name: str, algorithm: Algorithm, low: int, first: int) -> None:
    """On eight ports: the parity of the low end, the other, which costs the walk of the first, then EADDRNOTAVAIL."""
    for trial in range(10):
        attempts = filled(round_of(spec(name), 8, 9, low=low), algorithm, KernelParameters(trial=trial))
        assert parities(attempts) == [first] * 4 + [1 - first] * 4
        assert sorted(attempts.port.tolist()) == [0, *range(low, low + 8)]
        assert attempts.errno.tolist() == [0] * 8 + [errno.EADDRNOTAVAIL]
        assert (attempts.ports_probed[:4] <= 4).all()
        assert (attempts.ports_probed[4:8] > 4).all()
        assert attempts.lookups.tolist() == [*(attempts.ports_probed[:8] - 1).tolist(), 8]


@pytest.mark.parametrize(("name", "algorithm"), [("range", FROM_6_8), ("plain", REJECTED), ("range", REJECTED)])
def test_step_of_one_has_no_preference(name: str, algorithm: Algorithm) -> None:
    """With the option from 6.8 on, or all at once, both parities are taken from the start, and searches are short."""
    attempts = filled(round_of(spec(name), 512, 512), algorithm)
    assert 64 <= sum(parities(attempts)[:256]) <= 192
    assert sorted(attempts.port.tolist()) == list(range(LOW, LOW + 512))
    assert attempts.ports_probed.mean() < 16


def test_knee_of_plain_is_half_the_talks_range() -> None:
    """28,256 connections find a port in the first parity; every later one looks at 28,256 ports in vain before."""
    attempts = filled(round_of(spec("plain"), len(PORTS), len(PORTS), low=PORTS.low))
    half = len(PORTS) // 2
    assert half == 28_256
    assert (attempts.ports_probed[:half] <= half).all()
    assert (attempts.ports_probed[half:] > half).all()
    assert np.median(attempts.ports_probed[:half]) < 4
    assert attempts.ports_probed.sum() == pytest.approx(half * half, rel=0.001)


@pytest.mark.parametrize("trials", [8, pytest.param(30, marks=pytest.mark.slow)], ids=lambda trials: f"{trials} trials")
@pytest.mark.parametrize(("window", "talk"), [(500, 868), (1000, 1129), (5000, 4037), (10000, 6695)])
def test_windows_fail_as_often_as_the_talk_saw(window: int, talk: int, trials: int) -> None:
    """Its errors of 56,512 are within 6 % of the model's mean, or three standard deviations if that is more."""
    ports = len(PORTS)
    failures = [simulate_failures(ports, window, ports, PRE_6_8, seed) for seed in range(trials)]
    assert abs(talk - mean(failures)) <= max(0.06 * talk, 3 * stdev(failures))


def test_model_of_windows_and_of_a_plan_are_one() -> None:
    """Counting failures alone and walking through a plan come to the same number, within chance."""
    alone = [simulate_failures(1000, 16, 1000, FROM_6_8, seed) for seed in range(30)]
    plans = [filled(round_of(spec("window", 16), 1000, 1000, seed=seed)).failed.sum() for seed in range(30)]
    assert abs(mean(alone) - np.mean(plans)) <= 4 * stdev(alone) / 30**0.5


def test_random_needs_as_many_tries_as_collecting_coupons() -> None:
    """Filling R ports takes ln R + 0.58 draws a port: R / (free ports) each, summed up."""
    ports = 2048
    tries = [filled(round_of(spec("random"), ports, ports, seed=seed)).tries.mean() for seed in range(30)]
    assert abs(np.mean(tries) - (log(ports) + 0.58)) <= 3 * np.std(tries, ddof=1) / 30**0.5
    attempts = filled(round_of(spec("random"), ports, ports + 1))
    assert (attempts.ports_probed == attempts.tries).all()
    assert (attempts.lookups.sum(), attempts.errno[-1], attempts.tries[-1]) == (0, errno.EADDRINUSE, MOST_DRAWS)


def test_searches_begin_a_few_ports_further_each_as_likely() -> None:
    """In an almost empty range the kernel goes on 1 to 8 ports further: 10,000 times, within five deviations."""
    ports = filled(round_of(spec("range"), 50_000, 10_001, low=10_000)).port.astype(np.int64)
    steps = np.diff(ports) % 50_000
    expected, deviation = 10_000 / 8, (10_000 / 8 * 7 / 8) ** 0.5
    assert (np.abs(np.bincount(steps, minlength=9)[1:9] - expected) <= 5 * deviation).all()
    assert steps.max() == 8


@pytest.mark.parametrize(("algorithm", "counted"), [(PRE_6_8, 2_009_805), (FROM_6_8, 1_011_562)], ids=["6.1", "6.12"])
def test_checks_are_those_counted_in_kernels(algorithm: Algorithm, counted: int) -> None:
    """Calls of `__inet_check_established` over plain and range, 2,000 ports each, as a probe counted them."""
    totals = [
        sum(
            int(filled(round_of(spec(name), 2000, 2000), algorithm, machine).lookups.sum())
            for name in ("plain", "range")
        )
        for machine in (KernelParameters(trial=trial) for trial in range(30))
    ]
    assert abs(counted - mean(totals)) <= 3 * stdev(totals)


SHAPES: dict[str, dict[str, Any]] = {
    "as usual": {},
    "three sources": {"sources": THREE_SOURCES},
    "filled one after the other": {"sources": THREE_SOURCES, "spread": Spread.FILL},
    "two targets": {"targets": TWO_TARGETS},
}
AT_ONCE: list[dict[str, Any]] = [
    {"BLOCK": simulation.BLOCK},
    {"BLOCK": 7, "FIRST_TRIES": 2, "PLACES": 50, "DRAWS_AT_ONCE": 5},
]
"""How much is simulated at once: as usual, and so little that a round is in several parts."""
BEFORE_PARITIES = {Algorithm.PRE_4_2, Algorithm.FROM_4_2}
"""The searches beside which the model knows none of bind()."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("protocol", list(Protocol))
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_round_is_that_of_the_plain_loop(shape: str, protocol: Protocol, data: st.DataObject) -> None:
    """Every column of every attempt, over more attempts than ports, reserved ports, clients, churn and TIME_WAIT."""
    names = [name for name in STRATEGIES if name != "plain" or "sources" not in SHAPES[shape]]
    name = data.draw(st.sampled_from(names))
    is_udp = protocol is Protocol.UDP  # whose plain loop takes 65,536 steps for a full window
    ports, clients = data.draw(st.integers(2, 20 if is_udp else 60)), data.draw(st.integers(1, 3))
    retries = data.draw(st.sampled_from([None, 0, 1, 5]))
    algorithm = data.draw(st.sampled_from([one for one in Algorithm if name != "early" or one not in BEFORE_PARITIES]))
    reserved = frozenset(data.draw(st.sets(st.integers(LOW, LOW + ports - 1), max_size=ports // 2)))
    churn = Churn(5 if is_udp else 30, data.draw(st.sampled_from(Close)), data.draw(st.sampled_from([None, 10.0])))
    load = Load(protocol=protocol, concurrency=clients, churn=churn)
    strategy = spec(name, data.draw(st.integers(1, ports)) if name in {"window", "partition"} else None, retries)
    strategy = replace(strategy, load=load)
    if name == "window":
        strategy = replace(strategy, placement=data.draw(st.sampled_from(Placement)))
    takes = strategy.traits.takes
    if "reuse" in takes:
        strategy = replace(strategy, reuse=data.draw(st.sampled_from([None, *Reuse])))
    if "first_port" in takes:
        strategy = replace(strategy, first_port=data.draw(st.sampled_from([None, LOW + ports // 2])))
    if "stride" in takes and data.draw(st.booleans()):
        strategy = replace(strategy, stride=2, residue=data.draw(st.integers(0, 1)))
        reserved = reserved if strategy.traits.chooses_port else frozenset()  # as plans are refused otherwise
    plan = round_of(strategy, ports, 0, seed=data.draw(st.integers(0, 1000)), reserved=len(reserved), **SHAPES[shape])
    attempts = data.draw(st.sampled_from([plan.capacity // 2 + 1, plan.capacity, plan.capacity + 5]))
    plan = replace(plan, plan=replace(plan.plan, connections=attempts))
    time_wait = TimeWait(most=data.draw(st.sampled_from([None, 4])))
    slots = data.draw(st.sampled_from([2**12, 2**16]))
    machine = KernelParameters(reserved, slots, attempts, time_wait)
    with patch.multiple(simulation, **data.draw(st.sampled_from(AT_ONCE))):
        assert rows_of(simulate(plan, algorithm, machine)) == simulate_one_by_one(plan, algorithm, machine)


def rows_of(phases: dict[Phase, SimulatedAttempts]) -> dict[Phase, list[Attempt]]:
    """The attempts of each phase as rows."""
    columns = [column.name for column in fields(SimulatedAttempts)]
    return {
        phase: [Attempt(*row) for row in zip(*(getattr(made, name).tolist() for name in columns), strict=True)]
        for phase, made in phases.items()
    }


@pytest.mark.parametrize("clients", [1, 3])
@pytest.mark.parametrize("parts", AT_ONCE, ids=["at once", "in parts"])
def test_draws_in_vain_end_as_in_the_plain_loop(clients: int, parts: dict[str, Any]) -> None:
    """The first attempt in vain of a client that does not have all ports itself makes 20 draws a port, others 1,000."""
    plan = round_of(replace(spec("random"), load=Load(concurrency=clients)), 60, 129, sources=THREE_SOURCES[:2])
    with patch.multiple(simulation, **parts):
        found = rows_of(simulate(plan, FROM_6_8))
    assert found == simulate_one_by_one(plan, FROM_6_8, USUAL)
    expected = {MOST_DRAWS} if clients == 1 else {MOST_DRAWS, 20 * 60 + 1}
    assert {attempt.tries for attempt in found[Phase.FILL] if not attempt.port} == expected


@pytest.mark.parametrize("name", ["plain", "bind", "random", "range", "partition"])
@pytest.mark.parametrize("load", [Load(), UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_port_is_had_once(name: str, load: Load, algorithm: Algorithm) -> None:
    """As many connections as ports fill an even range to the last one, and one more finds none."""
    attempts = filled(round_of(replace(spec(name, 10 if name == "partition" else None), load=load), 40, 41), algorithm)
    assert sorted(attempts.port.tolist()) == [0, *range(LOW, LOW + 40)]
    of_udp = errno.EAGAIN if name == "plain" else errno.EADDRINUSE
    expected = of_udp if load is UDP or name == "random" else errno.EADDRNOTAVAIL
    assert attempts.errno.tolist() == [0] * 40 + [expected]


def test_full_udp_range_costs_every_port_there_is() -> None:
    """Without a free port each of the 65,536 is tried, and each socket met; half a range has no parity."""
    attempts = filled(round_of(replace(spec("bind"), load=UDP), 64, 65))
    assert (attempts.ports_probed[-1], attempts.lookups[-1]) == (65536, 64)
    assert 8 <= sum(parities(attempts)[:32]) <= 24


def test_trials_differ_in_what_no_run_can_know() -> None:
    """Another trial has other hashes; what the seed settles, all of `random`, stays; the same trial is the same."""
    plan = round_of(spec("plain"), 64, 64)
    one, same, other = (filled(plan, machine=KernelParameters(trial=trial)) for trial in (0, 0, 1))
    assert one.port.tolist() == same.port.tolist() != other.port.tolist()
    plan = round_of(spec("random"), 64, 64)
    one, other = (filled(plan, machine=KernelParameters(trial=trial)) for trial in (0, 1))
    assert one.port.tolist() == other.port.tolist()


def test_paths_search_by_themselves_and_meet_in_buckets() -> None:
    """Each source has all ports; a port that another source has costs a check, for it has a bind bucket."""
    plan = round_of(spec("range"), 64, 128, sources=THREE_SOURCES[:2], spread=Spread.FILL)
    attempts = filled(plan)
    assert attempts.source.tolist() == [0] * 64 + [1] * 64
    assert (attempts.lookups[:64] == attempts.ports_probed[:64] - 1).all()
    assert (attempts.lookups[64:] == attempts.ports_probed[64:]).all()


def test_reserved_ports_cost_a_step_and_are_never_taken() -> None:
    """net.ipv4.ip_local_reserved_ports: passed over, without a look at sockets."""
    reserved = frozenset(range(LOW, LOW + 8))
    for strategy in (spec("range"), spec("plain"), replace(spec("bind"), load=UDP)):
        attempts = filled(round_of(strategy, 16, 9), machine=KernelParameters(reserved=reserved | {1}))
        assert set(attempts.port[:8].tolist()) == set(range(LOW + 8, LOW + 16))
        assert attempts.failed[8]
        assert attempts.ports_probed[8] == (65536 if strategy.load is UDP else 16)
        assert attempts.lookups[8] == 8


def test_ports_closed_by_fin_come_back_when_time_wait_is_over() -> None:
    """At 10 a second a port is connect()'s again after 10 replacements over the loopback, and bind()'s after 600."""

    def failures(name: str, rate: float | None, replacements: int, link: Link = Link.LOOPBACK) -> int:
        load = Load(churn=Churn(replacements, Close.FIN, rate))
        attempts = simulate(round_of(replace(spec(name), load=load), 16, 4, link=link), FROM_6_8)[Phase.CHURN]
        return int(attempts.failed.sum())

    assert failures("bind", 10.0, 100) == 0
    assert failures("bind", 10.0, 100, Link.VETH) > 0
    assert failures("random", 10.0, 100) > 0
    assert failures("bind", None, 100) == 100 - 12


@pytest.mark.parametrize(
    ("reuse", "host", "link", "failed"),
    [
        (2, "127.9.9.2", Link.LOOPBACK, 0),
        (2, "::1", Link.LOOPBACK, 0),
        (2, "192.0.2.7", Link.LOOPBACK, 206),
        (2, "198.18.0.2", Link.VETH, 206),
        (1, "192.0.2.7", Link.LOOPBACK, 0),
        (0, "127.9.9.2", Link.LOOPBACK, 206),
    ],
)
def test_time_wait_is_by_tcp_tw_reuse_and_by_the_way_there(reuse: int, host: str, link: Link, failed: int) -> None:
    """700 connections at 100/s over 500 ports, 6 open: 494 find a free port, the others wait for one of TIME_WAIT."""
    load = Load(churn=Churn(700, Close.FIN, 100.0))
    plan = round_of(replace(spec("bind"), load=load), 500, 6, link=link, targets=(Endpoint(host, 80),))
    for machine in (
        KernelParameters(time_wait=TimeWait(reuse)),
        KernelParameters(time_wait=TimeWait.of({TW_REUSE: str(reuse)})),
    ):
        assert simulate(plan, FROM_6_8, machine)[Phase.CHURN].failed.sum() == failed
    without_timestamps = KernelParameters(time_wait=TimeWait(reuse, has_timestamps=False))
    assert simulate(plan, FROM_6_8, without_timestamps)[Phase.CHURN].failed.sum() == 206


def test_no_more_are_in_time_wait_than_the_kernel_allows() -> None:
    """net.ipv4.tcp_max_tw_buckets: what is closed beyond it frees its port at once."""
    plan = round_of(replace(spec("bind"), load=Load(churn=Churn(700, Close.FIN, 100.0))), 500, 6)
    for most, failed in (("494", 0), ("1000", 206)):
        machine = KernelParameters(time_wait=TimeWait.of({TW_REUSE: "0", MOST_WAITING: most}))
        assert simulate(plan, FROM_6_8, machine)[Phase.CHURN].failed.sum() == failed


def test_delay_of_reuse_is_the_kernels() -> None:
    """net.ipv4.tcp_tw_reuse_delay, of Linux 6.14 and later, is in ms; 60 s are over before a longer one."""
    for delay, seconds in (("1000", 1.0), ("250", 0.25), ("", 1.0), ("90000", 60.0)):
        assert TimeWait.of({TW_REUSE_DELAY: delay}).seconds(is_loopback=True) == seconds
    assert TimeWait().seconds(is_loopback=True, binds_to_port=True) == 60.0


def test_a_named_port_leaves_time_wait_at_once_if_sockets_share_it() -> None:
    """With TCP timestamps, and whatever tcp_tw_reuse is: that is asked where connect() searches for the port."""
    for reuse in range(3):
        assert TimeWait(reuse).seconds(is_loopback=False, shares_ports=True) == 0
        assert TimeWait(reuse, has_timestamps=False).seconds(is_loopback=True, shares_ports=True) == 60.0


@pytest.mark.parametrize("low", [LOW, LOW + 1])
def test_before_parities_were_preferred(low: int) -> None:
    """Before 4.2 ports are found one after the other; from 4.2 on one parity comes first, without a long walk."""
    for trial in range(5):
        machine = KernelParameters(trial=trial)
        plan = round_of(spec("plain"), 512, 513, low=low)
        old, newer = (filled(plan, algorithm, machine) for algorithm in (Algorithm.PRE_4_2, Algorithm.FROM_4_2))
        for attempts in (old, newer):
            assert sorted(attempts.port.tolist()) == [0, *range(low, low + 512)]
            assert (attempts.errno[-1], attempts.ports_probed[-1]) == (errno.EADDRNOTAVAIL, 512)
        assert set(np.diff(old.port[:512].astype(int)).tolist()) <= {1, -511}
        assert (old.ports_probed[:512] == 1).all()
        assert parities(newer)[:256] == [low % 2] * 256
        assert newer.ports_probed[:512].max() == 2


def test_churn_by_reset_never_lacks_a_port() -> None:
    """Each replacement frees the replaced connection's port first: a full range always has one."""
    by_phase = simulate(round_of(replace(spec("plain"), load=Load(fill=1.0, churn=Churn(100))), 16, 0), FROM_6_8)
    assert not by_phase[Phase.FILL].failed.any()
    assert not by_phase[Phase.CHURN].failed.any()
    assert (by_phase[Phase.CHURN].ports_probed <= 16).all()

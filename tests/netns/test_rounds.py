"""A round: its namespace's settings, its chain of workers, its listener, its report."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import replace

import pytest

from connbench.analysis.soundness import findings
from connbench.errors import Interrupted, TargetError
from connbench.findings import Finding, Severity
from connbench.interrupts import Interrupts
from connbench.linux import sysctl
from connbench.model import Churn, Endpoint, Listener, Load, Namespace, Profile, RoundPlan
from connbench.model.round_report import Measured
from connbench.results.json_file import read_json
from connbench.results.plain_document import PlainResult
from connbench.results.result import Result, Round, samples_class
from connbench.rounds import Progress, run_rounds
from connbench.runner import run
from run_connbench import make_plan, measure, spec, started_here


def test_settings_are_read_back_from_the_namespace() -> None:
    """The range and backlogs in the namespace are the plan's, and the host's are unchanged."""
    before = sysctl.read_all()
    settings = measure(spec("plain"), 16, 4).rounds[0].report.settings
    assert settings[sysctl.PORT_RANGE] == "40000 40015"
    assert int(settings[sysctl.SOMAXCONN]) >= 4
    assert int(settings[sysctl.SYN_BACKLOG]) >= 4
    assert sysctl.read_all() == before


@pytest.mark.usefixtures("each_loop")
def test_a_range_may_begin_among_the_privileged_ports() -> None:
    """The kernel refuses such a range unless ip_unprivileged_port_start is lowered first."""
    result = measure(spec("plain"), 8, 8, low=100)
    assert sorted(result.samples.port.tolist()) == list(range(100, 108))


def test_rounds_do_not_share_ports_or_namespaces() -> None:
    """Each round begins in a fresh namespace: a full range is free again, and nothing stays behind."""
    plan = make_plan(spec("plain"), 8, 8, rounds=3)
    result = Result(plan, {})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    (strategy,) = result.strategies
    assert [r.number for r in strategy.rounds] == [1, 2, 3]
    assert all(not r.samples.failed.any() for r in strategy.rounds)
    assert started_here() == []


def test_strategies_take_turns_within_a_round() -> None:
    """With rounds, the order is round 1 of each strategy, then round 2 of each."""
    order: list[tuple[int, str]] = []
    strategies = (spec("plain"), spec("bind"))
    plan = make_plan(strategies[0], 8, 4, strategies=strategies, rounds=2)
    run(
        plan,
        Result(plan, {}),
        lambda _: None,
        lambda done: order.append((done.number, done.strategy.name)),
        Interrupts(),
    )
    assert order == [(1, "plain"), (1, "bind"), (2, "plain"), (2, "bind")]


def test_plain_document_is_the_same_result() -> None:
    """What the standard library writes is read as the same plan, attempts, reports and fault of a stopped run."""
    churned = replace(spec("plain"), load=Load(concurrency=2, churn=Churn(10)))
    plan = make_plan(churned, 16, 8, strategies=(churned, spec("bind")), rounds=2)
    result, known = Result(plan, {"kernel": "6.1"}), [Finding("netns", Severity.NOTE, "said", "heard")]
    plain, interrupts = PlainResult(plan, {"kernel": "6.1"}, known), Interrupts()

    def add(measured: Measured) -> None:
        plain.add(measured)
        samples = samples_class(measured.strategy).from_memory(measured.descriptor, measured.total, measured.rows)
        result.add(measured.strategy, Round(measured.number, samples, measured.report, measured.fault))

    def stop(done: RoundPlan) -> None:
        interrupts.is_pending, interrupts.number = done.number == 2, signal.SIGINT

    with pytest.raises(Interrupted):
        run_rounds(plan, add, lambda _: None, stop, interrupts)
    read = read_json(b"".join(plain.pieces()), "it")
    assert (read.plan, list(read.known)) == (plan, known)
    assert plain.attempts == sum(len(one.samples) for rounds in result.rounds.values() for one in rounds)
    assert list(read.rounds) == list(result.rounds)
    for rounds, there in zip(result.rounds.values(), read.rounds.values(), strict=True):
        for one, other in zip(rounds, there, strict=True):
            assert (one.number, one.report, str(one.fault)) == (other.number, other.report, str(other.fault))
            assert [values.tolist() for values in one.samples.columns.values()] == [
                values.tolist() for values in other.samples.columns.values()
            ]


def test_progress_counts_up_to_what_is_done() -> None:
    """The caller hears of finished attempts, in order, while a round runs."""
    seen: list[Progress] = []
    plan = make_plan(spec("plain"), 6000, 6000)
    run(plan, Result(plan, {}), seen.append, lambda _: None, Interrupts())
    counts = [progress.done for progress in seen]
    assert counts == sorted(counts)
    assert all(0 <= count <= 6000 for count in counts)


def test_an_address_beyond_loopback_is_added_to_the_namespace() -> None:
    """A source that only the host has works in the namespace too."""
    samples = measure(spec("bind"), 8, 8, sources=("10.9.8.7",)).samples
    assert not samples.failed.any()


def test_no_listener_is_an_error_before_anything_is_measured() -> None:
    """An address that cannot be listened on ends the round before its first attempt."""
    with pytest.raises(TargetError, match=r"cannot listen on 192\.0\.2\.1"):
        measure(spec("plain"), 8, 8, targets=(Endpoint("192.0.2.1", 80),), namespace=Namespace.HOST)


@pytest.mark.usefixtures("each_loop")
def test_a_refusing_target_fails_each_attempt() -> None:
    """Without a listener every connect() is refused, and no connection is held."""
    result = measure(spec("bind"), 8, 8, listener=Listener.EXTERNAL)
    assert set(result.samples.errno.tolist()) == {errno.ECONNREFUSED}
    assert result.rounds[0].report.established == 0


def test_a_strategy_may_open_fewer_connections_than_the_plan() -> None:
    """A strategy's own number overrides the plan's; the other strategies keep to the plan."""
    few = replace(spec("bind"), load=Load(5))
    plan = make_plan(few, 16, 12, strategies=(few, spec("plain")))
    result = Result(plan, {})
    finished: list[int] = []
    run(plan, result, lambda _: None, lambda taken: finished.append(taken.connections), Interrupts())
    assert [len(strategy.samples) for strategy in result.strategies] == [5, 12]
    assert [strategy.rounds[0].report.established for strategy in result.strategies] == [5, 12]
    assert (finished, result.is_partial) == ([5, 12], False)
    assert not [found for found in findings(result) if found.severity is Severity.INVALID]
    assert [strategy.strategy.label for strategy in result.strategies] == ["bind, n=5", "plain"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("clients", [1, 2])
def test_only_the_clients_cpus_are_kept_free(clients: int) -> None:
    """A round of one client is measured alike beside one of more: nothing else is on its CPU, if there is another."""
    usable = os.sched_getaffinity(0)
    cpus = tuple(sorted(usable)[-2:])
    strategy = replace(spec("bind"), load=Load(concurrency=clients))
    plan = make_plan(strategy, 8, 8, cpus=cpus)
    seen: list[set[int]] = []
    run(plan, Result(plan, {}), lambda _: None, lambda _: seen.append(os.sched_getaffinity(0)), Interrupts())
    assert seen == [usable - set(cpus[:clients]) or usable]
    assert os.sched_getaffinity(0) == usable


def began_us(result: Result) -> list[int]:
    """When the first attempt of each round began, in us of CLOCK_REALTIME."""
    rounds = [measured for strategy in result.strategies for measured in strategy.rounds]
    return [r.report.epoch_us + int(r.samples.started_ns[0]) // 1000 for r in rounds if len(r.samples)]


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("load", [Load(), Load(churn=Churn(4)), Load(profile=Profile((0.5, 1.0), 2))])
def test_no_attempt_begins_before_the_start(load: Load) -> None:
    """A round that waits is ready before it is told its start, and begins then: no attempt is earlier."""
    starts: list[int] = []

    def start(plan: RoundPlan) -> int:
        assert plan.waits
        starts.append(time.time_ns() + 50_000_000)
        return starts[-1]

    plan = make_plan(replace(spec("bind"), load=load), 16, 8, rounds=2)
    result = Result(plan, {})
    run(plan, result, lambda _: None, lambda _: None, Interrupts(), start)
    began = began_us(result)[:2]
    assert len(starts) == 2
    assert all(at // 1000 <= first for at, first in zip(starts, began, strict=True))


def test_turns_begin_when_the_plan_says() -> None:
    """With a start and an interval each turn begins at its own instant, not before."""
    at_us, every_us = time.time_ns() // 1000 + 1_000_000, 500_000
    strategies = (spec("plain"), spec("bind"))
    plan = make_plan(strategies[0], 8, 4, strategies=strategies, rounds=2)
    plan = replace(plan, start_at_us=at_us, start_every_us=every_us)
    result = Result(plan, {})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    by_turn = [at_us + turn * every_us for turn in (0, 2, 1, 3)]  # as `began_us` lists strategies: plain, then bind
    assert all(planned <= first for planned, first in zip(by_turn, began_us(result), strict=True))


def test_a_round_that_is_stopped_before_its_start_makes_no_attempt() -> None:
    """A signal, while the engine waits to be told when to begin, ends the round, and nothing stays behind."""

    def start(_plan: RoundPlan) -> int:
        raise Interrupted(signal.SIGINT)

    plan = make_plan(spec("plain"), 8, 4)
    result = Result(plan, {})
    with pytest.raises(Interrupted):
        run(plan, result, lambda _: None, lambda _: None, Interrupts(), start)
    assert [len(r.samples) for strategy in result.strategies for r in strategy.rounds] == [0]
    assert started_here() == []

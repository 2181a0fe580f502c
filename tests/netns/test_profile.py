"""The levels of a profile: which ports are in use at each, and what its attempts leave behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connbench.analysis.soundness import findings
from connbench.draws import MOST_DRAWS
from connbench.findings import Severity
from connbench.interrupts import Interrupts
from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Endpoint, Listener, Load, Loop, Phase, Profile, Protocol, RoundPlan, StrategySpec
from connbench.results.result import Result, StrategyResult
from connbench.runner import run
from connbench.strategies import STRATEGIES, strategy_of
from run_connbench import HANG_S, LOW, make_plan, needs_port_range, spec

pytestmark = pytest.mark.usefixtures("each_loop")

PORTS, WINDOW, SAMPLES = 40, 8, 12
LEVELS = (0.25, 0.5, 0.75, 1.0)
IN_USE = [10, 20, 30, 40]
EVEN, ODD = ({port for port in range(LOW, LOW + PORTS) if port % 2 == parity} for parity in (0, 1))


def under(
    name: str, levels: tuple[float, ...] = LEVELS, samples: int = SAMPLES, protocol: Protocol = Protocol.TCP
) -> StrategySpec:
    """A strategy that is measured at levels; a window has a fifth of the ports."""
    missing = [option for option in options_of(strategy_of(name)) if not is_supported(option)]
    if missing:
        pytest.skip(f"this kernel has no {missing[0].name}")
    window = WINDOW if "window" in STRATEGIES[name].takes else None
    profile = Profile(levels, samples)
    return replace(spec(name, window), load=Load(protocol=protocol, profile=profile))


@cache
def usual_levels(name: str, _loop: Loop) -> list[tuple[set[int], set[int]]]:
    """Those of a strategy at `LEVELS`, from one run for all tests of a loop."""
    return levels_of(under(name))


def levels_of(strategy: StrategySpec, *options: str, **changes: Any) -> list[tuple[set[int], set[int]]]:  # noqa: ANN401  # any field of Plan
    """The ports in use before and after the attempts of each level, as the kernel lists them."""
    plan = RoundPlan(make_plan(strategy, PORTS, 1, **changes), strategy, 1)
    probe = [sys.executable, str(Path(__file__).parents[1] / "levels_probe.py"), *options]
    done = subprocess.run(
        probe, input=json.dumps(plan.to_dict()) + "\n", capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [(set(before), set(after)) for before, after in json.loads(done.stdout)]


def profiled(strategy: StrategySpec, **changes: Any) -> StrategyResult:  # noqa: ANN401  # any field of Plan
    """The result of a round."""
    plan = make_plan(strategy, PORTS, 1, **changes)
    result = Result(plan, {"kernel": os.uname().release})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    [measured] = result.strategies
    assert [found for found in findings(result) if found.severity is Severity.INVALID] == []
    return measured


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_level_has_its_ports_and_attempts_leave_none(name: str, each_loop: Loop) -> None:
    """As many ports as the level says, those of the level before among them; the same ports after the attempts."""
    seen = usual_levels(name, each_loop)
    assert [len(before) for before, _ in seen] == IN_USE
    assert all(before == after for before, after in seen)
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(seen))
    assert seen[-1][0] == EVEN | ODD


@needs_port_range
@pytest.mark.parametrize("name", ["plain", "bind"])
def test_one_parity_is_in_use_before_the_other(name: str, each_loop: Loop) -> None:
    """As the kernel's search leaves it: the parity of the range's low end first, in random order."""
    quarter, half, rest, _ = (before for before, _ in usual_levels(name, each_loop))
    assert quarter < EVEN
    assert quarter != set(range(LOW, LOW + PORTS // 2, 2)), "not simply the first ones"
    assert half == EVEN
    assert len(rest & ODD) == PORTS // 4


def test_bind_leaves_the_other_parity_for_last(each_loop: Loop) -> None:
    """Where bind() chooses the port, the parity that is not the low end's is in use first."""
    _, half, *_ = (before for before, _ in usual_levels("early", each_loop))
    assert half == ODD


def test_a_list_of_ports_is_in_use_from_its_beginning(each_loop: Loop) -> None:
    """Where the program goes through a list, the ports at its beginning are in use."""
    _, half, *_ = (before for before, _ in usual_levels("sequential", each_loop))
    assert half == set(range(LOW, LOW + PORTS // 2))


@pytest.mark.parametrize("name", [name for name, row in STRATEGIES.items() if row.draws_again and not row.has_list])
def test_a_strategy_that_draws_has_random_ports_in_use(name: str, each_loop: Loop) -> None:
    """Of both parities, and of both halves of the range."""
    _, half, *_ = (before for before, _ in usual_levels(name, each_loop))
    assert 5 <= len(half & ODD) <= 15
    assert 5 <= sum(port < LOW + PORTS // 2 for port in half) <= 15


def test_consecutive_windows_are_in_use_one_after_the_other(each_loop: Loop) -> None:
    """With 20 ports in use: two windows of 8 ports, and half of the third."""
    _, half, *_ = (before for before, _ in usual_levels("partition", each_loop))
    assert set(range(LOW, LOW + 2 * WINDOW)) < half < set(range(LOW, LOW + 3 * WINDOW))


@pytest.mark.parametrize("name", ["plain", "bind"])
def test_without_the_option_the_strategy_reaches_the_level_itself(name: str) -> None:
    """As on a kernel before 6.3, whose connections take longer."""
    seen = [before for before, _ in levels_of(under(name), "--by-strategy")]
    assert [len(before) for before in seen] == IN_USE
    assert seen[1] == EVEN


@pytest.mark.parametrize("name", ["plain", "bind", "random"])
def test_levels_of_udp(name: str) -> None:
    """UDP has no parity that comes first."""
    strategy = under(name, protocol=Protocol.UDP)
    seen = levels_of(strategy, listener=Listener.NONE)
    assert [len(before) for before, _ in seen] == IN_USE
    assert all(before == after for before, after in seen)
    assert 0 < len(seen[1][0] & ODD) < PORTS // 2
    samples = profiled(strategy, listener=Listener.NONE).samples
    assert samples.in_use.tolist() == np.repeat(IN_USE, SAMPLES).tolist()
    assert samples.failed.tolist() == [level == PORTS for level in samples.in_use]


def test_levels_over_ipv6() -> None:
    """The option takes one port of an IPv6 socket, too."""
    over_ipv6: dict[str, Any] = {"sources": ("2001:db8::1",), "targets": (Endpoint("2001:db8::2", LOW - 1),)}
    seen = [before for before, _ in levels_of(under("bind"), **over_ipv6)]
    assert [len(before) for before in seen] == IN_USE
    assert seen[1] == EVEN


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_round_has_attempts_at_each_level(name: str) -> None:
    """Each sample has the ports in use when it began; where all are, every attempt fails."""
    measured = profiled(under(name))
    samples, [one] = measured.samples, measured.rounds
    assert measured.strategy.phase is Phase.PROFILE
    assert samples.in_use.tolist() == np.repeat(IN_USE, SAMPLES).tolist()
    full = samples.chosen(samples.in_use == PORTS)
    row = STRATEGIES[name]
    no_port = errno.EADDRINUSE if row.binds_to_port else errno.EADDRNOTAVAIL
    assert set(full.errno.tolist()) == {no_port}
    assert set(full.tries.tolist()) == {PORTS if row.has_list else MOST_DRAWS if row.chooses_port else 1}
    before = samples.chosen(samples.in_use < PORTS)
    assert name == "window" or not before.failed.any()
    assert (one.report.held, one.report.established) == (PORTS, PORTS)
    worker, *helping = one.report.workers
    assert (worker.attempts, worker.client, worker.first) == (len(samples), 0, 0)
    assert worker.floor_ns
    assert worker.opened + sum(one.opened for one in helping) == PORTS
    assert not sum(one.attempts for one in helping)


@needs_port_range
def test_past_half_of_the_ports_plain_gets_the_other_parity() -> None:
    """So its attempts there have searched all ports of the first parity."""
    samples = profiled(under("plain")).samples
    made = samples.chosen(~samples.failed)
    assert {int(port) % 2 for port in made.port[made.in_use < PORTS // 2]} == {LOW % 2}
    assert {int(port) % 2 for port in made.port[made.in_use >= PORTS // 2]} == {1 - LOW % 2}


@needs_port_range
def test_the_attempts_of_partition_are_in_the_window_that_is_being_filled() -> None:
    """At 25, 50 and 75 % of five windows: the second, the third and the fourth."""
    samples = profiled(under("partition")).samples
    for in_use, window in ((10, 1), (20, 2), (30, 3)):
        ports = samples.port[samples.in_use == in_use].tolist()
        assert {(port - LOW) // WINDOW for port in ports} == {window}


def test_an_empty_range_is_a_level() -> None:
    """At 0 % no port is in use, and none need be."""
    samples = profiled(under("bind", (0.0,), 3)).samples
    assert samples.in_use.tolist() == [0, 0, 0]
    assert not samples.failed.any()

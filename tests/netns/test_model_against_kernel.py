"""The model of the port search against this kernel: the same plan, simulated and carried out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from connbench.draws import MOST_DRAWS, Draws
from connbench.linux.port_search import searches_one_parity_first
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Churn, Endpoint, Listener, Load, Phase, Protocol, Reuse, RoundPlan, Spread, StrategySpec
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import ParityFirst, tcp_port_spaces
from connbench.portmodel.simulation import KernelParameters, SimulatedAttempts, replaced_rows, simulate
from run_connbench import make_plan, measure, measure_phases, needs_port_range, spec

PORTS = 4096


@cache
def algorithm_here() -> Algorithm:
    """What this kernel does where the option is set: half of a range shows whether one parity goes first."""
    if not is_supported(LOCAL_PORT_RANGE):
        return Algorithm.PRE_6_8
    odd = int((measure(spec("range"), 64, 32).samples.port % 2).sum())
    return Algorithm.PRE_6_8 if odd in {0, 32} else Algorithm.FROM_6_8


@needs_port_range
def test_search_is_probed_as_a_measurement_shows_it() -> None:
    """A few connections in a namespace show what the samples of `range` show, whatever release the kernel has."""
    assert searches_one_parity_first() == (algorithm_here() is Algorithm.PRE_6_8)


def simulated(
    strategy: StrategySpec, ports: int, connections: int, trial: int = 0, low: int = 40000
) -> SimulatedAttempts:
    """The filling of the plan that `measure` carries out."""
    plan = RoundPlan(make_plan(strategy, ports, connections, low=low), strategy, 1)
    return simulate(plan, algorithm_here(), KernelParameters(trial=trial))[Phase.FILL]


def test_search_begins_where_the_last_one_stopped() -> None:
    """The model, told the ports that the kernel took before, finds the kernel's next one.

    By churn in a range whose first parity is full, for there a search goes anything from one step to all of them: the
    port that was given up may be anywhere. How long each takes is a matter of the machine: `make accuracy`.
    """
    strategy = replace(spec("plain"), load=Load(fill=0.52, churn=Churn(2000)))
    plan = RoundPlan(make_plan(strategy, PORTS, 0), strategy, 1)
    filled, churned = (result.samples for result in measure_phases(strategy, PORTS, 0))
    held, ports = filled.port.tolist(), plan.plan.port_range
    [space] = tcp_port_spaces(ports, [0], ParityFirst)
    assert all(map(space.take, held))
    stopped, found = held[-1], []
    for row, port in zip(replaced_rows(plan, Draws.of(plan)).tolist(), churned.port.tolist(), strict=True):
        space.release(held[row])
        space.start = (stopped - ports.low) // 2 * 2 + 2
        found.append(space.search(ports.low, ports.high, 0))
        space.release(found[-1])
        assert space.take(port)
        held[row] = stopped = port
    assert np.mean(churned.port == found) >= 0.95  # where a search was short the kernel moves on at random


@pytest.mark.parametrize("name", ["plain", "bind"])
@pytest.mark.parametrize("low", [40000, 40001])
def test_parities_are_the_kernels_in_order(name: str, low: int) -> None:
    """On eight ports the model has the parities in the kernel's order, and fails where it fails."""
    measured, attempts = measure(spec(name), 8, 9, low=low).samples, simulated(spec(name), 8, 9, low=low)
    assert (attempts.port % 2)[:8].tolist() == (measured.port % 2)[:8].tolist()
    assert attempts.errno.tolist() == measured.errno.tolist()


@pytest.mark.usefixtures("each_loop")
@needs_port_range
@pytest.mark.parametrize("clipped", [False, True])
def test_windows_of_one_seed_fail_as_often(clipped: bool) -> None:
    """The same windows are searched: failures lie within four standard deviations of the model's."""
    strategy = spec("window", 16, clipped=clipped)
    failures = [simulated(strategy, 1000, 1000, trial).failed.sum() for trial in range(30)]
    measured = measure(strategy, 1000, 1000).samples
    assert abs(measured.failed.sum() - np.mean(failures)) <= 4 * np.std(failures, ddof=1)


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("protocol", list(Protocol))
def test_ports_drawn_here_are_the_same_to_the_last(protocol: Protocol) -> None:
    """Of `random` the seed settles everything: ports, tries and errors, those of the churn too."""
    load = Load(protocol=protocol, fill=0.9, churn=Churn(200))
    strategy = replace(spec("random", retries=2), load=load)
    listener = Listener.BACKLOG if protocol is Protocol.TCP else Listener.NONE
    filled, churned = measure_phases(strategy, 256, 0, listener=listener)
    by_phase = simulate(RoundPlan(make_plan(strategy, 256, 0), strategy, 1), algorithm_here())
    for result, attempts in ((filled, by_phase[Phase.FILL]), (churned, by_phase[Phase.CHURN])):
        assert attempts.port.tolist() == result.samples.port.tolist()
        assert attempts.tries.tolist() == result.samples.tries.tolist()
        assert attempts.errno.tolist() == result.samples.errno.tolist()
        assert attempts.failed.any()


@pytest.mark.usefixtures("each_loop")
def test_draws_in_vain_are_as_many_as_the_engine_makes() -> None:
    """Beyond the last port of a range nobody tells `random` so: ports and tries are the same here and there."""
    measured = measure(spec("random"), 64, 70).samples
    attempts = simulated(spec("random"), 64, 70)
    assert attempts.port.tolist() == measured.port.tolist()
    assert attempts.tries.tolist() == measured.tries.tolist()
    assert attempts.tries.tolist()[64:] == [MOST_DRAWS] * 6


@pytest.mark.parametrize("reuse", [None, Reuse.ADDRESS, Reuse.PORT])
@pytest.mark.parametrize(("low", "ports"), [(40000, 1), (40001, 2), (40000, 4), (40001, 6), (40000, 16), (40001, 64)])
def test_bind_takes_the_parts_of_the_range_in_the_models_order(low: int, ports: int, reuse: Reuse | None) -> None:
    """Parities, and halves with SO_REUSEADDR; within a part the kernel draws, so parts are compared at their ends."""
    strategy = replace(spec("early"), reuse=reuse)
    measured = measure(strategy, ports, ports + 1, low=low).samples
    attempts = simulated(strategy, ports, ports + 1, low=low)
    assert attempts.errno.tolist() == measured.errno.tolist()
    half = ports // 4 * 2 if reuse is Reuse.ADDRESS else 0
    for end in (half // 2, half, (half + ports) // 2, ports):
        assert set(attempts.port[:end].tolist()) == set(measured.port[:end].tolist())


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("ports", [3, 5, 7, 63])
def test_bind_leaves_a_port_of_an_odd_range_to_chance(ports: int) -> None:
    """The kernel rounds the number down: the first parity is the model's, and a port of the other may be left."""
    measured, attempts = measure(spec("early"), ports, ports).samples, simulated(spec("early"), ports, ports)
    for one in (measured, attempts):
        assert sorted(one.port[: ports // 2].tolist()) == list(range(40001, 40000 + ports, 2))
        assert not one.failed[:-1].any()


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("name", ["sequential", "random"])
@pytest.mark.parametrize("changes", [{}, {"reuse": Reuse.ADDRESS}, {"stride": 3, "residue": 1}, {"retries": 2}])
def test_ports_that_the_program_names_are_the_same_to_the_last(name: str, changes: dict[str, Any]) -> None:
    """Of a list as of drawn ports the seed settles everything, several targets and the churn included."""
    strategy = replace(spec(name), load=Load(fill=1.0, churn=Churn(100)), **changes)
    targets = (Endpoint("127.9.8.1", 7), Endpoint("127.9.8.1", 8))
    phases = measure_phases(strategy, 64, 0, targets=targets, spread=Spread.FILL)
    plan = RoundPlan(make_plan(strategy, 64, 0, targets=targets, spread=Spread.FILL), strategy, 1)
    by_phase = simulate(plan, algorithm_here())
    for result, attempts in zip(phases, by_phase.values(), strict=True):
        assert attempts.port.tolist() == result.samples.port.tolist()
        assert attempts.tries.tolist() == result.samples.tries.tolist()
        assert attempts.errno.tolist() == result.samples.errno.tolist()


@pytest.mark.usefixtures("each_loop")
@needs_port_range
@pytest.mark.parametrize("name", ["window", "range"])
def test_ports_of_a_stride_are_the_same_to_the_last(name: str) -> None:
    """With a stride the option is one port, which the program draws; `range` draws until it finds a free one."""
    strategy = replace(spec(name, 1 if name == "window" else None), stride=4, residue=3)
    measured, attempts = measure(strategy, 256, 66).samples, simulated(strategy, 256, 66)
    assert attempts.port.tolist() == measured.port.tolist()
    assert attempts.tries.tolist() == measured.tries.tolist()
    assert attempts.failed.any()


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("name", ["sequential", "random"])
def test_shared_sockets_of_udp_never_try_again(name: str) -> None:
    """None is in the way of another, so each has the first port that the program names, also one drawn before."""
    strategy = replace(spec(name), reuse=Reuse.ADDRESS, load=Load(protocol=Protocol.UDP, fill=1.0, churn=Churn(20)))
    phases = measure_phases(strategy, 64, 0, listener=Listener.NONE)
    by_phase = simulate(RoundPlan(make_plan(strategy, 64, 0), strategy, 1), algorithm_here())
    for result, attempts in zip(phases, by_phase.values(), strict=True):
        assert attempts.port.tolist() == result.samples.port.tolist()
        assert attempts.tries.tolist() == result.samples.tries.tolist() == [1] * len(attempts)

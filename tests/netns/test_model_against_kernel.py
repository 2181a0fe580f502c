"""The model of the port search against this kernel: the same plan, simulated and carried out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import pytest

from connbench.interrupts import Interrupts
from connbench.linux.parity import one_parity_goes_first
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Churn, Listener, Load, Phase, Protocol, RoundPlan, StrategySpec
from connbench.portsearch.agreement import rank_correlation
from connbench.portsearch.algorithm import Algorithm
from connbench.portsearch.fit import calibrate
from connbench.portsearch.predict import beside
from connbench.portsearch.prediction import Pair
from connbench.portsearch.simulate import Machine, simulate
from connbench.portsearch.tcp import tcp_ports
from connbench.portsearch.walk import Walk
from connbench.results.result import Numbers, Result, Samples
from connbench.runner import run
from connbench.strategies.sharing import draw_victims
from support import make_plan, measure, measure_phases, needs_port_range, spec

PORTS, BLOCK = 4096, 128


@cache
def algorithm_here() -> Algorithm:
    """What this kernel does where the option is set: half of a range shows whether one parity goes first."""
    if not is_supported(LOCAL_PORT_RANGE):
        return Algorithm.PRE_6_8
    odd = int((measure(spec("range"), 64, 32).samples.port % 2).sum())
    return Algorithm.PRE_6_8 if odd in {0, 32} else Algorithm.FROM_6_8


@needs_port_range
def test_search_is_probed_as_a_measurement_shows_it() -> None:
    """A few connections in a namespace tell what the samples of `range` do, whatever release the kernel has."""
    assert one_parity_goes_first() == (algorithm_here() is Algorithm.PRE_6_8)


def simulated(strategy: StrategySpec, ports: int, connections: int, trial: int = 0, low: int = 40000) -> Walk:
    """The filling of the plan that `measure` carries out."""
    plan = RoundPlan(make_plan(strategy, ports, connections, low=low), strategy, 1)
    return simulate(plan, algorithm_here(), Machine(trial=trial))[Phase.FILL]


def test_ports_looked_at_explain_the_latency_of_plain() -> None:
    """Attempt by attempt, connect() is the slower, the more ports the model has it look at.

    By churn in a range whose first parity is full, for there a search goes anything from one step to all of them: it
    begins where the last one stopped, and the port that was given up may be anywhere. The best of three rounds counts,
    for whatever else runs on the machine can only blur the order.
    """
    best = 0.0
    for _ in range(3):
        found, looked_at, churned = _followed()
        assert np.mean(churned.port == found) >= 0.95  # where a search was short the kernel moves on at random
        best = max(best, rank_correlation(looked_at, churned.connect_ns) or 0.0)
        if best >= 0.9:
            break
    assert best >= 0.9


def _followed() -> tuple[Numbers, Numbers, Samples]:
    """Churn of plain, and beside it what the model finds and looks at, told the ports that the kernel took before."""
    strategy = replace(spec("plain"), load=Load(fill=0.52, churn=Churn(2000)))
    plan = RoundPlan(make_plan(strategy, PORTS, 0), strategy, 1)
    filled, churned = (result.samples for result in measure_phases(strategy, PORTS, 0))
    held, ports = filled.port.tolist(), plan.plan.port_range
    [space] = tcp_ports(ports, 1, Random(1), has_parity=True)
    assert all(map(space.take, held))
    stopped, looked_at, found = held[-1], [], []
    for victim, port in zip(draw_victims(plan), churned.port.tolist(), strict=True):
        space.release(held[victim])
        space.start = (stopped - ports.low) // 2 * 2 + 2
        found.append(space.search(ports.low, ports.high))
        looked_at.append(space.looked_at)
        space.release(found[-1])
        assert space.take(port)
        held[victim] = stopped = port
    return np.array(found), np.array(looked_at), churned


def test_latency_of_plain_goes_with_ports_looked_at() -> None:
    """Filling a range, the model of it made beforehand tells the slow half from the fast one, and how far apart.

    Within a half most attempts look at as many ports as the next: their order is noise, and ranks would say little.
    """
    looked_at = np.mean([simulated(spec("plain"), PORTS, PORTS, trial).looked_at for trial in range(10)], axis=0)
    medians = np.median(measure(spec("plain"), PORTS, PORTS).samples.connect_ns.reshape(-1, BLOCK), axis=1)
    assert np.corrcoef(looked_at.reshape(-1, BLOCK).mean(axis=1), medians)[0, 1] >= 0.9


@pytest.mark.parametrize("name", ["plain", "bind"])
@pytest.mark.parametrize("low", [40000, 40001])
def test_parities_are_the_kernels_in_order(name: str, low: int) -> None:
    """On eight ports the model has the parities in the kernel's order, and fails where it fails."""
    measured, walk = measure(spec(name), 8, 9, low=low).samples, simulated(spec(name), 8, 9, low=low)
    assert (walk.port % 2)[:8].tolist() == (measured.port % 2)[:8].tolist()
    assert walk.errno.tolist() == measured.errno.tolist()


@needs_port_range
@pytest.mark.parametrize("clipped", [False, True])
def test_windows_of_one_seed_fail_as_often(clipped: bool) -> None:
    """The same windows are searched: failures lie within four standard deviations of the model's."""
    strategy = spec("window", 16, clipped=clipped)
    failures = [simulated(strategy, 1000, 1000, trial).failed.sum() for trial in range(30)]
    measured = measure(strategy, 1000, 1000).samples
    assert abs(measured.failed.sum() - np.mean(failures)) <= 4 * np.std(failures, ddof=1)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_ports_drawn_here_are_the_same_to_the_last(protocol: Protocol) -> None:
    """Of `random` the seed settles everything: ports, tries and errors, those of the churn too."""
    load = Load(protocol=protocol, fill=0.9, churn=Churn(200))
    strategy = replace(spec("random", retries=2), load=load)
    listener = Listener.BACKLOG if protocol is Protocol.TCP else Listener.NONE
    filled, churned = measure_phases(strategy, 256, 0, listener=listener)
    walks = simulate(RoundPlan(make_plan(strategy, 256, 0), strategy, 1), algorithm_here())
    for result, walk in ((filled, walks[Phase.FILL]), (churned, walks[Phase.CHURN])):
        assert walk.port.tolist() == result.samples.port.tolist()
        assert walk.tries.tolist() == result.samples.tries.tolist()
        assert walk.errno.tolist() == result.samples.errno.tolist()
        assert walk.failed.any()


def test_smaller_runs_tell_the_time_of_a_larger_one() -> None:
    """Costs fitted to plain on 1,024 to 4,096 ports give the time of 8,192 within 30 %, all of it measured here.

    By medians of attempts that follow each other: what else runs on the machine shows in few. Larger ranges leave the
    CPU's caches, and then it is others on the machine who decide what a port costs.
    """

    def measured(ports: int) -> Pair:
        plan = make_plan(spec("plain"), ports, ports, low=20000)
        result = Result(plan, {})
        run(plan, result, lambda _: None, lambda _: None, Interrupts())
        [pair] = beside(result)
        return pair

    def undisturbed(latency_ns: Numbers) -> float:
        return float(np.median(latency_ns.reshape(-1, BLOCK), axis=1).sum() * BLOCK)

    fitted = calibrate([measured(ports) for ports in (1024, 2048, 4096)], Protocol.TCP, "smaller runs")
    assert fitted is not None
    [(prediction, samples)] = measured(8192).rounds
    assert fitted.extrapolates(prediction)
    predicted = undisturbed(fitted.latency_ns(prediction))
    assert predicted == pytest.approx(undisturbed(samples.connect_ns), rel=0.3)

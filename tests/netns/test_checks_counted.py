"""Lookups of the model, against the kernel's own calls of the function that makes them, counted by a probe.

No time is in either. `scripts/kernel-lab test --trace` boots kernels that can be probed, of the old walk and the new.
"""

from __future__ import annotations

import os
from dataclasses import replace
from statistics import mean, stdev

import pytest

from calls_counted import IN_BIND, IN_CONNECT, counting
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Phase, Reuse, RoundPlan, StrategySpec
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import KernelParameters, simulate
from run_connbench import make_plan, measure, spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("CONNBENCH_EXPECT_TRACE"), reason="scripts/kernel-lab test --trace runs it in a guest"
    ),
]

PORTS, PORTS_OF_BIND = 2000, 4096
ALGORITHMS = {"two-parity": Algorithm.PRE_6_8, "one-by-one": Algorithm.FROM_6_8}
"""By the word that the lab uses for the walk of the kernel it boots."""

STRATEGIES = [spec("plain"), spec("bind")]
if is_supported(LOCAL_PORT_RANGE):
    STRATEGIES += [spec("range"), spec("window", 50)]


def modelled(strategy: StrategySpec, ports: int, trials: int) -> list[int]:
    """Ports that the model checks, for kernels whose hashes and random numbers differ."""
    algorithm = ALGORITHMS[os.environ["CONNBENCH_EXPECT_WALK"]]
    plan = RoundPlan(make_plan(strategy, ports, ports), strategy, 1)
    return [int(simulate(plan, algorithm, KernelParameters(trial=n))[Phase.FILL].lookups.sum()) for n in range(trials)]


def test_kernel_checks_as_many_ports_as_the_model() -> None:
    """Within 2 % in all; each strategy too, or within three standard deviations where chance weighs more."""
    counts: list[int] = []
    for strategy in STRATEGIES:
        with counting(counts, IN_CONNECT):
            measure(strategy, PORTS, PORTS)
    models = [modelled(strategy, PORTS, 30) for strategy in STRATEGIES]
    assert sum(counts) == pytest.approx(sum(mean(model) for model in models), rel=0.02)
    for counted, model in zip(counts, models, strict=True):
        assert abs(counted - mean(model)) <= max(0.02 * mean(model), 3 * stdev(model))


@pytest.mark.parametrize("reuse", [None, Reuse.ADDRESS])
def test_bind_checks_as_many_ports_as_the_model(reuse: Reuse | None) -> None:
    """Within 2 %, of the search of bind() over the whole range, and by halves of it with SO_REUSEADDR."""
    strategy, counts = replace(spec("early"), reuse=reuse), list[int]()
    with counting(counts, IN_BIND):
        assert not measure(strategy, PORTS_OF_BIND, PORTS_OF_BIND).samples.failed.any()
    model = mean(modelled(strategy, PORTS_OF_BIND, 8))
    assert counts[0] == pytest.approx(model, rel=0.02)

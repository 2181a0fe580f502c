"""Lookups of the model, against the kernel's own calls of `__inet_check_established`, counted by a probe.

No time is in either. `scripts/kernel-lab test --trace` boots kernels that can be probed, of the old walk and the new.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean, stdev

import pytest

from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Phase, RoundPlan, StrategySpec
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import KernelParameters, simulate
from run_connbench import make_plan, measure, spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("CONNBENCH_EXPECT_TRACE"), reason="scripts/kernel-lab test --trace runs it in a guest"
    ),
]

PROGRAM = 'BEGIN { printf("attached\\n"); } kprobe:__inet_check_established { @checks = count(); }'
PORTS = 2000
ALGORITHMS = {"two-parity": Algorithm.PRE_6_8, "one-by-one": Algorithm.FROM_6_8}
"""By the word that the lab uses for the walk of the kernel it boots."""

STRATEGIES = [spec("plain"), spec("bind")]
if is_supported(LOCAL_PORT_RANGE):
    STRATEGIES += [spec("range"), spec("window", 50)]


@contextmanager
def counting(counts: list[int]) -> Iterator[None]:
    """A probe for the time of the block, whose count is added to `counts`."""
    command = [str(shutil.which("bpftrace")), "-e", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        while tracer.stdout.readline() != "attached\n":
            assert tracer.poll() is None, "bpftrace did not attach its probe"
        yield
        tracer.send_signal(signal.SIGINT)
        said = tracer.stdout.read()
    counted = re.search(r"@checks: (\d+)", said)
    assert counted, said
    counts.append(int(counted[1]))


def modelled(strategy: StrategySpec) -> list[int]:
    """Ports that the model checks, for 30 kernels whose hashes differ."""
    algorithm = ALGORITHMS[os.environ["CONNBENCH_EXPECT_WALK"]]
    plan = RoundPlan(make_plan(strategy, PORTS, PORTS), strategy, 1)
    return [int(simulate(plan, algorithm, KernelParameters(trial=n))[Phase.FILL].lookups.sum()) for n in range(30)]


def test_kernel_checks_as_many_ports_as_the_model() -> None:
    """Within 2 % in all; each strategy too, or within three standard deviations where chance weighs more."""
    counts: list[int] = []
    for strategy in STRATEGIES:
        with counting(counts):
            measure(strategy, PORTS, PORTS)
    models = [modelled(strategy) for strategy in STRATEGIES]
    assert sum(counts) == pytest.approx(sum(mean(model) for model in models), rel=0.02)
    for counted, model in zip(counts, models, strict=True):
        assert abs(counted - mean(model)) <= max(0.02 * mean(model), 3 * stdev(model))

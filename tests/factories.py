"""Plans, samples and results made by hand, with the figures that a test needs; and the width of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from hypothesis import settings

from connbench.errors import ConnbenchError
from connbench.findings import Finding
from connbench.model import Endpoint, Listener, Loop, Namespace, Placement, Plan, PortRange, StrategySpec
from connbench.model.round_report import RoundReport, WorkerReport
from connbench.results.result import BoundSamples, Result, Round, Samples, samples_class
from connbench.samples import COLUMNS

unhurried = settings(deadline=None)
"""For property tests: on a busy machine an example may take long, which is no fault of it."""

PORTS = PortRange(9024, 65535)

PLAIN = StrategySpec("plain")
BIND = StrategySpec("bind")
RANDOM = StrategySpec("random")
WINDOW = StrategySpec("window", 500, Placement.INSIDE, 0)
LONG = StrategySpec("window", 10_000, Placement.CLIPPED, 1000)
"""Its label is among the longest that exist."""

PLAN = Plan(
    strategies=(PLAIN,),
    connections=4,
    port_range=PORTS,
    sources=("127.9.9.1",),
    targets=(Endpoint("127.9.9.2", 9023),),
    listener=Listener.BACKLOG,
    namespace=Namespace.NETWORK,
    seed=1,
    loop=Loop.C,
)

ENVIRONMENT: dict[str, object] = {"kernel": "6.8.0-test", "cpu_count": 4, "governor": None}


def samples_of(connect_ns: Sequence[int], **columns: Sequence[int]) -> Samples:
    """Attempts one after the other, `connect_ns` long each, and further columns by name.

    Where a column is left out: ports upwards from 9024 (0 of the failed), 1 µs of preparation, else its lowest value.
    """
    rows = len(connect_ns)
    errno = columns.get("errno", [0] * rows)
    prepare_ns = columns.get("prepare_ns", [1000] * rows)
    acquire_ns = [prepare + connect for prepare, connect in zip(prepare_ns, connect_ns, strict=True)]
    values: dict[str, Sequence[int]] = {
        "started_ns": [0, *accumulate(acquire_ns)][:rows],
        "prepare_ns": prepare_ns,
        "connect_ns": connect_ns,
        "acquire_ns": acquire_ns,
        "port": [0 if number else PORTS.low + i % len(PORTS) for i, number in enumerate(errno)],
        **columns,
    }
    return Samples.of(**{c.name: np.array(values[c.name], dtype=c.code) for c in COLUMNS if c.name in values})


def round_of(samples: Samples, number: int = 1, fault: ConnbenchError | None = None) -> Round:
    """A round with no fault but the given one: one worker holds all connections, connbench costs 600 ns each."""
    worker = WorkerReport(
        first=0,
        attempts=len(samples),
        opened=len(samples) - int(samples.failed.sum()),
        involuntary_switches=0,
        memory_idle=8 << 20,
        memory_full=16 << 20,
        floor_ns=600,
    )
    report = RoundReport(
        settings={"net.ipv4.ip_local_port_range": f"{PORTS.low} {PORTS.high}"},
        counters={"Tcp.ActiveOpens": len(samples), "TcpExt.ListenOverflows": 0, "TcpExt.TCPSynRetrans": 0},
        workers=(worker,),
        held=worker.opened,
        established=worker.opened,
    )
    return Round(number, samples, report, fault)


def _of_class(measured: Round, kind: type[Samples]) -> Round:
    """The round with samples of the strategy's class."""
    return replace(measured, samples=kind(**measured.samples.columns)) if kind is BoundSamples else measured


def result_of(
    measured: Mapping[StrategySpec, Sequence[Round]], plan: Plan = PLAN, known: tuple[Finding, ...] = ()
) -> Result:
    """A result of these rounds under a plan; its strategies, rounds and connections are those of the rounds given."""
    measured = {spec: [_of_class(r, samples_class(spec)) for r in some] for spec, some in measured.items()}
    rounds = [r for some in measured.values() for r in some]
    planned = replace(
        plan,
        strategies=tuple(measured),
        rounds=max(map(len, measured.values())),
        connections=max(len(r.samples) for r in rounds),
    )
    return Result(planned, dict(ENVIRONMENT), known, {spec: list(some) for spec, some in measured.items()})


def too_wide(text: str) -> list[str]:
    """The lines that do not fit a terminal of 80 columns."""
    return [line for line in text.splitlines() if len(line) > 80]

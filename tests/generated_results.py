"""Results drawn by hypothesis: anything that a run can leave."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

from connbench.errors import ConnbenchError, EnvironmentFault, Interrupted, OutputError, RunFault, TargetError
from connbench.findings import Finding, Severity
from connbench.model import (
    LOAD_FIELDS,
    MAX_JSON_INTEGER,
    MAX_PORT,
    MOST_ROWS,
    NO_LOAD,
    Endpoint,
    Listener,
    Load,
    Namespace,
    Placement,
    Plan,
    PortRange,
    Reuse,
    RoundPlan,
    StrategySpec,
    is_of_one,
)
from connbench.model.load import LoadField, Unit
from connbench.model.round_report import RoundReport, WorkerReport
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.result import Result, Round, Samples, samples_class
from connbench.safe_text import printable
from connbench.samples import COLUMNS
from connbench.strategies import STRATEGIES, strategy_of

counts = st.integers(0, MAX_JSON_INTEGER)
ports = st.integers(1, MAX_PORT)
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
texts = st.text(max_size=20)


sysctl_names = st.sampled_from(
    ["net.ipv4.tcp_tw_reuse", "net.core.somaxconn", "net.a-b", "net.a", "net.ipv6.conf.all.forwarding"]
) | st.from_regex(r"net(\.[a-z_0-9-]{1,8}){1,3}", fullmatch=True)
sysctl_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12).map(
    lambda text: " ".join(text.split())
)


def _sysctls(settings: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={settings[name]}" for name in sorted(settings))


def values_of(field: LoadField) -> st.SearchStrategy[object]:
    """Values of a field of the load within its limits, such that a round does not have too many attempts."""
    if field.words is not None:
        return st.sampled_from(field.words)
    if field.unit is Unit.SHARES:
        shares = st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True)
        return shares.map(lambda thousandths: tuple(one / 1000 for one in sorted(thousandths)))
    if field.unit is Unit.SYSCTLS:
        return st.dictionaries(sysctl_names, sysctl_values, max_size=3).map(_sysctls)
    if field.unit is not Unit.COUNT:
        return st.floats(field.low, field.high)
    return st.integers(int(field.low), min(int(field.high), MOST_ROWS // 4))


def _of_one_shape(load: Load) -> Load:
    """The load, without a churn where it has the levels of a profile."""
    return replace(load, churn=None) if load.profile else load


loads = (
    st.fixed_dictionaries({field.name: st.none() | values_of(field) for field in LOAD_FIELDS})
    .map(Load.of)
    .map(_of_one_shape)
)


@st.composite
def specs(draw: st.DrawFn) -> StrategySpec:
    """A strategy with the parameters that it takes; one of another name, as of a talk CSV, with any."""
    name = draw(st.sampled_from([*STRATEGIES]) | words)
    takes = STRATEGIES[name].takes if name in STRATEGIES else None
    values: dict[str, Any] = {
        "window": draw(ports),
        "placement": draw(st.sampled_from(Placement)),
        "retries": draw(st.none() | counts if strategy_of(name).default_retries is None else counts),
        "reuse": draw(st.none() | st.sampled_from(Reuse)),
        "first_port": draw(st.none() | ports),
        "stride": draw(st.none() | st.integers(1, 100)),
    }
    given = {key: value for key, value in values.items() if (draw(st.booleans()) if takes is None else key in takes)}
    if given.get("stride"):
        given["residue"] = draw(st.integers(0, given["stride"] - 1))
        given |= {"window": 1} if "window" in given else {}
    return StrategySpec(name, **given, load=draw(st.just(NO_LOAD) | loads))


def _fitting(plan: Plan) -> Plan:
    """The plan, its strategies made to fit its range and its sources."""
    ports = plan.port_range
    specs = tuple(
        replace(
            spec,
            window=spec.window and min(spec.window, len(ports)),
            first_port=spec.first_port and min(max(spec.first_port, ports.low), ports.high),
            residue=spec.stride and ports.high % spec.stride,
            load=replace(spec.load, sources=spec.load.sources and min(spec.load.sources, len(plan.sources))),
        )
        for spec in plan.strategies
    )
    return replace(plan, strategies=tuple(dict.fromkeys(specs)))


def _plans_of(family: Literal[4, 6]) -> st.SearchStrategy[Plan]:
    hosts = st.ip_addresses(v=family).map(str).filter(is_of_one)
    return st.builds(
        Plan,
        strategies=st.lists(specs(), min_size=1, max_size=3, unique=True).map(tuple),
        connections=st.integers(1, MOST_ROWS // 2),
        port_range=st.tuples(ports, ports).map(lambda pair: PortRange(min(pair), max(pair))),
        sources=st.lists(hosts, min_size=1, max_size=3).map(tuple),
        targets=st.lists(st.builds(Endpoint, hosts, ports), min_size=1, max_size=2).map(tuple),
        listener=st.sampled_from(Listener),
        namespace=st.sampled_from(Namespace),
        seed=counts,
        rounds=st.integers(1, 1000),
        timeout=st.floats(0.001, 86400),
        cpus=st.lists(st.integers(0, 1023), max_size=2).map(tuple),
        start_at_us=st.none() | counts,
        start_every_us=counts,
    ).map(_fitting)


plans = _plans_of(4) | _plans_of(6)

findings = st.builds(
    Finding, texts, st.sampled_from(Severity), texts, texts, st.none() | texts, st.none() | st.integers(1, 1000)
)
workers = st.builds(WorkerReport, counts, counts, counts, counts, counts, counts, st.none() | counts, counts)
reports = st.builds(
    RoundReport,
    settings=st.dictionaries(texts, texts, max_size=2),
    counters=st.dictionaries(texts, counts, max_size=2),
    workers=st.lists(workers, max_size=2).map(tuple),
    held=counts,
    established=counts,
    time_wait=counts,
    steal=st.floats(0, 1),
    engine_rss=counts,
    epoch_us=counts,
)
faults: st.SearchStrategy[ConnbenchError] = st.builds(Interrupted, st.sampled_from([1, 2, 3, 15])) | st.builds(
    lambda kind, message, hint: kind(message, hint),
    st.sampled_from([RunFault, EnvironmentFault, TargetError, OutputError]),
    texts,
    texts,
)


@st.composite
def samples(draw: st.DrawFn, spec: StrategySpec, planned: RoundPlan | None = None) -> Samples:
    """A few attempts of a strategy, each column anywhere between its bounds, no port twice."""
    load = spec.load
    most = load.connections if load.profile is None else len(load.profile.levels) * load.profile.samples
    most = planned.attempts if planned else most
    rows = draw(st.integers(0, 4 if most is None else min(4, most)))
    low, high = ({column.name: getattr(column, end) for column in COLUMNS} for end in ("lowest", "highest"))
    high["client"], high["in_use"] = spec.load.concurrency - 1, 0
    if spec.load.sources:
        high["source"] = spec.load.sources - 1
    if planned:
        high |= {"source": len(planned.sources) - 1, "target": len(planned.plan.targets) - 1}
        high["in_use"] = planned.capacity if spec.load.profile else 0
        low["port"], high["port"] = planned.plan.port_range.low, planned.plan.port_range.high
    columns = {
        c.name: draw(st.lists(st.integers(low[c.name], high[c.name]), min_size=rows, max_size=rows)) for c in COLUMNS
    }
    if spec.stride:
        fitting = spec.port_numbers(PortRange(low["port"] or 1, high["port"]))
        columns["port"] = [port and fitting[port % len(fitting)] for port in columns["port"]]
    seen: set[int] = set()
    for row, (port, number) in enumerate(zip(columns["port"], columns["errno"], strict=True)):
        if number or port in seen:
            columns["port"][row], columns["errno"][row] = 0, number or 99
        elif not port:
            columns["errno"][row] = 99
        seen.add(port)
    if planned and spec.load.churn:
        counts = [len(one) for one in planned.rows_of_clients(spec.phase)]
        free = [client for client, count in enumerate(counts) for _ in range(min(4, count))]
        columns["client"] = [free[-1 - row] for row in range(rows)]
    return samples_class(spec)(**{c.name: np.array(columns[c.name], dtype=c.code) for c in COLUMNS})


@st.composite
def results(draw: st.DrawFn) -> Result:
    """A run with every strategy of its plan, each of one round or two, complete or cut short."""
    plan = draw(plans)
    environment = draw(st.dictionaries(texts, st.none() | counts | texts | st.lists(counts, max_size=2), max_size=3))
    result = Result(plan, {**environment}, draw(st.lists(findings, max_size=2).map(tuple)))
    for spec in plan.phases:
        for number in range(1, draw(st.integers(1, min(2, plan.rounds))) + 1):
            planned = RoundPlan(plan, spec, number)
            attempts = draw(samples(spec, planned))
            fault = draw(st.none() | faults if len(attempts) == planned.attempts else faults)
            result.add(spec, Round(number, attempts, draw(reports), fault))
    return result


host_names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20).filter(
    lambda name: printable(name) == name
)
offsets = st.floats(-1e12, 1e12)


@st.composite
def host_records(draw: st.DrawFn, name: str, *, is_measured: bool) -> HostRecord:
    """What a host of a fleet can leave: a result, whole or with a fault, or a fault alone."""
    runs = results().filter(lambda one: not any(spec.load.profile for spec in one.specs))
    result = replace(draw(runs), name=name) if is_measured else None
    return HostRecord(
        name,
        result,
        draw(st.none() | faults if is_measured else faults),
        left_out=not is_measured and draw(st.booleans()),
        offset_us=draw(st.none() | offsets),
        error_us=draw(st.none() | st.floats(0, 1e12)),
        offsets_us=tuple(draw(st.lists(offsets, max_size=2))),
    )


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """One host to three, of which the last measured something."""
    *others, last = draw(st.lists(host_names, min_size=1, max_size=3, unique=True))
    hosts = [draw(host_records(name, is_measured=draw(st.booleans()))) for name in others]
    return Fleet((*hosts, draw(host_records(last, is_measured=True))), draw(st.booleans()))


def result_facts(result: Result | None) -> object:
    """What a result contains, as `==` compares it; None for none. The sysctls of its namespace are not in it."""
    if result is None:
        return None
    environment = {name: value for name, value in result.environment.items() if name != "namespace_sysctls"}
    rounds = [
        (spec, one.number, one.report, facts(one.samples), fault_facts(one.fault))
        for spec, some in result.rounds.items()
        for one in some
    ]
    return result.plan, environment, result.known, result.origin, rounds


def facts(samples: Samples) -> dict[str, tuple[str, list[float]]]:
    """The columns of samples, their types and values, as `==` compares them."""
    return {name: (values.dtype.str, values.tolist()) for name, values in samples.columns.items()}


def fault_facts(fault: ConnbenchError | None) -> tuple[type, str, str, int] | None:
    """What a fault contains, as `==` compares it."""
    return None if fault is None else (type(fault), fault.message, fault.hint, int(fault.exit_code))


EXAMPLES = int(os.environ.get("CONNBENCH_EXAMPLES", "40"))
"""Examples for each property; a whole result takes a while to draw."""

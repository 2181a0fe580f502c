"""Checks of a result that is read from a file: each value within its limits, and all values consistent.

The readers of JSON and of CSV call the same checks, so a file in one format is refused for the same reasons as in the
other. A value that no run can produce means that the file was changed: it raises. A value that a run produces only in
rare cases becomes a finding. `RENAMED` has the names that earlier versions wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from connbench.draws import Draws
from connbench.findings import Finding, Severity
from connbench.model import (
    DRAWS,
    LOAD_FIELDS,
    MAX_PORT,
    MOST_ROWS,
    Phase,
    Plan,
    Protocol,
    RoundPlan,
    StrategySpec,
    check_one_family,
    parse_ports,
)
from connbench.model.addresses import STEP_WIDTH
from connbench.model.load import Unit
from connbench.model.plan import MOST_EHASH_ENTRIES
from connbench.model.round_report import CONNTRACK_MAX, CONNTRACK_TIMEOUTS
from connbench.model.time_wait import MOST_WAITING, TW_REUSE, TW_REUSE_DELAY
from connbench.results.result import Mask, Numbers, Origin, Result, Round, Samples
from connbench.samples import LONGEST_NS, Column
from connbench.strategies import OPTIONAL_PARAMETERS, PARAMETERS, STRATEGIES

Keys = npt.NDArray[np.int64]

RENAMED = {
    "holders": "workers",
    "lane": "client",
    "lanes": "concurrency",
}
"""Keys of JSON and columns of CSV by the name in files of earlier versions; JSON had those up to schema 4."""

MAX_INT64 = 2**63 - 1
"""The largest whole number in a file, as numpy's int64 holds it: earlier versions took seeds up to this."""

MOST_CHARACTERS = 40
"""Of a value in an error message: a file may contain numbers of thousands of digits."""

PORT_TWICE = "port-twice"
"""Code of the finding that two connections hold one port at once; `Rounds.close` says when that is no error."""

PORT_OUTSIDE = "port-outside"
"""Code of the finding that ports lie outside of the range; `check_rows` says when that is no error."""

CHANGED = "it was changed since it was written"
"""The hint of every error about a value that no run writes."""

MOST_ADDRESSES = 1 << 16
"""Source addresses, or targets, of a plan: the columns `source` and `target` can number as many."""

NUMERIC_SETTINGS = (
    *(TW_REUSE, TW_REUSE_DELAY, MOST_WAITING, STEP_WIDTH, CONNTRACK_MAX, *CONNTRACK_TIMEOUTS.values()),
    "net.ipv4.tcp_ehash_entries",
)
"""Sysctls whose values are numbers. The last is negative if the namespace uses the host's table (ip-sysctl)."""


class ImpossibleRow(ValueError):  # noqa: N818  # it names what is wrong with a file, and is no fault of the program
    """A row that no run writes; `row` counts from 0."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row + 1}: {reason}")
        self.row = row
        self.reason = reason


def shown(value: object) -> str:
    """A value for an error message, shortened to less than a line."""
    is_long = isinstance(value, int) and value.bit_length() > 4 * MOST_CHARACTERS
    text = f"a number of {value.bit_length()} bits" if is_long and isinstance(value, int) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def check_column(column: Column, values: Numbers) -> None:
    """Check that the values of a column are within its limits; NaN is not.

    Raises:
        ImpossibleRow: The first row whose value is not.
    """
    wrong = np.flatnonzero(~((values >= column.lowest) & (values <= column.highest)))
    if len(wrong):
        raise ImpossibleRow(int(wrong[0]), out_of_bounds(column, values[wrong[0]]))


def out_of_bounds(column: Column, value: object) -> str:
    """The message about a value of a column that is not within its limits."""
    return f"{column.name} is {shown(value)}, not {column.lowest} to {column.highest}"


def check_spec(spec: StrategySpec) -> None:
    """Check that the parameters of a strategy and its load are within limits, and that the strategy takes them.

    A strategy that connbench does not know stands for a CSV of port and time. It may have any parameters.

    Raises:
        ValueError: A parameter is not; the message has its name and value.
    """
    _check("window", spec.window, 1, MAX_PORT)
    _check("retries", spec.retries, 0, MAX_INT64)
    _check("first_port", spec.first_port, 1, MAX_PORT)
    _check("stride", spec.stride, 1, MAX_PORT)
    _check("residue", spec.residue, 0, (spec.stride or 1) - 1)
    if (spec.stride is None) != (spec.residue is None):
        raise ValueError(f"{spec.label} has a {'stride' if spec.residue is None else 'residue'} alone")
    if spec.stride is not None and spec.window not in {None, 1}:
        raise ValueError(f"{spec.label} has a stride and windows of {shown(spec.window)} ports")
    for field in LOAD_FIELDS:
        value = field.of(spec.load)
        if value is not None and field.unit is not Unit.WORD and not field.is_within(value):
            raise ValueError(f"{field.name} is {shown(value)}, not {field.bounds or f'{field.low} to {field.high}'}")
    if spec.load.churn and spec.load.profile:
        raise ValueError(f"{spec.label} has a churn and levels")
    for phase, part in ((Phase.CHURN, spec.load.churn), (Phase.PROFILE, spec.load.profile)):
        if spec.phase is phase and part is None:
            raise ValueError(f"{spec.label} has a phase {phase} and no {'levels' if phase is Phase.PROFILE else phase}")
    if spec.name in STRATEGIES:
        _check_parameters(spec)


def _check_parameters(spec: StrategySpec) -> None:
    strategy = spec.traits
    for name in PARAMETERS:
        value = getattr(spec, name)
        if value is not None and name not in strategy.takes:
            raise ValueError(f"{spec.name} has a {name}, {shown(value)}, which it does not take")
        # Without --retries, a strategy that draws ports draws until one is free.
        may_lack = name in OPTIONAL_PARAMETERS or (name == "retries" and spec.default_retries is None)
        if value is None and name in strategy.takes and not may_lack:
            raise ValueError(f"{spec.name} has no {name}")


def check_plan(plan: Plan) -> None:
    """Check that the numbers of a plan are within limits.

    Raises:
        ValueError: A number is not; the message has its name and value.
    """
    for spec in plan.strategies:
        check_spec(spec)
        if spec.phase is not Phase.FILL:
            raise ValueError(f"{spec.label} is planned with a phase {spec.phase}")
        _check(f"window of {spec.label}", spec.window, 1, len(plan.port_range))
        _check(f"first port of {spec.label}", spec.first_port, plan.port_range.low, plan.port_range.high)
        _check(f"sources of {spec.label}", spec.load.sources, 1, len(plan.sources))
    if len(set(plan.strategies)) < len(plan.strategies):
        raise ValueError("a strategy is planned twice")
    _check("connections", plan.connections, 0, MOST_ROWS)
    _check("ehash_entries", plan.ehash_entries, 1, MOST_EHASH_ENTRIES)
    _check("reserved", plan.reserved, 0, len(plan.port_range))
    _check("number of sources", len(plan.sources), 1, MOST_ADDRESSES)
    _check("number of targets", len(plan.targets), 1, MOST_ADDRESSES)
    check_one_family(plan.sources + tuple(target.host for target in plan.targets))
    _check("rounds", plan.rounds, 1, MAX_INT64)
    _check("seed", plan.seed, 0, MAX_INT64)
    for target in plan.targets:
        _check("target port", target.port, 1, MAX_PORT)
    hosts = {target.host for target in plan.targets}
    for name in plan.names:
        _check("addresses of a name", name.addresses, 1, MAX_INT64)
        if name.address not in hosts:
            raise ValueError(f"a name was resolved to {shown(name.address)}, which is no target")
    for cpu in plan.cpus:
        _check("cpu", cpu, 0, MAX_INT64)
    _check("delay_ms", plan.delay_ms, 0, LONGEST_NS // 10**6)
    _check("timeout", plan.timeout, 0, LONGEST_NS // 10**9)
    _check("start_at_us", plan.start_at_us, 0, MAX_INT64)
    _check("start_every_us", plan.start_every_us, 0, MAX_INT64)
    for spec in plan.strategies:
        planned = RoundPlan(plan, spec, 1)
        _check(f"ports of {spec.label}", planned.ports_each, 1, MAX_PORT)
        _check(f"attempts of {spec.label}", planned.rows, 0, MOST_ROWS)


def check_numbers(name: str, values: Iterable[float | None], low: int, high: int) -> None:
    """Check that numbers are within limits, both inclusive; None stands for a number that is not known.

    Raises:
        ValueError: A number is not; the message has `name` and the value.
    """
    for value in values:
        _check(name, value, low, high)


def check_settings(settings: Mapping[str, str]) -> None:
    """Check that the sysctls of a round have numbers or ports where they should.

    Raises:
        ValueError: A sysctl does not; the message has its name and value.
    """
    for name in NUMERIC_SETTINGS:
        value = settings.get(name)
        if value and not re.fullmatch(r"-?\d{1,18}" if name == NUMERIC_SETTINGS[-1] else r"\d{1,18}", value, re.ASCII):
            raise ValueError(f"{name} is {shown(repr(value))}, which is not a number")
    parse_ports(settings.get("net.ipv4.ip_local_reserved_ports", ""))


class Rounds:
    """Checks the rounds of a file and adds them to its result.

    For each round call `open` before its rows are read, then `add`; call `close` after the last round.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        self._phases = frozenset(result.plan.phases) if result.plan else None
        self._seen: dict[StrategySpec, set[int]] = {}

    def open(self, spec: StrategySpec, number: int) -> None:
        """Check that the result can have this round.

        Raises:
            ValueError: The plan has no such strategy or no such round, or the result has the round already.
        """
        plan = self.result.plan
        if spec not in self._seen:
            check_spec(spec)
            if spec.load.profile and spec.phase is not Phase.PROFILE:
                raise ValueError(f"{spec.label} has levels and a phase {spec.phase}")
            if self._phases is not None and spec not in self._phases:
                raise ValueError(f"{spec.label} was measured and not planned")
        _check("round", number, 1, plan.rounds if plan else MAX_INT64)
        seen = self._seen.setdefault(spec, set())
        if number in seen:
            raise ValueError(f"round {number} of {spec.label} occurs twice")
        seen.add(number)

    def add(self, spec: StrategySpec, measured: Round) -> None:
        """Check the attempts of a round that was opened, and add it to the result.

        Raises:
            ImpossibleRow: No run writes one of its rows.
            ValueError: It has too many attempts, or too few.
        """
        plan = self.result.plan
        planned = RoundPlan(plan, spec, measured.number) if plan else None
        _check_attempts(spec, measured, planned)
        check_rows(measured.samples, spec, planned)
        self.result.add(spec, measured)

    def close(self) -> None:
        """Look for ports outside of the range and for ports that two connections hold at once, in all rounds.

        A finding says so if somebody else can be the cause: the other end closed a connection early, so that the kernel
        gave its port away again.

        Raises:
            ValueError: Two connections hold a port, and the other end closed none.
        """
        result = self.result
        if result.origin is Origin.TALK_CSV:
            return  # it does not name source and target, and a port may be used once for each pair of them
        for spec, rounds in result.rounds.items():
            if spec.phase is Phase.CHURN and result.plan is None:
                continue  # without the plan's seed it is not known which connections were replaced
            filling = _filling(result, spec) if spec.phase is Phase.CHURN else {}
            for measured in rounds:
                planned = RoundPlan(result.plan, spec, measured.number) if result.plan else None
                if planned:
                    self._find_ports_outside(planned, measured)
                if spec.phase is Phase.CHURN and spec.load.in_flight and measured.fault:
                    continue  # attempts without an outcome are left out, so it is not known which ones the others are
                port = port_twice(spec, measured.samples, planned, filling.get(measured.number))
                if port is not None:
                    self._add_port_twice(spec, measured, port)

    def _find_ports_outside(self, planned: RoundPlan, measured: Round) -> None:
        """Add a finding for ports that `check_rows` accepts."""
        outside = int(_outside(measured.samples, planned).sum())
        if outside:
            self._add_finding(
                PORT_OUTSIDE,
                f"{outside} of the ports are outside of the range {planned.plan.port_range}:"
                " somebody changed it in mid-run, or the file was changed",
                "measure again, and leave net.ipv4.ip_local_port_range as it is",
                planned.strategy,
                planned.number,
            )

    def _add_finding(self, code: str, message: str, advice: str, spec: StrategySpec, number: int) -> None:
        found = Finding(code, Severity.INVALID, message, advice, spec.label, number)
        if found not in self.result.known:  # a file that was read and written again has it already
            self.result.known += (found,)

    def _add_port_twice(self, spec: StrategySpec, measured: Round, port: int) -> None:
        """Raise if only connbench closed connections; otherwise add a finding."""
        message = f"two open connections from one source to one target have port {port}"
        report = measured.report
        # Of a churn nothing is certain: an earlier version of connbench may have drawn other connections to replace.
        is_known = self.result.plan is not None and measured.fault is None and spec.phase is Phase.FILL
        is_kept = report.established >= report.held or spec.load.protocol is Protocol.UDP
        if is_known and is_kept:
            raise ValueError(f"round {measured.number} of {spec.label}: {message}")
        self._add_finding(
            PORT_TWICE,
            f"{message}: the other end has closed a connection, or the file was changed",
            "measure again, against a listener that keeps its connections",
            spec,
            measured.number,
        )


def _check_attempts(spec: StrategySpec, measured: Round, planned: RoundPlan | None) -> None:
    """Check that a round has as many attempts as were planned; a round with a fault may have fewer."""
    attempts = len(measured.samples)
    name = f"round {measured.number} of {spec.label}"
    if not attempts and measured.fault is None:
        raise ValueError(f"{name} has no attempt, and no fault that says why")
    load = spec.load
    if planned:
        most: int | None = planned.attempts
    elif spec.phase is Phase.CHURN:
        most = load.churn.replacements if load.churn else None
    elif load.profile:
        most = len(load.profile.levels) * load.profile.samples
    else:
        most = load.connections
    if most is not None and attempts > most:
        raise ValueError(f"{name} has {attempts} attempts, and {most} were planned")
    if planned and attempts < planned.attempts and measured.fault is None:
        raise ValueError(f"{name} has {attempts} of {most} attempts, and no fault that says why")


def check_rows(samples: Samples, spec: StrategySpec, planned: RoundPlan | None) -> None:
    """Check that each row of a round is consistent in itself and with the plan.

    Raises:
        ImpossibleRow: The first row that is not.
    """
    port = samples.port
    _check_rows(
        samples.failed == (port != 0),
        lambda row: (
            f"port is {port[row]} and errno is {samples.errno[row]}: a failed attempt has no port"
            if port[row]
            else "the attempt has neither a port nor an error"
        ),
    )
    load = spec.load
    for name, most in (
        ("source", len(planned.sources) if planned else load.sources),
        ("target", len(planned.plan.targets) if planned else None),
        ("client", load.concurrency),
    ):
        values = getattr(samples, name)
        if most is not None:
            _check_rows(values >= most, _beyond(name, values, most))
    if planned or not load.profile:
        most = planned.capacity if planned and load.profile else 0
        _check_rows(samples.in_use > most, lambda row: f"in_use is {samples.in_use[row]}, not 0 to {most}")
    # In the host's namespace somebody may change the range during the run; a port that connbench names is always in it.
    is_certain = spec.traits.chooses_port or (planned is not None and planned.plan.namespace.is_own)
    stride, residue = spec.stride, spec.residue
    if is_certain and stride is not None:
        _check_rows(
            (port != 0) & (port % stride != residue),
            lambda row: f"port is {port[row]}, and the strategy takes those with port % {stride} = {residue}",
        )
    if is_certain and planned:
        ports = planned.plan.port_range
        _check_rows(
            _outside(samples, planned),
            lambda row: f"port is {port[row]}, and the range is {ports}",
        )


def _outside(samples: Samples, planned: RoundPlan) -> Mask:
    ports = planned.plan.port_range
    outside: Mask = (samples.port != 0) & ((samples.port < ports.low) | (samples.port > ports.high))
    return outside


def _beyond(name: str, values: Numbers, most: int) -> Callable[[int], str]:
    return lambda row: f"{name} is {values[row]}, and there are {most}"


def _check_rows(wrong: Mask, reason: Callable[[int], str]) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ImpossibleRow(row, reason(row))


def _filling(result: Result, spec: StrategySpec) -> dict[int, Samples]:
    """The attempts of the filling before a churn, by the number of the round."""
    fill = replace(spec, phase=Phase.FILL)
    return {measured.number: measured.samples for measured in result.rounds.get(fill, ())}


STILL_HELD = MAX_INT64
"""The end of a connection that stays open to the end of its phase."""


def port_twice(
    spec: StrategySpec, samples: Samples, planned: RoundPlan | None, filling: Samples | None = None
) -> int | None:
    """Find a port that two connections of one source use at once; to one target, if each target has its own ports.

    Args:
        spec: The strategy, in the phase of the samples.
        samples: The attempts of one phase of a round.
        planned: The round; a churn needs it, because its seed draws the connections that are replaced.
        filling: The attempts of the filling before a churn.

    Returns:
        The lowest such port; None if there is none, for a profile, which closes each connection at once, and for UDP
        whose sockets share ports: nothing keeps two of them from having the same target.
    """
    if spec.phase is Phase.PROFILE or spec.shares_4_tuples:
        return None
    if spec.phase is Phase.FILL or planned is None:
        key = _key(spec, samples)[~samples.failed]
        key.sort()
        twice = key[1:][key[1:] == key[:-1]]
    else:
        # What a churn replaced follows from the seed, by rules that files of earlier releases did not have.
        known = planned.plan.draws == DRAWS
        twice = _twice_in_churn(spec, samples, planned, filling) if known else np.empty(0, dtype=np.int64)
    return int(twice[0] & MAX_PORT) if len(twice) else None


def _key(spec: StrategySpec, samples: Samples) -> Keys:
    """What identifies an open connection, as one number: source, port, and the target if each has its own ports."""
    source, port, target = (one.astype(np.int64) for one in (samples.source, samples.port, samples.target))
    return target << 32 | source << 16 | port if spec.has_ports_per_target else source << 16 | port


def _twice_in_churn(spec: StrategySpec, samples: Samples, planned: RoundPlan, filling: Samples | None) -> Keys:
    """The keys that two connections of one client have at once, or any two connections at the end.

    The samples do not say in which order different clients close and open connections.
    """
    draws = Draws.of(planned)
    all_keys, ends, twice = [], [], []
    rows_of_clients = zip(planned.rows_of_clients(Phase.FILL), planned.rows_of_clients(Phase.CHURN), strict=True)
    for client, (fill_rows, churn_rows) in enumerate(rows_of_clients):
        opened = filling.chosen(filling.client == client) if filling is not None else samples.chosen(samples.client < 0)
        made = samples.chosen(samples.client == client)
        if len(made) > len(churn_rows) or len(opened) > len(fill_rows):
            raise ValueError(f"client {client} of {spec.label} has more attempts than were planned for it")
        rows = np.arange(churn_rows.start, churn_rows.start + len(made), dtype=np.uint64)
        replaced = draws.replaced(rows, fill_rows).astype(np.int64)
        slot = np.concatenate((np.arange(len(opened)), replaced - fill_rows.start))
        key = np.concatenate((_key(spec, opened), _key(spec, made)))
        is_held = ~np.concatenate((opened.failed, made.failed))
        end = np.full(len(slot), STILL_HELD)
        by_slot = np.argsort(slot, kind="stable")
        follows = slot[by_slot[1:]] == slot[by_slot[:-1]]
        end[by_slot[:-1][follows]] = by_slot[1:][follows]
        begin = np.arange(len(slot))[is_held]
        key, end = key[is_held], end[is_held]
        order = np.lexsort((begin, key))
        overlaps = (key[order[1:]] == key[order[:-1]]) & (begin[order[1:]] < end[order[:-1]])
        twice.append(key[order[1:]][overlaps])
        all_keys.append(key)
        ends.append(end)
    left = np.sort(np.concatenate(all_keys)[np.concatenate(ends) == STILL_HELD])
    return np.concatenate((*twice, left[1:][left[1:] == left[:-1]]))


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name} is {shown(value)}, not {low} to {high}")

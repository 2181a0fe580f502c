"""What no run can have left behind: one model of a result for every file that is read, whatever its form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from connbench.draws import draw_replaced
from connbench.findings import Finding, Severity
from connbench.model import (
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
from connbench.model.load import Unit
from connbench.model.time_wait import MOST_WAITING, TW_REUSE, TW_REUSE_DELAY
from connbench.results.result import Mask, Numbers, Origin, Result, Round, Samples
from connbench.samples import LONGEST_NS, Column
from connbench.strategies import PARAMETERS, STRATEGIES

Keys = npt.NDArray[np.int64]

LARGEST = 2**63 - 1
"""The largest whole number of a file: options once took seeds up to here."""

MOST_CHARACTERS = 40
"""Of a value that an error shows: a file may hold numbers of thousands of digits."""

PORT_TWICE = "port-twice"
"""Code of the finding that a port is held twice at once, where that is possible."""

PORT_OUTSIDE = "port-outside"
"""Code of the finding that ports lie outside of the range, where that is possible."""

CHANGED = "it was changed since it was written"
"""The hint of every error about a file that no run can have written."""

MOST_ADDRESSES = 1 << 16
"""Source addresses or targets of a plan: as many as the columns `source` and `target` can tell apart."""

NUMERIC_SETTINGS = (TW_REUSE, TW_REUSE_DELAY, MOST_WAITING, "net.ipv4.tcp_ehash_entries")
"""Sysctls that are read as numbers; the last has a minus where the table is shared with the host (ip-sysctl)."""


class ImpossibleRow(ValueError):  # noqa: N818  # a row is at fault, and not the program
    """A row that no run writes; `row` counts from 0."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row + 1}: {reason}")
        self.row = row
        self.reason = reason


def shown(value: object) -> str:
    """A value as an error shows it: not longer than a line."""
    is_long = isinstance(value, int) and value.bit_length() > 4 * MOST_CHARACTERS
    text = f"a number of {value.bit_length()} bits" if is_long and isinstance(value, int) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def check_column(column: Column, values: Numbers) -> None:
    """Make sure that the values of a column lie within its limits; NaN does not.

    Raises:
        ImpossibleRow: A value does not, with the first such row.
    """
    wrong = np.flatnonzero(~((values >= column.lowest) & (values <= column.highest)))
    if len(wrong):
        raise ImpossibleRow(int(wrong[0]), out_of_bounds(column, values[wrong[0]]))


def out_of_bounds(column: Column, value: object) -> str:
    """What is wrong with a value of a column."""
    return f"{column.name} is {shown(value)}, not {column.lowest} to {column.highest}"


def check_spec(spec: StrategySpec) -> None:
    """Make sure that a strategy's parameters lie where a run's do, and that it takes them.

    A strategy of another name than connbench's stands for a CSV of port and time: nothing is known of its parameters.

    Raises:
        ValueError: One does not, with its name and value.
    """
    _check("window", spec.window, 1, MAX_PORT)
    _check("retries", spec.retries, 0, LARGEST)
    for field in LOAD_FIELDS:
        if field.unit is not Unit.WORD:
            _check(field.name, field.of(spec.load), field.low, field.high)
    if spec.phase is Phase.CHURN and spec.load.churn is None:
        raise ValueError(f"{spec.label} has a phase {spec.phase} and no churn")
    if spec.name in STRATEGIES:
        _check_parameters(spec)


def _check_parameters(spec: StrategySpec) -> None:
    strategy = spec.traits
    for name in PARAMETERS:
        value = getattr(spec, name)
        if value is not None and name not in strategy.takes:
            raise ValueError(f"{spec.name} has a {name}, {shown(value)}, which it does not take")
        # Without --retries, a strategy that draws ports draws until one is free.
        is_unlimited = name == "retries" and strategy.default_retries is None
        if value is None and name in strategy.takes and not is_unlimited:
            raise ValueError(f"{spec.name} has no {name}")


def check_plan(plan: Plan) -> None:
    """Make sure that a plan's numbers lie where a run's do.

    Raises:
        ValueError: One does not, with its name and value.
    """
    for spec in plan.strategies:
        check_spec(spec)
        if spec.phase is not Phase.FILL:
            raise ValueError(f"{spec.label} is planned with a phase {spec.phase}")
        _check(f"window of {spec.label}", spec.window, 1, len(plan.port_range))
        _check(f"sources of {spec.label}", spec.load.sources, 1, len(plan.sources))
    if len(set(plan.strategies)) < len(plan.strategies):
        raise ValueError("a strategy is planned twice")
    _check("connections", plan.connections, 0, MOST_ROWS)
    _check("reserved", plan.reserved, 0, len(plan.port_range))
    _check("number of sources", len(plan.sources), 1, MOST_ADDRESSES)
    _check("number of targets", len(plan.targets), 1, MOST_ADDRESSES)
    check_one_family(plan.sources + tuple(target.host for target in plan.targets))
    _check("rounds", plan.rounds, 1, LARGEST)
    _check("seed", plan.seed, 0, LARGEST)
    for target in plan.targets:
        _check("target port", target.port, 1, MAX_PORT)
    for cpu in plan.cpus:
        _check("cpu", cpu, 0, LARGEST)
    _check("delay_ms", plan.delay_ms, 0, LONGEST_NS // 10**6)
    _check("timeout", plan.timeout, 0, LONGEST_NS // 10**9)
    for spec in plan.strategies:
        planned = RoundPlan(plan, spec, 1)
        _check(f"ports of {spec.label}", planned.ports_each, 1, MAX_PORT)
        _check(f"attempts of {spec.label}", planned.rows, 0, MOST_ROWS)


def check_numbers(name: str, values: Iterable[float | None], low: int, high: int) -> None:
    """Make sure that numbers of a round's report lie within limits, both inclusive; None is not known.

    Raises:
        ValueError: One does not, with the name and its value.
    """
    for value in values:
        _check(name, value, low, high)


def check_settings(settings: Mapping[str, str]) -> None:
    """Make sure that the sysctls of a round that are numbers or ports are such.

    Raises:
        ValueError: One is not, with its name and value.
    """
    for name in NUMERIC_SETTINGS:
        value = settings.get(name)
        if value and not re.fullmatch(r"-?\d{1,18}" if name == NUMERIC_SETTINGS[-1] else r"\d{1,18}", value, re.ASCII):
            raise ValueError(f"{name} is {shown(repr(value))}, which is no number")
    parse_ports(settings.get("net.ipv4.ip_local_reserved_ports", ""))


class Rounds:
    """The rounds of a file, each checked before it is added to the result."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self._phases = frozenset(result.plan.phases) if result.plan else None
        self._seen: dict[StrategySpec, set[int]] = {}

    def open(self, spec: StrategySpec, number: int) -> None:
        """Make sure that a round may follow, before its rows are looked at.

        Raises:
            ValueError: The plan has no such strategy or no such round, or the round is there already.
        """
        plan = self.result.plan
        if spec not in self._seen:
            check_spec(spec)
            if self._phases is not None and spec not in self._phases:
                raise ValueError(f"{spec.label} was measured and not planned")
        _check("round", number, 1, plan.rounds if plan else LARGEST)
        seen = self._seen.setdefault(spec, set())
        if number in seen:
            raise ValueError(f"round {number} of {spec.label} comes twice")
        seen.add(number)

    def add(self, spec: StrategySpec, measured: Round) -> None:
        """Add a round that was opened.

        Raises:
            ImpossibleRow: One of its rows is none that a run leaves behind.
            ValueError: So are they together.
        """
        plan = self.result.plan
        planned = RoundPlan(plan, spec, measured.number) if plan else None
        _check_attempts(spec, measured, planned)
        check_rows(measured.samples, spec, planned)
        self.result.add(spec, measured)

    def close(self) -> None:
        """Look for ports that are held twice at once, once all rounds are there; adds a finding where they can be.

        Raises:
            ValueError: A port is, and cannot have been.
        """
        result = self.result
        if result.origin is Origin.TALK_CSV:
            return  # it does not say which source and target a port is of
        for spec, rounds in result.rounds.items():
            if spec.phase is Phase.CHURN and result.plan is None:
                continue  # which connections it replaced, the plan's seed decides
            filling = {} if spec.phase is Phase.FILL else _filling(result, spec)
            for measured in rounds:
                planned = RoundPlan(result.plan, spec, measured.number) if result.plan else None
                if planned:
                    self._note_ports_outside(planned, measured)
                port = port_twice(spec, measured.samples, planned, filling.get(measured.number))
                if port is not None:
                    self._note_port_twice(spec, measured, port)

    def _note_ports_outside(self, planned: RoundPlan, measured: Round) -> None:
        """Tell of ports that `check_rows` lets pass."""
        outside = int(_outside(measured.samples, planned).sum())
        if outside:
            self._note(
                PORT_OUTSIDE,
                f"{outside} of the ports are outside of the range {planned.plan.port_range}:"
                " somebody changed it in mid-run, or the file was changed",
                "measure again, and leave net.ipv4.ip_local_port_range as it is",
                planned.strategy,
                planned.number,
            )

    def _note(self, code: str, message: str, advice: str, spec: StrategySpec, number: int) -> None:
        found = Finding(code, Severity.INVALID, message, advice, spec.label, number)
        if found not in self.result.known:  # as it is in a file that was read and written again
            self.result.known += (found,)

    def _note_port_twice(self, spec: StrategySpec, measured: Round, port: int) -> None:
        """Refuse it if nobody closed a connection but connbench; else the port may have been free again."""
        message = f"port {port} is held twice at once by one source towards one target"
        report = measured.report
        # Which connections churn replaced is drawn again here, and another version of connbench may draw others.
        is_known = self.result.plan is not None and measured.fault is None and spec.phase is Phase.FILL
        is_kept = report.established >= report.held or spec.load.protocol is Protocol.UDP
        if is_known and is_kept:
            raise ValueError(f"round {measured.number} of {spec.label}: {message}")
        self._note(
            PORT_TWICE,
            f"{message}: the other end has closed a connection, or the file was changed",
            "measure again, against a listener that keeps its connections",
            spec,
            measured.number,
        )


def _check_attempts(spec: StrategySpec, measured: Round, planned: RoundPlan | None) -> None:
    """Make sure that a round has as many attempts as were planned, and fewer only if a fault says why."""
    attempts = len(measured.samples)
    name = f"round {measured.number} of {spec.label}"
    if not attempts and measured.fault is None:
        raise ValueError(f"{name} has no attempt, and no fault that says why")
    load = spec.load
    if planned:
        most: int | None = planned.attempts
    elif spec.phase is Phase.CHURN:
        most = load.churn.replacements if load.churn else None
    else:
        most = load.connections
    if most is not None and attempts > most:
        raise ValueError(f"{name} has {attempts} attempts, and {most} were planned")
    if planned and attempts < planned.attempts and measured.fault is None:
        raise ValueError(f"{name} has {attempts} of {most} attempts, and no fault that says why")


def check_rows(samples: Samples, spec: StrategySpec, planned: RoundPlan | None) -> None:
    """Make sure that the columns of a round go together, row by row, and with the plan.

    Raises:
        ImpossibleRow: They do not.
    """
    port = samples.port
    _refuse(
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
            _refuse(values >= most, _beyond(name, values, most))
    # In the host's namespace the range may change while it is measured, but not for a port that is asked for.
    if planned and (planned.plan.namespace.is_own or spec.traits.draws_port):
        ports = planned.plan.port_range
        _refuse(
            _outside(samples, planned),
            lambda row: f"port is {port[row]}, and the range is {ports}",
        )


def _outside(samples: Samples, planned: RoundPlan) -> Mask:
    ports = planned.plan.port_range
    outside: Mask = (samples.port != 0) & ((samples.port < ports.low) | (samples.port > ports.high))
    return outside


def _beyond(name: str, values: Numbers, most: int) -> Callable[[int], str]:
    return lambda row: f"{name} is {values[row]}, and there are {most}"


def _refuse(wrong: Mask, reason: Callable[[int], str]) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ImpossibleRow(row, reason(row))


def _filling(result: Result, spec: StrategySpec) -> dict[int, Samples]:
    """What the filling before a churn has left behind, by the round's number."""
    fill = replace(spec, phase=Phase.FILL)
    return {measured.number: measured.samples for measured in result.rounds.get(fill, ())}


STILL_HELD = LARGEST
"""When a connection ends that is held to the end of its phase."""


def port_twice(
    spec: StrategySpec, samples: Samples, planned: RoundPlan | None, filling: Samples | None = None
) -> int | None:
    """A port that two connections of one source hold at once, towards one target where it is taken for one alone.

    Args:
        spec: The strategy, in the phase of the samples.
        samples: The attempts of a round's phase.
        planned: The round; only of churn is it needed, which replaces connections that its seed draws.
        filling: The attempts of the filling before a churn.

    Returns:
        The lowest such port; None where there is none.
    """
    if spec.phase is Phase.FILL or planned is None:
        key = _key(spec, samples)[~samples.failed]
        key.sort()
        twice = key[1:][key[1:] == key[:-1]]
    else:
        twice = _twice_in_churn(spec, samples, planned, filling)
    return int(twice[0] & MAX_PORT) if len(twice) else None


def _key(spec: StrategySpec, samples: Samples) -> Keys:
    """What no two connections have in common, as one number: source and port, and the target where it matters."""
    source, port, target = (one.astype(np.int64) for one in (samples.source, samples.port, samples.target))
    return target << 32 | source << 16 | port if spec.has_ports_per_target else source << 16 | port


def _twice_in_churn(spec: StrategySpec, samples: Samples, planned: RoundPlan, filling: Samples | None) -> Keys:
    """The keys of connections that overlap within a lane, and of those left at the end whichever lane has them.

    When lanes close and open beside each other cannot be told from the samples.
    """
    victims = np.frombuffer(draw_replaced(planned), np.uint32).astype(np.int64)
    all_keys, ends, twice = [], [], []
    lanes = zip(planned.rows_of_clients(Phase.FILL), planned.rows_of_clients(Phase.CHURN), strict=True)
    for lane, (fill_rows, churn_rows) in enumerate(lanes):
        opened = filling.chosen(filling.client == lane) if filling is not None else samples.chosen(samples.client < 0)
        made = samples.chosen(samples.client == lane)
        if len(made) > len(churn_rows) or len(opened) > len(fill_rows):
            raise ValueError(f"lane {lane} of {spec.label} has more attempts than were planned for it")
        first = churn_rows.start - planned.connections
        slot = np.concatenate((np.arange(len(opened)), victims[first : first + len(made)] - fill_rows.start))
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

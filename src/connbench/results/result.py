"""A `Result` is everything that a run measured. Analysis, reports and files read it and nothing else of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from connbench import samples
from connbench.errors import ConnbenchError
from connbench.findings import Finding
from connbench.model import Clock, Phase, Plan, Protocol, RoundPlan, Spread, StrategySpec
from connbench.model.round_report import RoundReport
from connbench.samples import GIVEN_UP, AttemptColumns

Numbers = npt.NDArray[np.integer | np.floating]
Mask = npt.NDArray[np.bool_]

PARTIAL = "partial"
"""Code of the finding that a run or a round ended early."""

UNIT = "unit"
"""Code of the finding that the times of a file may have another unit than connbench assumed."""


@dataclass(frozen=True, eq=False)
class Samples(AttemptColumns[Numbers]):
    """The attempts of one round or of several: an array for each column, all of one length.

    Times are whole ns, except those from a CSV of port and time, which keep their fractions.
    """

    @classmethod
    def of(cls, **known: Numbers) -> Self:
        """Attempts of which some columns are known, at least one; each other column has its lowest value throughout."""
        rows = len(next(iter(known.values())))
        unknown = {c.name: np.full(rows, c.lowest, c.code) for c in samples.COLUMNS if c.name not in known}
        return cls(**unknown, **known)

    @classmethod
    def from_memory(cls, descriptor: int, total: int, rows: range) -> Self:
        """Copy the finished attempts of all clients out of shared memory, in the order in which they began.

        Args:
            descriptor: The memory.
            total: The number of attempts that it was created for.
            rows: The attempts to copy.
        """
        memory = samples.attach(descriptor, total)
        begin = samples.offsets(total)
        arrays = {
            column.name: np.frombuffer(memory, column.code, total, begin[column.name])[rows.start : rows.stop]
            for column in samples.COLUMNS
        }
        done = np.flatnonzero(arrays["tries"])
        order = done[np.argsort(arrays["started_ns"][done], kind="stable")]
        return cls(**{name: array[order] for name, array in arrays.items()})

    @staticmethod
    def pooled(parts: list[Samples]) -> Samples:
        """The attempts of several rounds of one strategy, one round after the other."""
        if len(parts) == 1:
            return parts[0]
        kind = type(parts[0])
        return kind(**{name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns})

    def chosen(self, mask: Mask) -> Samples:
        """The attempts for which the mask is true; these samples themselves if it is true for all."""
        rows = np.flatnonzero(mask)  # once for all columns: by a mask numpy takes five times as long
        if len(rows) == len(self):
            return self
        return type(self)(**{name: values[rows] for name, values in self.columns.items()})

    def between(self, first: int, end: int) -> Samples:
        """The attempts from the position `first` on, counted from 0, and before `end`."""
        return type(self)(**{name: values[first:end] for name, values in self.columns.items()})

    @property
    def columns(self) -> dict[str, Numbers]:
        """Each column's values by its name, in the order of files."""
        return {column.name: getattr(self, column.name) for column in samples.COLUMNS}

    def __len__(self) -> int:
        return len(self.tries)

    @cached_property
    def failed(self) -> Mask:
        """Which attempts have no connection: a mask of all attempts, as the others here."""
        return np.not_equal(self.errno, 0)

    @cached_property
    def given_up(self) -> Mask:
        """Which attempts failed because they took longer than `--give-up-after`."""
        return np.equal(self.errno, GIVEN_UP)

    @cached_property
    def sent(self) -> Mask:
        """Which attempts have a handshake that was timed by itself: those of `--in-flight` that sent a SYN."""
        return np.greater(self.handshake_ns, 0)

    @cached_property
    def calls_ns(self) -> Numbers:
        """The acquire time without a handshake that was timed by itself: how long the program is busy, in ns."""
        return self.acquire_ns - self.handshake_ns

    @cached_property
    def bind_ns(self) -> Numbers:
        """The time of all calls but the last connect(), in ns: setsockopt() and bind(), of every try."""
        return self.calls_ns - self.connect_ns

    @cached_property
    def is_acquired(self) -> Mask:
        """Which attempts have an acquire time: all but those of a CSV of port and time."""
        return np.greater(self.acquire_ns, 0)

    @cached_property
    def latency_ns(self) -> Numbers:
        """The talk's latency, in ns: the time of connect(), or of bind() where that failed."""
        return np.where(self.connect_ns > 0, self.connect_ns, self.prepare_ns)

    @property
    def searched_ns(self) -> Numbers:
        """The time that becomes longer where the port search does, in ns: the latency."""
        return self.latency_ns

    @cached_property
    def even(self) -> Mask:
        """Which attempts have a connection from an even port."""
        even: Mask = ~self.failed & (self.port % 2 == 0)
        return even

    @cached_property
    def odd(self) -> Mask:
        """Which attempts have a connection from an odd port."""
        odd: Mask = ~self.failed & (self.port % 2 == 1)
        return odd

    @property
    def wall_ns(self) -> int:
        """The time from the begin of the first attempt to the last outcome, for the attempts of one round.

        With several clients the attempt that began last need not be the last to end.
        """
        return int((self.started_ns + self.acquire_ns).max() - self.started_ns[0]) if len(self) else 0


@dataclass(frozen=True, eq=False)
class DatagramSamples(Samples):
    """Attempts of UDP. The kernel searches in bind(), or in the connect() of an unbound socket, so both count."""

    @cached_property
    def latency_ns(self) -> Numbers:
        """The acquire time, in ns."""
        return self.acquire_ns


@dataclass(frozen=True, eq=False)
class BoundSamples(Samples):
    """Attempts of TCP where the kernel searches in bind(): connect() is short, and its latency shows no search."""

    @property
    def searched_ns(self) -> Numbers:
        """The acquire time without a handshake that was timed by itself, in ns."""
        return self.calls_ns


def samples_class(spec: StrategySpec) -> type[Samples]:
    """The class for the attempts of a strategy."""
    if spec.searches_in_bind:
        return BoundSamples
    return DatagramSamples if spec.load.protocol is Protocol.UDP else Samples


@dataclass(frozen=True, eq=False)
class Round:
    """One round of one strategy.

    Attributes:
        number: From 1.
        samples: The attempts that finished.
        report: What the engine reported; empty if only the samples are known, as of a CSV file.
        fault: What ended the round early; None if it came to its end.
    """

    number: int
    samples: Samples
    report: RoundReport = field(default_factory=RoundReport)
    fault: ConnbenchError | None = None


@dataclass(frozen=True)
class StrategyResult:
    """A strategy and its rounds, at least one.

    Attributes:
        strategy: The strategy, with its load and phase.
        rounds: In the order of their numbers.
        capacity: The number of connections that the ports of all source addresses allow; None if it is not known.
        ports_each: The ports of one source address, or of one source and one target if each target has ports of its
            own; None if that is not known.
        spread: The order in which source addresses are used; None if it is not known.
    """

    strategy: StrategySpec
    rounds: tuple[Round, ...]
    capacity: int | None = None
    ports_each: int | None = None
    spread: Spread | None = None

    @property
    def samples(self) -> Samples:
        """The attempts of all rounds. Each access copies them."""
        return Samples.pooled([r.samples for r in self.rounds])

    @property
    def is_partial(self) -> bool:
        """Whether a fault or an interruption ended a round early."""
        return any(r.fault for r in self.rounds)


class Origin(StrEnum):
    """The source of a result, which decides what is known of it."""

    RUN = "run"
    """A run, or its JSON file: everything is known."""
    CSV = "connbench CSV"
    """A CSV of attempts: no plan, no environment, no counters."""
    TALK_CSV = "talk CSV"
    """A CSV of the port and the latency of each attempt."""


@dataclass
class Result:
    """A run, complete or partial.

    Attributes:
        plan: What the run was to measure; None if the file does not contain it.
        environment: What `connbench.host.environment.collect` found on the machine.
        known: The findings that were known before the measurement. `connbench.analysis.soundness` computes all others
            from the samples.
        rounds: The rounds of each strategy, in the order of the plan; strategies without a round are not in it.
        origin: Where the result comes from.
        name: The file that it was read from, as the user named it; empty for a run of this process.
        is_reproduction: Whether `connbench reproduce` made it.
    """

    plan: Plan | None
    environment: dict[str, object]
    known: tuple[Finding, ...] = ()
    rounds: dict[StrategySpec, list[Round]] = field(default_factory=dict)
    origin: Origin = Origin.RUN
    name: str = ""
    is_reproduction: bool = False

    def add(self, strategy: StrategySpec, measured: Round) -> None:
        """Add a round that has ended."""
        self.rounds.setdefault(strategy, []).append(measured)

    @property
    def strategies(self) -> list[StrategyResult]:
        """The result of each strategy that has a round."""
        return [self.strategy(spec) for spec in self.rounds]

    @property
    def labelled(self) -> dict[str, StrategyResult]:
        """The result of each strategy by its label; a second one with the same label gets a number behind it."""
        found: dict[str, StrategyResult] = {}
        for strategy in self.strategies:
            label, number = strategy.strategy.label, 2
            while label in found:
                label, number = f"{strategy.strategy.label} ({number})", number + 1
            found[label] = strategy
        return found

    def strategy(self, spec: StrategySpec) -> StrategyResult:
        """The result of one strategy. A churn has no capacity: its attempts replace connections and add none.

        Raises:
            KeyError: The strategy has no round.
        """
        rounds = tuple(self.rounds[spec])
        if self.plan is None or spec.phase is Phase.CHURN:
            return StrategyResult(spec, rounds)
        planned = RoundPlan(self.plan, spec, 1)
        return StrategyResult(spec, rounds, planned.capacity, planned.ports_each, self.plan.spread)

    @property
    def kernel(self) -> str:
        """The release of the kernel that was measured; empty if the file does not contain it."""
        return str(self.environment.get("kernel") or "")

    @property
    def clock(self) -> Clock:
        """What the times consist of; files of earlier versions, which do not say, contain time."""
        return Clock.INSTRUCTIONS if self.environment.get("clock") == Clock.INSTRUCTIONS else Clock.TIME

    @property
    def specs(self) -> tuple[StrategySpec, ...]:
        """The strategies of the plan, measured or not, in order: one for each phase."""
        return tuple(dict.fromkeys((*(self.plan.phases if self.plan else ()), *self.rounds)))

    @property
    def is_partial(self) -> bool:
        """Whether the run measured less than its plan."""
        rounds = [r for some in self.rounds.values() for r in some]
        planned = len(self.plan.phases) * self.plan.rounds if self.plan else 0
        return len(rounds) < planned or any(r.fault for r in rounds) or any(f.code == PARTIAL for f in self.known)

    @property
    def most_rounds(self) -> int:
        """The number of rounds of the strategy that has the most."""
        return max(map(len, self.rounds.values()), default=0)

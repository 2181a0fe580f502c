"""A `Result` is everything a run left behind; whatever comes after measuring reads it and nothing else."""

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
"""Code of the finding that something was cut short."""

UNIT = "unit"
"""Code of the finding that a file's times may be in another unit than they were taken for."""


@dataclass(frozen=True, eq=False)
class Samples(AttemptColumns[Numbers]):
    """The attempts of one round or of several: an array for each column, all of one length.

    The times are whole ns, but for those of the talk's own CSV: its fractions of a second stay as they are.
    """

    @classmethod
    def of(cls, **known: Numbers) -> Self:
        """Attempts of which some columns are known, at least one; each other column has its lowest value throughout."""
        rows = len(next(iter(known.values())))
        unknown = {c.name: np.full(rows, c.lowest, c.code) for c in samples.COLUMNS if c.name not in known}
        return cls(**unknown, **known)

    @classmethod
    def from_memory(cls, descriptor: int, total: int, rows: range) -> Self:
        """Copy finished attempts out of shared memory, in the order they were begun, whichever lane made them.

        Args:
            descriptor: The memory.
            total: How many attempts it was made for.
            rows: Which of them to take.
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
        """All attempts of several rounds of one strategy, one after the other."""
        if len(parts) == 1:
            return parts[0]
        kind = type(parts[0])
        return kind(**{name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns})

    def chosen(self, mask: Mask) -> Samples:
        """The attempts that a mask marks."""
        return type(self)(**{name: values[mask] for name, values in self.columns.items()})

    @property
    def columns(self) -> dict[str, Numbers]:
        """Each column's values by its name, in the order of files."""
        return {column.name: getattr(self, column.name) for column in samples.COLUMNS}

    def __len__(self) -> int:
        return len(self.tries)

    @cached_property
    def failed(self) -> Mask:
        """Which attempts have no connection."""
        return np.not_equal(self.errno, 0)

    @cached_property
    def given_up(self) -> Mask:
        """Which of the failed took longer than `--give-up-after`: not for want of a port, then."""
        return np.equal(self.errno, GIVEN_UP)

    @cached_property
    def latency_ns(self) -> Numbers:
        """The talk's latency: connect(); where it was never reached, the call that failed instead."""
        return np.where(self.connect_ns > 0, self.connect_ns, self.prepare_ns)

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
        """From the first attempt's begin to the last outcome, which with lanes need not be the last begun's.

        Of one round only.
        """
        return int((self.started_ns + self.acquire_ns).max() - self.started_ns[0]) if len(self) else 0


@dataclass(frozen=True, eq=False)
class DatagramSamples(Samples):
    """Attempts of UDP: the search is in bind(), or in the connect() of an unbound socket, so both count."""

    @cached_property
    def latency_ns(self) -> Numbers:
        """The acquire time."""
        return self.acquire_ns


def samples_class(spec: StrategySpec) -> type[Samples]:
    """What the attempts of a strategy are kept as."""
    return DatagramSamples if spec.load.protocol is Protocol.UDP else Samples


@dataclass(frozen=True, eq=False)
class Round:
    """One strategy's turn. `fault` is what ended it early; then its samples are partial.

    `report` is empty where only the samples are known, as those of a CSV file.
    """

    number: int
    samples: Samples
    report: RoundReport = field(default_factory=RoundReport)
    fault: ConnbenchError | None = None


@dataclass(frozen=True)
class StrategyResult:
    """A strategy and its rounds, at least one.

    `capacity` is how many connections there were ports for, those of each source address counted; `ports_each` is how
    many of them one source has, towards one target where a port is taken for one target alone; `spread` is how they
    were filled. All are None if not known.
    """

    strategy: StrategySpec
    rounds: tuple[Round, ...]
    capacity: int | None = None
    ports_each: int | None = None
    spread: Spread | None = None

    @property
    def samples(self) -> Samples:
        """The attempts of all rounds; put together anew each time, for what is kept of a strategy is its summary."""
        return Samples.pooled([r.samples for r in self.rounds])

    @property
    def is_partial(self) -> bool:
        """Whether a fault or an interruption cut a round short."""
        return any(r.fault for r in self.rounds)


class Origin(StrEnum):
    """What a result was taken from, and so what of it is known."""

    RUN = "run"
    """Everything: just measured, or read from a JSON file."""
    CSV = "connbench CSV"
    """The attempts alone: no plan, no environment, no counters."""
    TALK_CSV = "talk CSV"
    """Of each attempt the port and the latency alone."""


@dataclass
class Result:
    """A run, finished or as far as it came: strategies in the plan's order, those with no round yet left out.

    Attributes:
        plan: What was to be done; None where `origin` does not tell.
        environment: What `connbench.host.environment.collect` says of the machine.
        known: What was to be said before anything was measured; what the samples add to it is worked out from them by
            `connbench.analysis.soundness`.
        rounds: What was measured, each strategy's rounds in order.
        origin: Where this was taken from.
        name: The file it was read from, as the user named it; empty if it was just measured.
        is_reproduction: Whether it is the talk's measurements, made again by `connbench reproduce`.
    """

    plan: Plan | None
    environment: dict[str, object]
    known: tuple[Finding, ...] = ()
    rounds: dict[StrategySpec, list[Round]] = field(default_factory=dict)
    origin: Origin = Origin.RUN
    name: str = ""
    is_reproduction: bool = False

    def add(self, strategy: StrategySpec, measured: Round) -> None:
        """Take in a round that has ended."""
        self.rounds.setdefault(strategy, []).append(measured)

    @property
    def strategies(self) -> list[StrategyResult]:
        """What was measured, a strategy at a time."""
        return [self.strategy(spec) for spec in self.rounds]

    def strategy(self, spec: StrategySpec) -> StrategyResult:
        """What was measured of one strategy; how many ports churn has is left out, for its attempts do not add up.

        Raises:
            KeyError: Nothing was.
        """
        rounds = tuple(self.rounds[spec])
        if self.plan is None or spec.phase is Phase.CHURN:
            return StrategyResult(spec, rounds)
        planned = RoundPlan(self.plan, spec, 1)
        return StrategyResult(spec, rounds, planned.capacity, planned.ports_each, self.plan.spread)

    @property
    def kernel(self) -> str:
        """Release of the kernel that it was measured on; empty if the file does not say."""
        return str(self.environment.get("kernel") or "")

    @property
    def clock(self) -> Clock:
        """What its times are made of; files from before this was recorded hold time."""
        return Clock.INSTRUCTIONS if self.environment.get("clock") == Clock.INSTRUCTIONS else Clock.TIME

    @property
    def specs(self) -> tuple[StrategySpec, ...]:
        """What was planned, measured or not, in order: each strategy, and the phases of it that stand by themselves."""
        return tuple(dict.fromkeys((*(self.plan.phases if self.plan else ()), *self.rounds)))

    @property
    def is_partial(self) -> bool:
        """Whether the plan was not carried out to its end."""
        rounds = [r for some in self.rounds.values() for r in some]
        planned = len(self.plan.phases) * self.plan.rounds if self.plan else 0
        return len(rounds) < planned or any(r.fault for r in rounds) or any(f.code == PARTIAL for f in self.known)

    @property
    def most_rounds(self) -> int:
        """Rounds of the strategy that has most of them."""
        return max(map(len, self.rounds.values()), default=0)

"""Summarizes a strategy: its times and tries of all attempts, per port parity, and of the failed ones.

Percentiles are numpy's default: linear interpolation between the two nearest order statistics.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from connbench.model import Phase, StrategySpec
from connbench.results.result import Mask, Numbers, Round, Samples, StrategyResult
from connbench.samples import GIVEN_UP, UNKNOWN_ERRNO
from connbench.units import NS_PER_S

_NAMES = {UNKNOWN_ERRNO: "unknown", GIVEN_UP: "given up"}
"""Values of the errno column that no system call returns."""

_NOTHING = float("nan")
"""The figure of an empty group, which JSON writes as null: a 0 would read as "takes no time"."""

_PERCENTILES = (50, 75, 90, 95, 99, 99.9)


def samples_for(percent: float) -> int:
    """The samples that a percentile needs to differ from the minimum and the maximum: 1,000 for p99.9.

    From p1 to p99 any number of samples is enough.
    """
    tail = min(percent, 100 - percent)
    return 1 if tail >= 1 else round(100 / tail)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution in the unit of its values, usually ns. Without a sample every figure is NaN.

    `p999` is None if there are samples, but too few (`samples_for`).
    """

    count: int = 0
    minimum: float = _NOTHING
    mean: float = _NOTHING
    p50: float = _NOTHING
    p75: float = _NOTHING
    p90: float = _NOTHING
    p95: float = _NOTHING
    p99: float = _NOTHING
    p999: float | None = None
    maximum: float = _NOTHING

    @property
    def total(self) -> float:
        """The sum of the values."""
        return self.mean * self.count

    @classmethod
    def of(cls, values: Numbers) -> Distribution:
        """Describe `values`."""
        if not len(values):
            return cls()
        p50, p75, p90, p95, p99, p999 = (float(v) for v in np.percentile(values, _PERCENTILES))
        return cls(
            count=len(values),
            minimum=float(values.min()),
            mean=float(values.mean()),
            p50=p50,
            p75=p75,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999 if len(values) >= samples_for(99.9) else None,
            maximum=float(values.max()),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the attempts: the latency of the call, the time to acquire a connection, and the tries that it took.

    Times are in ns. Without an attempt each figure is NaN. `handshake` has no samples but with `--in-flight`, `bind`
    none where the acquire time is not known.
    """

    latency: Distribution
    bind: Distribution
    handshake: Distribution
    acquire: Distribution
    tries_mean: float
    tries_max: float

    @classmethod
    def of(cls, samples: Samples, chosen: Mask) -> Group:
        """Describe the attempts that `chosen` marks."""
        tries = samples.tries[chosen]
        return cls(
            latency=Distribution.of(samples.latency_ns[chosen]),
            bind=Distribution.of(samples.bind_ns[chosen & samples.is_acquired]),
            handshake=Distribution.of(samples.handshake_ns[chosen & samples.sent]),
            acquire=Distribution.of(samples.acquire_ns[chosen]),
            tries_mean=float(tries.mean()) if len(tries) else _NOTHING,
            tries_max=int(tries.max()) if len(tries) else _NOTHING,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A strategy's figures over all its rounds. Times are in ns.

    Attributes:
        total_ns: The talk's 'total time': the sum of all latencies, those of failed attempts too.
        wall_ns: From the beginning of the first attempt to the last outcome, summed over the rounds.
        all: Every attempt, failed or not; `even` and `odd` the successful ones by local port; `errored` the failed
            ones.
        halves: The attempts by `first half` and `second half`: whether less than half of the ports that they choose
            from were in use. Empty where that is not known, and of a churn and a profile, which fill no range.
        errors: Failed attempts by the name of their errno, most frequent first.
        rounds_total_ns: `total_ns` of each complete round.
        rounds_mean_ns: The same per attempt.
        established: Connections that were open when a round ended, the smallest of the rounds.
        floor_ns: What connbench adds to the latency of a connect(), the median of the rounds.
    """

    all: Group
    even: Group
    odd: Group
    errored: Group
    total_ns: int
    wall_ns: int
    halves: dict[str, Group] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    rounds_total_ns: tuple[int, ...] = ()
    rounds_mean_ns: tuple[float, ...] = ()
    established: int = 0
    floor_ns: float | None = None

    @property
    def attempts(self) -> int:
        """All attempts."""
        return self.all.latency.count

    @property
    def failed(self) -> int:
        """Attempts without a connection."""
        return self.errored.latency.count

    @property
    def failed_percent(self) -> float:
        """The same in percent of all attempts; NaN without an attempt."""
        return 100 * self.failed / self.attempts if self.attempts else _NOTHING

    @property
    def connected(self) -> int:
        """Attempts that made a connection."""
        return self.attempts - self.failed

    @property
    def rate(self) -> float | None:
        """Connections made per second of `wall_ns`; None if that is 0."""
        return self.connected / self.wall_ns * NS_PER_S if self.wall_ns else None

    @property
    def round_total_ns(self) -> float:
        """The 'total time' of the median complete round; 0 without one."""
        return float(np.median(self.rounds_total_ns)) if self.rounds_total_ns else 0.0

    def connect_speed_up(self, over: Summary) -> float | None:
        """How many times as fast as another this is by latency alone, as the talk counts; None without a round.

        It compares the time per attempt of the median rounds, because strategies can differ in their number of
        attempts. `analysis.ranking` compares the time that a program waits for a connection.
        """
        if not (self.rounds_mean_ns and over.rounds_mean_ns and np.median(self.rounds_mean_ns)):
            return None
        return float(np.median(over.rounds_mean_ns) / np.median(self.rounds_mean_ns))

    @property
    def groups(self) -> dict[str, Group]:
        """The groups by the name they are printed under."""
        return {"all": self.all, "even": self.even, "odd": self.odd, "errored": self.errored}


@lru_cache(maxsize=32)
def summarize(result: StrategyResult) -> Summary:
    """Summarize a strategy over all its rounds. The summaries of the last rounds asked for are kept."""
    samples = result.samples
    complete = [r.samples for r in result.rounds if not r.fault]
    floors = [r.report.floor_ns for r in result.rounds if r.report.floor_ns is not None]
    return Summary(
        all=Group.of(samples, np.ones(len(samples), dtype=np.bool_)),
        even=Group.of(samples, samples.even),
        odd=Group.of(samples, samples.odd),
        errored=Group.of(samples, samples.failed),
        total_ns=_total(samples),
        wall_ns=sum(r.samples.wall_ns for r in result.rounds),
        halves={name: Group.of(samples, chosen) for name, chosen in _halves(result).items()},
        errors=count_errors(samples.errno),
        rounds_total_ns=tuple(_total(m) for m in complete),
        rounds_mean_ns=tuple(_total(m) / len(m) for m in complete if len(m)),
        established=min(r.report.established for r in result.rounds),
        floor_ns=float(np.median(floors)) if floors else None,
    )


def percentile(result: StrategyResult, group: str, quantity: str, percent: float) -> float:
    """One percentile of a strategy over all its rounds, in ns or tries.

    Args:
        result: The strategy; the group must have an attempt.
        group: `all`, `even`, `odd` or `errored`.
        quantity: `latency`, `bind`, `handshake`, `acquire` or `tries`.
        percent: 0 to 100.
    """
    samples = result.samples
    if quantity == "handshake":
        samples = samples.chosen(samples.sent)
    values = {
        "latency": samples.latency_ns,
        "bind": samples.bind_ns,
        "handshake": samples.handshake_ns,
        "acquire": samples.acquire_ns,
        "tries": samples.tries,
    }[quantity]
    masks = {"even": samples.even, "odd": samples.odd, "errored": samples.failed}
    return float(np.percentile(values if group == "all" else values[masks[group]], percent))


def _halves(result: StrategyResult) -> dict[str, Mask]:
    """The attempts of all rounds by how many ports of their own port space were in use when they began."""
    if result.strategy.phase is not Phase.FILL or not result.ports_each:
        return {}
    is_full = np.concatenate([held_before(r.samples, result.strategy) for r in result.rounds]) >= result.ports_each / 2
    return {"first half": ~is_full, "second half": is_full}


def held_before(samples: Samples, spec: StrategySpec) -> Numbers:
    """The ports in use when each attempt of a filling began, of those that it could have chosen: (attempts,)."""
    spaces = samples.source.astype(np.int64)
    if spec.has_ports_per_target:
        spaces += samples.target.astype(np.int64) << 16  # a source's number has 16 bits
    order = np.argsort(spaces, kind="stable")
    made = (~samples.failed)[order]
    before: Numbers = np.cumsum(made) - made
    _, first, counts = np.unique(spaces[order], return_index=True, return_counts=True)
    held = np.empty(len(samples), dtype=np.int64)
    held[order] = before - np.repeat(before[first], counts)
    return held


def _total(samples: Samples) -> int:
    """The talk's total time, in whole ns where the samples have fractions of one."""
    total: float = samples.latency_ns.sum().item()
    return round(total)


def count_errors(numbers: Numbers) -> dict[str, int]:
    """Occurrences of each errno but 0 by its name, most frequent first."""
    values, counts = np.unique(numbers[numbers != 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {errno_name(int(values[i])): int(counts[i]) for i in order}


def errno_name(number: int) -> str:
    """`EADDRNOTAVAIL` for 99; `errno N` for a number without a name."""
    if number in _NAMES:
        return _NAMES[number]
    return errno.errorcode.get(number, f"errno {number}")


def rate_of_all(spec: StrategySpec, measured: Round) -> float | None:
    """Attempts a second while all clients of a round ran: from the last one's first attempt to the first one's last.

    None with one client, and if they never ran all at the same time.
    """
    samples, clients = measured.samples, spec.load.concurrency
    begun = [samples.started_ns[samples.client == client] for client in range(clients)]
    if clients == 1 or not all(map(len, begun)):
        return None
    first, last = max(one[0] for one in begun), min(one[-1] for one in begun)
    made = int(((samples.started_ns >= first) & (samples.started_ns < last)).sum())
    return made / float(last - first) * NS_PER_S if last > first else None


def achieved_rate(spec: StrategySpec, measured: Round) -> float | None:
    """Replacements a second of a round's churn; None if there are too few for a rate.

    Each client begins with one at once, so that the time from the first to the last is that of all the others.
    """
    samples = measured.samples
    others = len(samples) - spec.load.concurrency
    span = float(samples.started_ns[-1] - samples.started_ns[0]) if len(samples) else 0.0
    return others / span * NS_PER_S if others > 0 and span > 0 else None

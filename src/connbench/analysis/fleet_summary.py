"""What the results of several hosts show: each host against the first one, or all of them on one clock.

Percentiles of several hosts are never pooled: hosts differ in kernel and speed, and a pooled one would be of none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from connbench.analysis.comparison import Comparison, Difference, StrategyComparison, compare, find_differences
from connbench.analysis.knee import Knee, find_knee
from connbench.analysis.ranking import cost
from connbench.analysis.router_losses import SLOW_CONNECT_NS
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Summary, summarize
from connbench.findings import Finding, Severity
from connbench.model import Phase, StrategySpec
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.result import PARTIAL, Result, Round, StrategyResult
from connbench.samples import TIMED_OUT
from connbench.units import NS_PER_S, NS_PER_US, count, duration
from connbench.wording import listed

Times = npt.NDArray[np.float64]

CLOCK_OFFSET, UNEVEN_START, ABSENT = "clock-offset", "uneven-start", "absent"
"""Codes of the findings about several hosts."""

MOST_OFFSET_US = 5_000
"""How well the offset of a host's clock has to be known, and how far apart the hosts of a round may begin, in us."""

MOST_PLACES = 4
"""Hosts and strategies that a finding names; it counts the others."""


# ---- one clock for all hosts


@dataclass(frozen=True, slots=True)
class Part:
    """One phase of one round of one host, on the clock of all hosts: times in ns from the same instant.

    Attributes:
        host: The host's name.
        begin: When its first attempt began.
        end: When its last attempt had its outcome.
        closing: When its connections were closed: at the end of the last phase of the round.
        outcomes: When it made each connection: (connections,), in order.
        lost: When it sent each SYN that had no answer, or none within a second: (lost,), in order.
        open_at_begin: The connections that were open when the phase began.
    """

    host: str
    begin: float
    end: float
    closing: float
    outcomes: Times
    lost: Times
    open_at_begin: int = 0

    def connected_within(self, first: float, last: float) -> int:
        """Connections made after `first`, and at `last` or before."""
        return int(np.searchsorted(self.outcomes, last, "right") - np.searchsorted(self.outcomes, first, "right"))

    @property
    def peak(self) -> int:
        """The most connections that were open at the same time. A churn replaces connections and adds none."""
        return self.open_at_begin or len(self.outcomes)


@dataclass(frozen=True, slots=True)
class Turn:
    """One phase of one round, of every host; rounds count from 1."""

    number: int
    parts: tuple[Part, ...]

    @property
    def span(self) -> tuple[float, float]:
        """From the begin of the last host to the end of the first one, in ns; the end is not before the begin."""
        first = max(part.begin for part in self.parts)
        return first, max(first, min(part.end for part in self.parts))

    @property
    def whole(self) -> float:
        """From the begin of the first host to the end of the last one, in ns."""
        return max(part.end for part in self.parts) - min(part.begin for part in self.parts)

    @property
    def spread(self) -> float:
        """From the begin of the first host to the begin of the last one, in ns."""
        return max(part.begin for part in self.parts) - min(part.begin for part in self.parts)

    @property
    def last(self) -> str:
        """The host that began last."""
        return max(self.parts, key=lambda part: part.begin).host

    @property
    def peak(self) -> int:
        """The most connections that all hosts together had open at the same time."""
        return int(open_over_time(self.parts)[1].max(initial=0))

    @property
    def open_at_loss(self) -> int | None:
        """The connections that all hosts had open when the first SYN was lost; None if none was."""
        moments = [part.lost[0] for part in self.parts if len(part.lost)]
        if not moments:
            return None
        times, number = open_over_time(self.parts)
        before = int(np.searchsorted(times, min(moments), "right"))
        return int(number[before - 1]) if before else 0


def open_over_time(parts: Sequence[Part]) -> tuple[Times, npt.NDArray[np.int64]]:
    """How many connections some hosts together have open after each change: times in ns, and numbers, both (changes,).

    A connection counts from its outcome on. A host's connections are gone at its `closing`.
    """
    times = [np.concatenate([[p.begin], () if p.open_at_begin else p.outcomes, [p.closing]]) for p in parts]
    steps = [np.ones(len(some), np.int64) for some in times]
    for part, some in zip(parts, steps, strict=True):
        some[0], some[-1] = part.open_at_begin, -part.peak
    every, step = np.concatenate(times), np.concatenate(steps)
    order = np.lexsort((step < 0, every))  # a connection made as others are closed counts before they are gone
    return every[order], np.cumsum(step[order])


def turns_of(fleet: Fleet, spec: StrategySpec) -> list[Turn]:
    """The rounds of one phase that every host with a result has, each on one clock.

    A round is left out if a host has no attempt in it, or if its file does not say when it began.
    """
    measured = [host for host in fleet.hosts if host.is_measured]
    clocks = {number: [_clock(host, spec, number) for host in measured] for number in _numbers(measured, spec)}
    turns = []
    for number, begins in clocks.items():
        known = [begin for begin in begins if begin is not None]
        if known and len(known) == len(measured):
            base = min(epoch for epoch, _ in known)  # whole us: with it a float keeps the nanoseconds
            parts = (
                _part(host, spec, number, (epoch - base - offset) * NS_PER_US)
                for host, (epoch, offset) in zip(measured, known, strict=True)
            )
            turns.append(Turn(number, tuple(parts)))
    return turns


def _numbers(hosts: Sequence[HostRecord], spec: StrategySpec) -> list[int]:
    return sorted({r.number for host in hosts if host.result for r in host.result.rounds.get(spec, ())})


def _round(host: HostRecord, spec: StrategySpec, number: int) -> Round | None:
    rounds = host.result.rounds.get(spec, ()) if host.result else ()
    return next((r for r in rounds if r.number == number), None)


def _clock(host: HostRecord, spec: StrategySpec, number: int) -> tuple[int, float] | None:
    """When a round's clock began, by CLOCK_REALTIME of its host, and how far that is ahead: both in us.

    An offset that is not known counts as 0, and has a finding.
    """
    measured = _round(host, spec, number)
    if measured is None or not len(measured.samples) or not measured.report.epoch_us:
        return None
    return measured.report.epoch_us, _offset_us(host, spec, number) or 0.0


def _offset_us(host: HostRecord, spec: StrategySpec, number: int) -> float | None:
    """How far a host's clock is ahead in a turn, which is a round of one strategy; None if that is not known."""
    plan = host.result.plan if host.result else None
    base = next((p for p, one in enumerate(plan.strategies) if spec in one.phases), None) if plan else None
    if plan is not None and base is not None:
        turn = (number - 1) * len(plan.strategies) + base
        if turn < len(host.offsets_us):
            return host.offsets_us[turn]
    return host.offset_us


def _part(host: HostRecord, spec: StrategySpec, number: int, begun: float) -> Part:
    """A phase of a round; its clock began `begun` ns after the common instant."""
    measured = _round(host, spec, number)
    assert measured is not None  # noqa: S101  # `_clock` found it; tells the type checker
    samples = measured.samples
    ended = samples.started_ns + samples.acquire_ns
    others = (_round(host, replace(spec, phase=phase), number) for phase in Phase)
    closing = max(int((r.samples.started_ns + r.samples.acquire_ns).max()) for r in others if r and len(r.samples))
    waits = samples.handshake_ns if spec.load.in_flight else samples.connect_ns
    lost = samples.started_ns[(samples.errno == TIMED_OUT) | ((waits > SLOW_CONNECT_NS) & ~samples.failed)]
    filled = _round(host, replace(spec, phase=Phase.FILL), number) if spec.phase is Phase.CHURN else None
    return Part(
        host.name,
        begun + float(samples.started_ns.min()),
        begun + float(ended.max()),
        begun + float(closing),
        begun + np.sort(ended[~samples.failed]).astype(np.float64),
        begun + np.sort(lost).astype(np.float64),
        int((~filled.samples.failed).sum()) if filled else 0,
    )


# ---- the figures of a strategy


@dataclass(frozen=True, slots=True)
class HostFigures:
    """A strategy on one host.

    Attributes:
        host: The host's name.
        result: What the host measured.
        strategy: The strategy's rounds.
        summary: Their figures.
        knee: Where it turned slow.
        cost_ns: What a connection costs: see `connbench.analysis.ranking.cost`.
        against_first: The strategy against that of the first host; None for that host, and if it does not have it.
        rate: Connections a second while all hosts ran; None if that is not known, or if they never did. The next four
            likewise are of hosts that ran together.
        peak: The most connections that were open at the same time; None where the clock of all hosts is not known.
        start_ns: By how much it began after the first host, in its worst round.
        knee_ns: From its first attempt to its knee.
        lost: SYNs that had no answer, or none within a second.
    """

    host: str
    result: Result
    strategy: StrategyResult
    summary: Summary
    knee: Knee
    cost_ns: float | None
    against_first: StrategyComparison | None = None
    rate: float | None = None
    peak: int | None = None
    start_ns: float | None = None
    knee_ns: float | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class InAll:
    """A strategy on all hosts together, over the rounds that every host has.

    Attributes:
        rounds: How many these are.
        span_ns: How long all hosts ran at the same time, summed over the rounds.
        whole_ns: From the begin of the first host to the end of the last one, summed likewise.
        rate: Connections a second that all hosts made in `span_ns`; None if that is 0.
        peak: The most connections that all of them had open at the same time, the most of the rounds.
        spreads_ns: From the begin of the first host to that of the last one: one for each round.
        open_at_loss: Connections that all hosts had open when the first SYN was lost, the fewest of the rounds; None if
            none was.
    """

    rounds: int
    span_ns: float
    whole_ns: float
    rate: float | None
    peak: int
    spreads_ns: tuple[float, ...]
    open_at_loss: int | None

    @property
    def overlap(self) -> float:
        """The share of the time in which all hosts ran, 0 to 1."""
        return self.span_ns / self.whole_ns if self.whole_ns else 1.0


@dataclass(frozen=True, slots=True)
class StrategyOfFleet:
    """A strategy on every host that has it.

    Attributes:
        strategy: The strategy.
        hosts: Its figures, the slowest host first.
        in_all: Those of all hosts together; None if each ran by itself, or if the times of their rounds are not known.
        lacking: The hosts that measured something, but not this strategy.
    """

    strategy: StrategySpec
    hosts: tuple[HostFigures, ...]
    in_all: InAll | None
    lacking: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FleetSummary:
    """What several hosts measured, worked out.

    Attributes:
        fleet: What they measured.
        strategies: In the order of the first host's plan.
        comparisons: Each host against the first one that measured something, with the host's name; empty if all ran
            together.
        differences: In what each host differs from the first one, by the host's name.
        findings: Those about hosts, and those of each host's own result with its name as the place.
        turns: The rounds of each strategy on one clock; none where each host ran by itself.
    """

    fleet: Fleet
    strategies: tuple[StrategyOfFleet, ...]
    comparisons: tuple[tuple[str, Comparison], ...]
    differences: Mapping[str, Sequence[Difference]]
    findings: tuple[Finding, ...]
    turns: Mapping[StrategySpec, Sequence[Turn]]


@lru_cache(maxsize=2)
def summarize_fleet(fleet: Fleet) -> FleetSummary:
    """Work out what several hosts measured. The last two that were asked for are kept."""
    results = fleet.results
    first, others = (results[0], results[1:]) if results else (None, [])
    comparisons = () if fleet.is_together or first is None else tuple((r.name, compare(first, r)) for r in others)
    specs = dict.fromkeys(spec for result in results for spec in result.rounds)
    turns = {spec: turns_of(fleet, spec) if fleet.is_together else [] for spec in specs}
    strategies = tuple(_of_strategy(spec, results, comparisons, turns[spec]) for spec in specs)
    differences = {name: comparison.differences for name, comparison in comparisons}
    if fleet.is_together and first:
        differences = {result.name: tuple(find_differences(first, result)) for result in others}
    found = _alike([*_of_hosts(fleet), *_of_starts(turns), *_of_results(fleet)])
    return FleetSummary(fleet, strategies, comparisons, differences, tuple(found), turns)


def _of_strategy(
    spec: StrategySpec,
    results: Sequence[Result],
    comparisons: Sequence[tuple[str, Comparison]],
    turns: Sequence[Turn],
) -> StrategyOfFleet:
    compared = {name: s for name, comparison in comparisons for s in comparison.strategies if s.strategy == spec}
    hosts = [_figures(result, spec, compared.get(result.name), turns) for result in results if result.rounds.get(spec)]
    hosts.sort(key=_by_rate if turns else _by_cost)
    return StrategyOfFleet(
        spec, tuple(hosts), _in_all(turns) if turns else None, tuple(r.name for r in results if spec not in r.rounds)
    )


def _by_rate(figures: HostFigures) -> tuple[float, float]:
    return -1.0 if figures.rate is None else figures.rate, _by_cost(figures)


def _by_cost(figures: HostFigures) -> float:
    """A host without a cost has no connection or no complete round: nothing is worse."""
    return -np.inf if figures.cost_ns is None else -figures.cost_ns


def _figures(
    result: Result, spec: StrategySpec, against_first: StrategyComparison | None, turns: Sequence[Turn]
) -> HostFigures:
    strategy = result.strategy(spec)
    knee = find_knee(strategy)
    figures = HostFigures(result.name, result, strategy, summarize(strategy), knee, cost(strategy), against_first)
    if not turns:
        return figures
    span = sum(last - first for first, last in (turn.span for turn in turns))
    parts = [(turn, part) for turn in turns for part in turn.parts if part.host == result.name]
    made = sum(part.connected_within(*turn.span) for turn, part in parts)
    return replace(
        figures,
        rate=made / span * NS_PER_S if span else None,
        peak=max(part.peak for _, part in parts),
        start_ns=max(part.begin - min(other.begin for other in turn.parts) for turn, part in parts),
        knee_ns=_knee_ns(strategy, knee),
        lost=sum(len(part.lost) for _, part in parts),
    )


def _knee_ns(strategy: StrategyResult, knee: Knee) -> float | None:
    """From the first attempt to the knee; of several rounds the median time of this attempt."""
    if knee.connection is None or knee.is_of_first:
        return None
    place = knee.connection - 1
    times = [r.samples.started_ns[place] - r.samples.started_ns[0] for r in strategy.rounds if len(r.samples) > place]
    return float(np.median(times)) if times else None


def _in_all(turns: Sequence[Turn]) -> InAll:
    span = sum(last - first for first, last in (turn.span for turn in turns))
    made = sum(part.connected_within(*turn.span) for turn in turns for part in turn.parts)
    losses = [turn.open_at_loss for turn in turns]
    return InAll(
        len(turns),
        span,
        sum(turn.whole for turn in turns),
        made / span * NS_PER_S if span else None,
        max(turn.peak for turn in turns),
        tuple(turn.spread for turn in turns),
        min((number for number in losses if number is not None), default=None),
    )


# ---- two fleets


@dataclass(frozen=True, eq=False)
class FleetComparison:
    """The hosts of two fleets against each other.

    Attributes:
        base: What is compared with; `new` what is judged.
        hosts: The comparison of each host that both have measured, by its name, in BASE's order.
        only_base: Hosts that BASE has measured, and NEW has not; `only_new` the other way round.
    """

    base: Fleet
    new: Fleet
    hosts: Mapping[str, Comparison]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]


def compare_fleets(base: Fleet, new: Fleet) -> FleetComparison:
    """Compare the hosts that two fleets have in common, by their names."""
    of_base, of_new = ({result.name: result for result in fleet.results} for fleet in (base, new))
    return FleetComparison(
        base,
        new,
        {name: compare(result, of_new[name]) for name, result in of_base.items() if name in of_new},
        tuple(name for name in of_base if name not in of_new),
        tuple(name for name in of_new if name not in of_base),
    )


# ---- findings


def _of_hosts(fleet: Fleet) -> Iterator[Finding]:
    for host in fleet.hosts:
        reason = f": {host.fault.message}" if host.fault else ""
        advice = (host.fault and host.fault.hint) or "measure with this host again"
        if not host.is_measured and host.left_out:
            yield Finding(ABSENT, Severity.NOTE, f"left out, as --allow-missing allows{reason}", advice, host.name)
        elif not host.is_measured:
            yield Finding(ABSENT, Severity.WARNING, f"measured nothing{reason}", advice, host.name)
        elif host.fault:
            yield Finding(PARTIAL, Severity.WARNING, f"partial{reason}", advice, host.name)
        if host.is_measured and fleet.is_together:
            yield from _of_clock(host)


def _of_clock(host: HostRecord) -> Iterator[Finding]:
    rounds = [r for some in host.result.rounds.values() for r in some] if host.result else []
    if not all(r.report.epoch_us or r.fault for r in rounds):  # an engine that was killed has reported nothing
        yield Finding(
            CLOCK_OFFSET,
            Severity.WARNING,
            "the file does not say when its rounds began, so that nothing is known of all hosts together",
            "measure again with connbench of this version on each host, and save as .json or .json.gz",
            host.name,
        )
    elif host.offset_us is None and not host.offsets_us:
        yield Finding(
            CLOCK_OFFSET,
            Severity.WARNING,
            "the offset of the clock is not known, and counts as 0",
            "connbench fleet run --together measures it; else keep the clocks of all hosts together by NTP or PTP",
            host.name,
        )
    elif host.error_us is not None and host.error_us > MOST_OFFSET_US:
        yield Finding(
            CLOCK_OFFSET,
            Severity.WARNING,
            f"the offset of the clock is known to {duration(host.error_us * NS_PER_US)} only",
            "begins, spans and rates of all hosts may be wrong by as much; over a path that answers within "
            f"{duration(2 * MOST_OFFSET_US * NS_PER_US)} it is known to {duration(MOST_OFFSET_US * NS_PER_US)}",
            host.name,
        )


def _of_starts(turns: Mapping[StrategySpec, Sequence[Turn]]) -> Iterator[Finding]:
    for spec, turn in ((spec, turn) for spec, some in turns.items() for turn in some):
        if turn.spread > MOST_OFFSET_US * NS_PER_US:
            yield Finding(
                UNEVEN_START,
                Severity.WARNING,
                f"the hosts began up to {duration(turn.spread)} apart, {turn.last} last",
                "the rate counts only the time in which all hosts ran; hosts that are busy begin late",
                spec.label,
                turn.number,
            )


def _of_results(fleet: Fleet) -> Iterator[Finding]:
    told = {host.name for host in fleet.hosts if host.is_measured and host.fault}
    for result in fleet.results:
        for found in findings(result):
            if found.code != PARTIAL or result.name not in told:
                place = result.name if found.strategy is None else f"{result.name}: {found.strategy}"
                yield replace(found, strategy=place)


def _alike(found: Iterable[Finding]) -> list[Finding]:
    """The findings, those that are alike but for their place as one, which names a few places and counts the others."""
    places: dict[Finding, list[str]] = {}
    for one in found:
        place = one.strategy if one.round is None else f"{one.strategy}, round {one.round}"
        places.setdefault(replace(one, strategy=None, round=None), []).append(place or "")
    return [
        replace(one, strategy=listed(some if len(some) <= MOST_PLACES else [*some[: MOST_PLACES - 1], _more(some)]))
        for one, some in places.items()
    ]


def _more(places: Sequence[str]) -> str:
    return f"{count(len(places) - MOST_PLACES + 1)} more"

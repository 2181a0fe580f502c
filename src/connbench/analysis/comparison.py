"""Compares two results, strategy by strategy: what changed, how certain that is, and in what else they differ.

A round is one observation. Its connections share a namespace, a range that fills up, and the state of the machine, so
that a thousand of them predict the next round no better than one figure of the whole round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from connbench.analysis.bootstrap import (
    FEWEST,
    RESOLUTION,
    ChangeVerdict,
    Interval,
    Values,
    difference_of_means,
    geometric_mean,
    ratio_of_means,
)
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Distribution
from connbench.findings import Finding, Severity
from connbench.model import Clock, Link, Listener, Plan, StrategySpec, format_addresses
from connbench.results.result import PARTIAL, BoundSamples, Origin, Result, Round, StrategyResult
from connbench.safe_text import printable
from connbench.units import NS_PER_US

FLOOR_CHANGE = 1.25
"""The ratio of the harness floors above which the two machines, or their load, were not alike."""

ENVIRONMENT_WARNINGS = {
    "kernel": "kernel",
    "kernel_build": "kernel build",
    "machine": "architecture",
    "cpu_model": "CPU model",
    "cpu_count": "CPU count",
    "governor": "CPU governor",
    "clock_source": "clock source",
    "connbench": "connbench",
}
ENVIRONMENT_NOTES = {"python": "Python"}

FOLLOWING_SETTINGS = {"net.ipv4.ip_local_port_range", "net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"}
"""Sysctls of the namespace that connbench sets from the plan, the differences of which are reported by themselves."""

SHARED_TABLE = "net.ipv4.tcp_ehash_entries"

_ORDER = (Severity.INVALID, Severity.WARNING, Severity.NOTE)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs between BASE and NEW, or is not sound in one of them.

    Attributes:
        code: What differs, for programs: `kernel`, `port-range`, `unsound-base` ...
        severity: invalid: the figures of a side cannot be trusted; warning: it may be the reason for a change; note:
            it is unlikely to be one.
        what: What differs, for people.
        base: Its value in BASE, and `new` in NEW; empty if it is about the other file alone.
    """

    code: str
    severity: Severity
    what: str
    base: str
    new: str

    @property
    def text(self) -> str:
        """The difference in one line."""
        if self.base and self.new:
            return printable(f"{self.what}: {self.base} in BASE, {self.new} in NEW")
        return f"{'BASE' if self.base else 'NEW'} {self.what}: {self.base or self.new}"


def find_differences(base: Result, new: Result) -> list[Difference]:
    """In what two results differ, the most severe first.

    A CSV file does not contain its plan. For such a file the list says this, and names a difference in kernels if both
    kernels are known; it compares nothing else.
    """
    found = [
        *_unsound(base, new),
        *_unknown(base, new),
        *_clock(base, new),
        *_environment(base, new),
        *_plan(base.plan, new.plan),
        *_settings(base, new),
        *_floor(base, new),
    ]
    return sorted(found, key=lambda difference: _ORDER.index(difference.severity))


def _unsound(base: Result, new: Result) -> Iterator[Difference]:
    """That a file has findings; `connbench report` on that file lists them."""
    for side, result in (("base", base), ("new", new)):
        found = [f for f in findings(result) if f.code != PARTIAL]
        for severity, code, what in (
            (Severity.INVALID, "unsound", "is not sound"),
            (Severity.WARNING, "warned", "has warnings of its own"),
        ):
            those = [f for f in found if f.severity is severity]
            if those:
                grade = Severity.INVALID if severity is Severity.INVALID else Severity.NOTE
                yield _of_one_side(f"{code}-{side}", grade, what, _first_of(those), side)


def _first_of(those: list[Finding]) -> str:
    more = f", and {len(those) - 1} more (connbench report)" if len(those) > 1 else ""
    return those[0].text + more


def _unknown(base: Result, new: Result) -> Iterator[Difference]:
    for side, result in (("base", base), ("new", new)):
        if result.origin is not Origin.RUN:
            what = f"is a {result.origin}"
            told = "whether it was measured in the same way and place is not known"
            yield _of_one_side(f"unknown-{side}", Severity.WARNING, what, told, side)


def _of_one_side(code: str, severity: Severity, what: str, text: str, side: str) -> Difference:
    return Difference(code, severity, what, text if side == "base" else "", text if side == "new" else "")


def _environment(base: Result, new: Result) -> Iterator[Difference]:
    names = ENVIRONMENT_WARNINGS | ENVIRONMENT_NOTES
    for key in names if base.origin is new.origin is Origin.RUN else ("kernel",):
        of_base, of_new = base.environment.get(key), new.environment.get(key)
        if of_base != of_new:
            severity = Severity.NOTE if key in ENVIRONMENT_NOTES else Severity.WARNING
            yield Difference(key.replace("_", "-"), severity, names[key], _shown(of_base), _shown(of_new))


def _clock(base: Result, new: Result) -> Iterator[Difference]:
    """Instructions compare with instructions only; reported even then, because they do not show a cache miss."""
    clocks = base.clock, new.clock
    if Clock.INSTRUCTIONS in clocks:
        severity = Severity.WARNING if clocks[0] is not clocks[1] else Severity.NOTE
        yield Difference("clock", severity, "what the clock counted", *clocks)


def _plan(base: Plan | None, new: Plan | None) -> Iterator[Difference]:
    if base is None or new is None:
        return
    weighty: dict[str, tuple[str, object, object]] = {
        "port-range": ("port range", base.port_range, new.port_range),
        "connections": ("connections", base.connections, new.connections),
        "isolation": ("isolation", base.namespace, new.namespace),
        "link": ("link", base.link, new.link),
        "masquerade": ("masquerade by the host", _answer(base.masquerade), _answer(new.masquerade)),
        "delay": ("delay of the link in ms", base.delay_ms, new.delay_ms),
        "nat-ports": ("ports of the router", base.nat_ports, new.nat_ports),
        "nat-random": ("router draws ports at random", base.nat_random, new.nat_random),
        "listener": ("listener", base.listener, new.listener),
        "loop": ("loop", base.loop.language, new.loop.language),
    }
    if Listener.EXTERNAL in {base.listener, new.listener} or len(base.targets) != len(new.targets):
        weighty["target"] = (
            "target",
            format_addresses(base.targets, "target"),
            format_addresses(new.targets, "target"),
        )
    if Link.NAT in {base.link, new.link}:
        weighty["clients"] = "client namespaces", base.client_namespaces, new.client_namespaces
    light: dict[str, tuple[str, object, object]] = {
        "source": ("sources", format_addresses(base.sources, "source"), format_addresses(new.sources, "source")),
        "spread": ("spread over the sources", base.spread, new.spread),
        "cpu": ("measured CPUs", _cpu(base), _cpu(new)),
        "timeout": ("time-out in seconds", base.timeout, new.timeout),
        "seed": ("seed", base.seed, new.seed),
    }
    for severity, fields in ((Severity.WARNING, weighty), (Severity.NOTE, light)):
        for code, (what, of_base, of_new) in fields.items():
            if of_base != of_new:
                yield Difference(code, severity, what, _shown(of_base), _shown(of_new))


def _cpu(plan: Plan) -> str:
    return ", ".join(map(str, plan.cpus)) or "any"


def _settings(base: Result, new: Result) -> Iterator[Difference]:
    of_base, of_new = _sysctls(base), _sysctls(new)
    if of_base and of_new:
        for name in sorted((of_base.keys() | of_new.keys()) - FOLLOWING_SETTINGS):
            if of_base.get(name) != of_new.get(name):
                yield Difference(name, Severity.WARNING, name, _shown(of_base.get(name)), _shown(of_new.get(name)))


def _sysctls(result: Result) -> dict[str, str]:
    """The sysctls that applied, as the first round that has them read them from its namespace."""
    settings = next((r.report.settings for rounds in result.rounds.values() for r in rounds if r.report.settings), {})
    # The size of a table that is shared with the host's namespace has a minus sign (ip-sysctl, tcp_ehash_entries).
    return {name: value.removeprefix("-") if name == SHARED_TABLE else value for name, value in settings.items()}


def _floor(base: Result, new: Result) -> Iterator[Difference]:
    of_base, of_new = _median_floor(base), _median_floor(new)
    if of_base and of_new and max(of_base, of_new) > FLOOR_CHANGE * min(of_base, of_new):
        shown = (f"{of_base / NS_PER_US:.2f} µs", f"{of_new / NS_PER_US:.2f} µs")
        yield Difference("harness-floor", Severity.WARNING, "harness floor", *shown)


def _median_floor(result: Result) -> float | None:
    """The median harness floor of all rounds, in ns: it is the same for every strategy."""
    floors = [r.report.floor_ns for rounds in result.rounds.values() for r in rounds if r.report.floor_ns is not None]
    return float(np.median(floors)) if floors else None


def _answer(value: bool) -> str:
    return "yes" if value else "no"


def _shown(value: object) -> str:
    """A value as text: `not known` if the machine or the file does not tell, `none` for an empty setting."""
    if value is None:
        return "not known"
    return str(value) or "none"


ERRORS = "errors"
"""The one figure that is a share: it is compared by its difference, because a ratio to 0 errors is undefined."""

FIGURES = ("total", *(f"{group}{name}" for group in ("", "even.", "odd.") for name in ("mean", "p50", "p99")), ERRORS)
"""The figures that are compared, in the order of the report."""

HANDSHAKE_FIGURES = tuple(f"handshake.{name}" for name in ("mean", "p50", "p99"))
"""Those that follow where `--in-flight` timed handshakes by themselves."""

BIND_FIGURES = tuple(f"{group}{name}" for group in ("acquire.", "bind.") for name in ("mean", "p50", "p99"))
"""Those that follow where the search is in bind(), so that the latency does not show what a connection costs."""

MEASURED_OTHERWISE = {"clock", "port-range", "connections", "link", "masquerade", "delay", "listener", "target"}
"""Codes of differences in what was measured: they alone can be the reason for a change."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a strategy on both sides.

    Attributes:
        base: In ns the geometric mean of the complete rounds, of `errors` their mean as a share of 1; None where no
            complete round has it. `new` is the same of the other file.
        change: `new` / `base`, of `errors` `new` - `base`, with its interval; None where undetermined, and where
            instructions were counted in fewer rounds than an interval takes.
        missing: How many more rounds with this figure BASE and NEW need for a verdict.
    """

    base: float | None
    new: float | None
    change: Interval | None
    verdict: ChangeVerdict
    missing: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class RoundCount:
    """Rounds of a strategy in one file: complete ones, which count, and those that a fault cut short."""

    complete: int
    partial: int = 0


@dataclass(frozen=True, slots=True)
class StrategyComparison:
    """A strategy that both files have; its figures by the names `total`, `mean`, `p50`, `even.p99`, `errors` ..."""

    strategy: StrategySpec
    base_rounds: RoundCount
    new_rounds: RoundCount
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results against each other.

    Attributes:
        base: What is compared with; `new` what is judged.
        strategies: Those in both, in BASE's order.
        only_base: Strategies that NEW does not have; `only_new` the other way round.
        differences: In what else the two differ, the most severe first.
    """

    base: Result
    new: Result
    strategies: tuple[StrategyComparison, ...]
    only_base: tuple[StrategySpec, ...]
    only_new: tuple[StrategySpec, ...]
    differences: tuple[Difference, ...]

    @property
    def obstacles(self) -> list[Difference]:
        """Why the two cannot be compared: they were not measured in the same way, or a side is not sound."""
        plans = self.base.plan, self.new.plan
        is_same_place = None in plans or len({plan.namespace.is_own for plan in plans if plan}) == 1
        return [
            difference
            for difference in self.differences
            if difference.severity is Severity.INVALID
            or (difference.severity is Severity.WARNING and difference.code in MEASURED_OTHERWISE)
            or (difference.code == "isolation" and not is_same_place)
        ]

    @property
    def is_comparable(self) -> bool | None:
        """Whether the two were measured in the same way; None if a file does not tell."""
        if self.obstacles:
            return False
        return None if any(difference.code.startswith("unknown-") for difference in self.differences) else True

    @property
    def judged(self) -> int:
        """How many figures have an interval: each may be called different by chance."""
        return sum(figure.change is not None for s in self.strategies for figure in s.figures.values())


def compare(base: Result, new: Result) -> Comparison:
    """Compare the strategies that two results have in common, by name and parameters."""
    of_new = {strategy.strategy: strategy for strategy in new.strategies}
    is_exact = base.clock is new.clock is Clock.INSTRUCTIONS
    return Comparison(
        base,
        new,
        tuple(_compare(s, of_new[s.strategy], is_exact=is_exact) for s in base.strategies if s.strategy in of_new),
        tuple(spec for spec in base.rounds if spec not in new.rounds),
        tuple(spec for spec in new.rounds if spec not in base.rounds),
        tuple(find_differences(base, new)),
    )


def compare_totals(base: StrategyResult, new: StrategyResult) -> Figure:
    """Compare the total time of a strategy alone, as `--fail-if slower` does.

    It is one figure instead of ten, because each figure adds a chance of an alarm where nothing has changed. Where the
    search is in bind(), it is the mean acquire time.
    """
    name = judged_name(base.strategy)
    return _figure(name, *(_values(_complete(side), name) for side in (base, new)))


def judged_name(strategy: StrategySpec) -> str:
    """The one figure that says which side is slower, of those of `figures_of`."""
    return BIND_FIGURES[0] if strategy.searches_in_bind else "total"


def figures_of(measured: Round) -> dict[str, float]:
    """The figures of a round by the names of `FIGURES` and those that follow: times in ns, `errors` as a share of 1.

    `mean`, `p50` and `p99` are of all attempts, failed or not, as `all` is in the summary; those of `even.` and `odd.`
    of the successful ones, those of `handshake.` of the handshakes that were timed by themselves. A group without an
    attempt has no figures.
    """
    samples = measured.samples
    if not len(samples):
        return {}
    latency = samples.latency_ns
    groups = {
        "": latency,
        "even.": latency[samples.even],
        "odd.": latency[samples.odd],
        "handshake.": samples.handshake_ns[samples.sent],
    }
    if isinstance(samples, BoundSamples):
        groups |= {"acquire.": samples.calls_ns, "bind.": samples.bind_ns}
    figures = {"total": float(latency.sum())}
    for prefix, chosen in groups.items():
        group = Distribution.of(chosen)
        figures |= {f"{prefix}mean": group.mean, f"{prefix}p50": group.p50, f"{prefix}p99": group.p99}
    # A time of 0 is no time: the group has no attempt, or the clock is too coarse.
    positive = {name: value for name, value in figures.items() if value > 0}
    return positive | {ERRORS: float(samples.failed.mean())}


def _compare(base: StrategyResult, new: StrategyResult, *, is_exact: bool) -> StrategyComparison:
    of_base, of_new = _complete(base), _complete(new)
    had = {name for figures in (*of_base, *of_new) for name in figures}
    return StrategyComparison(
        base.strategy,
        RoundCount(len(of_base), len(base.rounds) - len(of_base)),
        RoundCount(len(of_new), len(new.rounds) - len(of_new)),
        {
            n: _figure(n, _values(of_base, n), _values(of_new, n), is_exact=is_exact)
            for n in (*FIGURES, *BIND_FIGURES, *HANDSHAKE_FIGURES)
            if n in had
        },
    )


def _complete(strategy: StrategyResult) -> list[dict[str, float]]:
    return [figures_of(measured) for measured in strategy.rounds if not measured.fault]


def _values(rounds: list[dict[str, float]], name: str) -> Values:
    return np.array([figures[name] for figures in rounds if name in figures])


def _figure(name: str, base: Values, new: Values, *, is_exact: bool = False) -> Figure:
    is_share = name == ERRORS
    missing = (max(0, FEWEST - len(base)), max(0, FEWEST - len(new)))
    centre = (lambda values: float(values.mean())) if is_share else geometric_mean
    of_base, of_new = (centre(values) if len(values) else None for values in (base, new))
    if any(missing) and is_exact and of_base is not None and of_new is not None:
        return Figure(of_base, of_new, None, _exact_verdict(of_base, of_new, is_share=is_share))
    if any(missing):
        return Figure(of_base, of_new, None, ChangeVerdict.UNDETERMINED, missing)
    change = difference_of_means(base, new) if is_share else ratio_of_means(base, new)
    return Figure(of_base, of_new, change, _verdict(change, is_share=is_share))


def _exact_verdict(base: float, new: float, *, is_share: bool) -> ChangeVerdict:
    if is_share:
        return _verdict(Interval(new - base, new - base, new - base), is_share=True)
    ratio = new / base
    return _verdict(Interval(ratio, ratio * (1 - RESOLUTION), ratio * (1 + RESOLUTION)), is_share=False)


def _verdict(change: Interval, *, is_share: bool) -> ChangeVerdict:
    unchanged = 0.0 if is_share else 1.0
    if not change.excludes(unchanged):
        return ChangeVerdict.NO_DIFFERENCE
    if is_share:
        return ChangeVerdict.FEWER_ERRORS if change.estimate < unchanged else ChangeVerdict.MORE_ERRORS
    return ChangeVerdict.FASTER if change.estimate < unchanged else ChangeVerdict.SLOWER

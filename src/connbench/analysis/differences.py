"""In what two results differ besides what they measured: whatever else may be the reason of a changed figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from connbench.analysis.soundness import findings
from connbench.findings import Finding, Severity, printable
from connbench.model import Clock, Listener, Plan, addresses_text
from connbench.results.result import PARTIAL, Origin, Result

FLOOR_CHANGE = 1.25
"""Times the other's harness floor from which on the two machines, or what ran on them, were not alike."""

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
"""Sysctls of the namespace that connbench makes fit the plan, whose own differences are told already."""

SHARED_TABLE = "net.ipv4.tcp_ehash_entries"

_ORDER = (Severity.INVALID, Severity.WARNING, Severity.NOTE)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not alike, or not sound, in BASE and NEW.

    Attributes:
        code: What, for programs: `kernel`, `port-range`, `unsound-base` ...
        severity: invalid: the figures of a side cannot be trusted; warning: it may be the reason of any change; note:
            good to know.
        what: What, for people.
        base: How it is in BASE, and `new` in NEW; empty where it is about the other file alone.
    """

    code: str
    severity: Severity
    what: str
    base: str
    new: str

    @property
    def text(self) -> str:
        """All of it in a line."""
        if self.base and self.new:
            return printable(f"{self.what}: {self.base} in BASE, {self.new} in NEW")
        return f"{'BASE' if self.base else 'NEW'} {self.what}: {self.base or self.new}"


def differences(base: Result, new: Result) -> list[Difference]:
    """In what two results differ, the gravest first.

    What a CSV file does not hold cannot be compared: of such a file that alone is said, and its kernel if it is known.
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
    """What each file has of findings; the report of the file itself tells them one by one."""
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
    """Instructions compare with instructions only; told even then, for they do not show a missed cache."""
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
        "delay": ("delay of the link in ms", base.delay_ms, new.delay_ms),
        "listener": ("listener", base.listener, new.listener),
    }
    if Listener.EXTERNAL in {base.listener, new.listener} or len(base.targets) != len(new.targets):
        weighty["target"] = ("target", addresses_text(base.targets, "target"), addresses_text(new.targets, "target"))
    light: dict[str, tuple[str, object, object]] = {
        "source": ("sources", addresses_text(base.sources, "source"), addresses_text(new.sources, "source")),
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
    """What the connections met, as the first round that has them read them back from its namespace."""
    settings = next((r.report.settings for rounds in result.rounds.values() for r in rounds if r.report.settings), {})
    # A hash table shared with the host's namespace has its size with a minus (ip-sysctl, tcp_ehash_entries).
    return {name: value.removeprefix("-") if name == SHARED_TABLE else value for name, value in settings.items()}


def _floor(base: Result, new: Result) -> Iterator[Difference]:
    of_base, of_new = _median_floor(base), _median_floor(new)
    if of_base and of_new and max(of_base, of_new) > FLOOR_CHANGE * min(of_base, of_new):
        shown = (f"{of_base / 1e3:.2f} µs", f"{of_new / 1e3:.2f} µs")
        yield Difference("harness-floor", Severity.WARNING, "harness floor", *shown)


def _median_floor(result: Result) -> float | None:
    """In ns; over all rounds, for the harness is the same whatever strategy it measures."""
    floors = [r.report.floor_ns for rounds in result.rounds.values() for r in rounds if r.report.floor_ns is not None]
    return float(np.median(floors)) if floors else None


def _shown(value: object) -> str:
    """A value in a line; `not known` where the machine or the file does not tell, `none` for an empty setting."""
    if value is None:
        return "not known"
    return str(value) or "none"

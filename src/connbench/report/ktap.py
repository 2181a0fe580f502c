"""Results as tests: the kernel's KTAP, version 1, which kselftest and kernel CI read.

See https://docs.kernel.org/dev-tools/ktap.html. A document is flat: a version line, a plan line, and a line for each
test, after the diagnostic lines that say more about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import connbench
from connbench.analysis.comparison import Comparison
from connbench.analysis.fleet_summary import FleetComparison
from connbench.analysis.gate import judged
from connbench.analysis.soundness import findings
from connbench.findings import UNSUPPORTED, Finding, Severity
from connbench.model import StrategySpec
from connbench.results.fleet_file import Fleet
from connbench.results.result import PARTIAL, Result
from connbench.safe_text import REPLACEMENT, printable
from connbench.thresholds import Expression
from connbench.units import counted

VERSION_LINE = "KTAP version 1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A test, and how it ended.

    Attributes:
        name: What is tested; a reader tells tests apart by it.
        is_ok: Whether it passed.
        notes: What a reader should know about it, each in a diagnostic line.
        skipped: Why nothing could be tested; empty if something was.
    """

    name: str
    is_ok: bool
    notes: Sequence[str] = ()
    skipped: str = ""


def ktap(result: Result, thresholds: Iterable[Expression] = (), more: Iterable[Outcome] = ()) -> str:
    """A result as tests: each strategy was measured, the measurement is sound, and no condition of --fail-if is true.

    Args:
        result: What was measured.
        thresholds: The conditions.
        more: Further tests, which stand last.
    """
    return document([*_measured(result), _sound(result), *_conditions(result, thresholds), *more], _about(result))


def comparison_ktap(comparison: Comparison, thresholds: Iterable[Expression] = ()) -> str:
    """A comparison as tests: the two are comparable, both are sound, and no condition of --fail-if is true."""
    about = f"BASE {comparison.base.name}, NEW {comparison.new.name}"
    return document([*_compared(comparison), *_conditions(comparison.new, thresholds, comparison.base)], about)


def fleet_ktap(fleet: Fleet, thresholds: Iterable[Expression] = ()) -> str:
    """The tests of each host, behind its name; a host that was left out is skipped."""
    asked = list(thresholds)
    expected = dict.fromkeys(spec for result in fleet.results for spec in result.specs)
    tests: list[Outcome] = []
    for host in fleet.hosts:
        if host.result and host.is_measured:
            of_host = [*_measured(host.result), _sound(host.result)]
            of_host += _conditions(host.result, asked, expected=expected)
            tests += [replace(one, name=f"{host.name}: {one.name}") for one in of_host]
        else:
            why = host.fault.message if host.fault else "the host measured nothing"
            tests.append(Outcome(f"{host.name}: measured", host.left_out, [why], why if host.left_out else ""))
    return document(tests, counted(len(fleet.hosts), "host"))


def fleet_comparison_ktap(comparison: FleetComparison, thresholds: Iterable[Expression] = ()) -> str:
    """The tests of the comparison of each host, behind its name; one that NEW lacks fails."""
    asked = list(thresholds)
    tests: list[Outcome] = []
    for name, one in comparison.hosts.items():
        of_host = [*_compared(one), *_conditions(one.new, asked, one.base)]
        tests += [replace(test, name=f"{name}: {test.name}") for test in of_host]
    tests += [Outcome(f"{name}: comparable", is_ok=False, notes=["NEW lacks it"]) for name in comparison.only_base]
    return document(tests, f"BASE {comparison.base.name}, NEW {comparison.new.name}")


def document(tests: Sequence[Outcome], about: str = "") -> str:
    """The KTAP of tests.

    Args:
        tests: The tests, in their order.
        about: What they are about, for a diagnostic line at the begin.
    """
    lines = [VERSION_LINE, f"1..{len(tests)}"]
    if about:
        lines.append(f"# {printable(about)}")
    for number, test in enumerate(tests, 1):
        name = _name(test.name)
        lines += [f"# {name}: {printable(note)}" for note in test.notes]
        directive = f" # SKIP {_name(test.skipped)}" if test.skipped else ""
        lines.append(f"{'ok' if test.is_ok or test.skipped else 'not ok'} {number} {name}{directive}")
    return "\n".join(lines) + "\n"


def skipped_document(reason: str) -> str:
    """The KTAP of a test that this machine cannot make: a plan without a test."""
    return f"{VERSION_LINE}\n1..0 # SKIP {_name(reason)}\n"


def failed_document(reason: str) -> str:
    """The KTAP of a command that failed before it could test anything."""
    return document([Outcome("connbench", is_ok=False, notes=[reason])])


def _name(text: str) -> str:
    """A text without the mark that begins a directive."""
    return printable(text).replace("#", REPLACEMENT)


def _compared(comparison: Comparison) -> Iterator[Outcome]:
    """Tests that two results are comparable, and that each is sound."""
    unknown = "a file does not tell how it was measured" if comparison.is_comparable is None else ""
    notes = [difference.text for difference in comparison.differences]
    yield Outcome("comparable", bool(comparison.is_comparable), notes, unknown)
    for side, result in (("BASE", comparison.base), ("NEW", comparison.new)):
        sound = _sound(result)
        yield replace(sound, name=f"{side}: {sound.name}")


def _about(result: Result) -> str:
    words = [f"connbench {result.environment.get('connbench') or connbench.__version__}"]
    words += [f"Linux {result.kernel}"] if result.kernel else []
    words += [f"range {result.plan.port_range}", f"seed {result.plan.seed}"] if result.plan else []
    return ", ".join(words)


def _measured(result: Result) -> Iterator[Outcome]:
    """A test for each strategy of the plan: all its rounds were made; one that the kernel cannot run is skipped."""
    for spec in result.specs:
        rounds = result.rounds.get(spec, [])
        complete = sum(not one.fault for one in rounds)
        planned = result.plan.rounds if result.plan else len(rounds)
        notes = [f"{complete} of {counted(planned, 'round')} complete"]
        notes += [f"round {one.number}: {one.fault.message}" for one in rounds if one.fault]
        yield Outcome(f"{spec.label}: measured", complete >= max(1, planned), notes)
    for finding in result.known:
        if finding.code == UNSUPPORTED:
            yield Outcome(f"{finding.strategy}: measured", is_ok=True, skipped=finding.message)


def _sound(result: Result) -> Outcome:
    """A test that no finding makes the figures invalid; each finding is a diagnostic line."""
    found = [one for one in findings(result) if one.code not in {PARTIAL, UNSUPPORTED}]
    is_ok = not any(one.severity is Severity.INVALID for one in found)
    return Outcome("sound", is_ok, [_of_finding(one) for one in found])


def _of_finding(finding: Finding) -> str:
    return f"{finding.severity}: {finding.code}: {finding.text}; {finding.advice}"


def _conditions(
    result: Result,
    thresholds: Iterable[Expression],
    base: Result | None = None,
    expected: Iterable[StrategySpec] = (),
) -> Iterator[Outcome]:
    """A test for each condition on each strategy: it is not true."""
    for subject, condition, outcome in judged(thresholds, result, base, expected):
        notes = [outcome.lstrip(",: ")] if outcome else []
        yield Outcome(f"{subject}: not {condition}", not outcome, notes)

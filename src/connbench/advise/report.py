"""Advice as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from connbench.advice.advice import NEXT
from connbench.advice.scenario import Advice, Candidate, Scenario
from connbench.model import Protocol
from connbench.portmodel.algorithm import ALGORITHMS
from connbench.report.blocks import Block, Lines, Table, Verbatim
from connbench.report.json import json_text
from connbench.report.model_text import cost_lines, reserved_text, search
from connbench.report.text import write
from connbench.safe_text import printable
from connbench.units import duration

SCHEMA = 5

LANGUAGES = ("python", "c", "go", "nginx", "haproxy")
"""The values of --code."""

LABEL_COLUMNS = 9
"""Columns of the labels `asked`, `closing`, `kernel` and `times`."""

SAID_ABOVE = {"ports", "exhaustion", "sources", "use"}
"""Topics that the verdict and the lines below it say: the list below the table has the others."""

SAID_WITH_CODE = {"without-option", "below-knee"}
"""Topics that the list has only with --code: the code follows it."""


@dataclass(frozen=True, slots=True)
class KernelText:
    """How a report names the kernel that advice is for.

    Attributes:
        name: Its release, and how its search is known.
        reuse_from: Where the value of net.ipv4.tcp_tw_reuse comes from.
    """

    name: str
    reuse_from: str


def text(advice: Advice, kernel: KernelText, width: int | None = None, languages: Collection[str] = ()) -> str:
    """The verdict, the scenario, the candidates and the reasons; then the code in these languages.

    Args:
        advice: What `advise` found.
        kernel: How the text names the kernel.
        width: Columns to fold prose to; None leaves each line whole.
        languages: Languages to print code in, in lower case.
    """
    # A command to paste is not folded; it follows its sentences without a blank line.
    commands = [line for line in advice.verdict if line.startswith(NEXT)]
    sentences = [line for line in advice.verdict if line not in commands]
    beginning = "\n".join([write([Lines(sentences)], width), *commands])
    return f"{beginning}\n\n{write(_blocks(advice, kernel, languages), width)}"


def _blocks(advice: Advice, kernel: KernelText, languages: Collection[str] = ()) -> list[Block]:
    """What stands below the verdict."""
    parts: list[Block] = [
        Lines([f"{label:<{LABEL_COLUMNS}}{line}" for label, line in _facts(advice, kernel)], indent=LABEL_COLUMNS),
    ]
    if advice.candidates:
        parts.append(_table(advice, advice.candidates))
    if advice.sufficient:
        title = f"with {advice.sufficient.sources} source addresses:"
        parts.append(_table(advice, advice.sufficient.candidates, title))
    # Where no candidate is kept, the verdict says what changes TIME_WAIT.
    elsewhere = SAID_ABOVE | (set() if languages else SAID_WITH_CODE) | (set() if advice.is_kept else {"time-wait"})
    reasons = [one for one in advice.items if one.topic not in elsewhere]
    lines = [f"- {': '.join(filter(None, (one.line, one.reason)))}" for one in reasons]
    lines += _costs(advice)
    has_code = {language.lower() for one in advice.items for language in one.code}
    if has_code and not languages and advice.is_kept:
        lines.append(f"code to paste: --code {' | '.join(word for word in LANGUAGES if word in has_code)}")
    return [*parts, Lines(lines), *_codes(advice, languages)]


def _costs(advice: Advice) -> list[str]:
    """The costs of the calibration. The usual costs have the line `times` above."""
    calibration = advice.scenario.calibration
    if calibration.residual is None:
        return []
    candidates = (*advice.candidates, *(advice.sufficient.candidates if advice.sufficient else ()))
    if not any(one.extrapolates for one in candidates):
        return cost_lines(calibration)
    beyond = f"extrapolated: the calibration has at most {calibration.largest:,} sockets"
    return [beyond, *cost_lines(calibration)]


def _facts(advice: Advice, kernel: KernelText) -> list[tuple[str, str]]:
    """What the user asked for, and what advise assumes: a label and a line each."""
    scenario = advice.scenario
    [ports] = [one for one in advice.items if one.topic == "ports"]
    slo = f", {scenario.slo.text}" if scenario.slo else ""
    allowed = f"up to {scenario.budget * 100:g}% errors{slo}"
    found = [("asked", f"{ports.reason}; {_ends(scenario)}; {allowed}")]
    if closing := _closing(scenario, kernel):
        found.append(("closing", closing))
    found.append(("kernel", f"{printable(kernel.name)}: {search(scenario.algorithm, (scenario.protocol,))}"))
    if scenario.calibration.residual is None:
        is_measurable = scenario.is_here and scenario.protocol is Protocol.TCP
        way_out = "connbench calibrate measures yours (5 s)" if is_measurable else "see --calibrate"
        found.append(("times", f"{scenario.calibration.origin}; {way_out}"))
    return found


def _ends(scenario: Scenario) -> str:
    sources = "one source" if scenario.sources == 1 else f"{scenario.sources:,} sources"
    targets = "one target" if scenario.targets == 1 else f"{scenario.targets:,} targets"
    return f"{sources}, {targets}, range {scenario.ports}{reserved_text(scenario.reserved_in_range)}"


def _closing(scenario: Scenario, kernel: KernelText) -> str:
    """Which side closes first, and for how long that keeps the port in use."""
    if scenario.protocol is Protocol.UDP:
        return ""
    if not scenario.client_closes:
        return "server first: TIME_WAIT is at the server, and the client's port is free at once"
    if scenario.arrivals is None:
        return "ports in TIME_WAIT are not counted: add --rate to count them"
    where = "" if scenario.is_loopback else "not "
    timestamps = "" if scenario.time_wait.has_timestamps else ", no TCP timestamps"
    reuse = f"tcp_tw_reuse {scenario.time_wait.reuse} ({kernel.reuse_from})"
    return f"client first; {reuse}, {where}loopback{timestamps}: TIME_WAIT {scenario.time_wait_seconds():g} s"


def _table(advice: Advice, candidates: Sequence[Candidate], title: str = "") -> Table:
    slo = advice.scenario.slo
    rows = [_row(one, has_slo=slo is not None) for one in candidates]
    statistic = slo.statistic if slo else "p99"
    columns = ("mean",) if statistic == "mean" else ("mean", statistic)
    kept = ("budget", "slo") if slo else ("budget",)
    if statistic == "mean":
        rows = [row[:3] + row[4:] for row in rows]
    return Table(("strategy", "errors", *columns, "tries", *kept), rows, title)


def _row(one: Candidate, *, has_slo: bool) -> tuple[str, ...]:
    kept = ["kept" if one.keeps_budget else "exceeded"]
    if has_slo:
        kept.append("kept" if one.keeps_slo else "missed")
    return (
        one.spec.label,
        f"{one.errors:.2%}",
        duration(one.mean_ns),
        duration(one.slo_ns),
        f"{one.tries:.2f}",
        *kept,
    )


def _codes(advice: Advice, languages: Collection[str]) -> Iterator[Block]:
    """The code in these languages, each text once; a line that says why if there is none."""
    printed: list[str] = []
    for one in advice.items:
        for language, code in one.code.items():
            if code not in printed and language.lower() in languages:
                printed.append(code)
                yield Lines([f"{language}: {one.line}"])
                yield Verbatim(textwrap.indent(code.rstrip("\n"), "    "))
    if languages and not printed:
        yield Lines([f"no code for {', '.join(languages)}: the advised strategy needs none, or cannot be used there"])


def json(advice: Advice, kernel: KernelText) -> str:
    """The same as one JSON document: times in ns, shares from 0 to 1."""
    scenario = advice.scenario
    arrivals = scenario.arrivals
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": advice.verdict,
        "kernel": kernel.name,
        "algorithm": next(word for word, one in ALGORITHMS.items() if one is scenario.algorithm),
        "protocol": scenario.protocol,
        "connections": scenario.connections,
        "rate_per_s": arrivals and arrivals.rate,
        "hold_s": arrivals and arrivals.hold,
        "port_range": scenario.ports,
        "reserved": scenario.reserved_in_range,
        "sources": scenario.sources,
        "targets": scenario.targets,
        "today": scenario.today and scenario.today.name,
        "closes_first": "client" if scenario.client_closes else "server",
        "tcp_tw_reuse": scenario.time_wait.reuse,
        "target_on_loopback": scenario.is_loopback,
        "time_wait": {"seconds": scenario.time_wait_seconds(), "ports": scenario.in_time_wait()},
        "ports_in_use": scenario.ports_in_use(),
        "ports_available": scenario.capacity(),
        "options": sorted(scenario.options),
        "error_budget": scenario.budget,
        "slo": scenario.slo,
        "calibration": scenario.calibration,
        "kept": advice.is_kept,
        "strategies": _strategies(advice.candidates),
        "with_sources": advice.sufficient
        and {"sources": advice.sufficient.sources, "strategies": _strategies(advice.sufficient.candidates)},
        "advice": list(advice.items),
    }
    return json_text(document)


def _strategies(candidates: Sequence[Candidate]) -> list[dict[str, object]]:
    return [{"label": one.spec.label, "tried": one} for one in candidates]

"""One HTML page of results: figures, charts, findings, environment and the command, with nothing left to be fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

import orjson

import connbench
from connbench.analysis.comparison import compare
from connbench.analysis.soundness import findings
from connbench.analysis.sweep_analysis import Sweep, is_sweep
from connbench.findings import Finding, group_by_kind, hidden_line
from connbench.model import Phase, StrategySpec
from connbench.report import libraries
from connbench.report.blocks import Block, Heading, Lines, Table, Verbatim
from connbench.report.comparison_report import strategy_tables
from connbench.report.html import figures
from connbench.report.html.figures import Picture, picture_of, shown_round
from connbench.report.ranking_table import ranking_of
from connbench.report.run_report import kernel_name, strategy_blocks
from connbench.report.run_verdict import run_verdict
from connbench.report.series import ACQUIRE, FIGURES, HANDSHAKE, Series, colour_of, figure_of, in_figure, series_of
from connbench.results.result import Result
from connbench.strategies import STRATEGIES
from connbench.units import IN_BYTES, memory
from connbench.wording import listed

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_NAMED = 5
"""Strategies that a heading names; if there are more, it counts them."""

MOST_DRAWN = 64
"""Strategies that the charts draw: no reader can tell more apart, and with thousands a browser hangs."""

TERMS = (
    ("latency", "the time in connect() alone; for UDP the acquire time"),
    ("acquire", "what a program waits for its connection: setsockopt(), bind(), connect(), and every further try"),
    ("bind()", "acquire without the last connect(): setsockopt() and bind() of every try"),
    ("first half, second half", "attempts with less than half of the ports in use, and all others"),
    ("handshake", "with --in-flight: from the end of connect() until the target accepted or refused"),
    ("even, odd", "the parity of the local port that the connection got"),
    ("errored, failed", "attempts that ended without a connection; their errno says why"),
    ("p50, p99", "half, and 99 in 100, of the attempts took no longer than this"),
    ("share of the range in use", "connections open, divided by the ports that they could have"),
    ("knee", "the connection from which on connections are slow, and stay slow"),
    *((strategy.name, strategy.explanation) for strategy in STRATEGIES.values()),
    ("harness floor", "what connbench itself adds to each connect()"),
)
"""Terms that a reader may not know, with their meaning; the end of the page explains them."""

COMMAND = "command"
"""The key of the command line in a result's environment; the page shows the command apart from the rest."""

_UNITS = {"timeout": "s", "delay_ms": "ms"}

SCRIPT_SAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
"""The characters that can end or change a script element, and their escapes in JSON."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first screen of a page says and shows, where that is not a run's own.

    Attributes:
        verdict: Sentences.
        picture: What shows what they say; None for the charts of the results.
        title: What was measured; empty for the strategies' names.
        findings: The findings of all hosts, where the results are those of hosts and the page's tables compare them;
            None where each result has findings of its own, and the page makes tables.
    """

    verdict: Sequence[str]
    picture: Picture | None = None
    title: str = ""
    findings: Sequence[Finding] | None = None


@dataclass(frozen=True, slots=True)
class StrategyPart:
    """One strategy of one result."""

    label: str
    colour: str
    blocks: Sequence[Block]


Kinds = list[tuple[list[Finding], list[Finding]]]
"""The findings of each kind: those to show, and those to hide."""


@dataclass(frozen=True, slots=True)
class ResultPart:
    """One result: where it comes from and what is to be said of all of it."""

    name: str
    origin: str
    command: str
    tables: tuple[Table, ...]


def check_libraries() -> None:
    """Check that the libraries of a page are installed, before anything is read.

    Raises:
        EnvironmentFault: jinja2 or plotly is not installed.
    """
    _libraries()


def html_page(results: Sequence[Result], more: Sequence[Table] = (), opening: Opening | None = None) -> str:
    """The page: one document that loads nothing from the network.

    Whatever comes from a result's file is escaped, and the page's own policy forbids any script but its two.

    Args:
        results: What was measured.
        more: Tables that stand before all others.
        opening: What the first screen says and shows; without it the verdict of each run, and its chart.

    Raises:
        EnvironmentFault: jinja2 or plotly is not installed.
    """
    environment, plotly = _libraries()
    series = series_of(results)
    script = _asset("page.js")
    is_of_hosts = opening is not None and opening.findings is not None
    kept = series[:MOST_DRAWN]
    has_levels = bool(kept) and all(each.strategy.strategy.phase is Phase.PROFILE for each in kept)
    figure = figure_of(kept)
    drawn = in_figure(kept, figure)
    of_range = ACQUIRE if has_levels else figure
    utilisation = figures.utilisation(drawn, of_range)
    handshake = figures.utilisation(kept, HANDSHAKE)
    picture = (opening and opening.picture) or picture_of(results)
    page = environment.from_string(_asset("page.html.j2")).render(
        version=connbench.__version__,
        what=(opening and opening.title) or _what(results),
        verdict=opening.verdict if opening else _run_verdicts(results),
        picture=picture,
        first="picture" if picture else "utilisation" if utilisation["data"] else "scatter",
        has_levels=has_levels,
        drawn_time=FIGURES[figure].capitalize(),
        range_time=FIGURES[of_range].capitalize(),
        has_handshakes=bool(handshake["data"]),
        terms=TERMS,
        title=", ".join(result.name for result in results if result.name) or "a run",
        results=[_result(result) for result in results],
        hidden_line=hidden_line,
        tables=[*more, *([] if is_of_hosts or (more and is_lone_sweep(results)) else comparison_tables(results))],
        noun="host" if is_of_hosts else "file",
        findings=_findings(results, opening),
        strategies=[_strategy(position, each) for position, each in enumerate(series)],
        parities=figures.PARITY_COLOURS,
        switches=len(drawn),
        notes=_chart_notes(drawn, len(series)),
        figures=_script_safe(
            {
                "scatter": figures.scatter(drawn),
                "utilisation": utilisation,
                "handshake": handshake,
                "picture": picture and picture.figure,
            }
        ),
        style=_asset("style.css"),
        plotly=plotly,
        script=script,
        policy=_policy(plotly, script),
    )
    return page.encode(errors="replace").decode()  # a file's name may have bytes that are not text


def _what(results: Sequence[Result]) -> str:
    """What was measured, in a few words: the strategies, or how many there are."""
    if is_lone_sweep(results):
        sweep = Sweep.of(results[0])
        return f"connect() with {len(sweep.settings)} settings at {len(sweep.loads)} loads"
    labels = list(dict.fromkeys(spec.label for result in results for spec in result.specs))
    if not labels:
        return "No attempt was measured"
    if len(labels) > MOST_NAMED:
        return f"connect() with {len(labels)} settings"
    return f"connect() with {listed(labels)}"


def _run_verdicts(results: Sequence[Result]) -> list[str]:
    """The verdict of each result that is not a sweep; the page of a sweep gets its verdict in `Opening`."""
    found: list[str] = []
    for result in results:
        if not is_sweep(result):
            sentences = run_verdict(result)
            found += [f"{result.name}: {sentences[0]}", *sentences[1:]] if len(results) > 1 and sentences else sentences
    return found


def is_lone_sweep(results: Sequence[Result]) -> bool:
    """Whether a page is of one sweep: its tables compare settings at the same load, and total times would not."""
    return len(results) == 1 and is_sweep(results[0])


def comparison_tables(results: Sequence[Result]) -> list[Table]:
    """The tables that compare the strategies of all results; none for a single strategy. A profile has its own."""
    series = [one for one in series_of(results) if one.strategy.strategy.phase is not Phase.PROFILE]
    if len(series) < 2:
        return []
    side_by_side = replace(ranking_of(results, [(s.label, s.strategy) for s in series]).table, title="Comparison")
    return [side_by_side, *_compared(*results)] if len(results) == 2 else [side_by_side]


def _compared(base: Result, new: Result) -> Iterator[Table]:
    """The tables of `connbench compare`, if the two results have a strategy in common."""
    compared = compare(base, new)
    if not compared.strategies:
        return
    files = f"BASE is {base.name or 'the first'}, NEW is {new.name or 'the second'}"
    if compared.differences:
        rows = [(str(d.severity), d.text) for d in compared.differences]
        title = "What may be the reason of a change"
        yield Table(("severity", "what is not alike"), rows, title=title, remarks=(files,), words=(1,))
    for table in strategy_tables(compared):
        yield replace(table, remarks=(*table.remarks, files))


def _findings(results: Sequence[Result], opening: Opening | None) -> list[tuple[str, Kinds]]:
    """A heading and the findings by kind: of all hosts at once, or of each result."""
    if opening and opening.findings is not None:
        return [("Findings", group_by_kind(opening.findings))]
    return [
        (f"Findings: {result.name or 'this run'}" if len(results) > 1 else "Findings", group_by_kind(findings(result)))
        for result in results
    ]


def _result(result: Result) -> ResultPart:
    tables = (_plan_table(result), environment_table(result))
    return ResultPart(
        name=result.name or "this run",
        origin=_origin(result),
        command=str(result.environment.get(COMMAND) or ""),
        tables=tuple(table for table in tables if table),
    )


def _origin(result: Result) -> str:
    """File, kernel, CPU, date and range; each if the file has it."""
    environment = result.environment
    time = str(environment.get("time") or "").replace("T", " ").removesuffix("+00:00")
    parts = (
        result.name,
        kernel_name(result),
        str(environment.get("cpu_model") or ""),
        f"{time} UTC" if time else "",
        f"ports {result.plan.port_range}" if result.plan else "",
    )
    return " · ".join(filter(None, parts))


def _plan_table(result: Result) -> Table | None:
    """The plan; None if the file has none."""
    if result.plan is None:
        return None
    plan = result.plan
    return Table(("plan", "value"), [_row(field.name, getattr(plan, field.name)) for field in fields(plan)])


def environment_table(result: Result) -> Table | None:
    """The machine as the file recorded it, with `group / name` for a nested value; None if it recorded nothing."""
    rows = [_row(name, value) for name, value in _flat(result.environment) if name != COMMAND]
    return Table(("environment", "value"), rows) if rows else None


def _flat(values: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{group}{name} / ")
        else:
            yield f"{group}{name}", value


def _row(name: str, value: object) -> tuple[str, str]:
    if name in IN_BYTES and isinstance(value, int):
        return name, memory(value)
    words = _words(value)
    return name, f"{words} {_UNITS[name]}" if name in _UNITS and value is not None else words


def _words(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, StrategySpec):
        return value.label
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return str(value)


def _strategy(position: int, series: Series) -> StrategyPart:
    return StrategyPart(series.label, colour_of(position), strategy_blocks(series.result, series.strategy))


def _chart_notes(series: Sequence[Series], there: int) -> list[str]:
    """What the charts leave out or change; they draw `series` out of `there` strategies."""
    notes = [f"The first {len(series)} of {there:,} strategies are drawn."] if there > len(series) else []
    notes += [
        f"{each.label}: round {shown_round(each.strategy).number} of {len(each.strategy.rounds)} is drawn, "
        "the one of the median total time."
        for each in series
        if len(each.strategy.rounds) > 1
    ]
    unknown = [s.label for s in series if s.strategy.capacity is None and s.strategy.strategy.phase is Phase.FILL]
    if unknown:
        notes.append(f"The range of {', '.join(unknown)} is not known: its share is of the connections made.")
    if any(each.strategy.strategy.phase is Phase.PROFILE for each in series):
        notes.append("Of a profile each point as the range fills is a level.")
    if any(each.strategy.strategy.phase is Phase.CHURN for each in series):
        notes.append("Churn fills no range: it is in the chart above alone.")
    every = figures.one_in(series)
    if every > 1:
        notes.append(f"With all attempts a chart would be slow: 1 in {every} is drawn, and the slowest of each colour.")
    return notes


def _script_safe(values: object) -> str:
    """JSON for a script element: no character of it ends the element or begins another."""
    json = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return json.translate(SCRIPT_SAFE)


def _policy(*scripts: str) -> str:
    """The content security policy: it allows these scripts, inline style, and nothing from the network.

    plotly.js draws with regl, which makes its functions from strings: hence 'unsafe-eval', for these scripts only.
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _libraries() -> tuple[Environment, str]:
    for library in ("jinja2", "plotly"):
        libraries.require(library, "an HTML page")
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # it has no types

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for kind in (Heading, Verbatim, Table, Lines):
        environment.tests[kind.__name__] = lambda block, kind=kind: isinstance(block, kind)
    return environment, str(get_plotlyjs())

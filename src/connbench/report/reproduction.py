"""The talk's measurements beside those made here: a table that grows row by row, then what holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from connbench.analysis.soundness import findings
from connbench.analysis.summary import Summary, summarize
from connbench.findings import Finding
from connbench.report.rows import Block, Table
from connbench.report.text import finding, fold
from connbench.reproduction.cases import FULL_RANGE, Case
from connbench.reproduction.claims import Claim, judge, speed_up, talk_speed_up
from connbench.reproduction.published import published
from connbench.results.result import Result
from connbench.units import count, duration

_COLUMNS = "{:<17}{:>8}  {:>10}  {:>8}  {:>9}  {:>9}  {}"
"""Fixed, for the rows are printed as they are measured; 74 columns with the longest verdict."""

TALK = "the talk 'connect() - why you so slow?'"

HOLDS, DIFFERS, NOT_JUDGED = "holds", "differs", "-"


_HEADER = ("", "errors", "total time", "speed-up", "even mean", "odd mean", "claim")


def heading() -> str:
    """The names of the columns."""
    return _line(_HEADER)


def row(case: Case, result: Result) -> str:
    """What was measured for a case, and below it what the talk published."""
    return "\n".join(map(_line, _cells(case, result)))


def blocks(cases: Sequence[Case], result: Result) -> list[Block]:
    """The same table and the claims, for a page."""
    rows = [cells for case in cases if case.spec in result.rounds for cells in _cells(case, result)]
    claims = [
        (_name(case), HOLDS if claim.holds else DIFFERS, claim.text) for case in cases for claim in judge(case, result)
    ]
    note = f"speed-up: against plain, by the attempt; below each row what the talk published, over {FULL_RANGE}"
    return [
        Block(f"{TALK}, again", Table(_HEADER, rows), (note,), words=(6,)),
        Block("What the talk claims, and whether it holds here", Table(("", "here", "claim"), claims), words=(1, 2)),
    ]


def _cells(case: Case, result: Result) -> list[tuple[str, ...]]:
    strategy = next(s for s in result.strategies if s.strategy == case.spec)
    rows = [_measured(case, summarize(strategy), result)]
    if case.published is not None:
        rows.append(_published(case.published, talk_speed_up(case)))
    return rows


def _measured(case: Case, summary: Summary, result: Result) -> tuple[str, ...]:
    faster = speed_up(summary, result)
    return (
        _name(case),
        count(summary.errored.latency.count),
        duration(summary.total_ns),
        "-" if faster is None else f"{faster:.3g} x",
        *(duration(group.latency.mean) if group.latency.count else "-" for group in (summary.even, summary.odd)),
        verdict(judge(case, result)),
    )


def _published(key: str, faster: float | None) -> tuple[str, ...]:
    talk, (_, _, window) = published()[key], key.partition("-")
    return (
        f"  the talk, {window}" if window else "  the talk",
        count(talk.errored),
        duration(talk.total_ns),
        "-" if faster is None else f"{faster:.3g} x",
        duration(talk.even.mean_ns),
        duration(talk.odd.mean_ns),
        "",
    )


def _line(cells: tuple[str, ...]) -> str:
    return _COLUMNS.format(*cells).rstrip()


def _name(case: Case) -> str:
    spec = case.spec
    if spec.window:
        return f"{spec.name} {spec.window}"
    connections, sources = spec.load.connections, spec.load.sources
    if connections and sources:
        return f"{spec.name}, {sources} source{'s' if sources > 1 else ''}"
    return spec.name


def verdict(claims: Sequence[Claim]) -> str:
    """One word for a row: whether all its claims hold, or that nothing could be judged."""
    if not claims:
        return NOT_JUDGED
    return HOLDS if all(claim.holds for claim in claims) else DIFFERS


def opening(result: Result, width: int | None = None) -> str:
    """What the talk is, and where its measurements are made again; its own range, where that is another."""
    plan = result.plan
    where = ""
    if plan:
        talk = "" if plan.port_range == FULL_RANGE else f" (the talk: {FULL_RANGE})"
        where = f", range {plan.port_range}{talk}, {plan.namespace}, seed {plan.seed}"
    return fold(f"{TALK}, again on Linux {result.environment.get('kernel', 'unknown')}{where}", width)


def closing(cases: Sequence[Case], result: Result, width: int | None = None, told: Collection[Finding] = ()) -> str:
    """Each claim with whether it holds, how many do, and the findings but those in `told`."""
    judged = [(case, judge(case, result)) for case in cases]
    claims = [(case, claim) for case, some in judged for claim in some]
    lines = [
        fold(f"{HOLDS if claim.holds else DIFFERS:<8} {_name(case)}: {claim.text}", width, " " * 9)
        for case, claim in claims
    ]
    holding = sum(claim.holds for _, claim in claims)
    unjudged = sum(not some for _, some in judged)
    rows = f"; {unjudged} rows not judged" if unjudged else ""
    total = [f"{holding} of {len(claims)} claims hold here{rows}"]
    rest = [finding(f, width) for f in findings(result) if f not in told]
    return "\n\n".join("\n".join(part) for part in (lines, total, rest) if part)

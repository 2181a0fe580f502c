"""The report of a reproduction: which claims hold, the talk's figures beside those measured here, and each claim."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from connbench.analysis.soundness import findings
from connbench.analysis.summary import Summary, summarize
from connbench.findings import Finding
from connbench.model import Plan
from connbench.report.blocks import Block, Findings, Lines, Table, Verbatim, Verdict
from connbench.report.formats import FORMATS as CORE_FORMATS
from connbench.report.html.figures import Bar, Picture, bars
from connbench.report.html.page import Opening
from connbench.report.json import json_document, json_text
from connbench.report.ktap import Outcome
from connbench.report.ktap import ktap as run_ktap
from connbench.report.run_report import markdown
from connbench.report.run_verdict import CUT_SHORT
from connbench.report.text import write
from connbench.reproduce.cases import FASTER, FULL_RANGE, Case, cases, cases_of, published
from connbench.reproduce.claims import Claim, claims_of, odd_to_even, speed_up, talk_speed_up
from connbench.results.result import Result
from connbench.safe_text import printable
from connbench.strategies import BASELINE
from connbench.thresholds import Expression
from connbench.units import count, duration

_COLUMNS = "{:<17}{:>8}  {:>10}  {:>8}  {:>9}  {:>9}  {}"
"""At most 74 columns wide."""

TALK = "the talk 'connect() - why you so slow?'"

SCHEMA = 1
"""Version of the JSON document of `json`; raised when a key changes its name or meaning."""

HOLDS, DIFFERS, NOT_JUDGED = "holds", "differs", "-"

_HEADER = ("", "errors", "total time", "speed-up", "even mean", "odd mean", "claim")

PUBLISHED = "  the talk"
"""The first cell of a row of published figures, which stands below the row of measured ones."""

MOST_NAMED = 3
"""How many of the claims that do not hold the verdict names."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A reproduction with the claims about each case; computed once, because it takes a while."""

    result: Result
    plan: Plan
    claims: dict[Case, tuple[Claim, ...]]

    @classmethod
    def of(cls, result: Result) -> Self:
        if result.plan is None:
            raise ValueError("a reproduction has a plan")
        return cls(result, result.plan, {case: claims_of(case, result) for case in cases_of(result.plan)})

    @property
    def measured(self) -> list[tuple[Case, Summary]]:
        """The measured cases, in the order of the table."""
        by_spec = {strategy.strategy: strategy for strategy in self.result.strategies}
        return [(case, summarize(by_spec[case.spec])) for case in self.claims if case.spec in by_spec]

    @property
    def each_claim(self) -> list[tuple[Case, Claim]]:
        return [(case, claim) for case, claims in self.claims.items() for claim in claims]

    def first_whole(self, name: str) -> tuple[Case, Summary] | None:
        """The first case of a strategy that has claims."""
        return next((one for one in self.measured if one[0].spec.name == name and self.claims[one[0]]), None)

    @property
    def kernel(self) -> str:
        return f"Linux {printable(str(self.result.environment.get('kernel', 'unknown')))}"


def report(result: Result, width: int | None = None, already_printed: Collection[Finding] = ()) -> str:
    """The text for a terminal: the verdict, the table, each claim, and the findings.

    Args:
        result: A reproduction.
        width: Columns to fold prose to; None leaves each sentence on one line, as a pipe wants it.
        already_printed: Findings to leave out, because stderr has shown them.
    """
    judged = _Judged.of(result)
    claims = [f"{_word(claim):<8} {_name(case)}: {claim.text}" for case, claim in judged.each_claim]
    parts: list[Block] = [
        Verdict(_verdict(judged)),
        Lines([_opening(judged)]),
        Verbatim("\n".join(map(_line, (_HEADER, *_cells(judged))))),
        Lines(claims, indent=9),
        Findings([one for one in findings(result) if one not in already_printed]),
        Lines([f"{_held(judged)} claims hold; the verdict is above the table"] if claims else []),
    ]
    return write(parts, width, verdict_first=True)


def tables(result: Result) -> list[Table]:
    """The table and the claims, for an HTML page."""
    judged = _Judged.of(result)
    claims = [(_name(case), _word(claim), claim.text) for case, claim in judged.each_claim]
    note = f"speed-up: against plain, by the attempt; below each row what the talk published, over {FULL_RANGE}"
    rows = _cells(judged)
    published = tuple(position for position, row in enumerate(rows) if row[0].startswith(PUBLISHED))
    all_hold = claims and all(claim.holds for _, claim in judged.each_claim)
    folded = f"{_held(judged)} claims hold: show each" if all_hold else None
    return [
        Table(_HEADER, rows, title=f"{TALK}, again", remarks=(note,), words=(6,), muted=published),
        Table(
            ("", "here", "claim"),
            claims,
            title="What the talk claims, and whether it holds here",
            words=(1, 2),
            folded=folded,
        ),
    ]


def document(result: Result) -> dict[str, Any]:
    """The verdict's sentences, each claim, and a row for each case, for programs; times in ns.

    `holds` of a row is null if no claim could be judged; a figure that does not exist is null.
    """
    judged = _Judged.of(result)
    return {
        "verdict": _verdict(judged),
        "claims_that_hold": sum(claim.holds for _, claim in judged.each_claim),
        "claims": [_claim(case, claim) for case, claim in judged.each_claim],
        "rows": [_row(judged, case, summary) for case, summary in judged.measured],
    }


def picture(result: Result) -> Picture | None:
    """Bars of each strategy's speed-up over plain, here and in the talk; the first pair is odd over even ports."""
    found: list[Bar] = []
    for row in document(result)["rows"]:
        talk = row["talk"] or {}
        if row["strategy"] == BASELINE.name:
            name, here, published = f"{BASELINE.name}: odd / even", _odd_to_even(row), _odd_to_even(talk)
        else:
            name, here, published = f"{row['row']}: {BASELINE.name} / this", row["speed_up"], talk.get("speed_up")
        for group, value in (("measured here", here), ("the talk", published)):
            if value and published:  # without a published figure there is nothing to compare
                found.append(Bar(name, group, value, f"{value:.3g} x"))
    if not found:
        return None
    return Picture(
        bars(found, "times"),
        "Measured here beside the talk",
        "First: the mean latency on odd ports divided by that on even ports. Below it: the mean latency of plain "
        "divided by that of each strategy.",
    )


def _odd_to_even(row: dict[str, Any]) -> float | None:
    even, odd = row.get("even_mean_ns"), row.get("odd_mean_ns")
    return odd / even if even and odd else None


def json(result: Result) -> str:
    """The entries of `document`, with environment, plan and findings, and without the attempts."""
    where = {
        "schema": SCHEMA,
        "environment": result.environment,
        "plan": result.plan,
        "partial": result.is_partial,
        **document(result),
        "findings": findings(result),
    }
    return json_text(where, indented=True)


def opening(result: Result) -> Opening:
    """What the first screen of an HTML page says and shows."""
    return Opening(verdict(result), picture(result), "connect() as the talk measured it, measured again")


def ktap(result: Result, thresholds: Iterable[Expression] = ()) -> str:
    """The tests of a run, and behind them one for each claim; those of a row without a verdict are skipped."""
    tests: list[Outcome] = []
    for case, claims in _Judged.of(result).claims.items():
        tests += [Outcome(f"{_name(case)}: claim {claim.figure}", claim.holds, [claim.text]) for claim in claims]
        if not claims:
            why = "the row was not measured whole, or not soundly"
            tests.append(Outcome(f"{_name(case)}: claims", is_ok=True, skipped=why))
    return run_ktap(result, thresholds, tests)


FORMATS: dict[str, Callable[..., str]] = {
    **CORE_FORMATS,
    "ktap": ktap,
    "json": lambda result: json_document(result, {"reproduction": document(result)}),
    "markdown": lambda result: markdown(result, verdict(result)),
}
"""A writer for each format of a result. JSON, Markdown and KTAP contain the claims; the others are those of a run."""


def _claim(case: Case, claim: Claim) -> dict[str, Any]:
    return {
        "row": _name(case),
        "figure": claim.figure,
        "holds": claim.holds,
        "measured": claim.measured,
        "expected": {"at_least": claim.at_least, "at_most": claim.at_most, "more_than": claim.more_than},
        "talk": claim.talk,
        "text": claim.text,
    }


def _row(judged: _Judged, case: Case, summary: Summary) -> dict[str, Any]:
    claims = judged.claims[case]
    talk = published()[case.published] if case.published else None
    return {
        "row": _name(case),
        "strategy": case.spec.label,
        "holds": all(claim.holds for claim in claims) if claims else None,
        "attempts": summary.attempts,
        "errors": summary.errored.latency.count,
        "total_ns": summary.total_ns,
        "speed_up": speed_up(summary, judged.result),
        "even_mean_ns": summary.even.latency.mean,
        "odd_mean_ns": summary.odd.latency.mean,
        "talk": talk
        and {
            "title": talk.title,
            "attempts": talk.attempts,
            "errors": talk.errored,
            "total_ns": talk.total_ns,
            "speed_up": talk_speed_up(case),
            "even_mean_ns": talk.even.mean_ns,
            "odd_mean_ns": talk.odd.mean_ns,
        },
    }


def verdict(result: Result) -> tuple[str, ...]:
    """What a reader should take away, as sentences without markup: which claims hold, and the main figures."""
    return _verdict(_Judged.of(result))


def _verdict(judged: _Judged) -> tuple[str, ...]:
    claims = judged.each_claim
    if not claims:
        return (f"No claim of {TALK} could be judged on {judged.kernel}: no row is whole and sound.",)
    differing = [f"{_name(case)}: {claim.text}" for case, claim in claims if not claim.holds]
    if differing:
        more = f"; and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
        not_so = f" These differ: {'; '.join(differing[:MOST_NAMED])}{more}."
    else:
        not_so = ""
    unjudged = [_name(case) for case, some in judged.claims.items() if not some]
    missing = f" Not judged: {'; '.join(unjudged)}." if unjudged else ""
    left_out = [_name(case) for case in cases(judged.plan.port_range) if case not in judged.claims]
    missing += f" This kernel does not support {', '.join(left_out)}." if left_out else ""
    first = f"{_held(judged)} claims of {TALK} hold on {judged.kernel}.{not_so}{missing}"
    return (first, *_plain(judged), *_others(judged), *_next(judged))


def _held(judged: _Judged) -> str:
    """How many claims hold: `All 37`, or `36 of 37`; `All 3 judged` if some cases could not be judged."""
    held, number = sum(claim.holds for _, claim in judged.each_claim), len(judged.each_claim)
    told = f"All {number}" if held == number else f"{held} of {number}"
    return told if all(judged.claims.values()) else f"{told} judged"


def _plain(judged: _Judged) -> Iterator[str]:
    """plain: its total time, and how much slower its second half is."""
    found = judged.first_whole(BASELINE.name)
    if found is None:
        return
    summary, talk = found[1], published()[BASELINE.name]
    ratio = odd_to_even(summary)
    split = f", and an odd port costs {ratio:.3g} x an even one" if ratio else ""
    told = f" (the talk: {duration(talk.total_ns)} for {count(talk.attempts)}, {talk.odd_to_even:.3g} x)"
    yield f"{BASELINE.name} takes {duration(summary.total_ns)} for {count(summary.attempts)} connections{split}{told}."


def _others(judged: _Judged) -> Iterator[str]:
    """The shortest window and the whole range: total time, speed-up and errors."""
    told = []
    for case, summary in filter(None, map(judged.first_whole, FASTER)):
        faster, errors = speed_up(summary, judged.result), summary.errored.latency.count
        times = f" ({faster:.3g} x as fast as {BASELINE.name})" if faster else ""
        failing = f"{errors / summary.attempts:.1%} of its connections fail" if errors else "no connection fails"
        told.append(f"{_name(case)} takes {duration(summary.total_ns)}{times}, and {failing}")
    if told:
        yield "; ".join(told) + "."


def _next(judged: _Judged) -> Iterator[str]:
    ports = len(judged.plan.port_range)
    if judged.result.is_partial:
        yield CUT_SHORT
    elif ports < len(FULL_RANGE):
        yield (
            f"Next: connbench reproduce, without --quick, measures the talk's {count(len(FULL_RANGE))} ports "
            f"instead of {count(ports)}: the search grows with them."
        )


def _cells(judged: _Judged) -> list[tuple[str, ...]]:
    """A row for each case, and below it a row of the figures that the talk published."""
    rows = []
    for case, summary in judged.measured:
        rows.append(_measured(judged, case, summary))
        if case.published is not None:
            rows.append(_published(case.published, talk_speed_up(case)))
    return rows


def _measured(judged: _Judged, case: Case, summary: Summary) -> tuple[str, ...]:
    faster, claims = speed_up(summary, judged.result), judged.claims[case]
    return (
        _name(case),
        count(summary.errored.latency.count),
        duration(summary.total_ns),
        "-" if faster is None else f"{faster:.3g} x",
        *(duration(group.latency.mean) for group in (summary.even, summary.odd)),
        (HOLDS if all(claim.holds for claim in claims) else DIFFERS) if claims else NOT_JUDGED,
    )


def _published(key: str, faster: float | None) -> tuple[str, ...]:
    talk, (_, _, window) = published()[key], key.partition("-")
    return (
        f"{PUBLISHED}, {window}" if window else PUBLISHED,
        count(talk.errored),
        duration(talk.total_ns),
        "-" if faster is None else f"{faster:.3g} x",
        duration(talk.even.mean_ns),
        duration(talk.odd.mean_ns),
        "",
    )


def _line(cells: tuple[str, ...]) -> str:
    return _COLUMNS.format(*cells).rstrip()


def _word(claim: Claim) -> str:
    return HOLDS if claim.holds else DIFFERS


def _name(case: Case) -> str:
    spec = case.spec
    if spec.window:
        return f"{spec.name} {spec.window}"
    connections, sources = spec.load.connections, spec.load.sources
    if connections and sources:
        return f"{spec.name}, {sources} source{'s' if sources > 1 else ''}"
    return spec.name


def _opening(judged: _Judged) -> str:
    """The talk, the kernel and the plan of the reproduction; and the talk's range, if it differs."""
    plan = judged.plan
    talk = "" if plan.port_range == FULL_RANGE else f" (the talk: {FULL_RANGE})"
    made = f"{plan.namespace}, loop {plan.loop.language}, seed {plan.seed}"
    return f"{TALK}, again on {judged.kernel}, range {plan.port_range}{talk}, {made}"

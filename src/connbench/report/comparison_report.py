"""A comparison of two results: its verdict and tables as blocks, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from math import log
from typing import Any

from connbench.analysis.bootstrap import CONFIDENCE, FEWEST, ChangeVerdict
from connbench.analysis.comparison import (
    ERRORS,
    Comparison,
    Difference,
    Figure,
    RoundCount,
    StrategyComparison,
)
from connbench.findings import Severity
from connbench.report import blocks as block
from connbench.report import markdown as markdown_writer
from connbench.report import text as text_writer
from connbench.report.blocks import Alert, Block, Heading, Lines, Table
from connbench.report.json import json_text
from connbench.results.result import Result
from connbench.safe_text import printable
from connbench.units import count, duration
from connbench.wording import listed

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""

HEADER = ("figure", "BASE", "NEW", "NEW/BASE", f"{CONFIDENCE:.0%} interval", "verdict")

ALARM = "one of these may be the reason of a change below:"

CHANGED = {ChangeVerdict.FASTER, ChangeVerdict.SLOWER, ChangeVerdict.FEWER_ERRORS, ChangeVerdict.MORE_ERRORS}

SAID = {
    ChangeVerdict.FASTER: ("is faster", "are faster"),
    ChangeVerdict.SLOWER: ("is slower", "are slower"),
    ChangeVerdict.FEWER_ERRORS: ("has fewer errors", "have fewer errors"),
    ChangeVerdict.MORE_ERRORS: ("has more errors", "have more errors"),
    ChangeVerdict.NO_DIFFERENCE: ("shows no difference", "show no difference"),
    ChangeVerdict.UNDETERMINED: ("is undetermined", "are undetermined"),
}
"""How a sentence puts each verdict, for one figure and for several."""

_Named = tuple[StrategyComparison, str, Figure]


def text(comparison: Comparison, width: int | None = None) -> str:
    """The comparison as text. That the two are not comparable stands before all else, and again in the verdict."""
    return text_writer.write([Lines([not_comparable(comparison)]), *report_blocks(comparison)], width)


def markdown(comparison: Comparison) -> str:
    """The comparison to paste into an issue."""
    return markdown_writer.write(report_blocks(comparison))


def report_blocks(comparison: Comparison) -> list[Block]:
    """The verdict, the two files and their differences, and a table for each strategy with its remarks."""
    alarming, notes = _split(comparison)
    blocks: list[Block] = [block.Verdict(verdict(comparison)), Lines(_files(comparison), is_list=True)]
    if alarming:
        blocks.append(Alert(ALARM, [(str(one.severity), one.text) for one in alarming]))
    blocks.append(Lines([f"{one.severity}: {one.text}" for one in notes], is_list=True))
    for table in strategy_tables(comparison):
        blocks += [Heading(table.title), replace(table, title="")]
    return [*blocks, Lines(_closing(comparison))]


def strategy_tables(comparison: Comparison) -> list[Table]:
    """A table for each strategy that both results have."""
    return [
        Table(
            HEADER,
            [_row(name, figure) for name, figure in s.figures.items()],
            title=f"{s.strategy.label}: {_rounds_text(s.base_rounds)} in BASE, {_rounds_text(s.new_rounds)} in NEW",
            remarks=tuple(_remarks(s)),
            words=(len(HEADER) - 1,),
        )
        for s in comparison.strategies
    ]


# ---- the files, and what stands below the tables


def _files(comparison: Comparison) -> list[str]:
    return [f"{side} {_described(r)}" for side, r in (("BASE", comparison.base), ("NEW ", comparison.new))]


def _described(result: Result) -> str:
    kernel = result.environment.get("kernel")
    rounds = [r for some in result.rounds.values() for r in some]
    counts = {sum(not r.fault for r in some) for some in result.rounds.values()} or {0}
    span = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(*counts)
    parts = [printable(f"Linux {kernel}") if kernel else "kernel not known"]
    if result.plan:
        parts += [f"range {result.plan.port_range}", f"{count(result.plan.connections)} connections"]
    parts.append(_rounds_text(RoundCount(0, sum(bool(r.fault) for r in rounds)), span))
    return f"{_name(result)}: {', '.join(parts)}"


def _name(result: Result) -> str:
    """The file's name, with `?` for each byte that is not text."""
    return result.name.encode(errors="replace").decode()


def _split(comparison: Comparison) -> tuple[list[Difference], list[Difference]]:
    """The differences that may explain a change, and the notes."""
    notes = [d for d in comparison.differences if d.severity is Severity.NOTE]
    return [d for d in comparison.differences if d.severity is not Severity.NOTE], notes


def _closing(comparison: Comparison) -> list[str]:
    lines = [
        f"only in {side}: {'; '.join(spec.label for spec in specs)}"
        for side, specs in (("BASE", comparison.only_base), ("NEW", comparison.only_new))
        if specs
    ]
    lines += _other_loads(comparison)
    if comparison.judged:
        chance = max(1, round((1 - CONFIDENCE) * comparison.judged))
        lines.append(
            f"{count(comparison.judged)} figures judged, each at {CONFIDENCE:.0%}: "
            f"where nothing has changed, {count(chance)} of them may look different by chance"
        )
    return lines


def _other_loads(comparison: Comparison) -> list[str]:
    """A line for each strategy that both files have, but with different loads."""
    lines = []
    for setting in dict.fromkeys(spec.setting for spec in comparison.only_base):
        of_base, of_new = (
            [repr(spec.label) for spec in specs if spec.setting == setting]
            for specs in (comparison.only_base, comparison.only_new)
        )
        if of_new:
            loads = f"{', '.join(of_base)} in BASE and {', '.join(of_new)} in NEW"
            lines.append(f"not compared: {setting} was measured with another load, {loads}")
    return lines


# ---- the rows of a strategy


def _rounds_text(counted: RoundCount, span: str = "") -> str:
    """`5 rounds (1 partial, left out)`; `span` replaces the number if the strategies have different numbers."""
    number = span or str(counted.complete)
    partial = f" ({counted.partial} partial, left out)" if counted.partial else ""
    return f"{number} round{'' if number == '1' else 's'}{partial}"


def _row(name: str, figure: Figure) -> tuple[str, ...]:
    is_share = name == ERRORS
    values = (value_in_words(value, is_share=is_share) for value in (figure.base, figure.new))
    return (name, *values, *change_in_words(figure, is_share=is_share), str(figure.verdict))


def value_in_words(value: float | None, *, is_share: bool) -> str:
    """A figure of BASE or NEW in words: a time in ns, or a share from 0 to 1; `-` for None."""
    return "-" if value is None else f"{value:.2%}" if is_share else duration(value)


def change_in_words(figure: Figure, *, is_share: bool) -> tuple[str, str]:
    """The change from BASE to NEW, and its interval; `-` for what is not known."""
    shown = _points if is_share else _ratio
    interval = f"{shown(figure.change.low)} to {shown(figure.change.high)}" if figure.change else "-"
    unit = "pp" if is_share else "x"
    if figure.change:
        return f"{shown(figure.change.estimate)} {unit}", interval
    if figure.base is None or figure.new is None:
        return "-", interval
    return f"{shown(figure.new - figure.base if is_share else figure.new / figure.base)} {unit}", interval


def _ratio(ratio: float) -> str:
    if not 0.1 <= ratio < 1e5:
        return f"{ratio:.2g}"
    return f"{ratio:.3f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 1000 else count(ratio)


def _points(share: float) -> str:
    """Percentage points with a sign and at most three digits: `+0.12`, `-100`."""
    points = round(share * 100, 2) + 0.0  # a minus that rounds away is none
    return f"{points:+.{2 if abs(points) < 10 else 1 if abs(points) < 99.95 else 0}f}"


def _remarks(compared: StrategyComparison) -> list[str]:
    """What a verdict lacks: complete rounds, or rounds that have the figure."""
    lacking: dict[tuple[int, int], list[str]] = {}
    for name, figure in compared.figures.items():
        lacking.setdefault(figure.missing, []).append(name)
    rounds = (max(0, FEWEST - compared.base_rounds.complete), max(0, FEWEST - compared.new_rounds.complete))
    all_judged = compared.figures and all(
        f.verdict is not ChangeVerdict.UNDETERMINED for f in compared.figures.values()
    )
    lines = (
        [f"undetermined: {needs(rounds, 'complete round')}; a verdict needs {FEWEST} of each"]
        if any(rounds) and not all_judged
        else []
    )
    return lines + [
        f"{', '.join(names)}: {needs(missing, 'round')} with such connections"
        for missing, names in lacking.items()
        if any(missing) and missing != rounds
    ]


def needs(numbers: tuple[int, int], what: str) -> str:
    """How many more BASE and NEW need; one number is above 0: `BASE needs 1 and NEW 4 more rounds`."""
    lacking = [(side, number) for side, number in zip(("BASE", "NEW"), numbers, strict=True) if number]
    (first, needed), *others = lacking
    words = [f"{first} needs {needed}", *(f"{side} {number}" for side, number in others)]
    return f"{' and '.join(words)} more {what}{'s' if lacking[-1][1] > 1 else ''}"


# ---- the verdict


def not_comparable(comparison: Comparison) -> str:
    """The sentence that the report begins with if the two are not, or may not be, comparable; else empty."""
    if obstacles := comparison.obstacles:
        return f"Not comparable: {'; '.join(difference.text for difference in obstacles)}."
    unknown = [difference for difference in comparison.differences if difference.code.startswith("unknown-")]
    if unknown:
        named = " and ".join(f"{'BASE' if one.base else 'NEW'} {one.what}" for one in unknown)
        return f"Whether the two are comparable is not known: {named}."
    return ""


def verdict(comparison: Comparison) -> tuple[str, ...]:
    """One to four sentences; the first says if the two are not comparable, the last what to run next."""
    first = not_comparable(comparison)
    if not comparison.strategies:
        nothing = "Nothing to compare: no strategy of the same name and parameters is in both."
        return (*filter(None, (first,)), nothing, "Next: measure the same strategies for both.")
    figures = [(s, name, figure) for s in comparison.strategies for name, figure in s.figures.items()]
    counted = f"{changes_in_words(comparison)}."
    comparable = _comparable(comparison)
    said = [first] if first else []
    said.append(f"{comparable}: {counted}" if comparable else counted[0].upper() + counted[1:])
    return (*said, *_rounds(comparison, figures), *_next(comparison, figures))


def changes_in_words(comparison: Comparison) -> str:
    """How many figures changed, and which of them the most."""
    figures = [(s, name, figure) for s in comparison.strategies for name, figure in s.figures.items()]
    return f"{_counted(figures)}{_largest(figures)}"


def _comparable(comparison: Comparison) -> str:
    """That the two are comparable, and what differs between them; empty if they are not."""
    if comparison.is_comparable is not True:
        return ""
    reasons = [d.what for d in comparison.differences if d.severity is Severity.WARNING]
    return "The two are comparable" + (f", with another {' and '.join(reasons)} in NEW" if reasons else "")


def _counted(figures: list[_Named]) -> str:
    """The number of figures with each verdict: `of 11 figures, 10 are slower and 1 has more errors`."""
    if not figures:
        return "no complete round has a figure to compare"
    found = Counter(figure.verdict for _, _, figure in figures)
    words = [f"{count(found[one])} {SAID[one][found[one] != 1]}" for one in ChangeVerdict if found[one]]
    return f"of {count(len(figures))} figures, {listed(words)}"


def _largest(figures: list[_Named]) -> str:
    """The time with the largest change; the share of errors if no time changed."""
    changed = [one for one in figures if one[2].verdict in CHANGED]
    times = [one for one in changed if one[1] != ERRORS]
    if not changed:
        return ""
    strategy, name, figure = max(times or changed, key=_size)
    words, interval = change_in_words(figure, is_share=name == ERRORS)
    sure = f" ({CONFIDENCE:.0%} interval {interval})".replace("%", " %", 1) if figure.change else ""
    base, new = (value_in_words(value, is_share=name == ERRORS) for value in (figure.base, figure.new))
    return f"; the largest change: {strategy.strategy.label} {name}, {base} to {new}, {words}{sure}"


def _size(one: _Named) -> float:
    _, name, figure = one
    assert figure.base is not None  # noqa: S101  # what changed has both sides; tells the type checker
    assert figure.new is not None  # noqa: S101  # as above
    size = figure.new - figure.base if name == ERRORS else log(figure.new / figure.base)
    return round(abs(size), 9)  # of what changed alike the first is the largest, whatever the last bits of a float


def _rounds(comparison: Comparison, figures: list[_Named]) -> Iterator[str]:
    """How many rounds a verdict lacks, and the smallest change that these rounds can show."""
    if comparison.obstacles:
        return  # no number of rounds makes them comparable
    if few := _missing(comparison, figures):
        yield f"Too few rounds: {needs(few, 'complete round')}; a verdict needs {FEWEST} of each."
    totals = [figure.change for _, name, figure in figures if name == "total" and figure.change]
    if totals:
        widest = max(max(change.high / change.estimate, change.estimate / change.low) - 1 for change in totals)
        percent = f"{widest * 100:.{0 if widest > 0.1 else 1}f}"
        yield f"A change of the total time by less than {percent} % does not show with these rounds."


def _missing(comparison: Comparison, figures: list[_Named]) -> tuple[int, int] | None:
    """The complete rounds that BASE and NEW lack for a verdict; None if they have enough."""
    base = min(s.base_rounds.complete for s in comparison.strategies)
    new = min(s.new_rounds.complete for s in comparison.strategies)
    few = max(0, FEWEST - base), max(0, FEWEST - new)
    is_judged = bool(figures) and all(figure.verdict is not ChangeVerdict.UNDETERMINED for _, _, figure in figures)
    return few if any(few) and not is_judged else None


def _next(comparison: Comparison, figures: list[_Named]) -> Iterator[str]:
    """What to run next; nothing if a change is shown, because that answers the question."""
    if any(difference.severity is Severity.INVALID for difference in comparison.obstacles):
        yield "Next: mend what connbench report says of the unsound file, and measure it again."
    elif comparison.obstacles:
        yield "Next: measure both with the same options."
    elif _missing(comparison, figures):
        yield f"Next: measure both with --rounds {2 * FEWEST}."
    elif any(difference.code == "loop" for difference in comparison.differences):
        yield "Next: measure both with --loop python, because the loop may be the reason of a change."
    elif not any(figure.verdict in CHANGED for _, _, figure in figures):
        yield "Next: if a smaller change matters, measure both with more --rounds."


# ---- for programs


def json(comparison: Comparison) -> str:
    """The comparison for programs: each figure has its unit; a value that is not known is null."""
    return json_text({"schema": SCHEMA, **comparison_document(comparison)}, indented=True)


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """What `json` writes of a comparison, without the schema."""
    return {
        "comparable": comparison.is_comparable,
        "verdict": verdict(comparison),
        "base": _file(comparison.base),
        "new": _file(comparison.new),
        "alike": not _split(comparison)[0],
        "differences": [asdict(d) | {"text": d.text} for d in comparison.differences],
        "confidence": CONFIDENCE,
        "fewest_rounds": FEWEST,
        "strategies": [_strategy(s) for s in comparison.strategies],
        "only_in_base": comparison.only_base,
        "only_in_new": comparison.only_new,
    }


def _file(result: Result) -> dict[str, Any]:
    return {
        "file": _name(result),
        "origin": result.origin,
        "kernel": result.environment.get("kernel"),
        "plan": result.plan,
        "environment": result.environment,
    }


def _strategy(compared: StrategyComparison) -> dict[str, Any]:
    return {
        "strategy": compared.strategy,
        "label": compared.strategy.label,
        "rounds": {"base": compared.base_rounds, "new": compared.new_rounds},
        "figures": figures_document(compared),
    }


def figures_document(compared: StrategyComparison) -> dict[str, Any]:
    """Each figure of a strategy on both sides, by its name."""
    return {name: _figure(name, figure) for name, figure in compared.figures.items()}


def _figure(name: str, figure: Figure) -> dict[str, Any]:
    return {
        "unit": "share" if name == ERRORS else "ns",
        "base": figure.base,
        "new": figure.new,
        "compared_by": "difference" if name == ERRORS else "ratio",
        "change": figure.change,
        "verdict": figure.verdict,
        "missing_rounds": dict(zip(("base", "new"), figure.missing, strict=True)),
    }

"""A comparison as rows of cells for people, whatever lays them out: a terminal, markdown, a page."""

from __future__ import annotations

from connbench.analysis.bootstrap import CONFIDENCE, FEWEST
from connbench.analysis.comparison import ERRORS, Comparison, Figure, RoundCount, StrategyComparison, Verdict
from connbench.report.rows import Block, Table
from connbench.units import count, duration

HEADER = ("figure", "BASE", "NEW", "NEW/BASE", f"{CONFIDENCE:.0%} interval", "verdict")


def blocks(comparison: Comparison) -> list[Block]:
    """The comparison as tables, a strategy each; for whatever lays them out."""
    return [
        Block(
            f"{s.strategy.label}: {rounds_in_words(s.base_rounds)} in BASE, {rounds_in_words(s.new_rounds)} in NEW",
            Table(HEADER, [_row(name, figure) for name, figure in s.figures.items()]),
            tuple(_remarks(s)),
            words=(len(HEADER) - 1,),
        )
        for s in comparison.strategies
    ]


def rounds_in_words(counted: RoundCount, span: str = "") -> str:
    """`5 rounds (1 partial, left out)`; `span` stands for the number where strategies differ in it."""
    number = span or str(counted.complete)
    partial = f" ({counted.partial} partial, left out)" if counted.partial else ""
    return f"{number} round{'' if number == '1' else 's'}{partial}"


def _row(name: str, figure: Figure) -> tuple[str, ...]:
    is_share = name == ERRORS
    values = (value_in_words(value, is_share=is_share) for value in (figure.base, figure.new))
    return (name, *values, *change_in_words(figure, is_share=is_share), str(figure.verdict))


def value_in_words(value: float | None, *, is_share: bool) -> str:
    """A figure of a side: a time in ns, or a share of 1."""
    return "-" if value is None else f"{value:.2%}" if is_share else duration(value)


def change_in_words(figure: Figure, *, is_share: bool) -> tuple[str, str]:
    """NEW against BASE, without an interval too, and the interval if there is one."""
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
    """Percentage points, signed, three digits at most: `+0.12`, `-100`."""
    points = round(share * 100, 2) + 0.0  # a minus that rounds away is none
    return f"{points:+.{2 if abs(points) < 10 else 1 if abs(points) < 99.95 else 0}f}"


def _remarks(compared: StrategyComparison) -> list[str]:
    """What is needed for a verdict: rounds, and where those are enough, rounds that have the figure."""
    lacking: dict[tuple[int, int], list[str]] = {}
    for name, figure in compared.figures.items():
        lacking.setdefault(figure.missing, []).append(name)
    rounds = (max(0, FEWEST - compared.base_rounds.complete), max(0, FEWEST - compared.new_rounds.complete))
    all_judged = compared.figures and all(f.verdict is not Verdict.UNDETERMINED for f in compared.figures.values())
    lines = (
        [f"undetermined: {needs(rounds, 'complete round')}, for a verdict takes {FEWEST}"]
        if any(rounds) and not all_judged
        else []
    )
    return lines + [
        f"{', '.join(names)}: {needs(missing, 'round')} with such connections"
        for missing, names in lacking.items()
        if any(missing) and missing != rounds
    ]


def needs(numbers: tuple[int, int], what: str) -> str:
    """How many more of something BASE and NEW need, at least one of them: `BASE needs 1 and NEW 4 more rounds`."""
    lacking = [(side, number) for side, number in zip(("BASE", "NEW"), numbers, strict=True) if number]
    (first, needed), *others = lacking
    words = [f"{first} needs {needed}", *(f"{side} {number}" for side, number in others)]
    return f"{' and '.join(words)} more {what}{'s' if lacking[-1][1] > 1 else ''}"

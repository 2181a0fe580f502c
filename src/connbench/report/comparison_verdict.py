"""The verdict on a comparison: whether the two are comparable, what changed, how sure that is, and what to run next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import log

from connbench.analysis.bootstrap import CONFIDENCE, FEWEST
from connbench.analysis.comparison import ERRORS, Comparison, Figure, StrategyComparison, Verdict
from connbench.findings import Severity
from connbench.report.comparison_rows import change_in_words, needs, value_in_words
from connbench.units import count
from connbench.wording import listed

CHANGED = {Verdict.FASTER, Verdict.SLOWER, Verdict.FEWER_ERRORS, Verdict.MORE_ERRORS}

SAID = {
    Verdict.FASTER: ("is faster", "are faster"),
    Verdict.SLOWER: ("is slower", "are slower"),
    Verdict.FEWER_ERRORS: ("has fewer errors", "have fewer errors"),
    Verdict.MORE_ERRORS: ("has more errors", "have more errors"),
    Verdict.NO_DIFFERENCE: ("shows no difference", "show no difference"),
    Verdict.UNDETERMINED: ("is undetermined", "are undetermined"),
}
"""What is said of one figure, and of several."""

Named = tuple[StrategyComparison, str, Figure]


def not_comparable(comparison: Comparison) -> str:
    """The sentence that stands before all else where the two are not comparable, or may not be; else empty."""
    if obstacles := comparison.obstacles:
        return f"Not comparable: {'; '.join(difference.text for difference in obstacles)}."
    unknown = [difference for difference in comparison.differences if difference.code.startswith("unknown-")]
    if unknown:
        named = " and ".join(f"{'BASE' if one.base else 'NEW'} {one.what}" for one in unknown)
        return f"Whether the two are comparable is not known: {named}."
    return ""


def verdict(comparison: Comparison) -> tuple[str, ...]:
    """One to four sentences without any layout; the first says if the two are not comparable, the last what to do."""
    first = not_comparable(comparison)
    if not comparison.strategies:
        nothing = "Nothing to compare: no strategy of the same name and parameters is in both."
        return (*filter(None, (first,)), nothing, "Next: measure the same strategies for both.")
    figures = [(s, name, figure) for s in comparison.strategies for name, figure in s.figures.items()]
    counted = f"{_counted(figures)}{_largest(figures)}."
    comparable = _comparable(comparison)
    said = [first] if first else []
    said.append(f"{comparable}: {counted}" if comparable else counted[0].upper() + counted[1:])
    return (*said, *_rounds(comparison, figures), *_next(comparison, figures))


def _comparable(comparison: Comparison) -> str:
    """That the two are comparable, and what else may be the reason of a change; empty where they are not."""
    if comparison.is_comparable is not True:
        return ""
    reasons = [d.what for d in comparison.differences if d.severity is Severity.WARNING]
    return "The two are comparable" + (f", with another {' and '.join(reasons)} in NEW" if reasons else "")


def _counted(figures: list[Named]) -> str:
    """How many figures have which verdict: `of 11 figures, 10 are slower and 1 has more errors`."""
    if not figures:
        return "no complete round has a figure to compare"
    found = Counter(figure.verdict for _, _, figure in figures)
    words = [f"{count(found[one])} {SAID[one][found[one] != 1]}" for one in Verdict if found[one]]
    return f"of {count(len(figures))} figures, {listed(words)}"


def _largest(figures: list[Named]) -> str:
    """The time that changed most, or without one the share of errors."""
    changed = [one for one in figures if one[2].verdict in CHANGED]
    times = [one for one in changed if one[1] != ERRORS]
    if not changed:
        return ""
    strategy, name, figure = max(times or changed, key=_size)
    words, interval = change_in_words(figure, is_share=name == ERRORS)
    sure = f" ({CONFIDENCE:.0%} interval {interval})".replace("%", " %", 1) if figure.change else ""
    base, new = (value_in_words(value, is_share=name == ERRORS) for value in (figure.base, figure.new))
    return f"; the largest change: {strategy.strategy.label} {name}, {base} to {new}, {words}{sure}"


def _size(one: Named) -> float:
    _, name, figure = one
    assert figure.base is not None  # noqa: S101  # what changed has both sides; tells the type checker
    assert figure.new is not None  # noqa: S101  # as above
    size = figure.new - figure.base if name == ERRORS else log(figure.new / figure.base)
    return round(abs(size), 9)  # of what changed alike the first is the largest, whatever the last bits of a float


def _rounds(comparison: Comparison, figures: list[Named]) -> Iterator[str]:
    """Whether the rounds were enough: what is missing for a verdict, or how small a change they would have shown."""
    if comparison.obstacles:
        return  # no number of rounds makes them comparable
    if few := _missing(comparison, figures):
        yield f"Too few rounds: {needs(few, 'complete round')}; a verdict takes {FEWEST} of each."
    totals = [figure.change for _, name, figure in figures if name == "total" and figure.change]
    if totals:
        widest = max(max(change.high / change.estimate, change.estimate / change.low) - 1 for change in totals)
        percent = f"{widest * 100:.{0 if widest > 0.1 else 1}f}"
        yield f"A change of the total time by less than {percent} % does not show with these rounds."


def _missing(comparison: Comparison, figures: list[Named]) -> tuple[int, int] | None:
    """Complete rounds that BASE and NEW lack for a verdict; None where they are enough."""
    base = min(s.base_rounds.complete for s in comparison.strategies)
    new = min(s.new_rounds.complete for s in comparison.strategies)
    few = max(0, FEWEST - base), max(0, FEWEST - new)
    is_judged = bool(figures) and all(figure.verdict is not Verdict.UNDETERMINED for _, _, figure in figures)
    return few if any(few) and not is_judged else None


def _next(comparison: Comparison, figures: list[Named]) -> Iterator[str]:
    """What to run next; nothing where a change is shown, for that is what was asked."""
    if any(difference.severity is Severity.INVALID for difference in comparison.obstacles):
        yield "Next: mend what connbench report says of the unsound file, and measure it again."
    elif comparison.obstacles:
        yield "Next: measure both with the same options."
    elif _missing(comparison, figures):
        yield f"Next: measure both with --rounds {2 * FEWEST}."
    elif not any(figure.verdict in CHANGED for _, _, figure in figures):
        yield "Next: if a smaller change matters, measure both with more --rounds."

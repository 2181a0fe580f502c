"""From the text of a threshold to its value, or to a message that shows where it goes wrong.

expression = [strategy ":"] ( metric operator bound | "slower" )
operator   = ">" | ">=" | "<" | "<="
bound      = number [unit] | [number "x"] metric
metric     = ["base."] name, one that `connbench.thresholds.metrics.find` knows
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import isfinite
from typing import Never

from connbench.errors import UsageError, suggest
from connbench.thresholds.expression import Expression, Limit, Multiple, Operator, Slower, Threshold
from connbench.thresholds.metrics import (
    FIGURES,
    LATENCY,
    METRICS,
    NO_UNIT,
    UNITS,
    WHOLE,
    Dimension,
    Metric,
    find,
    is_percentile,
)

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[^\W\d_][\w.]*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
_OPERATOR = re.compile(r"[<>=!~≤≥]+")
_TIMES = re.compile("[x\N{MULTIPLICATION SIGN}]")
_UNIT = re.compile(r"[^\W\d_]+|%")

_OPERATORS = "use one of > >= < <="
_TAKES = {
    Dimension.TIME: "a time takes ns, us, ms, s, min or h",
    Dimension.COUNT: "a number takes no unit",
    Dimension.SHARE: "a share takes %",
}
_SAME_AS = {"avg": "mean", "average": "mean", "median": "p50"}
"""What others call some figures; the talk's own six lines say avg."""

_INDENT = " " * 4
_LONGEST, _BEFORE = 120, 40
"""Characters of a condition that are shown, and how many of them before the fault where it is longer."""


def parse(text: str, *, with_base: bool = False) -> Expression:
    """Read an expression such as `p99 > 5ms`, `window 500: errors > 2%` or `odd.mean > 3x even.mean`.

    Args:
        text: What the user wrote.
        with_base: Whether there is a second run to compare with, and so `base.p99` and `slower` mean something.

    Raises:
        UsageError: It is none; the message shows it with a caret under the place.
    """
    if not text.strip():
        raise UsageError("--fail-if is given no condition", "for example 'p99 > 5ms'")
    return _Parser(text, with_base=with_base).expression()


class _Parser:
    """A position in a text, and what is expected from there on."""

    def __init__(self, text: str, *, with_base: bool) -> None:
        self._text = text
        self._with_base = with_base
        self._at = 0

    def expression(self) -> Expression:
        strategy = self._strategy()
        if self._peek(_WORD) == Slower.condition:
            return self._slower(strategy)
        metric = self._metric()
        operator = self._operator()
        bound = self._bound(metric)
        self._end()
        return Threshold(metric, operator, bound, strategy)

    def _strategy(self) -> str | None:
        """What stands before the last colon: no condition has one, while a label may."""
        before, colon, _ = self._text.rpartition(":")
        if not colon:
            return None
        if not before.strip():
            self._wrong("there is no strategy before the colon", "write it as in 'window: p99 > 1ms'", 0)
        self._at = len(before) + 1
        return " ".join(before.split())

    def _slower(self, strategy: str | None) -> Slower:
        at = self._at
        self._take(_WORD)
        self._refuse_without_base(Slower.condition, at)
        self._end()
        return Slower(strategy)

    def _metric(self) -> Metric:
        word = self._peek(_WORD)
        at = self._at
        if word is None:
            self._wrong("a metric is expected here", _known())
        self._take(_WORD)
        name = word.removeprefix("base.")
        metric = find(name)
        if metric is None:
            self._wrong(f"there is no metric {word!r}", _nearest(name), at)
        if name == word:
            return metric
        self._refuse_without_base(word, at)
        return replace(metric, of_base=True)

    def _operator(self) -> Operator:
        found = self._peek(_OPERATOR)
        if found is None:
            self._wrong("an operator is missing", _OPERATORS)
        if found not in set(Operator):
            self._wrong(f"{found!r} is no operator", _OPERATORS)
        self._take(_OPERATOR)
        return Operator(found)

    def _bound(self, metric: Metric) -> Limit | Multiple:
        self._peek(_NUMBER)
        at = self._at
        digits = self._take(_NUMBER)
        if digits is None:
            if self._peek(_WORD) is None:
                self._wrong("a limit is missing", "as in 5ms, 2%, 100 or 3x even.mean", at)
            return self._multiple(metric, 1.0)
        value = float(digits)
        if not isfinite(value):
            self._wrong("the number is too large", "write what you would measure", at)
        if self._take(_TIMES):
            return self._multiple(metric, value)
        return self._limit(metric, value, at)

    def _limit(self, metric: Metric, value: float, at: int) -> Limit:
        word = self._peek(_UNIT)
        if word is not None:
            at = self._at
            self._take(_UNIT)
        unit = NO_UNIT if word is None else UNITS.get(word)
        takes = "; ".join(text for dimension, text in _TAKES.items() if dimension in metric.dimensions)
        if unit is None:
            self._wrong(f"{word!r} is no unit", takes, at)
        if unit.dimension not in metric.dimensions:
            given = "no unit" if unit is NO_UNIT else unit.dimension.value
            self._wrong(f"{metric} is {_kind(metric)}, and here is {given}", takes, at)
        return Limit(value, unit)

    def _multiple(self, metric: Metric, factor: float) -> Multiple:
        self._peek(_WORD)
        at = self._at
        other = self._metric()
        common = metric.dimensions & other.dimensions
        if not common:
            self._wrong(f"{metric} is {_kind(metric)}, and {other} is {_kind(other)}", "compare like with like", at)
        # As shares errors can be compared between runs of different length.
        dimension = Dimension.SHARE if Dimension.SHARE in common else next(iter(common))
        return Multiple(factor, other, dimension)

    def _end(self) -> None:
        self._peek(_SPACE)
        rest = self._text[self._at :]
        if rest:
            hint = "give --fail-if once for each condition" if rest[0] in "a&,;o|" else "take it away"
            self._wrong("the expression should end here", hint)

    def _refuse_without_base(self, word: str, at: int) -> None:
        if not self._with_base:
            self._wrong(
                f"{word!r} needs a run to compare with, and here is none",
                "it is for connbench compare BASE NEW",
                at,
            )

    def _peek(self, pattern: re.Pattern[str]) -> str | None:
        """What comes next if it is this; blanks before it are skipped either way."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing at all, too
        found = pattern.match(self._text, self._at)
        return found[0] if found else None

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = self._peek(pattern)
        self._at += len(found or "")
        return found

    def _wrong(self, fault: str, hint: str, at: int | None = None) -> Never:
        at = self._at if at is None else at
        # A character for a character, so that the caret stands under its own.
        shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in self._text)
        first = max(0, at - _BEFORE) if len(shown) > _LONGEST else 0
        shown, at = shown[first : first + _LONGEST], at - first
        raise UsageError(f"--fail-if: {fault}\n{_INDENT}{shown}\n{_INDENT}{' ' * at}^", hint)


def _kind(metric: Metric) -> str:
    return " or ".join(dimension.value for dimension in Dimension if dimension in metric.dimensions)


def _nearest(name: str) -> str:
    """A hint: the metric that was probably meant, or all there are."""
    prefix, dot, figure = name.lower().rpartition(".")
    if dot and figure in WHOLE:
        return f"{figure} is of all attempts: write {figure}"
    if is_percentile(name.lower()) and find(f"{name.lower().partition('p')[0]}p50"):
        return "percentiles lie between p0, which is called min, and p100, which is max"
    guess = f"{prefix}{dot}{_SAME_AS.get(figure, figure)}"
    return suggest(guess, METRICS, otherwise=_known())


def _known() -> str:
    whole = ", ".join(WHOLE)
    return f"there are {', '.join(FIGURES[LATENCY])}, any pNN.N, even.p99, acquire.p99, tries.max, {whole}"

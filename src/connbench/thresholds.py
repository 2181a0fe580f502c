"""The conditions that `--fail-if` takes: the table of metrics, the conditions as values, and their parser.

`connbench.analysis.gate` evaluates those of results. What other conditions are about is a `Vocabulary` of their own,
with the same parser. This module loads no numpy: the command line is parsed before planning, which forks.

    expression = [strategy ":"] ( metric operator bound | "slower" )
    operator   = ">" | ">=" | "<" | "<="
    bound      = number [unit] | [number "x"] metric
    metric     = ["base."] name, where the vocabulary knows the name
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, StrEnum
from itertools import product
from math import isfinite
from typing import Never

from connbench.errors import UsageError, suggest
from connbench.model import Phase, StrategySpec
from connbench.units import TIME_UNITS_NS


class Dimension(Enum):
    """What kind of figure a metric is; only figures of one kind can be compared. The value is its name in a message."""

    TIME = "a time"
    COUNT = "a number"
    SHARE = "a share"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a strategy as a whole, and where to find its value.

    Attributes:
        attributes: The attribute of `analysis.summary.Summary` with the value in ns, pieces or percent, for each kind
            of limit that the figure can be compared with.
        sums: The kinds in which the value grows with every round; two runs are compared by the value of one round.
        is_in_ports_csv: Whether a CSV that has only ports and latencies contains it.
        unknown: Why the value can be None.
    """

    attributes: Mapping[Dimension, str]
    sums: frozenset[Dimension] = frozenset()
    is_in_ports_csv: bool = True
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is measured of each attempt, and its figures in each group of attempts.

    Attributes:
        dimension: The kind of limit that its figures can be compared with.
        attributes: The attribute of `analysis.summary.Group` with the value, by the figure's name; percentiles are
            taken from the samples.
        is_in_ports_csv: Whether a CSV that has only ports and latencies contains it.
        count: The attribute of `Group` with the number of samples.
        unknown: Why there may be none in a group that has attempts.
    """

    dimension: Dimension
    attributes: Mapping[str, str]
    is_in_ports_csv: bool = True
    count: str = "latency.count"
    unknown: str = ""


KNEE = "knee"
"""The one figure that `analysis.gate` works out by itself: a knee that was not found has to be judged."""

_TIME, _COUNT = frozenset({Dimension.TIME}), frozenset({Dimension.COUNT})

OF_STRATEGY = {
    "errors": Figure({Dimension.COUNT: "failed", Dimension.SHARE: "failed_percent"}, sums=_COUNT),
    "total": Figure({Dimension.TIME: "total_ns"}, sums=_TIME),
    "wall": Figure({Dimension.TIME: "wall_ns"}, sums=_TIME, is_in_ports_csv=False),
    "attempts": Figure({Dimension.COUNT: "attempts"}, sums=_COUNT),
    "connected": Figure({Dimension.COUNT: "connected"}, sums=_COUNT),
    "floor": Figure({Dimension.TIME: "floor_ns"}, unknown="the harness floor is not known"),
    KNEE: Figure({Dimension.SHARE: KNEE}),
}
"""The figures of a strategy as a whole. To add one, add a row here, and its attribute to `Summary`."""

LATENCY = "latency"
OF_GROUP = {
    LATENCY: Quantity(Dimension.TIME, {"min": "latency.minimum", "mean": "latency.mean", "max": "latency.maximum"}),
    "bind": Quantity(
        Dimension.TIME,
        {"min": "bind.minimum", "mean": "bind.mean", "max": "bind.maximum"},
        is_in_ports_csv=False,
        count="bind.count",
        unknown="no bind() was timed",
    ),
    "handshake": Quantity(
        Dimension.TIME,
        {"min": "handshake.minimum", "mean": "handshake.mean", "max": "handshake.maximum"},
        is_in_ports_csv=False,
        count="handshake.count",
        unknown="no handshake was timed by itself, which takes --in-flight",
    ),
    "acquire": Quantity(
        Dimension.TIME,
        {"min": "acquire.minimum", "mean": "acquire.mean", "max": "acquire.maximum"},
        is_in_ports_csv=False,
    ),
    "tries": Quantity(Dimension.COUNT, {"mean": "tries_mean", "max": "tries_max"}, is_in_ports_csv=False),
}
"""The figures of each group of attempts, beside percentiles. To add one, add it here, and its attribute to `Group`."""

GROUPS = ("all", "even", "odd", "errored")

_PERCENTILES = ("p50", "p75", "p90", "p95", "p99", "p99.9")
_PERCENTILE = re.compile(r"(?P<prefix>(?:[a-z]+\.)*)p(?P<percent>\d+(?:\.\d+)?)", re.ASCII)

LEAST_TAIL = 1e-6
"""How close to p0 and p100 a percentile can be asked for; it takes 100 million samples."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a strategy.

    Attributes:
        figure: `p99` or `errors`, say.
        quantity: `latency`, `bind`, `handshake`, `acquire` or `tries`; empty for a figure of the strategy as a whole.
        group: `all`, `even`, `odd` or `errored`; empty likewise.
        of_base: Whether the figure of the base run is meant.
    """

    figure: str
    quantity: str = ""
    group: str = ""
    of_base: bool = False

    @property
    def percent(self) -> float | None:
        """99.9 for the percentile p99.9; None for a figure that is no percentile."""
        found = _PERCENTILE.fullmatch(self.figure)
        return float(found["percent"]) if found else None

    @property
    def dimensions(self) -> frozenset[Dimension]:
        """The kinds of limit it can be compared with."""
        if self.quantity:
            return frozenset({OF_GROUP[self.quantity].dimension})
        return frozenset(OF_STRATEGY[self.figure].attributes)

    @property
    def kinds(self) -> str:
        """These kinds in a message."""
        return " or ".join(dimension.value for dimension in Dimension if dimension in self.dimensions)

    @property
    def is_in_ports_csv(self) -> bool:
        """Whether a CSV that has only ports and latencies contains it."""
        return (OF_GROUP[self.quantity] if self.quantity else OF_STRATEGY[self.figure]).is_in_ports_csv

    def __str__(self) -> str:
        words = (
            "base" if self.of_base else "",
            "" if self.group == "all" else self.group,
            "" if self.quantity == LATENCY else self.quantity,
            self.figure,
        )
        return ".".join(word for word in words if word)


def _spellings() -> dict[str, Metric]:
    """Every way to write a metric: the group `all` and the quantity `latency` may be left out."""
    known = {figure: Metric(figure) for figure in OF_STRATEGY}
    for group, (name, quantity) in product(GROUPS, OF_GROUP.items()):
        groups = ("", "all.") if group == "all" else (f"{group}.",)
        quantities = ("", f"{name}.") if name == LATENCY else (f"{name}.",)
        for start, middle, figure in product(groups, quantities, (*quantity.attributes, *_PERCENTILES)):
            known[f"{start}{middle}{figure}"] = Metric(figure, name, group)
    return known


METRICS = _spellings()
"""Every metric by every name it may be written as, except those of a base and other percentiles: see `find_metric`."""


def find_metric(name: str) -> Metric | None:
    """The metric of a name such as `p99`, `even.acquire.p99.99` or `errors`; None if there is none."""
    found = _PERCENTILE.fullmatch(name)
    if name in METRICS or not found:
        return METRICS.get(name)
    percent, like = float(found["percent"]), METRICS.get(f"{found['prefix']}p50")
    if like is None or not LEAST_TAIL <= percent <= 100 - LEAST_TAIL:
        return None
    return replace(like, figure=f"p{Decimal(found['percent']).normalize():f}")


class Operator(StrEnum):
    """How a threshold compares."""

    OVER = ">"
    AT_LEAST = ">="
    UNDER = "<"
    AT_MOST = "<="

    def holds(self, left: float, right: float) -> bool:
        """Whether `left` and `right` stand in this order."""
        return bool(_COMPARE[self](left, right))


_COMPARE = {
    Operator.OVER: operator.gt,
    Operator.AT_LEAST: operator.ge,
    Operator.UNDER: operator.lt,
    Operator.AT_MOST: operator.le,
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as it is written, and how many ns, pieces or percent it is."""

    name: str
    dimension: Dimension
    scale: float


NO_UNIT = Unit("", Dimension.COUNT, 1.0)

UNITS = {
    "%": Unit("%", Dimension.SHARE, 1.0),
    "k": Unit("k", Dimension.COUNT, 1e3),
    "M": Unit("M", Dimension.COUNT, 1e6),
    **{name: Unit(name, Dimension.TIME, float(ns)) for name, ns in TIME_UNITS_NS.items()},
}
UNITS["\N{GREEK SMALL LETTER MU}s"] = UNITS["µs"]
"""These two characters look alike: some keyboards write the letter; connbench prints the micro sign."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A value with its unit: `5ms`, `2%`, `100`."""

    value: float
    unit: Unit

    @property
    def dimension(self) -> Dimension:
        """The kind of figure this is a limit for."""
        return self.unit.dimension

    def __str__(self) -> str:
        return f"{format_number(self.value)}{self.unit.name}"


@dataclass(frozen=True, slots=True)
class Multiple:
    """Another metric times a factor: `3x even.mean`. `dimension` is the kind of figure that both sides are."""

    factor: float
    metric: Metric
    dimension: Dimension

    def __str__(self) -> str:
        return f"{format_number(self.factor)}x {self.metric}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A condition that must not come true, for one strategy, by its name or label, or for every one."""

    metric: Metric
    operator: Operator
    bound: Limit | Multiple
    strategy: str | None = None

    @property
    def condition(self) -> str:
        """The expression without the strategy before it."""
        return f"{self.metric} {self.operator} {self.bound}"

    def __str__(self) -> str:
        return _with_strategy(self.strategy, self.condition)


@dataclass(frozen=True, slots=True)
class Slower:
    """The word `slower`: the comparison with the base run has that verdict for the total time."""

    strategy: str | None = None
    condition = "slower"

    def __str__(self) -> str:
        return _with_strategy(self.strategy, self.condition)


Expression = Threshold | Slower


def _with_strategy(strategy: str | None, condition: str) -> str:
    return condition if strategy is None else f"{strategy}: {condition}"


def format_number(value: float) -> str:
    """A number without an exponent and without superfluous zeros: `5`, `0.00001`."""
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def applies_to(expression: Expression, spec: StrategySpec) -> bool:
    """Whether an expression is about a strategy: about every one, or about this name, setting or label.

    The churn phase has no knee: a condition on the knee applies to it only if it names the phase's whole label.
    """
    if spec.phase is Phase.CHURN and isinstance(expression, Threshold) and expression.metric.figure == KNEE:
        return expression.strategy == spec.label
    return expression.strategy in {None, spec.name, spec.setting, spec.label}


def check_names(expressions: Iterable[Expression], specs: Iterable[StrategySpec], where: str) -> None:
    """Make sure that each expression applies to a strategy: a gate that applies to none would always pass.

    Args:
        expressions: What will be evaluated.
        specs: The strategies that `where` has.
        where: The run, for the message: `this run`, or a file's name.

    Raises:
        UsageError: An expression names none of the strategies.
    """
    known = tuple(specs)
    for expression in expressions:
        if not any(applies_to(expression, spec) for spec in known):
            labels = ", ".join(spec.label for spec in known)
            raise UsageError(
                f"--fail-if {str(expression)!r}: {where} has no strategy {expression.strategy!r}",
                f"it has {labels}" if labels else "it has no strategy",
            )


_WORD = r"[^\W\d_][\w.]*(?:-[\w.]+)*"
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_PARTS = re.compile(
    rf"""
    \s* (?P<metric> {_WORD})?
    \s* (?P<operator> [<>=!~≤≥]+)?
    \s* (?: (?P<factor> {_NUMBER}) \s* [x\N{{MULTIPLICATION SIGN}}]
          | (?P<value> {_NUMBER}) (?: \s* (?P<unit> [^\W\d_]+ | %))? )?
    \s* (?P<other> {_WORD})?
    """,
    re.VERBOSE,
)
"""The parts of a condition. Each may be missing, so that any text matches: `_Parser` finds what is wrong with it."""

_OPERATORS = "use one of > >= < <="
_TAKES = {
    Dimension.TIME: "a time takes ns, us, ms, s, min or h",
    Dimension.COUNT: "a number takes no unit, k or M",
    Dimension.SHARE: "a share takes %",
}
_SAME_AS = {"avg": "mean", "average": "mean", "median": "p50"}
"""Other tools' names of some figures; the six lines that the talk's program prints say avg."""

_INDENT = " " * 4
_LONGEST, _BEFORE = 120, 40
"""Characters of a condition that a message shows, and how many of them stand before the fault in a longer condition."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What conditions are about.

    Attributes:
        find: The metric of a name; None if there is none.
        suggest: The hint for a name that `find` does not know.
        known: The hint where a metric is missing.
        subject: What may stand before the colon.
        example: A condition with a subject.
        limits: Examples of limits.
        can_have_base: Whether some commands compare with a base run.
    """

    find: Callable[[str], Metric | None]
    suggest: Callable[[str], str]
    known: Callable[[], str]
    subject: str
    example: str
    limits: str
    can_have_base: bool = False


def parse(
    text: str, *, with_base: bool = False, vocabulary: Vocabulary | None = None, option: str = "--fail-if"
) -> Expression:
    """Read an expression such as `p99 > 5ms`, `window 500: errors > 2%` or `odd.mean > 3x even.mean`.

    Args:
        text: What the user wrote.
        with_base: Whether there is a base run, without which `base.p99` and `slower` mean nothing.
        vocabulary: What it is about; None for the figures of a run.
        option: The option that has it, for messages.

    Raises:
        UsageError: The text is no expression; the message shows it with a caret under the fault.
    """
    vocabulary = vocabulary or OF_RUNS
    if not text.strip():
        raise UsageError(f"{option} has no condition", f"for example {vocabulary.example.rpartition(': ')[2]!r}")
    return _Parser(text, with_base, vocabulary, option).expression()


@dataclass(frozen=True, slots=True)
class _Parser:
    """Checks the parts of one text from left to right, and refuses the first one that is wrong."""

    text: str
    with_base: bool
    vocabulary: Vocabulary
    option: str

    def expression(self) -> Expression:
        before, colon, _ = self.text.rpartition(":")  # the last one: no condition has a colon, while a label may
        if colon and not before.strip():
            words = self.vocabulary
            self.fail(f"there is no {words.subject} before the colon", f"write it as in {words.example!r}", 0)
        strategy = " ".join(before.split()) if colon else None
        start = len(before + colon)
        parts = next(_PARTS.finditer(self.text, start))
        if parts["metric"] == Slower.condition and self.vocabulary.can_have_base:
            self.check_base(Slower.condition, parts.start("metric"))
            self.check_rest(parts.end("metric"))
            return Slower(strategy)
        metric = self.metric(parts["metric"], start)
        sign, at = parts["operator"], self.skip_blanks(parts.end("metric"))
        if sign is None:
            self.fail("an operator is missing", _OPERATORS, at)
        if sign not in set(Operator):
            self.fail(f"{sign!r} is not an operator", _OPERATORS, at)
        return Threshold(metric, Operator(sign), self.bound(metric, parts), strategy)

    def metric(self, word: str | None, start: int) -> Metric:
        """The metric of this name; `start` is where it stands, or the blanks before it."""
        at = self.skip_blanks(start)
        if word is None:
            self.fail("a metric is expected here", self.vocabulary.known(), at)
        name = word.removeprefix("base.") if self.vocabulary.can_have_base else word
        metric = self.vocabulary.find(name)
        if metric is None:
            self.fail(f"there is no metric {word!r}", self.vocabulary.suggest(name), at)
        if name == word:
            return metric
        self.check_base(word, at)
        return replace(metric, of_base=True)

    def bound(self, metric: Metric, parts: re.Match[str]) -> Limit | Multiple:
        at = self.skip_blanks(parts.end("operator"))
        digits = parts["factor"] or parts["value"]
        if digits is None and parts["other"] is None:
            self.fail("a limit is missing", f"as in {self.vocabulary.limits}", at)
        number = float(digits or 1)
        if not isfinite(number):
            self.fail("the number is too large", "write a limit that a measurement can reach", at)
        bound: Limit | Multiple
        if parts["value"]:
            bound = Limit(
                number, self.unit(metric, parts["unit"], at if parts["unit"] is None else parts.start("unit"))
            )
            self.check_rest(max(parts.end("value"), parts.end("unit")))
        else:
            bound = self.multiple(metric, number, parts)
            self.check_rest(parts.end("other"))
        return bound

    def unit(self, metric: Metric, word: str | None, at: int) -> Unit:
        unit = NO_UNIT if word is None else UNITS.get(word)
        takes = "; ".join(text for dimension, text in _TAKES.items() if dimension in metric.dimensions)
        if unit is None:
            self.fail(f"{word!r} is not a unit", takes, at)
        if unit.dimension not in metric.dimensions:
            given = "has no unit" if unit is NO_UNIT else f"is {unit.dimension.value}"
            self.fail(f"{metric} is {metric.kinds}, but the limit {given}", takes, at)
        return unit

    def multiple(self, metric: Metric, factor: float, parts: re.Match[str]) -> Multiple:
        start = parts.end() if parts["other"] is None else parts.start("other")
        other = self.metric(parts["other"], start)
        common = metric.dimensions & other.dimensions
        if not common:
            fault = f"{metric} is {metric.kinds}, and {other} is {other.kinds}"
            self.fail(fault, "compare like with like", start)
        # Errors are compared as shares, because two runs can differ in length.
        dimension = Dimension.SHARE if Dimension.SHARE in common else next(iter(common))
        return Multiple(factor, other, dimension)

    def skip_blanks(self, at: int) -> int:
        return len(self.text) - len(self.text[at:].lstrip())

    def check_rest(self, end: int) -> None:
        """Refuse whatever stands after the expression."""
        rest = self.text[end:].lstrip()
        if rest:
            hint = f"give {self.option} once for each condition" if rest[0] in "a&,;o|" else "take it away"
            self.fail("the expression should end here", hint, self.skip_blanks(end))

    def check_base(self, word: str, at: int) -> None:
        if not self.with_base:
            fault = f"{word!r} needs a base run, and there is none"
            self.fail(fault, "use it with connbench compare BASE NEW", at)

    def fail(self, fault: str, hint: str, at: int) -> Never:
        # One character for each character, so that the caret stands under the fault.
        shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in self.text)
        first = max(0, at - _BEFORE) if len(shown) > _LONGEST else 0
        shown, at = shown[first : first + _LONGEST], at - first
        raise UsageError(f"{self.option}: {fault}\n{_INDENT}{shown}\n{_INDENT}{' ' * at}^", hint)


def _nearest(name: str) -> str:
    """A hint: the metric that the user probably meant, or all metrics."""
    prefix, dot, figure = name.lower().rpartition(".")
    if dot and figure in OF_STRATEGY:
        return f"{figure} is of all attempts: write {figure}"
    found = _PERCENTILE.fullmatch(name.lower())
    if found and f"{found['prefix']}p50" in METRICS:
        return "percentiles lie between p0, which is called min, and p100, which is max"
    guess = f"{prefix}{dot}{_SAME_AS.get(figure, figure)}"
    return suggest(guess, METRICS, otherwise=_known())


def _known() -> str:
    minimum, mean, maximum = OF_GROUP[LATENCY].attributes
    figures = ", ".join((minimum, mean, *_PERCENTILES, maximum))
    return f"there are {figures}, any pNN.N, even.p99, acquire.p99, bind.p99, tries.max, {', '.join(OF_STRATEGY)}"


OF_RUNS = Vocabulary(
    find_metric, _nearest, _known, "strategy", "window: p99 > 1ms", "5ms, 2%, 100 or 3x even.mean", can_have_base=True
)
"""The conditions on the figures of runs."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A threshold that came true for a subject, or that cannot be judged.

    Attributes:
        subject: What it came true for: a strategy's label, say.
        condition: The threshold's text, without a subject.
        outcome: What was measured, in the threshold's unit, or why it cannot be judged.
    """

    subject: str
    condition: str
    outcome: str

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.subject}: {self.condition}{self.outcome}"


def judge_limit(threshold: Threshold, limit: Limit, measured: float) -> str | None:
    """How a value crosses a threshold's limit, as the end of a sentence that begins with it; None if it does not.

    Args:
        threshold: The threshold.
        limit: Its bound.
        measured: The value in ns, pieces or percent.
    """
    # In the limit's unit: a division is rounded as the limit was when it was read, so that 7 of 100 are not over 7%.
    value = measured / limit.unit.scale
    if not threshold.operator.holds(value, limit.value):
        return None
    return f", measured {format_crossing(value, threshold.operator, limit.value)}{limit.unit.name}"


_SCALED_IN = {Dimension.TIME: "ns", Dimension.COUNT: "", Dimension.SHARE: "%"}
"""The units of values before they are converted to the threshold's own unit."""


def judge_multiple(threshold: Threshold, multiple: Multiple, left: float, right: float) -> str | None:
    """How a value crosses a multiple of another, as `judge_limit` says it.

    Args:
        threshold: The threshold.
        multiple: Its bound.
        left: The value in ns, pieces or percent.
        right: The other value.
    """
    if right == 0:
        holds = threshold.operator.holds(left, 0)
        unit = _SCALED_IN[multiple.dimension]
        return f", measured {format_number(left)}{unit} against 0{unit}" if holds else None
    ratio = left / right
    if not threshold.operator.holds(ratio, multiple.factor):
        return None
    return f", measured {format_crossing(ratio, threshold.operator, multiple.factor)}x"


_FEWEST_DIGITS, _MOST_DIGITS = 3, 17


def format_crossing(value: float, operator: Operator, limit: float) -> str:
    """A value with as few digits as show that it crosses the limit: 5.0001ms must not be printed as 5ms."""
    fewest = max(_FEWEST_DIGITS, len(f"{abs(value):.0f}"))
    texts: Iterator[str] = (f"{value:.{digits}g}" for digits in range(fewest, max(fewest, _MOST_DIGITS) + 1))
    return format_number(float(next((text for text in texts if operator.holds(float(text), limit)), repr(value))))

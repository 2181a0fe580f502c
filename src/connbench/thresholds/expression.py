"""A threshold as a value: what `connbench.thresholds.parser` makes of its text, and its text again."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from connbench.errors import UsageError
from connbench.model import Phase, StrategySpec
from connbench.thresholds.metrics import Dimension, Metric, Unit


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
class Limit:
    """A figure with its unit: `5ms`, `2%`, `100`."""

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
    """So many times another metric: `3x even.mean`. `dimension` is the kind of figure that both sides are."""

    factor: float
    metric: Metric
    dimension: Dimension

    def __str__(self) -> str:
        return f"{format_number(self.factor)}x {self.metric}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A condition that must not come true; of one strategy, by name or label, or of every one."""

    metric: Metric
    operator: Operator
    bound: Limit | Multiple
    strategy: str | None = None

    @property
    def condition(self) -> str:
        """The expression without the strategy before it."""
        return f"{self.metric} {self.operator} {self.bound}"

    @property
    def needs_base(self) -> bool:
        """Whether it can only be judged beside another run."""
        return self.metric.of_base or (isinstance(self.bound, Multiple) and self.bound.metric.of_base)

    def __str__(self) -> str:
        return _with_strategy(self.strategy, self.condition)


@dataclass(frozen=True, slots=True)
class Slower:
    """The word `slower`: the comparison with a base has that verdict for the total time."""

    strategy: str | None = None
    condition = "slower"
    needs_base = True

    def __str__(self) -> str:
        return _with_strategy(self.strategy, self.condition)


Expression = Threshold | Slower


def _with_strategy(strategy: str | None, condition: str) -> str:
    return condition if strategy is None else f"{strategy}: {condition}"


def format_number(value: float) -> str:
    """A number without an exponent and without superfluous zeros: `5`, `0.00001`."""
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def concerns(expression: Expression, spec: StrategySpec) -> bool:
    """Whether a strategy is held to the expression: all are, or those of this name, setting or label.

    Churn has no knee, and is held to one only if it is meant by its whole label.
    """
    if spec.phase is Phase.CHURN and isinstance(expression, Threshold) and expression.metric.figure == "knee":
        return expression.strategy == spec.label
    return expression.strategy in {None, spec.name, spec.setting, spec.label}


def refuse_strangers(expressions: Iterable[Expression], specs: Iterable[StrategySpec], where: str) -> None:
    """Make sure that each expression is about a strategy that is there: a gate on none would always be open.

    Args:
        expressions: What is to be held.
        specs: The strategies there are.
        where: What they belong to, for the message: `this run`, or a file's name.

    Raises:
        UsageError: An expression names none of them.
    """
    there = tuple(specs)
    for expression in expressions:
        if not any(concerns(expression, spec) for spec in there):
            labels = ", ".join(spec.label for spec in there)
            raise UsageError(
                f"--fail-if {str(expression)!r}: {where} has no strategy {expression.strategy!r}",
                f"it has {labels}" if labels else "it has none at all",
            )

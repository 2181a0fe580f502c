"""A strategy, its load and its phase as columns of a CSV file, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from connbench.model import Churn, Close, Load, Phase, Placement, Protocol, StrategySpec

Word = TypeVar("Word", bound=StrEnum)

SPEC_COLUMNS = (
    "strategy",
    "window",
    "placement",
    "retries",
    "connections",
    "fill",
    "sources",
    "protocol",
    "concurrency",
    "give_up_ms",
    "churn",
    "close",
    "churn_rate",
    "phase",
)


def to_columns(spec: StrategySpec) -> tuple[str, ...]:
    """The values of `SPEC_COLUMNS`, empty for what is not given."""
    load, churn = spec.load, spec.load.churn
    values = (
        spec.name,
        spec.window,
        spec.placement,
        spec.retries,
        load.connections,
        load.fill,
        load.sources,
        load.protocol,
        load.concurrency,
        load.give_up_ms,
        churn and churn.replacements,
        churn and churn.close,
        churn and churn.rate,
        spec.phase,
    )
    return tuple("" if value is None else str(value) for value in values)


def from_columns(fields: Mapping[str, str]) -> StrategySpec:
    """The strategy that `to_columns` took apart, by the names of `SPEC_COLUMNS`.

    Raises:
        ValueError: A value is none that the column can have.
    """
    return StrategySpec(
        name=fields["strategy"],
        window=_whole(fields["window"]),
        placement=_word(Placement, fields["placement"]) if fields["placement"] else None,
        retries=_whole(fields["retries"]),
        load=Load(
            connections=_whole(fields["connections"]),
            fill=_number(fields["fill"]),
            sources=_whole(fields["sources"]),
            protocol=_word(Protocol, fields["protocol"]),
            concurrency=to_whole(fields["concurrency"]),
            give_up_ms=_number(fields["give_up_ms"]),
            churn=Churn(to_whole(fields["churn"]), _word(Close, fields["close"]), _number(fields["churn_rate"]))
            if fields["churn"]
            else None,
        ),
        phase=_word(Phase, fields["phase"]),
    )


def to_whole(text: str) -> int:
    """A whole number as this module writes it.

    Raises:
        ValueError: It is none; Python's own message about thousands of digits is no help to a user.
    """
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def _word(kind: type[Word], text: str) -> Word:
    if text not in set(kind):
        raise ValueError(f"{text[:40]!r} is none of {', '.join(kind)}")
    return kind(text)


def _whole(text: str) -> int | None:
    return to_whole(text) if text else None


def _number(text: str) -> float | None:
    if text and not re.fullmatch(r"[-+.e\d]{1,40}", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text) if text else None

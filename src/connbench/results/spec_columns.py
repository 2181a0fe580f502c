"""A strategy, its load and its phase as columns of a CSV file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from connbench.model import LOAD_FIELDS, Load, Phase, Placement, StrategySpec
from connbench.model.load import parse_whole

Word = TypeVar("Word", bound=StrEnum)

SPEC_COLUMNS = ("strategy", "window", "placement", "retries", *(field.name for field in LOAD_FIELDS), "phase")


def to_columns(spec: StrategySpec) -> tuple[str, ...]:
    """The values of `SPEC_COLUMNS`, empty for what is not given."""
    load = (field.of(spec.load) for field in LOAD_FIELDS)
    values = (spec.name, spec.window, spec.placement, spec.retries, *load, spec.phase)
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
        load=Load.of({field.name: field.parse(fields.get(field.name, "")) for field in LOAD_FIELDS}),
        phase=_word(Phase, fields["phase"]),
    )


def _word(kind: type[Word], text: str) -> Word:
    if text not in set(kind):
        raise ValueError(f"{text[:40]!r} is none of {', '.join(kind)}")
    return kind(text)


def _whole(text: str) -> int | None:
    return parse_whole(text) if text else None

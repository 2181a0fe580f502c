"""Rebuilds dataclasses from what JSON made of them, for processes that have the standard library alone."""

from __future__ import annotations

from dataclasses import is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def rebuilt(kind: Any, value: Any) -> Any:  # noqa: ANN401  # whatever type a field of the model has
    """The value of a type from what `dataclasses.asdict` and JSON made of it, by the types of the fields."""
    if value is None:
        return None
    if isinstance(kind, UnionType):  # something or None
        [kind] = set(get_args(kind)) - {NoneType}
    if get_origin(kind) is tuple:
        return tuple(rebuilt(get_args(kind)[0], part) for part in value)
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**{name: rebuilt(_types_of(kind)[name], part) for name, part in value.items()})
    return kind(value) if isinstance(kind, type) and issubclass(kind, StrEnum) else value

"""What a reader of the figures must know, as values: findings with their severity and advice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


def printable(text: str) -> str:
    """Text from a file with a mark in the place of each control character: none may end a line or steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


class Severity(StrEnum):
    """How much a finding takes from a measurement."""

    NOTE = "note"
    WARNING = "warning"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reader of the figures must know, and what to do about it.

    `strategy` (a label) and `round` say what it is about; without them it is about all.
    """

    code: str
    severity: Severity
    message: str
    advice: str
    strategy: str | None = None
    round: int | None = None

    @property
    def text(self) -> str:
        """The message with what it is about."""
        place = "" if self.strategy is None else self.strategy
        place += "" if self.round is None else f", round {self.round}"
        return printable(f"{place}: {self.message}" if place else self.message)


MOST_TOLD = 3
"""Messages of one kind that are told in full as one finding."""


def together(found: Iterable[Finding]) -> list[Finding]:
    """Findings of the same kind with the same advice as one each, in the order of their first, for a reader.

    The same message is told once, with all that it is about: `plain and bind: ...`; different ones, as those of other
    figures, one after the other.
    """
    kinds: dict[tuple[str, Severity, str], dict[str, list[Finding]]] = {}
    for one in found:
        kinds.setdefault((one.code, one.severity, one.advice), {}).setdefault(one.message, []).append(one)
    return [
        Finding(code, severity, "; ".join(_told(by_message)), advice)
        for (code, severity, advice), by_message in kinds.items()
    ]


def _told(by_message: dict[str, list[Finding]]) -> list[str]:
    told = []
    for message, alike in list(by_message.items())[:MOST_TOLD]:
        rounds: dict[str, list[int]] = {}
        for one in alike:
            rounds.setdefault(one.strategy or "", []).extend([] if one.round is None else [one.round])
        places = [name + (f", {_rounds(numbers)}" if numbers else "") for name, numbers in rounds.items()]
        place = " and ".join(filter(None, (", ".join(places[:-1]), places[-1])))
        told.append(f"{place}: {message}" if place else message)
    more = len(by_message) - MOST_TOLD
    return [*told, f"and {more} more of the kind"] if more > 0 else told


def _rounds(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"round {numbers[0]}"
    return f"rounds {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


MOST_ALIKE = 2
"""Findings of one kind that are told in full: of many rounds the same is to be said."""


def by_kind(found: Iterable[Finding]) -> list[tuple[list[Finding], list[Finding]]]:
    """For each kind (code and severity), in the order of their first: those to tell in full, and the rest."""
    kinds: dict[tuple[str, Severity], list[Finding]] = {}
    for one in found:
        kinds.setdefault((one.code, one.severity), []).append(one)
    return [(alike[:MOST_ALIKE], alike[MOST_ALIKE:]) for alike in kinds.values()]


def the_rest(rest: Sequence[Finding]) -> str:
    """What stands for those that are not told in full."""
    return f"the same of {len(rest)} more round{'s' if len(rest) > 1 else ''}"

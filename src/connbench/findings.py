"""What a reader of the figures must know, as values: findings with their severity and advice."""

from __future__ import annotations

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

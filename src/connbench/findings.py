"""What a reader of the figures must know, as values: findings with their severity and advice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

MARK = "\N{REPLACEMENT CHARACTER}"
"""What stands in the place of a character that is not shown."""

_NAME, _RUNNER = "[0-9a-f]*[g-z_-]", r"\[|vso\[|teamcity\["
_COMMAND = re.compile(rf"(:):(?={_NAME})|(#)#(?={_RUNNER})", re.IGNORECASE)
"""What begins a command to a CI runner.

GitHub's obeys `::name ...::` at the start of a line, blanks before it or not, and `##[name ...]` anywhere in it
(ActionCommand.cs of actions/runner); Azure Pipelines obeys `##vso[`, TeamCity `##teamcity[`. An IPv6 address is none:
each name of a command has a character that is no hexadecimal digit.
"""

_AT_START = re.compile(rf"(?m:^)( *:):(?={_NAME})|(#)#(?={_RUNNER})", re.IGNORECASE)
_SUSPECT = re.compile(r"[^\x20-\x7e\n]|::|##")
_HIDDEN_BUT_COLOUR = re.compile(r"\x1b\[[0-9;]*m|[^\x20-\x7e\n]")
_NO_JSON_ASCII = re.compile(r"(?<=#)#|[^\x20-\x7e\n]")


def printable(text: str) -> str:
    """Text from a file that neither ends a line, nor steers a terminal, nor commands a CI runner.

    A mark stands in the place of each control character, and of one character of each command.
    """
    shown = text if text.isprintable() else "".join(c if c.isprintable() else MARK for c in text)
    return _COMMAND.sub(_broken, shown) if "::" in shown or "##" in shown else shown


def harmless(text: str) -> str:
    """Lines that go to a terminal, a pipe or a log: no more than line feeds and colours, and no command in any."""
    return _AT_START.sub(_broken, _HIDDEN_BUT_COLOUR.sub(_shown, text)) if _SUSPECT.search(text) else text


def _broken(found: re.Match[str]) -> str:
    return (found[1] or found[2]) + MARK


def _shown(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 or found[0].isprintable() else MARK


def harmless_json(document: str) -> str:
    """The same JSON, in which what is not printable, and what commands a CI runner, is written as an escape."""
    if document.isascii() and "##" not in document and "\x7f" not in document:
        return document  # quick: samples of a million attempts are in it
    return _NO_JSON_ASCII.sub(_escaped, document)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character != "#" and character.isprintable():
        return character
    in_utf16 = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{in_utf16[at]:02x}{in_utf16[at + 1]:02x}" for at in range(0, len(in_utf16), 2))


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

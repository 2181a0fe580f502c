"""Findings: what a reader of the figures must know, with severity and advice. And text that is safe to print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from connbench.wording import listed

MARK = "\N{REPLACEMENT CHARACTER}"
"""Replaces a character that is not printed."""

_NAME, _RUNNER = "[0-9a-f]*[g-z_-]", r"\[|vso\[|teamcity\["
_COMMAND = re.compile(rf"(:):(?={_NAME})|(#)#(?={_RUNNER})", re.IGNORECASE)
"""The beginning of a command to a CI runner.

GitHub obeys `::name ...::` at the start of a line, also behind blanks, and `##[name ...]` anywhere in a line
(ActionCommand.cs of actions/runner); Azure Pipelines obeys `##vso[`, TeamCity `##teamcity[`. An IPv6 address does not
match: the name of a command has a character that is not a hexadecimal digit.
"""

_AT_START = re.compile(rf"(?m:^)( *:):(?={_NAME})|(#)#(?={_RUNNER})", re.IGNORECASE)
_SUSPECT = re.compile(r"[^\x20-\x7e\n]|::|##")
_HIDDEN_BUT_COLOUR = re.compile(r"\x1b\[[0-9;]*m|[^\x20-\x7e\n]")
_NO_JSON_ASCII = re.compile(r"(?<=#)#|[^\x20-\x7e\n]")


def printable(text: str) -> str:
    """Text of one line from a file, without control characters and without commands to a CI runner.

    `MARK` replaces each control character, and one character of each command.
    """
    shown = text if text.isprintable() else "".join(c if c.isprintable() else MARK for c in text)
    return _COMMAND.sub(_broken, shown) if "::" in shown or "##" in shown else shown


def harmless(text: str) -> str:
    """Lines for a terminal, a pipe or a log: of control characters only line feeds and colours, and no commands."""
    return _AT_START.sub(_broken, _HIDDEN_BUT_COLOUR.sub(_shown, text)) if _SUSPECT.search(text) else text


def _broken(found: re.Match[str]) -> str:
    return (found[1] or found[2]) + MARK


def _shown(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 or found[0].isprintable() else MARK


def harmless_json(document: str) -> str:
    """The same JSON, with escapes for unprintable characters and for commands to a CI runner."""
    if document.isascii() and "##" not in document and "\x7f" not in document:
        return document  # a quick test first: the document may hold a million attempts
    return _NO_JSON_ASCII.sub(_escaped, document)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character != "#" and character.isprintable():
        return character
    in_utf16 = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{in_utf16[at]:02x}{in_utf16[at + 1]:02x}" for at in range(0, len(in_utf16), 2))


class Severity(StrEnum):
    """How much a finding harms a measurement."""

    NOTE = "note"
    WARNING = "warning"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a reader of the figures must know, and what to do about it.

    Attributes:
        code: The kind of finding.
        severity: How much it harms the measurement.
        message: What was found.
        advice: What the reader should do.
        strategy: The label of the strategy that it is about; None for all.
        round: The number of the round that it is about; None for all.
    """

    code: str
    severity: Severity
    message: str
    advice: str
    strategy: str | None = None
    round: int | None = None

    @property
    def text(self) -> str:
        """The message, with the strategy and round that it is about."""
        place = "" if self.strategy is None else self.strategy
        place += "" if self.round is None else f", round {self.round}"
        return printable(f"{place}: {self.message}" if place else self.message)


MAX_MESSAGES = 3
"""Messages of one kind that a merged finding contains."""


def together(found: Iterable[Finding]) -> list[Finding]:
    """Merge the findings that have the same kind and advice, in the order of the first of each.

    Equal messages become one, with all strategies and rounds that they are about: `plain and bind: ...`. Different
    messages follow each other.
    """
    kinds: dict[tuple[str, Severity, str], dict[str, list[Finding]]] = {}
    for one in found:
        kinds.setdefault((one.code, one.severity, one.advice), {}).setdefault(one.message, []).append(one)
    return [
        Finding(code, severity, "; ".join(_merged(by_message)), advice)
        for (code, severity, advice), by_message in kinds.items()
    ]


def _merged(by_message: dict[str, list[Finding]]) -> list[str]:
    merged = []
    for message, alike in list(by_message.items())[:MAX_MESSAGES]:
        rounds: dict[str, list[int]] = {}
        for one in alike:
            rounds.setdefault(one.strategy or "", []).extend([] if one.round is None else [one.round])
        places = [name + (f", {_rounds(numbers)}" if numbers else "") for name, numbers in rounds.items()]
        place = listed(places)
        merged.append(f"{place}: {message}" if place else message)
    more = len(by_message) - MAX_MESSAGES
    return [*merged, f"and {more} more of the kind"] if more > 0 else merged


def _rounds(numbers: Sequence[int]) -> str:
    return f"round{'s' if len(numbers) > 1 else ''} {listed([str(number) for number in numbers])}"


MAX_ALIKE = 2
"""Findings of one kind that are shown in full; many rounds can have the same finding."""


def by_kind(found: Iterable[Finding]) -> list[tuple[list[Finding], list[Finding]]]:
    """For each kind (code and severity), in the order of the first of each: the findings to show, and the rest."""
    kinds: dict[tuple[str, Severity], list[Finding]] = {}
    for one in found:
        kinds.setdefault((one.code, one.severity), []).append(one)
    return [(alike[:MAX_ALIKE], alike[MAX_ALIKE:]) for alike in kinds.values()]


def the_rest(rest: Sequence[Finding]) -> str:
    """The line for the findings that are not shown."""
    return f"the same of {len(rest)} more round{'s' if len(rest) > 1 else ''}"

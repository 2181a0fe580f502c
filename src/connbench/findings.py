"""Findings: what a reader of the figures must know, with severity and advice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from connbench.safe_text import printable
from connbench.wording import listed

UNSUPPORTED = "unsupported"
"""Code of the finding that a strategy was left out, because the kernel lacks what it needs."""


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


def merge_alike(found: Iterable[Finding]) -> list[Finding]:
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


def group_by_kind(found: Iterable[Finding]) -> list[tuple[list[Finding], list[Finding]]]:
    """For each kind (code and severity), in the order of the first of each: the findings to show, and those to hide."""
    kinds: dict[tuple[str, Severity], list[Finding]] = {}
    for one in found:
        kinds.setdefault((one.code, one.severity), []).append(one)
    return [(alike[:MAX_ALIKE], alike[MAX_ALIKE:]) for alike in kinds.values()]


def hidden_line(hidden: Sequence[Finding]) -> str:
    """The line for the findings that are not shown."""
    return f"the same of {len(hidden)} more round{'s' if len(hidden) > 1 else ''}"

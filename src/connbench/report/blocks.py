"""What a report is made of: blocks, built once from a result and laid out by one writer for each format.

A builder puts the verdict of a report near the top, where a page has it; the text writer moves it to the end, where
the eye of a terminal's reader is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connbench.findings import Finding


@dataclass(frozen=True, slots=True)
class Heading:
    """What the blocks below it are about.

    Attributes:
        text: One line.
        stressed: The beginning of the text that stands out; the whole text is a heading where this is empty.
    """

    text: str
    stressed: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader should take away, in a few sentences; none where nothing was measured."""

    sentences: Sequence[str]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of prose.

    Attributes:
        lines: Each is complete in itself; a writer may fold it.
        is_list: Whether they are items of a list rather than paragraphs.
        indent: Columns that a folded line's further lines are set in by.
    """

    lines: Sequence[str]
    is_list: bool = False
    indent: int = 2


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text that no writer folds or changes."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; the first column names what the row is about, the others hold figures.

    Attributes:
        header: The columns' names.
        rows: As many cells each.
        title: The heading, where the table has one of its own.
        remarks: Sentences below the rows.
        words: Further columns that hold words, counted from 0: they are set to the left, figures to the right.
        muted: Rows, counted from 0, that are there to compare with and were not measured.
        folded: What stands for the table on a page until a reader unfolds it; None shows it at once.
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    remarks: tuple[str, ...] = ()
    words: tuple[int, ...] = ()
    muted: tuple[int, ...] = ()
    folded: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What may spoil the figures of the whole report: a sentence, and its items as (severity, text)."""

    text: str
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings with their advice.

    Attributes:
        findings: In the order in which they are printed.
        shortened: Whether the text shows the first few of each kind and counts the rest.
    """

    findings: Sequence[Finding]
    shortened: bool = False


Block = Heading | Verdict | Lines | Verbatim | Table | Alert | Findings

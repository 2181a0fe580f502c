"""Puts words together for a reader: lists in a sentence, and paragraphs folded to the width of a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

_QUOTED = re.compile("`[^`]*`")
"""A command in a sentence."""

_KEPT = "\0"
"""Stands for a space at which no line ends; no text has it."""


def listed(words: Sequence[str], last: str = " and ") -> str:
    """Words as a list in a sentence: `a`, `a and b`, `a, b and c` (`last` before the last); empty without any."""
    return last.join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def end_of(text: str, width: int) -> str:
    """A text, or the end of one that is longer than so many columns: paths differ more there than at the beginning."""
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def fold(text: str, width: int | None, indent: str = "  ", first: str = "") -> str:
    """Fold a paragraph between words, never within one, so that what a reader copies (an address) stays whole.

    A command in backticks stays whole, too, if a line has room for it.

    Args:
        text: One paragraph.
        width: Columns; None leaves it on one line.
        indent: What each further line begins with.
        first: What the first line begins with.
    """
    if width is None:
        return first + text
    room = width - len(indent)
    kept = _QUOTED.sub(lambda one: one[0].replace(" ", _KEPT) if len(one[0]) <= room else one[0], text)
    return textwrap.fill(
        kept, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ).replace(_KEPT, " ")

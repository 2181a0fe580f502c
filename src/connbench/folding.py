"""Folds a paragraph to the width of a terminal; every text that connbench prints is folded here."""

from __future__ import annotations

import textwrap


def fold(text: str, width: int | None, indent: str = "  ", first: str = "") -> str:
    """Fold a paragraph between words, never within one: what a reader copies, as an address, stays whole.

    Args:
        text: One paragraph.
        width: Columns; None leaves it on one line.
        indent: What each further line begins with.
        first: What the first line begins with.
    """
    if width is None:
        return first + text
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

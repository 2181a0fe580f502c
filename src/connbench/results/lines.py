"""The lines of a text, a few at a time: a list of all of them takes several times the memory of the text."""

from __future__ import annotations

from collections.abc import Iterator

from connbench.errors import InputError

LINE_END = "\n"
LONGEST_LINE = 1 << 20
"""Characters: an attempt takes a hundred, and the rest is what names its strategy or tells of a fault."""


def lines_of(text: str, name: str) -> Iterator[str]:
    """Each line of a text that ends in a line break, without it.

    Raises:
        InputError: A line is longer than any result's.
    """
    begin, count = 0, 0
    while begin < len(text):
        end = text.rfind(LINE_END, begin, begin + LONGEST_LINE)
        if end < 0:
            raise InputError(
                f"{name} is no result file: line {count + 1} is longer than {LONGEST_LINE >> 20} MiB",
                "an attempt takes a line of a hundred characters",
            )
        lines = text[begin:end].split(LINE_END)
        yield from lines
        count += len(lines)
        begin = end + 1

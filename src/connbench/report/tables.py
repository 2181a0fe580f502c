"""Tables of plain text, laid out by rich, without colour or frames: they paste well."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

WIDE_ENOUGH = 1000
"""Cells are never folded: a table is as wide as its content, which the reports keep under 80 columns."""


NARROWEST = 20
"""Columns of a first column below which it is not folded."""


def render(
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    words: tuple[int, ...] = (),
    width: int | None = None,
) -> str:
    """Rows under a header; the first column to the left, all others, numbers as they are, to the right.

    Args:
        header: The columns' names.
        rows: As many cells each.
        words: Further columns that hold words, and stand to the left too.
        width: Columns to fold the first column's words to, where they are what makes it too wide; its figures then
            stand beside the last line.
    """
    if width is not None:
        figures = sum(2 + max(map(len, cells)) for cells in list(zip(header, *rows, strict=True))[1:])
        rows = [line for row in rows for line in _folded(row, max(NARROWEST, width - figures))]
    table = Table(box=None, pad_edge=False, header_style="")
    for position, title in enumerate(header):
        table.add_column(title, justify="right" if position and position not in words else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=WIDE_ENOUGH, color_system=None, markup=False, highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)  # noqa: S101  # made so above; tells the type checker
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _folded(row: tuple[str, ...], width: int) -> list[tuple[str, ...]]:
    lines = textwrap.wrap(row[0], width, subsequent_indent="  ", break_long_words=False) or [row[0]]
    return [*((line, *[""] * (len(row) - 1)) for line in lines[:-1]), (lines[-1], *row[1:])]

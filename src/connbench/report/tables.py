"""Tables of plain text, laid out by rich, without colour or frames: they paste well."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

WIDE_ENOUGH = 1000
"""Cells are never folded: a table is as wide as its content, which the reports keep under 80 columns."""


def render(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], words: tuple[int, ...] = ()) -> str:
    """Rows under a header; the first column and those of words to the left, all others, numbers, to the right."""
    table = Table(box=None, pad_edge=False, header_style="")
    for position, title in enumerate(header):
        table.add_column(title, justify="right" if position and position not in words else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=WIDE_ENOUGH, color_system=None, markup=False, highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)  # noqa: S101  # made so above; tells the type checker
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())

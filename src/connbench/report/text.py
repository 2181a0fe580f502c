"""Blocks as plain text: for a terminal, folded to its width, and for a pipe, where each line stays whole."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table as RichTable

from connbench.findings import Finding, group_by_kind, hidden_line
from connbench.report.blocks import Alert, Block, Findings, Heading, Lines, Table, Verbatim, Verdict
from connbench.safe_text import printable
from connbench.wording import fold

BOLD, NORMAL = "\x1b[1m", "\x1b[0m"
"""What begins and ends bold characters on a terminal (ECMA-48, SGR)."""

WIDEST = 1000
"""Columns of the console that rich lays a table out for: it never folds a cell."""

NARROWEST = 20
"""Columns that the first column of a table keeps, however narrow the terminal is."""


def write(blocks: Iterable[Block], width: int | None = None, *, bold: bool = False, verdict_first: bool = False) -> str:
    """Blocks as text, a blank line between two of them and none below a heading; the verdict stands at the end.

    Args:
        blocks: The report, or a part of it.
        width: Columns to fold prose to; None leaves each line whole, as a pipe wants it.
        bold: Whether the words that a reader looks for are bold, as a terminal can show them.
        verdict_first: Whether the verdict stays at the beginning.
    """
    ordered = sorted(blocks, key=lambda block: isinstance(block, Verdict) != verdict_first)
    parts, heading = [], ""
    for block in ordered:
        written = "\n".join(_lines(block, width, bold=bold))
        if isinstance(block, Heading):
            heading += f"{written}\n"
        elif written:
            parts.append(heading + written)
            heading = ""
    return "\n\n".join([*parts, *filter(None, [heading.rstrip("\n")])])


def _lines(block: Block, width: int | None, *, bold: bool) -> Iterator[str]:
    match block:
        case Heading(text, stressed):
            yield _stressed(fold(text, width), stressed, bold=bold)
        case Verdict(sentences):
            for position, sentence in enumerate(sentences):
                word = "" if position else "verdict:"
                yield _stressed(fold(f"{word} {sentence}".lstrip(), width), word, bold=bold)
        case Lines(lines, indent=indent):
            yield from (fold(line, width, " " * indent) for line in lines)
        case Verbatim(text):
            yield text
        case Table():
            yield from filter(None, (fold(block.title, width), render(block, width) if block.rows else ""))
            yield from (fold(remark, width) for remark in block.remarks)
        case Alert(text, items):
            yield f"WARNING: {text}"
            yield from (fold(f"  {severity}: {item}", width, "    ") for severity, item in items)
        case Findings():
            yield from _findings(block, width)


def _findings(block: Findings, width: int | None) -> Iterator[str]:
    kinds = group_by_kind(block.findings) if block.shortened else [([*block.findings], [])]
    for shown, rest in kinds:
        yield from (_finding(one, width) for one in shown)
        if rest:
            yield fold(f"{rest[0].severity}: {hidden_line(rest)}", width)


def _finding(found: Finding, width: int | None) -> str:
    """A finding, and on a line of its own what to do about it."""
    advice = fold(f"  -> {printable(found.advice)}", width, "     ")
    return f"{fold(f'{found.severity}: {found.text}', width)}\n{advice}"


def _stressed(text: str, beginning: str, *, bold: bool) -> str:
    """A text whose first words are bold, where that is wanted; first words that were folded stay as they are."""
    is_bold = bold and beginning and text.startswith(beginning)
    return f"{BOLD}{beginning}{NORMAL}{text.removeprefix(beginning)}" if is_bold else text


def render(table: Table, width: int | None = None) -> str:
    """The rows of a table under their header, without colour or frames, so that they paste well.

    Args:
        table: Its first column stands to the left; of the others figures to the right, words to the left.
        width: Columns to fold the names of columns and the first column's words to, where they make the table too
            wide; the figures of such a row stand beside its last line, or below it if a word is wider than the column.
    """
    header, rows, over = table.header, table.rows, dict[int, str]()
    if width is not None:
        first, *others = (max(map(len, cells)) for cells in zip(header, *rows, strict=True))
        if min(first, NARROWEST) + sum(2 + one for one in others) > width:
            header, others = _folded_heads(header, rows)
        room = max(NARROWEST, width - sum(2 + one for one in others))
        rows = [line for row in rows for line in _folded(row, room, width)]
        over = {at: row[0] for at, row in enumerate(rows) if len(row[0]) > room}
    grid = RichTable(box=None, pad_edge=False, header_style="")
    for position, title in enumerate(header):
        grid.add_column(title, justify="right" if position and position not in table.words else "left", no_wrap=True)
    for at, row in enumerate(rows):
        grid.add_row("" if at in over else row[0], *row[1:])
    written = io.StringIO()
    # `:1234:` of an IPv6 address is the code of an emoji.
    Console(file=written, width=WIDEST, color_system=None, markup=False, highlight=False, emoji=False).print(grid)
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    first = len(lines) - len(rows)
    return "\n".join(over.get(at - first, line) for at, line in enumerate(lines))


def _folded_heads(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[int]]:
    """The columns' names, those of figures folded between words to the width of their figures; and these widths."""
    widths = [max(map(len, cells)) for cells in list(zip(*rows, strict=True))[1:]]
    folded = [fold(name, max(1, width), "") for name, width in zip(header[1:], widths, strict=True)]
    lines = [max(map(len, name.split("\n")), default=0) for name in folded]
    return (header[0], *folded), [max(both) for both in zip(widths, lines, strict=True)]


def _folded(row: tuple[str, ...], room: int, width: int) -> list[tuple[str, ...]]:
    """A row as lines: its first cell folded to `room`, or to `width` if a word is longer; the figures in the last."""
    lines = fold(row[0], room).split("\n")
    if max(map(len, lines)) > room:
        lines = [*fold(row[0], width).split("\n"), ""]
    return [*((line, *[""] * (len(row) - 1)) for line in lines[:-1]), (lines[-1], *row[1:])]

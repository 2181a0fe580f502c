"""Blocks as plain text: for a terminal, folded to its width, and for a pipe, where each line stays whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

from connbench.findings import Finding, group_by_kind, hidden_line
from connbench.report.blocks import Alert, Block, Findings, Heading, Lines, Table, Verbatim, Verdict
from connbench.safe_text import printable
from connbench.wording import fold

BOLD, NORMAL = "\x1b[1m", "\x1b[0m"
"""What begins and ends bold characters on a terminal (ECMA-48, SGR)."""

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
    header, rows = table.header, table.rows
    if width is not None:
        first, *others = (max(map(len, cells)) for cells in zip(header, *rows, strict=True))
        if min(first, NARROWEST) + sum(2 + one for one in others) > width:
            header, others = _folded_heads(header, rows)
        room = max(NARROWEST, width - sum(2 + one for one in others))
        rows = [line for row in rows for line in _folded(row, room, width)]
    heads = [title.split("\n") for title in header]
    most = max(map(len, heads))
    lines = [*zip(*([""] * (most - len(head)) + head for head in heads), strict=True), *rows]
    whole = [line for line in lines if len(line) == len(header)]
    widths = [max(map(cell_len, cells)) for cells in zip(*whole, strict=True)]
    is_left = [not position or position in table.words for position in range(len(header))]
    return "\n".join("  ".join(map(_padded, line, widths, is_left)).rstrip() for line in lines)


def _padded(cell: str, width: int, is_left: bool) -> str:
    """A cell with blanks to its column's width, on the right of words and on the left of figures."""
    blanks = " " * (width - cell_len(cell))
    return f"{cell}{blanks}" if is_left else f"{blanks}{cell}"


def _folded_heads(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[int]]:
    """The columns' names, those of figures folded between words to the width of their figures; and these widths."""
    widths = [max(map(len, cells)) for cells in list(zip(*rows, strict=True))[1:]]
    folded = [fold(name, max(1, width), "") for name, width in zip(header[1:], widths, strict=True)]
    lines = [max(map(len, name.split("\n")), default=0) for name in folded]
    return (header[0], *folded), [max(both) for both in zip(widths, lines, strict=True)]


def _folded(row: tuple[str, ...], room: int, width: int) -> list[tuple[str, ...]]:
    """A row as lines, the figures in the last one.

    Its first cell is folded to `room`; or, if a word is wider, to `width` in lines that are a cell each.
    """
    lines = fold(row[0], room).split("\n")
    if max(map(len, lines)) > room:
        return [*((line,) for line in fold(row[0], width).split("\n")), ("", *row[1:])]
    return [*((line, *[""] * (len(row) - 1)) for line in lines[:-1]), (lines[-1], *row[1:])]

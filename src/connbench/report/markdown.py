"""Blocks as markdown to paste into an issue, as GitHub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from connbench.report.blocks import Alert, Block, Findings, Heading, Lines, Table, Verbatim, Verdict

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = re.compile(r"[\\`*{}\[\]|~!$]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that mark something up; an underscore within a word does not."""

_LINKED = re.compile(r"[@#]|:(?=//)")
"""What GitHub makes a mention, an issue or an address of, even behind a backslash; a comment after it prevents that."""


def write(blocks: Iterable[Block]) -> str:
    """Blocks as paragraphs, tables and lists, in their order; whatever a file holds is escaped."""
    return "\n\n".join(part for block in blocks for part in _parts(block) if part) + "\n"


def escape(text: str) -> str:
    """Text as it is, whatever it holds: no markup, no HTML, no mention, no second line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], line)
    return _LINKED.sub(r"\g<0><!-- -->", _MARKUP.sub(r"\\\g<0>", line))


def _parts(block: Block) -> Iterator[str]:
    match block:
        case Heading(text, stressed):
            rest = escape(text.removeprefix(stressed))
            yield f"**{escape(stressed)}** {rest}".rstrip() if stressed else f"### {rest}"
        case Verdict(sentences):
            yield from map(escape, sentences)
        case Lines(lines, is_list):
            yield from [_items(map(escape, lines))] if is_list else map(escape, lines)
        case Verbatim(text):
            yield f"```text\n{text}\n```"
        case Table():
            if block.title:
                yield f"**{escape(block.title)}**"
            if block.rows:
                yield _table(block)
            yield from map(escape, block.remarks)
        case Alert(text, items):
            told = "\n".join(f"> - **{severity}** {escape(item)}" for severity, item in items)
            yield f"> [!WARNING]\n> {text}\n>\n{told}"
        case Findings(findings):
            yield _items(f"**{one.severity}:** {escape(one.text)}; {escape(one.advice)}" for one in findings)


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(table: Table) -> str:
    """The first row is the header; the first column and those of words stand to the left, all others to the right."""
    rows: Sequence[tuple[str, ...]] = [tuple(map(escape, row)) for row in (table.header, *table.rows)]
    columns = [
        _column(cells, is_number=at not in (0, *table.words)) for at, cells in enumerate(zip(*rows, strict=True))
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True))


def _column(cells: tuple[str, ...], *, is_number: bool) -> list[str]:
    """The cells of a column, padded to one width, which only those who read the source see."""
    width = max(3, *map(len, cells))
    title, *others = (f"{cell:>{width}}" if is_number else f"{cell:<{width}}" for cell in cells)
    return [title, f"{'-' * (width - 1)}{':' if is_number else '-'}", *others]

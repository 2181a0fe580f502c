"""An inspection as blocks, and as text."""

from __future__ import annotations

from connbench.inspect.inspection import Inspection, Row
from connbench.report import text as text_writer
from connbench.report.blocks import Block, Lines, Table
from connbench.units import count, format_percent


def text(inspection: Inspection, width: int | None = None) -> str:
    """The text of an inspection."""
    return text_writer.write(_blocks(inspection), width)


def _blocks(inspection: Inspection) -> list[Block]:
    header = ("source -> target", "used", "share", "ESTAB", "TIME-WAIT", "even", "odd", "free")
    rows = [_row(row) for row in inspection.rows]
    shown = f"{count(inspection.sockets)} sockets, {count(inspection.paths)} paths"
    return [Lines([shown]), *([Table(header, rows)] if rows else [])]


def _row(row: Row) -> tuple[str, ...]:
    path = row.path
    numbers = (path.established, path.time_wait, path.even, path.odd, path.free)
    return (
        f"{path.source} -> {path.target}:{path.target_port}",
        count(path.used),
        format_percent(path.share),
        *(count(number) for number in numbers),
    )

"""A sweep to paste into an issue: its tables as GitHub has them, the findings, and the cheapest setting."""

from __future__ import annotations

from connbench.analysis.soundness import findings
from connbench.report import sweep
from connbench.report.markdown import escape, heading, laid_out
from connbench.report.rows import Block
from connbench.results.result import Result


def markdown(result: Result, budget: float) -> str:
    """The tables of `connbench.report.sweep.blocks` with their remarks; the last of these names the cheapest setting.

    Args:
        result: What was measured.
        budget: The share of attempts that may fail at each load, 0 to 1.
    """
    found = [f"- **{f.severity}:** {escape(f.text)}; {escape(f.advice)}" for f in findings(result)]
    parts = [heading(result), *map(_block, sweep.blocks(result, budget)), "\n".join(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> str:
    rows = [tuple(map(escape, row)) for row in (block.table.header, *block.table.rows)]
    parts = [f"**{escape(block.title)}**", laid_out(rows, block.words), *map(escape, block.remarks)]
    return "\n\n".join(parts)

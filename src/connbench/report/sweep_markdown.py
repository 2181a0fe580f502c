"""A sweep to paste into an issue: the verdict, its tables as GitHub has them, and the findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from connbench.analysis.soundness import findings
from connbench.report import sweep_tables as sweep
from connbench.report.markdown import escape, heading, laid_out
from connbench.report.rows import Block
from connbench.results.result import Result

if TYPE_CHECKING:
    from connbench.portmodel.variants import Variant  # which loads what simulates, and a report does not


def markdown(result: Result, budget: float, variants: Sequence[Variant] = ()) -> str:
    """The verdict and the tables of `connbench.report.sweep_tables.blocks` with their remarks, and the findings.

    Args:
        result: What was measured.
        budget: The share of attempts that may fail at each load, 0 to 1.
        variants: What would let the runner-up in, by the model.
    """
    found = [f"- **{f.severity}:** {escape(f.text)}; {escape(f.advice)}" for f in findings(result)]
    verdict = map(escape, sweep.sentences(result, budget, variants))
    parts = [heading(result), *verdict, *map(_block, sweep.blocks(result, budget)), "\n".join(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> str:
    rows = [tuple(map(escape, row)) for row in (block.table.header, *block.table.rows)]
    parts = [f"**{escape(block.title)}**", laid_out(rows, block.words), *map(escape, block.remarks)]
    return "\n\n".join(parts)

"""A sweep for programs: the document of its result, and in it who came out how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from connbench.analysis.sweep_analysis import Standing, Sweep
from connbench.report.json import json_document
from connbench.report.sweep_tables import sentences
from connbench.report.sweep_verdict import budget_for
from connbench.results.result import Result

if TYPE_CHECKING:
    from connbench.portmodel.variants import Variant  # which loads what simulates, and a report does not


def json(result: Result, budget: float, variants: Sequence[Variant] = ()) -> str:
    """The document of `connbench.report.json`, with `sweep`: ranking, choice, rivals, runner-up and verdict.

    Times are in ns, shares of 1; what there is not is null, a cost without a connection too.

    Args:
        result: What was measured.
        budget: The share of attempts that may fail at each load, 0 to 1.
        variants: What would let the runner-up in, by the model.
    """
    sweep = Sweep.of(result)
    chosen, out = sweep.cheapest(budget), sweep.cheaper_beyond(budget)
    return json_document(
        result,
        {
            "sweep": {
                "error_budget_share": budget,
                "verdict": sentences(result, budget, variants),
                "loads": sweep.loads,
                "ranking": [_standing(one, sweep, budget) for one in sweep.standings],
                "choice": chosen and _standing(chosen, sweep, budget),
                "not_told_from_choice": [rival.setting.label for rival in sweep.tied(budget)],
                "runner_up": _runner_up(out[0], sweep, budget, variants) if out else None,
                "cheapest_by_load": [_at(sweep, position, budget) for position in range(len(sweep.loads))],
            }
        },
    )


def _standing(standing: Standing, sweep: Sweep, budget: float) -> dict[str, Any]:
    return {
        "setting": standing.setting,
        "label": standing.setting.label,
        "cost_ns": standing.cost_ns,
        "cost_quickest_round_ns": standing.least_ns,
        "cost_slowest_round_ns": standing.most_ns,
        "worst_error_share": standing.worst_share,
        "worst_load": standing.worst_load if standing.worst_share else None,
        "keeps_budget": standing.is_within(budget),
        "by_load": [_figures(sweep, standing, position) for position in range(len(sweep.loads))],
    }


def _figures(sweep: Sweep, standing: Standing, position: int) -> dict[str, Any]:
    cell = sweep.cell(standing.setting, sweep.loads[position])
    return {"load": cell.load, "attempts": cell.attempts, "figures": cell.figures}


def _runner_up(standing: Standing, sweep: Sweep, budget: float, variants: Sequence[Variant]) -> dict[str, Any]:
    return _standing(standing, sweep, budget) | {
        "let_in_by": {
            "error_budget_share": budget_for(standing.worst_share),
            "options": [
                {"options": one.options, "setting": one.setting, "predicted_error_share": one.error_share}
                for one in variants
            ],
        }
    }


def _at(sweep: Sweep, position: int, budget: float) -> dict[str, Any]:
    load = sweep.loads[position]
    cell = sweep.cheapest_at(load, budget)
    return {"load": load, "label": cell and cell.setting.label, "cost_ns": cell and cell.figures.cost_ns}

"""The last line of a sweep: which setting is the cheapest, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from connbench.analysis.sweep import Standing, Sweep
from connbench.report.sweep_names import Names
from connbench.units import duration

MOST_RIVALS = 3
"""Settings the last line has room for."""


def conclusion(sweep: Sweep, names: Names, budget: float) -> str:
    """Which setting is the cheapest of those that keep within the budget, or which comes nearest to it."""
    standings = sweep.standings
    if not standings:
        return "cheapest: not judged, for no setting has a complete round at every load"
    missing = len(sweep.settings) - len(standings)
    rest = f"; {missing} not measured at every load and not judged" if missing else ""
    chosen = sweep.cheapest(budget)
    if chosen:
        alike = _rivals([rival.setting.label for rival in sweep.rivals(budget)])
        return f"cheapest within {share(budget)} errors: {_described(chosen, sweep, names)}{alike}{rest}"
    nearest = sweep.nearest()
    assert nearest  # noqa: S101  # there are standings; tells the type checker
    return f"no setting keeps within {share(budget)} errors; nearest: {_described(nearest, sweep, names)}{rest}"


def _described(standing: Standing, sweep: Sweep, names: Names) -> str:
    cost = f"{standing.setting.label}, {duration(standing.cost_ns)} an attempt"
    where = "mean acquire" + (" of the churn" if sweep.has_churn else "")
    errors = f"{share(standing.worst_share)} errors" if standing.worst_share else "no errors"
    if len(sweep.loads) > 1:
        worst = f"worst{names.at(standing.worst_load)}: {errors}" if standing.worst_share else errors
        return f"{cost} ({where}, every load alike; {worst})"
    return f"{cost} ({where}; {errors})"


def _rivals(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = len(labels) - MOST_RIVALS
    shown = "; ".join(labels[:MOST_RIVALS]) + (f" and {more} more" if more > 0 else "")
    return f"; its rounds overlap with those of {shown}: no difference shown"


def share(value: float) -> str:
    """A share in percent, with as many digits as a budget needs."""
    text = f"{value * 100:.2f}"
    return f"{value * 100:.1g}%" if float(text) == 0 and value else f"{text.rstrip('0').rstrip('.') or '0'}%"

"""The verdict on a sweep: the cheapest setting, how sure that is, and what lets in the cheaper one that fell out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, isfinite, log10
from shlex import quote
from typing import TYPE_CHECKING

from connbench.analysis.sweep_analysis import Standing, Sweep
from connbench.findings import printable
from connbench.model import Placement, StrategySpec
from connbench.report.next_step import CUT_SHORT
from connbench.report.sweep_names import Names
from connbench.units import duration

if TYPE_CHECKING:
    from connbench.portmodel.variants import Variant  # which loads what simulates, and a report does not

MOST_RIVALS = 3
"""Settings that a sentence has room for."""

LARGEST_BUDGET = 0.1
"""A larger one is no advice: of ten connections a program would miss one."""


def verdict(sweep: Sweep, names: Names, budget: float, variants: Sequence[Variant] = ()) -> tuple[str, ...]:
    """One to four sentences without any layout; the first names the cheapest setting that keeps within the budget.

    Args:
        sweep: What was measured.
        names: Of its settings and loads.
        budget: The share of attempts that may fail at each load, 0 to 1.
        variants: What would let the runner-up in, by the model.
    """
    if not sweep.standings:
        return ("No setting is judged, for none has a complete round at every load.", *_next(sweep, (), is_close=False))
    chosen = sweep.cheapest(budget)
    out = sweep.cheaper_beyond(budget)
    sentences = [
        f"Cheapest within {share(budget)} errors: {_described(chosen, sweep, names)}."
        if chosen
        else f"No setting keeps within {share(budget)} errors; nearest: {_described(out[0], sweep, names)}."
    ]
    rivals = [rival.setting.label for rival in sweep.tied(budget)]
    if rivals:
        sentences.append(f"Its rounds overlap with those of {_some(rivals)}: no difference shown.")
    if chosen and out:
        sentences.append(_fell_out(out, chosen, sweep, names))
    ways = _ways_in(out[0], variants) if out else []
    if ways:
        sentences.append(f"{out[0].setting.label} is let in by {_either(ways)}.")
    missing = len(sweep.settings) - len(sweep.standings)
    if missing:
        have = "setting has no complete round at every load and is"
        many = "settings have no complete round at every load and are"
        sentences.append(f"{missing} {have if missing == 1 else many} not judged.")
    return (*sentences, *_next(sweep, variants, is_close=bool(rivals)))


def _next(sweep: Sweep, variants: Sequence[Variant], *, is_close: bool) -> Iterator[str]:
    """What to run next: nothing where the sweep has answered what it was asked."""
    if sweep.is_partial:
        yield CUT_SHORT
    elif variants:
        yield f"Next: repeat the sweep with {_options(variants[0].setting)}, which measures it."
    elif len(sweep.settings) > 1 and all(len(cell.costs_ns) == 1 for cell in sweep.cells):
        yield "Next: repeat the sweep with --rounds 5; one round does not show how far the figures scatter."
    elif is_close:
        yield "Next: repeat the sweep with these settings alone and more --rounds, which may tell them apart."


def _described(standing: Standing, sweep: Sweep, names: Names) -> str:
    where = "mean of the churn" if sweep.has_churn else "mean"
    if len(sweep.loads) > 1:
        where += f" over the {len(sweep.loads)} loads"
    worst = f"{share(standing.worst_share)} errors" if standing.worst_share else "no errors"
    at = names.at(standing.worst_load) if standing.worst_share else ""
    return f"{standing.setting.label}, {_cost(standing)} ({where}; {f'at worst {worst}{at}' if at else worst})"


def _cost(standing: Standing) -> str:
    return f"{duration(standing.cost_ns)} a connection" if isfinite(standing.cost_ns) else "not one connection"


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_RIVALS
    return "; ".join(labels[:MOST_RIVALS]) + (f" and {more} more" if more > 0 else "")


def _either(ways: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(ways[:-1]), ways[-1])))


def _fell_out(out: Sequence[Standing], chosen: Standing, sweep: Sweep, names: Names) -> str:
    """The runner-up, and why it is not chosen."""
    first, *others = out
    lacks = all(sweep.cell(first.setting, load).lacks_ports for load in sweep.loads)
    fault = "found no free port" if lacks else "failed"
    times = chosen.cost_ns / first.cost_ns
    more = f"; {len(others)} more cheaper setting{'s' if len(others) > 1 else ''} fell out too" if others else ""
    return (
        f"{first.setting.label} takes {_cost(first)}, {times:.1f} times less, and fell out: "
        f"{share(first.worst_share)} of its attempts {fault}{names.at(first.worst_load)}{more}."
    )


def _ways_in(runner_up: Standing, variants: Sequence[Variant]) -> list[str]:
    """What would let a setting in: a budget as large as its errors, or what the model says of it."""
    budget = [f"--error-budget {share(budget_for(runner_up.worst_share))}"]
    return (budget if runner_up.worst_share <= LARGEST_BUDGET else []) + [
        f"{one.options} (the model predicts {share(one.error_share)} errors)" for one in variants
    ]


def _options(setting: StrategySpec) -> str:
    """A setting as it is typed."""
    options = {
        "--strategy": quote(printable(setting.name)),  # to be pasted into a shell, and as a file has it
        "--window": setting.window,
        "--placement": setting.placement if setting.placement is Placement.CLIPPED else None,
        "--retries": setting.retries or None,
        "--sources": setting.load.sources,
    }
    return " ".join(f"{option} {value}" for option, value in options.items() if value is not None)


def budget_for(errors: float) -> float:
    """The smallest budget that a share of errors keeps, to two digits or to 0.01 %: 0.0501 makes 0.051."""
    step = max(1e-4, 10.0 ** (floor(log10(errors)) - 1))
    return min(1.0, round(ceil(errors / step - 1e-9) * step, 12))


def share(value: float) -> str:
    """A share in percent, with as many digits as a budget needs."""
    text = f"{value * 100:.2f}"
    return f"{value * 100:.1g}%" if float(text) == 0 and value else f"{text.rstrip('0').rstrip('.') or '0'}%"

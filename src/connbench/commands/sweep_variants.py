"""What would let the runner-up of a sweep in: the model is asked about its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connbench.analysis.sweep_analysis import Sweep, setting_and_load
from connbench.errors import UsageError
from connbench.linux.sysctl import RESERVED_PORTS
from connbench.model import parse_ports
from connbench.model.time_wait import TimeWait
from connbench.portmodel.algorithm import algorithm_of
from connbench.portmodel.simulate import KernelParameters
from connbench.portmodel.variants import Variant, variants

if TYPE_CHECKING:
    from connbench.results.result import Result


def variants_of(result: Result, budget: float) -> tuple[Variant, ...]:
    """The changes that let the first of those that fell out keep the budget; none where the model cannot tell."""
    sweep = Sweep.of(result)
    out = sweep.cheaper_beyond(budget)
    if not out or result.plan is None:
        return ()
    setting = out[0].setting
    if not all(sweep.cell(setting, load).lacks_ports for load in sweep.loads):
        return ()
    by_load = {
        load: spec for spec in result.plan.strategies for one, load in [setting_and_load(spec)] if one == setting
    }
    shares = {load: sweep.cell(setting, load).figures.error_share for load in sweep.loads}
    worst_first = sorted(sweep.loads, key=lambda load: -shares[load])
    settings = next((r.report.settings for rounds in result.rounds.values() for r in rounds), {})
    try:
        machine = KernelParameters(
            reserved=parse_ports(settings.get(RESERVED_PORTS, "")), time_wait=TimeWait.of(settings)
        )
    except UsageError:  # a file that was changed: its figures stand, and the model has nothing to go by
        return ()
    return tuple(
        variants(
            result.plan,
            [by_load[load] for load in worst_first],
            shares[worst_first[0]],
            budget,
            algorithm_of(str(result.environment.get("kernel", ""))),
            machine,
        )
    )

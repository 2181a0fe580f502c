"""Whether a run uses enough of its ports to show where connect() turns slow: beyond half of them."""

from __future__ import annotations

from connbench.findings import Finding, Severity
from connbench.model import Plan, RoundPlan, StrategySpec

FEWEST_PORTS = 100
"""With fewer there is hardly a search: nobody looks for a knee there."""


def note_unseen(plan: Plan, kernel: str) -> list[Finding]:
    """What to know where no connect() of a strategy can meet the slow half of its ports.

    Only strategies that search one parity first have such a half. Of a strategy that is run with several loads the
    fullest counts.

    Args:
        plan: The plan, complete.
        kernel: The kernel's release.
    """
    fullest: dict[str, tuple[float, StrategySpec]] = {}
    for spec in plan.strategies:
        if spec.searches_one_parity_first(kernel):
            planned = RoundPlan(plan, spec, 1)
            if planned.ports_each >= FEWEST_PORTS and planned.fullest > fullest.get(spec.setting, (0.0, spec))[0]:
                fullest[spec.setting] = planned.fullest, spec
    unseen = {setting: found for setting, found in fullest.items() if not RoundPlan(plan, found[1], 1).shows_half}
    if not unseen:
        return []
    used, spec = max(unseen.values(), key=lambda found: found[0])
    planned = RoundPlan(plan, spec, 1)
    place = " that each source has for each target" if planned.spaces > 1 else ""
    return [
        Finding(
            "knee-unseen",
            Severity.NOTE,
            f"{' and '.join(unseen)}: {planned.connections:,} connections use {_share(used)} of the "
            f"{planned.ports_each:,} ports{place}; connect() turns slow once half of them are in use, "
            "which this run cannot show",
            _way_out(planned),
        )
    ]


def _share(used: float) -> str:
    return f"{used:.1%}" if used >= 0.001 else "less than 0.1%"


def _way_out(planned: RoundPlan) -> str:
    """What shows it: more of the ports, or the same number of connections with fewer ports."""
    if planned.strategy.load.fill is not None:
        return "give a larger share, as in --fill 80%"
    everything = "leave out -n: the default is as many connections as there are ports"
    narrower = planned.smaller_range
    if narrower is None:
        return everything
    return f"give -n {len(narrower) * planned.spaces} --port-range {narrower}, or {everything}"

"""What a strategy is put to: how full, by how many clients, for how long each, and what follows."""

from __future__ import annotations

from connbench.errors import UsageError
from connbench.findings import Finding, Severity
from connbench.model import LOAD_FIELDS, MOST_ROWS, Load, Plan, Protocol, RoundPlan
from connbench.planner.request import RunRequest
from connbench.units import format_percent


def choose_load(request: RunRequest, *, is_one_of_several: bool) -> Load:
    """The load asked for.

    Args:
        request: What was asked for.
        is_one_of_several: Whether others of the run may have another number of connections or of sources, so that they
            are no matter of the plan.

    Raises:
        UsageError: A value that cannot be, or options that exclude or need each other.
    """
    if request.fill is not None and request.connections is not None:
        raise UsageError(
            f"-n {request.connections} and --fill {format_percent(request.fill)} both say how many",
            "leave one of them out",
        )
    values = {field.name: getattr(request, field.name) for field in LOAD_FIELDS}
    for field in LOAD_FIELDS:
        field.check(values[field.name])
    _check_churn(request)
    if not is_one_of_several:
        values |= {"connections": None, "sources": None}
    return Load.of(values)


def _check_churn(request: RunRequest) -> None:
    if request.churn is None:
        for field in LOAD_FIELDS:
            value = getattr(request, field.name)
            if field.is_of_churn and value is not None:
                option = f"{field.options[0]} {field.unit.format(value)}"
                raise UsageError(f"{option} does nothing without --churn", "add --churn N, or leave it out")
    elif request.close and request.protocol is Protocol.UDP:
        raise UsageError(f"--close {request.close}: UDP has neither RST nor FIN", "leave out --close")


def check_rounds(plan: Plan) -> None:
    """Make sure that every strategy of a plan has attempts enough for its clients, and not too many.

    Raises:
        UsageError: It has not.
    """
    for spec in plan.strategies:
        planned = RoundPlan(plan, spec, 1)
        if planned.rows > MOST_ROWS:
            raise UsageError(f"{spec.label}: {planned.rows:,} attempts are too many", f"ask for at most {MOST_ROWS:,}")
        if spec.load.concurrency > planned.connections:
            raise UsageError(
                f"--concurrency {spec.load.concurrency} is more than the {planned.connections} connections",
                "ask for a lower concurrency, or for more connections",
            )


def note_clients(plan: Plan, usable: int) -> list[Finding]:
    """What to know of clients that cannot all run at the same time.

    Args:
        plan: The plan.
        usable: How many CPUs this process may use.
    """
    clients = max(spec.load.concurrency for spec in plan.strategies)
    cpus = len(set(plan.cpus)) or usable
    if clients <= cpus:
        return []
    return [
        Finding(
            "clients-share-cpus",
            Severity.WARNING,
            f"{clients} clients are on {cpus} CPU{'s' if cpus > 1 else ''}: some wait for others to be switched out",
            f"what they contend for is CPU time too; --concurrency {cpus} shows the kernel's locks alone",
        )
    ]


def most_rows(plan: Plan) -> int:
    """Attempts of the largest round."""
    return max(RoundPlan(plan, spec, 1).rows for spec in plan.strategies)

"""What a strategy is put to: how full, by how many clients, for how long each, and what follows."""

from __future__ import annotations

from collections.abc import Callable

from connbench.errors import UsageError
from connbench.findings import Finding, Severity
from connbench.model import LARGEST, MAX_CONCURRENCY, MOST_ROWS, Churn, Close, Load, Plan, Protocol, RoundPlan
from connbench.planner.request import RunRequest
from connbench.units import format_percent, per_second

MOST_GIVE_UP_MS = 86_400_000.0


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
    _check("--fill", request.fill, 1e-6, 1, "more than 0%, up to 100%", format_percent)
    _check("-n", request.connections, 1, MOST_ROWS, f"1 to {MOST_ROWS:,}")
    _check("--concurrency", request.concurrency, 1, MAX_CONCURRENCY, f"1 to {MAX_CONCURRENCY:,}")
    _check("--give-up-after", request.give_up_after, 1e-6, MOST_GIVE_UP_MS, "1ns to 24h", _milliseconds)
    return Load(
        connections=request.connections if is_one_of_several else None,
        fill=request.fill,
        sources=request.sources if is_one_of_several else None,
        protocol=request.protocol,
        concurrency=request.concurrency,
        give_up_ms=request.give_up_after,
        churn=_choose_churn(request),
    )


def _choose_churn(request: RunRequest) -> Churn | None:
    if request.churn is None:
        rate = None if request.churn_rate is None else per_second(request.churn_rate)
        for option, value in (("--close", request.close), ("--churn-rate", rate)):
            if value is not None:
                raise UsageError(f"{option} {value} does nothing without --churn", "add --churn N, or leave it out")
        return None
    _check("--churn", request.churn, 1, MOST_ROWS, f"1 to {MOST_ROWS:,}")
    _check("--churn-rate", request.churn_rate, 1e-6, LARGEST, "a rate above 0, as in 100/s", per_second)
    if request.close and request.protocol is Protocol.UDP:
        raise UsageError(f"--close {request.close}: UDP has neither RST nor FIN", "leave out --close")
    return Churn(request.churn, request.close or Close.RST, request.churn_rate)


def _check(  # a bound is all of these
    option: str,
    value: float | None,
    low: float,
    high: float,
    allowed: str,
    shown: Callable[[float], str] = str,
) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{option} {shown(value)} is not possible", f"give {allowed}")


def _milliseconds(value: float) -> str:
    return f"{value:,.12g}ms"


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

"""What `doctor` makes of its checks: the exit code that a run would end in, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from connbench.errors import ExitCode
from connbench.host.checks import Check, Verdict
from connbench.model import Plan
from connbench.units import count

_EXIT_CODES = {Verdict.REFUSED: ExitCode.ENVIRONMENT, Verdict.INVALID: ExitCode.UNSOUND}


def exit_code(checks: Sequence[Check]) -> ExitCode:
    """That of a run on this machine, as far as it can be known beforehand: a warning does not change it."""
    verdicts = {check.verdict for check in checks}
    return next((code for verdict, code in _EXIT_CODES.items() if verdict in verdicts), ExitCode.OK)


def verdict(plan: Plan | None, checks: Sequence[Check]) -> tuple[str, ...]:
    """Two sentences without any layout: what a full run here would come to, and what to do next.

    Args:
        plan: The full run; None where it is refused.
        checks: All that was looked at.
    """
    against = [check for check in checks if check.verdict in _EXIT_CODES]
    warnings = [check for check in checks if check.verdict is Verdict.WARNING]
    reasons = "; ".join(check.text for check in against or warnings)
    if plan is None or any(check.verdict is Verdict.REFUSED for check in against):
        return (f"A full run here would be refused (exit code {int(exit_code(checks))}): {reasons}.", *_advice(against))
    if against:
        return (
            f"A full run here would not be sound (exit code {int(exit_code(checks))}): {reasons}.",
            *_advice(against),
        )
    what = f"{count(plan.connections)} connections for each strategy, range {plan.port_range}, {plan.namespace}"
    if not warnings:
        seen = [check.text for check in checks if check.code in {"cpus", "cpu-load"}]
        return (f"A full run here would be sound: {', '.join([what, *seen])}.", "Next: connbench run")
    many = "a warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    return (
        f"A full run here would end in exit code 0 with {many} in its report ({what}): {reasons}.",
        *_advice(warnings),
    )


def _advice(checks: Sequence[Check]) -> tuple[str, ...]:
    advice = "; ".join(dict.fromkeys(check.advice for check in checks if check.advice))
    return (f"Next: {advice}.",) if advice else ()

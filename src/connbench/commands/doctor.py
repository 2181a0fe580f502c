"""`connbench doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from connbench.commands.messages import print_text, width
from connbench.commands.options import format_option
from connbench.commands.sections import Command
from connbench.errors import ConnbenchError
from connbench.wording import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connbench.errors import ExitCode
    from connbench.host.checks import Check
    from connbench.model import Plan

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""

SECONDS = 1.0
"""Seconds for which the load of the CPUs is measured."""


@click.command("doctor", cls=Command)
@format_option(("text", "json"))
def command(output_format: str) -> int:
    """Check whether this machine can do a full run, and whether its figures would be sound.

    Prints the environment, which every result file records too, and the result of each check: ok, note, warning, or
    that `connbench run` would refuse to start. The exit code is that of `connbench run`: 0 with warnings, 4 if it would
    refuse.
    """
    found = examine()
    if output_format == "json":
        document = {
            "schema": SCHEMA,
            "environment": found.machine,
            "plan": found.plan,
            "checks": found.checks,
            "exit_code": int(found.exit_code),
            "verdict": found.verdict,
        }
        _print_json(document)
    else:
        _print_text(found.machine, found.checks, found.verdict)
    return found.exit_code


@dataclass(frozen=True, slots=True)
class Examination:
    """What is found on this machine.

    Attributes:
        plan: The plan of a full run; None if it would be refused.
        machine: The environment.
        checks: All checks.
        verdict: How a full run would end, and what to do next; a sentence each.
        exit_code: That of such a run.
    """

    plan: Plan | None
    machine: dict[str, object]
    checks: Sequence[Check]
    verdict: Sequence[str]
    exit_code: ExitCode


def examine() -> Examination:
    """Check whether this machine can do a full run; takes seconds."""
    from connbench.planner.planner import BUILD_C_LOOP, choose_loop, make_plan, why_no_c_loop
    from connbench.planner.request import RunRequest

    plan: Plan | None = None
    try:
        plan, known = make_plan(RunRequest())
    except ConnbenchError as fault:
        refusal = fault

    from connbench.host import checks, environment

    if plan:
        from connbench.planner.resources import Available, requirements_of

        found = [*map(checks.check_from_finding, known), *checks.option_checks()]
        found += [
            checks.check_from_requirement(one.name, one.message, one.hint, is_met=one.is_met)
            for one in requirements_of(plan, Available.here())
        ]
        found += checks.checks_of_plan(plan, SECONDS)
    else:
        found = [*checks.checks_of_refusal(refusal, SECONDS)]
    found += [checks.loop_check(choose_loop(None), why_no_c_loop(), BUILD_C_LOOP), checks.listeners_check()]
    machine = environment.collect(plan.cpus if plan else ())
    return Examination(plan, machine, found, checks.verdict(plan, found), checks.exit_code(found))


def _print_json(document: dict[str, object]) -> None:
    from connbench.report.json import json_text

    print_text(json_text(document, indented=True).rstrip("\n"))


def _print_text(machine: dict[str, object], found: Sequence[Check], said: Sequence[str]) -> None:
    from connbench.report.blocks import Verdict
    from connbench.report.text import write

    for name, value in machine.items():
        _print_fact(name, value)
    print_text("")
    widest = max(len(check.verdict) for check in found)
    indent = " " * (widest + 2)
    for check in found:
        print_text(fold(f"{check.verdict:{widest}}  {check.text}", width(), indent))
        if check.advice:
            print_text(fold(f"{indent}-> {check.advice}", width(), indent + "   "))
    print_text("\n" + write([Verdict(said)], width()))


def _print_fact(name: str, value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _print_fact(key, item)
    else:
        print_text(f"{name}: {_words(name, value)}")


def _words(name: str, value: object) -> str:
    from connbench.units import IN_BYTES, memory

    if value is None:
        return "not readable"
    return memory(value) if name in IN_BYTES and isinstance(value, int) else str(value)

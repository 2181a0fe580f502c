"""What is known of a result beside its figures, as rows of name and value: its plan and the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from connbench.model import StrategySpec
from connbench.report.rows import Table
from connbench.results.result import Result
from connbench.units import IN_BYTES, memory

COMMAND = "command"
"""Name in the environment of the command line that measured; the page shows it on its own."""

UNITS = {"timeout": "s", "delay_ms": "ms"}


def command_of(result: Result) -> str:
    """The command that produced a result; empty where its file does not tell."""
    return str(result.environment.get(COMMAND) or "")


def origin(result: Result) -> str:
    """File, kernel, CPU, date and range, as far as they are known."""
    environment = result.environment
    kernel = f"Linux {environment['kernel']}" if environment.get("kernel") else "kernel unknown"
    time = str(environment.get("time") or "").replace("T", " ").removesuffix("+00:00")
    parts = (
        result.name,
        kernel,
        str(environment.get("cpu_model") or ""),
        f"{time} UTC" if time else "",
        f"ports {result.plan.port_range}" if result.plan else "",
    )
    return " · ".join(filter(None, parts))


def plan_table(result: Result) -> Table | None:
    """All that decided the run; None where the file does not tell."""
    if result.plan is None:
        return None
    plan = result.plan
    return Table(("plan", "value"), [_row(field.name, getattr(plan, field.name)) for field in fields(plan)])


def environment_table(result: Result) -> Table | None:
    """The machine as it was recorded, a group within it as `group / name`; None where nothing was."""
    rows = [_row(name, value) for name, value in _flat(result.environment) if name != COMMAND]
    return Table(("environment", "value"), rows) if rows else None


def _flat(values: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{group}{name} / ")
        else:
            yield f"{group}{name}", value


def _row(name: str, value: object) -> tuple[str, str]:
    if name in IN_BYTES and isinstance(value, int):
        return name, memory(value)
    words = _words(value)
    return name, f"{words} {UNITS[name]}" if name in UNITS and value is not None else words


def _words(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, StrategySpec):
        return value.label
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return str(value)

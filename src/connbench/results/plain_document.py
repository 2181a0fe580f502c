"""Writes the part of the JSON document of a result that is read back, with the standard library alone.

`connbench.results.json_file` reads it, and computes the rest again. An agent writes it, since it may have been pushed
to a host that has Python and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from connbench import samples
from connbench.findings import Finding
from connbench.model import Plan, StrategySpec
from connbench.model.round_report import Measured

SCHEMA = 7
"""Version of the JSON document. Raise it when a key changes its name or meaning."""


class PlainResult:
    """What was measured, as text.

    Args:
        plan: The plan.
        environment: That of `connbench.host.environment.collect`, with the `command`.
        known: The findings that no sample shows.
    """

    def __init__(self, plan: Plan, environment: Mapping[str, object], known: Iterable[Finding]) -> None:
        self._plan, self._environment, self._known = plan, environment, tuple(known)
        self._rounds: dict[StrategySpec, list[str]] = {}
        self._settings: Mapping[str, str] | None = None
        self.attempts = 0
        """The attempts of all rounds."""

    def add(self, measured: Measured) -> None:
        """Add a phase of a round, with its attempts in the order in which they began."""
        view = samples.views(samples.attach(measured.descriptor, measured.total), measured.total)
        tries, started = view["tries"], view["started_ns"]
        order = sorted((row for row in measured.rows if tries[row]), key=started.__getitem__)
        self.attempts += len(order)
        if self._settings is None:
            self._settings = measured.report.settings
        fault = measured.fault
        head = {
            "number": measured.number,
            "fault": fault and {"message": fault.message, "hint": fault.hint, "exit_code": int(fault.exit_code)},
            **asdict(measured.report),
        }
        # One column after the other: numbers of Python take five times the memory of their text.
        columns = ", ".join(
            f'"{column.name}": {json.dumps([view[column.name][row] for row in order])}' for column in samples.COLUMNS
        )
        text = f'{json.dumps(head)[:-1]}, "samples": {{{columns}}}}}'
        self._rounds.setdefault(measured.strategy, []).append(text)

    def pieces(self) -> Iterator[bytes]:
        """The document, piece by piece."""
        head: dict[str, Any] = {
            "schema": SCHEMA,
            "origin": "run",
            "plan": asdict(self._plan),
            "environment": {**self._environment, "namespace_sysctls": self._settings or {}},
            "reproduction": None,
            "known_findings": [asdict(one) for one in self._known],
        }
        yield f'{json.dumps(head)[:-1]}, "strategies": ['.encode()
        for at, (spec, rounds) in enumerate(self._rounds.items()):
            yield f'{", " * bool(at)}{{"strategy": {json.dumps(asdict(spec))}, "rounds": ['.encode()
            for number, text in enumerate(rounds):
                yield f"{', ' * bool(number)}{text}".encode()
            yield b"]}"
        yield b"]}\n"

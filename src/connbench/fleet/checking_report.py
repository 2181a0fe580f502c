"""The checks of a fleet as text and JSON: a row for each host, and what is wrong, once for all hosts that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connbench.errors import ExitCode
from connbench.fleet.checking import CheckedHost
from connbench.fleet.hosts import by_hosts, folded
from connbench.report import text as text_writer
from connbench.report.blocks import Block, Findings, Table, Verdict
from connbench.report.json import json_text
from connbench.results.json_file import FaultRecord
from connbench.safe_text import printable
from connbench.units import NS_PER_US, count, counted, duration

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""

HEADER = ("host", "connbench", "Python", "kernel", "verdict", "clock offset")


def text(hosts: Sequence[CheckedHost], width: int | None = None, *, bold: bool = False) -> str:
    """The table, the findings, and at the end the verdict.

    Args:
        hosts: What is known of each.
        width: Columns of the terminal; None leaves each line whole.
        bold: Whether the word `verdict` is bold.
    """
    blocks: list[Block] = [
        Verdict(verdict(hosts)),
        Table(HEADER, [_row(one) for one in hosts], words=tuple(range(1, len(HEADER) - 1))),
    ]
    findings = by_hosts((host.host, one) for host in hosts for one in host.findings)
    if findings:
        blocks.append(Findings(findings))
    return text_writer.write(blocks, width, bold=bold)


def _row(one: CheckedHost) -> tuple[str, ...]:
    said = one.hello
    versions = (said.connbench, said.python, said.kernel) if said else ("-", "-", "-")
    return (printable(one.host), *map(printable, versions), one.verdict, _offset(one))


def _offset(one: CheckedHost) -> str:
    if one.offset_us is None or one.error_us is None:
        return "-"
    sign = "-" if one.offset_us < 0 else "+"
    return f"{sign}{duration(abs(one.offset_us) * NS_PER_US)} ±{duration(one.error_us * NS_PER_US)}"


def verdict(hosts: Sequence[CheckedHost]) -> tuple[str, ...]:
    """How many hosts can measure, and which cannot."""
    able = [one.host for one in hosts if one.exit_code is ExitCode.OK]
    if len(able) == len(hosts):
        warned = [one.host for one in hosts if one.verdict == "warnings"]
        but = f"; there are warnings about {count(len(warned))} of them" if warned else ""
        return (f"A full run on {counted(len(hosts), 'host')} would be sound{but}.",)
    sentences = [f"{count(len(able))} of {counted(len(hosts), 'host')} can do a full run whose figures are sound."]
    for code, words in (
        (ExitCode.ENVIRONMENT, "A run is not possible on"),
        (ExitCode.UNSOUND, "It would be unsound on"),
    ):
        names = [one.host for one in hosts if one.exit_code is code]
        if names:
            sentences.append(f"{words} {printable(folded(names))}.")
    return tuple(sentences)


def exit_code(hosts: Sequence[CheckedHost]) -> ExitCode:
    """4 if a host cannot run, 3 if a run would not be sound on one, else 0."""
    codes = {one.exit_code for one in hosts}
    return next((code for code in (ExitCode.ENVIRONMENT, ExitCode.UNSOUND) if code in codes), ExitCode.OK)


def json(hosts: Sequence[CheckedHost]) -> str:
    """One JSON document."""
    document = {
        "schema": SCHEMA,
        "verdict": verdict(hosts),
        "exit_code": int(exit_code(hosts)),
        "hosts": [_host(one) for one in hosts],
    }
    return json_text(document)


def _host(one: CheckedHost) -> dict[str, Any]:
    return {
        "host": one.host,
        "connbench": one.hello and one.hello.connbench,
        "python": one.hello and one.hello.python,
        "kernel": one.hello and one.hello.kernel,
        "hostname": one.hello and one.hello.hostname,
        "verdict": one.verdict,
        "exit_code": int(one.exit_code),
        "offset_us": one.offset_us,
        "error_us": one.error_us,
        "fault": one.fault and FaultRecord.of(one.fault),
        "checks": one.checked.checks if one.checked else [],
        "findings": one.findings,
    }

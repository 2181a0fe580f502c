"""What `connbench calibrate` prints: the costs at each number of ports in use, and what follows for a program."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from connbench.report.blocks import Block, Findings, Heading, Lines, Table, Verdict
from connbench.report.model_text import machine_text
from connbench.safe_text import printable
from connbench.strategies import BASELINE
from connbench.units import count, duration

if TYPE_CHECKING:
    from connbench.findings import Finding
    from connbench.model import Plan
    from connbench.portmodel.calibration import Calibration

HEADER = ("ports in use", "connect()", "in a window", "a port again", "a new port")


def calibration_blocks(calibration: Calibration, plan: Plan, file: str, found: Collection[Finding]) -> list[Block]:
    """The report.

    Args:
        calibration: The costs.
        plan: The plan over the whole range.
        file: The file that has them, as the command to run next names it.
        found: Findings about the measurement.
    """
    machine = calibration.machine
    measured_on = machine_text(machine) if machine else ""
    head = ", ".join(filter(None, (measured_on, f"range {plan.port_range}", f"loop {plan.loop.language}")))
    rows = [
        (count(size), duration(base), duration(window_base), f"{port:.0f} ns", f"{new_port:.0f} ns")
        for size, (base, port, window_base, new_port) in zip(
            calibration.sizes, calibration.curves.T.tolist(), strict=True
        )
    ]
    fit = "" if calibration.residual is None else f"; median residual {calibration.residual:.1%}"
    return [
        Heading(f"calibration: {head}"),
        Table(HEADER, rows),
        Lines(
            [
                "connect(): without its search; in a window: where the search begins in a random window",
                "a port again: what a port adds that the search before has probed, too; a new port: another one",
                f"a port that bind() probes costs {calibration.bind_factor:.2f} times as much as a port again",
                f"a call that finds no port takes {duration(calibration.failure_ns)} and its search{fit}",
            ]
        ),
        Findings(list(found)),
        Verdict(_verdict(calibration, plan, file)),
    ]


def _verdict(calibration: Calibration, plan: Plan, file: str) -> list[str]:
    half = len(plan.port_range) // 2
    base, port = float(calibration.base_ns_at(half)), float(calibration.port_ns_at(half))
    each = " to ".join(dict.fromkeys(f"{cost:.0f}" for cost in (calibration.port_ns[0], calibration.port_ns[-1])))
    beyond = f"With more than half of {plan.port_range} in use, connect() of {BASELINE.name} probes {count(half)} ports"
    return [
        f"connect() takes {duration(base)} here, and {each} ns more for each port that it probes.",
        f"{beyond} and takes {duration(base + half * port)}.",
        printable(f"Next: connbench predict --strategy {BASELINE.name} --calibrate {file}"),
    ]

"""The model's part of reports in words: which search it simulates, and what its calibration costs."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from connbench.model import Protocol
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import Calibration, Floats, Machine
from connbench.safe_text import printable
from connbench.units import count, duration

SAME = 1e-3
"""Costs that differ by a smaller share count as equal."""

SEARCHES = {
    Algorithm.PRE_4_2: "the search of Linux before 4.2",
    Algorithm.FROM_4_2: "the search of Linux 4.2 to 4.5",
    Algorithm.PRE_6_8: "the search of Linux 4.6 to 6.7",
    Algorithm.FROM_6_8: "the search of Linux 6.8 and later",
    Algorithm.REJECTED_PATCH: "the search that was rejected: every port, option or not",
}


def search(algorithm: Algorithm, protocols: Collection[Protocol]) -> str:
    """The name of the simulated search; UDP has its own in every kernel."""
    found = [SEARCHES[algorithm]] if Protocol.TCP in protocols else []
    return " and ".join([*found, "UDP's search"] if Protocol.UDP in protocols else found)


def reserved_text(number: int) -> str:
    """How many ports of a range are reserved, for a header, behind the range; empty if none is."""
    return f" ({count(number)} of its ports reserved)" if number else ""


def cost_lines(calibration: Calibration) -> list[str]:
    """The costs with the fewest and with the most ports in use, how well they fit, and where they come from."""
    sizes, (base, port, window_base, new_port) = calibration.sizes, calibration.curves
    numbers = f" ({count(sizes[0])} to {count(sizes[-1])} ports in use)" if len(sizes) > 1 else ""
    fit = "" if calibration.residual is None else f"; median residual {calibration.residual:.1%}"
    costs, ports = [f"a connection {_from_to(base, duration)}"], f"a port probed {_from_to(port, _ns)}"
    if not np.allclose(window_base, base, rtol=SAME):  # those of UDP are the same
        costs.append(f"in a random window {_from_to(window_base, duration)}")
    if not np.allclose(new_port, port, rtol=SAME):
        ports += f" if the search before probed it, too, else {_from_to(new_port, _ns)}"
    ports += f"; one that bind() probes {calibration.bind_factor:.2f} times that"
    costs.append(f"a failure {duration(calibration.failure_ns)}")
    return [f"calibration: {', '.join(costs)}{numbers}{fit}", f"  {ports}", f"  from {origin_text(calibration)}"]


def origin_text(calibration: Calibration) -> str:
    """Where costs come from: a file, and the machine and the day of the measurement."""
    machine = machine_text(calibration.machine) if calibration.machine else ""
    return printable(", ".join(filter(None, (calibration.origin, machine))))


def machine_text(machine: Machine) -> str:
    """A machine's CPU and kernel, and the day of the measurement, as far as they are known."""
    kernel, day = machine.kernel and f"Linux {machine.kernel}", machine.time and machine.time[:10]
    return printable(", ".join(filter(None, (machine.cpu, kernel, day))))


def _from_to(costs: Floats, words: Callable[[float], str]) -> str:
    return " to ".join(dict.fromkeys((words(costs[0]), words(costs[-1]))))


def _ns(cost: float) -> str:
    return f"{cost:.0f} ns"

"""The model's part of reports in words: which search it simulates, and what its calibration costs."""

from __future__ import annotations

from collections.abc import Callable, Collection

from connbench.model import Protocol
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import Calibration, Floats
from connbench.safe_text import printable
from connbench.units import count, duration

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
    sizes, (base, port, window_base, window_port) = calibration.sizes, calibration.curves
    numbers = f" ({count(sizes[0])} to {count(sizes[-1])} ports in use)" if len(sizes) > 1 else ""
    fit = "" if calibration.residual is None else f"; median residual {calibration.residual:.1%}"
    lines = [f"calibration: {_pair(base, port)}{numbers}, a failure {duration(calibration.failure_ns)}{fit}"]
    if (window_port != port).any() or (window_base != base).any():  # UDP's search begins at random always
        lines.append(f"  in a random window {_pair(window_base, window_port)}")
    return [*lines, f"  from {origin_text(calibration)}"]


def origin_text(calibration: Calibration) -> str:
    """Where costs come from: a file, and the machine and the day of the measurement."""
    machine = calibration.machine
    known = machine and [machine.cpu, machine.kernel and f"Linux {machine.kernel}", machine.time and machine.time[:10]]
    return printable(", ".join([calibration.origin, *filter(None, known or ())]))


def _pair(base: Floats, port: Floats) -> str:
    return f"a connection {_from_to(base, duration)}, a port probed {_from_to(port, '{:.0f} ns'.format)}"


def _from_to(costs: Floats, words: Callable[[float], str]) -> str:
    return " to ".join(dict.fromkeys((words(costs[0]), words(costs[-1]))))

"""The model's part of reports in words: which search it simulates, and what its calibration costs."""

from __future__ import annotations

from collections.abc import Collection

from connbench.model import Protocol
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import Calibration
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


def growth_lines(calibration: Calibration) -> list[str]:
    """What a port costs with more connections open than were measured; none if the calibration has no growth."""
    if not calibration.growth:
        return []
    most = calibration.growth[-1][0]
    cost = float(calibration.port_ns_at(most))
    return [f"  beyond that a port costs more by the usual growth, up to {cost:.0f} ns with {count(most)} open"]


def cost_lines(calibration: Calibration) -> list[str]:
    """The costs, how well they fit, and where they come from."""
    first, last = calibration.port_ns[0], calibration.port_ns[-1]
    ports = f"a port probed {first:.0f} ns"
    if len(calibration.sizes) > 1:
        ports += f" with {count(calibration.sizes[0])} open, {last:.0f} ns with {count(calibration.sizes[-1])}"
    if calibration.window_factor != 1:  # that of UDP, whose search begins at random always
        ports += f", {calibration.window_factor:.2f} x that in a random window"
    fit = "" if calibration.residual is None else f"; median residual {calibration.residual:.1%}"
    costs = f"a connection {duration(calibration.base_ns)}, a failure {duration(calibration.failure_ns)}, {ports}"
    return [f"calibration: {costs}{fit}", f"  from {printable(calibration.origin)}"]

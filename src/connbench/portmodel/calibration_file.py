"""A calibration as a JSON document, as `connbench calibrate -o` writes it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise

import msgspec

import connbench
from connbench.errors import InputError
from connbench.portmodel.calibration import Calibration
from connbench.units import NS_PER_S

SCHEMA = 1
"""Version of the document; raised when a key changes its name or meaning."""

LONGEST_REASON = LONGEST_NAME = 200

MOST_KNOTS, MOST_PORTS, MOST_FACTOR = 64, 1e12, 1000


class _Document(msgspec.Struct, frozen=True):
    schema: int
    calibration: Calibration


class _Head(msgspec.Struct, frozen=True):
    """What tells a calibration from a result, which has strategies, and from a prediction, which has a search."""

    schema: int = 0
    calibration: msgspec.Raw = msgspec.Raw()
    strategies: msgspec.Raw = msgspec.Raw()
    algorithm: msgspec.Raw = msgspec.Raw()


def calibration_document(calibration: Calibration) -> str:
    """A calibration as JSON, with a line break at its end; costs in ns."""
    return msgspec.json.format(msgspec.json.encode(_Document(SCHEMA, calibration)), indent=2).decode() + "\n"


def read_calibration(data: bytes, name: str) -> Calibration | None:
    """The calibration in the bytes of a file, its file as origin; None if the file is something else.

    Raises:
        InputError: It is a calibration, but one of a newer connbench, or it has been changed.
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not bytes(head.calibration) or bytes(head.strategies) or bytes(head.algorithm):
        return None
    if head.schema != SCHEMA:
        raise InputError(
            f"{name} is a calibration with schema {head.schema}; connbench {connbench.__version__} reads {SCHEMA}",
            "calibrate again: connbench calibrate -o FILE",
        )
    try:
        found = msgspec.json.decode(data, type=_Document).calibration
        _check(found)
    except (msgspec.ValidationError, ValueError) as error:
        raise InputError(
            f"{name} is not a sound calibration: {str(error)[:LONGEST_REASON]}",
            "calibrate again: connbench calibrate -o FILE",
        ) from error
    return replace(found, origin=name)


def _check(calibration: Calibration) -> None:
    """Check the figures of a file.

    Raises:
        ValueError: There are no knots or too many, they do not ascend, a cost is missing or out of bounds, or a name is
            longer than a reader wants to see.
    """
    sizes, machine = calibration.sizes, calibration.machine
    costs = (calibration.base_ns, calibration.port_ns, calibration.window_base_ns, calibration.new_port_ns)
    if not 1 <= len(sizes) <= MOST_KNOTS or any(len(curve) != len(sizes) for curve in costs):
        raise ValueError(f"it has not 1 to {MOST_KNOTS} sizes with a cost of each kind for each")
    if not (sizes[0] >= 1 and sizes[-1] <= MOST_PORTS and all(low < high for low, high in pairwise(sizes))):
        raise ValueError(f"its sizes do not ascend from 1 or more to at most {MOST_PORTS:,.0f}")
    if not all(0 <= cost <= NS_PER_S for cost in (*chain(*costs), calibration.failure_ns)):
        raise ValueError("a cost is not between 0 and a second")
    if not 0 <= calibration.bind_factor <= MOST_FACTOR:
        raise ValueError(f"its bind_factor is not between 0 and {MOST_FACTOR}")
    if machine and any(len(one or "") > LONGEST_NAME for one in (machine.cpu, machine.kernel, machine.time)):
        raise ValueError(f"a name of its machine has more than {LONGEST_NAME} characters")

"""A calibration as a JSON document, as `connbench calibrate -o` writes it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

import connbench
from connbench.errors import InputError
from connbench.portmodel.calibration import Calibration

SCHEMA = 1
"""Version of the document; raised when a key changes its name or meaning."""

LONGEST_REASON = 200


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
    except msgspec.ValidationError as error:
        raise InputError(
            f"{name} is not a sound calibration: {str(error)[:LONGEST_REASON]}",
            "calibrate again: connbench calibrate -o FILE",
        ) from error
    return replace(found, origin=name)

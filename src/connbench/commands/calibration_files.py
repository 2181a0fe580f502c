"""The costs of a port search in the files that --calibrate names: a calibration, or results to fit the costs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from connbench.commands.messages import warn
from connbench.errors import UsageError
from connbench.findings import Finding, Severity
from connbench.model import Protocol

if TYPE_CHECKING:
    from connbench.portmodel.calibration import Calibration
    from connbench.portmodel.prediction import Pair
    from connbench.results.result import Result

    CostsOf = Callable[[Protocol], Calibration | None]
    """The costs of a protocol; None if the files do not tell them."""


def read_costs(files: tuple[Path, ...]) -> CostsOf:
    """Read a calibration, or result files to fit the costs to.

    Raises:
        InputError: A file cannot be read, or is a result without a plan.
        UsageError: A calibration is not the only file.
    """
    from connbench.portmodel.calibration import Calibration
    from connbench.portmodel.calibration_file import read_calibration
    from connbench.portmodel.prediction import predict_result
    from connbench.results.input_file import parse_result, read_document

    def parse(data: bytes, name: str) -> Calibration | Result:
        return read_calibration(data, name) or parse_result(data, name, "s")  # whatever the unit of a CSV: no plan

    read = [read_document(file, parse) for file in files]
    made = [one for one in read if isinstance(one, Calibration)]
    results = [one for one in read if not isinstance(one, Calibration)]
    if not made:
        pairs = [pair for result in results for pair in predict_result(result)]
        return fit_to(pairs, results[0].environment, list_names(files))
    if len(read) > 1:
        raise UsageError(
            f"--calibrate {made[0].origin} is a calibration, and needs no other file",
            "give it alone, or give results alone",
        )
    return {Protocol.TCP: made[0]}.get


def fit_to(pairs: list[Pair], environment: Mapping[str, object], origin: str) -> CostsOf:
    """Costs fitted to what was measured, beside its simulation.

    Args:
        pairs: The measured strategies, with their predictions.
        environment: The machine that they were measured on; its kernel has the usual costs.
        origin: Where they come from, as `Calibration.origin` says it.
    """
    from connbench.portmodel.calibration import Machine, calibrate, usual_on

    machine = Machine.of(environment)

    def costs_of(protocol: Protocol) -> Calibration | None:
        found = calibrate(pairs, protocol, origin, usual_on(machine.kernel or "", protocol))
        return found and replace(found, machine=machine)

    return costs_of


def list_names(files: tuple[Path, ...]) -> str:
    """Files as a sentence names them."""
    return ", ".join(map(str, files))


def calibrate_from(files: tuple[Path, ...], protocol: Protocol) -> Calibration:
    """The costs of a protocol from a calibration or from result files.

    Raises:
        UsageError: The files have too few connections of it, or are a calibration, which has none of UDP.
        InputError: One cannot be read, or has no plan.
    """
    found = read_costs(files)(protocol)
    if found is None:
        raise UsageError(
            f"--calibrate {list_names(files)}: too few {protocol.upper()} connections to fit to",
            f"measure some hundreds: connbench run --strategy plain --protocol {protocol} -o FILE",
        )
    return found


def warn_of_other_machine(calibration: Calibration, environment: Mapping[str, object], whose: str) -> None:
    """Warn on stderr if costs were measured on another CPU or kernel than what they predict; `whose` names that."""
    from connbench.portmodel.calibration import Machine

    if calibration.machine is None:
        return
    other = calibration.machine.differences(Machine.of(environment))
    if other:
        warn(
            Finding(
                "other-machine",
                Severity.WARNING,
                f"{calibration.origin} was measured on another machine than {whose}: {'; '.join(other)}",
                "calibrate where the connections are opened: connbench calibrate -o FILE",
            )
        )

"""The costs of a port search, fitted to the result files that --calibrate names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from connbench.errors import UsageError
from connbench.model import Protocol

if TYPE_CHECKING:
    from connbench.portmodel.calibration import Calibration
    from connbench.portmodel.prediction import Pair


def read_pairs(files: tuple[Path, ...]) -> tuple[list[Pair], str]:
    """Every round of result files with its simulation, and the release of the first file's kernel.

    Raises:
        InputError: One cannot be read, or has no plan.
    """
    from connbench.portmodel.prediction import predict_result
    from connbench.results.input_file import read

    results = [read(file, "s") for file in files]  # whatever the unit of a CSV: it has no plan
    return [pair for result in results for pair in predict_result(result)], results[0].kernel


def list_names(files: tuple[Path, ...]) -> str:
    """Files as a sentence names them."""
    return ", ".join(map(str, files))


def calibrate_from(files: tuple[Path, ...], protocol: Protocol) -> Calibration:
    """Costs of a port search, fitted to the connections of a protocol in result files.

    Raises:
        UsageError: The files have too few connections of it.
        InputError: One cannot be read, or has no plan.
    """
    from connbench.portmodel.calibration import calibrate, usual_on

    pairs, release = read_pairs(files)
    found = calibrate(pairs, protocol, list_names(files), usual_on(release, protocol))
    if found is None:
        raise UsageError(
            f"--calibrate {list_names(files)}: too few {protocol.upper()} connections to fit to",
            f"measure some hundreds: connbench run --strategy plain --protocol {protocol} -o FILE",
        )
    return found

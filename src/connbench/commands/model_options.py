"""The options of what is worked out instead of measured, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.commands.options import PORTS, read_ports
from connbench.commands.sections import Option, Section, option
from connbench.commands.values import count
from connbench.errors import InputError, UsageError
from connbench.model import LARGEST, Close, Link, Placement, Protocol, Spread, parse_ports
from connbench.planner import RunRequest
from connbench.planner.offline import DEFAULT_SEED

if TYPE_CHECKING:
    from connbench.portmodel.calibration import Calibration
    from connbench.portmodel.prediction import Pair

TAKEN_FROM_RUN = (
    "strategies",
    "connections",
    "port_range",
    "window",
    "placement",
    "retries",
    "source",
    "family",
    "sources",
    "spread",
    "targets",
    "protocol",
    "fill",
    "concurrency",
    "churn",
    "close",
    "churn_rate",
    "link",
    "seed",
)
"""What decides a search; the rest of run's options is about where and how it is measured."""


def _readable(_context: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Make sure that files can be opened, before anything else is done; what they hold is read later."""
    for file in files:
        try:
            file.open("rb").close()
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}", "name a result file") from error
    return files


calibrate_option = option(
    Section.KERNEL,
    "--calibrate",
    "calibrating",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    callback=_readable,
    metavar="FILE",
    help="Fit the costs of a port to this result file. Repeatable: plain of several sizes fits best.",
)


reserved_ports_option = option(
    Section.PORTS,
    "--reserved-ports",
    "reserved",
    type=parse_ports,
    metavar="LIST",
    help="Leave out the ports that ip_local_reserved_ports names, as in 8080,30000-32767; '' for none.  "
    "[default: RESULT's; with advise this host's; else none]",
)


tw_reuse_option = option(
    Section.KERNEL,
    "--tcp-tw-reuse",
    "tw_reuse",
    type=count("0|1|2", 0, 2),
    help="Reuse ports after a second in TIME_WAIT, as net.ipv4.tcp_tw_reuse says: 0 never, 1 always, 2 over the"
    " loopback.  [default: RESULT's; with advise this host's, or that of --kernel; else 2]",
)


def request_on_paper(asked: dict[str, Any]) -> RunRequest:
    """What was asked for, with the words that click has checked as the model's values."""
    return RunRequest(
        **{
            **asked,
            "placement": asked["placement"] and Placement(asked["placement"]),
            "spread": Spread(asked["spread"]),
            "family": asked["family"] and int(asked["family"]),
            "protocol": Protocol(asked["protocol"]),
            "close": asked["close"] and Close(asked["close"]),
            "link": Link(asked["link"]),
        }
    )


def measured_in(files: tuple[Path, ...]) -> tuple[list[Pair], str]:
    """Everything that result files have measured, beside its model, and the release of the first one's kernel.

    Raises:
        InputError: One cannot be read, or has no plan.
    """
    from connbench.portmodel.predict_plan import beside
    from connbench.results.input_file import read

    results = [read(file, "s") for file in files]  # whatever the unit of a CSV: it has no plan
    return [pair for result in results for pair in beside(result)], results[0].kernel


def names_of(files: tuple[Path, ...]) -> str:
    """Files as a sentence names them."""
    return ", ".join(map(str, files))


def fitted(files: tuple[Path, ...], protocol: Protocol) -> Calibration:
    """The costs that result files tell of a protocol.

    Raises:
        UsageError: They have no connection of it.
        InputError: One cannot be read, or has no plan.
    """
    from connbench.portmodel.calibration import usual_on
    from connbench.portmodel.fit import calibrate

    pairs, release = measured_in(files)
    found = calibrate(pairs, protocol, names_of(files), usual_on(release, protocol))
    if found is None:
        raise UsageError(
            f"--calibrate {names_of(files)}: too few {protocol.upper()} connections to fit to",
            f"measure some hundreds: connbench run --strategy plain --protocol {protocol} -o FILE",
        )
    return found


def on_paper(parameters: Sequence[click.Parameter], own: Sequence[str]) -> list[click.Parameter]:
    """Those of run that decide a search, and a command's own.

    A plan on paper has the same seed each time, and takes a host's range only where it is told to.
    """
    kept = {option.name: option for option in parameters if option.name in (*TAKEN_FROM_RUN, *own)}
    kept["seed"] = Option(
        ("--seed",),
        section=Section.OPEN,
        type=count(high=LARGEST),
        default=DEFAULT_SEED,
        show_default=True,
        help="Draw the windows and ports that a run with this seed draws.",
    )
    kept["port_range"] = Option(
        ("--port-range",),
        section=Section.PORTS,
        type=read_ports,
        metavar=PORTS,
        help="Choose local ports from this range; host takes this host's.  [default: 9024-65535]",
    )
    return list(kept.values())

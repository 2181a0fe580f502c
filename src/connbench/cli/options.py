"""The options of `connbench run`, read into the model's types; those it shares with other commands by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path

import click

from connbench.cli.gates import fail_if_option
from connbench.cli.load_options import LOAD_OPTIONS, number_or_nan
from connbench.errors import UsageError
from connbench.linux import sysctl
from connbench.model import LARGEST, Isolation, Link, Listener, Placement, PortRange, Spread
from connbench.planning.request import CpuChoice
from connbench.units import NS_IN

PORTS = "LOW-HIGH|host"
"""How --port-range is written."""

SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.001, 86400.0
SHORTEST_DELAY, LONGEST_DELAY = 0.001, 900.0


def read_ports(text: str | PortRange) -> PortRange:
    """Read `LOW-HIGH`, or `host` for net.ipv4.ip_local_port_range as it is on this host."""
    if isinstance(text, PortRange):
        return text
    return PortRange(*sysctl.read_port_range()) if text.strip() == "host" else PortRange.parse(text)


def _cpus(text: str | CpuChoice) -> tuple[int, ...] | CpuChoice:
    """Read CPUs' numbers, or `none`."""
    if isinstance(text, CpuChoice):
        return text
    if text == CpuChoice.ANY.value:
        return CpuChoice.ANY
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in numbers):
        raise UsageError(f"--cpu {text!r} is neither CPUs' numbers nor none", "for example --cpu 1, or --cpu 0,1")
    return tuple(map(int, numbers))


def _seconds(text: str | float) -> float:
    """Read a time-out; click's own range would let `nan` pass."""
    seconds = number_or_nan(text)
    if not SHORTEST_TIMEOUT <= seconds <= LONGEST_TIMEOUT:
        raise UsageError(
            f"--timeout {text} is no time-out", f"give {SHORTEST_TIMEOUT:g} to {LONGEST_TIMEOUT:g} seconds"
        )
    return seconds


def _milliseconds(text: str | float) -> float:
    """Read a delay; `nan` as above."""
    delay = number_or_nan(text)
    if not (delay == 0 or SHORTEST_DELAY <= delay <= LONGEST_DELAY):
        raise UsageError(
            f"--delay {text} is no delay",
            f"give {SHORTEST_DELAY:g} to {LONGEST_DELAY:g} milliseconds: after a second the kernel sends a SYN again",
        )
    return delay


def _whole(text: str | int) -> int:
    """Read a whole number that a result file can hold, and every program that reads the file."""
    digits = str(text)
    if not (digits.isdecimal() and len(digits) < 20 and int(digits) <= LARGEST):
        raise click.BadParameter(f"{digits} is not a whole number from 0 to {LARGEST}")
    return int(digits)


FORMAT_NAMES = ("text", "talk", "json", "csv", "talk-csv", "markdown", "prometheus")
"""Those of `connbench.report.formats`, named here so that `--help` need not load numpy."""

_LISTENERS = click.Choice([Listener.BACKLOG.value, Listener.ACCEPT.value])
_LINKS = click.Choice([link.value for link in Link])
_ISOLATIONS = click.Choice([isolation.value for isolation in Isolation])
_SPREADS = click.Choice([spread.value for spread in Spread])
_PLACEMENTS = click.Choice([placement.value for placement in Placement])


_RENAMED = {"openmetrics": "prometheus"}
"""Formats by a name they once had; help and errors do not name it."""


class _Formats(click.Choice[str]):
    """The formats of a command, under their present and their former names."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The present name of a format."""
        present = _RENAMED.get(value, value)
        return super().convert(present if present in self.choices else value, param, ctx)


def format_option(names: tuple[str, ...]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The option --format of a command that prints in one of these; text without it."""
    return click.option(
        "--format",
        "output_format",
        type=_Formats(names),
        default="text",
        show_default=True,
        help="What to print.",
    )


unit_option = click.option(
    "--unit",
    type=click.Choice(tuple(NS_IN)),
    help="What the times are in, if a file is a CSV of port and time.  [default: as its header says, or s]",
)
seed_option = click.option(
    "--seed",
    type=_whole,
    metavar="N",
    help="Same seed, same windows and ports.  [default: random, and printed]",
)
cpu_option = click.option(
    "--cpu",
    "cpus",
    type=_cpus,
    metavar="N,N...|none",
    default=CpuChoice.LAST,
    help="CPU to connect on, one for each lane.  [default: the last usable ones]",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, readable=False),
    help="Also write a file, .json, .json.gz or .csv, after every round.",
)
force_option = click.option("--force", is_flag=True, help="Replace an existing output file.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")

_RUN_OPTIONS = (
    click.option(
        "--strategy",
        "strategies",
        multiple=True,
        metavar="NAME",
        help="Strategy to measure; repeatable, run in the order given.  [default: plain, bind, random, window]",
    ),
    click.option(
        "-n",
        "--connections",
        type=int,
        help="Connections to open.  [default: the ports of the range, times the sources]",
    ),
    click.option(
        "--port-range",
        type=read_ports,
        metavar=PORTS,
        help="Ports to choose from; host for this host's.  [default: 9024-65535; in the host's namespace the host's]",
    ),
    click.option("--window", type=int, help="Ports of a window, for window and partition.  [default: 500]"),
    click.option(
        "--placement",
        type=_PLACEMENTS,
        help="Random windows wholly inside the range, or clipped at its ends.  [default: inside]",
    ),
    click.option(
        "--retries",
        type=_whole,
        metavar="N",
        help="Further draws after one without a port, for window and random.  "
        "[default: window 0; random until it has one]",
    ),
    click.option(
        "--source",
        metavar="ADDRS",
        help="Addresses to bind to: a list, a range (A-B) or a network (A/28).  "
        "[default: 127.9.9.1; with --target the kernel's choice]",
    ),
    click.option(
        "--family",
        type=click.Choice(["4", "6"]),
        help="IPv4 or IPv6.  [default: that of --target or --source, else 4]",
    ),
    click.option(
        "--sources", type=int, metavar="N", help="The first so many addresses from 127.9.9.1 or 2001:db8::1 on."
    ),
    click.option(
        "--spread",
        type=_SPREADS,
        default=Spread.ROUND_ROBIN.value,
        show_default=True,
        help="Take the addresses in turn, or fill one after the other.",
    ),
    click.option(
        "--target",
        "targets",
        multiple=True,
        metavar="HOST:PORT",
        help="Where to connect; repeatable, taken in turn.  [default: its own listener on 127.9.9.2]",
    ),
    *LOAD_OPTIONS,
    click.option(
        "--listener",
        type=_LISTENERS,
        help="Have its own listener, and whether anybody accepts.  [default: backlog, where somaxconn allows it]",
    ),
    click.option(
        "--isolate",
        type=_ISOLATIONS,
        default=Isolation.AUTO.value,
        show_default=True,
        help="Whether to run in a network namespace of its own.",
    ),
    click.option(
        "--link",
        type=_LINKS,
        default=Link.LOOPBACK.value,
        show_default=True,
        help="Over the loopback, or a veth pair to a second namespace with the listener.",
    ),
    click.option(
        "--delay",
        "delay_ms",
        type=_milliseconds,
        metavar="MS",
        default=0.0,
        help="With --link veth: milliseconds added to each round trip, by netem.",
    ),
    click.option("--allow-remote", is_flag=True, help="Let --target be on another machine."),
    seed_option,
    click.option(
        "--rounds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Repeat so often, the strategies taking turns.",
    ),
    click.option(
        "--timeout",
        type=_seconds,
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long one connect() may take.",
    ),
    cpu_option,
    format_option(FORMAT_NAMES),
    output_option,
    fail_if_option(),
    force_option,
    click.option("--plot", is_flag=True, help="Also draw each strategy in the terminal."),
    quiet_option,
)


def run_options(function: Callable[..., int]) -> Callable[..., int]:
    """Decorate a command with all options of `connbench run`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_RUN_OPTIONS), function)

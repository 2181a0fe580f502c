"""The options of `connbench run`, read into the model's types; those it shares with other commands by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from connbench.commands.gates import fail_if_option
from connbench.commands.load_options import LOAD_OPTIONS
from connbench.commands.sections import Section, option
from connbench.commands.values import Word, Words, count, time
from connbench.errors import UsageError
from connbench.linux import sysctl
from connbench.model import LARGEST, MAX_PORT, MOST_ROWS, Isolation, Link, Listener, Placement, PortRange, Spread
from connbench.planner.request import CpuChoice
from connbench.planner.sources import MOST_SOURCES
from connbench.strategies import DEFAULT_NAMES, STRATEGIES, Strategy, takers
from connbench.units import NS_IN, parse_number

PORTS = "LOW-HIGH|host"
"""How --port-range is written."""

VALUES_EPILOG = """\b
Values: a count is 10000, 10,000, 10k or 1e4; a time is 250us, 1ms, 5s, 2min
or 1.5h; a rate is 100/s, 10k/s or 600/min."""

TIMEOUT = time("s", ("1s", "5s", "30s"), allows=lambda s: 0.001 <= s <= 86_400, bounds="1ms to 24h")
DELAY = time(
    "ms",
    ("1ms", "10ms", "50ms"),
    allows=lambda ms: ms == 0 or 0.001 <= ms <= 900,
    bounds="1us to 900ms: after a second the kernel sends a SYN again",
)


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
    try:
        return tuple(parse_number(part.strip()) for part in text.split(","))
    except ValueError as error:
        fault = f"--cpu {text!r} is neither CPUs' numbers nor none"
        raise UsageError(fault, "for example --cpu 1, or --cpu 0,1") from error


FORMAT_NAMES = ("text", "talk", "json", "csv", "talk-csv", "markdown", "prometheus")
"""Those of `connbench.report.formats`, named here so that `--help` need not load numpy."""

NAMES = Words("NAME,...", STRATEGIES, refuses=False)


def _takers(parameter: str) -> str:
    return " and ".join(strategy.name for strategy in takers(parameter))


def _default_retries(strategy: Strategy) -> str:
    retries = "until it has a port" if strategy.default_retries is None else strategy.default_retries
    return f"{strategy.name} {retries}"


WINDOW_HELP = f"Give each window N ports, with the strategies {_takers('window')}.  [default: 500]"
RETRIES_HELP = (
    f"Draw up to N more times when a draw gives no port, with {_takers('retries')}.  "
    f"[default: {'; '.join(map(_default_retries, takers('retries')))}]"
)


def flatten(_context: click.Context, _option: click.Parameter, given: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Strategies by commas and by repetition, as one list."""
    return tuple(name for names in given for name in names)


_RENAMED = {"openmetrics": "prometheus"}
"""Formats by a name they once had; help and errors do not name it."""


class _Formats(Word):
    """The formats of a command, under their present and their former names."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  # click's signature
        """The present name of a format."""
        present = _RENAMED.get(value, value)
        return super().convert(present if present in self.choices else value, param, ctx)


def format_option(names: tuple[str, ...]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The option --format of a command that prints in one of these; text without it."""
    return option(
        Section.OUTPUT,
        "--format",
        "output_format",
        type=_Formats(names),
        default="text",
        show_default=True,
        metavar="FORMAT",
        help=f"Print {', '.join(names[:-1])} or {names[-1]}.",
    )


unit_option = option(
    Section.INPUT,
    "--unit",
    type=Word(NS_IN, {"µs": "us", "\N{GREEK SMALL LETTER MU}s": "us"}),
    metavar="UNIT",
    help="Read the times of a CSV of port and time in this unit: s, ms, us or ns.  [default: as its header says, or s]",
)
strategy_option = option(
    Section.OPEN,
    "--strategy",
    "strategies",
    multiple=True,
    type=NAMES,
    callback=flatten,
    help=f"Measure these strategies, in this order: {', '.join(STRATEGIES)}. Repeatable.  "
    f"[default: {','.join(DEFAULT_NAMES)}]",
)
seed_option = option(
    Section.OPEN,
    "--seed",
    type=count(high=LARGEST),
    help="Draw the windows and ports that another run with this seed drew. Which connection gets which port is the "
    "kernel's choice, and with --concurrency a race.  [default: random, and printed]",
)
cpu_option = option(
    Section.PLACE,
    "--cpu",
    "cpus",
    type=_cpus,
    metavar="N,...|none",
    default=CpuChoice.LAST,
    help="Connect on these CPUs, one for each client; none lets the scheduler choose.  [default: the last usable ones]",
)
output_option = option(
    Section.OUTPUT,
    "-o",
    "--output",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Save the result to FILE (.json, .json.gz or .csv) after every round.",
)
force_option = option(Section.OUTPUT, "--force", is_flag=True, help="Replace output files that exist.")
quiet_option = option(Section.OUTPUT, "-q", "--quiet", is_flag=True, help="Show no progress bar.")

_RUN_OPTIONS = (
    strategy_option,
    option(
        Section.OPEN,
        "-n",
        "--connections",
        type=count(low=1, high=MOST_ROWS),
        help="Open N connections with each strategy.  [default: one for each port and source address]",
    ),
    *LOAD_OPTIONS,
    option(
        Section.OPEN,
        "--window",
        type=count(low=1, high=MAX_PORT),
        help=WINDOW_HELP,
    ),
    option(
        Section.OPEN,
        "--placement",
        type=Word([placement.value for placement in Placement]),
        metavar="WHERE",
        help="Place random windows inside the range, or let them be clipped at its ends.  [default: inside]",
    ),
    option(
        Section.OPEN,
        "--retries",
        type=count(),
        help=RETRIES_HELP,
    ),
    seed_option,
    option(
        Section.OPEN,
        "--rounds",
        type=count(low=1),
        default=1,
        show_default=True,
        help="Measure all strategies N times, in turn.",
    ),
    option(
        Section.PORTS,
        "--port-range",
        type=read_ports,
        metavar=PORTS,
        help="Choose local ports from this range; host takes this host's.  "
        "[default: 9024-65535; in the host's namespace the host's]",
    ),
    option(
        Section.PORTS,
        "--source",
        metavar="ADDR,...",
        help="Connect from these addresses: also a range (A-B) or a network (A/28).  "
        "[default: 127.9.9.1; with --target the kernel's choice]",
    ),
    option(
        Section.PORTS,
        "--sources",
        type=count(low=1, high=MOST_SOURCES),
        help="Connect from N addresses, counted up from 127.9.9.1 or 2001:db8::1.",
    ),
    option(
        Section.PORTS,
        "--spread",
        type=Word([spread.value for spread in Spread]),
        default=Spread.ROUND_ROBIN.value,
        show_default=True,
        metavar="HOW",
        help="Use the source addresses in turn (round-robin), or fill one after the other (fill).",
    ),
    option(
        Section.PORTS,
        "--target",
        "targets",
        multiple=True,
        metavar="HOST:PORT",
        help="Connect to this address and port. Repeatable: several are used in turn.  "
        "[default: connbench's own listener on 127.9.9.2]",
    ),
    option(Section.PORTS, "--allow-remote", is_flag=True, help="Allow a --target on another machine."),
    option(
        Section.PORTS,
        "--family",
        type=Word(["4", "6"]),
        metavar="4|6",
        help="Use IPv4 or IPv6.  [default: that of --target or --source, else 4]",
    ),
    option(
        Section.PLACE,
        "--isolate",
        type=Word([isolation.value for isolation in Isolation]),
        default=Isolation.AUTO.value,
        show_default=True,
        metavar="WHEN",
        help="Create a network namespace for each round: always, never, or auto, which uses the host's where it must.",
    ),
    option(
        Section.PLACE,
        "--listener",
        type=Word([Listener.BACKLOG.value, Listener.ACCEPT.value]),
        metavar="KIND",
        help="Start a listener that accepts each connection (accept), or leaves all in its queue (backlog).  "
        "[default: backlog, where somaxconn allows it]",
    ),
    option(
        Section.PLACE,
        "--link",
        type=Word([link.value for link in Link]),
        default=Link.LOOPBACK.value,
        show_default=True,
        metavar="LINK",
        help="Connect over the loopback interface, or over a veth pair to a second namespace (veth).",
    ),
    option(
        Section.PLACE,
        "--delay",
        "delay_ms",
        type=DELAY,
        default=0.0,
        help="Add this time to each round trip of --link veth, by netem, as in 2ms. A number alone is in ms.",
    ),
    cpu_option,
    option(
        Section.PLACE,
        "--timeout",
        type=TIMEOUT,
        default="5s",
        show_default=True,
        help="Fail a connect() that takes longer. A number alone is in seconds.",
    ),
    format_option(FORMAT_NAMES),
    output_option,
    force_option,
    option(Section.OUTPUT, "--plot", is_flag=True, help="Draw a chart of each strategy in the terminal, too."),
    quiet_option,
    fail_if_option(),
)


def run_options(function: Callable[..., int]) -> Callable[..., int]:
    """Decorate a command with all options of `connbench run`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_RUN_OPTIONS), function)

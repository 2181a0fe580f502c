"""`connbench advise`."""

from __future__ import annotations

import platform
from pathlib import Path

import click

from connbench.cli.options import PORTS, format_option, read_ports
from connbench.cli.paper_options import calibrate_option, fitted, reserved_ports_option
from connbench.cli.sweep_options import error_budget_option
from connbench.cli.values import RATES, Quantity
from connbench.errors import EnvironmentFault, ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.linux import sysctl
from connbench.linux.parity import one_parity_goes_first
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT, is_supported
from connbench.model import PortRange, Protocol, parse_ports
from connbench.planning.load import MOST_ROWS
from connbench.planning.sources import MOST_SOURCES
from connbench.portsearch.algorithm import ALGORITHMS, Algorithm, algorithm_of
from connbench.portsearch.counsel import Flow, Situation
from connbench.release import version_of
from connbench.units import RATE_FORM, TIME_FORM, read_rate, read_time

USUAL_RANGE = PortRange(32768, 60999)
"""net.ipv4.ip_local_port_range as the kernel has it by default."""


RATE = Quantity(
    "RATE",
    read_rate,
    RATE_FORM,
    allows=lambda rate: 1e-6 <= rate <= 1e12,
    bounds="a rate above 0, as in 100/s",
    examples=RATES,
)
HOLD = Quantity(
    "TIME",
    lambda text: read_time(text, "s", bare=False),
    TIME_FORM,
    allows=lambda s: 1e-6 <= s <= 1e9,
    bounds="a time above 0, as in 120s",
    examples=("100ms", "10s", "2min"),
)


def read_kernel(text: str) -> tuple[int, int]:
    """Read `6.1`, or a release as `uname -r` has it."""
    version = version_of(text.strip())
    if version is None:
        raise UsageError(f"--kernel {text!r} is no Linux release", "for example 5.10, 6.1 or 6.12")
    return version


@click.command("advise")
@click.option(
    "-n",
    "--connections",
    type=click.IntRange(1, MOST_ROWS),
    help="Open at once, or as many as rate x hold if that is more.",
)
@click.option("--rate", type=RATE, help="Opened a second.")
@click.option("--hold", type=HOLD, help="How long each is held, as in 120s or 2m.")
@click.option(
    "--port-range",
    type=read_ports,
    metavar=PORTS,
    help="Ports to choose from.  [default: this host's; with --kernel 32768-60999]",
)
@reserved_ports_option
@click.option(
    "--sources", type=click.IntRange(1, MOST_SOURCES), default=1, show_default=True, help="Addresses to connect from."
)
@click.option("--kernel", type=str, metavar="X.Y", help="Linux to advise for.  [default: this one, probed]")
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    help="Search of connect().  [default: that of --kernel, else as a few connections here show it]",
)
@error_budget_option
@click.option("--slo", metavar="WORDS", help="What a connection may take, as in 'p99 < 1ms'.")
@calibrate_option
@click.option(
    "--code",
    "languages",
    type=click.Choice(["python", "c", "go", "nginx"]),
    multiple=True,
    help="Code to print, in text; repeatable.  [default: all there is]",
)
@format_option(("text", "json"))
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    *,
    connections: int | None,
    rate: float | None,
    hold: float | None,
    port_range: PortRange | None,
    reserved: frozenset[int] | None,
    sources: int,
    kernel: str | None,
    algorithm: str | None,
    budget: float,
    slo: str | None,
    calibrating: tuple[Path, ...],
    languages: tuple[str, ...],
    output_format: str,
) -> int:
    """Say how to come by so many connections to one target: which strategy, which window, how many sources.

    \b
      connbench advise -n 25000
      connbench advise --rate 500/s --hold 120s --slo 'p99 < 1ms'
      connbench advise -n 50000 --kernel 6.1 --calibrate plain.json

    Each strategy that the kernel has is simulated, as it opens them all and as it replaces 5,000 of them. Each advice
    has its reason, and the code to paste. Times are by --calibrate, else by what
    is usual on such a kernel.
    """  # noqa: D301  # click wants the character \b itself
    interrupts.immediate = True  # nothing is lost: all is printed at the end
    if languages and output_format != "text":
        raise UsageError(f"--code goes with --format text, not {output_format}", "leave one of them out")
    flow = None if rate is None else Flow(rate, hold)
    number = _concurrent(connections, flow, hold)
    ports = port_range or (PortRange(*sysctl.read_port_range()) if kernel is None else USUAL_RANGE)
    if len(ports) < 2:
        raise UsageError(f"port range {ports} is one port", "a search needs two or more")
    if reserved is None:
        reserved = _reserved_here() if kernel is None else frozenset()
    if ports.count_of(reserved) == len(ports):
        raise UsageError(
            f"all ports of {ports} are reserved", "choose others by --port-range, or name --reserved-ports"
        )

    release = platform.release() if kernel is None else kernel
    version = read_kernel(release)
    search, told_by = _search(release, algorithm, is_here=kernel is None)

    from connbench.cli.pages import width  # noqa: PLC0415  # commands load what they use
    from connbench.portsearch.advice import advise  # noqa: PLC0415  # as above
    from connbench.portsearch.calibration import usual  # noqa: PLC0415  # as above
    from connbench.portsearch.candidates import supported  # noqa: PLC0415  # as above
    from connbench.portsearch.slo import Slo  # noqa: PLC0415  # as above
    from connbench.report import advice  # noqa: PLC0415  # as above

    probed = frozenset(option.name for option in (NO_PORT, LOCAL_PORT_RANGE) if kernel is None and is_supported(option))
    counsel = advise(
        Situation(
            connections=number,
            ports=ports,
            sources=sources,
            options=probed if kernel is None else supported(version),
            algorithm=search,
            budget=budget,
            slo=Slo.parse(slo) if slo is not None else None,
            calibration=fitted(calibrating, Protocol.TCP) if calibrating else usual(version, search),
            reserved=reserved,
        ),
        flow,
    )
    name = f"Linux {release}{told_by}"
    is_json = output_format == "json"
    click.echo(advice.json(counsel, name) if is_json else advice.text(counsel, name, width(), languages))
    return ExitCode.OK


def _search(release: str, algorithm: str | None, *, is_here: bool) -> tuple[Algorithm, str]:
    """The search of connect(), and how it is known where that has to be told."""
    if algorithm:
        return ALGORITHMS[algorithm], ""
    if not is_here or not is_supported(LOCAL_PORT_RANGE):  # without the option all kernels search alike
        return algorithm_of(release), ""
    try:
        return Algorithm.PRE_6_8 if one_parity_goes_first() else Algorithm.FROM_6_8, " (probed)"
    except EnvironmentFault:
        return algorithm_of(release), " (by its release, for it cannot be probed here)"


def _reserved_here() -> frozenset[int]:
    return parse_ports(sysctl.read_all((sysctl.RESERVED_PORTS,)).get(sysctl.RESERVED_PORTS, ""))


def _concurrent(connections: int | None, flow: Flow | None, hold: float | None) -> int:
    if hold is not None and flow is None:
        raise UsageError("--hold does nothing without --rate", "add --rate, as in 500/s")
    number = flow.at_once if flow else 0
    if connections is None and not number:
        raise UsageError("nothing says how many connections are open at once", "give -n, or --rate and --hold")
    if number > MOST_ROWS:
        raise UsageError(f"--rate x --hold are {number:,} connections", f"up to {MOST_ROWS:,} are simulated")
    return max(number, connections or 0)

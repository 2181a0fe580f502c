"""`connbench advise`."""

from __future__ import annotations

import platform
from pathlib import Path

import click

from connbench.advice.kernels import OPTIONS, options_here, read_kernel, reserved_here, search_of, time_wait_of
from connbench.advice.scenario import Arrivals, Scenario, Slo
from connbench.commands.calibration_files import calibrate_from, warn_of_other_machine
from connbench.commands.messages import print_text, width
from connbench.commands.options import (
    PORTS,
    algorithm_option,
    calibrate_option,
    error_budget_option,
    format_option,
    read_ports,
    reserved_ports_option,
    tw_reuse_option,
)
from connbench.commands.sections import Command, Section, option
from connbench.commands.values import Quantity, Word, count
from connbench.errors import ExitCode, UsageError
from connbench.host import environment
from connbench.linux import sysctl
from connbench.model import MOST_ROWS, MOST_SOURCES, PortRange, Protocol
from connbench.planner.endpoints import choose_targets
from connbench.strategies import STRATEGIES
from connbench.units import RATE_FORM, TIME_FORM, parse_rate, parse_time

MOST_TARGETS = 100_000

RATE = Quantity(
    "RATE",
    parse_rate,
    RATE_FORM,
    allows=lambda rate: 1e-6 <= rate <= 1e12,
    bounds="a rate above 0, as in 100/s",
    examples=("100/s", "1k/s", "10k/s"),
)
HOLD = Quantity(
    "TIME",
    lambda text: parse_time(text, "s", bare=False),
    TIME_FORM,
    allows=lambda s: 1e-6 <= s <= 1e9,
    bounds="a time above 0, as in 120s",
    examples=("100ms", "10s", "2min"),
)


@click.command("advise", cls=Command)
@option(
    Section.OPEN,
    "-n",
    "--connections",
    type=count(low=1, high=MOST_ROWS),
    help="Keep N connections open at once, or rate x hold if that is more.",
)
@option(Section.OPEN, "--rate", type=RATE, help="Open connections at this rate, as in 500/s.")
@option(Section.OPEN, "--hold", type=HOLD, help="Hold each connection for this time, as in 120s or 2min.")
@option(
    Section.OPEN,
    "--closes-first",
    type=Word(["client", "server"]),
    default="client",
    show_default=True,
    metavar="SIDE",
    help="Choose the side that closes first: client or server. It keeps TIME_WAIT; if it is the client, the port stays "
    "in use.",
)
@option(
    Section.OPEN,
    "--today",
    type=Word([one.name for one in STRATEGIES.values() if not one.sets_port_range]),
    metavar="STRATEGY",
    help="Advise for a program that does this today: "
    f"{', '.join(one.name for one in STRATEGIES.values() if not one.sets_port_range)}. "
    "docs/strategies.md says how to find out.",
)
@option(
    Section.OPEN,
    "--protocol",
    type=Word([one.value for one in Protocol]),
    default="tcp",
    show_default=True,
    metavar="PROTOCOL",
    help="Open tcp or udp sockets.",
)
@option(
    Section.PORTS,
    "--target",
    "named_targets",
    multiple=True,
    metavar="HOST:PORT",
    help="Connect to this address and port. Repeatable. On the loopback tcp_tw_reuse 2 lets connect() reuse a port.",
)
@option(
    Section.PORTS,
    "--targets",
    type=count(low=1, high=MOST_TARGETS),
    help="Connect to N targets, without naming them.  [default: 1]",
)
@option(
    Section.PORTS,
    "--port-range",
    type=read_ports,
    metavar=PORTS,
    help="Choose local ports from this range; host takes this host's.  "
    "[default: this host's; with --kernel 32768-60999]",
)
@reserved_ports_option("this host's; with --kernel none")
@option(
    Section.PORTS,
    "--sources",
    type=count(low=1, high=MOST_SOURCES),
    default=1,
    show_default=True,
    help="Connect from N addresses.",
)
@option(
    Section.KERNEL,
    "--kernel",
    metavar="X.Y",
    help="Advise for this version of Linux, or for this `uname -r`.  [default: this host's kernel, probed]",
)
@option(
    Section.KERNEL,
    "--backported",
    multiple=True,
    type=Word([one.name for one in OPTIONS]),
    metavar="OPTION",
    help=f"Give --kernel a socket option that its version lacks: {', '.join(one.name for one in OPTIONS)}. Repeatable.",
)
@tw_reuse_option("this host's, or that of --kernel")
@algorithm_option("that of --kernel, else as a few connections here show it")
@calibrate_option
@error_budget_option
@option(
    Section.GATE,
    "--slo",
    type=Slo.parse,
    metavar="EXPR",
    help="Advise only what keeps this limit on the time of a connection, as in 'p99 < 1ms'.",
)
@option(
    Section.OUTPUT,
    "--code",
    "languages",
    type=Word(["python", "c", "go", "nginx", "haproxy"]),
    multiple=True,
    metavar="LANGUAGE",
    help="Print the code to paste, below the text: python, c, go, nginx or haproxy. Repeatable.",
)
@format_option(("text", "json"))
def command(  # noqa: PLR0913  # one for each option
    *,
    connections: int | None,
    rate: float | None,
    hold: float | None,
    closes_first: str,
    tw_reuse: int | None,
    today: str | None,
    protocol: str,
    named_targets: tuple[str, ...],
    targets: int | None,
    port_range: PortRange | None,
    reserved: frozenset[int] | None,
    sources: int,
    kernel: str | None,
    backported: tuple[str, ...],
    algorithm: str | None,
    budget: float,
    slo: Slo | None,
    calibrating: tuple[Path, ...],
    languages: tuple[str, ...],
    output_format: str,
) -> int:
    """Advise how to open N connections: which strategy, which window, how many source addresses.

    \b
      connbench advise -n 25000
      connbench advise --rate 500/s --hold 120s --slo 'p99 < 1ms'
      connbench advise --rate 8000/s --hold 85ms --closes-first server --code go
      connbench advise -n 25000 --targets 4 --today early
      connbench advise -n 50000 --kernel 6.1.0-13-amd64 --calibrate plain.json

    advise simulates each strategy that the kernel supports: it opens all connections, then replaces 5,000 of them. With
    --rate it also counts ports in TIME_WAIT. Times come from --calibrate, which takes a file of connbench calibrate; or
    they are the usual ones of such a kernel, measured on one machine.
    """  # noqa: D301  # click wants the character \b itself
    if languages and output_format != "text":
        raise UsageError(f"--code goes with --format text, not {output_format}", "leave one of them out")
    if backported and kernel is None:
        raise UsageError("--backported does nothing without --kernel", "leave it out: connbench asks this kernel")
    is_udp = protocol == Protocol.UDP
    if algorithm and is_udp:
        raise UsageError("--algorithm names a search of connect(), which UDP does not use", "leave out --algorithm")
    if today and is_udp and STRATEGIES[today].searches_in_bind:
        raise UsageError(f"--today {today} goes with TCP: bind() to port 0 always chooses UDP's port", "leave it out")
    if named_targets and targets is not None:
        raise UsageError("--target and --targets both set the number of targets", "leave one of them out")
    arrivals = None if rate is None else Arrivals(rate, hold)
    number = _concurrent(connections, arrivals, hold)
    release = platform.release() if kernel is None else kernel.strip()
    told = read_kernel(release, frozenset(backported))
    ports = port_range or (PortRange(*sysctl.read_port_range()) if kernel is None else told.port_range)
    ports.check_for_search()
    if reserved is None:
        reserved = reserved_here() if kernel is None else frozenset()
    if ports.count_of(reserved) == len(ports):
        raise UsageError(
            f"all ports of {ports} are reserved", "choose others by --port-range, or name --reserved-ports"
        )
    endpoints, _ = choose_targets(named_targets, allow_remote=True)
    time_wait, reuse_from = time_wait_of(told, tw_reuse, is_here=kernel is None)
    search, told_by = search_of(told, algorithm, is_here=kernel is None, is_udp=is_udp)

    from connbench.advice.advice import advise
    from connbench.advise import report
    from connbench.portmodel.calibration import usual, usual_of

    calibration = (
        calibrate_from(calibrating, Protocol(protocol))
        if calibrating
        else (usual_of(Protocol.UDP, search) if is_udp else usual(told.version, search))
    )
    whose, machine = ("this host", environment.of_machine()) if kernel is None else ("--kernel", {"kernel": release})
    warn_of_other_machine(calibration, machine, whose)
    advice = advise(
        Scenario(
            connections=number,
            ports=ports,
            sources=sources,
            options=options_here() if kernel is None else told.options,
            algorithm=search,
            budget=budget,
            slo=slo,
            calibration=calibration,
            reserved=reserved,
            targets=targets or len(endpoints) or 1,
            protocol=Protocol(protocol),
            arrivals=arrivals,
            client_closes=closes_first == "client",
            time_wait=time_wait,
            is_loopback=bool(endpoints) and all(one.is_loopback for one in endpoints),
            doubt="" if kernel is None else told.doubt,
            is_here=kernel is None,
            today=None if today is None else STRATEGIES[today],
        )
    )
    kernel_text = report.KernelText(f"Linux {release}{told_by}", reuse_from)
    is_json = output_format == "json"
    print_text(report.json(advice, kernel_text) if is_json else report.text(advice, kernel_text, width(), languages))
    return ExitCode.OK


def _concurrent(connections: int | None, arrivals: Arrivals | None, hold: float | None) -> int:
    if hold is not None and arrivals is None:
        raise UsageError("--hold does nothing without --rate", "add --rate, as in 500/s")
    number = arrivals.at_once if arrivals else 0
    if connections is None and not number:
        raise UsageError("nothing says how many connections are open at once", "give -n, or --rate and --hold")
    if number > MOST_ROWS:
        raise UsageError(f"--rate times --hold is {number:,} connections", f"give at most {MOST_ROWS:,}")
    return max(number, connections or 0)

"""`connbench trace`."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from contextlib import suppress

import click

from connbench.errors import ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.model import MAX_PORT, Endpoint

EPILOG = """\b
Try:
  connbench trace parity
  connbench trace latency --json --duration 60
  connbench trace parity --exporter 127.0.0.1:9435

\b
Exit codes: 0 done, or stopped by Ctrl-C or SIGTERM after the last report; 2
wrong usage; 4 this user or kernel cannot trace; 5 the exporter cannot listen
there; 6 bpftrace broke off; 7 the output."""

SHORTEST_S = 0.1
LONGEST_S = {"--interval": 86400, "--duration": 366 * 86400}
"""bpftrace keeps an interval's ms in 32 bits, and does not mind those it loses."""


def _seconds(context: click.Context, parameter: click.Parameter, given: str | float | None) -> float | None:
    """Read a time in s; `nan` compares with nothing, so click's own range would let it pass."""
    del context
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    option = parameter.opts[0]
    if not SHORTEST_S <= seconds <= LONGEST_S[option]:
        raise UsageError(f"{option} {given} is no time", f"give {SHORTEST_S:g} to {LONGEST_S[option]} seconds")
    return seconds


OPTIONS = (
    click.option("--interval", default="1", show_default=True, metavar="S", callback=_seconds, help="Between reports."),
    click.option("--duration", metavar="S", callback=_seconds, help="End after so many seconds.  [default: Ctrl-C]"),
    click.option("--json", "as_json", is_flag=True, help='A line of JSON a report, the last with "final": true.'),
    click.option("--exporter", metavar="ADDR:PORT", help="Serve the counts to Prometheus there; print the last alone."),
    click.option("--probes", type=click.Choice(["kprobe", "kfunc"]), help="How to attach.  [default: what there is]"),
)


def _trace_options(function: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(OPTIONS):
        function = option(function)
    return click.pass_obj(function)


@click.group("trace", epilog=EPILOG, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Watch every connect() of this machine, in the kernel, while others make them.

    Needs root, bpftrace, and a kernel with kprobes and BTF, as the distributions' are. All counts are since the trace
    began, of all network namespaces. "lost" are connects whose return the kernel did not tell: it watches few at
    once, and slow ones of many threads overlap.
    """
    if context.invoked_subcommand is None:
        raise UsageError("trace what? latency, parity or offsets", "connbench trace --help")


@command.command("latency", epilog=EPILOG)
@_trace_options
def latency(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """How long connect() takes in the kernel, by the port's parity.

    The time in tcp_v4_connect() and tcp_v6_connect(): the search for a port and sending the SYN. The answer is part
    of it on the loopback interface alone.
    """
    return _trace("latency", interrupts, options)


@command.command("parity", epilog=EPILOG)
@_trace_options
def parity(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Whether connects have crossed into the second half of the range.

    Counts ports that connect() chose by parity, and switches: a port of another parity than the same process's port
    before. A process that switches has used up the first half towards one of its targets, or sets IP_LOCAL_PORT_RANGE
    on Linux 6.8 or later, where ports of both parities are as good. The exporter has the latency, too.
    """
    return _trace("parity", interrupts, options)


@command.command("offsets", epilog=EPILOG)
@_trace_options
def offsets(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Where connect() begins its search for a port, by ten thousands.

    Looks at each port that is looked at, and so makes slow connects slower still.
    """
    return _trace("offsets", interrupts, options)


def _trace(name: str, interrupts: Interrupts, options: dict[str, str | float | bool | None]) -> int:
    from connbench.cli.tracing import Request, watch  # noqa: PLC0415  # commands load what they use
    from connbench.tracing.program import Probes, Trace  # noqa: PLC0415  # as above

    trace = Trace(name)
    probes, exporter = options["probes"], options["exporter"]
    watch(
        Request(
            trace,
            interval_s=float(options["interval"] or 1),
            duration_s=None if options["duration"] is None else float(options["duration"]),
            as_json=bool(options["as_json"]),
            exporter=None if exporter is None else _endpoint(str(exporter)),
            probes=None if probes is None else Probes(str(probes)),
        ),
        interrupts,
    )
    return ExitCode.OK


def _endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    with suppress(ValueError):
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        if port.isdecimal() and int(port) <= MAX_PORT:
            return Endpoint(address, int(port))
    raise UsageError(
        f"--exporter {text!r} is no address and port", "for example 127.0.0.1:9435; port 0 takes a free one"
    )

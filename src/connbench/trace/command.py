"""`connbench trace`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import suppress

import click

from connbench.commands.sections import Command, Group, Section, option
from connbench.commands.values import Word, time
from connbench.errors import ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.model import MAX_PORT, Endpoint, is_of_many
from connbench.units import parse_number

EPILOG = """\b
Try:
  connbench trace parity
  connbench trace latency --json --duration 1min
  connbench trace parity --exporter 127.0.0.1:9435

\b
Exit codes: 0 done, or stopped by Ctrl-C or SIGTERM after the last report; 2
wrong usage; 4 this user or kernel cannot trace; 5 the exporter cannot listen
there; 6 bpftrace broke off; 7 the output; 129 SIGHUP and 131 SIGQUIT, after
the last report."""

SHORTEST_S = 0.1
LONGEST_INTERVAL_S, LONGEST_DURATION_S = 86_400, 366 * 86_400
"""bpftrace keeps an interval's ms in 32 bits, and does not mind those it loses."""

INTERVAL = time(
    "s", ("100ms", "1s", "10s"), allows=lambda s: SHORTEST_S <= s <= LONGEST_INTERVAL_S, bounds="100ms to 24h"
)
DURATION = time(
    "s", ("10s", "1min", "1h"), allows=lambda s: SHORTEST_S <= s <= LONGEST_DURATION_S, bounds="100ms to 8784h"
)


OPTIONS = (
    option(
        Section.TRACE,
        "--interval",
        type=INTERVAL,
        default="1s",
        show_default=True,
        help="Report once in this time. A number alone is in seconds.",
    ),
    option(
        Section.TRACE,
        "--duration",
        type=DURATION,
        help="Stop after this time. A number alone is in seconds.  [default: run until Ctrl-C]",
    ),
    option(
        Section.TRACE,
        "--probes",
        type=Word(["kprobe", "kfunc"]),
        metavar="KIND",
        help="Attach by kprobe or by kfunc.  [default: what this kernel has]",
    ),
    option(
        Section.OUTPUT,
        "--json",
        "as_json",
        is_flag=True,
        help='Print each report as one line of JSON, the last with "final": true.',
    ),
    option(
        Section.OUTPUT,
        "--exporter",
        metavar="ADDR:PORT",
        help="Serve the counts to Prometheus there, and print only the last report.",
    ),
)


def _trace_options(function: Callable[..., int]) -> Callable[..., int]:
    for decorate in reversed(OPTIONS):
        function = decorate(function)
    return click.pass_obj(function)


@click.group("trace", cls=Group, epilog=EPILOG, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Watch every connect() on this machine in the kernel: latency, parity or offsets.

    Needs root, bpftrace, and a kernel with kprobes and BTF, which distributions have. It counts connects of all
    programs in all network namespaces, from the start of the trace. "lost" counts connects whose return the kernel did
    not report: it can watch only a few at the same time, and slow connects of many threads overlap.
    """
    if context.invoked_subcommand is None:
        raise UsageError("trace what? latency, parity or offsets", "connbench trace --help")


@command.command("latency", cls=Command, epilog=EPILOG)
@_trace_options
def latency(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Show how long connect() takes in the kernel, by port parity.

    It measures the time in tcp_v4_connect() and tcp_v6_connect(): the search for a port, and sending the SYN. Only on
    the loopback interface does that time include the answer.
    """
    return _trace("latency", interrupts, options)


@command.command("parity", cls=Command, epilog=EPILOG)
@_trace_options
def parity(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Show whether the first half of the port range is used up.

    It counts by parity the ports that connect() chose, and the switches: a port whose parity differs from that of the
    process's port before. A process that switches has used up the first half towards one of its targets, or it sets
    IP_LOCAL_PORT_RANGE on Linux 6.8 or later, which prefers no parity then. The exporter reports the latency, too.
    """
    return _trace("parity", interrupts, options)


@command.command("offsets", cls=Command, epilog=EPILOG)
@_trace_options
def offsets(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Show where connect() begins its search for a port.

    It counts by ten thousand ports. It watches each port that the kernel probes, and so makes slow connects slower.
    """
    return _trace("offsets", interrupts, options)


def _trace(name: str, interrupts: Interrupts, options: dict[str, str | float | bool | None]) -> int:
    from connbench.trace.program import Probes, Trace
    from connbench.trace.recording import TraceOptions, watch

    trace = Trace(name)
    probes, exporter = options["probes"], options["exporter"]
    watch(
        TraceOptions(
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
        if parse_number(port) <= MAX_PORT and not is_of_many(address):
            return Endpoint(address, int(port))
    raise UsageError(
        f"--exporter {text!r} is no address and port", "for example 127.0.0.1:9435; port 0 takes a free one"
    )

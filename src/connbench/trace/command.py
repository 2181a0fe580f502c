"""`connbench trace`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from connbench.commands.exporter import exporter_address, exporting
from connbench.commands.messages import print_text
from connbench.commands.sections import Command, Group, Section, option
from connbench.commands.values import Word
from connbench.commands.values import time as time_option
from connbench.errors import ENDS_IN_GOOD_ORDER, ExitCode, Interrupted, UsageError
from connbench.interrupts import Interrupts
from connbench.model import Endpoint
from connbench.trace.bpftrace import Bpftrace, running
from connbench.trace.counts import READ_COUNTS, CgroupPaths, Counts, ParityCounts
from connbench.trace.program import Probes, Trace, find_tracer, program
from connbench.units import MS_PER_S

if TYPE_CHECKING:
    from rich.live import Live

EPILOG = """\b
Try:
  connbench trace parity
  connbench trace latency --json --duration 1min
  connbench trace parity --exporter 127.0.0.1:9435

\b
Exit codes: 0 done, or stopped by Ctrl-C or SIGTERM after the last report; 2
wrong usage; 4 this user or kernel cannot trace; 5 the exporter cannot listen
there; 6 bpftrace failed; 7 the output cannot be written; 129 SIGHUP and 131
SIGQUIT, after the last report."""

SHORTEST_S = 0.1
LONGEST_INTERVAL_S, LONGEST_DURATION_S = 86_400, 366 * 86_400
"""bpftrace keeps an interval in ms in 32 bits, and would cut off a longer one without a word."""

INTERVAL = time_option(
    "s", ("100ms", "1s", "10s"), allows=lambda s: SHORTEST_S <= s <= LONGEST_INTERVAL_S, bounds="100ms to 24h"
)
DURATION = time_option(
    "s", ("10s", "1min", "1h"), allows=lambda s: SHORTEST_S <= s <= LONGEST_DURATION_S, bounds="100ms to 8784h"
)


_OPTIONS = (
    option(
        Section.TRACE,
        "--interval",
        type=INTERVAL,
        default="1s",
        show_default=True,
        help="Print a report after each interval of this length. A number alone is in seconds.",
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
        type=Word([kind.value for kind in Probes]),
        metavar="KIND",
        help="Attach kprobe or kfunc probes.  [default: kprobe if this kernel has it]",
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
        help="Serve the counts to Prometheus at this address, and print only the last report.",
    ),
)


def _trace_options(function: Callable[..., int]) -> Callable[..., int]:
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return click.pass_obj(function)


@click.group("trace", cls=Group, epilog=EPILOG, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Watch every connect() on this machine in the kernel: latency, parity or offsets.

    A trace needs root, bpftrace, and a kernel with kprobes and BTF: those of distributions have both. It counts the
    connect() calls of all programs in all network namespaces, from its start. "lost" counts calls whose return the
    kernel did not report: the kernel can watch only a few calls at the same time, and slow calls of many threads
    overlap.
    """
    if context.invoked_subcommand is None:
        raise UsageError("trace needs a subcommand: latency, parity or offsets", "connbench trace --help")


@command.command("latency", cls=Command, epilog=EPILOG)
@_trace_options
def latency(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Show how long connect() takes in the kernel, by port parity.

    It measures the time in tcp_v4_connect() and tcp_v6_connect(): the search for a port, and sending the SYN. On the
    loopback interface the time includes the answer.
    """
    return _trace(Trace.LATENCY, interrupts, options)


@command.command("parity", cls=Command, epilog=EPILOG)
@_trace_options
def parity(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Show whether the first half of the port range is used up.

    It counts the ports that connect() chose, by parity, and the switches: a port is a switch if its parity differs from
    that of the same process's port before. A process that switches has used up the first half of the range towards one
    of its targets; or it sets IP_LOCAL_PORT_RANGE on Linux 6.8 or later, where the search prefers no parity. The
    exporter reports the latency, too.
    """
    return _trace(Trace.PARITY, interrupts, options)


@command.command("offsets", cls=Command, epilog=EPILOG)
@_trace_options
def offsets(interrupts: Interrupts, /, **options: str | float | bool | None) -> int:
    """Show where connect() begins its search for a port.

    It counts the first and the last port of each search, in steps of 10,000 ports. It watches every port that the
    kernel probes, and so makes slow connects slower.
    """
    return _trace(Trace.OFFSETS, interrupts, options)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What the command line asks for.

    Attributes:
        trace: What to trace.
        interval_s: Seconds between two reports.
        duration_s: Seconds until the end; None for no end.
        as_json: Whether to print JSON instead of tables.
        exporter: Where to serve metrics; None for nowhere.
        probes: The kind of probe; None for what the kernel has.
    """

    trace: Trace
    interval_s: float
    duration_s: float | None
    as_json: bool
    exporter: Endpoint | None
    probes: Probes | None


def _trace(trace: Trace, interrupts: Interrupts, options: dict[str, str | float | bool | None]) -> int:
    probes, exporter, duration = options["probes"], options["exporter"], options["duration"]
    watch(
        TraceOptions(
            trace,
            interval_s=float(options["interval"] or 1),
            duration_s=None if duration is None else float(duration),
            as_json=bool(options["as_json"]),
            exporter=None if exporter is None else exporter_address(str(exporter)),
            probes=None if probes is None else Probes(str(probes)),
        ),
        interrupts,
    )
    return ExitCode.OK


def watch(options: TraceOptions, interrupts: Interrupts) -> None:
    """Attach the probes, and report until the time is over or a signal comes.

    Raises:
        EnvironmentFault: This user or kernel cannot trace.
        TargetError: The exporter cannot listen there.
        RunFault: bpftrace failed.
        Interrupted: SIGHUP or SIGQUIT came, and the last report has been printed.
    """
    interrupts.immediate = False
    tracer = find_tracer(options.trace, options.probes)
    text = program(options.trace, tracer.functions, tracer.probes)
    with running(tracer.bpftrace, text, round(options.interval_s * MS_PER_S)) as child:
        child.wait_until_ready(interrupts)
        report_on(child, options, interrupts)


def report_on(child: Bpftrace, options: TraceOptions, interrupts: Interrupts) -> None:
    """Report until the time is over or a signal comes; then stop bpftrace and print the last report.

    Raises:
        TargetError: The exporter cannot listen there.
        RunFault: bpftrace failed.
        Interrupted: SIGHUP or SIGQUIT came, and the last report has been printed.
    """
    stopped_by: Interrupted | None = None
    begun = time.monotonic()
    until = None if options.duration_s is None else begun + options.duration_s
    cgroups = CgroupPaths()
    with _exporting(child, options, cgroups) as export, _printing(options) as show:
        click.echo(f"connbench: tracing connect(): {options.trace}; Ctrl-C ends it", err=True)
        try:
            while child.wait_for_interval(interrupts, until):
                counts = _read_counts(child, options, cgroups)
                export(counts)
                show(counts, time.monotonic() - begun, cgroups, is_final=False)
        except Interrupted as interrupted:
            stopped_by = interrupted
        child.stop()
        show(_read_counts(child, options, cgroups), time.monotonic() - begun, cgroups, is_final=True)
    if stopped_by and stopped_by.exit_code not in ENDS_IN_GOOD_ORDER:
        raise stopped_by


def _read_counts(child: Bpftrace, options: TraceOptions, cgroups: CgroupPaths) -> Counts:
    counts = READ_COUNTS[options.trace](child.maps)
    if isinstance(counts, ParityCounts):
        cgroups.learn({process.cgroup for process in counts.processes} | {cgroup for cgroup, _ in counts.switches_of})
    return counts


class _Printer:
    """Prints reports: on a terminal each replaces the one before, elsewhere they follow one another."""

    def __init__(self, options: TraceOptions, live: Live | None = None) -> None:
        self._options = options
        self._live = live
        self._is_first = True

    def __call__(self, counts: Counts, seconds: float, cgroups: CgroupPaths, *, is_final: bool) -> None:
        """Print a report."""
        from connbench.trace.report import as_json, as_text  # loads rich

        if self._options.as_json:
            print_text(as_json(counts, seconds, cgroups.name, is_final=is_final))
        elif self._live is not None:
            from rich.text import Text

            table = Text(as_text(counts, seconds, cgroups.name), no_wrap=True, overflow="ellipsis")
            self._live.update(table, refresh=True)
        elif is_final or self._options.exporter is None:
            print_text(("" if self._is_first else "\n") + as_text(counts, seconds, cgroups.name))
            self._is_first = False


@contextmanager
def _printing(options: TraceOptions) -> Iterator[_Printer]:
    """The printer of reports, which draws on a terminal until the end of the `with` block."""
    if options.as_json or not sys.stdout.isatty():
        yield _Printer(options)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False) as live:
        yield _Printer(options, live)


@contextmanager
def _exporting(child: Bpftrace, options: TraceOptions, cgroups: CgroupPaths) -> Iterator[Callable[[Counts], None]]:
    """Serve metrics if they are asked for; a function that takes the newest counts."""
    if options.exporter is None:
        yield lambda _: None
        return
    from connbench.trace.trace_metrics import TraceCollector

    collector = TraceCollector(READ_COUNTS[options.trace](child.maps), cgroups.name)

    def export(counts: Counts) -> None:
        collector.counts = counts

    with exporting(options.exporter, collector) as address:
        click.echo(f"connbench: metrics at http://{address}/metrics", err=True)
        yield export

"""The course of a trace: attach, report interval by interval, detach, report for the last time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from connbench.commands.messages import say
from connbench.errors import ENDS_IN_GOOD_ORDER, Interrupted, TargetError
from connbench.interrupts import Interrupts
from connbench.model import Endpoint
from connbench.trace.bpftrace import Bpftrace, running
from connbench.trace.cgroups import Cgroups
from connbench.trace.counts import Counts, LatencyCounts, Maps, OffsetCounts, ParityCounts
from connbench.trace.program import Probes, Trace, program
from connbench.trace.report import as_json, as_text
from connbench.trace.requirements import find_means
from connbench.trace.trace_metrics import TraceCollector

if TYPE_CHECKING:
    from rich.live import Live

COUNTING: dict[Trace, Callable[[Maps], Counts]] = {
    Trace.LATENCY: LatencyCounts.of,
    Trace.PARITY: ParityCounts.of,
    Trace.OFFSETS: OffsetCounts.of,
}


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What was asked for; times in s. None is no end, no exporter, and whichever probes the kernel has."""

    trace: Trace
    interval_s: float
    duration_s: float | None
    as_json: bool
    exporter: Endpoint | None
    probes: Probes | None


def watch(request: TraceOptions, interrupts: Interrupts) -> None:
    """Trace until the time is over or a signal comes, and report.

    Raises:
        EnvironmentFault: This user or kernel cannot.
        TargetError: The exporter cannot listen there.
        RunFault: bpftrace broke off.
    """
    interrupts.immediate = False
    means = find_means(request.trace, request.probes)
    text = program(request.trace, means.functions, means.probes)
    with running(means.bpftrace, text, round(request.interval_s * 1000)) as child:
        child.wait_until_ready(interrupts)
        report_on(child, request, interrupts)


def report_on(child: Bpftrace, request: TraceOptions, interrupts: Interrupts) -> None:
    """Report until the time is over or a signal comes, then end the trace and report for the last time.

    Raises:
        TargetError: The exporter cannot listen there.
        RunFault: bpftrace broke off.
        Interrupted: SIGHUP or SIGQUIT came, and the last report has been printed.
    """
    ended: Interrupted | None = None
    begun = time.monotonic()
    until = None if request.duration_s is None else begun + request.duration_s
    cgroups = Cgroups()
    collector = TraceCollector(COUNTING[request.trace](child.maps), cgroups.name)
    with _exporting(request.exporter, collector), _screen(request) as show:
        click.echo(f"connbench: tracing connect(): {request.trace}; Ctrl-C ends it", err=True)
        try:
            while child.wait_for_interval(interrupts, until):
                collector.counts = _count(request, child, cgroups)
                show(collector.counts, time.monotonic() - begun, cgroups, is_final=False)
        except Interrupted as signalled:
            ended = signalled
        child.stop()
        show(_count(request, child, cgroups), time.monotonic() - begun, cgroups, is_final=True)
    if ended and ended.exit_code not in ENDS_IN_GOOD_ORDER:
        raise ended


def _count(request: TraceOptions, child: Bpftrace, cgroups: Cgroups) -> Counts:
    counts = COUNTING[request.trace](child.maps)
    if isinstance(counts, ParityCounts):
        cgroups.learn({process.cgroup for process in counts.processes} | {cgroup for cgroup, _ in counts.switches_of})
    return counts


class _Lines:
    """Reports one after the other."""

    def __init__(self, request: TraceOptions, live: Live | None = None) -> None:
        self._request = request
        self._live = live
        self._is_first = True

    def __call__(self, counts: Counts, seconds: float, cgroups: Cgroups, *, is_final: bool) -> None:
        """Print a report, or draw it over the last one."""
        if self._request.as_json:
            say(as_json(counts, seconds, cgroups.name, is_final=is_final))
        elif self._live is not None:
            from rich.text import Text  # noqa: PLC0415  # only a terminal needs it

            table = Text(as_text(counts, seconds, cgroups.name), no_wrap=True, overflow="ellipsis")
            self._live.update(table, refresh=True)
        elif is_final or self._request.exporter is None:
            say(("" if self._is_first else "\n") + as_text(counts, seconds, cgroups.name))
            self._is_first = False


@contextmanager
def _screen(request: TraceOptions) -> Iterator[_Lines]:
    """Where reports go: a table that is drawn anew on a terminal, one after the other into a pipe."""
    if request.as_json or not sys.stdout.isatty():
        yield _Lines(request)
        return
    from rich.console import Console  # noqa: PLC0415  # only a terminal needs it
    from rich.live import Live  # noqa: PLC0415  # as above

    with Live(console=Console(), auto_refresh=False) as live:
        yield _Lines(request, live)


@contextmanager
def _exporting(endpoint: Endpoint | None, collector: TraceCollector) -> Iterator[None]:
    """Serve the collector's metrics over HTTP, by threads: none of them touches what is traced."""
    if endpoint is None:
        yield
        return
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  # loads a web server

    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(endpoint.port, endpoint.host, registry)
    except OSError as error:
        raise TargetError(
            f"--exporter {endpoint} cannot listen: {error.strerror}", "name an address of this machine and a free port"
        ) from error
    try:
        at = Endpoint(endpoint.host, server.server_address[1])
        click.echo(f"connbench: metrics at http://{at}/metrics", err=True)
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""`connbench inspect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import click

from connbench.commands.answers import answering
from connbench.commands.calibration_files import calibrate_from, warn_of_other_machine
from connbench.commands.exporter import exporter_address, exporting
from connbench.commands.gates import add_to_summary, announce, in_github_actions
from connbench.commands.messages import can_be_bold, print_message, print_text, warn, width
from connbench.commands.options import (
    FILE,
    PORTS,
    algorithm_option,
    calibrate_option,
    format_option,
    read_ports,
    reserved_ports_option,
    tw_reuse_option,
)
from connbench.commands.sections import Command, Section, option
from connbench.commands.values import count
from connbench.commands.values import time as time_option
from connbench.errors import ENDS_IN_GOOD_ORDER, ConnbenchError, ExitCode, Interrupted, UsageError
from connbench.findings import Finding, Severity
from connbench.host import environment
from connbench.model import MAX_PORT, Protocol
from connbench.path_conditions import FAIL_IF, WARN_IF, parse_condition
from connbench.planner.workload import DEFAULT_WINDOW
from connbench.portmodel.algorithm import ALGORITHMS
from connbench.report.formats import Format
from connbench.thresholds import Threshold

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from connbench.inspect.forecast import Forecaster
    from connbench.inspect.inspection import Inspection
    from connbench.inspect.path_gate import Judgement
    from connbench.inspect.rates import Comparison
    from connbench.inspect.watch import Moment
    from connbench.interrupts import Interrupts
    from connbench.linux.network_namespaces import NetworkNamespace
    from connbench.model import Endpoint, PortRange
    from connbench.portmodel.calibration import Calibration
    from connbench.thresholds import Failure

FORMATS = {
    "text": Format("connbench.inspect.report", "text"),
    "json": Format("connbench.inspect.report", "json", is_document=True),
    "csv": Format("connbench.inspect.report", "csv", is_document=True),
    "markdown": Format("connbench.inspect.report", "markdown"),
    "prometheus": Format("connbench.inspect.metrics", "prometheus", is_document=True),
    "openmetrics": Format("connbench.inspect.metrics", "openmetrics", is_document=True),
}
"""Of an inspection."""
TEXT = next(iter(FORMATS))

MOST_ROWS = 1_000_000
SHORTEST_S, LONGEST_INTERVAL_S, LONGEST_DURATION_S = 0.1, 86_400, 366 * 86_400
EXPORTER_INTERVAL_S = 15.0
"""Seconds between two dumps for --exporter alone: as a rule Prometheus scrapes every 15 s to 60 s."""

INTERVAL = time_option(
    "s", ("100ms", "1s", "10s"), allows=lambda s: SHORTEST_S <= s <= LONGEST_INTERVAL_S, bounds="100ms to 24h"
)
DURATION = time_option(
    "s", ("10s", "1min", "1h"), allows=lambda s: SHORTEST_S <= s <= LONGEST_DURATION_S, bounds="100ms to 8784h"
)

POLL_SECONDS = 0.1
"""How long a signal may take to be noticed."""

Show = Callable[["Moment"], None]
"""Shows a dump."""

Judge = Callable[["Inspection"], "Sequence[Judgement]"]
"""Judges conditions."""

Wait = Callable[[float], bool]
"""Waits until a time of time.monotonic(); False if the user ended the watch meanwhile."""


NAGIOS = "--nagios"
NAGIOS_UNKNOWN = 3


class _Inspect(Command):
    """With --nagios it answers a fault on stdout too, with the exit code that a plugin has for it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        with answering(_answer_of_nagios, is_asked=NAGIOS in args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with answering(_answer_of_nagios, is_asked=bool(ctx.params.get("nagios"))):
            return super().invoke(ctx)


def _answer_of_nagios(fault: ConnbenchError) -> int:
    """Print the line of a Nagios plugin that cannot tell; its exit code."""
    from connbench.inspect.path_gate import unknown_line

    print_text(unknown_line(fault))
    return NAGIOS_UNKNOWN


def _condition(option: str) -> Callable[[str], Threshold]:
    def condition(text: str) -> Threshold:
        return parse_condition(text, option)

    return condition


@click.command("inspect", cls=_Inspect)
@click.argument("file", required=False, type=FILE, metavar="[FILE]")
@option(
    Section.PORTS,
    "--port-range",
    "ports",
    type=read_ports,
    metavar=PORTS,
    help="Read FILE as from a host with this port range; host takes this host's.  [default: 32768-60999]",
)
@reserved_ports_option("none; for FILE alone")
@tw_reuse_option("2; for FILE alone")
@option(
    Section.INPUT,
    "--netns",
    "namespace_name",
    metavar="NAME|PID",
    help="Read another network namespace: that of a name in /run/netns or /run/docker/netns, or of a process (root).",
)
@option(
    Section.INPUT,
    "--all-netns",
    is_flag=True,
    help="Read every network namespace that a process or a mount names, as those of containers (root).",
)
@option(
    Section.OUTPUT,
    "--top",
    type=count(low=0, high=MOST_ROWS),
    default=20,
    show_default=True,
    help="Show the N fullest paths; 0 shows all. The verdict is about the 20 fullest at least.",
)
@option(
    Section.INPUT,
    "--process",
    "with_processes",
    is_flag=True,
    help="Show the programs that have the ports, with process and unit. Root sees all, another user its own.",
)
@option(
    Section.GATE,
    FAIL_IF,
    "thresholds",
    multiple=True,
    type=_condition(FAIL_IF),
    metavar="EXPR",
    help="Exit with code 1 if this is true on a path, as in 'used > 80%' or '10.1.2.3:443: free < 1000'. Repeatable.",
)
@option(
    Section.GATE,
    NAGIOS,
    is_flag=True,
    help=f"Print one line for Nagios: {FAIL_IF} is critical, {WARN_IF} a warning. Exit with 0, 1, 2 or 3.",
)
@option(
    Section.GATE,
    WARN_IF,
    "warnings",
    multiple=True,
    type=_condition(WARN_IF),
    metavar="EXPR",
    help=f"Print a warning to Nagios if this is true on a path; with {NAGIOS} alone. Repeatable.",
)
@option(
    Section.KERNEL,
    "--window",
    type=count(low=1, high=MAX_PORT),
    default=DEFAULT_WINDOW,
    show_default=True,
    help="Use random windows of N ports in the forecast.",
)
@algorithm_option("that of this kernel's release; with FILE 6.8")
@calibrate_option
@format_option(tuple(FORMATS))
@option(
    Section.WATCH,
    "--watch",
    "interval_s",
    type=INTERVAL,
    help="Read the sockets again after each interval of this length, until q or Ctrl-C. A number alone is in seconds.",
)
@option(
    Section.WATCH,
    "--duration",
    "duration_s",
    type=DURATION,
    help="Stop watching after this time. A number alone is in seconds.",
)
@option(
    Section.WATCH,
    "--exporter",
    metavar="ADDR:PORT",
    help="Serve the figures of the last dump to Prometheus at this address, and print none; --watch is 15s then.",
)
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    *,
    file: Path | None,
    ports: PortRange | None,
    reserved: frozenset[int] | None,
    tw_reuse: int | None,
    namespace_name: str | None,
    all_netns: bool,
    top: int,
    with_processes: bool,
    thresholds: tuple[Threshold, ...],
    nagios: bool,
    warnings: tuple[Threshold, ...],
    window: int,
    algorithm: str | None,
    calibrating: tuple[Path, ...],
    output_format: str,
    interval_s: float | None,
    duration_s: float | None,
    exporter: str | None,
) -> int:
    """Show how full each port space of this host is, and what the next connect() costs.

    \b
      connbench inspect
      connbench inspect --watch 1
      connbench inspect --netns web
      connbench inspect dump.txt

    A port serves one connection of each path: source, target and target port. inspect reads the sockets of this network
    namespace from the kernel, and counts the ports in use on each path. It needs no root, and changes nothing.

    FILE holds the sockets of another host, as ss -tan, netstat -tan or /proc/net/tcp print them; - reads stdin. Without
    -o, ss and netstat do not print how long a port stays in TIME_WAIT.
    """  # noqa: D301  # click wants the character \b itself
    from connbench.inspect.live import read_live

    of_file = {"--port-range": ports, "--reserved-ports": reserved, "--tcp-tw-reuse": tw_reuse}
    of_this_host = {"--watch": interval_s, "--exporter": exporter, "--process": with_processes or None}
    of_this_host |= {"--netns": namespace_name, "--all-netns": all_netns or None}
    _check_file_options(file, of_file, of_this_host)

    @cache
    def forecaster() -> Forecaster:
        from connbench.inspect.forecast import Forecaster

        costs = _read_costs(calibrating, is_here=file is None) if calibrating else None
        return Forecaster(ALGORITHMS[algorithm] if algorithm else None, costs, window)

    advise_options = [*(("--algorithm", algorithm) if algorithm else ())]
    advise_options += [word for file in calibrating for word in ("--calibrate", str(file))]

    def take(comparison: Comparison | None = None) -> Inspection:
        snapshots = read_live(_namespaces(namespace_name, is_all=all_netns), with_processes=with_processes)
        from connbench.inspect.inspection import inspect  # numpy is loaded while the kernel lists the sockets

        return inspect(snapshots, top or None, comparison, forecaster(), advise_options)

    def take_file(file: Path) -> Inspection:
        from connbench.inspect.file_host import FileHost  # loads what reads files, which this host does not need
        from connbench.inspect.inspection import inspect

        host = FileHost(ports, reserved, tw_reuse)
        snapshot = host.read(file)
        found = inspect([snapshot], top or None, None, forecaster(), advise_options)
        findings = (*found.findings, *host.find_doubts(snapshot))
        return replace(found, assumed=host.assumed(), findings=findings)

    if warnings and not nagios:
        raise UsageError(f"{WARN_IF} is for {NAGIOS} alone", f"give {NAGIOS}, too, or {FAIL_IF}")
    if nagios and output_format != TEXT:
        raise UsageError(f"{NAGIOS} prints one line, not {output_format}", "leave out --format")
    if interval_s is not None or exporter is not None:
        if nagios:
            raise UsageError(f"{NAGIOS} answers once", "leave out --watch and --exporter")
        address = None if exporter is None else exporter_address(exporter)
        _check_watch_format(output_format, has_exporter=address is not None)
        options = WatchOptions(interval_s or EXPORTER_INTERVAL_S, duration_s, output_format, address)
        return _watch(take, _judge(thresholds, forecaster()), options, interrupts)
    if duration_s is not None:
        raise UsageError("--duration is for --watch and --exporter", "give --watch, too")
    inspection = take_file(file) if file else take()
    if nagios:
        return _answer(inspection, warnings, thresholds, forecaster())
    judged = _judge(thresholds, forecaster())(inspection)
    of_text = {"width": width(), "bold": can_be_bold()} if output_format == TEXT else {}
    of_json = {"judgements": judged} if output_format == "json" else {}
    print_text(FORMATS[output_format](inspection, **of_text, **of_json).rstrip("\n"))
    return _conclude(inspection, judged)


def _conclude(inspection: Inspection, judged: Sequence[Judgement]) -> int:
    """Report the conditions that are true, or cannot be judged; in GitHub Actions write the job's summary."""
    if in_github_actions():
        add_to_summary([FORMATS["markdown"](inspection)])
    failed = [one.failure for one in judged if one.outcome]
    announce([("", failure) for failure in failed])
    return ExitCode.THRESHOLD if failed else ExitCode.OK


def _judge(thresholds: tuple[Threshold, ...], forecaster: Forecaster) -> Judge:
    """What judges the conditions for an inspection."""
    if not thresholds:
        return lambda _: []
    from connbench.inspect.path_gate import evaluate

    return lambda inspection: evaluate(thresholds, inspection, forecaster.forecast)


def _answer(
    inspection: Inspection, warnings: tuple[Threshold, ...], thresholds: tuple[Threshold, ...], forecaster: Forecaster
) -> int:
    """Print the line of a Nagios plugin; its exit code."""
    from connbench.inspect.path_gate import evaluate, nagios
    from connbench.inspect.report import verdict

    judged = evaluate((*warnings, *thresholds), inspection, forecaster.forecast)
    status, line = nagios(verdict(inspection)[0], judged[: len(warnings)], judged[len(warnings) :])
    print_text(line)
    return status


def _check_file_options(
    file: Path | None, of_file: Mapping[str, object | None], of_this_host: Mapping[str, object | None]
) -> None:
    """Refuse options that say something of a FILE without one, and those that need this host with one.

    Raises:
        UsageError: An option, by whose name the mappings have its value, is given and has no meaning.
    """
    wrong = next((name for name, value in (of_this_host if file else of_file).items() if value is not None), None)
    if wrong and file:
        raise UsageError(f"{wrong} is for this host, and FILE is from another", f"leave out FILE or {wrong}")
    if wrong:
        raise UsageError(f"{wrong} is for FILE: inspect reads this host's own", f"leave out {wrong}, or give FILE")


def _read_costs(files: tuple[Path, ...], *, is_here: bool) -> Calibration:
    """The costs in files; `is_here` says whether they are used for this host."""
    calibration = calibrate_from(files, Protocol.TCP)
    if is_here:
        warn_of_other_machine(calibration, environment.of_machine(), "this host")
    return calibration


def _namespaces(name: str | None, *, is_all: bool) -> Sequence[NetworkNamespace]:
    """The namespaces to read.

    Raises:
        UsageError: Both options are given.
    """
    from connbench.linux.network_namespaces import OWN, find_namespace, find_namespaces

    if is_all and name is not None:
        raise UsageError("--netns and --all-netns exclude each other", "leave out one of them")
    if not is_all:
        return [OWN if name is None else find_namespace(name)]
    namespaces, hidden = find_namespaces()
    if hidden:
        _warn_of_hidden(hidden)
    return namespaces


@cache
def _warn_of_hidden(processes: int) -> None:
    message = f"processes whose /proc/PID/ns root may not read: {processes}; their network namespaces may be missing"
    warn(Finding("netns", Severity.WARNING, message, "run it with CAP_SYS_PTRACE, outside of a container"))


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to watch.

    Attributes:
        interval_s: Seconds from one dump to the next.
        duration_s: Seconds until the end; None for no end.
        output_format: What to print where there is no table: a key of `connbench.inspect.watch.LINES`.
        exporter: Where to serve metrics; None for nowhere.
    """

    interval_s: float
    duration_s: float | None
    output_format: str
    exporter: Endpoint | None


def _check_watch_format(output_format: str, *, has_exporter: bool) -> None:
    from connbench.inspect.watch import LINES

    if has_exporter and output_format != TEXT:
        raise UsageError(f"--exporter prints no {output_format}", "leave out --format")
    if output_format not in LINES:
        raise UsageError(f"--watch prints no {output_format}", "give --format json, or leave it out")


def _watch(
    take: Callable[[Comparison], Inspection], judge: Judge, options: WatchOptions, interrupts: Interrupts
) -> int:
    """Inspect after each interval until the time is over, the user ends it, or a signal comes.

    Returns:
        `THRESHOLD` if a condition was true of a dump, or could be judged of none.

    Raises:
        TargetError: The exporter cannot listen there.
        Interrupted: SIGHUP or SIGQUIT came.
    """
    import connbench.inspect.forecast
    import connbench.inspect.sock_diag  # noqa: F401  # before the first interval begins: loading numpy takes long
    from connbench.commands.screen import has_screen
    from connbench.inspect.rates import Comparison
    from connbench.inspect.watch import WatchGate, moments

    interrupts.immediate = False
    comparison, gate = Comparison(), WatchGate(judge)
    failed: list[tuple[str, Failure]] = []
    last: Moment | None = None
    beside = _silently if options.exporter else _line_by_line
    output = _on_screen if options.output_format == TEXT and has_screen() else beside
    with _exporting(options.exporter) as export, output(options, interrupts) as (show, wait):
        try:
            for moment in moments(lambda: take(comparison), wait, options.interval_s, options.duration_s):
                last = moment
                export(moment)
                show(moment)
                failed += gate.judge(moment)
                if output is not _on_screen:
                    announce(failed)
                    failed.clear()
        except Interrupted as interrupted:
            if interrupted.exit_code not in ENDS_IN_GOOD_ORDER:
                raise
    if last and in_github_actions():
        add_to_summary([FORMATS["markdown"](last.inspection)])
    announce([*failed, *gate.conclude()])
    return ExitCode.THRESHOLD if gate.has_failed else ExitCode.OK


@contextmanager
def _exporting(endpoint: Endpoint | None) -> Iterator[Show]:
    """Serve the metrics of the dump that was shown last, if that is asked for.

    A scrape takes no dump of its own: whoever reaches the port could make this host busy, and rates would be those of
    the time between two scrapes, of whichever Prometheus.
    """
    if endpoint is None:
        yield lambda _: None
        return
    from connbench.inspect.metrics import InspectionCollector

    collector = InspectionCollector()

    def export(moment: Moment) -> None:
        collector.inspection = moment.inspection

    with exporting(endpoint, collector) as address:
        print_message(f"metrics at http://{address}/metrics")
        yield export


@contextmanager
def _silently(_options: WatchOptions, interrupts: Interrupts) -> Iterator[tuple[Show, Wait]]:
    """Show nothing."""
    yield lambda _: None, lambda until: _sleep(until, interrupts)


@contextmanager
def _line_by_line(options: WatchOptions, interrupts: Interrupts) -> Iterator[tuple[Show, Wait]]:
    """Print lines; and once on stderr that the intervals are too short."""
    from connbench.inspect.watch import LINES

    has_warned = False

    def show(moment: Moment) -> None:
        nonlocal has_warned
        if moment.skipped and not has_warned:
            has_warned = True
            message = f"a dump takes longer than --watch {options.interval_s:g} s: {moment.skipped} left out until now"
            warn(Finding("watch", Severity.WARNING, message, "give --watch a longer time"))
        print_text(LINES[options.output_format](moment))

    yield show, lambda until: _sleep(until, interrupts)


def _sleep(until: float, interrupts: Interrupts) -> bool:
    interrupts.check()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))
        interrupts.check()
    return True


@contextmanager
def _on_screen(options: WatchOptions, interrupts: Interrupts) -> Iterator[tuple[Show, Wait]]:
    """Draw a table on the whole terminal, which keys sort; at the end the report of the last dump stays there."""
    from rich.text import Text

    from connbench.commands.screen import Screen
    from connbench.inspect.report import text
    from connbench.inspect.watch import ENDS, View

    view = View(options.interval_s)

    def draw(width: int, height: int) -> RenderableType:
        drawn = Text(no_wrap=True, overflow="crop")
        for line, style in view.lines(width, height):
            drawn.append(line, style).append("\n")
        return drawn

    with Screen() as screen:

        def show(moment: Moment) -> None:
            view.moment = moment
            screen.show(draw)

        def wait(until: float) -> bool:
            while key := screen.wait(until, interrupts):
                if key == ENDS:
                    return False
                view.press(key)
                screen.show(draw)
            return True

        yield show, wait
    if view.moment:
        print_text(text(view.moment.inspection, width(), bold=can_be_bold()))

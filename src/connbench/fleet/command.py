"""`connbench fleet`, and `connbench agent`, which it starts on each host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from connbench.commands import gates
from connbench.commands.messages import (
    can_be_bold,
    exit_code,
    print_error,
    print_message,
    print_text,
    warn_of_invalid,
    width,
)
from connbench.commands.options import (
    TIMEOUT,
    fail_if_option,
    force_option,
    format_option,
    page_option,
    quiet_option,
    save_option,
)
from connbench.commands.reports import content_of, report_of
from connbench.commands.result_writer import (
    Stdout,
    check_page,
    each,
    format_of_result,
    print_written,
    reserve,
    write_page,
)
from connbench.commands.run import request_of
from connbench.commands.sections import Command, Group, Section, option
from connbench.commands.values import Word, count
from connbench.errors import ConnbenchError, ExitCode, Interrupted, RunFault, UsageError
from connbench.path_conditions import FAIL_IF, parse_condition
from connbench.report.formats import FLEET_FORMATS, Format
from connbench.report.libraries import require
from connbench.thresholds import Expression, Threshold, check_names

if TYPE_CHECKING:
    from connbench.fleet.hosts import Hosts
    from connbench.interrupts import Interrupts


@click.group("fleet", cls=Group, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Measure on many hosts, over ssh, apart or together, and compare them.

    Each host needs connbench, or, with --push, Python alone. No port listens and no daemon runs for it: connbench
    fleet starts connbench agent there, over ssh as you have configured it.
    """
    if context.invoked_subcommand is None:
        raise UsageError(f"fleet needs a subcommand: {', '.join(command.commands)}", "connbench fleet --help")


@command.command("merge", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False), metavar="FILE...")
@save_option("Save the fleet to FILE (.json, .json.gz, .csv or .parquet).")
@option(
    Section.INPUT,
    "--together",
    is_flag=True,
    help="Report the hosts as measuring at the same time.  [default: if their --start-at is the same]",
)
@force_option
@option(Section.OUTPUT, "-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def merge(files: tuple[Path, ...], output: Path | None, *, together: bool, force: bool, quiet: bool) -> int:
    """Make one fleet file of the result files of several hosts.

    FILE is a file that `connbench run -o` wrote on a host, or a fleet file. A host has its hostname as its name; if
    several files have the same hostname, or a file has none, the name of the file.

    \b
      connbench fleet merge web1.json.gz web2.json.gz -o fleet.json.gz
    """  # noqa: D301  # click wants the character \b itself
    if output is None:
        raise UsageError("fleet merge needs a file to write", "name it: -o fleet.json.gz")
    _check_once(files)

    from connbench.fleet.merge import merge as merge_results
    from connbench.results.input_file import LARGEST_FILE, read_any

    form = format_of_result(output)
    file = reserve(output, force=force)
    fleet, messages = merge_results([read_any(one) for one in files], is_together=together)
    messages += _lacking(form, fleet.is_together)
    if not quiet:
        for message in messages:
            print_message(message)
    content = content_of(fleet, form)
    if len(content) > LARGEST_FILE:
        raise UsageError(
            f"the fleet takes {len(content) / 1e9:.1f} GB, and connbench reads files of up to {LARGEST_FILE >> 30} GiB",
            "merge the files of fewer hosts, or of fewer rounds",
        )
    failures = each(lambda: file.save(content))
    if not failures and not quiet:
        hosts = f"{len(fleet.hosts)} host{'s' * (len(fleet.hosts) > 1)}"
        print_written(f"wrote {file.shown}, {hosts}")
    return exit_code(failures, is_invalid=False)


def _lacking(form: str | None, is_together: bool) -> list[str]:
    """What a file of this form lacks of a fleet."""
    if form in {None, "json"} or not is_together:
        return []
    return [f"a .{form} file does not say that the hosts measured at the same time: a .json.gz does"]


hosts_option = option(
    Section.HOSTS,
    "-w",
    "--hosts",
    "host_set",
    required=True,
    metavar="SET",
    help="Use these hosts: a set of ClusterShell's, as in web[1-8],db1, or a group, as in @edge.",
)
via_option = option(
    Section.HOSTS,
    "--via",
    type=Word(["ssh", "netns"]),
    default="ssh",
    show_default=True,
    metavar="WAY",
    help="Reach the hosts by ssh, as you have configured it, or as network namespaces of this machine by their names "
    "(netns).",
)
fanout_option = option(
    Section.HOSTS,
    "--fanout",
    type=count(low=1, high=10_000),
    default=64,
    show_default=True,
    help="Keep at most N hosts busy at the same time.",
)
timeout_option = option(
    Section.HOSTS,
    "--timeout",
    "timeout_s",
    type=TIMEOUT,
    default="30s",
    show_default=True,
    help="Give up a host that is not ready after this time, or says nothing for so long. A number alone is in seconds.",
)
python_option = option(
    Section.HOSTS,
    "--python",
    metavar="PATH",
    default="",
    help="Start connbench over there with this Python.  [default: connbench, as a shell there finds it; with --via "
    "netns this Python]",
)
push_option = option(
    Section.HOSTS,
    "--push",
    is_flag=True,
    help="Give the hosts this connbench, which stays in memory there: they need Python 3.11 and nothing else.",
)
HOST_OPTIONS = (hosts_option, via_option, fanout_option, timeout_option, python_option)
"""The options that say which hosts, and how to reach them."""

RUN_EPILOG = """\b
Try:
  connbench fleet run -w 'web[1-8]' -o fleet.json.gz -- --strategy range
  connbench fleet run -w 'client[1-6]' --together -- --target lb:443 \\
    --allow-remote --strategy early,range"""


@command.command("run", cls=Command, epilog=RUN_EPILOG, params=[*HOST_OPTIONS, push_option])
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS...]")
@option(
    Section.PLACE,
    "--together",
    is_flag=True,
    help="Begin each round of each strategy at the same instant on all hosts.  [default: each host by itself]",
)
@option(
    Section.PLACE,
    "--allow-missing",
    type=count("K"),
    default=0,
    show_default=True,
    help="Measure without up to K hosts that are not ready.",
)
@save_option("Save what all hosts measured to FILE (.json, .json.gz, .csv or .parquet) at the end.")
@page_option
@format_option(tuple(FLEET_FORMATS))
@fail_if_option()
@force_option
@quiet_option
@click.pass_obj
def run(  # noqa: PLR0913, PLR0917  # one for each option
    interrupts: Interrupts,
    /,
    options: tuple[str, ...],
    host_set: str,
    via: str,
    fanout: int,
    timeout_s: float,
    python: str,
    push: bool,
    together: bool,
    allow_missing: int,
    output: Path | None,
    page: Path | None,
    output_format: str,
    thresholds: tuple[Expression, ...],
    force: bool,
    quiet: bool,
) -> int:
    """Measure on many hosts, and report them side by side.

    OPTIONS are those of connbench run. Apart, each host measures by itself, as fast as it can; --together lets all
    begin each round of each strategy at the same instant. No host begins before all are ready.
    """
    asked = request_of(options, "connbench fleet run")
    if together and asked.start_at_us is not None:
        raise UsageError("--together and --start-at both say when a turn begins", "leave out --start-at")
    FLEET_FORMATS[output_format].check(output_format)
    hosts = _hosts(host_set, via, fanout, timeout_s, python, push=push)
    is_default = click.get_current_context().get_parameter_source("fanout") is ParameterSource.DEFAULT
    if together and is_default:
        hosts = replace(hosts, fanout=len(hosts.names))

    from connbench.fleet.controller import FleetRequest, check, run_fleet
    from connbench.fleet.display import watcher_of
    from connbench.results.fleet_file import Fleet

    request = FleetRequest(hosts, options, together, allow_missing)
    check(request)
    form = format_of_result(output) if output else None
    file = reserve(output, force=force) if output else None
    for message in _lacking(form, together) if not quiet else ():
        print_message(message)
    page_file = check_page(page, force=force) if page else None

    watcher = watcher_of(quiet=quiet, is_terminal=sys.stderr.isatty())

    def say_stopping() -> None:
        watcher.clear()
        print_message("stopping: connbench fetches what was measured; a second signal ends it at once")

    if sys.stderr.isatty():
        interrupts.on_stop = say_stopping
    outcome = run_fleet(request, watcher, interrupts)

    # What was measured is saved and printed, whatever went wrong with other hosts.
    fleet = Fleet(outcome.records, together)
    stopped = [outcome.stopped] if outcome.stopped else []
    lost = [(one.name, one.fault) for one in fleet.hosts if one.fault and not one.left_out]
    if not fleet.results:
        return exit_code([*_of_hosts(outcome.failed or (() if stopped else lost)), *stopped], is_invalid=False)
    report = report_of(fleet, 0.0)
    stdout = Stdout()
    written = each(
        lambda: file.save(content_of(fleet, form)) if file and form else None,
        lambda: stdout.print(report.write(output_format, thresholds).rstrip("\n")),
        lambda: write_page(report.results, page_file, report.tables(), report.opening()) if page_file else None,
        lambda: check_names(thresholds, [spec for result in fleet.results for spec in result.specs], "this run"),
    )
    gate = gates.conclude([fleet], thresholds)
    by_signal = isinstance(outcome.stopped, Interrupted)  # then it is the fault of each host, too
    faults = _of_hosts([(name, fault) for name, fault in lost if not (by_signal and isinstance(fault, Interrupted))])
    return exit_code(
        [*stdout.failures, *written, *faults, *stopped], gate, is_invalid=warn_of_invalid(fleet, output_format)
    )


MOST_FAULTS = 5
"""Different faults of hosts that are printed."""


def _of_hosts(faults: Sequence[tuple[str, ConnbenchError]]) -> list[ConnbenchError]:
    """The faults of hosts, each with the names of the hosts that have it; that of the first host comes last.

    What to do about it is said of the first of them: it may have the host's name in it.
    """
    from connbench.fleet.controller import names_of

    by_fault: dict[tuple[type[ConnbenchError], str], tuple[str, list[str]]] = {}
    for name, fault in faults:
        kind = RunFault if isinstance(fault, Interrupted) else type(fault)
        by_fault.setdefault((kind, fault.message), (fault.hint, []))[1].append(name)
    shown = list(by_fault.items())[:MOST_FAULTS]
    named = [kind(f"{names_of(names)}: {message}", hint) for (kind, message), (hint, names) in shown]
    rest = len(faults) - sum(len(names) for _, (_, names) in shown)
    more = (
        [RunFault(f"{rest} more hosts failed, each in its own way", "connbench fleet check shows them")] if rest else []
    )
    return [*more, *named[::-1]]


CHECK_FORMATS = {
    "text": Format("connbench.fleet.checking_report", "text"),
    "json": Format("connbench.fleet.checking_report", "json", is_document=True),
}
"""Of the checks of a fleet."""


@command.command("check", cls=Command, params=[*HOST_OPTIONS, push_option])
@format_option(tuple(CHECK_FORMATS))
@click.pass_obj
def check(
    interrupts: Interrupts,
    /,
    *,
    output_format: str,
    **reached: Any,  # noqa: ANN401  # the values of HOST_OPTIONS
) -> int:
    """Check whether each host can measure.

    A row has the versions of a host, the verdict of connbench doctor there, and how far its clock is from this
    machine's. The exit code is 4 if a host cannot do a full run or does not answer, 3 if its figures would not be
    sound, else 0.

    \b
      connbench fleet check -w 'web[1-8]'
      connbench fleet check -w 'web[1-8]' --push --python /usr/bin/python3.11
    """  # noqa: D301  # click wants the character \b itself
    hosts = _hosts(**reached)

    from connbench.fleet.checking import check_everywhere
    from connbench.fleet.checking_report import exit_code as code_of

    found = check_everywhere(hosts, interrupts)
    of_text = {"width": width(), "bold": can_be_bold()} if output_format == "text" else {}
    print_text(CHECK_FORMATS[output_format](found, **of_text).rstrip("\n"))
    return code_of(found)


INSPECT_FORMATS = {
    "text": Format("connbench.fleet.inspections_report", "text"),
    "json": Format("connbench.fleet.inspections_report", "json", is_document=True),
    "csv": Format("connbench.fleet.inspections_report", "csv", is_document=True),
    "markdown": Format("connbench.fleet.inspections_report", "markdown"),
    "prometheus": Format("connbench.fleet.inspections_report", "prometheus", is_document=True),
    "openmetrics": Format("connbench.fleet.inspections_report", "openmetrics", is_document=True),
}
"""Of the inspections of a fleet."""


@command.command("inspect", cls=Command, params=[*HOST_OPTIONS])
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS...]")
@option(
    Section.OUTPUT,
    "--top",
    type=count(low=0, high=1_000_000),
    default=20,
    show_default=True,
    help="Show the N fullest paths of all hosts; 0 shows all.",
)
@option(
    Section.GATE,
    FAIL_IF,
    "thresholds",
    multiple=True,
    type=parse_condition,
    metavar="EXPR",
    help="Exit with code 1 if this is true on a path of a host, as in 'used > 80%'. Repeatable.",
)
@option(
    Section.GATE,
    "--allow-missing",
    type=count("K"),
    default=0,
    show_default=True,
    help="Exit with 6 only if more than K hosts have not answered.",
)
@format_option(tuple(INSPECT_FORMATS))
def inspect(  # one for each option
    options: tuple[str, ...],
    *,
    top: int,
    thresholds: tuple[Threshold, ...],
    allow_missing: int,
    output_format: str,
    **reached: Any,  # noqa: ANN401  # the values of HOST_OPTIONS
) -> int:
    """Show how full the ports of each host are, by target.

    The fullest path of all hosts comes first. OPTIONS go to connbench inspect on the hosts.

    \b
      connbench fleet inspect -w 'web[1-8]'
      connbench fleet inspect -w '@edge' --fail-if 'used > 80%'
      connbench fleet inspect -w 'web[1-8]' -- --all-netns
    """  # noqa: D301  # click wants the character \b itself
    hosts = _hosts(**reached)

    from connbench.fleet.inspections import check_options, inspect_everywhere

    check_options(options)
    fleet = inspect_everywhere(hosts, options, thresholds, top)
    of_text = {"width": width(), "bold": can_be_bold()} if output_format == "text" else {}
    print_text(INSPECT_FORMATS[output_format](fleet, **of_text).rstrip("\n"))
    if gates.in_github_actions():
        gates.add_to_summary([INSPECT_FORMATS["markdown"](fleet)])
    gates.announce(fleet.failures)
    for one in fleet.lost:
        if one.fault:
            print_error(one.fault)
    if len(fleet.lost) > allow_missing or not fleet.answered:
        return ExitCode.FAULT
    return ExitCode.THRESHOLD if fleet.failures else ExitCode.OK


def _hosts(host_set: str, via: str, fanout: int, timeout_s: float, python: str, *, push: bool = False) -> Hosts:
    """The hosts that the options name.

    Raises:
        EnvironmentFault: ClusterShell is not installed.
        UsageError: They name none.
    """
    check_extra()
    from connbench.fleet.archive import make_archive
    from connbench.fleet.hosts import Hosts, Via, parse_hosts

    return Hosts(parse_hosts(host_set), Via(via), fanout, timeout_s, python, make_archive() if push else b"")


def check_extra() -> None:
    """Check that ClusterShell is installed.

    Raises:
        EnvironmentFault: It is not.
    """
    require("ClusterShell", "connbench fleet")


def _check_once(files: tuple[Path, ...]) -> None:
    """Refuse a file that is given twice, under two names too; a file that does not exist is refused once it is read."""
    seen: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            found = file.stat()
        except (OSError, ValueError):
            continue
        key = found.st_dev, found.st_ino
        if key in seen:
            same = "" if seen[key] == file else f", as {seen[key]} is the same file"
            raise UsageError(f"{file} is given twice{same}", "give each file once")
        seen[key] = file


@click.command("agent", cls=Command)
@click.pass_obj
def agent(interrupts: Interrupts, /) -> int:
    """Measure for connbench fleet on this host: it reads orders on stdin, and answers on stdout.

    connbench fleet starts it; there is no other use for it. It ends within 5 seconds once its stdin ends, and leaves
    nothing behind.
    """
    from connbench.fleet.agent import Agent

    return Agent(interrupts).serve()

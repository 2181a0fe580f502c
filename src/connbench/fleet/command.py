"""`connbench fleet`, and `connbench agent`, which it starts on each host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbench.commands.messages import exit_code, print_message
from connbench.commands.options import FILE, force_option
from connbench.commands.result_writer import each, print_written, reserve
from connbench.commands.sections import Command, Group, Section, option
from connbench.errors import UsageError

if TYPE_CHECKING:
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
@option(
    Section.OUTPUT,
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    help="Save the fleet to FILE (.json, .json.gz or .csv).",
)
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
    from connbench.report.formats import FLEET_FORMATS
    from connbench.results.input_file import read_any
    from connbench.results.output_file import format_of

    form = format_of(output)
    file = reserve(output, force=force)
    fleet, messages = merge_results([read_any(one) for one in files], is_together=together)
    if form == "csv" and fleet.is_together:
        messages.append("a CSV does not say that the hosts measured at the same time: a .json.gz does")
    if not quiet:
        for message in messages:
            print_message(message)
    failures = each(lambda: file.save(FLEET_FORMATS[form](fleet)))
    if not failures and not quiet:
        hosts = f"{len(fleet.hosts)} host{'s' * (len(fleet.hosts) > 1)}"
        print_written(f"wrote {file.shown}, {hosts}")
    return exit_code(failures, is_invalid=False)


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

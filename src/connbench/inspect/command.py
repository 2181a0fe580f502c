"""`connbench inspect`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from connbench.commands.messages import print_text, width
from connbench.commands.sections import Command, Section, option
from connbench.commands.values import count
from connbench.errors import ExitCode

if TYPE_CHECKING:
    from connbench.inspect.snapshot import Snapshot

MOST_ROWS = 1_000_000


@click.command("inspect", cls=Command)
@option(
    Section.OUTPUT,
    "--top",
    type=count(low=0, high=MOST_ROWS),
    default=20,
    show_default=True,
    help="Show the N paths with the most ports in use; 0 shows all.",
)
def command(*, top: int) -> int:
    """Show how full each port space of this host is, and what the next connect() costs.

    \b
      connbench inspect

    A port serves one connection of each path: source, target and target port. inspect reads the sockets of this network
    namespace from the kernel, and counts the ports in use on each path. It needs no root, and changes nothing.
    """  # noqa: D301  # click wants the character \b itself
    from connbench.inspect.inspection import inspect
    from connbench.inspect.report import text

    print_text(text(inspect([_read_live()], top or None), width()))
    return ExitCode.OK


def _read_live() -> Snapshot:
    from connbench.inspect.snapshot import Snapshot
    from connbench.inspect.sock_diag import dump_sockets, read_settings

    begun = time.monotonic()
    settings, sockets = read_settings(), dump_sockets()
    return Snapshot(sockets, settings, seconds=time.monotonic() - begun, taken_at=begun)

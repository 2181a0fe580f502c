"""`connbench fleet`, and `connbench agent`, which it starts on each host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from connbench.commands.sections import Command, Group

if TYPE_CHECKING:
    from connbench.interrupts import Interrupts


@click.group("fleet", cls=Group)
def command() -> None:
    """Measure on many hosts, over ssh, apart or together, and compare them.

    Each host needs connbench, or, with --push, Python alone. No port listens and no daemon runs for it: connbench
    fleet starts connbench agent there, over ssh as you have configured it.
    """


@click.command("agent", cls=Command)
@click.pass_obj
def agent(interrupts: Interrupts, /) -> int:
    """Measure for connbench fleet on this host: it reads orders on stdin, and answers on stdout.

    connbench fleet starts it; there is no other use for it. It ends within 5 seconds once its stdin ends, and leaves
    nothing behind.
    """
    from connbench.fleet.agent import Agent

    return Agent(interrupts).serve()

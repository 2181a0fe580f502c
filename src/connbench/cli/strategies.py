"""`connbench strategies`."""

from __future__ import annotations

import platform

import click

from connbench.linux.sockopts import is_supported
from connbench.strategies import STRATEGIES, Strategy


@click.command("strategies")
def command() -> None:
    """List the strategies, and whether this kernel has what they need."""
    click.echo(f"Linux {platform.release()}")
    width = max(map(len, STRATEGIES))
    for strategy in STRATEGIES.values():
        click.echo(f"{strategy.name:{width}}  {_state(strategy):3}  {strategy.summary}")
        for option in strategy.needs:
            if not is_supported(option):
                click.echo(f"{'':{width}}       needs {option.name}: Linux {option.since}")


def _state(strategy: Strategy) -> str:
    return "yes" if all(map(is_supported, strategy.needs)) else "no"

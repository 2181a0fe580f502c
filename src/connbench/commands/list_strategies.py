"""`connbench strategies`."""

from __future__ import annotations

import json
import platform

import click

from connbench.commands.options import format_option
from connbench.commands.sections import Command
from connbench.errors import ExitCode
from connbench.linux.sockopts import SocketOption, is_supported, options_of
from connbench.strategies import PARAMETERS, STRATEGIES, Strategy

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""


@click.command("strategies", cls=Command)
@format_option(("text", "json"))
def command(output_format: str) -> int:
    """List the strategies, and whether this kernel has the socket options that they need."""
    if output_format == "json":
        document = {
            "schema": SCHEMA,
            "kernel": platform.release(),
            "strategies": [_record(strategy) for strategy in STRATEGIES.values()],
        }
        click.echo(json.dumps(document, indent=2))
        return ExitCode.OK
    click.echo(f"Linux {platform.release()}")
    width = max(map(len, STRATEGIES))
    for strategy in STRATEGIES.values():
        click.echo(f"{strategy.name:{width}}  {'yes' if _is_supported(strategy) else 'no':3}  {strategy.summary}")
        for option in options_of(strategy):
            if not is_supported(option):
                click.echo(f"{'':{width}}       needs {option.name}: Linux {option.since}")
    return ExitCode.OK


def _record(strategy: Strategy) -> dict[str, object]:
    return {
        "name": strategy.name,
        "summary": strategy.summary,
        "is_supported": _is_supported(strategy),
        "needs": [_option(option) for option in options_of(strategy)],
        "takes": sorted(name.removeprefix("--") for parameter in strategy.takes for name in PARAMETERS[parameter]),
    }


def _option(option: SocketOption) -> dict[str, object]:
    return {"name": option.name, "since_linux": option.since, "is_supported": is_supported(option)}


def _is_supported(strategy: Strategy) -> bool:
    return all(map(is_supported, options_of(strategy)))

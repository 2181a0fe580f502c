"""`connbench doctor`."""

from __future__ import annotations

import click

from connbench.errors import ExitCode
from connbench.model import DEFAULT_RANGE_LOW, MAX_PORT, PortRange


@click.command("doctor")
def command() -> int:
    """Check beforehand whether a full run here would be sound.

    Prints the environment that is recorded with every result, then each check. Exit code 0 only if all that a full run
    over 9024-65535 needs is there, 3 otherwise.
    """
    from connbench.linux import sysctl  # noqa: PLC0415  # commands load what they use
    from connbench.linux.namespace import best_available  # noqa: PLC0415  # as above

    namespace, reason = best_available()

    from connbench.host import checks, environment  # noqa: PLC0415  # as above

    for name, value in environment.collect().items():
        _print_fact(name, value)
    click.echo()
    results = checks.check_all(
        namespace,
        reason,
        PortRange(DEFAULT_RANGE_LOW, MAX_PORT),
        int(sysctl.read(sysctl.SOMAXCONN)),
    )
    for check in results:
        click.echo(f"{check.verdict:4}  {check.name}: {check.message}")
        if check.advice:
            click.echo(f"      -> {check.advice}")
    sound = all(check.verdict is not checks.Verdict.FAIL for check in results)
    click.echo("\na full run here would be sound" if sound else "\na full run here would not be sound")
    return ExitCode.OK if sound else ExitCode.UNSOUND


def _print_fact(name: str, value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _print_fact(key, item)
    else:
        click.echo(f"{name}: {_words(name, value)}")


def _words(name: str, value: object) -> str:
    from connbench.units import IN_BYTES, memory  # noqa: PLC0415  # commands load what they use

    if value is None:
        return "not readable"
    return memory(value) if name in IN_BYTES and isinstance(value, int) else str(value)

"""The command line: parse, call, print, exit code. Commands are loaded when used, so that `--help` is quick."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Never

import click

import connbench
from connbench.cli.messages import complain, discard_stdout
from connbench.cli.sections import Group
from connbench.errors import ConnbenchError, EnvironmentFault, ExitCode, OutputError, UsageError
from connbench.interrupts import Interrupts
from connbench.linux.limits import OUT_OF_RESOURCES
from connbench.linux.shortage import way_out

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "run": "Open N connections with each strategy, and time every connect().",
    "sweep": "Measure combinations of settings and loads; name the cheapest.",
    "reproduce": "Measure what the talk measured; say which claims hold here.",
    "report": "Print result files, as text or for other programs.",
    "compare": "Tell what changed from one result file to another.",
    "predict": "Predict what a run would measure; check a result against it.",
    "advise": "Say which strategy keeps your connections fast, with the code.",
    "plot": "Draw charts of result files, as pictures or in the terminal.",
    "strategies": "List the strategies; say which of them this kernel can run.",
    "doctor": "Check whether a full run on this machine would be sound.",
    "serve": "Accept and hold connections: a target for run --target.",
    "trace": "Watch every connect() on this machine: latency, parity, offsets.",
    "completion": "Print the script that completes connbench in bash, zsh or fish.",
}
"""Name and help line: the modules of these names are imported only when their command is used."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


class LazyGroup(Group):
    """A group whose commands live in modules of their own under `connbench.cli`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order they are taught."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module; None for an unknown name."""
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"connbench.cli.{name}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands, likewise, and the options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only a completion needs it

        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


EPILOG = """\b
Exit codes: 0 done; 1 a --fail-if condition is true; 2 wrong usage; 3 the
measurement is not sound (see the findings); 4 this machine or user cannot do
it; 5 fault of the listener or target; 6 fault during the run; 7 the output
cannot be written; 8 a result file cannot be read; 130 Ctrl-C; 143 SIGTERM."""


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(connbench.__version__, "-V", "--version", message="connbench %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure what connect() costs with each ephemeral-port strategy, by port parity, on your own kernel.

    \b
    Try:
      connbench run --strategy window --window 500
      connbench run --port-range 20000-29999 --rounds 3 -o result.json
    """  # noqa: D301  # click wants the character \b itself
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> Never:
    """Entry point of the `connbench` command."""
    _mend_standard_streams()
    # numpy's OpenBLAS starts threads as it is loaded, and raises SIGINT where it may not. Nothing here needs them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    interrupts = Interrupts()
    interrupts.install()
    sys.exit(_run(arguments, interrupts))


def _mend_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: else the next file opened would take its place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # lives with the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # as above


def _run(arguments: list[str] | None, interrupts: Interrupts) -> int:
    try:
        if sys.platform != "linux":
            raise EnvironmentFault(
                f"connbench measures the Linux kernel, and this is {sys.platform}",
                "run it on Linux, in a virtual machine for instance",
            )
        result: Any = cli.main(arguments, prog_name="connbench", standalone_mode=False, obj=interrupts)
    except click.ClickException as error:
        complain(UsageError(error.format_message(), "connbench --help"))
        return ExitCode.USAGE
    except ConnbenchError as error:
        complain(error)
        return error.exit_code
    except OSError as error:
        return _give_in(error)
    except SystemExit:
        # click's way of saying that the reader of our output has left, as in `| head`: nobody is there to be told.
        discard_stdout()
        return ExitCode.OK
    return int(result or ExitCode.OK)


def _give_in(error: OSError) -> int:
    """Exit code for what the system refused: a resource, or the output; anything else is a bug, and raised."""
    if error.errno in OUT_OF_RESOURCES:
        fault: ConnbenchError = EnvironmentFault(
            f"this machine has no room for the run: {error.strerror}", way_out(error.errno)
        )
    elif error.errno in UNWRITABLE:
        discard_stdout()
        fault = OutputError(f"the output cannot be written: {error.strerror}", "send it elsewhere")
    else:
        raise error
    complain(fault)
    return fault.exit_code

"""The command line: parse, call, print, exit code. Commands are loaded when used, so that `--help` is quick."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any, Never

import click

import connbench
from connbench.cli.messages import complain, discard_stdout
from connbench.errors import ConnbenchError, EnvironmentFault, ExitCode, OutputError, UsageError
from connbench.interrupts import Interrupts
from connbench.linux.limits import OUT_OF_RESOURCES

COMMANDS = {
    "run": "Open N sockets with each strategy, time every connect(), summarise per port parity.",
    "sweep": "Run every combination of settings and loads, and name the cheapest setting.",
    "reproduce": "Measure what the talk measured, beside its figures, and say what holds here.",
    "report": "Print result files, as text or for other programs.",
    "compare": "Tell what changed from one result file to another, and how sure that is.",
    "predict": "Say what a run would come to, or lay that over what it came to.",
    "advise": "Say which strategy, window or number of sources keeps so many connections quick.",
    "plot": "Draw charts of result files, as pictures or in the terminal.",
    "strategies": "List the strategies, and whether this kernel has what they need.",
    "doctor": "Check beforehand whether a full run here would be sound.",
    "serve": "Listen, accept and hold connections: a target for run --target.",
    "trace": "Watch every connect() of this machine in the kernel: latency, parity, offsets.",
}
"""Name and help line: the modules of these names are imported only when their command is used."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


class LazyGroup(click.Group):
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


EPILOG = """\b
Exit codes: 0 done; 1 a --fail-if came true; 2 wrong usage; 3 measured, but
not soundly (see the findings); 4 this machine or user cannot; 5 listener or
target; 6 a fault in mid-run; 7 the output; 8 a result file cannot be read;
130 Ctrl-C; 143 SIGTERM."""


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(connbench.__version__, message="connbench %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """What each ephemeral-port strategy costs connect(), per port parity, on your own kernel.

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
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "connbench"
        complain(UsageError(error.format_message(), f"{command} --help"))
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
            f"this machine has no room for the run: {error.strerror}", "raise RLIMIT_NOFILE (ulimit -n), or free memory"
        )
    elif error.errno in UNWRITABLE:
        discard_stdout()
        fault = OutputError(f"the output cannot be written: {error.strerror}", "send it elsewhere")
    else:
        raise error
    complain(fault)
    return fault.exit_code

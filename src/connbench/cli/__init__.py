"""The command line: parse, call, print, exit code. Commands are loaded when used, so that `--help` is quick."""

from __future__ import annotations

import errno
import signal
import sys
from importlib import import_module
from typing import Any, Never

import click

import connbench
from connbench.cli.messages import complain
from connbench.errors import ConnbenchError, EnvironmentFault, ExitCode, Interrupted, UsageError

COMMANDS = {
    "run": "Open N sockets with each strategy, time every connect(), summarize per port parity.",
    "strategies": "List the strategies, and whether this kernel has what they need.",
    "doctor": "Check beforehand whether a full run here would be sound.",
}
"""Name and help line: the modules of these names are imported only when their command is used."""


OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


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
Exit codes: 0 done; 2 wrong usage; 3 measured, but not soundly (see the findings);
4 this machine or user cannot; 5 listener or target; 6 a fault in mid-run;
7 the output file; 130 Ctrl-C; 143 SIGTERM."""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(connbench.__version__, message="connbench %(version)s")
def cli() -> None:
    r"""What each ephemeral-port strategy costs connect(), per port parity, on your own kernel.

    \b
    Try:
      connbench run --strategy window --window 500
      connbench run -n 10000 --rounds 3 -o result.json
    """


def _interrupt(number: int, _frame: object) -> Never:
    raise Interrupted(number)


def main(arguments: list[str] | None = None) -> Never:
    """Entry point of the `connbench` command."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        if sys.platform != "linux":
            raise EnvironmentFault(
                f"connbench measures the Linux kernel, and this is {sys.platform}",
                "run it on Linux, in a virtual machine for instance",
            )
        result: Any = cli.main(arguments, prog_name="connbench", standalone_mode=False)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        complain(UsageError(error.format_message(), f"{command or 'connbench'} --help"))
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.INTERRUPTED
    except ConnbenchError as error:
        complain(error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has left, as in `| head`: nobody to tell, and nothing went wrong.
        sys.stdout = None  # keeps the interpreter from flushing into the broken pipe
        return ExitCode.OK
    except OSError as error:
        if error.errno not in OUT_OF_RESOURCES:
            raise
        complain(
            EnvironmentFault(
                f"this machine has no room for the run: {error.strerror}", "raise RLIMIT_NOFILE, or free memory"
            )
        )
        return ExitCode.ENVIRONMENT
    return int(result or ExitCode.OK)

"""The command line: parse, call, print, exit code. A command is loaded when it is used, so that `--help` is quick."""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Never

import click

import connbench
from connbench.commands.messages import discard_stdout, print_error
from connbench.commands.sections import Group
from connbench.errors import (
    INTERRUPTIONS,
    ConnbenchError,
    EnvironmentFault,
    ExitCode,
    Interrupted,
    OutputError,
    UsageError,
    is_debugging,
)
from connbench.interrupts import Interrupts
from connbench.linux.faults import fault_of
from connbench.linux.limits import check_address_space

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "inspect": "Show how full this host's ports are, by target, right now.",
    "profile": "Show what each strategy costs as the port range fills, in seconds.",
    "run": "Open N connections with each strategy, and time every connect().",
    "sweep": "Measure combinations of settings and loads; name the cheapest.",
    "reproduce": "Repeat the measurements of a talk; say which claims hold here.",
    "report": "Print result files, as text or for other programs.",
    "compare": "Compare two result files: what became slower, what faster.",
    "calibrate": "Measure what a port costs on this machine, for predict and advise.",
    "predict": "Predict what a run would measure; check a result against it.",
    "advise": "Name the strategy that keeps connections fast, with its code.",
    "plot": "Draw charts of result files, as pictures or in the terminal.",
    "strategies": "List the strategies, and which of them this kernel supports.",
    "doctor": "Check whether a full run on this machine gives sound figures.",
    "serve": "Accept and hold connections: a target for run --target.",
    "trace": "Watch every connect() on this machine: latency, parity, offsets.",
    "fleet": "Measure on many hosts over ssh, apart or together; compare them.",
    "agent": "Measure for connbench fleet on this host, over stdin and stdout.",
    "completion": "Print the script that completes connbench in bash, zsh or fish.",
}
"""Name and help line of each command; its module is imported when the command is used."""

FEATURES = {"advise", "calibrate", "fleet", "inspect", "reproduce", "serve", "trace"}
"""Commands that have a folder of their own; the others are modules of `connbench.commands`."""

OTHERS = {"agent": "fleet"}
"""Commands that are a function of the same name in a feature's `command` module, by the feature."""

MODULES = {"report": "show", "strategies": "list_strategies"}
"""Modules of `connbench.commands` whose command has another name."""

WITHOUT_LIBRARIES = {"strategies", "serve", "completion"}
"""Commands that load neither numpy nor a library that draws."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


class LazyGroup(Group):
    """A group that imports the module of a command when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The names, in the order in which a user needs the commands."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command, from its module; None for an unknown name."""
        if name not in COMMANDS:
            return None
        if name not in WITHOUT_LIBRARIES:
            check_address_space()
        if name in OTHERS:
            other: click.Command = getattr(import_module(f"connbench.{OTHERS[name]}.command"), name)
            return other
        place = f"{name}.command" if name in FEATURES else f"commands.{MODULES.get(name, name)}"
        command: click.Command = import_module(f"connbench.{place}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin with a text, without importing the commands."""
        from click.shell_completion import CompletionItem  # only a completion needs it

        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


EPILOG = """\b
Exit codes: 0 done; 1 a --fail-if condition is true; 2 wrong usage; 3 the
measurement is not sound (see the findings); 4 this machine or user cannot do
it; 5 fault of the listener or target; 6 fault during the run; 7 the output
cannot be written; 8 a result file cannot be read; 70 a bug in connbench;
129 SIGHUP; 130 Ctrl-C (SIGINT); 131 SIGQUIT; 143 SIGTERM."""


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(connbench.__version__, "-V", "--version", message="connbench %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure how long connect() takes with each way to choose a local port, on your own kernel.

    Linux searches the ports of one parity (even or odd) first. When they are used up, each further connect() to the
    same address and port probes all of them before it tries the other half, which takes up to milliseconds. connbench
    shows when that happens, and which strategies avoid it.

    \b
    Try:
      connbench profile
      connbench run --strategy window --window 500
      connbench run --port-range 20000-29999 --rounds 3 -o result.json
    """  # noqa: D301  # click wants the character \b itself
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None, interrupts: Interrupts | None = None) -> Never:
    """Entry point of the command line; ends the process.

    Args:
        arguments: The arguments after `connbench`; None for those of this process.
        interrupts: The handler of signals, if it is installed already.
    """
    if interrupts is None:
        interrupts = Interrupts()
        interrupts.install()
    _mend_standard_streams()
    # numpy's OpenBLAS starts threads when it is loaded, and raises SIGINT if it cannot. connbench needs none of them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not is_debugging():
        _silence_libraries()
    try:
        code = _run(arguments, interrupts)
    except Interrupted as late:  # a second signal, raised while the first one ended the command
        code = late.exit_code
    sys.exit(interrupts.release(code))


def _silence_libraries() -> None:
    """Hide the warnings of Python's libraries, and exceptions that no code can catch, from the user."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: sys.__unraisablehook__(unraisable) if is_debugging() else None


def _mend_standard_streams() -> None:
    """Open /dev/null for stdin, stdout or stderr if it is closed; the next file opened would take its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # lives with the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # as above


def _run(arguments: list[str] | None, interrupts: Interrupts) -> int:
    """Run the command, and print what went wrong; the exit code."""
    try:
        try:
            interrupts.check()
            interrupts.immediate = True  # before anything is measured, there is nothing to lose
            code = int(_invoke(arguments, interrupts) or ExitCode.OK)
        finally:
            interrupts.immediate = False
        sys.stdout.flush()
        if code not in INTERRUPTIONS:
            interrupts.check()  # a signal that came after the command's last check
    except SystemExit:
        # click raises this when the reader of stdout has left, as in `| head`: no message could reach anybody.
        discard_stdout()
        return 128 + interrupts.number if interrupts.is_pending else ExitCode.OK
    except Exception as error:  # noqa: BLE001  # the one place that catches every exception
        fault = _fault(error, interrupts)
        print_error(fault)
        return fault.exit_code
    return code


def _invoke(arguments: list[str] | None, interrupts: Interrupts) -> Any:  # noqa: ANN401  # click's
    if sys.platform != "linux":
        raise EnvironmentFault(
            f"connbench measures the Linux kernel, and this is {sys.platform}",
            "run it on Linux, in a virtual machine for instance",
        )
    return cli.main(arguments, prog_name="connbench", standalone_mode=False, obj=interrupts)


def _fault(error: Exception, interrupts: Interrupts) -> ConnbenchError:
    """The fault to print for an exception."""
    if interrupts.is_pending and not isinstance(error, Interrupted):
        # A signal that interrupts a library can leave it as any exception.
        interrupts.is_pending = False
        return Interrupted(interrupts.number)
    match error:
        case click.ClickException():
            return UsageError(error.format_message(), "connbench --help")
        case OSError(errno=number) if number in UNWRITABLE or hasattr(error, "characters_written"):
            discard_stdout()
            if interrupts.number == signal.SIGHUP:  # the terminal is gone, so it takes no output
                return Interrupted(signal.SIGHUP)
            return OutputError(f"the output cannot be written: {error.strerror}", "send it elsewhere")
    interrupts.is_pending = False
    return fault_of(error)

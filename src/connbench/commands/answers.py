"""Commands that another program asks: a fault is an answer on stdout, too, with an exit code that the program knows.

That of kselftest is here: https://docs.kernel.org/dev-tools/kselftest.html. `connbench inspect` answers Nagios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import click
from click.core import ParameterSource

from connbench.commands.messages import print_error, print_text
from connbench.commands.sections import Command, Option, Section, option
from connbench.errors import INTERRUPTIONS, ConnbenchError, EnvironmentFault, ExitCode, Interrupted, UsageError
from connbench.linux.faults import fault_of

KSELFTEST = "--kselftest"
KTAP = "ktap"

_IS_ASKED, _HAS_FAILED = "connbench.kselftest", "connbench.kselftest.failed"
"""Keys of a context's meta."""


class Kselftest(IntEnum):
    """The exit codes of kselftest (tools/testing/selftests/kselftest.h) that connbench has a use for."""

    PASS = 0
    FAIL = 1
    SKIP = 4


@contextmanager
def answering(answer: Callable[[ConnbenchError], int], *, is_asked: bool) -> Iterator[None]:
    """A context in which a fault, if that is asked for, is an answer; a signal stays a signal.

    Args:
        answer: Prints the answer for a fault on stdout; returns the exit code.
        is_asked: Whether faults are answers.

    Raises:
        click.exceptions.Exit: With that exit code.
    """
    try:
        yield
    except (Interrupted, click.exceptions.Exit):
        raise
    except Exception as error:
        if not is_asked:
            raise
        fault = fault_of(error)
        code = answer(fault)
        print_error(fault)
        raise click.exceptions.Exit(code) from error


def _answer_of_kselftest(fault: ConnbenchError) -> int:
    """Print a test that is skipped if this machine cannot make it, and else one that failed."""
    from connbench.report.ktap import failed_document, skipped_document  # loads numpy

    is_skip = isinstance(fault, EnvironmentFault)
    print_text((skipped_document if is_skip else failed_document)(fault.message).rstrip("\n"))
    return Kselftest.SKIP if is_skip else Kselftest.FAIL


class TestedCommand(Command):
    """A command that takes --kselftest."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        with answering(_answer_of_kselftest, is_asked=KSELFTEST in args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; with --kselftest it prints KTAP, and its exit code is one of `Kselftest`, or of a signal."""
        if not ctx.meta.get(_IS_ASKED):
            return super().invoke(ctx)
        with answering(_answer_of_kselftest, is_asked=True):
            if ctx.get_parameter_source("output_format") is ParameterSource.COMMANDLINE:
                asked = ctx.params["output_format"]
                if asked != KTAP:
                    raise UsageError(f"{KSELFTEST} prints {KTAP}, not {asked}", "leave out --format")
            ctx.params["output_format"] = KTAP
            code = super().invoke(ctx)
        if code in INTERRUPTIONS:
            return code
        is_passed = code == ExitCode.OK and not ctx.meta.get(_HAS_FAILED)
        return Kselftest.PASS if is_passed else Kselftest.FAIL


def noted(document: str) -> str:
    """A KTAP document, as it is; with --kselftest the command fails if one of its tests does."""
    context = click.get_current_context(silent=True)
    if context and "\nnot ok " in document:
        context.meta[_HAS_FAILED] = True
    return document


def _ask(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # click's
    if value:
        context.meta[_IS_ASKED] = True


kselftest_option: Option = option(
    Section.GATE,
    KSELFTEST,
    is_flag=True,
    expose_value=False,
    callback=_ask,
    help=f"Print {KTAP}, and end with the exit codes of kselftest: 0 for pass, 1 for fail, and 4 for skip, if this "
    "machine, kernel or user cannot do it.",
)

"""The commands and options of the command line: help that lists options by section, and errors with a hint."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, Never, TypeVar

import click

from connbench.errors import DEBUG, UsageError, suggest

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Section(Enum):
    """The sections of options, in the order of the help."""

    HOSTS = "Hosts"
    OPEN = "What to open"
    INPUT = "What to read"
    DRAW = "What to draw"
    LEVELS = "Levels"
    PORTS = "Ports and addresses"
    LOAD = "Load"
    KERNEL = "Kernel and costs"
    PLACE = "Where it runs"
    TRACE = "How to trace"
    WATCH = "How to watch"
    OUTPUT = "Output"
    GATE = "Gate"
    OTHER = "Other"


class Option(click.Option):
    """An option with its section, and the names it had in earlier releases, which the help does not list."""

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        section: Section,
        former: tuple[str, ...] = (),
        **attributes: Any,  # noqa: ANN401  # click's
    ) -> None:
        super().__init__(names, **attributes)
        self.section = section
        self.former = former

    def __call__(self, function: _Function) -> _Function:
        """Decorate a command, as what `click.option` returns does."""
        return click.option(*self.opts, cls=lambda *_names, **_attributes: self)(function)  # type: ignore[arg-type]  # a class that has one instance

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ANN401  # click's type of a parser is private
        """Let the command line name it by each of its names."""
        present = self.opts
        self.opts = [*present, *self.former]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = present


def option(section: Section, *names: str, **attributes: Any) -> Option:  # noqa: ANN401  # click's
    """An option in a section of the help: for a command's list of parameters, or to decorate the command with."""
    return Option(names, section=section, **attributes)


def _set_debugging(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # click's
    if value:
        os.environ[DEBUG] = "1"


DEBUG_OPTION = Option(
    ("--debug",),
    section=Section.OTHER,
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debugging,
    help=f"Print the traceback, too, after a bug or a lack of memory. {DEBUG}=1 does the same.",
)

_UNBREAKABLE = str.maketrans(" -", "\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}")
_BREAKABLE = str.maketrans("\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}", " -")
_ONE_PIECE = re.compile(r"(?<=[ (])'[^']+'|\[default: [^\s\]]+\]|\S+-\S+")


def _unbroken(text: str) -> str:
    """A text in which wrapping does not break quotations, defaults of one word, or words with a hyphen."""
    return _ONE_PIECE.sub(lambda found: found[0].translate(_UNBREAKABLE), text)


LONGEST_NAME = 26
"""Columns for an option and its value; a longer one gets a line of its own."""


class _Sectioned(click.Command):
    """Lists options by section, in columns of the same width, and adds hints to click's errors."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: An argument or option is wrong.
        """
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _with_hint(error, ctx) from error

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its parameters, with --debug, which every command has."""
        *own, help_option = super().get_params(ctx)
        return [*own, DEBUG_OPTION, help_option]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list for each section that has options."""
        sections: dict[Section, list[tuple[str, str]]] = {section: [] for section in Section}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):  # the text above explains the arguments
                sections[getattr(parameter, "section", Section.OTHER)].append(record)
        names = [name for records in sections.values() for name, _ in records]
        width = max((len(name) for name in names if len(name) <= LONGEST_NAME), default=0)
        for section, records in sections.items():
            if records:
                is_alone = len(records) == len(names)
                with formatter.section("Options" if is_alone else section.value):
                    formatter.write_dl([(f"{name:{width}}", _unbroken(text)) for name, text in records], col_max=width)
        for place, written in enumerate(formatter.buffer):
            formatter.buffer[place] = written.translate(_BREAKABLE)


class Command(_Sectioned):
    """A command that says what to write instead of a surplus argument."""

    allow_extra_args = True  # `_fail` below has the better message

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: There is a surplus argument.
        """
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            self._fail(ctx, ctx.args[0])
        return rest

    def _fail(self, ctx: click.Context, word: str) -> Never:
        from connbench.strategies import STRATEGIES

        names = set(word.split(","))
        takes_strategies = any("--strategy" in parameter.opts for parameter in self.params)
        hint = f"write --strategy {word}" if takes_strategies and names <= set(STRATEGIES) else _usage(ctx)
        raise UsageError(f"the argument {word!r}{_for(ctx)} is one too many", hint)


class Group(_Sectioned, click.Group):
    """A group that suggests the nearest command for an unknown one."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Raises:
            UsageError: There is no command of this name.
        """
        name = args[0]
        if not (ctx.resilient_parsing or name.startswith("-")) and self.get_command(ctx, name) is None:
            raise UsageError(f"there is no command {name!r}{_for(ctx)}", suggest(name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def _with_hint(error: click.UsageError, context: click.Context) -> UsageError:
    """The error that click found, with a hint."""
    options = {name: one for one in context.command.get_params(context) for name in one.opts if name.startswith("-")}
    match error:
        case click.NoSuchOption(option_name=name):
            hint = suggest(name, options, otherwise=_help(context))
            return UsageError(f"there is no option {name}{_for(context)}", hint)
        case click.BadOptionUsage(option_name=name) if name in (options := options | _former_names(context)):
            option = options[name]
            if getattr(option, "is_flag", False):
                return UsageError(f"{name} takes no value", f"write {name} alone")
            examples = getattr(option.type, "examples", ()) or getattr(option.type, "choices", ())
            such = f", as in {name} {examples[0]}" if examples else ""
            return UsageError(f"{name} needs a value", f"write {name} {_metavar(option)}{such}")
        case click.MissingParameter(param=click.Option() as missing):
            return UsageError(
                f"{missing.opts[-1]} is missing{_for(context)}", f"give {missing.opts[0]} {_metavar(missing)}"
            )
        case click.MissingParameter(param=click.Parameter() as missing):
            return UsageError(f"{_metavar(missing)} is missing{_for(context)}", _usage(context))
    return UsageError(error.format_message().rstrip("."), _help(context))


def _former_names(context: click.Context) -> dict[str, click.Parameter]:
    return {name: one for one in context.command.get_params(context) for name in getattr(one, "former", ())}


def _for(context: click.Context) -> str:
    """` for COMMAND`; empty for connbench itself, whose name begins the line anyway."""
    _, _, command = context.command_path.partition(" ")
    return f" for {command}" if command else ""


def _metavar(parameter: click.Parameter) -> str:
    return (
        parameter.metavar
        or str(parameter.name if isinstance(parameter, click.Argument) else parameter.type.name).upper()
    ).strip("[]")


def _help(context: click.Context) -> str:
    return f"{context.command_path} --help lists what there is"


def _usage(context: click.Context) -> str:
    return "write " + " ".join((context.command_path, *context.command.collect_usage_pieces(context)))

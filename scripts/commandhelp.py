"""What the help of the commands says, for the pages that are made from it: man pages and the reference of the site."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from connbench.commands.sections import Section

VERBATIM = "\b"
"""click's mark for a paragraph whose lines stay as they are."""


def below(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """The commands below a group, in the order of its help; none below another command."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield found, click.Context(found, parent=context, info_name=name)


def sections(command: click.Command, context: click.Context) -> Iterator[tuple[Section, list[tuple[str, str]]]]:
    """The sections of a command's help that have options: of each option its names and its text."""
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    for section in Section:
        records = [one.get_help_record(context) for one in options if getattr(one, "section", Section.OTHER) is section]
        if shown := [record for record in records if record]:
            yield section, shown


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """The paragraphs of a help text, and whether the lines of each stay as they are; others are one line."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        first, *rest = paragraph.strip("\n").splitlines()
        if first.strip() == VERBATIM:
            yield True, "\n".join(rest)
        else:
            yield False, " ".join(line.strip() for line in (first, *rest))

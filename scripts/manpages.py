"""Writes connbench's man pages and completions below `share/`, as an installation has them: `make man`.

The pages are made from the commands' own help, so that there is no second text. A wheel takes what is in `share/` when
it is built; `make dist` and debian/rules write it first. The folder is not committed.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import connbench
from commandhelp import below, paragraphs, sections
from connbench.commands import COMMANDS, EPILOG, cli
from connbench.commands.completion import SHELLS, completion_script

SHARE = Path(__file__).parents[1] / "share"
PLACES = {
    "bash": "bash-completion/completions/connbench",
    "zsh": "zsh/site-functions/_connbench",
    "fish": "fish/vendor_completions.d/connbench.fish",
}
"""Where each shell looks for the completions of installed programs, below the `share` folder of the installation."""


def pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """The man pages of a command and of its commands: names without the section, and the texts in roff."""
    yield context.command_path.replace(" ", "-"), "\n".join(_page(command, context)) + "\n"
    for one, inner in below(command, context):
        yield from pages(one, inner)


def _page(command: click.Command, context: click.Context) -> Iterator[str]:
    path = context.command_path
    title = path.replace(" ", "-")
    text = _short(command, context)
    yield f'.TH {_roff(title.upper())} 1 "" "connbench {connbench.__version__}" "connbench"'
    yield f".SH NAME\n{_roff(title)} \\- {_roff(text[:1].lower() + text[1:].rstrip('.'))}"
    yield f".SH SYNOPSIS\n.B {_roff(path)}\n{_roff(' '.join(command.collect_usage_pieces(context)))}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help or "")
    yield ".SH OPTIONS"
    for section, records in sections(command, context):
        yield f".SS {_roff(section.value)}"
        for names, of_option in records:
            yield f".TP\n.B {_roff(names)}\n{_roff(of_option)}"
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for one, inner in below(command, context):
            yield f".TP\n.B {_roff(str(inner.info_name))}\n{_roff(_short(one, inner))}"
    yield ".SH EXIT STATUS"
    yield from _paragraphs(EPILOG.replace("\b\n", ""))
    yield ".SH SEE ALSO"
    related = [context.parent.command_path.replace(" ", "-")] if context.parent else [f"{title}-{n}" for n in COMMANDS]
    yield " ,\n".join(f".BR {_roff(name)} (1)" for name in related)


def _short(command: click.Command, context: click.Context) -> str:
    """The help line of a command: of connbench's own commands the one that `connbench --help` lists."""
    is_own = context.parent is not None and context.parent.parent is None
    return COMMANDS[str(context.info_name)] if is_own else command.get_short_help_str(limit=1000)


def _paragraphs(text: str) -> Iterator[str]:
    for place, (is_verbatim, paragraph) in enumerate(paragraphs(text)):
        if place:  # the first one stands below its heading
            yield ".PP"
        lines = [_roff(line) for line in paragraph.splitlines()]
        yield from [".nf", *lines, ".fi"] if is_verbatim else lines


def _roff(text: str) -> str:
    """A text that roff prints as it is: a hyphen stays the one of ASCII, and no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return re.sub(r"^([.'])", r"\\&\1", escaped)


def main() -> int:
    """Write the pages and the completions."""
    shutil.rmtree(SHARE, ignore_errors=True)
    manual = SHARE / "man" / "man1"
    manual.mkdir(parents=True)
    for name, text in pages(cli, click.Context(cli, info_name="connbench")):
        (manual / f"{name}.1").write_text(text, encoding="utf-8")
    for shell in SHELLS:
        path = SHARE / PLACES[shell]
        path.parent.mkdir(parents=True)
        path.write_text(completion_script(cli, shell) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

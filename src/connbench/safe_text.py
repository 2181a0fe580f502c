"""Text that is safe to print: without control characters, commands to a CI runner, or a spreadsheet's formulas.

Result files, names of strategies and messages of other programs may contain any of these.
"""

from __future__ import annotations

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Replaces a character that is not printed."""

_NAME, _RUNNER = "[0-9a-f]*[g-z_-]", r"\[|vso\[|teamcity\["
_COMMAND = re.compile(rf"(:):(?={_NAME})|(#)#(?={_RUNNER})", re.IGNORECASE)
"""The beginning of a command to a CI runner.

GitHub obeys `::name ...::` at the start of a line, also behind blanks, and `##[name ...]` anywhere in a line
(ActionCommand.cs of actions/runner); Azure Pipelines obeys `##vso[`, TeamCity `##teamcity[`. An IPv6 address does not
match: the name of a command has a character that is not a hexadecimal digit.
"""

_AT_START = re.compile(rf"(?m:^)( *:):(?={_NAME})|(#)#(?={_RUNNER})", re.IGNORECASE)
_SUSPECT = re.compile(r"[^\x20-\x7e\n]|::|##")
_HIDDEN_BUT_COLOUR = re.compile(r"\x1b\[[0-9;]*m|[^\x20-\x7e\n]")
_NO_JSON_ASCII = re.compile(r"(?<=#)#|[^\x20-\x7e\n]")

FORMULA = ("=", "+", "-", "@", "\t", "'")
"""The first characters of a formula in a spreadsheet, and the one that `csv_cell` adds."""


def printable(text: str) -> str:
    """Text of one line from a file, without control characters and without commands to a CI runner.

    `REPLACEMENT` replaces each control character, and one character of each command.
    """
    shown = text if text.isprintable() else "".join(c if c.isprintable() else REPLACEMENT for c in text)
    return _COMMAND.sub(_broken, shown) if "::" in shown or "##" in shown else shown


def printable_lines(text: str) -> str:
    """Lines for a terminal, a pipe or a log: of control characters only line feeds and colours, and no commands."""
    return _AT_START.sub(_broken, _HIDDEN_BUT_COLOUR.sub(_shown, text)) if _SUSPECT.search(text) else text


def _broken(found: re.Match[str]) -> str:
    return (found[1] or found[2]) + REPLACEMENT


def _shown(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 or found[0].isprintable() else REPLACEMENT


def printable_json(document: str) -> str:
    """The same JSON, with escapes for unprintable characters and for commands to a CI runner."""
    if document.isascii() and "##" not in document and "\x7f" not in document:
        return document  # a quick test first: the document may hold a million attempts
    return _NO_JSON_ASCII.sub(_escaped, document)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character != "#" and character.isprintable():
        return character
    in_utf16 = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{in_utf16[at]:02x}{in_utf16[at + 1]:02x}" for at in range(0, len(in_utf16), 2))


def csv_cell(text: str) -> str:
    """Text as one line that no spreadsheet takes for a formula.

    An apostrophe marks it as text, as OWASP advises against CSV injection. A row has no line break, so that a million
    of them can be read quickly.
    """
    words = text.replace("\r", " ").replace("\n", " ")
    return f"'{words}" if words.startswith(FORMULA) else words

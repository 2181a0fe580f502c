"""The pages of the documentation, their blocks of code, and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}

PROGRAMS = "connbench|make|ss"
"""Lines of code that begin with one of these are commands. `sudo connbench trace` needs rights that not every machine
gives: tests/cli/test_trace.py runs it. The kernel lab has tests of its own."""


def code_of(page: str) -> list[str]:
    """The lines of a page's code blocks: of fenced ones, and of indented ones without the indentation."""
    text = PAGES[page]
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = [
        re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?<=\n\n)(?:    .*\n)+", text)
    ]
    return "".join(fenced + indented).splitlines()


def commands_of(page: str) -> list[str]:
    """The commands of a page, and of the CI job in it. Lines are joined as a shell and YAML join them."""
    text = re.sub(r" *\\\n +", " ", "\n".join(code_of(page)) + "\n")
    text = re.sub(r" *- run: >-\n((?: {10}.*\n)+)", lambda block: f"{' '.join(block[1].split())}\n", text)
    return re.findall(rf"^(?:\$ )?((?:{PROGRAMS}) .*?)(?: +#.*)?$", text, re.MULTILINE)


def commands_on_hosts() -> list[str]:
    """The commands that need several hosts, or a file of them: all of the page of many hosts but its own runs."""
    return [
        *(command for command in commands_of("many-hosts.md") if not command.startswith("connbench run")),
        *(command for page in PAGES for command in commands_of(page) if re.search(r"\bfleet\b", command)),
    ]

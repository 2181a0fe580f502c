"""Builds the documentation as a site: `make docs`. Fails for a page without a place, and for a dead link.

The site is README and docs/ as they are, with the changelog, SECURITY.md and CONTRIBUTING.md, and a page for each
command that is made from its own help. The pages keep their places to each other, so that a link works here and on
GitHub. Nothing is loaded from elsewhere: pages, search and fonts work without a network, also from a folder of files.

usage: documentation.py [FOLDER]    default: build/site
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from urllib.parse import unquote, urlsplit

import click

import connbench
from commandhelp import below, paragraphs, sections
from connbench.commands import COMMANDS, cli

ROOT = Path(__file__).parents[1]

CHAPTERS = {
    "Is it my problem?": ("inspect", "trace", "strategies"),
    "What helps": ("advise", "../examples/README", "predict"),
    "Measure": (
        "install",
        "profile",
        "measure",
        "load",
        "sweep",
        "real-targets",
        "behind-a-nat",
        "many-hosts",
        "contention",
    ),
    "Compare and share": ("compare", "kernels", "ci", "files", "formats", "reproduce"),
    "How it works": ("how-connect-picks-a-port",),
    "Reference": ("../commands/index", "figures", "glossary", "exit-codes", "reliability"),
    "About connbench": ("../CHANGELOG", "../SECURITY", "../CONTRIBUTING"),
}
"""The pages in the order of the menu, as seen from docs/."""

STYLE = """
article img[src$=".png"] { background: #fff; }
.sidebar-brand-text { font-size: 1.3rem; }
article table.docutils { font-size: 0.9rem; }
article p > img { display: inline-block; vertical-align: top; }
"""
"""Charts have a white ground in the dark, too; the two of README stand side by side."""

SETTINGS = {
    "project": "connbench",
    "html_title": f"connbench {connbench.__version__}",
    "extensions": ["myst_parser"],
    "myst_enable_extensions": ["deflist"],
    "myst_heading_anchors": 4,
    "html_theme": "furo",
    "html_css_files": ["connbench.css"],
    "html_static_path": ["_static"],
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "pygments_style": "friendly",
    "pygments_dark_style": "monokai",
    "highlight_language": "none",
    "smartquotes": False,  # `--option` keeps both of its hyphens
    "nitpicky": True,
    "suppress_warnings": ["misc.highlighting_failure"],  # an example of JSON that `...` shortens
}


def command_pages() -> dict[str, str]:
    """The text of a page for each command, by its name."""
    of_all = click.Context(cli, info_name="connbench")
    return {str(context.info_name): "\n".join(_describe(one, context, "#")) for one, context in below(cli, of_all)}


def _describe(command: click.Command, context: click.Context, heading: str) -> Iterator[str]:
    yield f"{heading} {context.command_path}\n"
    for is_verbatim, text in paragraphs(command.help or ""):
        yield f"```\n{dedent(text)}\n```\n" if is_verbatim else f"{_plain(text)}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{context.command_path} {usage}\n```\n"
    for section, records in sections(command, context):
        yield f"{heading}# {section.value}\n"
        for names, text in records:
            yield f"`{names}`\n: {_plain(text)}\n"
    for one, inner in below(command, context):
        yield from _describe(one, inner, f"{heading}#")


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, but for words in backticks."""
    return "`".join(
        part if place % 2 else re.sub(r"([\\*_{}\[\]<>#~|$@^])", r"\\\1", part)
        for place, part in enumerate(text.split("`"))
    )


def write_sources(folder: Path) -> None:
    """Write all pages below a folder, as they lie in the project, and the menu into the first one."""
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("CHANGELOG", "SECURITY", "CONTRIBUTING"):
        shutil.copy(ROOT / f"{name}.md", folder)
    commands = folder / "commands"
    commands.mkdir()
    pages = command_pages()
    rows = "".join(f"- [connbench {name}]({name}.md): {_plain(COMMANDS[name])}\n" for name in pages)
    menu = "\n".join(("```{toctree}", ":hidden:", "", *pages, "```"))
    (commands / "index.md").write_text(f"# Commands\n\n{rows}\n{menu}\n", encoding="utf-8")
    for name, text in pages.items():
        (commands / f"{name}.md").write_text(text, encoding="utf-8")
    menus = [
        "\n".join(("```{toctree}", ":hidden:", f":caption: {chapter}", "", *(_place(page) for page in pages), "```\n"))
        for chapter, pages in CHAPTERS.items()
    ]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text("\n".join((readme, *menus)), encoding="utf-8")
    settings = "".join(f"{name} = {value!r}\n" for name, value in SETTINGS.items())
    (folder / "conf.py").write_text(settings, encoding="utf-8")
    (folder / "_static").mkdir()
    (folder / "_static" / "connbench.css").write_text(STYLE, encoding="utf-8")


def _place(page: str) -> str:
    return page.removeprefix("../") if page.startswith("../") else f"docs/{page}"


class _Page(HTMLParser):
    """What a page names, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.names |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag == "link" and found.get("rel") not in {"canonical", "next", "prev", "index", "search"}:
            self.loaded.add(found.get("href", ""))
        self.loaded |= {found["src"]} if "src" in found else set()
        self.loaded |= {one.split()[0] for one in found.get("srcset", "").split(",") if one.strip()}


def dead_links(site: Path) -> list[str]:
    """The links of a site that lead nowhere within it, and what its pages load from elsewhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        shown = path.relative_to(site)
        for link in sorted(page.links | page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                found += [f"{shown} loads {link}"] if link in page.loaded and parts.scheme != "data" else []
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_named = target not in pages or unquote(parts.fragment) in {"", *pages[target].names}
            if not target.is_file() or not is_named:
                found.append(f"{shown}: there is no {link}")
    return found


def build(site: Path) -> list[str]:
    """Build the site anew in a folder; return what is wrong with it.

    Raises:
        OSError: The folder cannot be written.
    """
    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        source.mkdir()
        write_sources(source)
        sphinx = [sys.executable, "-m", "sphinx", "-q", "--color" if sys.stderr.isatty() else "--no-color"]
        command = [*sphinx, "-W", "--keep-going", "-d", f"{scratch}/doctrees", str(source), str(site)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        wrong = built.stderr.replace(f"{source}/", "").splitlines()
        if built.returncode and not site.is_dir():
            return wrong
        for picture in (*source.glob("docs/*.png"), *source.glob("docs/*.svg")):
            if not (site / "docs" / picture.name).exists():  # what HTML in a page names
                shutil.copy(picture, site / "docs")
    (site / "objects.inv").unlink()
    return wrong + dead_links(site.resolve())


def main() -> int:
    """Build the site, and say what is wrong with it."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    wrong = build(site)
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{site}: {len(list(site.rglob('*.html')))} pages, begin with index.html")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

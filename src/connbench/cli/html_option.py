"""The option --html: one page of results, checked before anything is read or measured, and written at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbench.cli.sections import Section, option

if TYPE_CHECKING:
    from connbench.report.html.page import Opening
    from connbench.report.rows import Block
    from connbench.results.result import Result

ENDINGS = {".html": "html", ".htm": "html"}
OPTION = "--html"

page_option = option(
    Section.OUTPUT,
    OPTION,
    "page",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Write one HTML page of all results to FILE (.html). It opens in any browser, also offline.",
)


def check_page(page: Path, *, force: bool) -> None:
    """Make sure that the page can be made and written.

    Raises:
        UsageError: Another ending than .html.
        OutputError: The folder is missing or not writable, or the file exists and `force` is not given.
        EnvironmentFault: The libraries are not installed.
    """
    from connbench.report.html.page import check_libraries  # noqa: PLC0415  # commands load what they use
    from connbench.results.files import check_output  # noqa: PLC0415  # as above

    check_output(page, force=force, suffixes=ENDINGS, option=OPTION)
    check_libraries()


def write_page(
    results: Sequence[Result], page: Path, more: Sequence[Block] = (), opening: Opening | None = None
) -> None:
    """Write the page, with `more` before all other tables, and say so on stderr.

    The page begins with `opening`; without one with the verdict of each run and its chart.

    Raises:
        OutputError: It cannot be written.
    """
    from connbench.report.html.page import html_page  # noqa: PLC0415  # commands load what they use
    from connbench.results.files import write_atomically  # noqa: PLC0415  # as above

    text = html_page(results, more, opening)
    write_atomically(page, text, option=OPTION)
    click.echo(f"wrote {page}, {len(text.encode()) / 1e6:.1f} MB", err=True)

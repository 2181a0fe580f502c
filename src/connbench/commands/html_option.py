"""The option --html: one page of results, checked before anything is read or measured, and written at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbench.commands.result_writer import reserve, say_written
from connbench.commands.sections import Section, option

if TYPE_CHECKING:
    from connbench.report.html.page import Opening
    from connbench.report.rows import Block
    from connbench.results.output_file import Output
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


def check_page(page: Path, *, force: bool) -> Output:
    """Make sure that the page can be made and written, and reserve its name.

    Raises:
        UsageError: Another ending than .html.
        OutputError: The folder is missing or not writable, or the file exists and `force` is not given.
        EnvironmentFault: The libraries are not installed.
    """
    from connbench.report.html.page import check_libraries
    from connbench.results.output_file import format_of

    format_of(page, ENDINGS, OPTION)
    check_libraries()
    return reserve(page, force=force, option=OPTION)


def write_page(
    results: Sequence[Result], page: Output, more: Sequence[Block] = (), opening: Opening | None = None
) -> None:
    """Write the page, with `more` before all other tables, and say so on stderr.

    The page begins with `opening`; without one with the verdict of each run and its chart.

    Raises:
        OutputError: It cannot be written.
    """
    from connbench.report.html.page import html_page

    data = html_page(results, more, opening).encode()
    page.save(data)
    say_written(f"wrote {page.shown}, {len(data) / 1e6:.1f} MB")

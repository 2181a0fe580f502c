"""The formats of results, sweeps and comparisons: a row for each.

A new format of a result is a function that makes text of it, in a module of its own or beside the report's blocks, and
a row here. The writers of blocks are `text.py`, `markdown.py` and `html/page.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from connbench.report.libraries import require


@dataclass(frozen=True, slots=True)
class Format:
    """Where the function is that makes the text; its module is loaded once it is called.

    Attributes:
        module: The module of the function that makes the text.
        function: Its name; it takes a result, and returns the text with a line break at its end or without.
        is_document: Whether the text is one document for other programs, so that two of them in a row are none.
        library: The library of an extra that makes it; empty if it takes none.
    """

    module: str
    function: str
    is_document: bool = False
    library: str = ""

    def check(self, name: str) -> None:
        """Check that the library of this format is installed, before anything is measured for it.

        Raises:
            EnvironmentFault: It is not.
        """
        if self.library:
            require(self.library, f"--format {name}")

    def __call__(self, *subject: Any, **options: Any) -> str:  # noqa: ANN401  # what the function takes
        """The text."""
        return str(getattr(import_module(self.module), self.function)(*subject, **options))


FORMATS = {
    "text": Format("connbench.report.run_report", "text"),
    "talk": Format("connbench.report.talk", "talk"),
    "json": Format("connbench.report.json", "json_document", is_document=True),
    "csv": Format("connbench.results.csv_file", "csv_rows", is_document=True),
    "talk-csv": Format("connbench.results.talk_csv", "talk_rows", is_document=True),
    "markdown": Format("connbench.report.run_report", "markdown"),
    "prometheus": Format("connbench.report.prometheus", "prometheus", is_document=True, library="prometheus_client"),
    "openmetrics": Format("connbench.report.prometheus", "openmetrics", is_document=True, library="prometheus_client"),
    "gobench": Format("connbench.report.benchmarks", "gobench", is_document=True),
    "bmf": Format("connbench.report.benchmarks", "bmf", is_document=True),
    "benchmark-action": Format("connbench.report.benchmarks", "benchmark_action", is_document=True),
    "hgrm": Format("connbench.report.hdr", "hgrm", is_document=True, library="hdrh"),
    "hlog": Format("connbench.report.hdr", "hlog", is_document=True, library="hdrh"),
    "ktap": Format("connbench.report.ktap", "ktap", is_document=True),
}
"""Of a result."""

PROFILE_FORMATS = {
    "text": Format("connbench.report.profile_report", "text"),
    "json": FORMATS["json"],
    "csv": FORMATS["csv"],
    "markdown": Format("connbench.report.profile_report", "markdown"),
    **{name: FORMATS[name] for name in ("gobench", "bmf", "benchmark-action", "hlog", "ktap")},
}
"""Of a profile: the other formats of a result describe a filling."""

SWEEP_FORMATS = {
    "text": Format("connbench.report.sweep_report", "text"),
    "markdown": Format("connbench.report.sweep_report", "markdown"),
    "json": Format("connbench.report.sweep_report", "json", is_document=True),
}
"""Of a sweep and its error budget, where the format has a place for the choice; it has the others as any result."""

FLEET_FORMATS = {
    "text": Format("connbench.report.fleet_report", "text"),
    "json": Format("connbench.report.fleet_report", "json_document", is_document=True),
    "csv": Format("connbench.results.fleet_file", "fleet_rows", is_document=True),
    "markdown": Format("connbench.report.fleet_report", "markdown"),
    "prometheus": Format("connbench.report.prometheus", "fleet_prometheus", is_document=True),
    "openmetrics": Format("connbench.report.prometheus", "fleet_openmetrics", is_document=True),
    **{name: FORMATS[name] for name in ("gobench", "bmf", "benchmark-action", "hlog")},
    "ktap": Format("connbench.report.ktap", "fleet_ktap", is_document=True),
}
"""Of the results of several hosts: the talk's formats are of one."""

COMPARISON_FORMATS = {
    "text": Format("connbench.report.comparison_report", "text"),
    "markdown": Format("connbench.report.comparison_report", "markdown"),
    "json": Format("connbench.report.comparison_report", "json", is_document=True),
    "ktap": Format("connbench.report.ktap", "comparison_ktap", is_document=True),
}
"""Of a comparison of two results."""

FLEET_COMPARISON_FORMATS = {
    "text": Format("connbench.report.fleet_report", "comparison_text"),
    "markdown": Format("connbench.report.fleet_report", "comparison_markdown"),
    "json": Format("connbench.report.fleet_report", "comparison_json", is_document=True),
    "ktap": Format("connbench.report.ktap", "fleet_comparison_ktap", is_document=True),
}
"""Of a comparison of the results of several hosts."""

OF_CONDITIONS = frozenset({"ktap"})
"""Formats whose functions take the conditions of --fail-if, too, as `thresholds`."""

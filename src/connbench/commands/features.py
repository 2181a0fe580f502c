"""The folders of the features: where their commands are, and the reports of what they measure.

The core never imports a feature. What a result's own feature adds to a report is found here, by the feature's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from connbench.findings import Finding
    from connbench.report.blocks import Table
    from connbench.report.html.page import Opening
    from connbench.results.result import Result

FEATURES = {"reproduce", "advise", "serve", "trace"}
"""Commands that have a folder of their own; the others are modules of `connbench.commands`."""

MODULES = {"report": "show", "strategies": "list_strategies"}
"""Modules of `connbench.commands` whose command has another name."""


class FeatureReport(Protocol):
    """The module `report` of a feature that makes results of its own.

    Attributes:
        FORMATS: A writer for each format of a result, by its name.
    """

    FORMATS: Mapping[str, Callable[[Result], str]]

    def report(self, result: Result, width: int | None = None, already_printed: Collection[Finding] = ()) -> str:
        """The text for a terminal of this width; findings in `already_printed` are left out."""

    def verdict(self, result: Result) -> Sequence[str]:
        """What a reader should take away, in sentences."""

    def tables(self, result: Result) -> list[Table]:
        """Its tables, for a page."""

    def opening(self, result: Result) -> Opening:
        """What the first screen of a page says and shows."""


def load_command(name: str) -> ModuleType:
    """The module that defines a command."""
    if name in FEATURES:
        return import_module(f"connbench.{name}.command")
    return import_module(f"connbench.commands.{MODULES.get(name, name)}")


def feature_report(result: Result) -> FeatureReport | None:
    """The report of the feature that made a result; None of a run or a sweep, which the core reports."""
    return cast("FeatureReport", import_module("connbench.reproduce.report")) if result.is_reproduction else None


def formats_of(result: Result) -> Mapping[str, Callable[[Result], str]]:
    """A writer for each format that a result can be printed and saved in, by its name."""
    from connbench.report.formats import FORMATS

    feature = feature_report(result)
    return feature.FORMATS if feature else FORMATS

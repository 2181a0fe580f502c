"""The report of a result, by what made it: `run`, `sweep`, or a feature that makes results of its own.

The core never imports a feature: `report_of` and `formats_of` find the feature's module `report` by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from connbench.commands.answers import noted
from connbench.commands.messages import can_be_bold, width
from connbench.errors import UsageError
from connbench.wording import listed

if TYPE_CHECKING:
    from connbench.findings import Finding
    from connbench.portmodel.variants import Variant
    from connbench.report.blocks import Table
    from connbench.report.html.page import Opening
    from connbench.results.fleet_file import Fleet
    from connbench.results.result import Result
    from connbench.thresholds import Expression


class FeatureModule(Protocol):
    """The module `report` of a feature that makes results of its own.

    Attributes:
        FORMATS: A writer for each format of a result, by its name.
    """

    FORMATS: Mapping[str, Callable[..., str]]

    def report(self, result: Result, width: int | None = None, already_printed: Collection[Finding] = ()) -> str:
        """The text for a terminal of this width; findings in `already_printed` are left out."""

    def verdict(self, result: Result) -> Sequence[str]:
        """What a reader should take away, in sentences."""

    def tables(self, result: Result) -> list[Table]:
        """Its tables, for a page."""

    def opening(self, result: Result) -> Opening:
        """What the first screen of a page says and shows."""


def _feature_of(result: Result) -> FeatureModule | None:
    """The module of the feature that made a result; None for the result of a run or a sweep."""
    return cast("FeatureModule", import_module("connbench.reproduce.report")) if result.is_reproduction else None


def formats_of(result: Result | Fleet) -> Mapping[str, Callable[..., str]]:
    """A writer for each format that a result or a fleet can be printed and saved in, by its name."""
    from connbench.analysis.levels import is_profile
    from connbench.report.formats import FLEET_FORMATS, FORMATS, PROFILE_FORMATS
    from connbench.results.fleet_file import Fleet

    if isinstance(result, Fleet):
        return FLEET_FORMATS
    feature = _feature_of(result)
    return feature.FORMATS if feature else PROFILE_FORMATS if is_profile(result) else FORMATS


def write_as(result: Result | Fleet, output_format: str, thresholds: Sequence[Expression] = ()) -> str:
    """A result or a fleet in a format that it has.

    Args:
        result: What was measured.
        output_format: A name of `formats_of`.
        thresholds: The conditions of --fail-if, for a format that shows their outcomes.
    """
    from connbench.report.formats import OF_CONDITIONS

    write = formats_of(result)[output_format]
    return noted(write(result, thresholds=thresholds)) if output_format in OF_CONDITIONS else write(result)


def content_of(result: Result | Fleet, file_format: str) -> str | bytes:
    """What a file of -o holds.

    Args:
        result: What was measured.
        file_format: A format of `connbench.results.output_file.SUFFIXES`.
    """
    from connbench.results.output_file import PARQUET

    if file_format != PARQUET:
        return formats_of(result)[file_format](result)
    from connbench.report.parquet import parquet

    return parquet(result)


@dataclass(frozen=True)
class RunReport:
    """The report of a run; base of the reports of other results.

    Attributes:
        result: What was measured.
        by_strategy: Whether to print the result as that of a run: strategy by strategy. A run always is.
    """

    result: Result
    by_strategy: bool = False

    @property
    def name(self) -> str:
        """The file that it was read from; empty for a run of this process."""
        return self.result.name

    @property
    def results(self) -> list[Result]:
        """The result, in a list."""
        return [self.result]

    def write(self, output_format: str, thresholds: Sequence[Expression] = ()) -> str:
        """The result in a format of `connbench.report.formats.FORMATS`; text fits the terminal."""
        from connbench.report import run_report

        if output_format == "text":
            return run_report.text(self.result, width(), bold=can_be_bold())
        return write_as(self.result, output_format, thresholds)

    def _text_by_strategy(self) -> str:
        """The result as a run, strategy by strategy, under its own verdict."""
        from connbench.report.blocks import Verdict
        from connbench.report.run_report import report_blocks
        from connbench.report.text import write

        return write([Verdict(self.verdict()), *report_blocks(self.result)], width(), bold=can_be_bold())

    def verdict(self) -> Sequence[str]:
        """What a reader should take away, in sentences."""
        from connbench.report.run_verdict import run_verdict

        return run_verdict(self.result)

    def tables(self) -> list[Table]:
        """The tables that a page shows before those of each strategy."""
        return []

    def opening(self) -> Opening:
        """What the first screen of a page says and shows."""
        from connbench.report.html.page import Opening

        return Opening(self.verdict())


@dataclass(frozen=True, kw_only=True)
class SweepReport(RunReport):
    """The report of a sweep. Text, Markdown and JSON name the cheapest setting; the other formats are those of a run.

    Attributes:
        budget: The error budget: the share of attempts that may fail at each load, 0 to 1.
        already_printed: Findings that the text leaves out.
    """

    budget: float
    already_printed: Collection[Finding] = ()

    def write(self, output_format: str, thresholds: Sequence[Expression] = ()) -> str:
        """The sweep in a format."""
        from connbench.report.formats import SWEEP_FORMATS

        if self.by_strategy and output_format == "text":
            return self._text_by_strategy()
        if self.by_strategy or output_format not in SWEEP_FORMATS:
            return super().write(output_format, thresholds)
        for_terminal = (width(), self.already_printed) if output_format == "text" else ()
        return SWEEP_FORMATS[output_format](self.result, self.budget, self._variants(), *for_terminal)

    def verdict(self) -> Sequence[str]:
        """The cheapest setting, and how a cheaper one would keep the budget."""
        from connbench.report.sweep_report import sentences

        return sentences(self.result, self.budget, self._variants())

    def tables(self) -> list[Table]:
        """Every setting at every load, and the cheapest settings; none if it is printed strategy by strategy."""
        from connbench.report.sweep_report import tables

        return [] if self.by_strategy else tables(self.result, self.budget)

    def _variants(self) -> tuple[Variant, ...]:
        return variants_of(self.result, self.budget)


@dataclass(frozen=True, kw_only=True)
class ProfileReport(RunReport):
    """The report of a profile.

    Attributes:
        is_wide: Whether its table has p99 and errors, too.
    """

    is_wide: bool = False

    def write(self, output_format: str, thresholds: Sequence[Expression] = ()) -> str:
        """The profile in a format.

        Raises:
            UsageError: It has no such format.
        """
        from connbench.report import profile_report
        from connbench.report.formats import PROFILE_FORMATS

        if self.by_strategy and output_format == "text":
            return self._text_by_strategy()
        if output_format == "text":
            return profile_report.text(self.result, width(), bold=can_be_bold(), is_wide=self.is_wide)
        if output_format == "markdown":
            return profile_report.markdown(self.result, is_wide=self.is_wide)
        if output_format not in PROFILE_FORMATS:
            raise UsageError(
                f"--format {output_format} describes a filling, and {self.result.name} is a profile",
                f"use {listed([*PROFILE_FORMATS], ' or ')}",
            )
        return super().write(output_format, thresholds)

    def verdict(self) -> Sequence[str]:
        """Where strategies turn slow, and what the others take."""
        from connbench.report.profile_report import verdict

        return verdict(self.result)

    def tables(self) -> list[Table]:
        """A row for each level, a column for each strategy."""
        from connbench.report.profile_report import tables

        return [replace(table, title="Levels") for table in tables(self.result, is_wide=self.is_wide)]

    def opening(self) -> Opening:
        """The verdict, under the names of the strategies."""
        from connbench.report.html.page import Opening

        settings = [strategy.strategy.setting for strategy in self.result.strategies]
        return Opening(self.verdict(), title=f"A profile of {listed(settings)}" if settings else "")


@dataclass(frozen=True, kw_only=True)
class FeatureReport(RunReport):
    """The report of a feature's result, made by the feature's own module."""

    feature: FeatureModule

    def write(self, output_format: str, thresholds: Sequence[Expression] = ()) -> str:
        """The result in a format."""
        if output_format == "text" and not self.by_strategy:
            return self.feature.report(self.result, width())
        return super().write(output_format, thresholds)

    def verdict(self) -> Sequence[str]:
        """What a reader should take away, in sentences."""
        return self.feature.verdict(self.result)

    def tables(self) -> list[Table]:
        """The feature's tables."""
        return self.feature.tables(self.result)

    def opening(self) -> Opening:
        """What the first screen of a page says and shows."""
        return self.feature.opening(self.result)


@dataclass(frozen=True, kw_only=True)
class FleetReport:
    """The report of several hosts.

    Attributes:
        fleet: What they measured.
        by_strategy: Whether to print each host's result as that of a run, one after the other.
        is_wide: Whether its tables have every host, or the slowest ones.
    """

    fleet: Fleet
    by_strategy: bool = False
    is_wide: bool = False

    @property
    def name(self) -> str:
        """The file that it was read from; empty for a run of this process."""
        return self.fleet.name

    @property
    def results(self) -> list[Result]:
        """Those of the hosts that measured something, with the names that the report has."""
        return self.short.results

    @property
    def short(self) -> Fleet:
        """The fleet, with names of hosts without the domain that all of them have."""
        from connbench.results.fleet_file import with_short_names

        return with_short_names(self.fleet)[0]

    def write(self, output_format: str, thresholds: Sequence[Expression] = ()) -> str:
        """The results of the hosts in a format.

        Raises:
            UsageError: They have no such format.
        """
        from connbench.report import fleet_report, run_report
        from connbench.report.formats import FLEET_FORMATS

        if output_format not in FLEET_FORMATS:
            raise UsageError(
                f"--format {output_format} is of one host, and {self.name or 'this'} is of several",
                f"use {listed([*FLEET_FORMATS], ' or ')}",
            )
        if output_format == "text" and self.by_strategy:
            texts = (f"==> {r.name} <==\n\n{run_report.text(r, width(), bold=can_be_bold())}" for r in self.results)
            return "\n\n".join(texts)
        if output_format == "text":
            return fleet_report.text(self.fleet, width(), bold=can_be_bold(), is_wide=self.is_wide)
        return write_as(self.fleet, output_format, thresholds)

    def verdict(self) -> Sequence[str]:
        """Which host is slow or ran out of ports, and why."""
        from connbench.report.fleet_report import verdict

        return verdict(self.short)

    def tables(self) -> list[Table]:
        """The tables of every strategy, with every host."""
        from connbench.report.fleet_report import tables

        return tables(self.fleet)

    def opening(self) -> Opening:
        """The verdict, under the strategies and the number of hosts."""
        from connbench.analysis.fleet_summary import summarize_fleet
        from connbench.findings import merge_alike
        from connbench.report.fleet_report import page_title
        from connbench.report.html.figures import of_fleet
        from connbench.report.html.page import Opening

        found = summarize_fleet(self.short)
        return Opening(self.verdict(), of_fleet(found), page_title(self.fleet), merge_alike(found.findings))


def report_of(
    result: Result | Fleet, budget: float, *, by_strategy: bool = False, is_wide: bool = False
) -> RunReport | FleetReport:
    """The report of a result or of a fleet.

    Args:
        result: What was measured.
        budget: The error budget of a sweep.
        by_strategy: Whether to print it as that of a run.
        is_wide: Whether the table of a profile, or those of a fleet, show all that they can.
    """
    from connbench.analysis.levels import is_profile
    from connbench.analysis.sweep_analysis import is_sweep
    from connbench.results.fleet_file import Fleet

    if isinstance(result, Fleet):
        return FleetReport(fleet=result, by_strategy=by_strategy, is_wide=is_wide)
    if feature := _feature_of(result):
        return FeatureReport(result, by_strategy, feature=feature)
    if is_profile(result):
        return ProfileReport(result, by_strategy, is_wide=is_wide)
    return SweepReport(result, by_strategy, budget=budget) if is_sweep(result) else RunReport(result)


def variants_of(result: Result, budget: float) -> tuple[Variant, ...]:
    """The changes with which the cheapest of the settings beyond the budget would keep it, as the model predicts.

    None where the model cannot tell.
    """
    from connbench.analysis.sweep_analysis import Sweep, setting_and_load
    from connbench.portmodel.algorithm import algorithm_of
    from connbench.portmodel.simulation import USUAL
    from connbench.portmodel.variants import variants

    sweep = Sweep.of(result)
    out = sweep.cheaper_beyond(budget)
    if not out or result.plan is None:
        return ()
    setting = out[0].setting
    if not all(sweep.cell(setting, load).lacks_ports for load in sweep.loads):
        return ()
    by_load = {
        load: spec for spec in result.plan.strategies for one, load in [setting_and_load(spec)] if one == setting
    }
    shares = {load: sweep.cell(setting, load).figures.error_share for load in sweep.loads}
    worst_first = sorted(sweep.loads, key=lambda load: -shares[load])
    settings = next((r.report.settings for rounds in result.rounds.values() for r in rounds), {})
    try:
        machine = USUAL.with_settings({**settings, **setting.load.settings})
    except UsageError:  # a file that was changed: its figures stand, and the model has nothing to go by
        return ()
    return tuple(
        variants(
            result.plan,
            [by_load[load] for load in worst_first],
            shares[worst_first[0]],
            budget,
            algorithm_of(str(result.environment.get("kernel", ""))),
            machine,
        )
    )

"""Which strategies, with which parameters; whether they fit the range and the kernel."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace

from connbench.errors import EnvironmentFault, UsageError, suggest
from connbench.findings import Finding, Severity
from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Placement, PortRange, StrategySpec
from connbench.planner.load_choice import choose_load
from connbench.planner.request import RunRequest
from connbench.planner.sources import parse_sources
from connbench.strategies import DEFAULT_NAMES, PARAMETERS, STRATEGIES, Strategy, takers

DEFAULT_WINDOW = 500


def choose_strategies(
    request: RunRequest, ports: PortRange, further: Sequence[RunRequest] = ()
) -> tuple[StrategySpec, ...]:
    """The strategies asked for, or the default ones, with their parameters and loads; each is there once.

    Args:
        request: What was asked for.
        ports: The range.
        further: What else was asked for, to be run in turn with it.

    Raises:
        UsageError: An unknown or repeated name, a parameter no strategy takes, or a window the range cannot hold.
    """
    requests = (request, *further)
    names = tuple(dict.fromkeys(name for one in requests for name in _names(one)))
    for one in requests:
        _refuse_unused(one, names)
    return tuple(
        dict.fromkeys(
            replace(_specify(STRATEGIES[name], one, ports), load=choose_load(one, is_one_of_several=bool(further)))
            for one in requests
            for name in _names(one)
        )
    )


def _names(request: RunRequest) -> tuple[str, ...]:
    names = request.strategies or DEFAULT_NAMES
    for name in names:
        if name not in STRATEGIES:
            raise UsageError(f"unknown strategy {name!r}", suggest(name, STRATEGIES))
        if names.count(name) > 1:
            raise UsageError(f"strategy {name} is named twice", "to repeat it, use --rounds")
    return names


def _refuse_unused(request: RunRequest, names: tuple[str, ...]) -> None:
    taken = frozenset().union(*(STRATEGIES[name].takes for name in names))
    for parameter in PARAMETERS:
        if getattr(request, parameter) is not None and parameter not in taken:
            able = ", ".join(strategy.name for strategy in takers(parameter))
            raise UsageError(f"--{parameter} does nothing for {', '.join(names)}", f"it is for {able}")
    if request.source is not None:
        parse_sources(request.source)  # what is no address at all must not be told that another strategy takes it
    asked = [f"--source {request.source}"] if request.source is not None else []
    asked += [f"--sources {request.sources}"] if request.sources is not None else []
    without_source = [name for name in names if not STRATEGIES[name].chooses_source]
    if asked and without_source:
        able = next(strategy.name for strategy in STRATEGIES.values() if strategy.chooses_source)
        raise UsageError(
            f"{asked[0]}: {' and '.join(without_source)} cannot choose its source",
            f"use a strategy that can, as in --strategy {able}; or leave out {asked[0].split()[0]}",
        )


def _specify(strategy: Strategy, request: RunRequest, ports: PortRange) -> StrategySpec:
    takes = strategy.takes
    window = placement = retries = None
    if "window" in takes:
        window = min(DEFAULT_WINDOW, len(ports)) if request.window is None else request.window
        if not 1 <= window <= len(ports):
            raise UsageError(
                f"--window {window} does not fit the {len(ports)} ports of {ports}",
                f"give 1 to {len(ports)}",
            )
    if "placement" in takes:
        placement = request.placement or Placement.INSIDE
    if "retries" in takes:
        retries = strategy.default_retries if request.retries is None else request.retries
    return StrategySpec(strategy.name, window, placement, retries)


def only_supported(specs: tuple[StrategySpec, ...]) -> tuple[tuple[StrategySpec, ...], list[Finding]]:
    """Those of the strategies that this kernel can run, and a finding for each that it cannot."""
    supported, missing = [], []
    for spec in specs:
        try:
            refuse_unsupported((spec,))
        except EnvironmentFault as fault:
            missing.append(Finding("unsupported", Severity.NOTE, f"left out: {fault.message}", fault.hint))
        else:
            supported.append(spec)
    return tuple(supported), missing


def refuse_unsupported(specs: tuple[StrategySpec, ...]) -> None:
    """Make sure this kernel has what the strategies need.

    Raises:
        EnvironmentFault: It lacks a socket option.
    """
    for spec in specs:
        for option in options_of(spec.traits):
            if not is_supported(option):
                raise EnvironmentFault(
                    f"strategy {spec.name} needs {option.name}, unknown to kernel {platform.release()}",
                    f"Linux {option.since} brings it; `connbench strategies` lists what runs here",
                )

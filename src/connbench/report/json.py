"""Results for programs: one JSON document, which `connbench.results.json_file` reads back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import orjson

import connbench
from connbench.analysis.knee import find_knee
from connbench.analysis.levels import Level, levels_of
from connbench.analysis.ranking import cost
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Group, Summary, summarize
from connbench.results.fleet_file import Fleet, host_entry
from connbench.results.json_file import write_round
from connbench.results.plain_document import SCHEMA
from connbench.results.result import Origin, Result, StrategyResult
from connbench.safe_text import printable_json


def json_text(document: object, *, indented: bool = False) -> str:
    """One line, or an indented text, with a line break at its end; numpy's arrays and dataclasses are taken too.

    Words that a file brings along neither steer a terminal nor command a CI runner: what could do so is written as an
    escape of JSON, so that no word changes.
    """
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return printable_json(orjson.dumps(document, option=options | (orjson.OPT_INDENT_2 if indented else 0)).decode())


def json_document(result: Result, more: Mapping[str, Any] | None = None) -> str:
    """Plan, environment, and per strategy its summary and rounds, samples as columns; times in ns.

    A figure that does not exist, as a percentile of no samples, is null: orjson writes NaN as null.

    Args:
        result: What was measured.
        more: Further entries, written before the strategies: `sweep`, or the `reproduction` that is null here.
    """
    document = {
        "schema": SCHEMA,
        "origin": result.origin,
        "plan": result.plan,
        "environment": result.environment | {"namespace_sysctls": _settings(result)},
        "partial": result.is_partial,
        "reproduction": None,
        **(more or {}),
        "strategies": [_strategy(strategy, result.origin) for strategy in result.strategies],
        "findings": findings(result),
        "known_findings": result.known,
    }
    return json_text(document)


def fleet_document(fleet: Fleet, more: Mapping[str, Any] | None = None) -> str:
    """The hosts of a fleet, each with the document of its result; times in ns, offsets of clocks in us.

    A host that measured nothing has null in place of a document.

    Args:
        fleet: What the hosts measured.
        more: Further entries, written before the hosts.
    """
    return "".join(_pieces(fleet, more or {}))  # joined once: it may take a gigabyte


def _pieces(fleet: Fleet, more: Mapping[str, Any]) -> Iterator[str]:
    head = json_text({"schema": SCHEMA, "connbench": connbench.__version__, **more}).rstrip().removesuffix("}")
    yield f'{head},"fleet":{{"together":{str(fleet.is_together).lower()},"hosts":['
    for place, host in enumerate(fleet.hosts):
        entry = json_text(host_entry(host)).rstrip().removesuffix("}")
        yield f'{"," * (place > 0)}{entry},"result":'
        yield json_document(host.result).rstrip() if host.result and host.result.rounds else "null"
        yield "}"
    yield "]}}\n"


def _settings(result: Result) -> dict[str, str]:
    """The sysctls during the measurement, as the first round read them back from its namespace."""
    return next((rounds[0].report.settings for rounds in result.rounds.values()), {})


def _strategy(strategy: StrategyResult, origin: Origin) -> dict[str, Any]:
    knee = find_knee(strategy)
    levels = [_level(level) for level in levels_of(strategy)]
    return {
        "strategy": strategy.strategy,
        "label": strategy.strategy.label,
        "partial": strategy.is_partial,
        "summary": _summary(summarize(strategy), origin) | {"acquire_per_connection_ns": _cost(strategy, origin)},
        "knee": asdict(knee) | {"baseline_ns": knee.baseline_ns or None, "last_ns": knee.last_ns or None},
        **({"levels": levels} if levels else {}),
        "rounds": [write_round(measured, origin) for measured in strategy.rounds],
    }


def _summary(summary: Summary, origin: Origin) -> dict[str, Any]:
    """The summary; a figure that does not exist, or that a CSV does not hold, is null."""
    figures = asdict(summary) | {"connected": summary.connected}
    has_handshakes = bool(summary.all.handshake.count)
    del figures["halves"]
    halves = {name.replace(" ", "_"): group for name, group in summary.halves.items()}
    groups = summary.groups | halves
    figures |= {name: _group(group, origin, has_handshakes=has_handshakes) for name, group in groups.items()}
    if origin is not Origin.RUN:
        figures["established"] = None
    if origin is Origin.TALK_CSV:
        figures["wall_ns"] = None
    return figures


def _level(level: Level) -> dict[str, Any]:
    """A level of a profile: its times are of all attempts, but `connected_ns`, the median of the connections."""
    return {
        "share": level.share,
        "in_use": level.in_use,
        "acquire_ns": level.acquire,
        "bind_ns": level.bind,
        "connected_ns": level.connected_ns,
        "failed": level.failed,
        "tries_mean": level.tries_mean,
    }


def _cost(strategy: StrategyResult, origin: Origin) -> float | None:
    return None if origin is Origin.TALK_CSV else cost(strategy)


def _group(group: Group, origin: Origin, *, has_handshakes: bool) -> dict[str, Any]:
    bind, acquire = (None, None) if origin is Origin.TALK_CSV else (group.bind, group.acquire)
    tries = {"tries_mean": acquire and group.tries_mean, "tries_max": acquire and group.tries_max}
    handshake = {"handshake_ns": group.handshake} if has_handshakes else {}
    return {"latency_ns": group.latency, "bind_ns": bind, **handshake, "acquire_ns": acquire, **tries}

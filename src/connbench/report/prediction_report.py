"""What the model of the port search predicts, by itself or beside what was measured: as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from connbench.analysis.knee import Knee, is_unseen, knee_of, knee_of_searches, of_first_address
from connbench.analysis.summary import Distribution, summarize
from connbench.model import Close, Phase, Protocol, Spread, format_addresses
from connbench.model.strategy import lower_half
from connbench.portmodel.agreement import Agreement, PredictedFigure
from connbench.portmodel.algorithm import ALGORITHMS, Algorithm
from connbench.portmodel.calibration import USUAL_OF, Calibration
from connbench.report.blocks import Block, Heading, Lines, Table, Verbatim
from connbench.report.json import json_text
from connbench.report.model_text import cost_lines, reserved_text, search
from connbench.report.run_report import call_tables, knee_lines, latency_table
from connbench.report.talk import six_lines
from connbench.report.text import write
from connbench.results.result import Mask, Result, Round, StrategyResult
from connbench.safe_text import printable
from connbench.units import count, duration

if TYPE_CHECKING:
    from connbench.portmodel.prediction import Pair, Prediction  # which loads what reads the kernel's settings

SCHEMA = 4
"""Version of both JSON documents; raised when a key changes its name or meaning."""

WITHOUT_TIMES = "no times without --calibrate FILE: connbench calibrate -o FILE measures this machine's costs (5 s)"
"""What stands in place of the costs; those of UDP are fitted to results alone."""


def prediction_text(
    predictions: Sequence[Prediction], algorithm: Algorithm, calibration: Calibration | None, width: int | None = None
) -> str:
    """Each strategy, a comparison of several, and the calibration with its limits."""
    blocks = [block for one in predictions for block in _strategy_blocks(one, algorithm, calibration)]
    if len(predictions) > 1:
        blocks.append(_comparison(predictions, calibration))
    if calibration:
        blocks.append(Lines(_calibration_lines(calibration, predictions)))
    elif all(one.plan.strategy.load.protocol is Protocol.TCP for one in predictions):
        blocks.append(Lines([WITHOUT_TIMES]))
    return write(blocks, width)


def agreement_text(
    result: Result,
    compared: Sequence[tuple[Pair, Agreement]],
    algorithm: Algorithm,
    calibrations: Mapping[Protocol, Calibration],
    width: int | None = None,
) -> str:
    """The predictions beside the measurements: what was simulated, a table of counts, tables of times, the calibration.

    Args:
        result: What was measured.
        compared: Every phase of it beside its prediction.
        algorithm: The search that was simulated.
        calibrations: By protocol.
        width: Columns to fold to; None leaves each line whole.
    """
    kernel = printable(str(result.environment.get("kernel", "of unknown release")))
    by = search(algorithm, [pair.strategy.strategy.load.protocol for pair, _ in compared])
    reserved = max((p.reserved for pair, _ in compared for p, _ in pair.rounds), default=0)
    range_text = f", range {result.plan.port_range}{reserved_text(reserved)}" if result.plan and reserved else ""
    head = f"{printable(result.name)}: Linux {kernel}{range_text}, beside {by}"
    agreements = [agreement for _, agreement in compared]
    freed = dict.fromkeys(filter(None, (time_wait_text(p) for pair, _ in compared for p, _ in pair.rounds)))
    blocks: list[Block] = [Lines([head, *freed]), _counts(agreements), *_rank_limits(compared)]
    if calibrations:
        blocks += [
            _totals(agreements),
            _parities("mean latency", agreements, [one.mean_ns for one in agreements]),
            _parities("median latency", agreements, [one.median_ns for one in agreements]),
        ]
    for protocol, calibration in calibrations.items():
        predictions = [pair.rounds[0][0] for pair, _ in compared if pair.strategy.strategy.load.protocol is protocol]
        blocks.append(Lines(_calibration_lines(calibration, predictions)))
    return write(blocks, width)


def time_wait_text(prediction: Prediction) -> str:
    """When a port that churn closed by FIN is free again, and why; empty if no port stays in TIME_WAIT."""
    load = prediction.plan.strategy.load
    churn = load.churn
    if churn is None or churn.close is not Close.FIN or load.protocol is not Protocol.TCP:
        return ""
    if not prediction.time_wait_seconds and (reuse := prediction.plan.strategy.reuse):
        return f"{reuse.option}: connect() takes a port from TIME_WAIT at once"
    where = "on" if prediction.is_over_loopback else "not on"
    words = f"tcp_tw_reuse {prediction.time_wait.reuse}, target {where} the loopback: a port in TIME_WAIT is "
    if churn.rate is None:
        return words + "never free again, for no --churn-rate says how time passes"
    return words + f"free again after {prediction.time_wait_seconds:g} s"


# ---- a prediction by itself


def as_result(prediction: Prediction, calibration: Calibration) -> StrategyResult:
    """The prediction as if it had been measured, for the functions that describe a measurement."""
    return StrategyResult(prediction.plan.strategy, (Round(1, calibration.samples(prediction)),), prediction.capacity)


def knee(prediction: Prediction, calibration: Calibration | None) -> Knee:
    """Where connections become slow and stay slow; churn has no knee.

    Without a calibration the knee of TCP is where a search probes half of the range or more, or of the half that bind()
    searches first. UDP's search does not go by parity, so its knee follows from its usual costs.
    """
    if prediction.plan.strategy.phase is Phase.CHURN:
        return Knee()
    plan = prediction.plan
    protocol = plan.strategy.load.protocol
    samples = (calibration or USUAL_OF[protocol]).samples(prediction)
    first = None
    if plan.plan.spread is Spread.FILL and plan.spaces > 1:
        first = of_first_address(samples, plan.strategy)

    searched = len(plan.plan.port_range)
    if plan.strategy.searches_by_halves:
        searched = lower_half(searched)

    def of(mask: Mask) -> Knee:
        if calibration or protocol is Protocol.UDP:
            return knee_of(samples.chosen(mask))
        ports_probed = prediction.attempts.ports_probed[mask]
        return knee_of_searches(samples.chosen(mask), ports_probed, searched)

    whole = of(np.ones(len(samples), np.bool_))
    found = whole if first is None else of(first)
    return replace(
        found,
        first_failed=whole.first_failed,
        in_use_at_failure=whole.in_use_at_failure,
        ports=prediction.capacity if first is None else plan.ports_each,
        is_of_first=first is not None,
        fullest=plan.fullest,
        shows_half=plan.shows_half,
    )


def _strategy_blocks(prediction: Prediction, algorithm: Algorithm, calibration: Calibration | None) -> Iterator[Block]:
    plan = prediction.plan
    spec, attempts = plan.strategy, prediction.attempts
    sources = "" if not spec.traits.chooses_source else f", {format_addresses(plan.sources, 'source')}"
    by = search(algorithm, (spec.load.protocol,))
    ports = f"range {plan.plan.port_range}{reserved_text(prediction.reserved)}"
    yield Heading(printable(f"{spec.label}: predicted by {by}, {ports}{sources}") + f", seed {plan.plan.seed}")
    if freed := time_wait_text(prediction):
        yield Heading(freed)
    if calibration is None:
        failures = prediction.failures
        yield Verbatim(f"connection attempts: {len(attempts)} errored: {failures} total: {len(attempts) - failures}")
        yield _probe_counts(prediction)
        yield Lines(_knee_without_times(prediction))
        return
    as_measured = as_result(prediction, calibration)
    summary = summarize(as_measured)
    yield Verbatim(six_lines(summary))
    if spec.searches_in_bind:
        yield from call_tables(Result(plan.plan, {}), as_measured)
    else:
        yield latency_table(summary)
    yield _probe_counts(prediction)
    yield Lines(knee_lines(as_measured, knee(prediction, calibration)))


def _knee_without_times(prediction: Prediction) -> list[str]:
    """The lines of the knee and of the first failure without times: no calibration says what this machine takes."""
    found, capacity = knee(prediction, None), prediction.capacity
    is_udp = prediction.plan.strategy.load.protocol is Protocol.UDP
    judged = "by the usual costs of UDP" if is_udp else "by ports probed"
    if is_unseen(prediction.plan.strategy, found):
        lines = [f"knee: cannot be seen, only {found.fullest:.1%} of the range in use"]
    elif found.share is None:
        lines = [f"knee: none, {judged}"] if found.is_judged else []
    else:
        first, whose = (" of the first address", "its") if found.is_of_first else ("", "the")
        used = f"{found.share:.1%} of {whose} range in use"
        lines = [f"knee: connection {count(found.connection or 0)}{first} with {used}, {judged}"]
    if found.first_failed is not None and capacity is not None:
        share = (found.in_use_at_failure or 0) / capacity
        lines.append(f"first failed: attempt {count(found.first_failed)} with {share:.1%} of the range in use")
    return lines


def _probe_counts(prediction: Prediction) -> Table:
    """Ports probed by all attempts, by those of each parity, and by the failed; a group without attempts has no row."""
    rows = []
    for name, mask in prediction.groups.items():
        values = prediction.attempts.ports_probed[mask]
        if len(values):
            p50, p99 = np.percentile(values, (50, 99))
            rows.append(
                (name, count(len(values)), f"{values.mean():,.1f}", count(p50), count(p99), count(float(values.max())))
            )
    probed = "ports probed in bind()" if prediction.plan.strategy.searches_in_bind else "ports probed"
    return Table((probed, "n", "mean", "p50", "p99", "max"), rows)


def _comparison(predictions: Sequence[Prediction], calibration: Calibration | None) -> Table:
    rows = []
    for one in predictions:
        attempts = len(one.attempts)
        cells = [
            one.plan.strategy.label,
            count(one.failures),
            f"{one.failures / attempts:.2%}",
            f"{one.attempts.ports_probed.mean():,.1f}",
        ]
        if calibration:
            cells.append(duration(float(calibration.searched_ns(one).sum())))
        rows.append(tuple(cells))
    times = ("total time",) if calibration else ()
    return Table(("strategy", "errors", "errors, %", "probed, mean", *times), rows)


def _calibration_lines(calibration: Calibration, predictions: Sequence[Prediction]) -> list[str]:
    """The fitted costs, how well they fit, and which predictions go beyond the measured numbers of connections."""
    beyond = [
        f"extrapolated: {one.plan.strategy.label} has {count(one.most_open)} connections open, "
        f"the calibration at most {count(calibration.largest)}"
        for one in predictions
        if calibration.extrapolates(one)
    ]
    return [*cost_lines(calibration), *beyond]


# ---- predictions beside measurements


def _counts(agreements: Sequence[Agreement]) -> Table:
    rows = [
        (
            one.label,
            _number(one.errors.predicted),
            _number(one.errors.measured),
            f"{one.ports_probed:,.1f}",
            "-" if one.rank_correlation is None else f"{one.rank_correlation:.2f}",
        )
        for one in agreements
    ]
    return Table(("strategy", "errors predicted", "measured", "probed", "rank corr."), rows)


def _rank_limits(compared: Sequence[tuple[Pair, Agreement]]) -> list[Lines]:
    """The largest rank correlation that a filling can have which turns from one parity to the other.

    The predicted ranks are tied within two parts, shares p and 1 - p of all, and the measured order within each part
    is noise: then the correlation is at most sqrt(3 p (1 - p)), for two halves sqrt(3) / 2. A search by halves of the
    range has more than two such parts.
    """
    told = []
    for pair, one in compared:
        prediction = pair.rounds[0][0]
        if prediction.plan.strategy.searches_by_halves:
            continue
        found = knee(prediction, None)
        if prediction.is_of_last_try and found.in_use is not None and one.rank_correlation is not None:
            share = found.in_use / int((~prediction.attempts.failed).sum())  # failures have no part in the ranks
            told.append(f"{sqrt(3 * share * (1 - share)):.2f} ({one.label})")
    if not told:
        return []
    why = "all searches of one parity cost about the same, so their order is chance"
    return [Lines([f"rank corr. can be at most {', '.join(told)}: {why}"])]


def _totals(agreements: Sequence[Agreement]) -> Table:
    rows = [(one.label, *_times(one.total_ns)) for one in agreements]
    return Table(("total time", "predicted", "measured", "ratio"), rows)


def _parities(title: str, agreements: Sequence[Agreement], figures: Sequence[Mapping[str, PredictedFigure]]) -> Table:
    rows = [
        (one.label, *_times(both["even"])[:2], *_times(both["odd"])[:2])
        for one, both in zip(agreements, figures, strict=True)
    ]
    return Table((title, "even predicted", "measured", "odd predicted", "measured"), rows)


def _times(both: PredictedFigure) -> tuple[str, str, str]:
    predicted, measured = ("-" if value is None else duration(value) for value in (both.predicted, both.measured))
    return predicted, measured, "-" if both.ratio is None else f"{both.ratio:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return count(value) if value == int(value) else f"{value:,.1f}"


# ---- for programs


def prediction_json(predictions: Sequence[Prediction], algorithm: Algorithm, calibration: Calibration | None) -> str:
    """The plan, and for each strategy its errors, ports probed, knee and, with a calibration, its times in ns."""
    return json_text(
        {
            "schema": SCHEMA,
            "algorithm": _word(algorithm),
            "plan": predictions[0].plan.plan,
            "reserved": predictions[0].reserved,
            "tcp_tw_reuse": predictions[0].time_wait.reuse,
            "calibration": calibration,
            "strategies": [_strategy(one, calibration) for one in predictions],
        }
    )


def agreement_json(
    result: Result,
    found: Sequence[tuple[Pair, Agreement]],
    algorithm: Algorithm,
    calibrations: Mapping[Protocol, Calibration],
) -> str:
    """For each strategy its figures as predicted and as measured."""
    return json_text(
        {
            "schema": SCHEMA,
            "file": result.name,
            "kernel": result.environment.get("kernel"),
            "reserved": max((p.reserved for pair, _ in found for p, _ in pair.rounds), default=0),
            "tcp_tw_reuse": max((p.time_wait.reuse for pair, _ in found for p, _ in pair.rounds), default=None),
            "algorithm": _word(algorithm),
            "calibrations": {protocol.value: one for protocol, one in calibrations.items()},
            "strategies": [agreement for _, agreement in found],
        }
    )


def _strategy(prediction: Prediction, calibration: Calibration | None) -> dict[str, Any]:
    attempts, probed = prediction.attempts, prediction.attempts.ports_probed
    found = {
        "strategy": prediction.plan.strategy,
        "label": prediction.plan.strategy.label,
        "attempts": len(attempts),
        "errors": prediction.failures,
        "ports_probed": {name: Distribution.of(probed[mask]) for name, mask in prediction.groups.items()},
        "knee": knee(prediction, calibration) if calibration else _without_times(prediction),
    }
    if calibration:
        latency, searched = calibration.latency_ns(prediction), calibration.searched_ns(prediction)
        found |= {
            "total_ns": float(searched.sum()),
            "latency_ns": {name: Distribution.of(latency[mask]) for name, mask in prediction.groups.items()},
            "acquire_ns": Distribution.of(calibration.acquire_ns(prediction)),
            "extrapolated": calibration.extrapolates(prediction),
        }
    return found


def _without_times(prediction: Prediction) -> dict[str, int | None]:
    found = knee(prediction, None)
    return {
        "connection": found.connection,
        "in_use": found.in_use,
        "first_failed": found.first_failed,
        "in_use_at_failure": found.in_use_at_failure,
    }


def _word(algorithm: Algorithm) -> str:
    return next(word for word, one in ALGORITHMS.items() if one is algorithm)

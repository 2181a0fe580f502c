"""What the model of the search predicts, as text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from connbench.analysis.knee import Knee, is_unseen, knee_of, knee_of_searches, of_first_address
from connbench.analysis.summary import summarize
from connbench.findings import printable
from connbench.model import Close, Phase, Protocol, Spread, addresses_text
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import USUAL_OF, Calibration
from connbench.portmodel.prediction import Prediction
from connbench.report.rows import Table, knee_lines
from connbench.report.rows import latency as latency_table
from connbench.report.tables import render
from connbench.report.talk import six_lines
from connbench.results.result import Mask, Round, StrategyResult
from connbench.units import count, duration
from connbench.wording import fold

SEARCHES = {
    Algorithm.PRE_4_2: "the search of Linux before 4.2",
    Algorithm.FROM_4_2: "the search of Linux 4.2 to 4.5",
    Algorithm.PRE_6_8: "the search of Linux 4.6 to 6.7",
    Algorithm.FROM_6_8: "the search of Linux 6.8 and later",
    Algorithm.REJECTED_PATCH: "the search that was rejected: every port, option or not",
}


def search(algorithm: Algorithm, protocols: Collection[Protocol]) -> str:
    """By which search, in words: UDP has its own, in whatever kernel."""
    found = [SEARCHES[algorithm]] if Protocol.TCP in protocols else []
    return " and ".join([*found, "UDP's search"] if Protocol.UDP in protocols else found)


def reserved_text(number: int) -> str:
    """How many ports of a range are reserved, as a header has it behind the range; nothing where none is."""
    return f" ({count(number)} of its ports reserved)" if number else ""


def time_wait_text(prediction: Prediction) -> str:
    """When a port that churn has closed by FIN is free again, and why; nothing where no port is left in TIME_WAIT."""
    load = prediction.plan.strategy.load
    churn = load.churn
    if churn is None or churn.close is not Close.FIN or load.protocol is not Protocol.TCP:
        return ""
    where = "on" if prediction.is_over_loopback else "not on"
    words = f"tcp_tw_reuse {prediction.time_wait.reuse}, target {where} the loopback: a port in TIME_WAIT is "
    if churn.rate is None:
        return words + "never free again, for no --churn-rate says how time passes"
    return words + f"free again after {prediction.time_wait_seconds:g} s"


def report(
    predictions: Sequence[Prediction], algorithm: Algorithm, calibration: Calibration | None, width: int | None = None
) -> str:
    """A block a strategy, a comparison of several, and what the calibration is and cannot tell."""
    blocks = [_block(one, algorithm, calibration, width) for one in predictions]
    if len(predictions) > 1:
        blocks.append(render(*_comparison(predictions, calibration), width=width))
    if calibration:
        blocks.append("\n".join(fold(line, width) for line in calibration_lines(calibration, predictions)))
    return "\n\n".join(blocks)


def as_result(prediction: Prediction, calibration: Calibration) -> StrategyResult:
    """A prediction in the place of a measurement, for whoever describes one."""
    return StrategyResult(prediction.plan.strategy, (Round(1, calibration.samples(prediction)),), prediction.capacity)


def knee(prediction: Prediction, calibration: Calibration | None) -> Knee:
    """Where connections turn slow for good; churn has none.

    Without a calibration that of TCP is by the ports looked at, half of the range or more; UDP, whose search has no
    halves, by its usual costs.
    """
    if prediction.plan.strategy.phase is Phase.CHURN:
        return Knee()
    plan = prediction.plan
    protocol = plan.strategy.load.protocol
    samples = (calibration or USUAL_OF[protocol]).samples(prediction)
    first = None
    if plan.plan.spread is Spread.FILL and plan.spaces > 1:
        first = of_first_address(samples, plan.strategy)

    def of(mask: Mask) -> Knee:
        if calibration or protocol is Protocol.UDP:
            return knee_of(samples.chosen(mask))
        looked_at = prediction.walk.looked_at[mask]
        return knee_of_searches(samples.chosen(mask), looked_at, len(plan.plan.port_range))

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


def _block(prediction: Prediction, algorithm: Algorithm, calibration: Calibration | None, width: int | None) -> str:
    plan = prediction.plan
    spec, walk = plan.strategy, prediction.walk
    sources = "" if not spec.traits.chooses_source else f", {addresses_text(plan.sources, 'source')}"
    by = search(algorithm, (spec.load.protocol,))
    ports = f"range {plan.plan.port_range}{reserved_text(prediction.reserved)}"
    head = fold(
        printable(f"{spec.label}: predicted by {by}, {ports}{sources}") + f", seed {plan.plan.seed}",
        width,
    )
    if freed := time_wait_text(prediction):
        head += f"\n{fold(freed, width)}"
    if calibration is None:
        failures = prediction.failures
        counts = f"connection attempts: {len(walk)} errored: {failures} total: {len(walk) - failures}"
        parts = [f"{head}\n{counts}", render(*looked_at(prediction)), "\n".join(_knee_without_times(prediction))]
        return "\n\n".join(part for part in parts if part)
    as_measured = as_result(prediction, calibration)
    summary = summarize(as_measured)
    parts = [
        f"{head}\n{six_lines(summary)}",
        render(*latency_table(summary)),
        render(*looked_at(prediction)),
        "\n".join(fold(line, width) for line in knee_lines(as_measured, knee(prediction, calibration))),
    ]
    return "\n\n".join(part for part in parts if part)


def _knee_without_times(prediction: Prediction) -> list[str]:
    """Where, without how long: nothing is known of this machine."""
    found, capacity = knee(prediction, None), prediction.capacity
    is_udp = prediction.plan.strategy.load.protocol is Protocol.UDP
    judged = "by the usual costs of UDP" if is_udp else "by ports looked at"
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


def looked_at(prediction: Prediction) -> Table:
    """Ports looked at, of all attempts, per parity and of the failed; groups without an attempt are left out."""
    rows = []
    for name, mask in prediction.groups.items():
        values = prediction.walk.looked_at[mask]
        if len(values):
            p50, p99 = np.percentile(values, (50, 99))
            rows.append(
                (name, count(len(values)), f"{values.mean():,.1f}", count(p50), count(p99), count(float(values.max())))
            )
    return Table(("ports looked at", "n", "mean", "p50", "p99", "max"), rows)


def _comparison(predictions: Sequence[Prediction], calibration: Calibration | None) -> Table:
    rows = []
    for one in predictions:
        attempts = len(one.walk)
        cells = [
            one.plan.strategy.label,
            count(one.failures),
            f"{one.failures / attempts:.2%}",
            f"{one.walk.looked_at.mean():,.1f}",
        ]
        if calibration:
            cells.append(duration(float(calibration.latency_ns(one).sum())))
        rows.append(tuple(cells))
    times = ("total time",) if calibration else ()
    return Table(("strategy", "errors", "share", "looked at, mean", *times), rows)


def calibration_lines(calibration: Calibration, predictions: Sequence[Prediction]) -> list[str]:
    """What was fitted, how well, and which predictions go beyond it."""
    beyond = [
        f"extrapolated: {one.plan.strategy.label} has {count(one.most_open)} connections open, "
        f"the calibration at most {count(calibration.largest)}"
        for one in predictions
        if calibration.extrapolates(one)
    ]
    return [*cost_lines(calibration), *beyond, *(growth_lines(calibration) if beyond else [])]


def growth_lines(calibration: Calibration) -> list[str]:
    """What a port costs beyond what was measured."""
    if not calibration.growth:
        return []
    most = calibration.growth[-1][0]
    cost = float(calibration.port_ns_at(most))
    return [f"  there a port grows dearer as is usual, to {cost:.0f} ns with {count(most)} open"]


def cost_lines(calibration: Calibration) -> list[str]:
    """The costs, how well they fit, and where they come from."""
    first, last = calibration.port_ns[0], calibration.port_ns[-1]
    ports = f"a port looked at {first:.0f} ns"
    if len(calibration.sizes) > 1:
        ports += f" with {count(calibration.sizes[0])} open, {last:.0f} ns with {count(calibration.sizes[-1])}"
    if calibration.window_factor != 1:  # that of UDP, whose search begins at random always
        ports += f", {calibration.window_factor:.2f} x that in a random window"
    fit = "" if calibration.residual is None else f"; median residual {calibration.residual:.1%}"
    costs = f"a connection {duration(calibration.base_ns)}, a failure {duration(calibration.failure_ns)}, {ports}"
    return [f"calibration: {costs}{fit}", f"  from {printable(calibration.origin)}"]

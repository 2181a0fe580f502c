"""Predictions laid over measurements, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

from connbench.findings import printable
from connbench.model import Protocol
from connbench.portmodel.agreement import Agreement, Both
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import Calibration
from connbench.portmodel.prediction import Pair
from connbench.report.prediction_report import calibration_lines, knee, reserved_text, search, time_wait_text
from connbench.report.rows import Table
from connbench.report.tables import render
from connbench.results.result import Result
from connbench.units import count, duration
from connbench.wording import fold


def report(
    result: Result,
    compared: Sequence[tuple[Pair, Agreement]],
    algorithm: Algorithm,
    calibrations: Mapping[Protocol, Calibration],
    width: int | None = None,
) -> str:
    """What was compared with what, a row a strategy for counts and one for times, and the calibration.

    Args:
        result: What was measured.
        compared: Every phase of it beside its prediction.
        algorithm: By which search.
        calibrations: By protocol.
        width: Columns to fold to; None for as wide as it gets.
    """
    kernel = printable(str(result.environment.get("kernel", "of unknown release")))
    by = search(algorithm, [pair.strategy.strategy.load.protocol for pair, _ in compared])
    reserved = max((p.reserved for pair, _ in compared for p, _ in pair.rounds), default=0)
    range_text = f", range {result.plan.port_range}{reserved_text(reserved)}" if result.plan and reserved else ""
    head = f"{printable(result.name)}: Linux {kernel}{range_text}, beside {by}"
    agreements = [agreement for _, agreement in compared]
    freed = dict.fromkeys(filter(None, (time_wait_text(p) for pair, _ in compared for p, _ in pair.rounds)))
    parts = ["\n".join(fold(line, width) for line in (head, *freed)), render(*_counts(agreements), width=width)]
    parts += [fold(line, width) for line in _tops_out(compared)]
    if calibrations:
        tables = (
            _totals(agreements),
            _parities("mean latency", agreements, [one.mean_ns for one in agreements]),
            _parities("median latency", agreements, [one.median_ns for one in agreements]),
        )
        parts += [render(*table, width=width) for table in tables]
    for protocol, calibration in calibrations.items():
        predictions = [pair.rounds[0][0] for pair, _ in compared if pair.strategy.strategy.load.protocol is protocol]
        parts.append("\n".join(fold(line, width) for line in calibration_lines(calibration, predictions)))
    return "\n\n".join(parts)


def _counts(agreements: Sequence[Agreement]) -> Table:
    rows = [
        (
            one.label,
            _number(one.errors.predicted),
            _number(one.errors.measured),
            f"{one.looked_at:,.1f}",
            "-" if one.rank_correlation is None else f"{one.rank_correlation:.2f}",
        )
        for one in agreements
    ]
    return Table(("strategy", "errors predicted", "measured", "looked at", "rank corr."), rows)


def _tops_out(compared: Sequence[tuple[Pair, Agreement]]) -> list[str]:
    """Why no better rank correlation is to be had of a filling that turns from one parity to the other.

    Of ranks that are tied within two parts, shares p and 1 - p of all, and noise on the other side, no more than
    sqrt(3 p (1 - p)) comes: of two halves sqrt(3) / 2.
    """
    told = []
    for pair, one in compared:
        prediction = pair.rounds[0][0]
        found = knee(prediction, None)
        if prediction.is_of_last_try and found.in_use is not None and one.rank_correlation is not None:
            share = found.in_use / int((~prediction.walk.failed).sum())  # failures have no part in the ranks
            told.append(f"{sqrt(3 * share * (1 - share)):.2f} ({one.label})")
    if not told:
        return []
    why = "ranks tell searches of one parity from those of the other; among those of one parity the order is noise"
    return [f"rank corr. tops out at {', '.join(told)}: {why}"]


def _totals(agreements: Sequence[Agreement]) -> Table:
    rows = [(one.label, *_times(one.total_ns)) for one in agreements]
    return Table(("total time", "predicted", "measured", "ratio"), rows)


def _parities(title: str, agreements: Sequence[Agreement], figures: Sequence[Mapping[str, Both]]) -> Table:
    rows = [
        (one.label, *_times(both["even"])[:2], *_times(both["odd"])[:2])
        for one, both in zip(agreements, figures, strict=True)
    ]
    return Table((title, "even predicted", "measured", "odd predicted", "measured"), rows)


def _times(both: Both) -> tuple[str, str, str]:
    predicted, measured = ("-" if value is None else duration(value) for value in (both.predicted, both.measured))
    return predicted, measured, "-" if both.ratio is None else f"{both.ratio:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return count(value) if value == int(value) else f"{value:,.1f}"

"""Charts of a sweep: a line a load over the windows, and a line a setting over the share of the range."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from connbench.model import Churn, Load, Phase, PortRange, StrategySpec
from connbench.report.charts import canvas
from connbench.report.charts.canvas import Options
from connbench.report.charts.utilisation import draw as draw_utilisation
from connbench.report.charts.utilisation import lines_of
from connbench.report.charts.window_sizes import draw as draw_windows
from connbench.report.series import Series, series_of
from connbench.results.result import Result
from factories import PLAIN, PLAN, WINDOW, result_of, round_of, samples_of

FILLS = (0.5, 0.9)


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    """Figures are made in connbench's style, as `picture` does."""
    with canvas.styled():
        yield


def swept(settings: Sequence[StrategySpec], churn: Churn | None = None) -> Result:
    """Every setting filled to every share of 200 ports, and the churn after it, a tenth of it failed."""
    measured = {}
    for setting in settings:
        for fill in FILLS:
            for spec in replace(setting, load=Load(fill=fill, churn=churn)).phases:
                is_churn = spec.phase is Phase.CHURN
                latency = round(fill * 100_000) if is_churn else 10_000
                number = 20 if is_churn else round(fill * 200)
                failed = [errno.EADDRNOTAVAIL] * (number // 10 if is_churn else 0)
                samples = samples_of([latency] * number, errno=failed + [0] * (number - len(failed)))
                measured[spec] = [round_of(samples)]
    result = result_of(measured, replace(PLAN, port_range=PortRange(9024, 9223)))
    assert result.plan
    fillings = tuple(spec for spec in measured if spec.phase is Phase.FILL)
    return replace(result, plan=replace(result.plan, strategies=fillings))


def legend(figure: Figure) -> list[str]:
    """The words of its legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(line: Line2D) -> list[tuple[float, float]]:
    """The points of a line."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


WINDOWS = [replace(WINDOW, window=size) for size in (20, 100)]


def test_windows_have_a_line_a_load() -> None:
    """Rounds of different length are compared by the attempt, each load in a colour of its own."""
    figure = draw_windows(series_of([swept(WINDOWS)]), Options())
    costs, errors = figure.axes
    assert costs.get_title(loc="left") == "Mean time of an attempt"
    assert legend(figure) == ["window, fill 50%", "window, fill 90%"]
    assert np.asarray(costs.lines[0].get_xydata()).ravel() == pytest.approx([20, 0.011, 100, 0.011])
    assert points(errors.lines[0]) == [(20, 0), (100, 0)]
    assert len({line.get_color() for line in errors.lines}) == len(FILLS)


def test_windows_of_churn_leave_the_filling_out() -> None:
    """A sweep with churn is about the churn."""
    figure = draw_windows(series_of([swept(WINDOWS, Churn(20))]), Options())
    assert legend(figure) == ["window, fill 50%, churn 20", "window, fill 90%, churn 20"]
    assert [points(line)[0] for line in figure.axes[1].lines] == [(20, 0.1), (20, 0.1)]


def test_utilisation_draws_the_fullest_filling() -> None:
    """Fillings of one setting begin alike: one line stands for them, under a name without a share."""
    series = series_of([swept([PLAIN, *WINDOWS])])
    lines = lines_of(series)
    assert [line.label for line in lines] == ["plain", "window 20", "window 100"]
    assert all(line.series[0].strategy.strategy.load.fill == max(FILLS) for line in lines)
    assert len({line.colour for line in lines}) == len(lines)
    drawn = draw_utilisation(series, Options()).axes[0].lines
    assert max(x for x, _ in points(drawn[1])) > min(FILLS)


def test_utilisation_has_a_point_for_each_churn() -> None:
    """Median and p99 of the churn stand at its share of the range, in the colour of its setting's filling."""
    series = series_of([swept(WINDOWS, Churn(20))])
    lines = lines_of(series)
    assert [(line.label, line.colour, line.is_churn) for line in lines] == [
        ("window 20, before churn 20", 0, False),
        ("window 20, churn 20", 0, True),
        ("window 100, before churn 20", 1, False),
        ("window 100, churn 20", 1, True),
    ]
    figure = draw_utilisation(series, Options())
    with_points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert np.asarray(with_points[0].get_xydata()).ravel() == pytest.approx([0.5, 0.05, 0.9, 0.09])
    assert "window 20, churn 20" in legend(figure)


def test_one_strategy_at_two_numbers_without_shares_is_two_lines() -> None:
    """The talk's bind, over the whole range and 70,000 times, is not one filling to two shares."""
    specs = [StrategySpec("bind"), StrategySpec("bind", load=Load(connections=150))]
    series: list[Series] = series_of([result_of({spec: [round_of(samples_of([1000] * 100))] for spec in specs})])
    assert [line.label for line in lines_of(series)] == ["bind", "bind, n=150"]

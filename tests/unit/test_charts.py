"""Charts: every kind can be drawn of every result, has its content, and puts nothing outside the picture."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from connbench.commands.plot import KIND_NAMES, PALETTE_NAMES
from connbench.errors import EnvironmentFault, RunFault, UsageError
from connbench.model import Churn, Load, PortRange, StrategySpec
from connbench.report.charts import KINDS, canvas, left_out, picture, terminal
from connbench.report.charts.canvas import PALETTES, Options, name_origin
from connbench.report.charts.scatter import HEADROOM
from connbench.report.charts.window_sizes import sweeps
from connbench.report.html.figures import PARITY_COLOURS
from connbench.report.series import COLOURS, Series, series_of
from connbench.reproduce.cases import FULL_RANGE, cases
from connbench.results.csv_file import csv_rows, read_csv
from connbench.results.result import Result, Samples
from factories import BIND, LONG, PLAIN, PLAN, WINDOW, result_of, round_of, samples_of

KNEE = 100
RANGE = PortRange(9024, 9223)
FAST, SLOW = 13_000, 2_000_000
HOSTILE = "results/of $a day$ with <b>a</b> long & winding name that no panel has room for in one line or in two.json"


def split() -> Samples:
    """The talk's run on 200 ports: even and fast, then odd and slow, and at last two that fail."""
    ports = [*range(9024, 9224, 2), *range(9025, 9224, 2), 0, 0]
    latency = [FAST + i for i in range(KNEE)] + [SLOW + i for i in range(KNEE)] + [40_000, 50_000]
    return samples_of(latency, port=ports, errno=[0] * 2 * KNEE + [errno.EADDRNOTAVAIL] * 2)


def mixed(count: int = 150) -> Samples:
    """Ports of both parities in turn, all fast."""
    return samples_of([FAST + 7 * (i % 11) for i in range(count)])


def many() -> list[Series]:
    """Six strategies, one with a long label, one of two rounds, one partial, from a file with a hostile name."""
    plan = replace(PLAN, port_range=RANGE)
    measured = {
        PLAIN: [round_of(split()), round_of(split(), 2)],
        BIND: [round_of(mixed(), fault=RunFault("killed"))],
        LONG: [round_of(mixed())],
        **{StrategySpec("window", size): [round_of(mixed())] for size in (5, 160)},
    }
    result = result_of(measured, plan)
    result.name = HOSTILE
    other = result_of({PLAIN: [round_of(split())]}, plan)
    other.name = "short.json"
    return series_of([result, other])


def only(samples: Samples, spec: StrategySpec = PLAIN) -> list[Series]:
    """One strategy of one round."""
    return series_of([result_of({spec: [round_of(samples)]}, replace(PLAN, port_range=RANGE))])


def of_csv(samples: Samples) -> list[Series]:
    """As `only`, by way of a CSV, where the range is not known."""
    result = result_of({PLAIN: [round_of(samples)]})
    return series_of([read_csv(csv_rows(result), "a.csv")])


EMPTY = samples_of([])
ODDITIES = {
    "no attempt": EMPTY,
    "one": samples_of([FAST]),
    "all failed": samples_of([40_000] * 3, errno=[errno.EADDRNOTAVAIL] * 3),
    "no odd": samples_of([FAST] * 60, port=[9024] * 60),
    "no time": samples_of([0] * 60, prepare_ns=[0] * 60),
}


@pytest.fixture
def style() -> Iterator[None]:
    """Figures are made in connbench's style, as `picture` makes them."""
    with canvas.styled():
        yield


def drawn(kind: str, series: Sequence[Series], options: Options = Options()) -> Figure:  # noqa: B008  # frozen
    """The figure, laid out as it would be saved."""
    figure = KINDS[kind](series, options)
    FigureCanvasBase(figure)
    figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[Text]:
    """Every visible text: labels of ticks beyond an axis's ends exist, but are not drawn."""
    axes = [axis for panel in figure.findobj(Axes) for axis in (panel.xaxis, panel.yaxis)]
    hidden = {
        id(label)
        for axis in axes
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and id(text) not in hidden]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def words(figure: Figure) -> str:
    """All text in it."""
    return "\n".join(text.get_text() for text in texts(figure))


def test_command_line_knows_every_kind_and_palette() -> None:
    """The names that `--help` gives without loading numpy are the existing ones."""
    assert tuple(KINDS) == KIND_NAMES
    assert tuple(PALETTES) == PALETTE_NAMES == tuple(terminal.COLOURS)


@pytest.mark.parametrize("width", [440, 1900])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("style")
def test_nothing_is_cut_off(kind: str, width: int) -> None:
    """No text of six strategies with long names lies outside the picture, in a narrow or a wide one."""
    figure = drawn(kind, many(), Options(width=width))
    right, top = figure.bbox.width, figure.bbox.height
    assert right == pytest.approx(width)
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= -1, text.get_text()
        assert box.x1 <= right + 1, text.get_text()
        assert box.y0 >= -1, text.get_text()
        assert box.y1 <= top + 1, text.get_text()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "windows"])
@pytest.mark.parametrize("name", ODDITIES)
@pytest.mark.usefixtures("style")
def test_odd_results_are_drawn_without_complaint(kind: str, name: str) -> None:
    """Attempts without one parity, without failures, without latencies or none at all cause no error and no warning."""
    drawn(kind, only(ODDITIES[name]))


@pytest.mark.parametrize(("kind", "yscale"), [("scatter", "linear"), ("utilisation", "linear"), ("histogram", "log")])
@pytest.mark.usefixtures("style")
def test_odd_results_are_drawn_on_the_other_scale(kind: str, yscale: str) -> None:
    """Neither side by side with a whole result, nor with the scale that is not the kind's default."""
    drawn(kind, [one for samples in (*ODDITIES.values(), split()) for one in only(samples)][:4], Options(yscale=yscale))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "windows"])
@pytest.mark.usefixtures("style")
def test_a_csv_is_drawn_without_its_range(kind: str) -> None:
    """The chart claims nothing that a CSV does not contain: no share of the range anywhere."""
    assert "in use)" not in words(drawn(kind, of_csv(split())))


@pytest.mark.parametrize("name", ["no attempt", "all failed", "no time"])
@pytest.mark.usefixtures("style")
def test_odd_windows_are_drawn_without_complaint(name: str) -> None:
    """A window without an attempt or a latency has a place, too."""
    drawn("windows", [*only(ODDITIES[name], WINDOW), *only(mixed(), StrategySpec("window", 1000))])


def test_one_window_is_no_comparison_of_windows() -> None:
    """A chart over the window's size needs at least two sizes; the hint is a command that measures some."""
    with pytest.raises(UsageError, match=r"windows of several sizes, and here is one, 500 ports") as told:
        drawn("windows", only(mixed(), WINDOW))
    assert "connbench sweep --strategy window --window" in told.value.hint


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.usefixtures("style")
def test_every_chart_names_kernel_and_file(kind: str) -> None:
    """A picture that is passed on names its origin."""
    result = result_of({WINDOW: [round_of(mixed())], StrategySpec("window", 1000): [round_of(mixed())]})
    result.name, result.environment["kernel"] = "runs/a.json", "6.8.0-test"
    figure = drawn(kind, series_of([result]))
    name_origin(figure, series_of([result]), 1000)
    assert figure.get_suptitle() == "Linux 6.8.0-test · a.json"


XYZ = np.array([[0.412456, 0.357576, 0.180438], [0.212673, 0.715152, 0.072175], [0.019334, 0.119192, 0.950304]])
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
"""sRGB to XYZ, and how readers see a linear colour (Machado, Oliveira and Fernandes, 2009)."""


def lab(colour: str, sight: str) -> npt.NDArray[np.float64]:
    """CIELAB of a colour as a reader sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(np.array(SIGHTS[sight]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_are_distinguished_by_every_reader(sight: str) -> None:
    """Sixteen series, and even and odd in charts and page, differ clearly for every kind of colour vision.

    A difference of 2.3 is just noticeable (Mahy, van Eycken and Oosterlinck, 1994): 15 is told at a glance.
    """
    safe = PALETTES["safe"]
    assert Options().palette == "safe"
    assert len(COLOURS) == 16
    for colours in (COLOURS, (safe.even, safe.odd, safe.failed), tuple(PARITY_COLOURS.values())):
        for one, other in combinations(colours, 2):
            assert np.linalg.norm(lab(one, sight) - lab(other, sight)) >= 15, (one, other)


@pytest.mark.usefixtures("style")
def test_scatter_has_the_talks_colours_title_and_knee() -> None:
    """Even green, odd red, failed black; the six lines above; knee and first failure with their numbers."""
    figure = drawn("scatter", only(split()))
    (panel,) = figure.axes
    made, failed = (c for c in panel.collections if isinstance(c, PathCollection))
    colours = [to_hex(row) for row in np.asarray(made.get_facecolor())]
    assert (colours[0], colours[-1]) == (PALETTES["safe"].even, PALETTES["safe"].odd)
    assert [to_hex(row) for row in np.asarray(failed.get_facecolor())] == ["#000000"]
    assert np.asarray(made.get_offsets())[KNEE].tolist() == [KNEE + 1, SLOW / 1e6]
    assert (np.shape(made.get_offsets()), np.shape(failed.get_offsets())) == ((2 * KNEE, 2), (2, 2))
    said = words(figure)
    assert "connection attempts: 202 errored: 2 total: 200\ntotal time:" in said
    assert "knee: 101 (50.0% in use)" in said
    assert "first failed: 201 (100.0% in use)" in said


@pytest.mark.parametrize("knee", [60, 100, 140])
@pytest.mark.parametrize("panels", [1, 2, 3])
@pytest.mark.usefixtures("style")
def test_scatter_marks_are_clear_of_each_other(panels: int, knee: int) -> None:
    """Neither text touches the other, or the other's line, at any width of the panel and any place of the knee."""
    latency = [FAST] * knee + [SLOW] * (185 - knee) + [40_000] * 15
    samples = samples_of(
        latency,
        port=[9024 + 2 * (i % 100) + (i >= knee) for i in range(185)] + [0] * 15,
        errno=[0] * 185 + [errno.EADDRNOTAVAIL] * 15,
    )
    specs = (PLAIN, BIND, WINDOW)[:panels]
    plan = replace(PLAN, port_range=PortRange(9024, 65535))
    figure = drawn("scatter", series_of([result_of({spec: [round_of(samples)] for spec in specs}, plan)]))
    for panel in figure.axes:
        texts = [text for text in panel.texts if text.get_text().startswith(("knee", "first failed"))]
        boxes = [text.get_window_extent() for text in texts]
        lines = [panel.transData.transform((x, SLOW / 1e6))[0] for x in (knee + 1, 186)]
        assert len(boxes) == 2
        assert not boxes[0].overlaps(boxes[1])
        for box, other in zip(boxes, reversed(lines), strict=True):
            assert not box.x0 <= other <= box.x1


@pytest.mark.usefixtures("style")
def test_scatter_has_a_regression_line_for_each_parity() -> None:
    """The orange lines follow even and odd ports separately, each as far as its parity goes."""
    (panel,) = drawn("scatter", only(split()), Options(yscale="linear")).axes
    even, odd = (line for line in panel.lines if line.get_color() == PALETTES["safe"].trend)
    assert np.asarray(even.get_xydata())[[0, -1]].ravel().tolist() == pytest.approx([1, 0.013, 100, 0.013099])
    assert np.asarray(odd.get_xydata())[[0, -1]].ravel().tolist() == pytest.approx([101, 2.0, 200, 2.000099])


@pytest.mark.parametrize("yscale", ["log", "linear"])
@pytest.mark.usefixtures("style")
def test_scatter_has_the_axis_that_the_points_need(yscale: str) -> None:
    """A regression line that falls far below the points, or begins far above them, moves no end of the axis."""
    latency = [4_000_000] * 30 + [20_000] * 120
    ports = [9024 + 2 * i for i in range(150)]
    low, high = 0.02, 4.0
    (panel,) = drawn("scatter", only(samples_of(latency, port=ports)), Options(yscale=yscale)).axes
    heights = np.asarray(trend_of(panel).get_ydata(), dtype=float)
    assert np.nanmin(heights) < low / 2
    bottom, top = panel.get_ylim()
    if yscale == "log":
        assert bottom == pytest.approx(low * (low / high) ** HEADROOM, rel=0.01)
        assert top == pytest.approx(high * (high / low) ** HEADROOM, rel=0.01)
    else:
        assert bottom == 0
        assert top == pytest.approx(high + (high - low) * HEADROOM, rel=0.01)


@pytest.mark.usefixtures("style")
def test_scatter_axis_has_no_room_for_a_line_above_the_points() -> None:
    """A line that begins above all points, as a curve's does, ends at the axis."""
    latency = [100_000 + i * i for i in range(150)]
    (panel,) = drawn("scatter", only(samples_of(latency[::-1], port=[9024] * 150)), Options(yscale="linear")).axes
    assert panel.get_ylim()[1] == pytest.approx(max(latency) / 1e6 + (max(latency) - min(latency)) / 1e6 * HEADROOM)


def trend_of(panel: Axes) -> Line2D:
    """The one regression line of a panel."""
    [line] = [line for line in panel.lines if line.get_color() == PALETTES["safe"].trend]
    return line


@pytest.mark.usefixtures("style")
def test_lines_of_all_strategies_of_reproduce_have_colours_of_their_own() -> None:
    """The strategies that reproduce measures have different colours in one chart, in the legend as on the lines."""
    specs = [case.spec for case in cases(FULL_RANGE)]
    assert len(specs) == 13
    figure = drawn("utilisation", series_of([result_of({spec: [round_of(mixed())] for spec in specs})]))
    (axes,), (legend,) = figure.axes, figure.legends
    assert len({to_hex(line.get_color()) for line in axes.lines if line.get_linestyle() == "-"}) == len(specs)
    named = {
        text.get_text(): to_hex(line.get_color()) for text, line in zip(legend.texts, legend.get_lines(), strict=True)
    }
    assert len({named[spec.label] for spec in specs}) == len(specs)


@pytest.mark.usefixtures("style")
def test_scatter_of_several_rounds_lays_them_over_each_other() -> None:
    """A second round's points begin at connection 1 again."""
    series = [one for one in many() if one.label.startswith("plain")][:1]
    (panel,) = drawn("scatter", series).axes
    assert panel.get_xlim()[1] == pytest.approx(202 * 1.02)
    assert np.shape(panel.collections[0].get_offsets()) == (4 * KNEE, 2)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "windows"])
@pytest.mark.usefixtures("style")
def test_partial_strategies_are_marked(kind: str) -> None:
    """A strategy that was cut short is not shown as complete."""
    partial = series_of([result_of({PLAIN: [round_of(mixed(), fault=RunFault("killed"))]})])
    assert "plain - partial" in words(drawn(kind, partial))
    assert "partial" not in words(drawn(kind, only(mixed())))


def test_missing_rounds_make_a_strategy_partial() -> None:
    """A planned round that never began counts as cut short, and so does a CSV that says so of itself."""
    result = result_of({PLAIN: [round_of(mixed())]}, PLAN)
    assert not series_of([result])[0].is_partial
    assert result.plan
    result.plan = replace(result.plan, rounds=2)
    assert series_of([result])[0].is_partial
    assert series_of([read_csv(csv_rows(result), "a.csv")])[0].is_partial


@pytest.mark.usefixtures("style")
def test_utilisation_marks_knee_and_first_failure_on_the_median() -> None:
    """The median rises at half of the range, the knee is marked there, and the legend says where."""
    figure = drawn("utilisation", only(split()))
    (axes,) = figure.axes
    assert "plain: knee at 50.0%, first failed at 100.0%" in words(figure)
    assert axes.get_xlabel() == "share of the range in use"
    p99, median, knee, failed = axes.lines
    shares, heights = np.asarray(median.get_xydata()).T
    assert heights[shares < 0.45].max() < 0.0132
    assert heights[shares > 0.55].min() >= 2
    assert (np.asarray(p99.get_ydata()) >= heights).all()
    assert (knee.get_marker(), np.asarray(knee.get_xdata()).item()) == ("D", 0.5)
    assert (failed.get_marker(), np.asarray(failed.get_xdata()).item()) == ("x", 1.0)


@pytest.mark.usefixtures("style")
def test_utilisation_of_several_rounds_is_one_line_over_the_share() -> None:
    """Rounds do not follow one another: the line runs once from the empty range to the full one."""
    [series] = series_of(
        [result_of({PLAIN: [round_of(split(), n) for n in (1, 2, 3)]}, replace(PLAN, port_range=RANGE))]
    )
    p99, median, *_ = drawn("utilisation", [series]).axes[0].lines
    shares, heights = np.asarray(median.get_xydata()).T
    assert (np.diff(shares) >= 0).all()
    assert (shares[0] < 0.05, shares[-1] > 0.95) == (True, True)
    assert heights[shares < 0.45].max() < 0.0132
    assert heights[shares > 0.55].min() >= 2
    assert np.asarray(p99.get_ydata())[shares < 0.45].max() < 0.0132


@pytest.mark.usefixtures("style")
def test_utilisation_leaves_failed_attempts_out() -> None:
    """The cost of failures moves no line, and failed attempts take no port of the range."""
    every_other = samples_of([FAST, SLOW] * 60, errno=[0, errno.EADDRNOTAVAIL] * 60)
    (axes,) = drawn("utilisation", only(every_other)).axes
    p99, median, _ = axes.lines
    assert set(np.asarray(p99.get_ydata()).tolist()) == {FAST / 1e6}
    assert np.asarray(median.get_xdata()).max() < 60 / len(RANGE)


@pytest.mark.usefixtures("style")
def test_utilisation_without_a_range_says_so() -> None:
    """A CSV does not contain the range: the share is one of its attempts, and the axis says so."""
    assert "of the attempts (the range is not known)" in words(drawn("utilisation", of_csv(split())))
    both = [*only(split()), *of_csv(split())]
    assert "(of the attempts, where the range is not known)" in words(drawn("utilisation", both)).replace("\n", " ")


@pytest.mark.usefixtures("style")
def test_histogram_tells_the_parities_apart_and_shares_its_axes() -> None:
    """Each parity has its count and median, and a reader can compare two strategies by eye."""
    figure = drawn("histogram", [*only(split()), *only(mixed())])
    said = words(figure)
    assert "even: 100, median 13 µs" in said
    assert "odd: 100, median 2 ms" in said
    assert "failed: 2, median 45 µs" in said
    first, second = figure.axes
    assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())


@pytest.mark.usefixtures("style")
def test_ports_are_counted_by_bucket_and_parity() -> None:
    """The bars of a full range are as high as the buckets are wide, half of each even; the parity changed once."""
    figure = drawn("ports", only(split()))
    above, below = figure.axes
    heights = [getattr(bar, "get_height")() for bar in above.patches]  # noqa: B009  # a bar is a Rectangle
    assert heights == [10] * 20
    (uneven, _) = drawn("ports", only(samples_of([FAST] * 3, port=[9024, 9026, 9025]))).axes
    assert [getattr(bar, "get_height")() for bar in uneven.patches][::10] == [2, 1]  # noqa: B009  # as above
    assert "1 switch" in words(figure)
    assert np.asarray(below.lines[0].get_ydata())[[KNEE - 1, KNEE]].tolist() == [0, 1]


@pytest.mark.usefixtures("style")
def test_labels_of_buckets_do_not_run_together() -> None:
    """Nine buckets of 500 in each of three panels: the gap between labels is wider than a hyphen."""
    plan = replace(PLAN, port_range=PortRange(9024, 13119))
    figure = drawn("ports", series_of([result_of({spec: [round_of(mixed())] for spec in (PLAIN, BIND, LONG)}, plan)]))
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert all(right.x0 - left.x1 > 6 for left, right in pairwise(boxes))


@pytest.mark.usefixtures("style")
def test_ports_there_are_count_once_for_each_source() -> None:
    """The dashed line is as high as a bucket has ports, times the sources; churn, which reuses ports, has none."""
    plan = replace(PLAN, port_range=RANGE, sources=("127.9.9.1", "127.9.9.2"))
    filling = replace(BIND, load=Load(churn=Churn(10)))
    above, _, of_churn, _ = drawn(
        "ports", series_of([result_of({spec: [round_of(mixed())] for spec in filling.phases}, plan)])
    ).axes
    [there_are] = (c for c in above.collections if isinstance(c, LineCollection))
    assert {float(y) for _, y in np.concatenate(there_are.get_segments())} == {2 * 20.0}
    assert list(of_churn.collections) == []


def test_windows_of_several_files_make_one_line() -> None:
    """Files with a window each are one sweep, smallest first; a window in several files makes one line a file."""

    def of(size: int, name: str) -> Result:
        result = result_of({replace(WINDOW, window=size): [round_of(mixed())]})
        result.name = name
        return result

    lines = sweeps(series_of([of(500, "b.json"), of(100, "a.json")]))
    assert {label: [one.strategy.strategy.window for one in some] for label, some in lines.items()} == {
        "window": [100, 500]
    }
    assert list(sweeps(series_of([of(500, "old.json"), of(500, "new.json")]))) == ["window (old)", "window (new)"]
    assert list(sweeps(series_of([of(500, "x/r.json"), of(500, "y/r.json")]))) == [
        "window (x/r.json)",
        "window (y/r.json)",
    ]


def seen(panel: Axes) -> list[str]:
    """Labels of a vertical axis that are visible."""
    bottom, top = panel.get_ylim()
    labels = zip(panel.get_yticks(), panel.get_yticklabels(), strict=True)
    return [label.get_text() for at, label in labels if bottom <= at <= top]


@pytest.mark.parametrize(
    "ns",
    [(18_000, 52_000), (30_000, 45_000), (99_000, 101_000), (10_000, 10_001), (10_000, 10_000), (9_000, 9_900_000)],
)
@pytest.mark.usefixtures("style")
def test_windows_axis_has_three_labels_or_more(ns: tuple[int, int]) -> None:
    """For any span of times the axis shows its scale, and no two labels are alike."""
    measured = {replace(WINDOW, window=10 * n): [round_of(samples_of([one]))] for n, one in enumerate(ns, 1)}
    labels = seen(drawn("windows", series_of([result_of(measured)])).axes[0])
    assert len(labels) >= 3
    assert len(set(labels)) == len(labels)


@pytest.mark.usefixtures("style")
def test_windows_show_total_time_and_errors_over_size() -> None:
    """A point a window: the median round's total time in ms, and the share of its attempts that failed."""
    small = samples_of([10_000] * 4, errno=[0, 0, 0, 99])
    series = series_of(
        [
            result_of(
                {
                    replace(WINDOW, window=100): [round_of(small)],
                    replace(WINDOW, window=500): [
                        round_of(samples_of([n] * 4), k) for k, n in enumerate((1000, 3000, 9000))
                    ],
                }
            )
        ]
    )
    times, errors = drawn("windows", series).axes
    assert np.asarray(times.lines[0].get_xydata()).ravel().tolist() == pytest.approx([100, 0.04, 500, 0.012])
    assert np.asarray(errors.lines[0].get_xydata()).ravel().tolist() == pytest.approx([100, 0.25, 500, 0])


def test_no_window_is_a_usage_error() -> None:
    """Strategies without a window have no size to be drawn over."""
    with pytest.raises(UsageError, match="no strategy here has a window"):
        picture("windows", only(mixed()), Options(), "png")


@pytest.mark.parametrize(
    ("options", "message"),
    [(Options(width=200), "--width 200 is too narrow"), (Options(width=440, height=900), "too little for 6 rows")],
)
def test_a_size_that_cannot_be_read_is_refused(options: Options, message: str) -> None:
    """A picture whose panels would be too small to read is refused with the size that it needs."""
    with pytest.raises(UsageError, match=message):
        picture("scatter", many(), options, "png")


def test_png_has_the_size_asked_for_and_shows_the_safe_colours() -> None:
    """Width and height are pixels, and the default palette is the colour-blind one."""
    data = picture("scatter", only(split()), Options(width=800, height=500), "png")
    image = Image.open(BytesIO(data)).convert("RGB")
    assert image.size == (800, 500)
    shown = {colour for _, colour in image.getcolors(1 << 24) or []}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0xE6, 0x9F, 0x00)} <= shown
    assert (0x2C, 0xA0, 0x2C) not in shown


def test_svg_is_small_and_the_same_each_time() -> None:
    """Ten thousand points are an image within the SVG, and drawing again gives the same bytes."""
    series = only(mixed(10_000))
    first, second = (picture("scatter", series, Options(), "svg") for _ in range(2))
    assert first == second
    assert first.startswith(b"<?xml")
    assert len(first) < 310_000


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the fault says how to get it."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.delitem(sys.modules, "plotext", raising=False)
    for require in (canvas.require, terminal.require):
        with pytest.raises(EnvironmentFault) as caught:
            require()
        assert caught.value.hint == "pip install 'connbench[plot]'"


def test_terminal_shows_both_parities_the_failed_and_the_knee() -> None:
    """Even below on the left, odd above on the right, failed at the end, and no line longer than 80 columns."""
    lines = terminal.scatter(only(split())[0], 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-3:] == [
        "· even  + odd  x failed",
        "│ knee: 101 (50.0% in use)",
        "first failed: 201 (100.0% in use)",
    ]
    body = [line[8:-1] for line in lines[1:-5]]
    upper, lower = "".join(row[: len(row) // 2 - 2] for row in body), "".join(row[len(row) // 2 + 2 :] for row in body)
    assert set(upper) == {" ", "·"}
    assert set(lower) == {" ", "+", "x"}
    assert min(i for i, row in enumerate(body) if "+" in row) < min(i for i, row in enumerate(body) if "·" in row)


@pytest.mark.parametrize("yscale", ["linear", "log"])
@pytest.mark.parametrize("name", ODDITIES)
def test_terminal_takes_odd_results(yscale: str, name: str) -> None:
    """A result without attempts gets a message; any other is drawn without a warning."""
    chart = terminal.scatter(only(ODDITIES[name])[0], 80, yscale=yscale)
    nothing = name == "no attempt" or (name == "no time" and yscale == "log")
    assert (chart == "no attempt to draw") == nothing


def test_terminal_has_colours_only_when_asked() -> None:
    """A pipe gets no escape sequences; a terminal does, and keeps its own background, dark or light."""
    one = only(split())[0]
    assert "\x1b[" not in terminal.scatter(one, 80)
    coloured = terminal.scatter(one, 80, colour=True)
    assert "\x1b[38;" in coloured
    assert "\x1b[48;" not in coloured


@pytest.mark.parametrize(
    "text", ["W" * 400, "i" * 400, "a name of words, each short " * 9, "6.1/" + "folder/" * 30, "1"]
)
def test_folded_text_fits_as_it_is_measured(text: str) -> None:
    """Each line is within the width, with wide letters or narrow ones; only the cut loses characters."""
    with canvas.styled():
        lines = canvas.folded(text, 300).splitlines()
        widths = [canvas.text_width(line, canvas.TITLE_SIZE, "bold") for line in lines]
    assert len(lines) <= canvas.MOST_LINES_OF_TEXT
    assert max(widths) <= 300
    assert all(width > 150 for width in widths[:-1])
    whole = "".join("".join(lines).removesuffix(" ...").split())
    assert "".join(text.split()).startswith(whole)
    assert lines[-1].endswith(" ...") or whole == "".join(text.split())


def test_size_of_a_text_is_what_fits() -> None:
    """The longest line is as wide as the room, and no larger than usual."""
    with canvas.styled():
        size = canvas.size_to_fit("MMMMMMMMMM\nii", 105)
        assert 85 < canvas.text_width("MMMMMMMMMM", size) <= 105
        assert canvas.size_to_fit("ii", 105) == 10.0


@pytest.mark.parametrize("kind", ["scatter", "histogram", "ports", "utilisation"])
def test_more_than_a_picture_has_room_for_is_left_out_and_said(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first panels or lines are drawn; their number stands above them, and in a line on stderr."""
    monkeypatch.setattr(canvas, "MOST_PANELS", 2)
    monkeypatch.setattr(canvas, "MOST_LINES", 2)
    some = [StrategySpec("window", size) for size in (100, 200, 300)]
    series = series_of([result_of({spec: [round_of(mixed())] for spec in some})])
    said = left_out(kind, series)
    what = "lines" if kind == "utilisation" else "panels"
    assert said == f"the first 2 of 3 {what} are drawn"
    assert left_out(kind, series[:2]) == ""
    figure = drawn(kind, series)
    name_origin(figure, series, 1200, said)
    shown = " ".join(words(figure).split())
    assert said in shown
    assert "window 200" in shown
    assert "window 300" not in shown


def test_windows_beyond_what_has_room_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each setting, each of two sizes; the third has none."""
    monkeypatch.setattr(canvas, "MOST_LINES", 2)
    some = [StrategySpec("window", size, retries=retries) for retries in (1, 2, 3) for size in (100, 200)]
    series = series_of([result_of({spec: [round_of(mixed())] for spec in some})])
    assert left_out("windows", series) == "the first 2 of 3 lines are drawn"
    assert "3 retries" not in words(drawn("windows", series))

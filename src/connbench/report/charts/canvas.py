"""What all charts share: their size, style and colours, texts that fit, axes, legend, and the way into a file."""

from __future__ import annotations

import io
import logging
import os
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from math import ceil, isfinite
from pathlib import Path, PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from connbench.errors import UsageError
from connbench.report import libraries
from connbench.report.series import Series
from connbench.safe_text import printable
from connbench.units import NS_PER_MS, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

DPI = 100
RASTER_DPI = 200
"""Resolution of the points within an SVG: sharp on a screen of twice the usual density."""

POINTS_PER_PIXEL = 72 / DPI
TITLE_SIZE = 11.0

STYLE: Any = {  # later releases of matplotlib type each key by its name, earlier ones none
    "figure.dpi": DPI,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 10,
    "axes.titlesize": TITLE_SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a $ in a file's name is a $
    "svg.hashsalt": "connbench",  # identifiers in an SVG are the same each time
}


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of even ports, odd ports, failed attempts, and the line of the trend."""

    even: str
    odd: str
    failed: str
    trend: str


PALETTES = {
    "safe": Palette(even="#0072b2", odd="#d55e00", failed="#000000", trend="#e69f00"),
    "talk": Palette(even="#2ca02c", odd="#d62728", failed="#000000", trend="#ff8c00"),
}
"""`safe` suits every kind of colour blindness (Okabe and Ito, Color Universal Design); `talk` is the talk's own."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to draw.

    Attributes:
        yscale: `linear` or `log`; None for what the kind of chart usually has.
        palette: A name of `PALETTES`.
        width: Of the picture, in pixels; None for what its panels need.
        height: As `width`.
        latency_ms: Least and greatest latency of the scatter's axis; None for what the points need.
    """

    yscale: str | None = None
    palette: str = "safe"
    width: int | None = None
    height: int | None = None
    latency_ms: tuple[float, float] | None = None

    @property
    def colours(self) -> Palette:
        """The palette itself."""
        return PALETTES[self.palette]


@dataclass(frozen=True, slots=True)
class Grid:
    """Panels side by side and one below the other, and the size of their picture in pixels."""

    rows: int
    columns: int
    width: int
    height: int

    @property
    def panel_width(self) -> float:
        """The width of one panel with its axis, in pixels."""
        return self.width / self.columns

    def figure(self) -> Figure:
        """A figure of this size, whose panels make room for their own titles and labels."""
        from matplotlib.figure import Figure

        return Figure(figsize=(self.width / DPI, self.height / DPI), layout="constrained")


WIDTHS = {1: 1200, 2: 1400, 3: 1800}
"""The width of a picture in pixels, by the number of panels side by side."""

SINGLE_HEIGHT = 700
LEGEND_ROWS, LEGEND_ROW = 8, 20
"""Rows of a legend that a picture has room for, and the height of one in pixels."""


BESIDE_LABEL = 5.0
"""What matplotlib sets beside a label of a legend, in font sizes: the handle, and the room around it."""

NARROWEST = 1.1
"""The smallest quotient of the ends of a logarithmic axis; below it labels of three digits would be the same."""

FEWEST_TICKS = 3
"""Ticks that a reader needs to read an axis."""

TICK_MULTIPLES = ((1, 2, 5), tuple(range(1, 10)))
"""Multiples of the powers of ten that have ticks: the first of these that makes enough."""

MOST_LINES_OF_TEXT = 3

MOST_PANELS, MOST_LINES = 48, 48
"""Panels and lines of a picture: thousands would take minutes, and no reader can tell them apart."""


def grid(panels: int, options: Options, least: tuple[int, int], row_height: int) -> Grid:
    """Lay out panels: one alone, two or four in pairs, more in threes, fewer side by side where the width is small.

    Args:
        panels: How many.
        options: With the size that was asked for.
        least: Width and height in pixels below which a panel cannot be read.
        row_height: Of a row, where there are several and no height was asked for.

    Raises:
        UsageError: The size that was asked for is too small.
    """
    columns = 1 if panels == 1 else 2 if panels in {2, 4} else 3
    if options.width is not None:
        columns = max(1, min(columns, options.width // least[0]))
    width = options.width or WIDTHS[columns]
    rows = ceil(panels / columns)
    height = options.height or (SINGLE_HEIGHT if rows == 1 else rows * row_height)
    if width < least[0]:
        raise UsageError(f"--width {width} is too narrow to be read", f"give {least[0]} or more, or leave it out")
    if height < rows * least[1]:
        raise UsageError(
            f"--height {height} is too little for {rows} {'row' if rows == 1 else 'rows'} of panels",
            f"give {rows * least[1]} or more, or leave it out",
        )
    return Grid(rows, columns, width, height)


def require() -> None:
    """Check that matplotlib is installed.

    Raises:
        EnvironmentFault: It is not.
    """
    libraries.require("matplotlib", "a chart")


@contextmanager
def styled() -> Iterator[None]:
    """Draw in connbench's style, whatever matplotlibrc the user has, and leave no setting changed.

    Raises:
        EnvironmentFault: matplotlib is not installed.
    """
    require()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no user needs to know that a font cache is built
    matplotlib = _load()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        # A file's name may have characters that the font lacks; matplotlib draws boxes for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _load() -> ModuleType:
    """Import matplotlib, also if no folder is writable: it wants one for its settings and its cache of fonts."""
    found = find_spec("matplotlib")
    assert found is not None  # noqa: S101  # `require` has looked
    assert found.origin is not None  # noqa: S101  # as above: a package that is installed
    # With its own settings file it imports without such a folder; `styled` replaces the settings in any case.
    os.environ["MATPLOTLIBRC"] = str(Path(found.origin).with_name("mpl-data") / "matplotlibrc")
    matplotlib = import_module("matplotlib")
    try:
        matplotlib.get_configdir(), matplotlib.get_cachedir()
    except OSError:
        nowhere = partial(str, os.devnull)  # no folder: nothing is found there, and what should go there is left out
        matplotlib.get_configdir = matplotlib.get_cachedir = nowhere  # type: ignore[attr-defined]  # a module's functions
    return matplotlib


def to_bytes(figure: Figure, file_format: str) -> bytes:
    """The figure in a file format, without the date, so that the same figure gives the same bytes."""
    file = io.BytesIO()
    if file_format == "svg":
        figure.savefig(file, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    else:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


# ---- texts that fit


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Pixels that one line takes as matplotlib draws it, at a font size in points."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=size, weight=weight)
    extent = _renderer().get_text_width_height_descent(text, font, ismath=False)  # type: ignore[no-untyped-call]  # matplotlib types little of this class
    return float(extent[0])


@cache
def _renderer() -> RendererAgg:
    """What measures; nothing is drawn with it."""
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]  # as above


def folded(text: str, width: float, size: float = TITLE_SIZE, weight: str = "bold") -> str:
    """Text in at most three lines of at most `width` pixels; a longer text ends in ` ...`."""
    end = " ..."

    def beginning(words: str, within: float) -> str:
        """The first characters that fit, at least one."""
        fitting = bisect_right(range(1, len(words) + 1), within, key=lambda n: text_width(words[:n], size, weight))
        return words[: max(1, fitting)]

    lines: list[str] = []
    rest = " ".join(text.split())
    while rest:
        line = beginning(rest, width)
        if line != rest and len(lines) == MOST_LINES_OF_TEXT - 1:
            line = beginning(rest, width - text_width(end, size, weight))
            words, _, _ = line.rpartition(" ")
            lines.append((words or line) + end)
            break
        if line != rest and rest[len(line)] != " ":  # a word that is longer than a line is broken, others stay whole
            line = line.rpartition(" ")[0] or line
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    return "\n".join(lines)


def size_to_fit(text: str, width: float, largest: float = 10.0, smallest: float = 6.5) -> float:
    """Font size in points at which the longest line of a text fits into `width` pixels."""
    lines, size = text.splitlines(), largest
    while size > smallest and (widest := max(text_width(line, size) for line in lines)) > width:
        size = max(smallest, min(size * width / widest, size - 0.1))  # hinted glyphs do not shrink in proportion
    return size


# ---- panels, axes and legend


def panels_of(figure: Figure, grid: Grid, used: int, *, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """The first `used` panels of a grid, row by row; the other places stay empty."""
    panels = list(figure.subplots(grid.rows, grid.columns, squeeze=False, sharex=sharex, sharey=sharey).flatten())
    for empty in panels[used:]:
        empty.remove()
    return panels[:used]


def legend_below(figure: Figure, handles: Sequence[Any], width: int, *, may_grow: bool = False) -> None:
    """Put a legend below all panels, with as many columns as fit; the picture may grow for a long one."""
    if not handles:
        return
    size = STYLE["legend.fontsize"]
    for handle in handles:
        handle.set_label(folded(str(handle.get_label()), width - 90, size, "normal"))
    longest = max(text_width(line, size) for handle in handles for line in str(handle.get_label()).splitlines())
    column = longest + BESIDE_LABEL * size / POINTS_PER_PIXEL
    columns = max(1, min(len(handles), int(width * 0.96 / column)))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)
    more = ceil(len(handles) / columns) - LEGEND_ROWS
    if may_grow and more > 0:
        figure.set_figheight(figure.get_figheight() + more * LEGEND_ROW / DPI)


def durations(axis: Axis, scale: str, base: int = 10, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Give an axis of ms ticks such as 15.6 µs or 2 ms; a logarithmic axis has them at the powers of its base.

    Args:
        axis: Which.
        scale: `linear` or `log`.
        base: Of a logarithmic axis.
        steps: In base 10, what multiples of the powers have ticks too.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value * NS_PER_MS)))
    if scale == "log":
        axis.set_major_locator(LogLocator(base=base, subs=steps if base == 10 else (1.0,), numticks=14))
        axis.set_minor_locator(NullLocator())


def whole_numbers(axis: Axis) -> None:
    """Give an axis ticks at whole numbers only, with a comma for thousands."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter("{x:,.0f}")


def set_scale(panels: Sequence[Axes], scale: str, base: int = 10) -> None:
    """Set the scale of the vertical axes, which are of ms; a linear one begins at 0.

    If no value is above 0, the axis stays linear, because a logarithmic one cannot show 0.
    """
    if not any(isfinite(panel.dataLim.minposy) for panel in panels):
        scale = "linear"
    for panel in panels:
        if scale == "log":
            panel.set_yscale("log", base=base, nonpositive="mask")
        else:
            panel.set_ylim(bottom=0)
        durations(panel.yaxis, scale, base)
        if scale == "log" and base == 10:
            _have_enough_ticks(panel)


def _have_enough_ticks(panel: Axes) -> None:
    """Give a vertical axis to base 10 three ticks or more, and room for them."""
    bottom, top = panel.get_ylim()
    if top < NARROWEST * bottom:
        middle, reach = (bottom * top) ** 0.5, NARROWEST**0.5
        panel.set_ylim(middle / reach, middle * reach)
    panel.yaxis.set_major_locator(_enough_ticks())


def tick(nanoseconds: float) -> str:
    """A duration without trailing zeros: `2 ms` for the `2.00 ms` of a table; 0 has no unit."""
    if nanoseconds == 0:
        return "0"
    number, _, unit = duration(abs(nanoseconds)).partition(" ")
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{float(number):g} {unit}" if unit else number


def _enough_ticks() -> LogLocator:
    """Ticks of an axis to base 10: three or more within it, however little of a decade it shows."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    class EnoughTicks(LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            """As matplotlib asks for them; round numbers as of a linear axis where multiples of powers are too few."""
            low, high = min(vmin, vmax), max(vmin, vmax)
            for multiples in TICK_MULTIPLES:
                self.set_params(subs=multiples)
                ticks = [float(tick) for tick in np.asarray(super().tick_values(vmin, vmax))]
                if sum(low <= tick <= high for tick in ticks) >= FEWEST_TICKS:
                    return ticks
            linear = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
            return [float(tick) for tick in np.asarray(linear.tick_values(vmin, vmax))]

    return EnoughTicks(subs=TICK_MULTIPLES[0], numticks=14)


# ---- what is written about a picture


def left_out(there: int, drawn: int, what: str) -> str:
    """How many of the panels or lines are drawn; empty if all are."""
    return f"the first {drawn:,} of {there:,} {what} are drawn" if there > drawn else ""


def name_origin(figure: Figure, series: Sequence[Series], width: int, left_out: str = "") -> None:
    """Write above all panels the kernel, the files' names without their folders, and what of them is left out."""
    results = {id(one.result): one.result for one in series}.values()
    kernels = dict.fromkeys(f"Linux {r.environment['kernel']}" for r in results if r.environment.get("kernel"))
    names = dict.fromkeys(PurePath(r.name).name for r in results if r.name)
    words = printable(" · ".join((", ".join(kernels) or "kernel unknown", *filter(None, [left_out, ", ".join(names)]))))
    size = STYLE["legend.fontsize"]
    figure.suptitle(folded(words, width - 40, size, "normal"), x=0.01, ha="left", fontsize=size, color="#555555")


def share_text(series: Series, in_use: int | None) -> str:
    """` (50.0% in use)`: the share of the range; empty if the range is not known."""
    if series.strategy.capacity is None or in_use is None:
        return ""
    return f" ({in_use / series.strategy.capacity:.1%} in use)"
